"""How many trials take turns in one process, and its threads: measured once for a shape, then looked up."""

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

from twinbench.harness.performance.measurements import (
    PackSeconds,
    pack_shape_of,
    store_packs,
    stored_packs,
    this_machine,
)
from twinbench.sweeps.hashing import canonical_json
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.harness.trial.execute import Surroundings

SIZES = (1, 2, 4, 8, 16)
SECONDS = 1.0  # that each size is measured for, in each of ROUNDS
ROUNDS = 2  # of which the faster counts
GAIN = 0.99  # times the best size's seconds: a larger one that does not reach that gains nothing
EQUAL = 1.03  # times what the first takes: no longer than it
MEETING_SECONDS = 60.0  # that one waits for others, who may have died
IN_VAIN = 2  # sizes in a row that gain nothing, after which larger ones are not tried


def best_pack(
    keys: Sequence[bytes | None], most: int, workers: int, seconds: Mapping[int, float] | None = None
) -> tuple[int, float]:
    """The pack, of at most `most`, by which `workers` are through first with trials of these `pack_keys`; and when
    they are by the one that ends soonest.

    Of those that end at once it is the largest, and by measured seconds of those within EQUAL of the first: they tell
    no less apart, and a larger one surely makes fewer views.

    `seconds` is what a step takes in packs of some sizes; without it, as long in each. What counts is how the packs
    come out: three seeds of eight trials, by eights, leave one of two workers idle for a third of the time. When
    is in steps of all trials, in seconds where those of a step are told.
    """
    from twinbench.harness.trial.packs import cut

    sizes = range(1, min(most, max(1, len(keys)), *([max(seconds)] if seconds else [])) + 1)
    shared_out = {size: [len(pack) for pack in cut(keys, keys, size)] for size in sizes}
    step = _between(seconds) if seconds else lambda size: 1.0
    ends = {size: _ends_after(shared_out[size], workers, step) for size in sizes}
    first = min(ends.values())
    return max(size for size in sizes if ends[size] <= (EQUAL if seconds else 1.0) * first), first


def _ends_after(packs: Sequence[int], workers: int, step: Callable[[int], float]) -> float:
    """When the last worker ends, each taking the next pack as it gets free, in steps of all their trials."""
    free = [0.0] * workers
    for size in packs:
        heapq.heapreplace(free, free[0] + size * step(size))
    return max(free)


def _between(seconds: Mapping[int, float]) -> Callable[[int], float]:
    """A step's seconds in a pack of any size, along lines between the measured ones."""
    known = sorted(seconds.items())

    def step(size: int) -> float:
        for (low, at_low), (high, at_high) in itertools.pairwise(known):
            if size <= high:
                return at_low + (at_high - at_low) * (size - low) / (high - low)
        return known[-1][1]

    return step


def fit_pack(
    surroundings: "Surroundings",
    todo: Sequence[Trial],
    workers: int,
    measure: Callable[[Trial, int], Mapping[int, float]] | None,
    say: Callable[[str], None],
) -> "Surroundings":
    """The same with the `best_pack`. `measure`, where there is one, is asked what packs of the commonest trial cost,
    up to the largest that there may be.

    Where it fails, by a RuntimeError, trials run alone.
    """
    if surroundings.pack == 1 or not todo:
        return surroundings
    keys, seconds = _pack_keys(todo, surroundings), None
    most = _largest(keys, surroundings.pack)
    if most == 1:
        return replace(surroundings, pack=1)
    if measure:
        try:
            seconds = measure(_commonest([trial for trial in todo if trial.training]), most)
        except RuntimeError as error:  # a process that was killed, a device in trouble
            say(f"packs could not be measured: {error}")
            seconds = {1: 1.0}
    pack, _ = best_pack(keys, surroundings.pack, workers, seconds)
    say(f"{pack} trials at most take turns in a process")
    return replace(surroundings, pack=pack)


def fit_threads(
    surroundings: "Surroundings",
    todo: Sequence[Trial],
    cores: int,
    workers_with: Callable[[int], int],
    measure: Callable[[Trial, int, int], Mapping[int, float]],
    say: Callable[[str], None],
) -> "Surroundings":
    """The same with as many threads a trial, of 1, 2, 4 and so on, as a CPU's `cores` are through with `todo` first.

    `workers_with` says how many work then. `measure` is asked what packs of the commonest trial cost with so many
    threads, up to so large ones. Of those that end within a hundredth of the first the fewest are taken.
    """
    if not (trained := [trial for trial in todo if trial.training]):
        return surroundings
    keys, trial, ends = _pack_keys(todo, surroundings), _commonest(trained), dict[int, float]()
    most = _largest(keys, surroundings.pack)
    for threads in itertools.takewhile(lambda count: count <= cores, (2**n for n in itertools.count())):
        try:
            seconds = measure(trial, threads, most)
        except RuntimeError as error:  # a process that was killed
            say(f"{threads} threads a trial could not be measured: {error}")
            continue
        _, ends[threads] = best_pack(keys, surroundings.pack, workers_with(threads), seconds)
    if not ends:
        return surroundings
    chosen = min(threads for threads in ends if ends[threads] <= 1.01 * min(ends.values()))
    say(f"{chosen} thread{'s' * (chosen > 1)} a trial, by which the sweep ends soonest")
    return replace(surroundings, threads=chosen)


def _pack_keys(todo: Sequence[Trial], surroundings: "Surroundings") -> list[bytes | None]:
    from twinbench.harness.trial.packs import pack_keys

    return pack_keys(todo, surroundings.run_folder)


def _largest(keys: Sequence[bytes | None], most: int) -> int:
    """The most trials that a pack may come to have: to measure larger ones would be in vain."""
    return min(most, max(Counter(key for key in keys if key is not None).values(), default=1))


def _commonest(trials: Sequence[Trial]) -> Trial:
    """The first of the shape and batch that most have."""
    keys = [canonical_json([pack_shape_of(trial, 0), int(trial.training["batch_size"])]) for trial in trials]
    return trials[keys.index(Counter(keys).most_common(1)[0][0])]


def seconds_in_packs(
    trial: Trial, image_size: int, device: str, threads: int, most: int, say: Callable[[str], None], processes: int = 1
) -> Mapping[int, float]:
    """What a step of such a trial takes in packs here, by their size, up to `most`. Measured unless stored.

    In so many `processes` at once as will work beside each other, on a CPU, whose memory's bandwidth they share, or on
    one GPU. RuntimeError where there is no memory now, not even for one.
    """
    machine = this_machine(device, threads)
    shape, batch_size = pack_shape_of(trial, image_size), int(trial.training["batch_size"])
    for one in stored_packs(machine):
        if one.is_of(shape, batch_size, processes) and one.most >= most:
            return one.seconds
    with_threads = f"with {threads} thread{'s' * (threads > 1)}" + f" in {processes} processes" * (processes > 1)
    say(f"measuring what a step of {trial.method} takes {with_threads}, alone" + " and in packs" * (most > 1))
    seconds = measured_beside_each_other(trial, image_size, device, threads, processes, most)
    if not seconds:
        raise RuntimeError("there is no memory for one trial now")
    store_packs(machine, PackSeconds(shape, batch_size, processes, most, seconds))
    return seconds


def measured_beside_each_other(
    trial: Trial, image_size: int, device: str, threads: int, processes: int, most: int = SIZES[-1]
) -> dict[int, float]:
    """What so many processes find at once by `measured_packs`: the mean of each size that all of them came to."""
    context = get_context("spawn")
    together = (context.Barrier(processes),)
    with ProcessPoolExecutor(processes, context, _joins, together) as pool:  # whose memory is free again afterwards
        told = [pool.submit(measured_packs, trial, image_size, device, threads, most) for _ in range(processes)]
        pool.submit(int)  # wakes what watches the processes: it may have looked before the last was there
        found = [one.result() for one in told]
    sizes = set.intersection(*(set(one) for one in found))
    return {size: statistics.mean(one[size] for one in found) for size in sorted(sizes)}


_others = Barrier(1)  # who measure at the same time, this process among them


def _joins(others: Barrier) -> None:
    global _others
    _others = others


def _meet() -> None:
    """Waits until all are as far, to be timed at once; no more from when the first is done."""
    with contextlib.suppress(BrokenBarrierError):
        _others.wait(MEETING_SECONDS)


def _left_alone() -> bool:
    return _others.parties > 1 and _others.broken


def measured_packs(
    trial: Trial, image_size: int, device_name: str, threads: int, most: int = SIZES[-1]
) -> dict[int, float]:
    """Seconds that a step of the trial adds in packs of SIZES, up to where larger ones gain nothing or memory ends.

    Those of `most`, too, which may lie between two of the sizes.

    By the kernels of `repro`, for both modes: to compile the networks first would take longer than a sweep gains.
    """
    import torch

    from twinbench.harness.performance.step_timer import seconds_of_a_step
    from twinbench.harness.system.memory import keep_freed_memory
    from twinbench.harness.training.kernels import REPRO, choose_kernels

    torch.set_num_threads(threads)
    keep_freed_memory()
    choose_kernels(REPRO)
    device = torch.device(device_name)

    def step(size: int) -> float:
        try:
            return seconds_of_a_step(trial, image_size, device, SECONDS, size, _meet)
        except MemoryError:
            return math.inf

    found, in_vain = dict[int, float](), 0
    try:
        for size in itertools.takewhile(lambda size: size < 2 * most, SIZES):
            seconds = step(size)
            if seconds == math.inf:
                break
            in_vain = in_vain + 1 if seconds > GAIN * min(found.values(), default=math.inf) else 0
            found[size] = seconds
            if in_vain == IN_VAIN:
                break
        # Each after all others: what else the machine does comes and goes in seconds.
        for size in [*found] * (ROUNDS - 1):
            seconds = step(size)
            if _left_alone():  # or it would be the faster for that
                break
            found[size] = min(found[size], seconds)
    finally:
        _others.abort()
    return found
