"""The training loop, as plain statements in the order in which things happen."""

import math
import warnings
from collections.abc import Callable, Generator
from typing import Any
from weakref import WeakValueDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from twinbench.harness.data.random_streams import generator
from twinbench.harness.training.batches import Batches
from twinbench.harness.training.checkpoint import Progress, load_state, save_state
from twinbench.harness.training.kernels import compile_networks, uncompiled
from twinbench.harness.training.loss_log import Diverged, Losses
from twinbench.harness.training.optimisers import build_optimiser, fit_to_device, set_learning_rate
from twinbench.harness.training.pace import StateSaver, UpdateTimer
from twinbench.harness.training.schedule import learning_rate_at
from twinbench.harness.training.step import Update
from twinbench.harness.training.task import Task
from twinbench.methods.method import LossTerms, Method, Step, Views
from twinbench.methods.ops.distributed import rank_count, use_global_batch_norm

LOOK_EVERY = 32  # updates between checks that the loss is finite, on a GPU, which is not waited for otherwise


class Interrupted(Exception):
    """The training stopped because `should_stop` returned true; its state is saved."""


def train(
    method: Method,
    task: Task,
    diagnose: Callable[[Method], dict[str, float | None]],
    diagnose_every_epochs: int,
    report: Callable[[Progress, int, int], None],
    should_stop: Callable[[], bool],
) -> Generator[None, None, Progress]:
    """Train `method` in place, from the state in the task's folder to the end, yielding after every update.

    Trainings that take turns, an update each, and started at the same step get the same batches and views.

    `diagnose` measures the method between epochs. `report` gets the progress, the number of updates so far and the
    number of updates in all. Raises Interrupted once `should_stop` returns true, and Diverged on a non-finite loss: on
    a CPU and over several ranks before the update that it would make. A single GPU is not waited for at every update:
    its losses are checked every few updates, and before anything is saved, measured or returned. Diverged names the
    same step there, with the same progress, but the weights have gone on and are of no use.

    In a process group every rank calls this with the same task, and computes its own rows of every batch. Rank 0
    alone measures, reports, saves and calls `should_stop`; all ranks return, or raise those two, at the same step.
    """
    # Longer than 60 lines with its docstring: one story, in time order.
    training, per_epoch = task.training, task.steps_per_epoch
    ranks = rank_count()
    rank = dist.get_rank() if ranks > 1 else 0
    steps = per_epoch * training.epochs
    optimiser = build_optimiser(method.parameters(), training)
    progress = _saved(task, method, optimiser, rank)
    fit_to_device(optimiser)
    if task.compiles:
        compile_networks(method)
    begun = progress.epoch * per_epoch + progress.step_in_epoch
    if rank == 0:
        report(progress, begun, steps)
    batches = _batches(task, rank, ranks, progress)
    losses = Losses(training.batch_size, per_epoch, steps)
    loss_of = method.loss if ranks == 1 else _over_ranks(method, progress, task.device)
    runs_ahead = task.device.type == "cuda" and ranks == 1
    update = Update(task, method, loss_of, optimiser, losses, progress, ranks, runs_ahead)
    timer = UpdateTimer(task, progress, batches)
    saver = StateSaver(lambda: save_state(task.folder, progress, method, optimiser))
    while progress.epoch < training.epochs:
        method.train()
        while progress.step_in_epoch < per_epoch:
            number = progress.epoch * per_epoch + progress.step_in_epoch - begun
            timer.start(number)
            batch = batches.at(progress.epoch, progress.step_in_epoch)
            step = _step(task, progress, steps, batch.ids)
            set_learning_rate(optimiser, learning_rate_at(step.step, steps, per_epoch, training))
            update(batch, step)
            method.after_update(step)
            progress.cuda_graph = update.is_captured if task.device.type == "cuda" else None

            progress.step_in_epoch += 1
            progress.images_seen += training.batch_size
            ends_epoch = progress.step_in_epoch == per_epoch
            stops = _any_rank(rank == 0 and should_stop(), task.device)
            saves = rank == 0 and (stops or saver.is_due())
            if stops or saves or ends_epoch or len(losses) >= LOOK_EVERY:
                losses.look(progress)
            timer.stop(number, batch, ends_epoch)
            if rank == 0:
                report(progress, step.step + 1, steps)
            if saves:
                saver.save()
            if stops:
                raise Interrupted
            if timer.may_pause(number):
                yield
        last_rate = learning_rate_at((progress.epoch + 1) * per_epoch - 1, steps, per_epoch, training)
        _close_epoch(progress, per_epoch, last_rate)
        is_last = progress.epoch == training.epochs
        if rank == 0:
            if is_last or progress.epoch % diagnose_every_epochs == 0:
                with uncompiled(task.compiles):
                    _append(progress, diagnose(method))
            saver.end_epoch(is_last)
    return progress


def _saved(task: Task, method: Method, optimiser: torch.optim.Optimizer, rank: int) -> Progress:
    """Restore the saved state. Rank 0 does so first: it sets a damaged state aside, and then all ranks start anew."""
    if rank > 0:
        _any_rank(False, task.device)  # waits for rank 0
    progress = load_state(task.folder, method, optimiser, task.device)
    if rank == 0:
        _any_rank(False, task.device)
    return progress


def check_finite(method: Method) -> None:
    """Raise Diverged if weights or running statistics are not finite: the loss is only checked before an update."""
    for name, values in method.state_dict().items():
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise Diverged(f"{name} is not finite after the last update")


_in_use: WeakValueDictionary[tuple[object, ...], Batches] = WeakValueDictionary()


def _batches(task: Task, rank: int, ranks: int, progress: Progress) -> Batches:
    """Return the batches of another training in this process that is at the step where this one begins, or new ones.

    A training that has a GPU to itself makes its views in its captured update.
    """
    same = repr((task.views, task.seed, task.training.batch_size, task.device, task.view_dtype, rank, ranks))
    key = (task.images, same, progress.epoch, progress.step_in_epoch)
    makes_views = task.device.type == "cpu" or task.shares_views
    return _in_use.setdefault(key, Batches(task, rank, ranks, makes_views))


class _GivesLoss(nn.Module):
    """The loss as a forward pass, which is what DistributedDataParallel wraps."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: Views, step: Step) -> LossTerms:
        return self.method.loss(views, step)


def _over_ranks(method: Method, progress: Progress, device: torch.device) -> Callable[[Views, Step], LossTerms]:
    """Return the method's loss over the batch of all ranks; its backward also averages the gradients over them."""
    places = [torch.zeros(2, dtype=torch.int64, device=device) for _ in range(rank_count())]
    dist.all_gather(places, torch.tensor([progress.epoch, progress.step_in_epoch], device=device))
    if any(not torch.equal(place, places[0]) for place in places):
        raise RuntimeError(f"the ranks are at different steps: {[place.tolist() for place in places]}")
    use_global_batch_norm(method)
    with warnings.catch_warnings():  # newer torch renames the argument; older torch does not know the new name
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        # buffers need no broadcast: every rank computes them from the whole batch
        return DistributedDataParallel(_GivesLoss(method), broadcast_buffers=False)


def _any_rank(stop: bool, device: torch.device) -> bool:
    """Return on every rank whether any rank's `stop` is true."""
    if rank_count() == 1:
        return stop
    stops = torch.tensor(int(stop), device=device)
    dist.all_reduce(stops)
    return bool(stops)


def _step(task: Task, progress: Progress, steps: int, sample_indices: Tensor) -> Step:
    number = progress.epoch * task.steps_per_epoch + progress.step_in_epoch
    return Step(
        epoch=progress.epoch,
        step=number,
        steps=steps,
        sample_indices=sample_indices,
        generator=lambda purpose: generator(task.seed, purpose, number, device=task.device),
    )


def _close_epoch(progress: Progress, steps_per_epoch: int, rate: float) -> None:
    """Append the epoch's means to the curves and start the next epoch."""
    progress.epoch += 1
    progress.epochs.append(progress.epoch)
    means = {name: total / steps_per_epoch for name, total in progress.sums.items()}
    # a part may be infinite while the total is finite, and JSON has no such number
    values: dict[str, float | None] = {name: mean if math.isfinite(mean) else None for name, mean in means.items()}
    progress.sums, progress.step_in_epoch = {}, 0
    _append(progress, values | {"learning_rate": rate})


def _append(progress: Progress, values: dict[str, float | None]) -> None:
    """Add `values` to the curves at the current epoch; earlier epochs without a measurement hold None."""
    for name, value in values.items():
        curve = progress.curves.setdefault(name, [])
        curve += [None] * (len(progress.epochs) - 1 - len(curve))
        curve.append(value)


def finished_curves(progress: Progress) -> dict[str, Any]:
    """Return the epochs, and the curves filled up with None to their number."""
    length = len(progress.epochs)
    series = {name: curve + [None] * (length - len(curve)) for name, curve in sorted(progress.curves.items())}
    return {"epoch": progress.epochs, "series": series}
