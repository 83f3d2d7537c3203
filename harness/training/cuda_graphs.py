"""Work as a CUDA graph: recorded once, then replayed, so that no kernel waits for Python to launch it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from twinbench.harness.data.augmentation import ViewParameters
from twinbench.harness.training.batches import Batch

LEAST_BYTES = 2**25  # free, or nothing is recorded: where memory ends as one begins, torch 2.11 ends the process


class NotRecordable(Exception):
    """A loss asks for what is another thing at each step, which a recording would repeat as it once was."""


class StandingStep:
    """Stands for a `Step` while an update is recorded: gives the samples' indices and nothing else."""

    def __init__(self, sample_indices: Tensor) -> None:
        self.sample_indices = sample_indices

    def __getattr__(self, name: str) -> Any:
        raise NotRecordable(f"its loss reads the step's {name}")


class RecordedUpdate:
    """Replays `update`, as it was recorded on the first batch, on others of the same shape.

    `update` takes a batch and gives a tensor. It must neither wait for the device nor depend on a number that Python
    keeps: learning rates are tensors, and what `kept_by` finds in a module must stand still. Recording runs nothing,
    and a recording that fails leaves everything as it was.
    """

    def __init__(self, update: Callable[[Batch], Tensor], batch: Batch) -> None:
        self._batch = _copied(batch)
        self._graph = torch.cuda.CUDAGraph()
        with _recording_to(self._graph):
            self._given = update(self._batch)

    def __call__(self, batch: Batch) -> Tensor:
        for there, here in zip(self._batch.tensors(), batch.tensors(), strict=True):
            there.copy_(here, non_blocking=True)
        self._graph.replay()
        return self._given.clone()


def recorded(work: Callable[[], None]) -> Callable[[], None]:
    """`work`, which must have run before, as a recording; as it is where that fails, for want of memory say."""
    graph = torch.cuda.CUDAGraph()
    try:
        with _recording_to(graph):
            work()
    except RuntimeError:
        torch.cuda.synchronize()  # raises where it was no recording's fault, and the device can be used no more
        return work
    return graph.replay


@contextlib.contextmanager
def _recording_to(graph: torch.cuda.CUDAGraph) -> Iterator[None]:
    """Records what is launched within it, on the stream that replays it in a pack.

    cuBLAS keeps a workspace for each stream, and two recordings made on one stream would write to the same when they
    run beside each other. Other threads may go on with the device: images are pinned and hearts beat meanwhile.
    """
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # a recording has memory of its own, and cannot take what is kept for others
    if torch.cuda.mem_get_info()[0] < LEAST_BYTES:
        raise torch.OutOfMemoryError("CUDA out of memory before a recording")
    with torch.cuda.graph(graph, stream=_side_stream(), capture_error_mode="thread_local"):
        yield


def own_streams(device: torch.device, count: int) -> list[torch.cuda.Stream | None]:
    """One for each of `count` trainings that take turns on a GPU; None where there is nothing to run beside."""
    if device.type != "cuda" or count == 1:
        return [None] * count
    return [torch.cuda.Stream(device) for _ in range(count)]  # type: ignore[no-untyped-call]


def settle(device: torch.device) -> None:
    """Waits until the device has done all, on every stream."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def beside_the_default_stream(work: Callable[[], None]) -> None:
    """Runs `work` as it is: what libraries set up at their first calls must be there before a recording."""
    side = _side_stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)


def _side_stream() -> torch.cuda.Stream:
    """The current stream, or a new one where that is the default stream, which cannot be recorded."""
    current = torch.cuda.current_stream()
    return torch.cuda.Stream() if current == torch.cuda.default_stream() else current  # type: ignore[no-untyped-call]


def kept_by(module: nn.Module) -> dict[str, Any]:
    """What a module and its parts keep in Python, by name: numbers, strings, and their weights and buffers.

    Of a tensor its values are nobody's concern here, but where they are.
    """
    found = {
        f"{where}.{name}": value
        for where, part in module.named_modules()
        for name, value in vars(part).items()
        if isinstance(value, bool | int | float | str)
    }
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return found | {name: tensor.detach() for name, tensor in tensors}  # held, so that no other takes its place


def moved_since(before: dict[str, Any], module: nn.Module) -> str:
    """The name of the first thing that the module keeps otherwise than it did; empty where all stand still."""

    def is_same(was: Any, value: Any) -> bool:
        if isinstance(value, Tensor):
            return isinstance(was, Tensor) and was.data_ptr() == value.data_ptr()
        return not isinstance(was, Tensor) and bool(was == value)

    return next((name for name, value in kept_by(module).items() if not is_same(before.get(name), value)), "")


def _copied(batch: Batch) -> Batch:
    parameters = tuple(
        ViewParameters(**{part.name: getattr(one, part.name).clone() for part in fields(ViewParameters)})
        for one in batch.parameters
    )
    views = tuple(view.clone() for view in batch.views)
    return Batch(batch.images.clone(), batch.ids.clone(), parameters, views)
