"""A sweep small enough to run in seconds, on the real digits."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from launching import FEW_TRIALS, ONE_TRIAL, Twinbench, end_well, last_of_each

from twinbench.harness.planning import Plan, make_plan

TINY = ("seeds=[0]", "confirm.seeds=[]", "epochs=2", "batch_size=256", "projector_width=16")


@pytest.fixture(scope="session", autouse=True)
def dataset_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One decoded copy of the data for all tests of a session; the user's own cache stays as it is."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINBENCH_CACHE", str(cache))
        yield cache


@pytest.fixture(scope="session")
def undisturbed(dataset_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Twinbench:
    """The runs `one` of ONE_TRIAL and `few` of FEW_TRIALS, on this machine alone."""
    twinbench = Twinbench(tmp_path_factory.mktemp("undisturbed"), dataset_cache)
    for run in [twinbench.start_run("one", ONE_TRIAL), twinbench.start_run("few", FEW_TRIALS)]:  # each of one core
        end_well(run)
    return twinbench


@pytest.fixture(scope="module")
def here(undisturbed: Twinbench, tmp_path_factory: pytest.TempPathFactory) -> Twinbench:
    """The command line on this machine, in a folder of the test module's own that holds the undisturbed runs."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(undisturbed.folder, folder, dirs_exist_ok=True)
    return dataclasses.replace(undisturbed, folder=folder)


@pytest.fixture(scope="session")
def tiny_plan() -> Callable[..., Plan]:
    """`tiny_plan("methods=simclr", ...)` plans the shipped digits sweep with these changes on top of the tiny ones."""
    return lambda *changes: make_plan("digits", last_of_each((*TINY, *changes)), None)
