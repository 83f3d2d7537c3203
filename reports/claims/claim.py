"""Claims: sentences with a comparison behind them, read from a TOML file. An example of `claims.toml`:

    protocol = "cifar10-small"              # or reported = "lightly-cifar10" for the numbers of a published table

    [[claims]]
    name = "simclr-beats-byol"
    sentence = "On CIFAR-10 SimCLR is at least one point better than BYOL in linear accuracy."
    kind = "better"
    a = { method = "simclr" }               # settings select a cell: { method = "simclr", batch_size = 128 }
    b = { method = "byol" }
    at_least = 0.01

Sizes of accuracies are fractions: 0.01 is one point. KINDS lists the keys of each kind.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt, MaxLen, MinLen

from twinbench.reports.claims.characters import deceptive_characters
from twinbench.reports.tables.published import PublishedTable, PublishedValue, find_reported, published_tables
from twinbench.sweeps.errors import InvalidInput, Mistake, unknown_name
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.metrics import LINEAR, get_metric
from twinbench.sweeps.protocol import Scalar, Section
from twinbench.sweeps.toml_reader import parse, read_toml

Kind = Literal[
    "better", "wins", "best_of", "not_worse", "insensitive", "monotone", "equals", "collapses", "does_not_collapse"
]
Selector = dict[str, Scalar]  # a method and the settings that select a cell of it

MOST_COMPARISONS = 1000  # of one claim: each is tested, and all of them together
ALWAYS = ("name", "sentence", "kind", "a", "metric", "family", "protocol", "reported", "scope", "seeds")
# The keys that each kind requires, and those that it allows besides these and ALWAYS.
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "better": (("b",), ("at_least", "by", "tolerance")),  # A exceeds B, by at least this much, or by about this much
    "wins": (("b",), ("chance",)),  # A exceeds B at a new seed with a probability above this chance
    "best_of": ((), ("among",)),  # A exceeds each of these; without `among`, every other method in the run
    "not_worse": (("b", "within"), ()),  # A is at most this much below B
    "insensitive": (("axis", "values", "within"), ()),  # A differs by less than this between any two of the values
    "monotone": (("axis", "values"), ("direction",)),  # A increases, or decreases, from each value to the next
    "equals": (("reported", "within"), ()),  # A's mean is within this much of the published table's value
    "collapses": ((), ("share",)),  # A collapses in more than this share of all seeds
    "does_not_collapse": ((), ("share",)),  # A collapses in less than this share of all seeds
}
LONGEST_SENTENCE = 2000  # characters; a rule reads each word with those around it
COLLAPSE_SHARES = {"collapses": 0.5, "does_not_collapse": 0.1}  # where the claim gives no share
# Keys that older claims could not give; not hashed where they are left out, so that such claims keep their hash.
LATER_KEYS = ("seeds", "tolerance", "share", "chance")


@dataclass(frozen=True)
class Claim(Section):
    """One `[[claims]]` table; see KINDS. It is claimed at each point of `scope`: {"batch_size": [64, 256]} has two."""

    name: Annotated[str, MinLen(1)]
    sentence: Annotated[str, MinLen(1)]
    kind: Kind
    a: Selector
    metric: str = LINEAR.name
    family: str = "claims"  # claims that are judged together: each must be clearer where there are more
    protocol: str = ""  # the file's where it is left out
    reported: str = ""  # the file's where it is left out
    b: Selector = field(default_factory=dict)
    among: tuple[Selector, ...] = ()
    at_least: Annotated[float, Ge(0)] = 0.0
    by: Annotated[float, Gt(0)] | None = None
    tolerance: Annotated[float, Gt(0)] | None = None  # of `by`; the protocol's margin where it is left out
    within: Annotated[float, Gt(0)] | None = None
    share: Annotated[float, Gt(0), Lt(1)] | None = None  # COLLAPSE_SHARES where it is left out
    chance: Annotated[float, Ge(0.5), Lt(1)] | None = None  # one half where it is left out
    axis: str = ""
    values: tuple[Scalar, ...] = ()
    direction: Literal["increasing", "decreasing"] = "increasing"
    scope: dict[str, list[Scalar]] = field(default_factory=dict)
    seeds: Annotated[int, Ge(1)] | None = None  # at how many it is to be judged; where left out, at all that were run

    @cached_property
    def hash(self) -> str:
        """Return the sha256 of the whole claim with its sentence, which a declaration records."""
        content = asdict(self)
        for key in LATER_KEYS:
            if content[key] is None:
                del content[key]
        return digest(content)

    @property
    def is_about_a_table(self) -> bool:
        """Whether the claim is about the numbers of a published table rather than measured ones."""
        return bool(self.reported) and self.kind != "equals"

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a cost, so that a smaller value is better."""
        return get_metric(self.metric).higher_is_better is False

    @property
    def claimed_size(self) -> float:
        """Return the size of the difference that is claimed; 0 where there is none."""
        return self.by or self.at_least


@dataclass(frozen=True)
class _File(Section):
    claims: Annotated[tuple[Claim, ...], MinLen(1), MaxLen(1000)]
    protocol: str = ""
    reported: str = ""


# --- reading ----------------------------------------------------------------------------------------------------------


def read_claims(path: Path) -> tuple[Claim, ...]:
    """Return the claims of a file, in its order. InvalidInput lists every mistake in it."""
    data = read_toml(path)
    if "claims" not in data:
        raise InvalidInput([Mistake(str(path), "claims", "is missing: each claim is a [[claims]] table")])
    mistakes: list[Mistake] = []
    try:
        whole = parse(_File, data, str(path))
        found = list(zip(whole.claims, data["claims"], strict=True))
    except InvalidInput as error:
        mistakes += error.mistakes
        found = _readable(data)
    claims = [_with_source(claim, data) for claim, _ in found]
    counts = Counter(claim.name for claim in claims)
    double = [name for name in sorted(counts) if counts[name] > 1]
    mistakes += [Mistake(str(path), "claims.name", "is given twice", name) for name in double]
    tables = published_tables() if any(claim.reported for claim in claims) else {}
    for claim, (_, given) in zip(claims, found, strict=True):
        where = f"{path}: claims.{claim.name}"
        own = [*_text_mistakes(claim, where), *_kind_mistakes(claim, {*given}, where)]
        own += _selector_mistakes(claim, where)
        # The rows of a published table can only be looked up for a claim without mistakes of its own.
        mistakes += own or _source_mistakes(claim, tables, where)
    if mistakes:
        raise InvalidInput(mistakes)
    return tuple(claims)


def claims_on_file(files: Iterable[Path]) -> tuple[list[Claim], list[Path]]:
    """Return the claims of all files, and the files that cannot be read as claims."""
    claims: list[Claim] = []
    unreadable = []
    for path in files:
        try:
            claims += read_claims(path)
        except InvalidInput:
            unreadable.append(path)
    return claims, unreadable


def _readable(data: Mapping[str, object]) -> list[tuple[Claim, dict[str, object]]]:
    """Return the well-formed claims of a file with mistakes, so that further mistakes in them are listed too."""
    tables = data.get("claims")
    found = []
    for table in tables if isinstance(tables, list) else ():
        if isinstance(table, dict):
            with contextlib.suppress(InvalidInput):
                found.append((parse(Claim, table, ""), table))
    return found


def _with_source(claim: Claim, data: Mapping[str, object]) -> Claim:
    """Return the claim with the file's protocol and published table where it names none."""
    protocol, reported = (value if isinstance(value := data.get(key), str) else "" for key in ("protocol", "reported"))
    return replace(claim, protocol=claim.protocol or protocol, reported=claim.reported or reported)


def _text_mistakes(claim: Claim, where: str) -> Iterator[Mistake]:
    """Yield each text with characters that are not what they seem. Names are escaped where they are shown."""
    if len(claim.sentence) > LONGEST_SENTENCE:
        yield Mistake(
            where, "sentence", f"has {len(claim.sentence):,} characters", allowed=f"at most {LONGEST_SENTENCE:,}"
        )
    for key in ("sentence", "family"):
        if found := deceptive_characters(getattr(claim, key)):
            yield Mistake(where, key, f"has characters that are not what they seem: {', '.join(found)}")


def _kind_mistakes(claim: Claim, given: set[str], where: str) -> list[Mistake]:
    """Return the keys that its kind requires and lacks, those without meaning in it, and impossible values."""
    needed, taken = KINDS[claim.kind]
    filled = {f.name for f in fields(claim) if getattr(claim, f.name) not in ("", None, (), {})}
    mistakes = [
        Mistake(where, key, f"is missing: claims of kind {claim.kind} need it") for key in needed if key not in filled
    ]
    allowed = (*needed, *taken, *ALWAYS)
    mistakes += [
        Mistake(where, key, f"has no meaning in a claim of kind {claim.kind}", getattr(claim, key), ", ".join(allowed))
        for key in sorted(given - set(allowed))
    ]
    if claim.axis and len(set(claim.values)) < 2:
        mistakes.append(Mistake(where, "values", "needs at least two different values", list(claim.values)))
    elif claim.axis and list(claim.values) != in_order(claim.values):
        allowed_order = ", ".join(map(str, in_order(claim.values)))
        mistakes.append(Mistake(where, "values", "must be in order, each once", list(claim.values), allowed_order))
    if claim.by is not None and claim.at_least:
        mistakes.append(Mistake(where, "by", "cannot be combined with at_least: a claim has one size", claim.by))
    if claim.tolerance is not None and claim.by is None:
        mistakes.append(
            Mistake(where, "tolerance", "needs by: it says how far from that size is near", claim.tolerance)
        )
    if claim.metric.endswith("top1"):
        sizes = {key: getattr(claim, key) for key in ("at_least", "by", "tolerance", "within")}
        mistakes += [
            Mistake(where, key, "is a fraction of the test images: one point is 0.01", size, "less than 1")
            for key, size in sizes.items()
            if size is not None and size >= 1
        ]
    return mistakes


def in_order(values: Iterable[Scalar]) -> list[Scalar]:
    """Return the values, each once: numbers in ascending order, anything else in the order given."""
    once = list(dict.fromkeys(values))
    numbers = [value for value in once if isinstance(value, int | float) and not isinstance(value, bool)]
    return [*sorted(numbers)] if len(numbers) == len(once) else once


def _selector_mistakes(claim: Claim, where: str) -> Iterator[Mistake]:
    """Yield sides without a method, sides equal to A, and settings that both a side and the axis or scope give."""
    sides = {"a": claim.a, "b": claim.b} | {f"among.{number}": side for number, side in enumerate(claim.among)}
    for key, side in sides.items():
        if (side or key == "a") and not isinstance(side.get("method"), str):
            yield Mistake(where, key, "names no method", side)
        if side and key != "a" and side == claim.a:
            yield Mistake(where, key, "is the same as a", side)
        for setting in [*claim.scope, *([claim.axis] if claim.axis else [])]:
            if setting in side:
                varied_by = "axis" if setting == claim.axis else "scope"
                yield Mistake(where, f"{key}.{setting}", f"is fixed here but varied by {varied_by}", side[setting])
    if (count := _comparison_count(claim)) > MOST_COMPARISONS:
        problem = f"makes {min(count, 10**12):,} comparisons{' or more' * (count >= 10**12)}"
        yield Mistake(where, "scope" if claim.scope else "values", problem, allowed=f"at most {MOST_COMPARISONS:,}")
    for setting, values in claim.scope.items():
        if not values or len(set(values)) < len(values):
            yield Mistake(where, f"scope.{setting}", "needs values, each once", values)


def _comparison_count(claim: Claim) -> int:
    """Return how many comparisons the claim makes: those at one point of its scope, at each point."""
    values = len(claim.values)
    at_a_point = {"insensitive": math.comb(values, 2), "monotone": values - 1}.get(claim.kind, len(claim.among))
    return max(1, at_a_point) * math.prod(map(len, claim.scope.values()))


def _source_mistakes(claim: Claim, tables: Mapping[str, PublishedTable], where: str) -> list[Mistake]:
    """Return a missing or unknown source of the numbers, and rows that the published table lacks."""
    if not claim.reported:
        return [] if claim.protocol else [Mistake(where, "protocol", "is missing: give protocol or reported")]
    if claim.reported not in tables:
        return [replace(unknown_name(where, "published table", claim.reported, tables), key="reported")]
    if claim.kind == "equals" and not claim.protocol:
        return [Mistake(where, "protocol", "is missing: give the protocol that the number was measured under")]
    mistakes: list[Mistake] = []
    for selector in [side | point for point in points(claim) for side in all_selectors(claim)]:
        try:
            reported_value(tables[claim.reported], claim, selector)
        except InvalidInput as error:
            mistakes += [replace(mistake, where=f"{where}: {mistake.where}") for mistake in error.mistakes]
    return mistakes


# --- what a claim compares -------------------------------------------------------------------------------------------


def reported_value(table: PublishedTable, claim: Claim, selector: Mapping[str, Scalar]) -> PublishedValue:
    """Return the one row of a published table for the selector. InvalidInput where there is none, or several."""
    settings = {key: value for key, value in selector.items() if key != "method"}
    metric = "" if claim.lower_is_better else claim.metric  # every row has minutes and memory
    return find_reported(table, str(selector["method"]), metric or table.values[0].metric, settings)


def all_selectors(claim: Claim) -> list[Selector]:
    """Return the selectors of all compared cells, without the scope."""
    if claim.axis:
        return [claim.a | {claim.axis: value} for value in claim.values]
    return [side for side in (claim.a, claim.b, *claim.among) if side]


def points(claim: Claim) -> list[Selector]:
    """Return the points of the claim's scope; a claim without scope has one point without settings."""
    found: list[Selector] = [{}]
    for key, values in claim.scope.items():
        found = [point | {key: value} for point in found for value in values]
    return found


def selector_text(selector: Mapping[str, Scalar]) -> str:
    """Return "simclr, batch_size = 128"."""
    return ", ".join(str(value) if key == "method" else f"{key} = {value}" for key, value in selector.items())
