"""Check the numbers of printed tables against the records of run folders.

Each number is looked up by its row, its column and the caption (labels.py, lookups.py), compared at its printed
digits with the recorded number (matching.py, recorded.py), and gets one verdict (checker.py, verdicts.py,
explanations.py):

    traced                  it equals the recorded number; `evidence` has cell, trials and an SQL query for it
    rounded wrongly         it is truncated, or off by one in its last decimal
    wrong                   the cell that row and column name has another value; if the number is recorded elsewhere
                            (best seed, validation, another cell), `reason` says where
    from another protocol   it was recorded under another protocol or dataset than the caption, or most of the table
    reported                it was not measured, but is a published value of that method
    cited                   the row, the column or a note says that it is taken from elsewhere
    untraceable             not traced: no record matches it
    not read                in an environment that is not read, or in a head or a caption that no record explains
    not followed            not a number: a command outside tables that would include another file
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from twinbench.reports.table_check.checked_number import ACCEPTED, VERDICTS, CheckedNumber, Verdict
from twinbench.reports.table_check.checker import TableChecker
from twinbench.reports.table_check.labels import Vocabulary
from twinbench.reports.table_check.latex_grid import NotFollowed
from twinbench.reports.table_check.latex_reader import NotRead
from twinbench.reports.table_check.mapping import mapping_path, read_mapping, unused
from twinbench.reports.table_check.reader import PrintedFile, read_tables
from twinbench.reports.table_check.recorded import Recorded, RunSection, read_run_sections
from twinbench.reports.tables.published import published_tables
from twinbench.sweeps.errors import InvalidInput, Mistake, counted, printable

MOST_SHOWN = 5  # cells with the same number, in text


def check_tables(files: Sequence[Path], run_folders: Sequence[Path]) -> list[CheckedNumber]:
    """Return every number of the tables in the .tex and .csv files, in order, checked against the run folders.

    InvalidInput for a file that cannot be read as tables, and for a folder that is not a run folder.
    """
    printed, run_sections = _read(files, run_folders)
    recorded = Recorded(run_sections)
    published = published_tables()
    rows = [row for one in published.values() for row in one.values]
    vocabulary = Vocabulary([run_section.section for run_section in run_sections], rows, recorded.metrics)
    numbers: list[CheckedNumber] = []
    mistakes: list[Mistake] = []
    given = {file.stem for file in printed}
    for file, found in printed.items():
        mapping = read_mapping(file, recorded)
        checkers = [TableChecker(str(file), table, recorded, published, vocabulary, mapping) for table in found.tables]
        used = [entry for checker in checkers for entry in checker.used]
        mistakes += unused(mapping_path(file), mapping, used)
        for checker in checkers:
            numbers += checker.check()
        numbers += [_not_read(str(file), one) for one in found.not_read]
        numbers += [_not_followed(str(file), one) for one in found.not_followed if one.stem not in given]
    if mistakes:
        raise InvalidInput(mistakes)
    return numbers


def _read(files: Sequence[Path], run_folders: Sequence[Path]) -> tuple[dict[Path, PrintedFile], list[RunSection]]:
    """Return the tables by file, and the sections of all folders. InvalidInput names the mistakes of all of them."""
    printed: dict[Path, PrintedFile] = {}
    run_sections: list[RunSection] = []
    mistakes: list[Mistake] = []
    for file in files:
        try:
            printed[file] = read_tables(file)
        except InvalidInput as error:
            mistakes += error.mistakes
    try:
        run_sections = read_run_sections(run_folders)
    except InvalidInput as error:
        mistakes += error.mistakes
    if mistakes:
        raise InvalidInput(mistakes)
    return printed, run_sections


def _not_followed(file: str, one: NotFollowed) -> CheckedNumber:
    """Return the result for an include command: "untraceable" inside a table, whose numbers it may hide."""
    verdict: Verdict = "untraceable" if one.table else "not read" if one.in_float else "not followed"
    is_image = one.text.startswith(r"\includegraphics")
    reason = "is an image: no number in it is read" if is_image else "is not followed: give the included file as well"
    return CheckedNumber(file, one.line, one.table, "", "", one.text, "file", verdict, reason)


def _not_read(file: str, one: NotRead) -> CheckedNumber:
    where = f"environment {one.where}" if not one.where.startswith("\\") else one.where
    reason = f"is in {where}, which is not read as a table"
    if one.text == one.where:
        reason = "makes a table, which is not read"
    return CheckedNumber(file, one.line, 0, where, "", one.text, "number", "not read", reason)


def all_traced(numbers: Sequence[CheckedNumber]) -> bool:
    """Return whether every number is traced; the command then exits with 0."""
    return all(one.verdict in ACCEPTED for one in numbers)


# --- output ---------------------------------------------------------------------------------------------------------


def check_text(numbers: Sequence[CheckedNumber]) -> str:
    """Return the numbers that are not accepted, the count of each verdict, then the numbers that are.

    Each has a line of its own, with its reason below.
    """
    problems = [line for one in numbers if one.verdict not in ACCEPTED for line in _lines(one)]
    accepted = [line for one in numbers if one.verdict in ACCEPTED for line in _lines(one)]
    return "\n".join(map(printable, [*problems, _summary(numbers), *_proposals(numbers), *accepted, ""]))


def _proposals(numbers: Sequence[CheckedNumber]) -> list[str]:
    """Return what a mapping file beside each table could say, by file."""
    lines: list[str] = []
    for file in dict.fromkeys(one.file for one in numbers if one.proposals):
        entries = dict.fromkeys(entry for one in numbers if one.file == file for entry in one.proposals)
        lines += [f"{mapping_path(Path(file))} could say, if it is so:", *"\n".join(entries).split("\n"), ""]
    return lines


def _summary(numbers: Sequence[CheckedNumber]) -> str:
    """Return how many numbers are traced, wrong, not traced and not read, also where that is none."""
    counts = Counter(one.verdict for one in numbers)
    kinds: tuple[Verdict, ...] = ("rounded wrongly", "from another protocol")
    of_wrong = ", ".join(f"{counts[kind]} {kind}" for kind in kinds if counts[kind])
    wrong = counts["wrong"] + sum(counts[kind] for kind in kinds)
    mapped = sum(one.mapped for one in numbers if one.verdict == "traced")
    parts = [f"{counts['traced']} traced{f' ({mapped} by a mapping file)' if mapped else ''}"]
    parts += [f"{counts['cited']} cited"] if counts["cited"] else []
    parts += [f"{wrong} wrong ({of_wrong})" if of_wrong else f"{wrong} wrong"]
    reported = f" ({counts['reported']} reported elsewhere)" if counts["reported"] else ""
    parts += [f"{counts['untraceable'] + counts['reported']} not traced{reported}", f"{counts['not read']} not read"]
    return f"{counted(len(numbers) - counts['not followed'], 'number')}: {', '.join(parts)}"


def _lines(one: CheckedNumber) -> list[str]:
    where = " | ".join(filter(None, [one.row, one.column]))
    verdict = f"{one.verdict}, but ambiguous" if one.ambiguous and one.verdict == "traced" else one.verdict
    first = f"{one.file}:{one.line}: {one.printed}  [{where}]  {verdict}"
    return [first, *(f"    {line}" for line in _details(one))]


def _details(one: CheckedNumber) -> list[str]:
    evidence = one.evidence
    lines = [one.reason + (f"; {one.correct} would be correct" if one.correct else "")]
    if evidence is not None:
        digests = len(set(evidence.record_digests))
        of = [f"cell {evidence.cell_id}"] if evidence.cell_id else []
        of += [counted(evidence.n, "trial"), counted(digests, "record digest"), f"protocol {evidence.protocol}"]
        lines.append(f"recorded as {evidence.exact!r}: {', '.join(of)}")
    if one.ambiguous:
        more = [f"and {len(one.ambiguous) - MOST_SHOWN} more"] if len(one.ambiguous) > MOST_SHOWN else []
        others = "; ".join([*one.ambiguous[:MOST_SHOWN], *more])
        lines.append(f"the labels also match these, which have the same number: {others}")
    return lines


def check_json(numbers: Sequence[CheckedNumber]) -> dict[str, object]:
    """Return the same as plain JSON types, with a schema number and all fields of CheckedNumber and Evidence."""
    counts = Counter(one.verdict for one in numbers)
    return {
        "schema": 1,
        "all_traced": all_traced(numbers),
        "counts": {verdict: counts[verdict] for verdict in VERDICTS},
        "numbers": json.loads(json.dumps([asdict(one) for one in numbers])),
    }
