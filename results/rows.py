"""Turn records and planned trials into rows of the database's tables; schema.sql describes the columns."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from twinbench.results.plan import PlannedTrial
from twinbench.results.record import Record
from twinbench.sweeps.metrics import MetricValue
from twinbench.sweeps.protocol import CarriedProtocol

TEXT, INTEGER, FLOAT, BOOLEAN, TIMESTAMP = pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us")
Row = tuple[object, ...]
Columns = Mapping[str, pa.DataType]

_IDENTITY = {
    "trial_id": TEXT,
    "cell_id": TEXT,
    "method": TEXT,
    "method_version": INTEGER,
    "seed": INTEGER,
    "status": TEXT,
    "reason": TEXT,
    "planned": BOOLEAN,
    "protocol_name": TEXT,
    "protocol_version": INTEGER,
    "protocol_hash": TEXT,
    "dataset_fingerprint": TEXT,
    "result_digest": TEXT,
}
_CIRCUMSTANCE = {
    "started": TIMESTAMP,
    "finished": TIMESTAMP,
    "attempts": INTEGER,
    "train_seconds": FLOAT,
    "shared_seconds": FLOAT,
    "solo_step_seconds": FLOAT,
    "evaluation_seconds": FLOAT,
    "images_seen": INTEGER,
    "peak_memory_bytes": INTEGER,
    "commit": TEXT,
    "code_hash": TEXT,
    "device": TEXT,
    "precision": TEXT,
    "mode": TEXT,
    "threads": INTEGER,
    "ranks": INTEGER,
    "pack": INTEGER,
    "cuda_graph": BOOLEAN,
    "host": TEXT,
    "traceback": TEXT,
}
COLUMNS: Mapping[str, Columns] = {
    "files": dict.fromkeys(("file", "trial_id", "digest", "signature", "curves_file", "outputs_file"), TEXT),
    "trials": {**_IDENTITY, **_CIRCUMSTANCE},
    "settings": {"trial_id": TEXT, "source": TEXT, "name": TEXT, "number": FLOAT, "text": TEXT},
    "metrics": {
        "trial_id": TEXT,
        "name": TEXT,
        "variant": TEXT,
        "split": TEXT,
        "value": FLOAT,
        "n_examples": INTEGER,
        "selected_on": TEXT,
        "candidates": INTEGER,
        "selected": TEXT,
    },
    "versions": {"trial_id": TEXT, "package": TEXT, "version": TEXT},
    "set_aside": {"file": TEXT, "reason": TEXT, "record": TEXT},
    "protocols": {
        "hash": TEXT,
        "name": TEXT,
        "version": INTEGER,
        "content": TEXT,
        "deviations": TEXT,
        "base_hash": TEXT,
    },
}

to_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode  # json.dumps makes a new encoder for each value


def arrow_table(name: str, rows: Sequence[Row]) -> pa.Table:
    """Return the rows as an Arrow table with the columns of the database's table `name`."""
    columns = COLUMNS[name]
    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    pairs = zip(columns.items(), values, strict=True)
    return pa.table({column: _arrow_column(cells, kind) for (column, kind), cells in pairs})


def _arrow_column(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    if kind != TEXT:
        return pa.array(values, kind)
    try:
        return pa.array(values, kind)
    except (
        UnicodeEncodeError,
        pa.ArrowException,
    ):  # a lone surrogate, which is rare
        return pa.array([to_text(value) for value in values], kind)


class Curves:
    """The curves of many trials, as columns."""

    def __init__(self) -> None:
        self.series: list[tuple[str, str | None, int]] = []  # trial, name and number of points
        self.epochs: list[NDArray[np.float64]] = []  # of the points, series by series
        self.values: list[NDArray[np.float64]] = []

    def add(self, trial_id: str, curves: Any) -> None:
        """Add the curves of one trial, all or none. Points that were not measured (null) get no row."""
        epochs = np.array(curves["epoch"], np.float64)
        taken = []
        for name, points in sorted(curves["series"].items()):
            values = np.array(points, np.float64)  # a null becomes NaN, which JSON itself does not have
            if values.shape != epochs.shape:
                raise ValueError(f"{name} has other than {len(epochs)} points")
            taken.append((to_text(name), values, ~np.isnan(values)))
        for name, values, measured in taken:
            self.series.append((trial_id, name, int(measured.sum())))
            self.epochs.append(epochs[measured])
            self.values.append(values[measured])

    def table(self) -> pa.Table:
        """Return one row per point."""
        trials, names, counts = zip(*self.series, strict=True) if self.series else ((), (), ())
        of_point = pa.array(np.repeat(np.arange(len(counts)), counts))
        return pa.table(
            {
                "trial_id": pa.array(trials, TEXT).take(of_point),
                "epoch": pa.array(np.concatenate([np.empty(0), *self.epochs]), FLOAT),
                "name": pa.array(names, TEXT).take(of_point),
                "value": pa.array(np.concatenate([np.empty(0), *self.values]), FLOAT),
            }
        )


class Batch:
    """The rows of some records."""

    def __init__(self) -> None:
        kinds = ("files", "trials", "settings", "metrics", "versions")
        self.rows: dict[str, list[Row]] = {kind: [] for kind in kinds}
        self.protocols: dict[str, CarriedProtocol] = {}  # by hash
        self.curves = Curves()

    def tables(self) -> dict[str, pa.Table]:
        """Return Arrow tables by the name of the database's table."""
        rows = self.rows | {"protocols": [protocol_row(protocol) for protocol in self.protocols.values()]}
        tables = {name: arrow_table(name, of_table) for name, of_table in rows.items()}
        return tables | {"curves": self.curves.table()}


def trial_row(record: Record) -> Row:
    """Return the row of a recorded trial. `planned` is set when the plan is inserted."""
    result, circumstance = record["result"], record["circumstance"]
    trial, protocol = result["trial"], result["trial"]["protocol"]
    identity = (
        result["trial_id"],
        result["cell_id"],
        trial["method"],
        trial["method_version"],
        trial["seed"],
        result["status"],
        result["reason"],
        False,
        protocol["name"],
        protocol["version"],
        protocol["hash"],
        trial["dataset_fingerprint"],
        record["result_digest"],
    )
    return identity + tuple(_convert(circumstance.get(name), kind) for name, kind in _CIRCUMSTANCE.items())


def missing_row(trial: PlannedTrial, protocol: CarriedProtocol) -> Row:
    """Return the row of a planned trial without a record."""
    identity = (
        trial.trial_id,
        trial.cell_id,
        trial.method,
        _convert(trial.method_version, INTEGER),
        _convert(trial.seed, INTEGER),
        "missing",
        "planned, not recorded",
        True,
        protocol["name"],
        _convert(protocol["version"], INTEGER),
        protocol["hash"],
        trial.dataset_fingerprint,
        None,
    )
    return identity + (None,) * len(_CIRCUMSTANCE)


def setting_rows(trial_id: str, sources: Mapping[str, object]) -> list[Row]:
    """Return rows of the table `settings`; `sources` maps where values come from to the values by name."""
    return [
        (trial_id, source, name, _convert(value, FLOAT), _setting_text(value))
        for source, values in sources.items()
        for name, value in sorted(as_mapping(values).items())
    ]


def _setting_text(value: object) -> str:
    """Return a text unchanged, anything else as JSON; the JSON of a finite number is its repr, which is faster."""
    if isinstance(value, str):
        return value
    return repr(value) if type(value) in (int, float) and math.isfinite(value) else to_json(value)  # type: ignore[arg-type]


def metric_row(trial_id: str, metric: MetricValue) -> Row:
    """Return the row of one measured number."""
    selected = metric.get("selected")
    return (
        trial_id,
        metric["name"],
        metric["variant"],
        metric["split"],
        float(metric["value"]),
        _convert(metric.get("n_examples"), INTEGER),
        _convert(metric.get("selected_on"), TEXT),
        _convert(metric.get("candidates"), INTEGER),
        None if selected is None else to_json(selected),
    )


def protocol_row(protocol: CarriedProtocol) -> Row:
    """Return the row of a protocol."""
    version, base = _convert(protocol.get("version"), INTEGER), _convert(protocol.get("base_hash"), TEXT)
    content, deviations = to_json(protocol.get("content", {})), to_json(protocol.get("deviations", []))
    return protocol["hash"], protocol["name"], version, content, deviations, base


def _convert(value: object, kind: pa.DataType) -> object:
    """Return `value` if it is of the column's type, else None: a wrong circumstance must not keep a result out."""
    if kind == TEXT:
        return value if isinstance(value, str) else None
    if kind == TIMESTAMP:
        return _moment(value)
    if kind == BOOLEAN:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind == FLOAT:
        return float(value)
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def to_text(value: object) -> str | None:
    """Return `value` as text for UTF-8. A lone surrogate, from an undecodable file name, becomes an escape."""
    if value is None:
        return None
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_mapping(value: object) -> Mapping[str, object]:
    """Return `value` if it is a table, else an empty one."""
    return value if isinstance(value, Mapping) else {}
