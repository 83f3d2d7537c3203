"""Claims: intervals of a chosen cell cover its mean in 95 % on fresh seeds, and in fewer on the seeds that chose it.

The sweeps are made here: cells of equal true accuracy, whose validation and test accuracies at a seed correlate by 0.8.
"""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from twinbench.reports.tables.cells import REPORTED_ON, SELECTED_BY, Cell, Measured, Section

CELLS, SEEDS, CORRELATION = 20, 5, 0.8
TRUTH, SPREAD = 0.6, 0.01
LINEAR = SELECTED_BY[0]
pytestmark = pytest.mark.slow


def _sections(sweeps: int, seed: int) -> Iterator[Section]:
    """Sections of one method whose cells ran on the seeds of a grid and of a confirm stage."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(2, sweeps, CELLS, 2 * SEEDS))
    validation, test = shared[0], CORRELATION * shared[0] + np.sqrt(1 - CORRELATION**2) * shared[1]
    for of_sweep in zip(TRUTH + SPREAD * validation, TRUTH + SPREAD * test, strict=True):
        cells = tuple(_cell(number, *of_cell) for number, of_cell in enumerate(zip(*of_sweep, strict=True)))
        yield Section("p", 1, "0" * 64, "f", {}, (), cells, confirm_seeds=tuple(range(SEEDS, 2 * SEEDS)))


def _cell(number: int, validation: NDArray[np.float64], test: NDArray[np.float64]) -> Cell:
    """The cell with half of the seeds in the grid, and half in the confirm stage."""

    def part(start: int, confirmed: Cell | None = None) -> Cell:
        seeds = range(start, start + SEEDS)
        measured = {
            (LINEAR, split): tuple(Measured(seed, float(values[seed]), "v") for seed in seeds)
            for split, values in ((SELECTED_BY[1], validation), (REPORTED_ON, test))
        }
        return Cell(f"{number:016x}", "a", "a", {}, (), measured, confirmed=confirmed, confirms=start > 0)

    return part(0, part(SEEDS))


def _covered(cells: list[Cell]) -> float:
    intervals = [cell.interval(LINEAR) for cell in cells]
    return float(np.mean([abs(one.mean - TRUTH) <= one.half_width for one in intervals if one and one.half_width]))


def test_the_interval_of_a_chosen_cell_covers_its_mean_on_seeds_that_did_not_choose_it() -> None:
    sections = list(_sections(sweeps=1000, seed=20_261_201))
    # 1,000 sweeps leave a standard error of 0.7 points at 95 %.
    assert _covered([section.reported["a"] for section in sections]) == pytest.approx(0.95, abs=0.02)


def test_the_interval_of_a_chosen_cell_covers_its_mean_less_often_on_the_seeds_that_chose_it() -> None:
    sections = list(_sections(sweeps=1000, seed=20_261_202))
    assert 0.76 < _covered([section.chosen["a"] for section in sections]) < 0.89
