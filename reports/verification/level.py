"""The result of one level of verification."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from twinbench.sweeps.errors import printable, shortened

LONGEST = 1000  # characters of one fault or note
LONGEST_NAME = 200
MOST = 100  # faults that are shown of a level, and notes


@dataclass(frozen=True)
class Level:
    """What one level of verification found: its faults, and notes for the reader that are no faults."""

    name: str
    outcome: Literal["passed", "failed", "not run"]
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def judged(name: str, faults: Iterable[str], notes: Iterable[str]) -> Level:
    """Return the level, failed where there is any fault, with texts that are safe to print on a terminal."""
    shown = _shown(faults)
    return Level(name, "failed" if shown else "passed", shown, _shown(notes))


def _shown(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the first MOST texts, printable, and how many more there are."""
    left = iter(texts)
    shown = [printable(shortened(text, LONGEST)) for text in islice(left, MOST)]
    more = sum(1 for _ in left)
    return (*shown, f"and {more:,} more") if more else tuple(shown)


def not_run(name: str, reason: str) -> Level:
    """Return a level that could not be run."""
    return Level(name, "not run", (), (printable(shortened(reason, LONGEST)),))


def some(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are."""
    few = ", ".join(shortened(name, LONGEST_NAME) for name in names[:5])
    return few if len(names) <= 5 else f"{few} and {len(names) - 5} more"
