"""Claims: trials in a pack leave the same records as when they run alone, even if one of them fails."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from trial_runs import executing, run_trial

from twinbench.harness.monitor.logs import log_lines
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder.leases import LeaseObserver, claim
from twinbench.harness.system import memory
from twinbench.harness.training import batches, pace
from twinbench.harness.trial import execute
from twinbench.harness.trial.execute import Surroundings, train_and_evaluate
from twinbench.harness.trial.packs import packs
from twinbench.harness.trial.worker import NO_MEMORY, run_pack
from twinbench.methods.registry import METHODS
from twinbench.results.attempts import attempt_numbers, last_attempt
from twinbench.results.record import read_record, record_path
from twinbench.sweeps.trial import Trial

Planner = Callable[..., Plan]


@pytest.fixture(scope="module")
def four(tiny_plan: Planner) -> list[Trial]:
    """One trial of each method, all on the same images in the same order."""
    trials = tiny_plan("baselines=false", "seeds=[0]").trials
    return [next(trial for trial in trials if trial.method == method) for method in METHODS]


def _record(folder: Path, trial: Trial) -> dict[str, Any]:
    return read_record(record_path(folder, trial.trial_id))


@pytest.fixture(scope="module")
def alone(four: list[Trial], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The result digest of each trial when it runs alone."""
    folder = tmp_path_factory.mktemp("alone")
    for trial in four:
        assert run_trial(trial, Surroundings(folder)) == "done"
    return _digests(folder, four)


def _digests(folder: Path, trials: list[Trial]) -> dict[str, str]:
    return {trial.trial_id: _record(folder, trial)["result_digest"] for trial in trials}


def test_a_packed_trial_leaves_the_record_of_a_solo_run_in_any_pack(
    four: list[Trial],
    alone: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = []
    draw = batches.draw_parameters
    monkeypatch.setattr(batches, "draw_parameters", lambda *given: made.append(given) or draw(*given))
    assert len({trial.method for trial in four}) == len(METHODS) == 4
    with capfd.disabled():  # capture would prevent the logs
        assert run_pack(four, Surroundings(tmp_path / "pack", keep_log=True)) == ["done"] * 4
    assert _digests(tmp_path / "pack", four) == alone
    assert len(made) == 2 * 2  # two views in each of two epochs, for all four
    for trial in four:
        cost = _record(tmp_path / "pack", trial)["circumstance"]
        assert cost["pack"] == 4 and (cost["shared_seconds"] > 0) == (trial is not four[0])
        assert cost["cuda_graph"] is None  # a CPU has none
        log = "".join(log_lines(tmp_path / "pack", trial.trial_id))
        assert f"at {trial.method} seed 0" in log and "epoch 1, step 5 of 8" in log
        assert not any(f"at {other.method} seed" in log for other in four if other is not trial)


UPDATE_TAKES = {"simclr": 2.0, "byol": 5.0}
BATCH_TAKES = 1.0


@pytest.fixture
def made_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was computed and when a GPU is waited for; each takes the seconds given above. Updates 3 to 6 are timed."""
    made, clock = list[str](), [0.0]

    def taking(name: str, seconds: float, original: Callable[..., Any]) -> Callable[..., Any]:
        def takes(*given: Any, **named: Any) -> Any:
            made.append(name)
            clock[0] += seconds
            return original(*given, **named)

        return takes

    for name, seconds in UPDATE_TAKES.items():
        monkeypatch.setattr(METHODS[name], "loss", taking(name, seconds, METHODS[name].loss))
    monkeypatch.setattr(batches, "make_views", taking("views", BATCH_TAKES, batches.make_views))
    clock_module = SimpleNamespace(perf_counter=lambda: clock[0], monotonic=time.monotonic)
    monkeypatch.setattr(pace, "time", clock_module)
    monkeypatch.setattr(batches, "time", clock_module)
    monkeypatch.setattr(pace, "SOLO", range(2, 6))
    monkeypatch.setattr(pace, "synchronise", lambda device: made.append("wait"))
    return made


@pytest.mark.parametrize("keeps_its_turn", [False, True])
def test_the_solo_time_of_an_update_does_not_depend_on_the_pack(
    four: list[Trial],
    keeps_its_turn: bool,
    made_by: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = [next(trial for trial in four if trial.method == method) for method in UPDATE_TAKES]
    for trial in two:
        assert run_trial(trial, Surroundings(tmp_path / "alone")) == "done"
    made_by.clear()
    train = execute.train  # as for a GPU, or as it is
    monkeypatch.setattr(
        execute,
        "train",
        lambda method, task, *given: train(method, replace(task, keeps_its_turn=keeps_its_turn), *given),
    )
    assert run_pack(two, Surroundings(tmp_path / "pack")) == ["done"] * 2
    plain, waits = "views simclr byol", "views simclr wait byol wait"
    turns = [plain, plain, "wait views simclr wait byol", waits, plain, waits, plain, plain]  # two epochs of four
    if keeps_its_turn:
        own = "wait views {0} views {0} wait views {0} views {0} wait"
        turns = [plain, plain, own.format("simclr"), own.format("byol"), plain, plain]
    assert made_by == " ".join(turns).split()
    for trial in two:
        for folder, pack in (("alone", 1), ("pack", 2)):
            cost = _record(tmp_path / folder, trial)["circumstance"]
            assert cost["solo_step_seconds"] == UPDATE_TAKES[trial.method] + BATCH_TAKES and cost["pack"] == pack
            assert cost["train_seconds"] == 8 * cost["solo_step_seconds"]
    assert _digests(tmp_path / "pack", two) == _digests(tmp_path / "alone", two)


def test_the_solo_time_of_an_update_survives_a_stop_and_is_unknown_after_few_updates(
    four: list[Trial], made_by: list[str], tmp_path: Path
) -> None:
    simclr = next(trial for trial in four if trial.method == "simclr")
    for folder, stops_after, seconds in (("seven", 7, 3.0), ("four", 4, None)):  # of eight, and two of four are warm
        looks = iter(range(1, 100))
        surroundings = Surroundings(tmp_path / folder)
        assert run_trial(simclr, surroundings, lambda looks=looks, n=stops_after: next(looks) == n) == "interrupted"
        assert run_trial(simclr, surroundings) == "done"
        assert _record(tmp_path / folder, simclr)["circumstance"]["solo_step_seconds"] == seconds


def test_the_trials_of_a_stopped_pack_resume_alone_to_the_same_records(
    four: list[Trial], alone: dict[str, str], tmp_path: Path
) -> None:
    looks = iter(range(10**6))
    surroundings = Surroundings(tmp_path / "pack", pack=4)
    assert run_pack(four, surroundings, lambda: next(looks) >= 10) == ["interrupted"] * 4
    assert packs(four, surroundings) == [[trial] for trial in four]
    assert [run_trial(trial, surroundings) for trial in four] == ["done"] * 4
    assert _digests(tmp_path / "pack", four) == alone


def test_a_pack_is_left_to_the_worker_that_holds_its_first_trial(
    four: list[Trial], alone: dict[str, str], tmp_path: Path
) -> None:
    """Otherwise two workers that start at the same moment would divide a pack and make its views twice."""
    surroundings = Surroundings(tmp_path / "pack", pack=4)
    first = claim(surroundings.run_folder, four[0].trial_id, LeaseObserver(60.0), "")
    assert first and run_pack(four, surroundings) == ["taken"] * 4
    assert not any(attempt_numbers(surroundings.run_folder, trial.trial_id) for trial in four[1:])
    first.end("interrupted", "")
    assert run_pack(four, surroundings) == ["done"] * 4
    assert _digests(tmp_path / "pack", four) == alone


def test_a_record_counts_only_the_trials_of_the_pack_that_this_worker_ran(four: list[Trial], tmp_path: Path) -> None:
    surroundings = Surroundings(tmp_path / "pack")
    for trial in four[1:]:
        assert run_trial(trial, surroundings) == "done"
    assert run_pack(four, surroundings) == ["done", *["taken"] * 3]
    cost = _record(surroundings.run_folder, four[0])["circumstance"]
    assert cost["pack"] == 1 and cost["peak_memory_bytes"] > 0


@pytest.mark.slow
def test_after_a_hundred_updates_packed_trials_equal_solo_trials(tiny_plan: Planner, tmp_path: Path) -> None:
    every = tiny_plan("baselines=false", "seeds=[0]", "epochs=25").trials
    four = [next(trial for trial in every if trial.method == method) for method in METHODS]
    for trial in four:
        assert run_trial(trial, Surroundings(tmp_path / "alone")) == "done"
    assert run_pack(four, Surroundings(tmp_path / "pack")) == ["done"] * 4
    assert _digests(tmp_path / "pack", four) == _digests(tmp_path / "alone", four)
    images = _record(tmp_path / "pack", four[0])["circumstance"]["images_seen"]
    assert images / int(four[0].training["batch_size"]) >= 100


def test_a_pack_without_memory_for_one_trial_starts_no_further_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([10, 4, 4, 4])
    monkeypatch.setattr(memory, "available_bytes", lambda device: next(free))
    room = memory.Room(torch.device("cpu"))
    assert [room.has_room_for_another() for _ in range(4)] == [True, False, False, False]


def test_a_pack_that_is_short_of_memory_leaves_its_other_trials_for_later(
    four: list[Trial], alone: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first takes 40 with the dataset, the second 20: a third finds 30, a fourth would find 10."""
    free = iter([90, 50, 30, 10])
    monkeypatch.setattr(memory, "available_bytes", lambda device: next(free))
    surroundings = Surroundings(tmp_path / "pack", pack=4)
    assert run_pack(four, surroundings) == ["done", "done", "done", "interrupted"]
    assert last_attempt(surroundings.run_folder, four[3].trial_id)["reason"] == NO_MEMORY
    monkeypatch.undo()
    assert run_trial(four[3], surroundings) == "done"
    assert _digests(tmp_path / "pack", four) == alone


def _runs_out_on_a_gpu() -> None:
    raise torch.AcceleratorError("CUDA error: out of memory\nfor debugging consider")  # not from torch's allocator


@pytest.mark.parametrize("ends", [_runs_out_on_a_gpu, lambda: torch.empty(2**60)])
def test_a_trial_that_does_not_fit_next_to_its_pack_is_interrupted(
    four: list[Trial], alone: dict[str, str], tmp_path: Path, ends: Callable[[], object]
) -> None:
    calls = itertools.count()

    def runs_out(trial: Trial, *given: Any) -> Any:
        if trial is four[1] and next(calls) == 0:
            ends()
        return (yield from train_and_evaluate(trial, *given))

    surroundings = Surroundings(tmp_path / "pack", pack=4)
    with executing(runs_out):
        assert run_pack(four, surroundings) == ["done", "interrupted", "done", "done"]
    assert run_trial(four[1], surroundings, execute=runs_out) == "done"
    assert _digests(tmp_path / "pack", four) == alone


def test_diverging_and_raising_trials_do_not_affect_the_others(
    four: list[Trial], alone: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    byol, simclr = METHODS["byol"].loss, METHODS["simclr"].loss

    def diverging(self: Any, views: Any, step: Any) -> Any:
        terms = byol(self, views, step)
        return type(terms)(terms.total * float("nan"), terms.parts) if step.step == 5 else terms

    def raising(self: Any, views: Any, step: Any) -> Any:
        if step.step == 3:
            raise RuntimeError("on fire")
        return simclr(self, views, step)

    monkeypatch.setattr(METHODS["byol"], "loss", diverging)
    monkeypatch.setattr(METHODS["simclr"], "loss", raising)
    statuses = dict(zip([t.method for t in four], run_pack(four, Surroundings(tmp_path / "pack")), strict=True))
    assert statuses == {"barlow_twins": "done", "byol": "diverged", "simclr": "failed", "vicreg": "done"}
    untouched = [trial for trial in four if statuses[trial.method] == "done"]
    assert _digests(tmp_path / "pack", untouched) == {trial.trial_id: alone[trial.trial_id] for trial in untouched}


def test_a_full_disk_interrupts_all_trials_of_a_pack(
    four: list[Trial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, views: Any, step: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(METHODS["byol"], "loss", full)
    with pytest.raises(Exception, match="No space left on device"):
        run_pack(four, Surroundings(tmp_path))
    monkeypatch.undo()
    assert not list((tmp_path / "records").glob("*.json"))
    assert len(list((tmp_path / "trials").rglob("state.pt"))) == 3


def test_packs_hold_unstarted_trials_that_see_the_same_views(tiny_plan: Planner, tmp_path: Path) -> None:
    trials = tiny_plan("seeds=[0, 1]").trials
    made = packs(trials, Surroundings(tmp_path, pack=3))
    assert sorted(t.trial_id for pack in made for t in pack) == sorted(t.trial_id for t in trials)
    for pack in made:
        assert len(pack) <= 3 and len({(t.seed, t.training.get("batch_size")) for t in pack}) == 1
        assert len(pack) == 1 or all(t.training for t in pack)
    trained = [trial for trial in trials if trial.training and trial.seed == 0]
    assert any(len(pack) == 3 for pack in made)
    assert claim(tmp_path, trained[0].trial_id, LeaseObserver()) is not None
    assert [trained[0]] in packs(trials, Surroundings(tmp_path, pack=3))
    assert packs(trials, Surroundings(tmp_path)) == [[trial] for trial in trials]


def test_two_workers_share_a_sweep_pack_by_pack(tiny_plan: Planner, four: list[Trial], tmp_path: Path) -> None:
    surroundings = Surroundings(tmp_path, pack=4)
    assert claim(tmp_path, four[1].trial_id, LeaseObserver()) is not None  # by this process, which is alive
    assert run_pack(four, surroundings) == ["done", "taken", "done", "done"]
