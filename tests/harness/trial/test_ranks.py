"""Claims: ranks that share a trial's batches leave the record of one rank; a lost rank ends only the attempt."""

import json
import math
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rank_faults
import torch
import torch.distributed as dist
from launching import wait_until
from trial_runs import run_trial

from twinbench.harness.planning import Plan
from twinbench.harness.trial import execute, ranks
from twinbench.harness.trial.execute import Surroundings
from twinbench.results.attempts import read_attempt, trial_folder
from twinbench.results.record import read_artefact, read_record, record_path
from twinbench.sweeps.trial import Trial

Planner = Callable[..., Plan]
pytestmark = pytest.mark.slow  # a process that imports torch takes seconds to start


@pytest.fixture(scope="module", autouse=True)
def _processes_end() -> Iterator[None]:
    """One second rank serves all these tests, unless one of them kills it."""
    yield
    ranks.close_other_ranks()


@pytest.fixture
def trial(tiny_plan: Planner) -> Trial:
    """Two epochs of four steps of BYOL, which has batch norm and a target network that follows each update."""
    (found,) = tiny_plan("methods=byol", "baselines=false").trials
    return found


def two_ranks(folder: Path) -> Surroundings:
    return Surroundings(folder, processes=2)


def record_of(folder: Path, trial: Trial) -> dict[str, Any]:
    return read_record(record_path(folder, trial.trial_id))


def series_of(folder: Path, trial: Trial) -> dict[str, list[float]]:
    """The curves, without the epochs at which they were not measured."""
    curves: dict[str, Any] = json.loads(read_artefact(folder, record_of(folder, trial)["result"]["curves"]))
    series: dict[str, list[float | None]] = curves["series"]
    return {name: [value for value in values if value is not None] for name, values in series.items()}


@pytest.fixture(scope="module")
def _whole_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def whole(_whole_folder: Path, trial: Trial) -> Path:
    """The run folder with the undisturbed record of two ranks."""
    assert run_trial(trial, two_ranks(_whole_folder)) in ("done", "taken")
    return _whole_folder


def only_other_rank() -> int:
    """The process of rank 1."""
    (child,) = multiprocessing.active_children()
    assert child.pid is not None
    return child.pid


def test_two_ranks_leave_the_record_of_one(tiny_plan: Planner, tmp_path: Path) -> None:
    """The losses to 1e-4 of them, the rest to 5e-3: ranks take sums in another order, and training amplifies that.

    Weights that begin 1e-7 of themselves apart end as far apart as this on one rank, and a hundred times as far at
    the protocol's own learning rate: hence a tenth of it, and eight steps. Ranks whose gradients are wrong are further.
    """
    (gentle,) = tiny_plan("methods=byol", "baselines=false", "learning_rate=0.01").trials
    for name, count in (("one", 1), ("two", 2)):
        assert run_trial(gentle, Surroundings(tmp_path / name, processes=count)) == "done"
    one, two = record_of(tmp_path / "one", gentle), record_of(tmp_path / "two", gentle)
    assert (one["circumstance"]["ranks"], two["circumstance"]["ranks"]) == (1, 2)
    assert one["circumstance"]["images_seen"] == two["circumstance"]["images_seen"] == 8 * 256
    assert one["result"]["trial"] == two["result"]["trial"]
    series_of_one, series_of_two = series_of(tmp_path / "one", gentle), series_of(tmp_path / "two", gentle)
    assert list(series_of_one) == list(series_of_two)
    for name, values in series_of_one.items():
        tolerance = 1e-4 if name.startswith("loss") else 5e-3
        images = 0.01 if name == "validation/knn_top1" else 0.0  # two images may be classified differently
        assert series_of_two[name] == pytest.approx(values, rel=tolerance, abs=images), name
    for expected, metric in zip(one["result"]["metrics"], two["result"]["metrics"], strict=True):
        assert (metric["name"], metric["split"]) == (expected["name"], expected["split"])
        assert math.isclose(metric["value"], expected["value"], abs_tol=0.02)


def test_ranks_see_disjoint_images_that_together_are_the_batch(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(execute, "other_rank", rank_faults.noting)
    for name, count in (("one", 1), ("two", 2)):
        end = rank_faults.note_ids(tmp_path / name, "first")
        try:
            assert run_trial(trial, Surroundings(tmp_path / name, processes=count)) == "done"
        finally:
            end()
    alone = json.loads((tmp_path / "one" / "first.json").read_text())
    first = json.loads((tmp_path / "two" / "first.json").read_text())
    second = json.loads((tmp_path / "two" / f"{only_other_rank()}.json").read_text())
    assert len(alone) == len(first) == len(second) == 8
    for batch, mine, theirs in zip(alone, first, second, strict=True):
        assert mine["images"] == theirs["images"] == 128
        assert not set(mine["ids"]) & set(theirs["ids"])
        assert mine["ids"] + theirs["ids"] == batch["ids"]


def test_the_rendezvous_folder_exists_until_all_ranks_have_left_the_group(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank reads it when it leaves the group, and without it would wait for half an hour."""
    monkeypatch.setattr(execute, "other_rank", rank_faults.leaving_late)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run_trial(trial, two_ranks(tmp_path)) == "done"
    wait_until((tmp_path / "late.json").exists, "the other rank does not leave", 10)
    assert len(json.loads((tmp_path / "late.json").read_text())) == 1


def test_two_ranks_that_are_stopped_and_resumed_leave_the_same_record(
    trial: Trial, whole: Path, tmp_path: Path
) -> None:
    statuses = []
    for stop_after in (3, 3, 100):
        calls = iter(range(1, 100))
        statuses.append(run_trial(trial, two_ranks(tmp_path), lambda: next(calls) == stop_after))  # noqa: B023
    assert statuses == ["interrupted", "interrupted", "done"]
    digests = [record_of(folder, trial)["result_digest"] for folder in (whole, tmp_path)]
    assert digests[0] == digests[1]


def test_two_ranks_agree_to_start_anew_from_a_damaged_state(trial: Trial, whole: Path, tmp_path: Path) -> None:
    calls = iter(range(1, 100))
    assert run_trial(trial, two_ranks(tmp_path), lambda: next(calls) == 3) == "interrupted"
    state = trial_folder(tmp_path, trial.trial_id) / "state.pt"
    state.write_bytes(state.read_bytes()[:-1000])
    assert run_trial(trial, two_ranks(tmp_path)) == "done"
    assert read_attempt(tmp_path, trial.trial_id, 2)["from_step"] == 0
    digests = [record_of(folder, trial)["result_digest"] for folder in (whole, tmp_path)]
    assert digests[0] == digests[1]


def test_a_killed_rank_ends_the_attempt_and_the_next_attempt_resumes(trial: Trial, whole: Path, tmp_path: Path) -> None:
    before, calls, killed_at = only_other_rank(), iter(range(1, 100)), 0.0

    def kill_at_step_6() -> bool:
        nonlocal killed_at
        if next(calls) == 6:
            os.kill(only_other_rank(), signal.SIGKILL)
            killed_at = time.monotonic()
        return False

    assert run_trial(trial, two_ranks(tmp_path), kill_at_step_6) == "interrupted"
    assert time.monotonic() - killed_at < 10
    assert not dist.is_initialized() and not multiprocessing.active_children()
    assert not record_path(tmp_path, trial.trial_id).exists()
    attempt = read_attempt(tmp_path, trial.trial_id, 1)
    assert (attempt["status"], attempt["reason"]) == ("died", "rank 1 died (signal SIGKILL)")

    assert run_trial(trial, two_ranks(tmp_path)) == "done"
    assert only_other_rank() != before
    assert read_attempt(tmp_path, trial.trial_id, 2)["from_step"] == 4  # four steps an epoch
    digests = [record_of(folder, trial)["result_digest"] for folder in (whole, tmp_path)]
    assert digests[0] == digests[1]


def test_a_trial_that_kills_its_ranks_ends_as_failed(trial: Trial, tmp_path: Path) -> None:
    def kill() -> bool:
        for rank in multiprocessing.active_children():  # none when this is called again, to ask whether to stop
            rank.kill()
        return False

    statuses = [run_trial(trial, two_ranks(tmp_path), kill) for _ in range(4)]
    assert statuses == ["interrupted"] * 3 + ["failed"]
    assert "died 3 times in a row" in record_of(tmp_path, trial)["result"]["reason"]


@pytest.mark.parametrize(
    ("fault", "reason", "place"),
    [
        (rank_faults.raising, "MemoryError: this rank has too little of it", "in run_and_raise"),
        (rank_faults.raising_early, "FileNotFoundError: no data here", "in raising_early"),
    ],
)
def test_an_error_of_another_rank_is_recorded_with_its_traceback(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any, reason: str, place: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(execute, "other_rank", fault)
        assert run_trial(trial, two_ranks(tmp_path)) == "failed"
    record = record_of(tmp_path, trial)
    assert record["result"]["reason"] == f"RankFailed: rank 1 raised {reason}"
    assert reason in record["circumstance"]["traceback"] and place in record["circumstance"]["traceback"]
    assert not dist.is_initialized() and not multiprocessing.active_children()


def test_an_error_of_rank_0_is_recorded_as_its_own(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other ranks fail because of it, but are not the cause."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("cannot measure")

    monkeypatch.setattr(execute.Evaluator, "diagnose", broken)
    assert run_trial(trial, two_ranks(tmp_path)) == "failed"
    assert record_of(tmp_path, trial)["result"]["reason"] == "RuntimeError: cannot measure"
    assert not dist.is_initialized() and not multiprocessing.active_children()


def test_ranks_diverge_together_and_their_processes_are_kept(trial: Trial, tmp_path: Path) -> None:
    wild = replace(trial, training=trial.training | {"learning_rate": 1e30})
    assert run_trial(wild, two_ranks(tmp_path / "wild")) == "diverged"
    before = only_other_rank()
    assert run_trial(trial, two_ranks(tmp_path / "tame"), lambda: True) == "interrupted"
    assert only_other_rank() == before


def test_a_batch_size_that_ranks_cannot_share_equally_is_refused(trial: Trial, tmp_path: Path) -> None:
    assert run_trial(trial, Surroundings(tmp_path, processes=3)) == "failed"
    assert "3 ranks cannot share a batch of 256" in record_of(tmp_path, trial)["result"]["reason"]


def test_more_ranks_than_gpus_are_refused() -> None:
    with pytest.raises(ValueError, match="one each"):
        ranks.device_of(0, torch.device("cuda"), 1000)
    with pytest.raises(ValueError, match="not mps"):
        ranks.device_of(0, torch.device("mps"), 2)


def test_one_rank_starts_no_process_and_no_process_group(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("several ranks")

    monkeypatch.setattr(dist, "init_process_group", never)
    monkeypatch.setattr(execute, "other_ranks", never)
    assert run_trial(trial, Surroundings(tmp_path)) == "done"
    assert record_of(tmp_path, trial)["circumstance"]["ranks"] == 1
