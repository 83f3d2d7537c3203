"""One update: views, forward, backward, optimiser; run eagerly, or as a captured CUDA graph on a GPU."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from twinbench.harness.system.memory import is_out_of_memory
from twinbench.harness.training.batches import Batch, make_views
from twinbench.harness.training.checkpoint import Progress
from twinbench.harness.training.cuda_graphs import (
    CapturedUpdate,
    CaptureStep,
    ModuleState,
    NotCapturable,
    first_change,
    on_side_stream,
    python_state,
)
from twinbench.harness.training.loss_log import Losses
from twinbench.harness.training.task import Task
from twinbench.methods.method import LossTerms, Step, Views

EAGER_UPDATES = 3  # before the capture: libraries set themselves up during them


class Update:
    """Trains `module` by `loss_of`, batch by batch, and keeps the loss and its parts in `losses`.

    On a CPU and over several ranks the loss is checked before the backward pass, which Diverged then prevents. A single
    GPU runs ahead of that check, which is left to the caller: the first updates run eagerly there and the others as a
    CUDA graph, if the loss allows it.
    """

    def __init__(
        self,
        task: Task,
        module: nn.Module,
        loss_of: Callable[[Views, Step], LossTerms],
        optimiser: torch.optim.Optimizer,
        losses: Losses,
        progress: Progress,
        ranks: int = 1,
        runs_ahead: bool = False,
    ) -> None:
        self._task, self._module, self._loss_of, self._optimiser = task, module, loss_of, optimiser
        self._losses, self._progress, self._ranks, self._runs_ahead = losses, progress, ranks, runs_ahead
        self._eager_left = EAGER_UPDATES if runs_ahead else -1  # -1: nothing is to be captured any more
        self._state_before: ModuleState = {}
        self._captured: CapturedUpdate | None = None
        self._names: tuple[str, ...] = ()

    @property
    def is_captured(self) -> bool:
        """Whether updates are replayed as a CUDA graph by now."""
        return self._captured is not None

    def __call__(self, batch: Batch, step: Step) -> None:
        """Make the update."""
        if batch.images.is_cuda:  # streams and graphs belong to the current device
            torch.cuda.set_device(batch.images.device)
        if self._eager_left == 0:
            self._captured = self._capture(batch)
        self._eager_left = max(self._eager_left - 1, -1)
        if self._captured:
            self._losses.keep(step.step, self._names, self._captured(batch))
        elif self._eager_left >= 0:
            if self._eager_left == 0:
                self._state_before = python_state(self._module)
            on_side_stream(lambda: self._run(batch, step))
        else:
            self._run(batch, step)

    def _run(self, batch: Batch, step: Step) -> None:
        total, terms = self._loss(batch, step)
        self._losses.keep(step.step, self._names, terms)
        if not self._runs_ahead:
            self._losses.look(self._progress)
        self._optimise(total)

    def _loss(self, batch: Batch, step: Step) -> tuple[Tensor, Tensor]:
        """Return what is differentiated, and the loss and its parts as float64 [1 + parts] on the device."""
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self._task.autocast):
            # views are made here where a graph captures their making too
            loss = self._loss_of(batch.views or make_views(batch, self._task), step)
        self._names = ("loss", *(f"loss/{name}" for name in loss.parts))
        terms = torch.stack([part.detach().double() for part in (loss.total, *loss.parts.values())])
        # DistributedDataParallel averages over ranks, where the gradient is the sum: see methods/ops/distributed.py
        return (loss.total if self._ranks == 1 else loss.total * self._ranks), terms

    def _optimise(self, total: Tensor) -> None:
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if (norm := self._task.training.clip_gradient_norm) is not None:
            torch.nn.utils.clip_grad_norm_(self._module.parameters(), norm)
        self._optimiser.step()

    def _capture(self, batch: Batch) -> CapturedUpdate | None:
        """Capture the update as a CUDA graph, or log why not and return None.

        In a pack, whose batches come with their views, raise OutOfMemoryError if memory runs out: the trial can still
        be captured when it runs alone.
        """

        def whole(batch: Batch) -> Tensor:
            total, terms = self._loss(batch, cast(Step, CaptureStep(batch.ids)))
            self._optimise(total)
            return terms

        try:
            if changed := first_change(self._state_before, self._module):
                raise NotCapturable(f"{changed} is another number, or another tensor, after each update")
            self._optimiser.zero_grad(set_to_none=True)
            return CapturedUpdate(whole, batch)
        except (NotCapturable, RuntimeError) as error:
            if batch.views and _memory_ran_out(error):
                raise torch.OutOfMemoryError(str(error)) from error
            torch.cuda.synchronize()  # raises if the device itself is broken, not only the capture
            print(f"the update is not captured as a CUDA graph: {error}", flush=True)
            return None
        finally:
            self._state_before = {}


def _memory_ran_out(error: BaseException | None) -> bool:
    """Whether the error, or one that it followed, says that memory ran out: ending a capture may raise another."""
    while error is not None and not is_out_of_memory(error):
        error = error.__context__
    return error is not None
