"""One update: views, forward, backward, optimiser; as it is, or recorded on a GPU."""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from twinbench.harness.data.augmentation import training_view
from twinbench.harness.system.memory import has_run_out
from twinbench.harness.training.batches import Batch
from twinbench.harness.training.cuda_graphs import (
    NotRecordable,
    RecordedUpdate,
    StandingStep,
    beside_the_default_stream,
    kept_by,
    moved_since,
)
from twinbench.methods.method import LossTerms, Step, Views
from twinbench.sweeps.protocol import DatasetRule, Training
from twinbench.sweeps.recipe import ViewRecipe

Tell: TypeAlias = Callable[[Step, tuple[str, ...], Tensor], None]
AS_IT_IS = 3  # updates before a recording: libraries set themselves up in them


class Update:
    """Trains `module` by `loss_of`, batch by batch.

    `tell` gets the step, and names and values of the loss and its parts: float64 [1 + parts] on the device,
    not waited for. It is called between the forward and the backward pass, and may raise to end there. With `records`,
    for one GPU, the first updates run as they are and the others as a CUDA graph, where the loss allows it; `tell` is
    then called after the update has been sent to the device.
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
        tell: Tell,
        ranks: int = 1,
        records: bool = False,
    ) -> None:
        self._module, self._loss_of, self._optimiser, self._training = module, loss_of, optimiser, training
        self._recipes, self._rule, self._image_size = recipes, rule, image_size
        self._autocast, self._tell, self._ranks = autocast, tell, ranks
        self._left = AS_IT_IS if records else -1
        self._kept: dict[str, Any] = {}
        self._recorded: RecordedUpdate | None = None
        self._names: tuple[str, ...] = ()

    @property
    def is_recorded(self) -> bool:
        """Whether updates are replayed by now."""
        return self._recorded is not None

    def __call__(self, batch: Batch, step: Step) -> None:
        """Makes the update."""
        if batch.images.is_cuda:  # streams and recordings are of the current device
            torch.cuda.set_device(batch.images.device)
        if self._left == 0:
            self._recorded = self._record(batch)
        self._left = max(self._left - 1, -1)
        if self._recorded:
            self._tell(step, self._names, self._recorded(batch))
        elif self._left >= 0:
            if self._left == 0:
                self._kept = kept_by(self._module)
            beside_the_default_stream(lambda: self._optimise(self._forward(batch, step, self._tell)))
        else:
            self._optimise(self._forward(batch, step, self._tell))

    def _forward(self, batch: Batch, step: Step, tell: Tell) -> Tensor:
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self._autocast):
            loss = self._loss_of(self._views(batch), step)
        self._names = ("loss", *(f"loss/{name}" for name in loss.parts))
        terms = torch.stack([part.detach().double() for part in (loss.total, *loss.parts.values())])
        tell(step, self._names, terms)
        # averaged over ranks, where their sum is the gradient: methods/ranks.py says why
        return loss.total if self._ranks == 1 else loss.total * self._ranks

    def _optimise(self, total: Tensor) -> None:
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if self._training.clip_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._module.parameters(), self._training.clip_gradient_norm)
        self._optimiser.step()

    def _views(self, batch: Batch) -> list[Tensor]:
        """Those that came with the batch, or made here, where a recording takes them in."""
        dtype = torch.bfloat16 if self._autocast else torch.float32
        return list(batch.views or make_views(batch, self._recipes, self._rule, self._image_size, dtype))

    def _record(self, batch: Batch) -> RecordedUpdate | None:
        """None for what cannot be recorded: it goes on as it is, and the log says why.

        In a pack, whose batches come with their views, OutOfMemoryError where memory ends: alone it may be recorded.
        """
        told: list[Tensor] = []

        def whole(batch: Batch) -> Tensor:
            step = cast(Step, StandingStep(batch.ids))
            self._optimise(self._forward(batch, step, lambda _step, _names, terms: told.append(terms)))
            return told[0]

        try:
            if moved := moved_since(self._kept, self._module):
                raise NotRecordable(f"{moved} is another number, or another tensor, after each update")
            self._optimiser.zero_grad(set_to_none=True)
            return RecordedUpdate(whole, batch)
        except (NotRecordable, RuntimeError) as error:
            if batch.views and _ran_out(error):
                raise torch.OutOfMemoryError(str(error)) from error
            torch.cuda.synchronize()  # raises where it was no recording's fault, and the device can be used no more
            print(f"the update is not recorded as a CUDA graph: {error}", flush=True)
            return None
        finally:
            self._kept = {}


def _ran_out(error: BaseException | None) -> bool:
    """Whether memory did: what ends a recording at that may raise an error of its own."""
    while error is not None and not has_run_out(error):
        error = error.__context__
    return error is not None


def make_views(
    batch: Batch, recipes: tuple[ViewRecipe, ...], rule: DatasetRule, image_size: int, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """One distorted, normalised batch [N, 3, S, S] per recipe, channels last."""
    make = kernel_of_views() if batch.images.is_cuda else training_view
    return tuple(
        make(batch.images, parameters, recipe, image_size, rule, dtype)
        for recipe, parameters in zip(recipes, batch.parameters, strict=True)
    )


@functools.cache
def kernel_of_views() -> Any:
    """Which makes a GPU's views: one launch, a seventh to a twelfth of the time of torch.compile's.

    Without Triton, as on Windows, some hundred passes over the pixels.
    """
    if importlib.util.find_spec("triton") is None:
        return training_view
    from twinbench.harness.data.augmentation_triton import view_by_kernel

    return view_by_kernel
