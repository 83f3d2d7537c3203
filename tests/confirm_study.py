"""A made-up study with a confirm stage: three cells of one method, one of another, and seeds that selected nothing."""

from pathlib import Path

from claim_study import PROTOCOL, Study, shift

from twinbench.sweeps.sweep import read_protocol
from twinbench.sweeps.trial import Trial

GRID_SEEDS, CONFIRM_SEEDS = (0, 1, 2), (10, 11, 12, 13)
# Accuracy on validation and on test by temperature: validation chooses 0.2, whose seeds of the grid are lucky on test.
CELLS = {0.1: (0.60, 0.58), 0.2: (0.64, 0.66), 0.5: (0.62, 0.61)}
LUCK = 0.04


def confirm_study(folder: Path, is_confirmed: bool = True) -> Study:
    """Return a run folder whose grid is complete, with the confirm stage recorded too or not yet planned.

    The chosen cell is as much worse on the confirm seeds as LUCK.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = Study(folder, read_protocol(PROTOCOL).carried, confirm_seeds=CONFIRM_SEEDS)
    study.add(study.trial("raw_pixels"), 0.38)
    for seed in GRID_SEEDS:
        study.add(study.trial("untrained", seed), 0.42 + shift(seed))
        study.add(study.trial("byol", seed), 0.60 + shift(seed))
        for temperature, (validation, test) in CELLS.items():
            study.add(of_simclr(study, temperature, seed), test + shift(seed), validation=validation)
    study.write_plan()
    if is_confirmed:
        record_confirm_stage(study)
    return study


def record_confirm_stage(study: Study) -> None:
    """Plan and record the confirm stage."""
    for seed in CONFIRM_SEEDS:
        study.add(study.trial("untrained", seed), 0.42 + shift(seed))
        study.add(study.trial("byol", seed), 0.60 + shift(seed))
        study.add(of_simclr(study, 0.2, seed), CELLS[0.2][1] - LUCK + shift(seed))
    study.write_plan()


def of_simclr(study: Study, temperature: float, seed: int) -> Trial:
    """Return a trial of SimCLR at that temperature."""
    return study.trial("simclr", seed, {"temperature": temperature})
