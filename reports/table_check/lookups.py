"""What a printed table says of each of its numbers: by its column, its row, the group above it and the caption."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from twinbench.reports.table_check.labels import NOTHING_SAID, Facts, Settings, Words, squashed
from twinbench.reports.table_check.numbers import PrintedNumber, is_value, numbers_in
from twinbench.reports.table_check.reader import PrintedRow, PrintedTable
from twinbench.reports.table_check.recorded import COSTS
from twinbench.reports.tables.cells import REPORTED_ON

SPREADS = ("half width", "standard deviation", "standard error")
BLANK = ("", "-", "–", "—", "n/a", "N/A")


@dataclass(frozen=True)
class Ask:
    """One printed number, and what the table says of it. `problem`: why it cannot be looked up at all."""

    line: int
    row_number: int
    column_number: int
    row: str  # as printed
    column: str
    number: PrintedNumber
    what: str  # a statistic over seeds ("mean"), or the name of a count or cost ("seeds done", "candidates")
    spread: str = "half width"  # what stands behind ±
    methods: frozenset[str] = frozenset()
    version: int | None = None
    settings: Settings = ()
    of_caption: Settings = ()  # which hold only where a cell has them
    ids: frozenset[str] = frozenset()
    metrics: tuple[str, ...] = ()
    split: str = REPORTED_ON
    place: Facts | None = None  # the nearest label that names a protocol or a dataset
    percent: bool = False
    unknown: tuple[str, ...] = ()  # words of the row that nobody knows
    problem: str = ""


# Heads by what stands below them.
_LABELS = re.compile(
    "methods?|model|approach|algorithm|cellid|trialid|dataset|protocol|settings?|metric|split|statistic|chosen|"
    "configuration"
)
_IDS = ("cellid", "trialid")
_IGNORED = re.compile(
    r"kind|reason|traceback|status|varied|differs|year|venue|rank|id|no\.|#|backbone|arch(itecture)?|encoder|"
    "optimi[sz]er|ref(erence)?s?|source|notes?|type"
)
_COUNTS = {
    **dict.fromkeys(["seeds", "nseeds", "#seeds", "numberofseeds", "runs", "nruns", "#runs", "n"], "seeds"),
    "seedsdone": "seeds done",
    "seedsplanned": "seeds planned",
    "candidates": "candidates",
    **{squashed(name): name for name in COSTS},
}
_PROVENANCE = ("what", "value", "trials", "differs")
_SEEDS = re.compile(r"(\d+)(?: ?(?:of|/) ?(\d+))?((?:, \d+ [a-z]+)*)")


def asks(table: PrintedTable, words: Words) -> Iterator[Ask]:
    """Every number of the table's body, row by row. Labels, settings and ids are no numbers to trace."""
    if table.heads == _PROVENANCE:
        yield from _provenance(table)
        return
    caption = words.facts(table.caption)
    columns = [_kind(table, number, words) for number in range(len(table.heads))]
    for row_number, row in enumerate(table.rows):
        shown, of_row = _row(row, table.heads, columns, words)
        for number, kind in enumerate(columns):
            if kind not in ("value", "count") or row.cells[number] in BLANK:
                continue
            start = Ask(row.line, row_number, number, shown, table.heads[number], _nothing(), "")
            if kind == "count":
                found = _counts(start, row.cells[number], words.facts(table.heads[number]))
            else:
                found = _values(start, row.cells[number], words)
            for ask in found:
                head = words.facts(ask.column)
                yield _resolved(ask, (head, of_row, words.facts(row.group), caption), words)


def _kind(table: PrintedTable, number: int, words: Words) -> str:
    """What a column holds: "label", "setting", "seed", "count", "value", or what is "ignored"."""
    head = table.heads[number]
    name, facts = squashed(head), words.facts(head)
    if _IGNORED.fullmatch(name):
        return "ignored"
    if name in _COUNTS:
        return "count"
    if name == "seed":
        return "seed"
    if facts.named and not facts.metric and not facts.statistics:
        return "setting"
    texts = [row.cells[number] for row in table.rows]
    return "label" if _LABELS.fullmatch(name) or not any(map(is_value, texts)) else "value"


def _row(row: PrintedRow, heads: Sequence[str], columns: Sequence[str], words: Words) -> tuple[str, Facts]:
    """The row's labels as printed, and what they say together."""
    labels, said = [], []
    for text, head, kind in zip(row.cells, heads, columns, strict=True):
        if text in BLANK or kind not in ("label", "setting", "seed"):
            continue
        labels.append(text if kind == "label" else f"{head} = {text}")
        if squashed(head) in _IDS:
            said.append(Facts(ids=frozenset([text])))
        elif kind == "label":
            said.append(words.facts(text))
        elif kind == "setting":
            said.append(Facts(settings=((words.facts(head).named, text),)))
        elif text.isdigit():
            said.append(Facts(seed=int(text)))
    return ", ".join(labels), _together(said)


def _together(said: Sequence[Facts]) -> Facts:
    """What several labels of one row say."""

    def union(name: str) -> frozenset[str]:
        return frozenset().union(*(getattr(facts, name) for facts in said))

    return Facts(
        methods=union("methods"),
        version=next((facts.version for facts in said if facts.version is not None), None),
        metric=union("metric"),
        splits=union("splits"),
        statistics=union("statistics"),
        settings=tuple(one for facts in said for one in facts.settings),
        datasets=union("datasets"),
        protocols=frozenset().union(*(facts.protocols for facts in said)),
        hashes=union("hashes"),
        ids=union("ids"),
        seed=next((facts.seed for facts in said if facts.seed is not None), None),
        percent=any(facts.percent for facts in said),
        spread=any(facts.spread for facts in said),
        unknown=tuple(word for facts in said for word in facts.unknown),
    )


# --- numbers of a cell ----------------------------------------------------------------------------------------------


def _nothing() -> PrintedNumber:
    (number,) = numbers_in("0")
    return number


def _values(start: Ask, text: str, words: Words) -> Iterator[Ask]:
    heads = start.column.split("/")
    numbers = numbers_in(text)
    if not numbers and any(map(str.isdigit, text)):  # "1.234,5", "95.6a": what cannot be read must not pass unseen
        yield replace(start, number=replace(start.number, text=text, role="unclear"))
    for number in numbers:
        several = number.parts > 1 and len(heads) == number.parts
        yield replace(start, number=number, column=heads[number.part].strip() if several else start.column)


def _counts(start: Ask, text: str, head: Facts) -> Iterator[Ask]:
    """The numbers of "3", "3 of 3" and "2 of 4, 1 diverged", each with what it counts."""
    what = _COUNTS[squashed(start.column)]
    numbers = [replace(number, role="count") for number in numbers_in(text) if number.role != "difference"]
    match = _SEEDS.fullmatch(text)
    if what != "seeds" or match is None:
        whats = [what if what != "seeds" else "seeds done"] * (len(numbers) if len(numbers) == 1 else 0)
    else:
        whats = ["seeds done", *(["seeds planned"] if match[2] else [])]
        whats += [f"seeds {status}" for status in re.findall(r", \d+ ([a-z]+)", match[3])]
    if len(whats) != len(numbers):
        yield from (replace(start, number=number, problem="is in a text that cannot be read") for number in numbers)
        return
    for number, counted in zip(numbers, whats, strict=True):
        yield replace(start, number=number, what=counted)


def _provenance(table: PrintedTable) -> Iterator[Ask]:
    """A report's provenance table: how many trials ran with what."""
    for row_number, row in enumerate(table.rows):
        what, value, trials, _ = row.cells
        for number in numbers_in(trials):
            place = Ask(row.line, row_number, 2, f"{what}, {value}", "trials", replace(number, role="count"), "")
            yield replace(place, what="provenance", ids=frozenset(), settings=(((what,), value),))


# --- what the labels say together -----------------------------------------------------------------------------------


def _resolved(ask: Ask, scopes: tuple[Facts, Facts, Facts, Facts], words: Words) -> Ask:
    """`scopes`: column, row, group, caption. What stands nearer to the number goes before what stands further away."""
    column, row, group, caption = scopes
    named = next((facts for facts in (row, column, group, caption) if facts.methods), NOTHING_SAID)
    splits = next((facts.splits for facts in scopes if facts.splits), frozenset([REPORTED_ON]))
    seed = next((facts.seed for facts in scopes if facts.seed is not None), None)
    what, spread = _statistics(scopes)
    resolved = replace(
        ask,
        what=ask.what or ("n" if _is_n(ask.column, column) else f"seed {seed}" if seed is not None else what),
        spread=spread,
        methods=named.methods,
        version=named.version,
        settings=_settings([column, row, group]),
        of_caption=caption.settings,
        ids=row.ids | column.ids,
        metrics=tuple(words.metrics_of(facts.metric for facts in scopes)),
        split=min(splits) if len(splits) == 1 else REPORTED_ON,
        place=next((facts for facts in scopes if facts.names_a_place), None),
        percent=ask.number.percent or any(facts.percent for facts in scopes[:3]),
        unknown=row.unknown + group.unknown if named is not column else column.unknown,
    )
    return replace(resolved, problem=ask.problem or _problem(resolved, scopes))


def _statistics(scopes: Sequence[Facts]) -> tuple[str, str]:
    """What the number is over the seeds, and what a ± behind it is."""
    said = next((facts for facts in scopes if facts.statistics), NOTHING_SAID)
    of_spread = (sorted(facts.statistics & set(SPREADS)) for facts in scopes)
    spread = next((found[0] for found in of_spread if found), "half width")
    is_mean = said is NOTHING_SAID or "mean" in said.statistics or said.spread
    value = [one for one in sorted(said.statistics) if one not in SPREADS or said is not scopes[-1]]
    return "mean" if is_mean or not value else value[0], spread


def _is_n(head: str, facts: Facts) -> bool:
    return bool(facts.metric) and re.search(r"[_ ]n$", head) is not None


def _settings(scopes: Iterable[Facts]) -> Settings:
    settings: list[tuple[tuple[str, ...], str]] = []
    taken: set[str] = set()
    for facts in scopes:
        here = [(names, text) for names, text in facts.settings if not taken & set(names)]
        settings += here
        taken |= {name for names, _ in here for name in names}
    return tuple(settings)


def _problem(ask: Ask, scopes: tuple[Facts, Facts, Facts, Facts]) -> str:
    """Why the number cannot be looked up, or an empty string."""
    column, row, _, _ = scopes
    if ask.number.role == "difference":
        return "is a difference, which no record holds"
    if ask.number.role == "unclear":
        return "is in a text that cannot be read as a value"
    if not ask.methods and not ask.ids:
        return f"no method of the records or of published tables is named by {ask.row!r}"
    if ask.number.role == "count":
        return ""
    if _is_stranger(column):
        return f"{ask.column!r} names no metric of the records"
    if not row.methods and _is_stranger(row):
        return f"{ask.row!r} names no metric of the records"
    return "" if ask.metrics else f"no metric of the records is named by {ask.column!r}, {ask.row!r} and the caption"


def _is_stranger(facts: Facts) -> bool:
    """Whether a label says something, and nothing that is understood."""
    understood = facts.metric or facts.methods or facts.settings or facts.names_a_place or facts.ids
    return bool(facts.unknown) and not understood
