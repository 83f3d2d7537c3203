"""One update: views, forward, backward, optimiser; run eagerly, or as a captured CUDA graph on a GPU."""

import functools
import importlib.util
from collections.abc import Callable
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from twinbench.harness.data.augmentation import ViewParameters, training_view
from twinbench.harness.system.memory import is_out_of_memory
from twinbench.harness.training.batches import Batch
from twinbench.harness.training.cuda_graphs import (
    CapturedUpdate,
    CaptureStep,
    ModuleState,
    NotCapturable,
    first_change,
    on_side_stream,
    python_state,
)
from twinbench.methods.method import LossTerms, Step, Views
from twinbench.sweeps.protocol import DatasetRule, Training
from twinbench.sweeps.recipe import ViewRecipe

LogLoss: TypeAlias = Callable[[Step, tuple[str, ...], Tensor], None]
EAGER_UPDATES = 3  # before the capture: libraries set themselves up during them


class Update:
    """Trains `module` by `loss_of`, batch by batch.

    `log_loss` gets the step, the names of the loss and its parts, and their values as float64 [1 + parts] on the
    device, which it need not wait for. It is called between the forward and the backward pass, and may raise to stop
    there. With `captures`, for a single GPU, the first updates run eagerly and the others as a CUDA graph, if the loss
    allows it; `log_loss` is then called once the whole update has been sent to the device.
    """

    def __init__(
        self,
        module: nn.Module,
        loss_of: Callable[[Views, Step], LossTerms],
        optimiser: torch.optim.Optimizer,
        training: Training,
        recipes: tuple[ViewRecipe, ...],
        rule: DatasetRule,
        image_size: int,
        *,
        autocast: bool,
        log_loss: LogLoss,
        ranks: int = 1,
        captures: bool = False,
    ) -> None:
        self._module, self._loss_of, self._optimiser, self._training = module, loss_of, optimiser, training
        self._recipes, self._rule, self._image_size = recipes, rule, image_size
        self._autocast, self._log_loss, self._ranks = autocast, log_loss, ranks
        self._eager_left = EAGER_UPDATES if captures else -1  # -1: nothing is to be captured any more
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
            self._log_loss(step, self._names, self._captured(batch))
        elif self._eager_left >= 0:
            if self._eager_left == 0:
                self._state_before = python_state(self._module)
            on_side_stream(lambda: self._optimise(self._forward(batch, step, self._log_loss)))
        else:
            self._optimise(self._forward(batch, step, self._log_loss))

    def _forward(self, batch: Batch, step: Step, log_loss: LogLoss) -> Tensor:
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self._autocast):
            loss = self._loss_of(self._views(batch), step)
        self._names = ("loss", *(f"loss/{name}" for name in loss.parts))
        terms = torch.stack([part.detach().double() for part in (loss.total, *loss.parts.values())])
        log_loss(step, self._names, terms)
        # DistributedDataParallel averages over ranks, where the gradient is the sum: see methods/ops/distributed.py
        return loss.total if self._ranks == 1 else loss.total * self._ranks

    def _optimise(self, total: Tensor) -> None:
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if self._training.clip_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._module.parameters(), self._training.clip_gradient_norm)
        self._optimiser.step()

    def _views(self, batch: Batch) -> list[Tensor]:
        """Return the batch's views, or make them here, where a graph captures their making too."""
        dtype = torch.bfloat16 if self._autocast else torch.float32
        return list(batch.views or make_views(batch, self._recipes, self._rule, self._image_size, dtype))

    def _capture(self, batch: Batch) -> CapturedUpdate | None:
        """Capture the update as a CUDA graph, or log why not and return None.

        In a pack, whose batches come with their views, raise OutOfMemoryError if memory runs out: the trial can still
        be captured when it runs alone.
        """
        logged: list[Tensor] = []

        def whole(batch: Batch) -> Tensor:
            step = cast(Step, CaptureStep(batch.ids))
            self._optimise(self._forward(batch, step, lambda _step, _names, terms: logged.append(terms)))
            return logged[0]

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


def make_views(
    batch: Batch, recipes: tuple[ViewRecipe, ...], rule: DatasetRule, image_size: int, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Return one distorted, normalised batch [N, 3, S, S] per recipe, channels last."""
    make = gpu_view_function() if batch.images.is_cuda else training_view
    return tuple(
        make(batch.images, parameters, recipe, image_size, rule, dtype)
        for recipe, parameters in zip(recipes, batch.parameters, strict=True)
    )


MakeView: TypeAlias = Callable[[Tensor, ViewParameters, ViewRecipe, int, DatasetRule, torch.dtype], Tensor]


@functools.cache
def gpu_view_function() -> MakeView:
    """Return what makes a GPU's views: a Triton kernel, which takes 1/12 to 1/7 of the time of torch.compile's code.

    Without Triton, as on Windows, it is `training_view`: some hundred passes over the pixels.
    """
    if importlib.util.find_spec("triton") is None:
        return training_view
    from twinbench.harness.data.augmentation_triton import view_by_kernel

    return view_by_kernel
