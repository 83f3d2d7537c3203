"""What all losses share: their precision, and the check of their input."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

LOW_PRECISION = (torch.float16, torch.bfloat16)


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Compute products of fp32 matrices in fp32 inside: without autocast, TF32 or bf16.

    A hand-written backward needs this too, because it runs under the settings where `backward` is called.
    """
    matmuls: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    precisions = [matmul.fp32_precision for matmul in matmuls]
    try:
        for matmul in matmuls:
            matmul.fp32_precision = "ieee"
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for matmul, precision in zip(matmuls, precisions, strict=True):
            matmul.fp32_precision = precision


def in_full_precision(loss: Callable[P, R]) -> Callable[P, R]:
    """Compute `loss` in at least fp32: half-precision tensors are cast to fp32, fp64 stays, `full_precision` applies.

    In bf16, sums of D x D squares and exponentials of similarities lose more precision than the speed is worth.
    """

    @functools.wraps(loss)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        values = (*args, *kwargs.values())
        device = next(value.device.type for value in values if isinstance(value, Tensor))
        with full_precision(device):
            # casts keep tensors tensors and numbers numbers, so the signature holds
            return loss(*map(_cast_up, args), **{key: _cast_up(value) for key, value in kwargs.items()})  # type: ignore[arg-type]

    return wrapper


def _cast_up(value: object) -> object:
    if isinstance(value, Tensor) and value.dtype in LOW_PRECISION:
        return value.float()
    return value


def check_batch(*tensors: Tensor, least: int) -> None:
    """Raise ValueError unless all are [N, D] of one shape, N >= `least`; broadcasting would give a wrong loss."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise ValueError(f"the views' outputs must be [N, D] of one shape, not {', '.join(map(str, shapes))}")
    if shapes[0][0] < least:
        raise ValueError(f"this loss compares samples within a batch and needs at least {least}, not {shapes[0][0]}")
