"""What the losses share: how precisely they compute, and which batches they take."""

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
    """Inside, products of fp32 matrices are computed in fp32: no autocast, no TF32, no bf16 in their place.

    A hand-written backward needs it as much as the loss: it runs under whatever holds where `backward` is called.
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
    """`loss` computed in fp32 at least: half-precision tensors are cast up, fp64 stays, `full_precision` holds inside.

    Sums of D x D squares and exponentials of similarities lose more in bf16 than the matrix product gains.
    """

    @functools.wraps(loss)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        values = (*args, *kwargs.values())
        device = next(value.device.type for value in values if isinstance(value, Tensor))
        with full_precision(device):
            # the casts keep every argument what it was, a tensor or a number, so the signature holds
            return loss(*map(_cast_up, args), **{key: _cast_up(value) for key, value in kwargs.items()})  # type: ignore[arg-type]

    return wrapper


def _cast_up(value: object) -> object:
    if isinstance(value, Tensor) and value.dtype in LOW_PRECISION:
        return value.float()
    return value


def check_batch(*tensors: Tensor, least: int) -> None:
    """ValueError unless all are [N, D] of one shape, N >= `least`: broadcasting would give a wrong loss silently."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise ValueError(f"the views' outputs must be [N, D] of one shape, not {', '.join(map(str, shapes))}")
    if shapes[0][0] < least:
        raise ValueError(f"this loss compares samples within a batch and needs at least {least}, not {shapes[0][0]}")
