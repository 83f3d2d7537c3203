"""Chooses how many trials take turns in one process, and its threads: measured once for a shape, then looked up."""

import contextlib
import heapq
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from threading import Barrier, BrokenBarrierError
from typing import TYPE_CHECKING

import numpy as np

from twinbench.harness.performance.measurements import (
    PackSeconds,
    pack_shape_of,
    store_packs,
    stored_packs,
    this_machine,
)
from twinbench.sweeps.errors import counted
from twinbench.sweeps.hashing import canonical_json
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.harness.trial.execute import Surroundings

SIZES = (1, 2, 4, 8, 16)
SECONDS = 1.0  # for which each size is measured, in each of ROUNDS
ROUNDS = 2  # the faster one counts
GAIN = 0.99  # a larger size counts as a gain if it takes less than this share of the best size's time
EQUAL = 1.03  # times the shortest duration: measured durations up to this count as equal
MEETING_SECONDS = 60.0  # to wait for the other measuring processes, which may have died
SIZES_WITHOUT_GAIN = 2  # in a row, after which larger ones are not tried

Measure = Callable[[Trial, int, int], Mapping[int, float]]
"""Returns the seconds per step by size of pack, given a trial, threads per trial and the largest size."""


def best_pack(
    keys: Sequence[bytes | None], largest: int, workers: int, seconds: Mapping[int, float] | None = None
) -> tuple[int, float]:
    """Return the size of pack, at most `largest`, with which `workers` finish these trials soonest, and their time.

    `keys` are the trials' `pack_keys`; `seconds` is the time of a step in packs of some sizes, and without it steps
    take equally long in every size. What counts is how the packs are distributed: three seeds of eight trials in packs
    of eight leave one of two workers idle for a third of the time. The time is in seconds if
    `seconds` are given, else in steps.

    Of sizes that finish at the same time the largest is taken, since it makes fewer views. With `seconds`, sizes within
    EQUAL of the first count as equal: measurements do not resolve less.
    """
    from twinbench.harness.trial.packs import cut

    sizes = range(1, min(largest, max(1, len(keys)), *([max(seconds)] if seconds else [])) + 1)
    measured, at_measured = zip(*sorted((seconds or {1: 1.0}).items()), strict=True)
    step_seconds = dict(zip(sizes, np.interp(sizes, measured, at_measured).tolist(), strict=True))
    ends = {size: _end([len(pack) for pack in cut(keys, keys, size)], workers, step_seconds) for size in sizes}
    first = min(ends.values())
    return max(size for size in sizes if ends[size] <= (EQUAL if seconds else 1.0) * first), first


def _end(pack_sizes: Sequence[int], workers: int, step_seconds: Mapping[int, float]) -> float:
    """Return when the last worker ends if each takes the next pack when it is free, in steps of all their trials."""
    free_at = [0.0] * workers
    for size in pack_sizes:
        heapq.heapreplace(free_at, free_at[0] + size * step_seconds[size])
    return max(free_at)


def with_best_pack(
    surroundings: "Surroundings",
    todo: Sequence[Trial],
    workers: int,
    measure: Measure | None,
    say: Callable[[str], None],
) -> "Surroundings":
    """Return `surroundings` with the `best_pack` for these trials, at most its own `pack`.

    `measure` gives the cost of packs of the most common trial; None counts steps only. Where it raises RuntimeError,
    trials run alone.
    """
    if surroundings.pack == 1 or not todo:
        return surroundings
    keys, seconds = _pack_keys(todo, surroundings), None
    largest = _largest_pack(keys, surroundings.pack)
    if largest == 1:
        return replace(surroundings, pack=1)
    if measure:
        trial = _most_common([trial for trial in todo if trial.training])
        try:
            seconds = measure(trial, surroundings.threads, largest)
        except RuntimeError as error:  # a process that was killed, a device that fails
            say(f"packs could not be measured: {error}")
            seconds = {1: 1.0}
    pack, _ = best_pack(keys, surroundings.pack, workers, seconds)
    say(f"packs of at most {counted(pack, 'trial')}")
    return replace(surroundings, pack=pack)


def with_best_threads(
    surroundings: "Surroundings",
    todo: Sequence[Trial],
    cores: int,
    workers_with: Callable[[int], int],
    measure: Measure,
    say: Callable[[str], None],
) -> "Surroundings":
    """Return `surroundings` with the number of threads per trial (1, 2, 4, ...) with which `cores` finish first.

    `workers_with` gives the number of workers for a number of threads, `measure` the cost of packs of the most common
    trial. Of numbers that finish within a hundredth of the first the smallest is taken.
    """
    if not (trained := [trial for trial in todo if trial.training]):
        return surroundings
    keys, trial, ends = _pack_keys(todo, surroundings), _most_common(trained), dict[int, float]()
    largest = _largest_pack(keys, surroundings.pack)
    for threads in itertools.takewhile(lambda count: count <= cores, (2**n for n in itertools.count())):
        try:
            seconds = measure(trial, threads, largest)
        except RuntimeError as error:  # a process that was killed
            say(f"{counted(threads, 'thread')} per trial could not be measured: {error}")
            continue
        _, ends[threads] = best_pack(keys, surroundings.pack, workers_with(threads), seconds)
    if not ends:
        return surroundings
    chosen = min(threads for threads in ends if ends[threads] <= 1.01 * min(ends.values()))
    say(f"{counted(chosen, 'thread')} per trial, with which the sweep ends soonest")
    return replace(surroundings, threads=chosen)


def _pack_keys(todo: Sequence[Trial], surroundings: "Surroundings") -> list[bytes | None]:
    from twinbench.harness.trial.packs import pack_keys

    return pack_keys(todo, surroundings.run_folder)


def _largest_pack(keys: Sequence[bytes | None], limit: int) -> int:
    """Return the largest pack that these trials can form, at most `limit`; no larger one needs to be measured."""
    return min(limit, max(Counter(key for key in keys if key is not None).values(), default=1))


def _most_common(trials: Sequence[Trial]) -> Trial:
    """Return the first trial of the most common shape and batch size."""
    keys = [canonical_json([pack_shape_of(trial, 0), int(trial.training["batch_size"])]) for trial in trials]
    return trials[keys.index(Counter(keys).most_common(1)[0][0])]


def seconds_in_packs(
    trial: Trial,
    image_size: int,
    device: str,
    threads: int,
    largest: int,
    say: Callable[[str], None],
    processes: int = 1,
) -> Mapping[int, float]:
    """Return the seconds per step of such a trial in packs, by their size up to `largest`; measured unless stored.

    `processes` measure at once: as many as will share this CPU's memory bandwidth, or this GPU. RuntimeError if there
    is not even memory for one trial at the moment.
    """
    machine = this_machine(device, threads)
    shape, batch_size = pack_shape_of(trial, image_size), int(trial.training["batch_size"])
    for stored in stored_packs(machine):
        if stored.is_of(shape, batch_size, processes) and stored.most >= largest:
            return stored.seconds
    setting = f"with {counted(threads, 'thread')}" + f" in {processes} processes" * (processes > 1)
    say(f"measuring a step of {trial.method} {setting}, alone" + " and in packs" * (largest > 1))
    seconds = measured_concurrently(trial, image_size, device, threads, processes, largest)
    if not seconds:
        raise RuntimeError("there is no memory for one trial now")
    store_packs(machine, PackSeconds(shape, batch_size, processes, largest, seconds))
    return seconds


def measured_concurrently(
    trial: Trial, image_size: int, device: str, threads: int, processes: int, largest: int = SIZES[-1]
) -> dict[int, float]:
    """Return the result of `measured_packs` in several processes at once: the mean of each size that all reached."""
    context = get_context("spawn")
    barrier = (context.Barrier(processes),)
    with ProcessPoolExecutor(processes, context, _set_barrier, barrier) as pool:  # its memory is free again afterwards
        futures = [pool.submit(measured_packs, trial, image_size, device, threads, largest) for _ in range(processes)]
        pool.submit(int)  # with one more task, the pool notices the death of its last process too
        found = [future.result() for future in futures]
    sizes = set.intersection(*(set(seconds) for seconds in found))
    return {size: statistics.mean(seconds[size] for seconds in found) for size in sorted(sizes)}


_barrier = Barrier(1)  # of all processes that measure at the same time, this one included


def _set_barrier(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _wait_for_all() -> None:
    """Wait until all processes are ready, so that they are timed at once; not once the first has finished."""
    with contextlib.suppress(BrokenBarrierError):
        _barrier.wait(MEETING_SECONDS)


def _is_last() -> bool:
    return _barrier.parties > 1 and _barrier.broken


def measured_packs(
    trial: Trial, image_size: int, device_name: str, threads: int, largest: int = SIZES[-1]
) -> dict[int, float]:
    """Return the seconds that a step of the trial adds in packs of SIZES, up to where larger ones gain nothing.

    Sizes end at the first that is at least `largest`, and where memory ends. The kernels are those of `repro`, for both
    modes: compiling the networks first would take longer than a sweep gains.
    """
    import torch

    from twinbench.harness.performance.step_timer import seconds_per_step
    from twinbench.harness.system.memory import keep_freed_memory
    from twinbench.harness.training.kernels import REPRO, choose_kernels

    torch.set_num_threads(threads)
    keep_freed_memory()
    choose_kernels(REPRO)
    device = torch.device(device_name)

    def measure(size: int) -> float:
        return seconds_per_step(trial, image_size, device, SECONDS, size, _wait_for_all)

    found, without_gain = dict[int, float](), 0
    try:
        with contextlib.suppress(MemoryError):
            for size in itertools.takewhile(lambda size: size < 2 * largest, SIZES):
                seconds = measure(size)
                without_gain = without_gain + 1 if seconds > GAIN * min(found.values(), default=math.inf) else 0
                found[size] = seconds
                if without_gain == SIZES_WITHOUT_GAIN:
                    break
        # Further rounds come after all sizes, because disturbances on the machine last for seconds.
        for size in [*found] * (ROUNDS - 1):
            with contextlib.suppress(MemoryError):
                seconds = measure(size)
                if _is_last():  # it would be faster than when all measure
                    break
                found[size] = min(found[size], seconds)
    finally:
        _barrier.abort()
    return found
