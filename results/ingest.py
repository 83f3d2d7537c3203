"""Turn records into rows of the database's tables."""

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

_S, _I, _F, _B, _T = pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us")
_FILES = {"file": _S, "trial_id": _S, "digest": _S, "signature": _S, "curves_file": _S, "outputs_file": _S}
_IDENTITY = {
    "trial_id": _S,
    "cell_id": _S,
    "method": _S,
    "method_version": _I,
    "seed": _I,
    "status": _S,
    "reason": _S,
    "planned": _B,
    "protocol_name": _S,
    "protocol_version": _I,
    "protocol_hash": _S,
    "dataset_fingerprint": _S,
    "result_digest": _S,
}
_CIRCUMSTANCE = {
    "started": _T,
    "finished": _T,
    "attempts": _I,
    "train_seconds": _F,
    "shared_seconds": _F,
    "solo_step_seconds": _F,
    "evaluation_seconds": _F,
    "images_seen": _I,
    "peak_memory_bytes": _I,
    "commit": _S,
    "code_hash": _S,
    "device": _S,
    "precision": _S,
    "mode": _S,
    "threads": _I,
    "ranks": _I,
    "pack": _I,
    "cuda_graph": _B,
    "host": _S,
    "traceback": _S,
}
_TRIALS = _IDENTITY | _CIRCUMSTANCE
_SETTINGS = {"trial_id": _S, "source": _S, "name": _S, "number": _F, "text": _S}
_METRICS = {
    "trial_id": _S,
    "name": _S,
    "variant": _S,
    "split": _S,
    "value": _F,
    "n_examples": _I,
    "selected_on": _S,
    "candidates": _I,
    "selected": _S,
}
_SET_ASIDE = {"file": _S, "reason": _S, "record": _S}
_COLUMNS = {
    "files": _FILES,
    "trials": _TRIALS,
    "settings": _SETTINGS,
    "metrics": _METRICS,
    "versions": {"trial_id": _S, "package": _S, "version": _S},
    "protocols": {"hash": _S, "name": _S, "version": _I, "content": _S, "deviations": _S, "base_hash": _S},
}
_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode  # json.dumps makes one anew for every value


def _table(columns: Mapping[str, Any], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pa.table({name: _column(column, kind) for (name, kind), column in zip(columns.items(), values, strict=True)})


def _column(values: Sequence[Any], kind: Any) -> pa.Array:
    if kind != _S:
        return pa.array(values, kind)
    try:
        return pa.array(values, kind)
    except (UnicodeEncodeError, pa.ArrowException):  # almost never, and then one by one
        return pa.array([_text(value) for value in values], kind)


class _Curves:
    """The curves of many trials, column by column."""

    def __init__(self) -> None:
        self.series: list[tuple[str, str | None, int]] = []  # trial, name and number of points
        self.epochs: list[NDArray[np.float64]] = []  # of the points, series by series
        self.values: list[NDArray[np.float64]] = []

    def add(self, trial_id: str, curves: Mapping[str, Any]) -> None:
        """Take the curves of one trial, all or none. Points that were not measured (null) leave no row."""
        epochs = np.array(curves["epoch"], np.float64)
        taken = []
        for name, points in sorted(curves["series"].items()):
            values = np.array(points, np.float64)  # a null becomes NaN, which JSON itself does not have
            if values.shape != epochs.shape:
                raise ValueError(f"{name} has other than {len(epochs)} points")
            taken.append((_text(name), values, ~np.isnan(values)))
        for name, values, measured in taken:
            self.series.append((trial_id, name, int(measured.sum())))
            self.epochs.append(epochs[measured])
            self.values.append(values[measured])

    def table(self) -> pa.Table:
        trials, names, counts = zip(*self.series, strict=True) if self.series else ((), (), ())
        of_point = pa.array(np.repeat(np.arange(len(counts)), counts))
        return pa.table(
            {
                "trial_id": pa.array(trials, _S).take(of_point),
                "epoch": pa.array(np.concatenate([np.empty(0), *self.epochs]), _F),
                "name": pa.array(names, _S).take(of_point),
                "value": pa.array(np.concatenate([np.empty(0), *self.values]), _F),
            }
        )


class _Batch:
    """The rows of some records."""

    def __init__(self) -> None:
        kinds = ("files", "trials", "settings", "metrics", "versions")
        self.rows: dict[str, list[tuple[Any, ...]]] = {kind: [] for kind in kinds}
        self.protocols: dict[str, CarriedProtocol] = {}  # by hash
        self.curves = _Curves()

    def tables(self) -> dict[str, pa.Table]:
        """By the name of the table."""
        rows = self.rows | {"protocols": [_protocol_row(protocol) for protocol in self.protocols.values()]}
        return {name: _table(_COLUMNS[name], of) for name, of in rows.items()} | {"curves": self.curves.table()}


def _trial_row(record: Record) -> tuple[Any, ...]:
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


def _missing_row(trial: PlannedTrial, protocol: CarriedProtocol) -> tuple[Any, ...]:
    identity = (
        trial.trial_id,
        trial.cell_id,
        trial.method,
        _convert(trial.method_version, _I),
        _convert(trial.seed, _I),
        "missing",
        "planned, not recorded",
        True,
        protocol["name"],
        _convert(protocol["version"], _I),
        protocol["hash"],
        trial.dataset_fingerprint,
        None,
    )
    return identity + (None,) * len(_CIRCUMSTANCE)


def _setting_rows(trial_id: str, sources: Mapping[str, object]) -> list[tuple[Any, ...]]:
    """Rows of the table `settings`; `sources` holds the values by where they come from."""
    return [
        (trial_id, source, name, _convert(value, _F), _setting_text(value))
        for source, values in sources.items()
        for name, value in sorted(_table_of(values).items())
    ]


def _setting_text(value: object) -> str:
    """A text as it is, all else as JSON has it: of a finite number that is its repr."""
    if isinstance(value, str):
        return value
    return repr(value) if type(value) in (int, float) and math.isfinite(value) else _json(value)  # type: ignore[arg-type]


def _metric_row(trial_id: str, metric: MetricValue) -> tuple[Any, ...]:
    selected = metric.get("selected")
    return (
        trial_id,
        metric["name"],
        metric["variant"],
        metric["split"],
        float(metric["value"]),
        _convert(metric.get("n_examples"), _I),
        _convert(metric.get("selected_on"), _S),
        _convert(metric.get("candidates"), _I),
        None if selected is None else _json(selected),
    )


def _protocol_row(protocol: CarriedProtocol) -> tuple[Any, ...]:
    version, base = _convert(protocol.get("version"), _I), _convert(protocol.get("base_hash"), _S)
    content, deviations = _json(protocol.get("content", {})), _json(protocol.get("deviations", []))
    return protocol["hash"], protocol["name"], version, content, deviations, base


def _convert(value: object, kind: Any) -> Any:
    """`value` if it is of the column's kind, else None: a strange circumstance must not keep a result out."""
    if kind == _S:
        return value if isinstance(value, str) else None
    if kind == _T:
        return _moment(value)
    if kind == _B:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind == _F:
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


def _text(value: object) -> str | None:
    """As text that UTF-8 can hold: a lone surrogate, from an undecodable file name, is spelled out."""
    if value is None:
        return None
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _table_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
