"""A sweep small enough to run in seconds, on the real digits."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from launching import FEW_TRIALS, ONE_TRIAL, Twinbench, end_well

from twinbench.harness.planning import Plan
from twinbench.harness.running import make_plan

TINY = ("seeds=[0]", "epochs=2", "batch_size=256", "projector_width=16")


@pytest.fixture(scope="session")
def dataset_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One decoded copy of the data for all tests of a session; the user's own cache stays as it is."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Twinbench:
    """The runs `one` of ONE_TRIAL and `few` of FEW_TRIALS, on this machine alone."""
    twinbench = Twinbench(tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("cache"))
    for run in [twinbench.start_run("one", ONE_TRIAL), twinbench.start_run("few", FEW_TRIALS)]:  # each of one core
        end_well(run)
    return twinbench


@pytest.fixture(scope="module")
def here(undisturbed: Twinbench, tmp_path_factory: pytest.TempPathFactory) -> Twinbench:
    """The command line on this machine, in a folder of the test module's own that holds the undisturbed runs."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(undisturbed.folder, folder, dirs_exist_ok=True)
    return dataclasses.replace(undisturbed, folder=folder)


@pytest.fixture
def tiny_plan(dataset_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """`tiny_plan("methods=simclr", ...)` plans the shipped digits sweep with these changes on top of the tiny ones."""
    monkeypatch.setenv("TWINBENCH_CACHE", str(dataset_cache))

    def make(*changes: str) -> Plan:
        return make_plan("digits", (*TINY, *changes), None)

    return make
