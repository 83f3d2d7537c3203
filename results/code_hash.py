"""Tell whether records were made by the same code, as far as their code hashes and commits show it.

There are two kinds of code hash. Those of earlier records cover every file of the package; those that begin with `2:`
cover only the files that compute a number. Hashes of different kinds differ even where the code is the same.
"""

from collections.abc import Iterable

NOT_COMPARABLE = "not comparable"
"""In place of "differs", for hashes that differ in their kind alone."""


def kind(code_hash: str | None) -> str:
    """Return what stands before the colon: `2`, or nothing for a hash over the whole package."""
    return (code_hash or "").rpartition(":")[0]


def is_same_code(made_by: Iterable[tuple[str | None, str | None]]) -> bool | None:
    """Whether records with these code hashes and commits were made by the same code; None if they do not show it.

    Hashes of one kind decide. Hashes of different kinds leave the commits: equal ones, without local changes, mean
    equal code, and different ones mean nothing, since most commits change no number.
    """
    pairs = set(made_by)
    hashes = {code_hash for code_hash, _ in pairs}
    kinds = {kind(code_hash) for code_hash in hashes}
    if len(hashes) > len(kinds):
        return False
    if len(kinds) <= 1:
        return True
    commits = {commit or "" for _, commit in pairs}
    return True if len(commits) == 1 and not any("+" in commit or not commit for commit in commits) else None
