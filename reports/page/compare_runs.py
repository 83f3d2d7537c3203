"""Runs side by side: one table per protocol and dataset, one column per run and metric. Runs are never pooled."""

from collections.abc import Sequence

import pandas as pd

from twinbench.reports.page.sections import ShownRun
from twinbench.reports.tables import queries
from twinbench.reports.tables.cells import NOTHING, Section, seeds_of
from twinbench.reports.tables.csv_text import csv_text
from twinbench.reports.tables.frames import estimate_text
from twinbench.sweeps.metrics import METRICS
from twinbench.sweeps.own_values import fixed_text


def side_by_side(shown: Sequence[ShownRun]) -> list[dict[str, object]]:
    """Return one table per protocol and dataset, in the order of the first run that has it."""
    found: dict[tuple[str, str], list[tuple[int, Section]]] = {}
    for number, one in enumerate(shown):
        for section in one.sections:
            found.setdefault((section.protocol_hash, section.dataset_fingerprint), []).append((number, section))
    return [_entry(place, members, shown) for place, members in enumerate(found.values(), 1)]


def _entry(place: int, members: Sequence[tuple[int, Section]], shown: Sequence[ShownRun]) -> dict[str, object]:
    labels = dict.fromkeys(label for _, section in members for label in section.methods)
    names = [_name(number, shown[number].run.name, section) for number, section in members]
    metrics = members[0][1].metrics  # the same for all members, which share a protocol
    columns = ["Method", *(f"{name}: {METRICS[m].phrase} ({METRICS[m].unit})" for name in names for m in metrics)]
    rows = [
        [label, *(_cell(section, label, metric) for _, section in members for metric in metrics)] for label in labels
    ]
    return {
        "id": f"together-{place}",
        "heading": members[0][1].protocol_id,
        "fingerprint": members[0][1].dataset_fingerprint,
        "columns": columns,
        "rows": rows,
        "csv": csv_text(pd.DataFrame(rows, columns=pd.Index(columns), dtype=object)),
        "query": "\n".join(
            queries.command(queries.accuracy(section, section.reported.values()), f"DIR{number + 1}")
            for number, section in members
        ),
        "alone": len(members) == 1,
    }


def _name(number: int, name: str, section: Section) -> str:
    """Return number, name and seeds of a run, with the settings that it fixes at other values than the protocol's."""
    fixed = fixed_text(section.fixed)
    seeds = seeds_of(cell for cell in section.reported.values() if not cell.is_baseline)
    return f"{number + 1}. {name or 'unnamed'}" + (f" with {fixed}" if fixed else "") + f", {seeds}"


def _cell(section: Section, label: str, metric: str) -> str:
    cell = section.reported.get(label)
    if cell is None:
        return NOTHING
    interval = cell.interval(metric)
    n = "" if interval is None or interval.n == 1 else f", n = {interval.n}"
    return ", ".join(filter(None, [f"{estimate_text(interval)}{n}", section.varied_text(cell)]))
