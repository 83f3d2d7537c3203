"""What the losses share: how precisely they compute, and the off-diagonal entries of a matrix."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

LOW_PRECISION = (torch.float16, torch.bfloat16)


def in_full_precision(loss: Callable[P, R]) -> Callable[P, R]:
    """`loss` computed in fp32 at least: half-precision tensors are cast up, fp64 stays, autocast is off inside.

    Sums of D x D squares and exponentials of similarities lose more in bf16 than the matrix product gains.
    """

    @functools.wraps(loss)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        values = (*args, *kwargs.values())
        device = next(value.device.type for value in values if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
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


def off_diagonal_entries(matrix_DD: Tensor) -> Tensor:
    """The entries of a square matrix that are not on its diagonal, [D - 1, D]; a view, row after row.

    Without the first entry, the flattened matrix falls into rows of D + 1 that each end with a diagonal entry.
    No D x D mask is made, and, unlike the sum of all squares less the diagonal's, nothing cancels.
    """
    width = len(matrix_DD)
    return matrix_DD.flatten()[1:].view(width - 1, width + 1)[:, :-1]
