"""Turn records and planned trials into rows of the database's tables; schema.sql describes the columns."""

import contextlib
import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from twinbench.results.log_head import recorded_head
from twinbench.results.plan import PlannedTrial
from twinbench.results.record import LARGEST_VALUE, Record
from twinbench.sweeps.file_reader import as_mapping
from twinbench.sweeps.hashing import to_json
from twinbench.sweeps.metrics import MetricValue
from twinbench.sweeps.protocol import CarriedProtocol
from twinbench.sweeps.trial import TrialContent, setting_text

TEXT, INTEGER, FLOAT, BOOLEAN, TIMESTAMP = pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us")
_KINDS = {"VARCHAR": TEXT, "BIGINT": INTEGER, "DOUBLE": FLOAT, "BOOLEAN": BOOLEAN, "TIMESTAMP": TIMESTAMP}
SCHEMA = resources.files("twinbench.results").joinpath("schema.sql").read_text("utf-8")
Row = tuple[object, ...]
Series = tuple[str, str | None, NDArray[np.float64], NDArray[np.float64]]  # trial, name, epochs and values of a curve


@functools.cache
def columns() -> Mapping[str, Mapping[str, pa.DataType]]:
    """Return the columns of each table that is filled from Arrow, in the order of schema.sql."""
    found: dict[str, dict[str, pa.DataType]] = {}
    with duckdb.connect() as connection:
        connection.execute(SCHEMA)
        sql = (
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE database_name = 'memory' AND table_name != 'run' ORDER BY table_oid, column_index"
        )
        for table, column, kind in connection.execute(sql).fetchall():
            found.setdefault(table, {})[column] = _KINDS[kind]
    return found


def arrow_table(name: str, rows: Sequence[Row]) -> pa.Table:
    """Return the rows as an Arrow table with the columns of the database's table `name`."""
    kinds = columns()[name]
    values = list(zip(*rows, strict=True)) if rows else [()] * len(kinds)
    return pa.table({column: _arrow_column(cells, kinds[column]) for column, cells in zip(kinds, values, strict=True)})


def _arrow_column(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (UnicodeEncodeError, pa.ArrowException):
        if kind != TEXT:
            raise
        # A text has a lone surrogate, which is rare.
        return pa.array([to_text(value) for value in values], kind)


def series_of(trial_id: str, curves: Any) -> list[Series]:
    """Return the curves of one trial without the points that were not measured (null). An error leaves out all."""
    epochs = np.array(curves["epoch"], np.float64)
    if not (np.abs(epochs) <= LARGEST_VALUE).all():
        raise ValueError(f"an epoch is not a number of at most {LARGEST_VALUE:g}")
    found = []
    for name, points in sorted(curves["series"].items()):
        values = np.array(points, np.float64)  # a null becomes NaN, which JSON itself does not have
        if values.shape != epochs.shape:
            raise ValueError(f"{name} does not have a point for each of {len(epochs)} epochs")
        measured = ~np.isnan(values)
        if not (np.abs(values[measured]) <= LARGEST_VALUE).all():
            raise ValueError(f"{name} has a value that is not a number of at most {LARGEST_VALUE:g}")
        found.append((trial_id, to_text(name), epochs[measured], values[measured]))
    return found


def _curves_table(series: Sequence[Series]) -> pa.Table:
    """Return one row per point."""
    trials, names, epochs, values = zip(*series, strict=True) if series else ((), (), (), ())
    of_point = pa.array(np.repeat(np.arange(len(values)), np.array([len(one) for one in values], np.int64)))
    return pa.table(
        {
            "trial_id": pa.array(trials, TEXT).take(of_point),
            "epoch": pa.array(np.concatenate([np.empty(0), *epochs]), FLOAT),
            "name": pa.array(names, TEXT).take(of_point),
            "value": pa.array(np.concatenate([np.empty(0), *values]), FLOAT),
        }
    )


class Batch:
    """The rows of some records."""

    def __init__(self) -> None:
        self.rows: defaultdict[str, list[Row]] = defaultdict(list)  # by table
        self.protocols: dict[str, CarriedProtocol] = {}  # by hash
        self.curves: list[Series] = []

    def tables(self) -> dict[str, pa.Table]:
        """Return Arrow tables by the name of the database's table."""
        rows = self.rows | {"protocols": [protocol_row(protocol) for protocol in self.protocols.values()]}
        tables = {name: arrow_table(name, of_table) for name, of_table in rows.items()}
        return tables | {"curves": _curves_table(self.curves)}


def trial_row(record: Record) -> Row:
    """Return the row of a recorded trial. `planned` and `confirms` are set when the plan is inserted."""
    result = record["result"]
    state = {"status": result["status"], "reason": result["reason"], "planned": False, "confirms": False}
    ids = {"trial_id": result["trial_id"], "cell_id": result["cell_id"], "result_digest": record["result_digest"]}
    head = recorded_head(record["circumstance"])
    log = {"declared": head and head.lines, "declared_head": head and head.digest}
    return _trial_row(result["trial"], {**record["circumstance"], **log, **ids, **state})


def missing_row(trial: PlannedTrial, protocol: CarriedProtocol) -> Row:
    """Return the row of a planned trial without a record."""
    state = {"status": "missing", "reason": "planned, not recorded", "planned": True, "confirms": False}
    ids = {"trial_id": trial.trial_id, "cell_id": trial.cell_id}
    return _trial_row(trial.under(protocol).content(), {**ids, **state})


def _trial_row(trial: TrialContent, values: Mapping[str, object]) -> Row:
    protocol = {f"protocol_{key}": value for key, value in trial["protocol"].items()}
    return _row("trials", {**values, **trial, **protocol})


def _row(table: str, values: Mapping[str, object]) -> Row:
    return tuple(_convert(values.get(column), kind) for column, kind in columns()[table].items())


def setting_rows(trial_id: str, sources: Mapping[str, object]) -> list[Row]:
    """Return rows of the table `settings`; `sources` maps where values come from to the values by name."""
    return [
        (trial_id, source, name, _convert(value, FLOAT), setting_text(value))
        for source, values in sources.items()
        for name, value in sorted(as_mapping(values).items())
    ]


def metric_row(trial_id: str, metric: MetricValue) -> Row:
    """Return the row of one measured number."""
    selected = metric.get("selected")
    text = None if selected is None else to_json(selected)
    return _row("metrics", {**metric, "trial_id": trial_id, "selected": text})


def protocol_row(protocol: CarriedProtocol) -> Row:
    """Return the row of a protocol."""
    content, deviations = to_json(protocol.get("content", {})), to_json(protocol.get("deviations", []))
    return _row("protocols", {**protocol, "content": content, "deviations": deviations})


def _convert(value: object, kind: pa.DataType) -> object:
    """Return `value` if it is of the column's type, else None: a wrong circumstance must not keep a result out."""
    # Kinds are the objects in _KINDS, so identity is enough, and faster.
    if kind is TEXT:
        return value if isinstance(value, str) else None
    if kind is TIMESTAMP:
        return to_moment(value)
    if kind is BOOLEAN:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind is FLOAT:
        with contextlib.suppress(OverflowError):  # an integer of more than 308 digits
            return float(value)
        return None
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def to_moment(value: object) -> datetime | None:
    """Return a text in ISO 8601 as a moment in UTC without a time zone; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):  # the latter where UTC would be before the year 1 or after 9999
        return None


def to_text(value: object) -> str | None:
    """Return `value` as text for UTF-8. A lone surrogate, from an undecodable file name, becomes an escape."""
    if value is None:
        return None
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
