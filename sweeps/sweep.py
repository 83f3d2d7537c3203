"""A sweep: one question, one protocol, one or more grids of axes, a list of seeds. Read from `sweeps/NAME.toml`."""

import contextlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Lt, MaxLen, MinLen

from twinbench.sweeps.deviations import Deviation, deviate
from twinbench.sweeps.errors import InvalidInput, Mistake, nearest
from twinbench.sweeps.hashing import to_utf8
from twinbench.sweeps.protocol import Protocol, Scalar, Section, Training, contradictions
from twinbench.sweeps.protocol_lock import LOCK, locked, read_lock
from twinbench.sweeps.toml_reader import parse, read_toml, read_value

SHIPPED = Path(__file__).parent
OWN_KEYS = ("question", "protocol", "seeds", "baselines", "deviations", "confirm")
CONFIRM_SEEDS = "confirm.seeds"
SET = "--set"
MOST_TRIALS = 250_000  # their plan is still a file that `file_reader` reads
Axis = Annotated[list[Scalar], MinLen(1)] | Scalar
Seed = Annotated[int, Ge(0), Lt(2**63)]


@dataclass(frozen=True)
class Grid(Section):
    """`axes` are crossed, those in a `zipped` table advance together, `only.METHOD` adds or replaces axes."""

    methods: Annotated[tuple[str, ...], MinLen(1)]
    axes: dict[str, Axis] = field(default_factory=dict)
    zipped: tuple[dict[str, Axis], ...] = ()
    only: dict[str, dict[str, Axis]] = field(default_factory=dict)


@dataclass(frozen=True)
class Confirm(Section):
    """Seeds that select nothing. Once the grid is complete, each method's chosen cell is trained on them too."""

    seeds: tuple[Seed, ...]


@dataclass(frozen=True)
class Sweep(Section):
    """One question and the grids that answer it. `baselines` adds raw pixels and the untrained backbone.

    `deviations` change values of the protocol for this sweep; every trial carries them. `confirm` without seeds is no
    confirm stage.
    """

    question: str
    protocol: str
    seeds: Annotated[tuple[Seed, ...], MinLen(1)]
    grids: Annotated[tuple[Grid, ...], MinLen(1)]
    baselines: bool = True
    deviations: Annotated[tuple[Deviation, ...], MaxLen(100)] = ()  # each is compared with every other
    confirm: Confirm = Confirm(seeds=())


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
    where, settings = str(path), [_setting(change) for change in changes]
    _check_keys(key for key, _ in settings)
    data = read_toml(path)
    with contextlib.suppress(TypeError, ValueError, AttributeError):  # malformed grids, which `parse` reports
        for key, value in settings:
            data = changed(data, key, value)
    try:
        sweep = parse(Sweep, data, where)
        _check_grids(sweep, where, is_changed=bool(settings))
        of_grids = [(key, value) for key, value in settings if key not in (*OWN_KEYS, CONFIRM_SEEDS, "methods")]
        if lost := [mistake for key, value in of_grids for mistake in _lost(key, value, sweep)]:
            raise InvalidInput(lost)
        protocol = read_protocol(sweep.protocol, path.parent, where)
        for folder in dict.fromkeys((protocol_path(sweep.protocol, path.parent).parent, SHIPPED / "protocols")):
            locked(read_lock(folder / LOCK), [protocol], str(folder / LOCK))
        return sweep, deviate(protocol, sweep.deviations, where) if sweep.deviations else protocol, path
    except InvalidInput as error:
        keys = [key for key, _ in settings]
        mistakes = [from_set(one, keys) if one.where == where else one for one in error.mistakes]
        raise InvalidInput([one for number, one in enumerate(mistakes) if one not in mistakes[:number]]) from None


def read_protocol(name: str, folder: Path = Path(), sweep: str = "") -> Protocol:
    """Return the protocol called `name`: a shipped one, or a path relative to `folder`, in the file `sweep`."""
    path = protocol_path(name, folder, sweep)
    protocol = parse(Protocol, read_toml(path), str(path))
    if mistakes := contradictions(protocol, str(path)):
        raise InvalidInput(mistakes)
    return protocol


def protocol_path(name: str, folder: Path = Path(), sweep: str = "") -> Path:
    """Return the file of the protocol called `name`, which the file `sweep` names."""
    return _find(name, shipped_protocols(), "protocol", folder, sweep)


def _find(name: str, shipped: Mapping[str, Path], kind: str, folder: Path = Path(), named_in: str = "") -> Path:
    if name in shipped:
        return shipped[name]
    if name.endswith(".toml") or "/" in name:
        return folder / name
    allowed = f"a path ending in .toml, or one of {', '.join(shipped)}"
    close = nearest(name, shipped)
    if named_in:
        raise InvalidInput([Mistake(named_in, kind, f"no such {kind}", name, allowed, close)])
    raise InvalidInput([Mistake(f"{kind} {name!r}", "", f"no such {kind}", allowed=allowed, nearest=close)])


# --- changes by --set -------------------------------------------------------------------------------------------------


def _setting(change: str) -> tuple[str, Any]:
    """Return the key and the value of `KEY=VALUE`. VALUE is TOML; text that is not one TOML value is a string."""
    key, equals, text = change.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise InvalidInput([Mistake(SET, "", "is not of the form KEY=VALUE", change)])
    if change != to_utf8(change).decode():
        raise InvalidInput([Mistake(SET, "", "is not UTF-8", change)])
    return key.strip(), read_value(text.strip(), f"{SET} {key.strip()}")


def _check_keys(keys: Iterable[str]) -> None:
    """Raise InvalidInput for keys that are given more than once: only the last value would count."""
    given = Counter("confirm" if key == CONFIRM_SEEDS else key for key in keys)
    if twice := [key for key, count in given.items() if count > 1]:
        raise InvalidInput(Mistake(SET, key, "is given more than once") for key in twice)


def set_keys(changes: Sequence[str]) -> list[str]:
    """Return the keys of changes KEY=VALUE."""
    return [change.partition("=")[0].strip() for change in changes]


def changed(data: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return `data` with one change by `--set` applied. Raises TypeError and the like where its grids are malformed.

    `key` is a key of the sweep, a field (in all grids, for all methods), `METHOD.field` (for that method only), or
    `methods`, which keeps only the named methods in every grid.
    """
    if key in OWN_KEYS:
        return data | {key: value}
    if key == CONFIRM_SEEDS:
        return data | {"confirm": {"seeds": value}}
    grids = [dict(grid) for grid in data.get("grids", [])]
    if key == "methods":
        return data | {"grids": _kept(grids, value if isinstance(value, list) else [str(value)])}
    return data | {"grids": [_changed_grid(grid, key, value) for grid in grids]}


def from_set(mistake: Mistake, keys: Collection[str], method: str = "") -> Mistake:
    """Return the mistake with `--set` as its place if it is in a value that one of the `keys` has set.

    The mistake's key is one of a sweep file, or a field of `method`.
    """
    name = re.sub(r"^grids\.\d+\.(axes|only|zipped\.\d+)\.", "", mistake.key)
    for one in [f"{method}.{name}", name] if method else [name]:
        if any(f"{one}.".startswith(f"{key}.") for key in keys):
            return replace(mistake, where=SET, key=one)
    return mistake


def _lost(key: str, value: Any, sweep: Sweep) -> list[Mistake]:
    """Return a mistake if no cell has the value that `--set` gave the field `key`: nothing that is given is ignored."""
    method, _, name = key.rpartition(".")
    methods = list(dict.fromkeys(method for grid in sweep.grids for method in grid.methods))
    if method and method not in methods:
        close = nearest(method.lower(), methods)
        known = {*OWN_KEYS, CONFIRM_SEEDS, *(one.name for one in fields(Training))}
        right = f"{close}.{name}" if close else name if name in known else ""
        return [Mistake(SET, key, f"{method} is not a method of any grid", value, ", ".join(methods), right)]
    given = [axes_of(grid, one).get(name) for grid in sweep.grids for one in grid.methods if method in ("", one)]
    return [] if _values(value) in given else [Mistake(SET, key, "reaches no trial: another --set replaces it", value)]


def _kept(grids: list[dict[str, Any]], methods: list[str]) -> list[dict[str, Any]]:
    known = list(dict.fromkeys(method for grid in grids for method in grid.get("methods", [])))
    unknown = [method for method in methods if method not in known]
    what = "is not a method of any grid"
    mistakes = [Mistake(SET, "methods", what, m, ", ".join(known), nearest(str(m), known)) for m in unknown]
    if not methods:
        mistakes.append(Mistake(SET, "methods", "names no method", allowed=", ".join(known)))
    if mistakes:
        raise InvalidInput(mistakes)
    kept = []
    for grid in grids:
        left = [method for method in grid.get("methods", []) if method in methods]
        only = {method: axes for method, axes in grid.get("only", {}).items() if method in left}
        kept += [grid | {"methods": left, "only": only}] if left else []
    return kept


def _changed_grid(grid: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    method, dot, setting = key.rpartition(".")
    only = {method: dict(axes) for method, axes in grid.get("only", {}).items()}
    if dot:
        if method in grid.get("methods", []):
            only.setdefault(method, {})[setting] = value
        return grid | {"only": only}
    for axes in only.values():
        axes.pop(key, None)
    zipped = [{name: axis for name, axis in group.items() if name != key} for group in grid.get("zipped", [])]
    axes = grid.get("axes", {}) | {key: value}
    return grid | {"only": only, "zipped": [group for group in zipped if group], "axes": axes}


# --- cells ------------------------------------------------------------------------------------------------------------


def _check_grids(sweep: Sweep, where: str, is_changed: bool) -> None:
    """Raise InvalidInput for what is wrong with the grids and seeds. Rows of zipped axes that were different may be
    equal if `--set` has changed one of the axes.
    """
    mistakes = _seed_mistakes(sweep, where)
    for number, grid in enumerate(sweep.grids):
        mistakes += _repeated(grid, f"grids.{number}", where)
        for method in sorted(set(grid.only) - set(grid.methods)):
            key = f"grids.{number}.only.{method}"
            mistakes.append(Mistake(where, key, "is not a method of this grid", method, ", ".join(grid.methods)))
        counts = Counter([*grid.axes, *(name for group in grid.zipped for name in group)])
        for name in sorted(name for name, count in counts.items() if count > 1):
            mistakes.append(Mistake(where, f"grids.{number}.{name}", "is listed twice among axes and zipped"))
        for group in grid.zipped:
            lengths = {name: len(_values(axis)) for name, axis in group.items()}
            if len(set(lengths.values())) > 1:
                mistakes.append(Mistake(where, f"grids.{number}.zipped", "zipped axes differ in length", lengths))
            elif not is_changed and len({(*row.values(),) for row in _rows(group)}) < max(lengths.values()):
                mistakes.append(Mistake(where, f"grids.{number}.zipped", "equal values are listed twice", group))
    if not mistakes and (trials := _trial_count(sweep)) > MOST_TRIALS:
        problem = f"the grids have {min(trials, 10**12):,} trials{' or more' * (trials >= 10**12)}"
        mistakes.append(Mistake(where, "grids", problem, allowed=f"at most {MOST_TRIALS:,}"))
    if mistakes:
        raise InvalidInput(mistakes)


def _repeated(grid: Grid, place: str, where: str) -> Iterator[Mistake]:
    """Yield a mistake for each list that has a method or a value twice, which would run once."""
    own = {f"only.{method}.{name}": axis for method, axes in grid.only.items() for name, axis in axes.items()}
    lists = {"methods": grid.methods} | {f"axes.{name}": axis for name, axis in grid.axes.items()} | own
    for key, values in lists.items():
        if isinstance(values, list | tuple) and len(set(values)) < len(values):
            yield Mistake(where, f"{place}.{key}", "a value is listed twice", [*values])


def _seed_mistakes(sweep: Sweep, where: str) -> list[Mistake]:
    listed = {"seeds": sweep.seeds, CONFIRM_SEEDS: sweep.confirm.seeds}
    mistakes = [
        Mistake(where, key, "a seed is listed twice", list(seeds))
        for key, seeds in listed.items()
        if len(set(seeds)) < len(seeds)
    ]
    if both := sorted(set(sweep.seeds) & set(sweep.confirm.seeds)):
        problem = "seeds of the grid select, so they cannot confirm"
        mistakes.append(Mistake(where, CONFIRM_SEEDS, problem, both, "seeds that are not listed under seeds"))
    return mistakes


def _trial_count(sweep: Sweep) -> int:
    """Return the number of trials of the grids and of the confirm stage, which trains one cell of each method."""
    methods = {method for grid in sweep.grids for method in grid.methods}
    return sum(map(_cell_count, sweep.grids)) * len(sweep.seeds) + len(methods) * len(sweep.confirm.seeds)


def _cell_count(grid: Grid) -> int:
    """Return the number of cells of a grid; cells that are given twice count twice."""
    lengths = [[len(_rows(group)) for group in _groups(_for_method(grid, method))] for method in grid.methods]
    return sum(map(math.prod, lengths))


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


def axes_of(grid: Grid, method: str) -> dict[str, list[Scalar]]:
    """Return the values of each axis that the method has in the grid."""
    return {name: _values(axis) for group in _groups(_for_method(grid, method)) for name, axis in group.items()}


def _groups(grid: Grid) -> list[Mapping[str, Axis]]:
    """Return the axes that advance together: each crossed axis by itself, and the zipped tables."""
    return [*({name: axis} for name, axis in grid.axes.items()), *grid.zipped]


def _points(grid: Grid) -> Iterator[dict[str, Scalar]]:
    for parts in itertools.product(*map(_rows, _groups(grid))):
        yield {name: value for part in parts for name, value in part.items()}


def _rows(group: Mapping[str, Axis]) -> list[dict[str, Scalar]]:
    return [dict(zip(group, row, strict=True)) for row in zip(*map(_values, group.values()), strict=True)]


def _values(axis: Axis) -> list[Scalar]:
    return axis if isinstance(axis, list) else [axis]
