"""SQL queries that give the numbers of each figure and table, for `twinbench query`."""

import shlex
from collections.abc import Iterable

from twinbench.reports.tables.cells import REPORTED_ON, Cell, Section
from twinbench.reports.tables.frames import TRAIN_SECONDS


def command(sql: str, folder: str = "DIR") -> str:
    """Return the shell command that runs the query on the run folder `folder`."""
    return f"twinbench query {folder} {shlex.quote(sql)}"


def accuracy(section: Section, cells: Iterable[Cell] | None = None, splits: Iterable[str] = (REPORTED_ON,)) -> str:
    """Select mean, standard deviation and n of each metric, by cell; the half width is t(n - 1) sd / sqrt(n)."""
    chosen = _grid_only(section) if cells is None else _among(cells)
    return (
        "SELECT method, cell_id, name, split, avg(value) AS mean, stddev_samp(value) AS sd, count(*) AS n "
        f"FROM metrics JOIN trials USING (trial_id) WHERE {_scope(section)} AND status = 'done' "
        f"AND split IN ({_texts(splits)}){chosen} GROUP BY ALL ORDER BY ALL"
    )


def against_axis(section: Section, axes: Iterable[str], metric: str) -> str:
    """Select every seed's value with the values of the axes, of all methods that have any of them."""
    names = list(axes)
    joins = "".join(
        f" LEFT JOIN (SELECT trial_id, text AS axis_{n} FROM settings "
        f"WHERE source <> 'derived' AND name = {_text(axis)}) USING (trial_id)"
        for n, axis in enumerate(names, 1)
    )
    columns = ", ".join(f"axis_{n}" for n in range(1, len(names) + 1))
    return (
        f"SELECT method, cell_id, {columns}, seed, value FROM metrics JOIN trials USING (trial_id){joins} "
        f"WHERE {_scope(section)} AND status = 'done' AND name = {_text(metric)} AND split = {_text(REPORTED_ON)} "
        f"AND coalesce({columns}) IS NOT NULL{_grid_only(section)} ORDER BY ALL"
    )


def against_cost(section: Section, metric: str) -> str:
    """Select each cell's mean accuracy and mean cost per trial."""
    return (
        "SELECT method, cell_id, avg(value) AS mean, "
        "avg(train_seconds) FILTER (coalesce(pack, 1) = 1) AS train_seconds, "
        "avg(images_seen) AS images_seen, avg(peak_memory_bytes) AS peak_memory_bytes, count(*) AS n "
        f"FROM metrics JOIN trials USING (trial_id) WHERE {_scope(section)} AND status = 'done' "
        f"AND name = {_text(metric)} AND split = {_text(REPORTED_ON)}{_grid_only(section)} GROUP BY ALL ORDER BY ALL"
    )


def curves(section: Section, names: Iterable[str]) -> str:
    """Select the points of the curves with these names."""
    return (
        "SELECT method, cell_id, seed, status, name, epoch, value FROM curves JOIN trials USING (trial_id) "
        f"WHERE {_scope(section)} AND name IN ({_texts(names)}) ORDER BY ALL"
    )


def last_diagnostics(section: Section, metric: str) -> str:
    """Select the last value of each diagnostic and the accuracy, by trial."""
    return (
        "SELECT method, trial_id, curves.name AS diagnostic, arg_max(curves.value, epoch) AS last, "
        "any_value(metrics.value) AS accuracy FROM curves JOIN trials USING (trial_id) JOIN metrics USING (trial_id) "
        f"WHERE {_scope(section)} AND status = 'done' AND curves.name LIKE 'diagnostics/%' "
        f"AND metrics.name = {_text(metric)} AND metrics.split = {_text(REPORTED_ON)} GROUP BY ALL ORDER BY ALL"
    )


def trials(section: Section) -> str:
    """Select all columns of every trial."""
    return f"SELECT * FROM trials WHERE {_scope(section)} ORDER BY trial_id"


def ended(section: Section, statuses: Iterable[str]) -> str:
    """Select the trials of these statuses, with the reason."""
    return (
        f"SELECT method, cell_id, seed, status, reason, trial_id FROM trials WHERE {_scope(section)} "
        f"AND status IN ({_texts(statuses)}) ORDER BY ALL"
    )


def measurements(section: Section) -> str:
    """Select how each metric was measured and selected, with the number of trials."""
    return (
        "SELECT name, variant, split, n_examples, selected_on, candidates, count(*) AS trials "
        f"FROM metrics JOIN trials USING (trial_id) WHERE {_scope(section)} GROUP BY ALL ORDER BY ALL"
    )


def protocol(section: Section) -> str:
    """Select the protocol's content and deviations."""
    return f"SELECT name, version, content, deviations FROM protocols WHERE hash = {_text(section.protocol_hash)}"


def deviations(section: Section) -> str:
    """Select the deviations from the protocol, one row each."""
    kinds = '[{"key": "VARCHAR", "value": "JSON", "protocol_value": "JSON", "reason": "VARCHAR"}]'
    return (
        f"SELECT unnest(from_json(deviations, {_text(kinds)}), recursive := true) FROM protocols "
        f"WHERE hash = {_text(section.protocol_hash)}"
    )


def settings(section: Section, names: Iterable[str]) -> str:
    """Select the values of these settings by method, with the number of cells."""
    return (
        "SELECT method, name AS setting, text AS value, count(DISTINCT cell_id) AS cells "
        f"FROM settings JOIN trials USING (trial_id) WHERE {_scope(section)} AND source <> 'derived' "
        f"AND name IN ({_texts(names)}) GROUP BY ALL ORDER BY ALL"
    )


def provenance(section: Section) -> str:
    """Select code, device and machine of the recorded trials, with the number of trials."""
    return (
        'SELECT "commit", code_hash, device, "precision", "mode", threads, ranks, host, count(*) AS trials '
        f"FROM trials WHERE {_scope(section)} AND status <> 'missing' GROUP BY ALL ORDER BY ALL"
    )


def costs(section: Section) -> str:
    """Select the total cost of each method's recorded trials."""
    return (
        f"SELECT method, count(*) AS trials, {TRAIN_SECONDS} AS train_seconds, "
        "sum(evaluation_seconds) AS evaluation_seconds, sum(images_seen) AS images_seen, "
        f"max(peak_memory_bytes) AS peak_memory_bytes FROM trials WHERE {_scope(section)} "
        "AND status <> 'missing' GROUP BY ALL ORDER BY ALL"
    )


def of_stage(section: Section, cell: Cell) -> str:
    """Keep the trials of the cell's stage: the grid's, or those of the confirm stage, which it may have too."""
    return f" AND {'' if cell.confirms else 'NOT '}confirms" if section.confirm_seeds else ""


def _grid_only(section: Section) -> str:
    """Leave out the trials of the confirm stage, which only the chosen cells have."""
    return " AND NOT confirms" if section.confirm_seeds else ""


def _among(cells: Iterable[Cell]) -> str:
    """Keep the trials of these cells, of each those of the grid or those of the confirm stage."""
    ids: dict[bool, list[str]] = {}
    for cell in cells:
        ids.setdefault(cell.confirms, []).append(cell.cell_id)
    if True not in ids:
        return f" AND cell_id IN ({_texts(ids.get(False, ()))})"
    parts = [f"cell_id IN ({_texts(of)}) AND {'' if one else 'NOT '}confirms" for one, of in sorted(ids.items())]
    return f" AND ({' OR '.join(parts)})"


def _scope(section: Section) -> str:
    return (
        f"coalesce(protocol_hash, '') = {_text(section.protocol_hash)} "
        f"AND dataset_fingerprint = {_text(section.dataset_fingerprint)}"
    )


def _text(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


def _texts(values: Iterable[str]) -> str:
    return ", ".join(_text(value) for value in values)
