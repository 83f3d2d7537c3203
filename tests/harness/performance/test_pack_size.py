"""Claims: packs are chosen so that the workers finish first, and what was measured once is not measured again."""

import io
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from launching import wait_until
from rich.console import Console

from twinbench.harness.launchers import local
from twinbench.harness.launchers.launcher import LaunchOptions
from twinbench.harness.launchers.local import LocalLauncher
from twinbench.harness.monitor.progress_bars import ProgressBars
from twinbench.harness.performance import pack_size
from twinbench.harness.performance.measurements import (
    PackSeconds,
    pack_shape_of,
    packs_file,
    store_packs,
    stored_packs,
    this_machine,
)
from twinbench.harness.performance.pack_size import (
    best_pack,
    measured_packs,
    seconds_in_packs,
    with_best_pack,
    with_best_threads,
)
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder.layout import write_plan
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.packs import pack_keys
from twinbench.results.record import read_record, record_files
from twinbench.sweeps.trial import Trial

Planner = Callable[..., Plan]
HERE = this_machine("cpu", 1)


@pytest.fixture
def twelve(tiny_plan: Planner) -> list[Trial]:
    """Three seeds of four trials."""
    trials = tiny_plan("baselines=false", "seeds=[0, 1, 2]").trials
    return [trial for seed in range(3) for trial in [trial for trial in trials if trial.seed == seed][:4]]


@pytest.mark.parametrize(
    ("workers", "most", "seconds", "expected"),
    [
        (1, 4, None, 4),
        (2, 4, None, 2),  # two ends after 6 steps, four (4 + 4, 4) after 8, three (3, 1, 3, 1, 3, 1) after 7
        (3, 4, None, 4),
        (2, 1, None, 1),
        (2, 4, {1: 1.0, 4: 0.5}, 4),  # 8 x .5 = 4, where two end after 6 x .83 = 5
        (2, 4, {1: 1.0, 2: 1.2, 4: 2.0}, 1),
        (1, 16, {1: 1.0, 2: 0.8}, 2),  # a size that was not measured for want of memory is not chosen
        (1, 4, {1: 1.0, 2: 0.98, 4: 1.0}, 4),  # a measurement does not resolve 2 %
        (1, 4, {1: 1.0, 2: 0.95, 4: 1.0}, 2),
    ],
)
def test_the_pack_is_the_one_with_which_the_workers_finish_first(
    twelve: list[Trial], tmp_path: Path, workers: int, most: int, seconds: dict[int, float] | None, expected: int
) -> None:
    assert len(twelve) == 12
    assert best_pack(pack_keys(twelve, tmp_path), most, workers, seconds)[0] == expected


def test_counted_durations_are_compared_exactly_and_measured_ones_with_a_tolerance(
    twelve: list[Trial], tmp_path: Path
) -> None:
    many = pack_keys([twelve[0]] * 67, tmp_path)
    assert best_pack(many, 4, 2) == (3, 34)  # by fours after 35
    assert best_pack(many, 4, 2, {1: 1.0, 4: 1.0}) == (4, 34)


def _with_views(trial: Trial, views: list[dict[str, Any]]) -> dict[str, Any]:
    return {**trial.protocol, "content": {**trial.protocol["content"], "views": views}}


def test_a_shape_is_measured_once_on_a_machine(
    twelve: list[Trial], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path))
    messages: list[str] = []
    for machine in (HERE, replace(HERE, threads=2)):
        assert stored_packs(machine) == ()
    trial = twelve[0]
    batch_size = trial.training["batch_size"]
    store_packs(HERE, PackSeconds(pack_shape_of(trial, 8), batch_size, 1, 2, {1: 0.5, 2: 0.25}))
    store_packs(HERE, PackSeconds(pack_shape_of(trial, 8), batch_size, 2, 4, {1: 0.7}))
    store_packs(HERE, PackSeconds(pack_shape_of(trial, 32), batch_size, 1, 4, {1: 4.0}))
    store_packs(HERE, PackSeconds(pack_shape_of(trial, 32), batch_size, 1, 4, {1: 5.0}))
    assert seconds_in_packs(trial, 8, "cpu", 1, 2, messages.append) == {1: 0.5, 2: 0.25}
    assert seconds_in_packs(trial, 8, "cpu", 1, 4, messages.append, processes=2) == {1: 0.7}
    assert seconds_in_packs(trial, 32, "cpu", 1, 1, messages.append) == {1: 5.0}
    assert messages == [] and stored_packs(replace(HERE, threads=2)) == ()
    monkeypatch.setattr(pack_size, "measured_concurrently", lambda *given: {1: 0.5, 2: 0.4, 4: 0.3})
    for _ in range(2):  # packs of four were not measured before
        assert seconds_in_packs(trial, 8, "cpu", 1, 4, messages.append) == {1: 0.5, 2: 0.4, 4: 0.3}
    assert len(messages) == 1
    for changes in ({"training": {**trial.training, "optimizer": "lars"}}, {"protocol": _with_views(trial, [{}])}):
        assert seconds_in_packs(replace(trial, **changes), 8, "cpu", 1, 2, messages.append) == {1: 0.5, 2: 0.4, 4: 0.3}
    assert len(messages) == 3  # another optimiser and other views change what a pack costs
    packs_file(HERE).write_text("{")
    assert stored_packs(HERE) == ()


def test_the_most_common_shape_is_measured_and_a_pack_of_one_measures_nothing(
    twelve: list[Trial], tmp_path: Path
) -> None:
    rare = replace(twelve[0], training={**twelve[0].training, "batch_size": 7})
    untrained = replace(twelve[0], method="untrained", training={})
    measured, messages = list[Trial](), list[str]()

    def measure(trial: Trial, threads: int, most: int) -> dict[int, float]:
        measured.append(trial)
        assert most == 4  # of six that are alike, and then of three
        return {1: 1.0, 2: 0.4, 4: 0.9}

    todo = [untrained, rare, *twelve]
    packed = with_best_pack(Surroundings(tmp_path, pack=4), todo, 2, measure, messages.append)
    assert packed == Surroundings(tmp_path, pack=2) and "2 trials" in messages[0]
    assert [trial.training["batch_size"] for trial in measured] == [twelve[0].training["batch_size"]]
    assert with_best_pack(Surroundings(tmp_path), todo, 2, measure, messages.append) == Surroundings(tmp_path)
    assert with_best_pack(Surroundings(tmp_path, pack=4), [untrained, untrained], 2, measure, messages.append).pack == 1
    assert with_best_pack(Surroundings(tmp_path, pack=4), twelve[:1], 2, measure, messages.append).pack == 1
    assert len(measured) == 1


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        (4, 1),  # 1.0 by four workers; 2 x .6 by two; 4 x .4 by one
        (2, 2),  # 1.0, .6, 2 x .4
        (1, 4),  # 1.0, .6, .4
    ],
)
def test_the_number_of_threads_is_the_one_with_which_the_sweep_finishes_first(
    twelve: list[Trial], tmp_path: Path, trials: int, expected: int
) -> None:
    messages, measured = list[str](), list[int]()

    def measure(trial: Trial, threads: int, most: int) -> dict[int, float]:
        measured.append(threads)
        assert most == 1
        return {1: {1: 1.0, 2: 0.6, 4: 0.4}[threads], 2: 0.1}

    fitted = with_best_threads(
        Surroundings(tmp_path), twelve[:trials], 5, lambda threads: min(trials, 4 // threads), measure, messages.append
    )
    assert fitted == Surroundings(tmp_path, threads=expected) and measured == [1, 2, 4]
    assert messages == [f"{expected} thread{'s' * (expected > 1)} per trial, with which the sweep ends soonest"]


def test_threads_that_gain_nothing_or_cannot_be_measured_are_not_taken(twelve: list[Trial], tmp_path: Path) -> None:
    def measure(trial: Trial, threads: int, most: int) -> dict[int, float]:
        if threads == 4:
            raise BrokenProcessPool("a process died")
        return {1: 1.0 - 0.004 * threads}

    messages = list[str]()
    fitted = with_best_threads(Surroundings(tmp_path), twelve[:1], 4, lambda threads: 1, measure, messages.append)
    assert fitted.threads == 1 and messages[0] == "4 threads per trial could not be measured: a process died"

    def dies(trial: Trial, threads: int, most: int) -> dict[int, float]:
        raise BrokenProcessPool("a process died")

    messages.clear()
    as_asked = Surroundings(tmp_path, threads=2)
    assert with_best_threads(as_asked, twelve[:1], 2, lambda threads: 1, dies, messages.append) == as_asked
    assert [line.partition(":")[0][2:] for line in messages] == [
        "thread per trial could not be measured",
        "threads per trial could not be measured",
    ]
    untrained = replace(twelve[0], method="untrained", training={})
    unchanged = with_best_threads(Surroundings(tmp_path), [untrained], 4, lambda threads: 1, measure, messages.append)
    assert unchanged.threads == 1


def test_trials_run_alone_where_packs_cannot_be_measured(twelve: list[Trial], tmp_path: Path) -> None:
    messages = list[str]()

    def dies(trial: Trial, threads: int, most: int) -> dict[int, float]:
        raise BrokenProcessPool("a process died")

    assert with_best_pack(Surroundings(tmp_path, pack=4), twelve, 2, dies, messages.append).pack == 1
    assert messages[0] == "packs could not be measured: a process died"


def test_nothing_is_stored_if_there_was_no_memory_to_measure(
    twelve: list[Trial], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(pack_size, "ProcessPoolExecutor", lambda *given: ThreadPoolExecutor(1))
    monkeypatch.setattr(pack_size, "measured_packs", lambda *given: {})
    with pytest.raises(RuntimeError, match="no memory for one trial"):
        seconds_in_packs(twelve[0], 8, "cpu", 1, 4, lambda text: None)
    assert stored_packs(HERE) == ()


def test_sizes_are_measured_until_memory_ends(twelve: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    def streams(device: torch.device, pack: int) -> list[None]:
        torch.empty(2**60 if pack == 4 else 1)  # a CPU's allocator refuses it by a plain RuntimeError
        return [None] * pack

    monkeypatch.setattr("twinbench.harness.performance.step_timer.own_streams", streams)
    monkeypatch.setattr(pack_size, "SECONDS", 0.01)
    assert list(measured_packs(twelve[0], 8, "cpu", 1)) == [1, 2]
    assert list(measured_packs(twelve[0], 8, "cpu", 1, largest=1)) == [1]

    def breaks(*given: object) -> list[None]:
        raise RuntimeError("a shape does not fit")

    monkeypatch.setattr("twinbench.harness.performance.step_timer.own_streams", breaks)
    with pytest.raises(RuntimeError, match="does not fit"):
        measured_packs(twelve[0], 8, "cpu", 1)


@pytest.mark.parametrize(
    ("seconds", "measured"),
    [
        ((1.0, 0.6, 0.5, 0.499, 0.498), 5),
        ((1.0, 1.1, 0.9, 0.91, 0.92), 5),  # a single size without gain may have been disturbed
        ((1.0, 0.995, 0.999, 0.1, 0.1), 3),
        ((1.0, 0.8, 0.9, 0.85, 0.1), 4),
    ],
)
def test_sizes_are_measured_until_two_in_a_row_gain_nothing(
    twelve: list[Trial], monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, ...], measured: int
) -> None:
    packs: list[int] = []

    def step(trial: Trial, image_size: int, device: object, for_seconds: float, pack: int, meet: object) -> float:
        packs.append(pack)
        return seconds[pack_size.SIZES.index(pack)] * (1.0 if pack in packs[:-1] else 1.001)

    monkeypatch.setattr("twinbench.harness.performance.step_timer.seconds_per_step", step)
    sizes = list(pack_size.SIZES[:measured])
    assert measured_packs(twelve[0], 8, "cpu", 1) == dict(zip(sizes, seconds, strict=False))
    assert packs == sizes * pack_size.ROUNDS


def test_concurrent_measurements_are_timed_at_once_until_the_first_process_is_done(
    twelve: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process needs ten times as long to build its trainings, and has no memory for packs of two."""
    met: dict[str, list[float]] = {"slow": [], "fast": []}
    built: dict[str, float] = {}

    def step(
        trial: Trial, image_size: int, device: object, for_seconds: float, pack: int, meet: Callable[[], None]
    ) -> float:
        name = "slow" if threading.current_thread() is slow else "fast"
        time.sleep(0.3 if name == "slow" else 0.03)
        if name == "slow" and pack == 2:
            raise MemoryError
        built.setdefault(name, time.monotonic())
        meet()
        met[name].append(time.monotonic())
        return 1 / pack

    monkeypatch.setattr(pack_size, "_barrier", threading.Barrier(2))
    monkeypatch.setattr("twinbench.harness.performance.step_timer.seconds_per_step", step)
    slow = threading.Thread(target=measured_packs, args=(twelve[0], 8, "cpu", 1, 2), daemon=True)
    slow.start()
    assert measured_packs(twelve[0], 8, "cpu", 1, 2) == {1: 1.0, 2: 0.5}
    slow.join(timeout=10)
    assert not slow.is_alive() and (len(met["slow"]), len(met["fast"])) == (
        2,
        3,
    )  # no second round alone
    assert met["fast"][0] >= built["slow"] > built["fast"]


@pytest.mark.parametrize(
    ("devices", "workers", "expected"),
    [
        (("cuda:0",), 8, 8),  # all on the only one
        (("cuda:0", "cuda:1") * 2, 2, 1),
        (("cuda:0", "cuda:1") * 2, None, 2),
        (("cpu",), 3, 3),
    ],
)
def test_packs_are_measured_by_as_many_processes_as_will_share_the_first_device(
    tiny_plan: Planner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    devices: tuple[str, ...],
    workers: int | None,
    expected: int,
) -> None:
    processes: list[int] = []

    def measure(*given: Any) -> dict[int, float]:
        processes.append(given[-1])
        raise KeyboardInterrupt  # the rest of the run does not matter

    monkeypatch.setattr(local, "seconds_in_packs", measure)
    planned = tiny_plan("methods=simclr", "baselines=false", "projector_width=[16, 32]")
    write_plan(tmp_path, planned)
    watch = ProgressBars(tmp_path, planned.axes, planned.trials, Console(file=io.StringIO()))
    with pytest.raises(KeyboardInterrupt):
        launcher = LocalLauncher(devices, LaunchOptions(workers=workers, measures_packs=True))
        launcher.run(planned, Surroundings(tmp_path, pack=2), watch)
    assert processes == [expected]


@pytest.mark.slow
def test_a_process_that_is_killed_while_others_wait_for_it_ends_their_measurement(twelve: list[Trial]) -> None:
    with ThreadPoolExecutor(1) as pool:
        measurement = pool.submit(pack_size.measured_concurrently, twelve[0], 8, "cpu", 1, 2, 4)
        wait_until(lambda: len(multiprocessing.active_children()) == 2, "they do not start")
        time.sleep(1)
        os.kill(max(child.pid or 0 for child in multiprocessing.active_children()), signal.SIGKILL)  # started last
        with pytest.raises(BrokenProcessPool):
            measurement.result(timeout=pack_size.MEETING_SECONDS - 10)


@pytest.mark.slow
def test_a_measured_pack_is_of_a_real_training_in_another_process(
    twelve: list[Trial], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path))
    messages: list[str] = []
    seconds = seconds_in_packs(twelve[0], 8, "cpu", 1, 2, messages.append)
    assert seconds[1] > 0 and set(seconds) <= set(pack_size.SIZES) and len(messages) == 1
    assert seconds_in_packs(twelve[0], 8, "cpu", 1, 2, messages.append) == seconds and len(messages) == 1


@pytest.mark.slow
def test_a_run_trains_with_the_threads_and_packs_that_it_measured(
    tiny_plan: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path / "cache"))
    planned, folder = tiny_plan("baselines=false", "seeds=[0]"), tmp_path / "run"
    write_plan(folder, planned)
    printed = io.StringIO()
    watch = ProgressBars(folder, planned.axes, planned.trials, Console(file=printed, width=200))
    launcher = LocalLauncher(("cpu",), LaunchOptions(measures_packs=True, measures_threads=True))
    outcome = launcher.run(planned, Surroundings(folder, pack=4), watch)
    assert outcome.statuses == {"done": len(planned.trials)} and not outcome.stopped
    threads = int(re.search(r"(\d+) threads? per trial, with which the sweep ends soonest", printed.getvalue())[1])  # type: ignore[index]
    pack = int(re.search(r"packs of at most (\d+) trials?", printed.getvalue())[1])  # type: ignore[index]
    ran = [read_record(file)["circumstance"] for file in record_files(folder)]
    assert {one["threads"] for one in ran} == {threads} and max(one["pack"] for one in ran) <= pack
    measured = {one.processes for count in (1, 2) for one in stored_packs(this_machine("cpu", count))}
    assert measured == {max(1, HERE.cores // count) for count in (1, 2)}
