"""CUDA graphs: work is captured once and then replayed, so that no kernel waits for Python to launch it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn, TypeAlias

import torch
from torch import Tensor, nn

from twinbench.harness.data.augmentation import ViewParameters
from twinbench.harness.training.batches import Batch

LEAST_BYTES = 2**25  # of free memory to begin a capture: torch 2.11 aborts the process if memory runs out at its start

ModuleState: TypeAlias = Mapping[str, bool | int | float | str | Tensor]
"""What a module keeps in Python, by name: plain values, and its weights and buffers."""


class NotCapturable(Exception):
    """A loss reads something that changes at every step; a captured graph would repeat its first value."""


class CaptureStep:
    """The step that a loss gets while its update is captured: it has the samples' indices and nothing else."""

    def __init__(self, sample_indices: Tensor) -> None:
        self.sample_indices = sample_indices

    def __getattr__(self, name: str) -> NoReturn:
        raise NotCapturable(f"its loss reads the step's {name}")


class CapturedUpdate:
    """Captures `update` on the first batch and replays it on others of the same shape.

    `update` takes a batch and returns a tensor. It must not wait for the device, and must not depend on a number that
    Python keeps: learning rates are tensors, and `python_state` of its modules must not change. Capturing runs nothing,
    and a capture that fails leaves everything as it was.
    """

    def __init__(self, update: Callable[[Batch], Tensor], batch: Batch) -> None:
        self._batch = _copied(batch)
        self._graph = torch.cuda.CUDAGraph()
        with _capturing(self._graph):
            self._output = update(self._batch)

    def __call__(self, batch: Batch) -> Tensor:
        for static, given in zip(self._batch.tensors(), batch.tensors(), strict=True):
            static.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._output.clone()


def captured(work: Callable[[], None]) -> Callable[[], None]:
    """Return `work` captured as a graph, or `work` itself where that fails, for example for lack of memory.

    It must have run before.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        with _capturing(graph):
            work()
    except RuntimeError:
        torch.cuda.synchronize()  # raises if the device itself is broken, not only the capture
        return work
    return graph.replay


@contextlib.contextmanager
def _capturing(graph: torch.cuda.CUDAGraph) -> Iterator[None]:
    """Capture what is launched within, on the stream that will replay it in a pack.

    cuBLAS keeps one workspace per stream: two graphs captured on one stream would share it while they run at the same
    time. Other threads may use the device meanwhile, since images are pinned and heartbeats go on.
    """
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # a graph has a memory pool of its own, and cannot use what the allocator caches
    if torch.cuda.mem_get_info()[0] < LEAST_BYTES:
        raise torch.OutOfMemoryError("CUDA out of memory before a capture")
    with torch.cuda.graph(graph, stream=_side_stream(), capture_error_mode="thread_local"):
        yield


def own_streams(device: torch.device, count: int) -> list[torch.cuda.Stream | None]:
    """Return a stream for each of `count` trainings that take turns on a GPU; None on a CPU or for a single one."""
    if device.type != "cuda" or count == 1:
        return [None] * count
    return [torch.cuda.Stream(device) for _ in range(count)]  # type: ignore[no-untyped-call]


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work on every stream; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def on_side_stream(work: Callable[[], None]) -> None:
    """Run `work` eagerly off the default stream, so that libraries set themselves up there before a capture."""
    side = _side_stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)


def _side_stream() -> torch.cuda.Stream:
    """Return the current stream, or a new one if that is the default stream, which cannot be captured."""
    current = torch.cuda.current_stream()
    return torch.cuda.Stream() if current == torch.cuda.default_stream() else current  # type: ignore[no-untyped-call]


def python_state(module: nn.Module) -> ModuleState:
    """Return what a module and its parts keep in Python, by name: numbers, strings, weights and buffers.

    Of a tensor the address matters here, not the values.
    """
    found: dict[str, bool | int | float | str | Tensor] = {
        f"{where}.{name}": value
        for where, part in module.named_modules()
        for name, value in vars(part).items()
        if isinstance(value, bool | int | float | str)
    }
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return found | {name: tensor.detach() for name, tensor in tensors}  # held, so that their memory is not reused


def first_change(before: ModuleState, module: nn.Module) -> str:
    """Return the name of the first item of `python_state` that differs from `before`; empty if none does."""

    def identity(value: object) -> object:
        return ("tensor", value.data_ptr()) if isinstance(value, Tensor) else value

    now = python_state(module)
    return next((name for name in now if identity(now[name]) != identity(before.get(name))), "")


def _copied(batch: Batch) -> Batch:
    parameters = tuple(ViewParameters(*map(Tensor.clone, one)) for one in batch.parameters)
    views = tuple(map(Tensor.clone, batch.views))
    return Batch(batch.images.clone(), batch.ids.clone(), parameters, views)
