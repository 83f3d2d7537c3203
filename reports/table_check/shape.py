"""What each row and each column of a printed table holds: values, spreads, counts, averages, labels or settings."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from twinbench.reports.table_check.labels import Facts, Vocabulary, compact
from twinbench.reports.table_check.latex_grid import PrintedRow
from twinbench.reports.table_check.numbers import is_value
from twinbench.reports.table_check.reader import PrintedTable
from twinbench.reports.table_check.recorded import COSTS

SPREADS = ("half width", "standard deviation", "standard error")
BLANK = ("", "-", "–", "—", "n/a", "N/A")

# Column heads by what the column holds.
_LABELS = re.compile(
    "methods?|model|approach|algorithm|cellid|trialid|dataset|protocol|settings?|metric|split|statistic|chosen|"
    "configuration|column"
)
_IDS = ("cellid", "trialid")
_IGNORED = re.compile(
    r"kind|reason|traceback|status|varied|differs|year|venue|rank|id|no\.|#|backbone|arch(itecture)?|encoder|"
    "optimi[sz]er|ref(erence)?s?|source|notes?|type|runfolder|group|letters?|reportedseeds"
)
_COUNTS = {
    **dict.fromkeys(["seeds", "nseeds", "#seeds", "numberofseeds", "noofseeds", "#ofseeds", "numseeds"], "seeds"),
    **dict.fromkeys(["noseeds", "seedsn", "runs", "nruns", "#runs", "numberofruns", "noofruns", "n"], "seeds"),
    "seedsdone": "seeds done",
    "seedsplanned": "seeds planned",
    "candidates": "candidates",
    **{compact(name): name for name in COSTS},
}
_DIFFERENCE = re.compile(r"\W*(Δ|delta|diff(erence)?|gain|gap|improvement)\b", re.IGNORECASE)
_OF_SETTING = re.compile(r"\s*(\((default|ours|chosen|base(line)?)\)|[*†‡§¶])\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """A row or a column. `of`: the line whose values a spread is of. `operands`: those that an average is over."""

    shown: str  # its labels as printed
    facts: Facts
    kind: str  # of a row: value, spread, count, average or difference; of a column also label, setting, seed, ignored
    of: int | None = None
    operands: tuple[int, ...] = ()


@dataclass(frozen=True)
class Shape:
    """The rows and columns of a table."""

    rows: tuple[Line, ...]
    columns: tuple[Line, ...]


def shape(table: PrintedTable, vocabulary: Vocabulary) -> Shape:
    """Return what the rows and columns hold."""
    heads = _heads(table, vocabulary)
    columns: list[Line] = []
    for number, head in enumerate(heads):
        kind, facts = _kind(table, head, number, vocabulary), vocabulary.facts(head)
        columns.append(_line(head, facts, columns) if kind == "value" else Line(head, facts, kind))
    rows: list[Line] = []
    for row in table.rows:
        rows.append(_line(*_row(row, columns, vocabulary), rows))
    return Shape(tuple(rows), tuple(columns))


def _heads(table: PrintedTable, vocabulary: Vocabulary) -> list[str]:
    """Return the heads; numbers beside the name of a setting, as in "lambda | 0.01 | 0.1", are its values."""
    first, *others = table.heads or ("",)
    named = vocabulary.facts(first).named
    are_values = any(is_value(setting_text(head)) for head in others)
    if not named or not are_values or any(is_value(row.cells[0]) for row in table.rows):
        return list(table.heads)
    name = named[0].replace("_", " ") if len(named) == 1 else first
    return ["", *(f"{name} = {setting_text(head)}" if is_value(setting_text(head)) else head for head in others)]


def count_of(label: str) -> str:
    """Return what a row or column of that label counts, or an empty string."""
    return _COUNTS.get(re.sub(r"[^a-z#]", "", compact(label)), "")


def setting_text(text: str) -> str:
    """Return the printed value of a setting without "(default)" and without marks."""
    return _OF_SETTING.sub(" ", text).strip()


def _kind(table: PrintedTable, head: str, number: int, vocabulary: Vocabulary) -> str:
    name, facts = compact(head), vocabulary.facts(head)
    if _IGNORED.fullmatch(name):
        return "ignored"
    if count_of(head):
        return "count"
    if name == "seed":
        return "seed"
    if facts.named and not facts.metric and not facts.statistics:
        return "setting"
    texts = [row.cells[number] for row in table.rows]
    return "label" if _LABELS.fullmatch(name) or not any(map(is_value, texts)) else "value"


def _line(shown: str, facts: Facts, before: Sequence[Line]) -> Line:
    """Return a row or a column of numbers, by its label and the lines before it."""
    values = [n for n, one in enumerate(before) if one.kind == "value"]
    operands = tuple(n for n in values if not before[n].facts.statistics and before[n].facts.seed is None)
    is_plain = not (facts.methods or facts.settings or facts.ids or facts.unknown) and facts.seed is None
    has_spread = bool(facts.statistics & set(SPREADS)) or facts.spread
    if count_of(shown):
        return Line(shown, facts, "count")
    if _DIFFERENCE.match(shown) and operands:
        return Line(shown, facts, "difference", operands=operands)
    if is_plain and has_spread and operands:
        named = (facts.metric, facts.splits)
        same = [n for n in operands if (before[n].facts.metric, before[n].facts.splits) == named]
        if not facts.metric or same:
            of = operands[-1] if not facts.metric else same[-1]
            statistics = facts.statistics & set(SPREADS) or {"half width"}
            of_value = replace(before[of].facts, statistics=frozenset(statistics))
            return Line(shown, of_value, "spread", of=of)
    if is_plain and facts.statistics == {"mean"} and facts.metric <= {"top1"} and len(operands) > 1:
        return Line(shown, facts, "average", operands=operands)
    return Line(shown, facts, "value")


def _row(row: PrintedRow, columns: Sequence[Line], vocabulary: Vocabulary) -> tuple[str, Facts]:
    """Return the row's labels as printed, and the facts in them."""
    labels, facts = [], []
    for text, column in zip(row.cells, columns, strict=True):
        head, kind = column.shown, column.kind
        if text in BLANK or kind not in ("label", "setting", "seed"):
            continue
        labels.append(text if kind == "label" else f"{head} = {text}")
        if compact(head) in _IDS:
            facts.append(Facts(ids=frozenset([text])))
        elif kind == "label":
            facts.append(vocabulary.facts(text))
        elif kind == "setting":
            facts.append(Facts(settings=((column.facts.named, setting_text(text)),)))
        elif text.isdigit():
            facts.append(Facts(seed=int(text)))
    return ", ".join(labels), _combined(facts)


def _combined(all_facts: Sequence[Facts]) -> Facts:
    """Return the facts of several labels of one row as one."""

    def union(name: str) -> frozenset[str]:
        return frozenset().union(*(getattr(facts, name) for facts in all_facts))

    return Facts(
        methods=union("methods"),
        version=next((facts.version for facts in all_facts if facts.version is not None), None),
        metric=union("metric"),
        splits=union("splits"),
        statistics=union("statistics"),
        settings=tuple(one for facts in all_facts for one in facts.settings),
        datasets=union("datasets"),
        protocols=frozenset(one for facts in all_facts for one in facts.protocols),
        hashes=union("hashes"),
        ids=union("ids"),
        seed=next((facts.seed for facts in all_facts if facts.seed is not None), None),
        n_seeds=next((facts.n_seeds for facts in all_facts if facts.n_seeds is not None), None),
        cited=any(facts.cited for facts in all_facts),
        marks=union("marks"),
        error=any(facts.error for facts in all_facts),
        percent=any(facts.percent for facts in all_facts),
        spread=any(facts.spread for facts in all_facts),
        unknown=tuple(word for facts in all_facts for word in facts.unknown),
    )
