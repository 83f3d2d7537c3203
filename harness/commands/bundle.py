"""`twinbench bundle` and `twinbench verify`: an author's archive of a run, and a reviewer's check of it."""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinbench.harness.commands.options import MOST_GIB, MOST_SECONDS, MemoryLimit, TimeLimit, read_bounded, say
from twinbench.harness.system.bounded import Bounds, within_bounds
from twinbench.sweeps.errors import InvalidInput, Mistake, counted, unknown_name

if TYPE_CHECKING:
    from twinbench.reports.verification.level import Level
    from twinbench.reports.verification.reruns import Comparison
    from twinbench.results.bundles.contents import Contents
    from twinbench.results.bundles.write import Bundled

    _Read = tuple[list[Level], Contents | None, tuple[Comparison, ...]]

LEVELS = ("render", "aggregate", "rerun")
NOT_PASSED = 1


def bundle(
    folder: Annotated[Path, typer.Argument(help="A run folder, written by `twinbench run`.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The archive; by default FOLDER.bundle.tar.gz next to the folder.")
    ] = None,
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """Write an archive for reviewers: records, protocols, claims, declarations, attempts, tables and digests."""
    from twinbench.results.bundles.members import SUFFIX
    from twinbench.results.places import check_output, check_places

    check_places(folder)
    whole = folder.resolve()
    out = out_file or whole.with_name(whole.name + SUFFIX)
    check_output(out, folder)

    def write(_: Path) -> "Bundled":
        from twinbench.reports.verification.levels import rendered
        from twinbench.results.bundles.write import write_bundle

        return write_bundle(folder, out, rendered)

    bundled = read_bounded(write, [folder], memory_limit, time_limit)
    for name in bundled.redacted:
        say(f"redacted what looks like a secret: {name}")
    for name in bundled.left_out:
        say(f"left out, because it is not a record: {name}")
    say(f"{bundled.path}: {counted(bundled.members, 'member')}, {bundled.path.stat().st_size:,} bytes")
    say(f"digest {bundled.digest}")
    say("publish the digest where it cannot be changed later; `twinbench verify --expect DIGEST` checks it")


def verify(
    archive: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An archive written by `twinbench bundle`.")],
    level: Annotated[
        str,
        typer.Option(
            help="render: recompute tables and verdicts; aggregate: also accuracies, from per-example outputs; "
            "rerun: also run some trials again. Each level includes those before it."
        ),
    ] = "aggregate",
    expect: Annotated[str | None, typer.Option(help="The digest that the author published.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="How many trials to run again, of claims first.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed that draws the trials to run again; choose your own.")] = 0,
    claim: Annotated[str | None, typer.Option(help="Run trials of this claim again before all others.")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder with the dataset's files, to run trials again.")] = None,
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """Verify a bundle. Exit code 0 if all requested levels pass, else 1.

    The limits of memory and time apply to reading the bundle, in a process of its own, not to trials that run again.
    """
    _check_options(level, expect, claim)
    with tempfile.TemporaryDirectory(prefix="twinbench-verify-") as temporary:
        folder = Path(temporary)

        def read() -> "_Read":
            return _read(archive, folder, LEVELS[: LEVELS.index(level) + 1], (expect or "").lower(), claim)

        levels, contents, comparisons = within_bounds(read, str(archive), Bounds(memory_limit, time_limit), folder)
        outcomes = [_printed(one) for one in levels]
        if contents:
            from twinbench.harness.trial.rerun import rerun

            outcomes.append(_printed(rerun(contents, comparisons, folder / "again", trials, seed, data, say)))
    if set(outcomes) != {"passed"}:
        raise typer.Exit(NOT_PASSED)


def _read(archive: Path, folder: Path, names: tuple[str, ...], expect: str, claim: str | None) -> "_Read":
    """Return the level integrity and those of the `names` that only read; if rerun is to follow, also what it uses."""
    from twinbench.reports.verification.integrity import integrity
    from twinbench.reports.verification.level import not_run
    from twinbench.reports.verification.levels import aggregate, render
    from twinbench.reports.verification.reruns import by_method, claimed
    from twinbench.results.bundles.contents import read_contents
    from twinbench.results.bundles.read import unpack

    contents = read_contents(unpack(archive, folder))
    levels = [integrity(contents, expect)]
    if levels[0].outcome != "passed":
        skipped = "the bundle is not intact, so this level would say nothing about the original"
        return [*levels, *(not_run(name, skipped) for name in names)], None, ()
    runners = {"render": render, "aggregate": aggregate}
    levels += [runners[name](contents) for name in names if name in runners]
    if "rerun" not in names:
        return levels, None, ()
    has_report = levels[1].outcome == "passed"  # otherwise the claims may not be readable
    if claim is not None and not has_report:
        return [*levels, not_run("rerun", "the claims are not those of the report: run without --claim")], None, ()
    return levels, contents, claimed(contents, claim) if has_report else by_method(contents.records)


def _check_options(level: str, expect: str | None, claim: str | None) -> None:
    mistakes = []
    if level not in LEVELS:
        mistakes.append(unknown_name("--level", "level", level, LEVELS))
    if expect is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", expect):
        mistakes.append(Mistake("--expect", "", "is not a digest", expect, "the 64 hex digits that `bundle` printed"))
    if claim is not None and level in LEVELS and level != "rerun":
        mistakes.append(Mistake("--claim", "", "chooses trials to run again", claim, "with --level rerun"))
    if mistakes:
        raise InvalidInput(mistakes)


def _printed(level: "Level") -> str:
    """Print the level and return its outcome."""
    say(f"{level.name}: {level.outcome}")
    for fault in level.faults:
        say(f"  fault: {fault}")
    for note in level.notes:
        say(f"  {note}")
    return level.outcome
