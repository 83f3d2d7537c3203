"""Claims: a pool replaces workers that die, and gives up a device on which they die as they start."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from twinbench.harness.launchers import worker_pool
from twinbench.harness.launchers.launcher import CannotStart
from twinbench.harness.launchers.worker_pool import WorkerPool
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder.layout import (
    write_plan,
)
from twinbench.harness.trial.execute import Surroundings
from twinbench.results.record import record_files

Planner = Callable[..., Plan]


@pytest.mark.slow
def test_a_device_that_cannot_compute_is_given_up_and_the_other_devices_do_its_work(
    tiny_plan: Planner, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "FAILED_STARTS_ALLOWED", 1)
    planned = tiny_plan("methods=simclr", "baselines=false")
    write_plan(tmp_path, planned)
    nowhere = "cuda:99"
    with pytest.raises(CannotStart, match="in a row ended as they started on cuda:99"):
        WorkerPool(Surroundings(tmp_path), 1, [nowhere]).run(lambda: False)
    assert not list(tmp_path.glob("trials/*")) and "cuda:99 cannot be used" in capfd.readouterr().err
    WorkerPool(Surroundings(tmp_path), 2, [nowhere, "cpu"], stay=False).run(lambda: False)
    assert len(record_files(tmp_path)) == len(planned.trials)


def test_a_worker_that_was_ready_is_replaced_even_if_others_failed_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = WorkerPool(Surroundings(tmp_path), 2, ["cpu"])
    started: list[str] = []
    ended = SimpleNamespace(is_alive=lambda: False, join=lambda: None, exitcode=-signal.SIGKILL)
    silent = SimpleNamespace(poll=lambda: False, close=lambda: None)
    monkeypatch.setattr(pool, "_start", lambda device: started.append(device))
    pool._failed_starts["cpu"] = worker_pool.FAILED_STARTS_ALLOWED
    pool._workers = [worker_pool._Worker(ended, silent, "cpu", is_ready=True)]  # type: ignore[arg-type]
    pool._replace_ended()
    assert started == ["cpu"]
