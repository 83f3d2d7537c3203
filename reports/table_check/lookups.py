"""Combine what column, row, group and caption say about each number of a printed table."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial

from twinbench.reports.table_check.labels import NO_FACTS, Facts, Settings, Vocabulary, cited_marks
from twinbench.reports.table_check.numbers import PrintedNumber, Role, numbers_in
from twinbench.reports.table_check.reader import PrintedTable
from twinbench.reports.table_check.shape import BLANK, SPREADS, Line, count_of, shape
from twinbench.reports.tables.cells import REPORTED_ON


@dataclass(frozen=True)
class Lookup:
    """A printed number and what the table says about it. `problem`: why it cannot be looked up, or empty."""

    line: int
    row_number: int
    column_number: int
    row: str  # as printed
    column: str
    number: PrintedNumber
    statistic: str = ""  # a statistic over seeds ("mean"), or the name of a count or cost ("seeds done", "candidates")
    spread: str = "half width"  # the statistic after ±
    methods: frozenset[str] = frozenset()
    version: int | None = None
    settings: Settings = ()
    of_caption: Settings = ()  # from the caption; they apply only to cells that have them
    ids: frozenset[str] = frozenset()
    metrics: tuple[str, ...] = ()
    split: str = REPORTED_ON
    error: bool = False  # the number is one minus the accuracy
    of: tuple[int, int] | None = None  # row and column of the value that a spread in a row or column of its own is of
    derived: str = ""  # "average" or "difference": computed from the numbers at `operands`
    operands: tuple[tuple[int, int], ...] = ()  # rows and columns
    scope: Facts | None = None  # the nearest label that names a protocol or a dataset
    percent: bool = False
    unknown: tuple[str, ...] = ()  # words of the row and its heading that name nothing in the records
    unknown_of_column: tuple[str, ...] = ()
    n_seeds: int | None = None  # how many seeds the row or the column says there are
    cited: str = ""  # the text that says that the number is taken from elsewhere
    problem: str = ""
    of_method: tuple[str, int] = ("row", 0)  # the row or the column that names the method
    cell: str = ""  # the cell that the query above its row is of
    entries: tuple[object, ...] = ()  # of a mapping file, which say what the labels mean

    @property
    def unreadable(self) -> str:
        """The problem if it is one of the number itself, whatever its labels mean."""
        return self.problem if self.number.role in ("unclear", "difference") else ""


_PROVENANCE = ("what", "value", "trials", "differs")
_SEEDS = re.compile(r"(\d+)(?: ?(?:of|/) ?(\d+))?((?:, \d+ [a-z]+)*)")


def lookups(table: PrintedTable, vocabulary: Vocabulary) -> Iterator[Lookup]:
    """Yield every number of the table's body, row by row, without labels, settings and ids."""
    if table.heads == _PROVENANCE:
        yield from _provenance(table)
        return
    caption, marks = vocabulary.facts(table.caption), cited_marks(f"{table.caption}. {table.notes}")
    found = shape(table, vocabulary)
    for row_number, (row, line) in enumerate(zip(table.rows, found.rows, strict=True)):
        group = vocabulary.facts(row.group)
        of_row: list[Lookup] = []
        for number, (column, text) in enumerate(zip(found.columns, row.cells, strict=True)):
            if column.kind in ("label", "setting", "seed", "ignored") or text in BLANK:
                continue
            start = partial(Lookup, row.line, row_number, number, line.shown)
            for lookup in _numbers(start, text, line, column, table.caption):
                head = vocabulary.facts(lookup.column) if lookup.number.parts > 1 else column.facts
                lookup = _resolved(lookup, (head, line.facts, group, caption), vocabulary)
                texts = ((line.facts, line.shown), (head, column.shown), (group, row.group))
                cited = [text for facts, text in texts if facts.cited or facts.marks & marks]
                cited += [text] if marks & set(text) else []
                of_row.append(replace(lookup, cited=cited[0]) if cited else lookup)
        yield from _with_queries(of_row, row.queries)


def _with_queries(of_row: Sequence[Lookup], queries: Sequence[tuple[str, ...]]) -> Iterator[Lookup]:
    """Yield the row's lookups, each mean with the cell of its query, if there is one query for each mean."""
    means = [lookup for lookup in of_row if lookup.number.role == "value" and not lookup.derived]
    by_mean = dict(zip(map(id, means), queries, strict=False)) if len(means) == len(queries) else {}
    for lookup in of_row:
        if id(lookup) not in by_mean:
            yield lookup
            continue
        cell, metric, split = by_mean[id(lookup)]
        differs = f"the query above its row is of {metric} on {split}"
        fits = metric in lookup.metrics and split == lookup.split
        yield replace(lookup, cell=cell, metrics=(metric,)) if fits else replace(lookup, problem=differs)


# --- numbers of a cell ----------------------------------------------------------------------------------------------


def _numbers(start: Callable[..., Lookup], text: str, row: Line, column: Line, caption: str) -> Iterator[Lookup]:
    """Yield the numbers of a cell, each with the role that its row and column give it."""
    if column.kind == "count" or row.kind == "count":
        counted = column if column.kind == "count" else row
        yield from _counts(start, text, column.shown, count_of(counted.shown))
        return
    found = list(_values(start, text, column.shown, caption))
    for lookup in found:
        at = (lookup.row_number, lookup.column_number)
        if "spread" in (row.kind, column.kind) and len(found) <= 2:
            role: Role = "spread" if lookup.number.role == "value" else lookup.number.role
            of = (at[0] if row.of is None else row.of, at[1] if column.of is None else column.of)
            yield replace(lookup, number=replace(lookup.number, role=role), of=of)
        elif row.operands and lookup.number.role in ("value", "difference"):
            yield replace(lookup, derived=row.kind, operands=tuple((n, at[1]) for n in row.operands))
        elif column.kind == "difference" and (column.facts.methods or len(column.operands) < 2):
            # "difference to SimCLR": to an earlier row of the column before it
            above = [(n, column.operands[-1]) for n in range(at[0] + 1)]
            yield replace(lookup, derived="difference", operands=tuple(above))
        elif column.operands and lookup.number.role in ("value", "difference"):
            yield replace(lookup, derived=column.kind, operands=tuple((at[0], n) for n in column.operands))
        elif lookup.number.role == "difference" and found[0] is not lookup:
            # "96.9 (+4.0)": to the first row, or to the row before it
            above = [(n, at[1]) for n in range(at[0])]
            yield replace(lookup, derived="difference", operands=(*above, at))
        else:
            yield lookup


def _values(start: Callable[..., Lookup], text: str, head: str, caption: str) -> Iterator[Lookup]:
    heads = head.split("/")
    numbers = numbers_in(text)
    if not numbers and any(map(str.isdigit, text)):  # "1.234,5", "95.6a": text that cannot be read must be reported
        yield start(head, PrintedNumber(text, Decimal(), "unclear"))
    for number in numbers:
        several = number.parts > 1 and len(heads) == number.parts
        names = heads if several else _named_in(caption, number.parts) if number.parts > 1 else []
        name = names[number.part].strip() if names else ""
        yield start(name if several else f"{head} {name}".strip(), number)


def _named_in(caption: str, parts: int) -> list[str]:
    """Return the names of a cell's parts where the caption gives them, as in "each cell: kNN / linear"."""
    found = [text.split("/") for text in re.split(r"[.:;()]", caption)]
    return next((names for names in found if len(names) == parts), [])


def _counts(start: Callable[..., Lookup], text: str, head: str, count: str) -> Iterator[Lookup]:
    """Yield the numbers of "3", "3 of 3" and "2 of 4, 1 diverged", each with the name of its count."""
    numbers = [replace(number, role="count") for number in numbers_in(text) if number.role != "difference"]
    statistics = ["seeds done" if count == "seeds" else count]
    if count == "seeds" and (match := _SEEDS.fullmatch(text)):
        statistics += ["seeds planned"] if match[2] else []
        statistics += [f"seeds {status}" for status in re.findall(r", \d+ ([a-z]+)", match[3])]
    if len(statistics) != len(numbers):
        yield from (start(head, number, problem="is in a text that cannot be read") for number in numbers)
    else:
        yield from map(partial(start, head), numbers, statistics)


def _provenance(table: PrintedTable) -> Iterator[Lookup]:
    """Yield the counts of a report's provenance table: trials by commit, device or package version."""
    for row_number, row in enumerate(table.rows):
        statistic, value, trials, _ = row.cells
        for number in numbers_in(trials):
            start = (row.line, row_number, 2, f"{statistic}, {value}", "trials", replace(number, role="count"))
            yield Lookup(*start, "provenance", settings=(((statistic,), value),))


# --- all labels of a number -----------------------------------------------------------------------------------------


def _resolved(lookup: Lookup, scopes: tuple[Facts, Facts, Facts, Facts], vocabulary: Vocabulary) -> Lookup:
    """Return the lookup with the facts of `scopes`: column, row, group, caption. The nearest that has a fact wins."""
    column, row, group, caption = scopes
    named = next((facts for facts in (row, column, group, caption) if facts.methods), NO_FACTS)
    splits = next((facts.splits for facts in scopes if facts.splits), frozenset([REPORTED_ON]))
    seed = next((facts.seed for facts in scopes if facts.seed is not None), None)
    statistic, spread = _statistics(scopes)
    is_n = column.metric and re.search(r"[_ ]n$", lookup.column)
    resolved = replace(
        lookup,
        statistic=lookup.statistic or ("n" if is_n else f"seed {seed}" if seed is not None else statistic),
        spread=spread,
        methods=named.methods,
        of_method=("column", lookup.column_number) if named is column else ("row", lookup.row_number),
        version=named.version,
        settings=_settings([column, row, group]),
        of_caption=caption.settings,
        ids=row.ids | column.ids,
        metrics=tuple(vocabulary.metrics_of(facts.metric for facts in scopes)),
        split=min(splits) if len(splits) == 1 else REPORTED_ON,
        error=_is_error(scopes),
        scope=next((facts for facts in scopes if facts.names_protocol_or_dataset), None),
        percent=lookup.number.percent or any(facts.percent for facts in scopes[:3]),
        # a number in a heading is counted as not read, once
        unknown=row.unknown + tuple(word for word in group.unknown if not word[0].isdigit()),
        unknown_of_column=() if lookup.number.role == "count" else column.unknown,
        n_seeds=next((facts.n_seeds for facts in (row, column, group) if facts.n_seeds is not None), None),
    )
    return replace(resolved, problem=lookup.problem or _problem(resolved, scopes))


def _is_error(scopes: tuple[Facts, Facts, Facts, Facts]) -> bool:
    """Return whether the number is an error rate; the caption says so only where no label says accuracy."""
    *labels, caption = scopes
    return any(facts.error for facts in labels) or (caption.error and not any("top1" in f.metric for f in labels))


def _statistics(scopes: Sequence[Facts]) -> tuple[str, str]:
    """Return the statistic of the number, and that of a ± after it."""
    nearest = next((facts for facts in scopes if facts.statistics), NO_FACTS)
    of_spread = (sorted(facts.statistics & set(SPREADS)) for facts in scopes)
    spread = next((found[0] for found in of_spread if found), "half width")
    is_mean = nearest is NO_FACTS or "mean" in nearest.statistics or nearest.spread
    value = [one for one in sorted(nearest.statistics) if one not in SPREADS or nearest is not scopes[-1]]
    return "mean" if is_mean or not value else value[0], spread


def _settings(scopes: Iterable[Facts]) -> Settings:
    settings: list[tuple[tuple[str, ...], str]] = []
    taken: set[str] = set()
    for facts in scopes:
        here = [(names, text) for names, text in facts.settings if not taken & set(names)]
        settings += here
        taken |= {name for names, _ in here for name in names}
    return tuple(settings)


def _problem(lookup: Lookup, scopes: tuple[Facts, Facts, Facts, Facts]) -> str:
    """Return why the number cannot be looked up, or an empty string."""
    column, row, _, _ = scopes
    if lookup.number.role == "difference" and not lookup.derived:
        return "is a difference; records hold none"
    if lookup.number.role == "unclear":
        return "is in a text that cannot be read as a value"
    if lookup.derived:
        return ""
    if not lookup.methods and not lookup.ids:
        return f"{lookup.row!r} names no method of the records or of published tables"
    if lookup.number.role == "count":
        return ""
    if _is_not_understood(column):
        return f"{lookup.column!r} names no metric of the records"
    if not row.methods and _is_not_understood(row):
        return f"{lookup.row!r} names no metric of the records"
    return "" if lookup.metrics else f"{lookup.column!r}, {lookup.row!r} and the caption name no metric of the records"


def _is_not_understood(facts: Facts) -> bool:
    """Return whether the label has words and none of them is understood."""
    understood = facts.metric or facts.methods or facts.settings or facts.names_protocol_or_dataset or facts.ids
    return bool(facts.unknown) and not understood
