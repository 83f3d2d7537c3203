"""Whether a printed number is a value of the records, and what else it is when it is not what its labels lead to."""

from collections.abc import Iterator, Sequence

from twinbench.reports.table_check.labels import dataset_of
from twinbench.reports.table_check.lookups import SPREADS, Ask
from twinbench.reports.table_check.numbers import off_by
from twinbench.reports.table_check.recorded import Meaning, Pair, Place, Recorded, as_number, is_equal
from twinbench.reports.tables.cells import REPORTED_ON, SELECTED_BY, Value
from twinbench.reports.tables.published import PublishedTable, PublishedValue


def scales(ask: Ask, metric: str) -> tuple[int, ...]:
    """By what the store's value may have been multiplied: by the printed unit, else by the number's size."""
    is_accuracy = any(word.startswith("top") for word in metric.split("_"))
    if ask.what == "n" or not (is_accuracy or ask.percent):
        return (1,)
    if not is_accuracy:
        return (1, 100)
    return (100,) if ask.percent or abs(ask.number.value) > 1 else (1, 100)


def fitting_scale(ask: Ask, meaning: Meaning) -> int:
    """The scale at which the number is a right rounding of the meaning, or 0."""
    step = 10.0**-ask.number.decimals
    for scale in scales(ask, meaning.metric):
        # fractions are exact and slow: most cells are told apart without them
        is_near = abs(float(ask.number.value) - scale * meaning.exact) <= step
        if is_near and off_by(ask.number, meaning.exact, scale) == 0:
            return scale
    return 0


def nearest_meaning(ask: Ask, recorded: Recorded, pair: Pair) -> Meaning | None:
    """Of the metrics that the labels leave open, the one whose value is nearest to the number."""
    found = [m for metric in ask.metrics if (m := recorded.meaning(pair, metric, ask.split, ask.what))]
    value = float(ask.number.value)
    return min(found, key=lambda m: abs(value - scales(ask, m.metric)[0] * m.exact), default=None)


def otherwise(ask: Ask, recorded: Recorded, right: Meaning) -> str:
    """What other number of the same cell it is, or an empty string."""
    if ask.percent and off_by(ask.number, right.exact, 1) == 0:
        return "is a fraction, and the table says percent"
    for other in others(recorded, right):
        if fitting_scale(ask, other):
            return f"is the {other}, not the {right}"
    return ""


def others(recorded: Recorded, right: Meaning) -> Iterator[Meaning]:
    """The other numbers of the cell that may stand by mistake where `right` should."""
    assert right.cell is not None
    splits = {split for metric, split in right.cell.measured if metric == right.metric}
    kinds = [(right.metric, split, right.what) for split in sorted(splits - {right.split})]
    if right.what in SPREADS:
        kinds += [(right.metric, right.split, what) for what in SPREADS]
    elif right.what != "n":
        measured = right.cell.measured[right.metric, right.split]
        kinds += [(right.metric, right.split, what) for what in ("mean", "best", "median")]
        kinds += [(right.metric, right.split, f"seed {one.seed}") for one in measured]
    kinds += [(metric, right.split, right.what) for metric in recorded.metrics]
    for metric, split, what in kinds:
        other = recorded.meaning((right.place, right.cell), metric, split, what)
        if other is not None and (metric, split, what) != (right.metric, right.split, right.what):
            yield other


def of_another_row(ask: Ask, recorded: Recorded, right: Meaning) -> str:
    """Whether the number is of another cell under the same protocol, of the same method first."""
    assert right.cell is not None
    pairs = [(place, cell) for place in recorded.places if place.key == right.place.key for cell in place.section.cells]
    for pair in sorted(pairs, key=lambda pair: pair[1].label != right.label):
        other = recorded.meaning(pair, right.metric, right.split, right.what)
        if other is not None and fitting_scale(ask, other):
            return f"is that of {recorded.name(pair)}, not of {recorded.name((right.place, right.cell))}"
    return ""


def chosen_on_test(recorded: Recorded, pairs: Sequence[Pair], meaning: Meaning, right: Meaning) -> str:
    """Where the labels fit several cells: whether the number is the highest of them on test, and not `right`'s."""
    values = [m.exact for pair in pairs if (m := recorded.meaning(pair, meaning.metric, meaning.split, "mean"))]
    if (meaning.what, meaning.split) != ("mean", REPORTED_ON) or meaning.exact < max(values):
        return ""
    return (
        f"is the highest of {len(values)} cells on {REPORTED_ON} ({cell_text(recorded, meaning)}); "
        f"{SELECTED_BY[1]} chose another ({cell_text(recorded, right)})"
    )


def cell_text(recorded: Recorded, meaning: Meaning) -> str:
    """The cell of a meaning, with its metric."""
    assert meaning.cell is not None
    return f"{recorded.name((meaning.place, meaning.cell))}, {meaning.metric}, cell {meaning.cell.cell_id}"


def without_cell(ask: Ask, recorded: Recorded, methods: frozenset[str]) -> str:
    """Why no cell agrees with the labels."""
    names = " or ".join(sorted(ask.methods)) or "any method"
    there = recorded.cells(methods, ask.version)
    if not there:
        return f"no record is of {names}{'' if ask.version is None else f' version {ask.version}'}"
    if ask.ids and not recorded.cells(methods, ask.version, (), ask.ids):
        return f"no cell or trial of {names} has the id {', '.join(sorted(ask.ids))}"
    for of_setting, text in ask.settings:
        if not recorded.cells(methods, ask.version, ((of_setting, text),)):
            values = {cell.values[name].text for _, cell in there for name in of_setting if name in cell.values}
            known = f"; there are {', '.join(sorted(values)[:10])}" if values else ""
            return f"no cell of {names} has {of_setting[0]} = {text}{known}"
    where = " under the protocol or dataset that the table names" if ask.place else ""
    return f"no cell of {names} agrees with the row and the column{where}"


# --- other tables ---------------------------------------------------------------------------------------------------


def is_named(ask: Ask, place: Place) -> bool:
    """Whether the label that names a protocol or a dataset names this one; so does a table without such a label."""
    section, said = place.section, ask.place
    if said is None:
        return True
    is_protocol = bool(said.protocols & {(section.protocol_name, v) for v in (section.protocol_version, None)})
    return (
        (not said.hashes or section.protocol_hash in said.hashes)
        and (not said.protocols or is_protocol)
        and (not said.datasets or is_protocol or dataset_of(section) in said.datasets)
    )


def published_as(
    ask: Ask, published: dict[str, PublishedTable], datasets: set[str]
) -> list[tuple[PublishedTable, PublishedValue, int]]:
    """The published values of that method and metric that the number is, with its scale. No `datasets`: of any."""
    found = []
    for table in published.values():
        for row in table.values:
            if row.method not in ask.methods or row.metric not in ask.metrics or row.value is None:
                continue
            scale = next((s for s in scales(ask, row.metric) if off_by(ask.number, row.value, s) == 0), 0)
            if scale and (not datasets or row.dataset in datasets) and not _contradicts(row, ask):
                found.append((table, row, scale))
    return found


def _contradicts(row: PublishedValue, ask: Ask) -> bool:
    """Whether the table gives a setting to which the published row gives another value."""
    for names, text in ask.settings:
        for name in set(names) & set(row.settings):
            told = str(row.settings[name])
            if not is_equal(Value(told, as_number(told)), text):
                return True
    return False
