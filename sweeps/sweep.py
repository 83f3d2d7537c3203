"""A sweep: one question, one protocol, one or more grids of axes, a list of seeds. Read from `sweeps/NAME.toml`."""

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Lt, MinLen

from twinbench.sweeps.deviations import Deviation, deviate
from twinbench.sweeps.errors import InvalidInput, Mistake, nearest
from twinbench.sweeps.protocol import Protocol, Scalar, Section, contradictions
from twinbench.sweeps.protocol_lock import LOCK, locked, read_lock
from twinbench.sweeps.toml_reader import parse, read_toml

SHIPPED = Path(__file__).parent
OWN_KEYS = ("question", "protocol", "seeds", "baselines", "deviations")
Axis = Annotated[list[Scalar], MinLen(1)] | Scalar


@dataclass(frozen=True)
class Grid(Section):
    """`axes` are crossed, those in a `zipped` table advance together, `only.METHOD` adds or replaces axes."""

    methods: Annotated[tuple[str, ...], MinLen(1)]
    axes: dict[str, Axis] = field(default_factory=dict)
    zipped: tuple[dict[str, Axis], ...] = ()
    only: dict[str, dict[str, Axis]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep(Section):
    """One question and the grids that answer it. `baselines` adds raw pixels and the untrained backbone.

    `deviations` change values of the protocol for this sweep; every trial carries them.
    """

    question: str
    protocol: str
    seeds: Annotated[tuple[Annotated[int, Ge(0), Lt(2**63)], ...], MinLen(1)]
    grids: Annotated[tuple[Grid, ...], MinLen(1)]
    baselines: bool = True
    deviations: tuple[Deviation, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One point of a grid: a method and the values that the sweep gives it; `grid` is the number of the grid."""

    method: str
    values: Mapping[str, Scalar]
    grid: int


def shipped_sweeps() -> dict[str, Path]:
    """Return the name and file of every sweep that comes with the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def shipped_protocols() -> dict[str, Path]:
    """Return the name and file of every protocol that comes with the package."""
    return {path.stem: path for path in sorted((SHIPPED / "protocols").glob("*.toml"))}


def read_sweep(name: str, changes: tuple[str, ...] = ()) -> tuple[Sweep, Protocol, Path]:
    """Return the sweep called `name` (shipped, or a path) with `--set` changes, its protocol, and its file.

    The protocol has the sweep's deviations applied. InvalidInput also if the protocol was changed since its version was
    locked, in the lock file next to it or in the shipped one.
    """
    path = _find(name, shipped_sweeps(), "sweep")
    data = read_toml(path)
    for change in changes:
        data = changed(data, change)
    sweep = parse(Sweep, data, str(path))
    _check_grids(sweep, str(path))
    protocol = read_protocol(sweep.protocol, path.parent)
    for folder in dict.fromkeys((protocol_path(sweep.protocol, path.parent).parent, SHIPPED / "protocols")):
        locked(read_lock(folder / LOCK), [protocol], str(folder / LOCK))
    return sweep, deviate(protocol, sweep.deviations, str(path)) if sweep.deviations else protocol, path


def read_protocol(name: str, folder: Path = Path()) -> Protocol:
    """Return the protocol called `name`: a shipped one, or a path relative to `folder`."""
    path = protocol_path(name, folder)
    protocol = parse(Protocol, read_toml(path), str(path))
    if mistakes := contradictions(protocol, str(path)):
        raise InvalidInput(mistakes)
    return protocol


def protocol_path(name: str, folder: Path = Path()) -> Path:
    """Return the file of the protocol called `name`."""
    return _find(name, shipped_protocols(), "protocol", folder)


def _find(name: str, shipped: Mapping[str, Path], kind: str, folder: Path = Path()) -> Path:
    if name in shipped:
        return shipped[name]
    if name.endswith(".toml") or "/" in name:
        return folder / name
    allowed = f"a path ending in .toml, or one of {', '.join(shipped)}"
    close = nearest(name, shipped)
    raise InvalidInput([Mistake(f"{kind} {name!r}", "", f"no such {kind}", allowed=allowed, nearest=close)])


def changed(data: dict[str, Any], change: str) -> dict[str, Any]:
    """Return `data` with one `--set KEY=VALUE` applied. VALUE is TOML; text that is not valid TOML is a string.

    KEY is a key of the sweep, a field (in all grids), `METHOD.field` (for that method only), or `methods`, which keeps
    only the named methods in every grid.
    """
    key, equals, text = change.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InvalidInput([Mistake("--set", "", "is not of the form KEY=VALUE", change)])
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    if key in OWN_KEYS:
        return data | {key: value}
    grids = [grid for grid in data.get("grids", []) if isinstance(grid, dict)]
    if key == "methods":
        return data | {"grids": _kept(grids, value if isinstance(value, list) else [str(value)])}
    return data | {"grids": [_changed_grid(grid, key, value) for grid in grids]}


def _kept(grids: list[dict[str, Any]], methods: list[str]) -> list[dict[str, Any]]:
    known = list(dict.fromkeys(method for grid in grids for method in grid.get("methods", [])))
    unknown = [method for method in methods if method not in known]
    if unknown:
        what = "is not a method of any grid"
        raise InvalidInput(
            Mistake("--set", "methods", what, m, ", ".join(known), nearest(str(m), known)) for m in unknown
        )
    kept = []
    for grid in grids:
        left = [method for method in grid.get("methods", []) if method in methods]
        only = {method: axes for method, axes in grid.get("only", {}).items() if method in left}
        kept += [grid | {"methods": left, "only": only}] if left else []
    return kept


def _changed_grid(grid: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    only = {method: dict(axes) for method, axes in grid.get("only", {}).items()}
    method, dot, setting = key.rpartition(".")
    if dot:
        if method in grid.get("methods", []):
            only.setdefault(method, {})[setting] = value
        return grid | {"only": only}
    owners = [axes for axes in only.values() if key in axes]
    for axes in owners:
        axes[key] = value
    zipped = [{name: axis for name, axis in group.items() if name != key} for group in grid.get("zipped", [])]
    shared = key in grid.get("axes", {}) or any(key in group for group in grid.get("zipped", []))
    axes = grid.get("axes", {}) | ({key: value} if shared or not owners else {})
    return grid | {"only": only, "zipped": [group for group in zipped if group], "axes": axes}


def _check_grids(sweep: Sweep, where: str) -> None:
    mistakes = []
    if len(set(sweep.seeds)) < len(sweep.seeds):
        mistakes.append(Mistake(where, "seeds", "a seed is listed twice", list(sweep.seeds)))
    for number, grid in enumerate(sweep.grids):
        for method in sorted(set(grid.only) - set(grid.methods)):
            key = f"grids.{number}.only.{method}"
            mistakes.append(Mistake(where, key, "is not a method of this grid", method, ", ".join(grid.methods)))
        names = [*grid.axes, *(name for group in grid.zipped for name in group)]
        for name in sorted({name for name in names if names.count(name) > 1}):
            mistakes.append(Mistake(where, f"grids.{number}.{name}", "is listed twice among axes and zipped"))
        for group in grid.zipped:
            lengths = {name: len(_values(axis)) for name, axis in group.items()}
            if len(set(lengths.values())) > 1:
                mistakes.append(Mistake(where, f"grids.{number}.zipped", "zipped axes differ in length", lengths))
    if mistakes:
        raise InvalidInput(mistakes)


def expand(sweep: Sweep) -> list[Cell]:
    """Return every cell of the grids, in the order of the file; a cell that is in several grids comes once."""
    cells: dict[tuple[object, ...], Cell] = {}
    for number, grid in enumerate(sweep.grids):
        for method in grid.methods:
            for values in _points(_for_method(grid, method)):
                cells.setdefault((method, *sorted(values.items())), Cell(method, values, number))
    return list(cells.values())


def _for_method(grid: Grid, method: str) -> Grid:
    """Return the grid with the method's own axes in place of the shared ones of the same name."""
    own = grid.only.get(method, {})
    zipped = tuple({name: axis for name, axis in group.items() if name not in own} for group in grid.zipped)
    return replace(grid, axes=grid.axes | own, zipped=tuple(group for group in zipped if group))


def _points(grid: Grid) -> Iterator[dict[str, Scalar]]:
    crossed = [{name: axis} for name, axis in grid.axes.items()]
    for parts in itertools.product(*map(_rows, [*crossed, *grid.zipped])):
        yield {name: value for part in parts for name, value in part.items()}


def _rows(group: Mapping[str, Axis]) -> list[dict[str, Scalar]]:
    return [dict(zip(group, row, strict=True)) for row in zip(*map(_values, group.values()), strict=True)]


def _values(axis: Axis) -> list[Scalar]:
    return axis if isinstance(axis, list) else [axis]
