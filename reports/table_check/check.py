"""Traces every number of a printed table to the records behind it, or says what is wrong with it.

A number is looked up by what its row, its column and the caption say (labels.py), compared with what the records
give (values.py) at the digits that are printed, and gets one verdict:

    traced                  it is the value; `evidence` has cell, trials, and the SQL that gives it again
    rounded wrongly         one unit of the last printed place away from the value, or cut off
    wrong                   row and column lead to a cell with another value; where it is a number of the records all
                            the same (of the best seed, of validation, of another cell), `reason` says which
    from another protocol   the value under another protocol or dataset than the caption says, or most of the table
    reported                nothing measured, but a published value of that method
    untraceable             nothing of the records answers to it
    not followed            no number: a command outside tables that would bring in another file
"""

import functools
import json
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twinbench.reports.table_check.labels import Words
from twinbench.reports.table_check.reader import NotFollowed, PrintedFile, read_tables
from twinbench.reports.table_check.recorded import Place, Recorded, read_places
from twinbench.reports.table_check.verdicts import FINE, VERDICTS, Traced, Tracer, Verdict
from twinbench.reports.tables.published import PublishedTable, published_tables
from twinbench.sweeps.errors import InvalidInput, Mistake

MOST_SHOWN = 5  # of the cells that a table does not tell apart, in text


def trace_tables(files: Sequence[Path], run_folders: Sequence[Path]) -> list[Traced]:
    """Return every number of the tables in the .tex and .csv files, in order, traced to the records of the run folders.

    InvalidInput for a file that cannot be read as tables, and for a folder that is not a run folder.
    """
    printed, places = _read(files, run_folders)
    recorded = Recorded(places)
    published = _published()
    rows = [row for one in published.values() for row in one.values]
    names = {
        "methods": {row.method for row in rows},
        "datasets": {row.dataset for row in rows},
        "metrics": {row.metric for row in rows},
    }
    words = Words([place.section for place in places], names, recorded.metrics)
    traced: list[Traced] = []
    for file, found in printed.items():
        for table in found.tables:
            traced += Tracer(str(file), table, recorded, published, words).traced()
        traced += [_not_followed(str(file), one) for one in found.not_followed]
    return traced


def _read(files: Sequence[Path], run_folders: Sequence[Path]) -> tuple[dict[Path, PrintedFile], list[Place]]:
    """InvalidInput with the mistakes of all files and folders."""
    printed: dict[Path, PrintedFile] = {}
    places: list[Place] = []
    mistakes: list[Mistake] = []
    for file in files:
        try:
            printed[file] = read_tables(file)
        except InvalidInput as error:
            mistakes += error.mistakes
    try:
        places = read_places(run_folders)
    except InvalidInput as error:
        mistakes += error.mistakes
    if mistakes:
        raise InvalidInput(mistakes)
    return printed, places


@functools.cache  # some forty files, which come with the package
def _published() -> dict[str, PublishedTable]:
    return published_tables()


def _not_followed(file: str, one: NotFollowed) -> Traced:
    """Inside a table numbers are missed by it, so that the table is not traced; elsewhere it is only told."""
    verdict: Verdict = "untraceable" if one.table else "not followed"
    reason = "is not followed: check the file that it names by itself"
    return Traced(file, one.line, one.table, "", "", one.text, "file", verdict, reason)


def all_traced(traced: Sequence[Traced]) -> bool:
    """Whether every number is traced: what a check ends with 0 for."""
    return all(one.verdict in FINE for one in traced)


# --- what is shown --------------------------------------------------------------------------------------------------


def traced_text(traced: Sequence[Traced], queries: bool = False) -> str:
    """A number a line, its reason below it, and how many of each verdict at the end. `queries`: with the SQL."""
    lines = []
    for one in traced:
        where = " | ".join(filter(None, [one.row, one.column]))
        verdict = f"{one.verdict}, but ambiguous" if one.ambiguous and one.verdict == "traced" else one.verdict
        lines.append(f"{one.file}:{one.line}: {one.printed}  [{where}]  {verdict}")
        lines += [f"    {line}" for line in _details(one, queries)]
    counts = Counter(one.verdict for one in traced)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    numbers = _counted(len(traced) - counts["not followed"], "number")
    return "\n".join([*lines, f"{numbers}: {told}" if told else "no numbers", ""])


def _details(one: Traced, queries: bool) -> list[str]:
    evidence = one.evidence
    lines = [one.reason + (f"; {one.correct} would be right" if one.correct else "")]
    if evidence is not None:
        digests = len(set(evidence.record_digests))
        of = [f"cell {evidence.cell_id}"] if evidence.cell_id else []
        of += [_counted(evidence.n, "trial"), _counted(digests, "record digest"), f"protocol {evidence.protocol}"]
        lines.append(f"by the records {evidence.exact!r}: {', '.join(of)}")
    if one.ambiguous:
        more = f"; and {len(one.ambiguous) - MOST_SHOWN} more" if len(one.ambiguous) > MOST_SHOWN else ""
        lines.append(f"so is, and the table does not tell which: {'; '.join(one.ambiguous[:MOST_SHOWN])}{more}")
    if evidence is not None and queries:
        lines.append(f"twinbench query {shlex.quote(evidence.run_folder)} {_quoted(evidence.query)}")
    return lines


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _quoted(sql: str) -> str:
    """For a shell: in double quotes, which keep SQL's single ones readable, where nothing in it is special there."""
    return shlex.quote(sql) if re.search(r'["$`\\!]', sql) else f'"{sql}"'


def traced_json(traced: Sequence[Traced]) -> dict[str, Any]:
    """The same for programs: plain JSON types, a schema number, and every field of Traced and Evidence."""
    counts = Counter(one.verdict for one in traced)
    told = {
        "schema": 1,
        "all_traced": all_traced(traced),
        "counts": {verdict: counts[verdict] for verdict in VERDICTS},
        "numbers": [asdict(one) for one in traced],
    }
    plain: dict[str, Any] = json.loads(json.dumps(told))
    return plain
