"""Compare a printed number with recorded ones, and explain a number that is not the one its labels name."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from twinbench.reports.table_check.labels import dataset_of
from twinbench.reports.table_check.lookups import Lookup
from twinbench.reports.table_check.numbers import PrintedNumber, off_by
from twinbench.reports.table_check.recorded import Candidate, Recorded, RunCell, RunSection, as_number, is_equal
from twinbench.reports.table_check.shape import SPREADS
from twinbench.reports.tables.cells import REPORTED_ON, SELECTED_BY, Value
from twinbench.reports.tables.published import PublishedTable, PublishedValue


@dataclass(frozen=True)
class Match:
    """The recorded number that, times `scale`, a printed number is compared with.

    `elsewhere`: it was recorded under another protocol or dataset than the table names.
    """

    number: Candidate
    scale: int = 1
    elsewhere: bool = False

    def off_by(self, printed: PrintedNumber) -> int:
        """Return how far the printed number is from the correct rounding, in units of its last decimal."""
        return off_by(printed, self.number.exact, self.scale)


def scales(lookup: Lookup, metric: str) -> tuple[int, ...]:
    """Return the factors from stored to printed values that the printed unit allows or, without one, the size."""
    is_accuracy = any(word.startswith("top") for word in metric.split("_"))
    if lookup.statistic == "n" or not (is_accuracy or lookup.percent):
        return (1,)
    if not is_accuracy:
        return (1, 100)
    return (100,) if lookup.percent or abs(lookup.number.value) > 1 else (1, 100)


def fitting_scale(lookup: Lookup, candidate: Candidate) -> int:
    """Return the factor at which the printed number is the candidate, correctly rounded; 0 if there is none."""
    step = 10.0**-lookup.number.decimals
    for scale in scales(lookup, candidate.metric):
        # Fractions are exact but slow; most cells are ruled out without them.
        is_near = abs(float(lookup.number.value) - scale * candidate.exact) <= step
        if is_near and off_by(lookup.number, candidate.exact, scale) == 0:
            return scale
    return 0


def recorded_number(lookup: Lookup, cell: RunCell, metric: str) -> Candidate | None:
    """Return the cell's number of the kind that the labels say."""
    statistic = lookup.statistic
    if lookup.error:
        statistic = {"low": "high", "high": "low"}.get(statistic, statistic)
    number = cell.number(metric, lookup.split, statistic)
    return number.as_error() if number and lookup.error else number


def nearest_match(lookup: Lookup, cell: RunCell) -> Match | None:
    """Return the cell's value nearest to the printed one, over the metrics that the labels allow."""
    numbers = (recorded_number(lookup, cell, metric) for metric in lookup.metrics)
    found = [Match(number, scales(lookup, number.metric)[0]) for number in numbers if number]
    value = float(lookup.number.value)
    return min(found, key=lambda match: abs(value - match.scale * match.number.exact), default=None)


def same_cell_reason(lookup: Lookup, expected: Candidate) -> str:
    """Return which other number of the same cell was printed, or an empty string."""
    if lookup.percent and off_by(lookup.number, expected.exact, 1) == 0:
        return "is a fraction, but the table says percent"
    accuracy = expected.measured_on.number(expected.metric, expected.split, expected.statistic)
    if lookup.error and accuracy and fitting_scale(lookup, accuracy):
        return "is the accuracy, not the error"
    for other in same_cell_candidates(expected):
        if fitting_scale(lookup, other):
            return f"is the {other}, not the {expected}"
    return ""


def same_cell_candidates(expected: Candidate) -> Iterator[Candidate]:
    """Yield the other numbers of the cell that may be printed in place of `expected`."""
    measured = expected.measured_on.cell.measured
    splits = {split for metric, split in measured if metric == expected.metric}
    kinds = [(expected.metric, split, expected.statistic) for split in sorted(splits - {expected.split})]
    if expected.statistic in SPREADS:
        kinds += [(expected.metric, expected.split, statistic) for statistic in SPREADS]
    elif expected.statistic != "n":
        seeds = [f"seed {one.seed}" for one in measured[expected.metric, expected.split]]
        kinds += [(expected.metric, expected.split, statistic) for statistic in ("mean", "best", "median", *seeds)]
    kinds += [(metric, expected.split, expected.statistic) for metric in sorted({metric for metric, _ in measured})]
    for metric, split, statistic in kinds:
        other = expected.measured_on.number(metric, split, statistic)
        if other is not None and (metric, split, statistic) != (expected.metric, expected.split, expected.statistic):
            yield other


def other_row_reason(lookup: Lookup, recorded: Recorded, expected: Candidate) -> str:
    """Return which other cell under this protocol has the number, same method first; or an empty string."""
    cells = [one for one in recorded.all_cells if one.key == expected.run_section.key]
    for one in sorted(cells, key=lambda one: one.cell.label != expected.label):
        other = one.number(expected.metric, expected.split, expected.statistic)
        if other is not None and fitting_scale(lookup, other):
            return f"belongs to {one.name}, not to {expected.measured_on.name}"
    return ""


def chosen_on_test_reason(cells: Sequence[RunCell], candidate: Candidate, expected: Candidate) -> str:
    """Return a reason if the labels fit several cells and the number is the best of them on test, not `expected`."""
    values = [mean.exact for one in cells if (mean := one.number(candidate.metric, candidate.split, "mean"))]
    number = candidate.measured_on.number(candidate.metric, candidate.split, candidate.statistic)
    if number is None or (number.statistic, number.split) != ("mean", REPORTED_ON) or number.exact < max(values):
        return ""
    return (
        f"is the highest of {len(values)} cells on {REPORTED_ON} ({cell_text(candidate)}); "
        f"{SELECTED_BY[1]} selects another ({cell_text(expected)})"
    )


def cell_text(candidate: Candidate) -> str:
    """Return the candidate's cell and metric as text."""
    return f"{candidate.measured_on.name}, {candidate.metric}, cell {candidate.cell_id}"


def no_cell_reason(lookup: Lookup, recorded: Recorded, methods: frozenset[str]) -> str:
    """Return why no cell matches the labels."""
    names = " or ".join(sorted(lookup.methods)) or "any method"
    cells = recorded.cells(methods, lookup.version)
    if not cells:
        return f"no record belongs to {names}{'' if lookup.version is None else f' version {lookup.version}'}"
    if lookup.ids and not recorded.cells(methods, lookup.version, (), lookup.ids):
        return f"no cell or trial of {names} has the id {', '.join(sorted(lookup.ids))}"
    for names_of_setting, text in lookup.settings:
        if not recorded.cells(methods, lookup.version, ((names_of_setting, text),)):
            of_cells = [one.cell.values for one in cells]
            values = {one[name].text for one in of_cells for name in names_of_setting if name in one}
            known = f"; the records have {', '.join(sorted(values)[:10])}" if values else ""
            return f"no cell of {names} has {names_of_setting[0]} = {text}{known}"
    where = " under the protocol or dataset that the table names" if lookup.scope else ""
    return f"no cell of {names} matches the row and the column{where}"


# --- protocols and published tables ---------------------------------------------------------------------------------


def is_in_scope(lookup: Lookup, run_section: RunSection) -> bool:
    """Return whether the table names this protocol and dataset, or names none at all."""
    section, scope = run_section.section, lookup.scope
    if scope is None:
        return True
    is_protocol = bool(scope.protocols & {(section.protocol_name, v) for v in (section.protocol_version, None)})
    return (
        (not scope.hashes or section.protocol_hash in scope.hashes)
        and (not scope.protocols or is_protocol)
        and (not scope.datasets or is_protocol or dataset_of(section) in scope.datasets)
    )


class PublishedMatch(NamedTuple):
    """A published value that, times `scale`, is the printed number."""

    table: PublishedTable
    row: PublishedValue
    scale: int


def published_matches(
    lookup: Lookup, published: Mapping[str, PublishedTable], datasets: Set[str]
) -> list[PublishedMatch]:
    """Return the published values that the printed number equals.

    An empty `datasets` allows any dataset.
    """
    found = []
    for table in published.values():
        for row in table.values:
            if row.method not in lookup.methods or row.metric not in lookup.metrics or row.value is None:
                continue
            scale = next((s for s in scales(lookup, row.metric) if off_by(lookup.number, row.value, s) == 0), 0)
            if scale and (not datasets or row.dataset in datasets) and not _contradicts(row, lookup):
                found.append(PublishedMatch(table, row, scale))
    return found


def _contradicts(row: PublishedValue, lookup: Lookup) -> bool:
    """Return whether the table and the published row give different values to one setting."""
    published = {name: str(value) for name, value in row.settings.items()}
    shared = [(published[name], text) for names, text in lookup.settings for name in names if name in published]
    return any(not is_equal(Value(value, as_number(value)), text) for value, text in shared)
