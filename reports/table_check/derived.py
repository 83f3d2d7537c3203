"""Averages and differences of the numbers of a table, which no record holds: computed from the recorded ones."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from twinbench.reports.table_check.checked_number import Verdict
from twinbench.reports.table_check.lookups import Lookup
from twinbench.reports.table_check.numbers import PrintedNumber, as_fraction, off_by
from twinbench.reports.table_check.reader import PrintedTable

Position = tuple[int, int]  # row and column


class Entry(NamedTuple):
    """A value of the table: as printed, and as recorded in the printed unit if a record matches its labels."""

    printed: Fraction
    recorded: Fraction | None
    is_traced: bool


class Derived(NamedTuple):
    """The verdict on a derived number. `correct`: what it should be, if that is known."""

    verdict: Verdict
    reason: str
    correct: float | None = None


def judge_derived(lookup: Lookup, entries: Mapping[Position, Entry], table: PrintedTable) -> Derived:
    """Return the verdict on an average or a difference of entries that stand before it."""
    operands = [at for at in lookup.operands if at in entries]
    if lookup.derived == "average":
        return _average(lookup.number, [[entries[at] for at in one] for one in _groups(operands, table)])
    return _difference(lookup, operands, entries)


def _groups(operands: Sequence[Position], table: PrintedTable) -> Iterator[list[Position]]:
    """Yield the operands that an average may be over: those of the last heading, then all."""
    if operands and operands[0][1] == operands[-1][1]:
        group = table.rows[operands[-1][0]].group
        yield [at for at in operands if table.rows[at[0]].group == group]
    yield list(operands)


def _average(number: PrintedNumber, groups: Sequence[Sequence[Entry]]) -> Derived:
    expected = None
    for entries in groups:
        recorded = [one.recorded for one in entries if one.recorded is not None]
        if len(entries) < 2 or len(recorded) < len(entries):
            continue
        expected = float(sum(recorded) / len(recorded))
        all_traced = all(one.is_traced for one in entries)
        of_printed = float(sum(one.printed for one in entries) / len(entries))
        if off_by(number, expected, 1) == 0 or (all_traced and off_by(number, of_printed, 1) == 0):
            return Derived("traced", f"is the average of {len(entries)} recorded numbers of the table")
    if expected is None:
        return Derived("untraceable", "is an average of numbers of the table that are not all recorded")
    return Derived("wrong", "is not the average of the recorded numbers before it", expected)


def _difference(lookup: Lookup, operands: Sequence[Position], entries: Mapping[Position, Entry]) -> Derived:
    """Judge a difference: of the number before it in its cell, or of the last operand, to the first or the next."""
    *others, minuend = operands or [(-1, -1)]
    has_sign = lookup.number.role == "difference"
    for subtrahend in dict.fromkeys([*others[:1], *others[-1:]]):
        first, second = entries[minuend], entries[subtrahend]
        if first.recorded is None or second.recorded is None:
            continue
        differences = [first.recorded - second.recorded]
        differences += [first.printed - second.printed] if first.is_traced and second.is_traced else []
        differences += [] if has_sign else [-one for one in differences]
        if any(off_by(lookup.number, float(one), 1) == 0 for one in differences):
            return Derived("traced", "is the difference of two recorded numbers of the table")
    recorded = [entries[at].recorded for at in operands]
    if len(recorded) == 2 and None not in recorded:
        return Derived("wrong", "is not the difference of the two recorded numbers before it")
    return Derived("untraceable", "is not the difference to the first number, nor to the one before it")


def entry(lookup: Lookup, exact: float | None, scale: int, is_traced: bool) -> Entry:
    """Return the entry of a value that was compared with `exact`, which the table prints times `scale`."""
    recorded = None if exact is None else as_fraction(exact) * scale
    return Entry(Fraction(lookup.number.value), recorded, is_traced)
