"""Slices of a sweep: a method's cells along one axis, or over two, with its other varied settings held.

Tables, figures and the range of an axis show the same slice: the first that `slices` returns.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from twinbench.reports.tables.cells import Cell, Section, Value, value_order
from twinbench.sweeps.own_values import ChangedSetting


@dataclass(frozen=True)
class Slice:
    """Cells of one method that differ in the axes alone."""

    axes: tuple[str, ...]
    cells: dict[tuple[Value, ...], Cell]  # by their values of the axes, in order
    held: dict[str, Value]  # the method's other varied settings
    following: tuple[str, ...] = ()  # settings that change with the axes: the sweep varied them only together
    has_equals: bool = False  # whether other slices have as many measured cells
    has_chosen: bool = False

    @property
    def measured(self) -> int:
        return sum(cell.done > 0 for cell in self.cells.values())

    @property
    def changed(self) -> dict[str, ChangedSetting]:
        """Return the held settings that are not at the protocol's own value, by name."""
        any_cell = next(iter(self.cells.values()))
        return {one.name: one for one in any_cell.changed if one.name in self.held}

    @property
    def held_text(self) -> str:
        """Return the held settings: "projector_width = 256, batch_size = 64 (protocol: 128)"; empty without any."""
        return ", ".join(str(self.changed.get(name, f"{name} = {value.text}")) for name, value in self.held.items())

    @property
    def choice(self) -> str:
        """Return why this slice is shown, if it is the first of several: "through the chosen cell"."""
        nearest = "nearest to the protocol's values" if self.has_equals else "with the most values"
        return "through the chosen cell" if self.has_chosen else nearest

    @property
    def words(self) -> str:
        """Return the held settings and those that change with the axes; empty if no other setting was varied."""
        along = " and ".join(self.axes)
        return ", ".join(filter(None, [self.held_text, *(f"{name} changes with {along}" for name in self.following)]))

    def values(self, axis: str) -> list[Value]:
        """Return the values of one of the axes, in order."""
        return sorted({cell.values[axis] for cell in self.cells.values()}, key=value_order)


def slices(section: Section, label: str, *axes: str) -> list[Slice]:
    """Return a method's slices along the axes, from its cells that have values of them; the first is the one to show.

    It has the most measured cells; of equal ones it is the one through the chosen cell, else the one nearest to the
    protocol's values.
    """
    cells = [cell for cell in section.methods[label] if all(axis in cell.values for axis in axes)]
    others = [name for name in section.varied(label) if name not in axes]
    found = _slices(cells, axes, others)
    if len(found) == len(cells):  # no two cells differ in the axes alone
        following = tuple(name for name in others if _follows(cells, name, axes))
        found = _slices(cells, axes, [name for name in others if name not in following], following)
    chosen, sizes = section.chosen[label], Counter(one.measured for one in found)
    found = [replace(one, has_equals=sizes[one.measured] > 1, has_chosen=chosen in one.cells.values()) for one in found]
    return sorted(found, key=_rank)


def shown_slices(section: Section, axis: str) -> dict[str, Slice]:
    """Return the slice to show of each method for which the axis was varied, by the method's label."""
    return {label: slices(section, label, axis)[0] for label in section.methods if axis in section.varied(label)}


def held_text(shown: Mapping[str, Slice]) -> str:
    """Return a sentence on the other settings along each method's slice; empty without any."""
    by_words: dict[str, list[str]] = {}
    for label, one in shown.items():
        by_words.setdefault(one.words, []).append(label)
    settings = [f"of {', '.join(labels)}: {words}" for words, labels in by_words.items() if words]
    return f"Other settings {'; '.join(settings)}." if settings else ""


def slices_text(shown: Mapping[str, Slice]) -> str:
    """Return `held_text`, and sentences on the choice among equal slices."""
    equal: dict[str, list[str]] = {}
    for label, one in shown.items():
        if one.has_equals:
            equal.setdefault(one.choice, []).append(label)
    chosen = [f"Of {', '.join(of)}, the slice {how} is shown; others have as many cells." for how, of in equal.items()]
    return " ".join(filter(None, [held_text(shown), *chosen]))


def _slices(
    cells: Iterable[Cell], axes: Sequence[str], held: Sequence[str], following: tuple[str, ...] = ()
) -> list[Slice]:
    """Return the cells grouped by their values of the held settings."""
    groups: dict[tuple[Value | None, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.values.get(name) for name in held), []).append(cell)
    found = []
    for values, group in groups.items():
        fixed = {name: value for name, value in zip(held, values, strict=True) if value is not None}
        placed = sorted(((_at(cell, axes), cell) for cell in group), key=lambda one: [*map(value_order, one[0])])
        found.append(Slice(tuple(axes), dict(placed), fixed, following))
    return found


def _rank(one: Slice) -> tuple[int, bool, int, list[tuple[bool, float, str]]]:
    return -one.measured, not one.has_chosen, len(one.changed), [value_order(value) for value in one.held.values()]


def _follows(cells: Sequence[Cell], name: str, axes: Sequence[str]) -> bool:
    """Return whether cells with equal values of the axes have the same value of the setting."""
    pairs = {(_at(cell, axes), cell.values.get(name)) for cell in cells}
    return len(pairs) == len({at for at, _ in pairs})


def _at(cell: Cell, axes: Sequence[str]) -> tuple[Value, ...]:
    return tuple(cell.values[axis] for axis in axes)
