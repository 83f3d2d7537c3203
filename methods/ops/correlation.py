"""Sums of squared feature products for Barlow Twins and VICReg, by the cheaper of two exact forms.

For a, b [N, D] and C = a^T b, both losses need the diagonal of C and the sum of all other squared entries.

direct  C itself, D x D. Its diagonal is set to 0 before the squares are summed, so nothing cancels.
Gram    sum_ij C_ij^2 = <a a^T, b b^T>, two N x N matrices, minus the squared diagonal (identity from arXiv
        2206.02574). C is never computed: N = 256, D = 8192 takes 0.5 MiB instead of 256.

Precision of the subtraction: the Gram form's rounding error is some units in the last place of ||C||^2, not of the
difference. C has rank at most N, so ||C||^2 >= (sum_i |C_ii|)^2 / N. If all diagonal entries are nearly equal, at least
1 - N/D of ||C||^2 is off the diagonal, and the Gram form is used only below N = 3/4 D (two bits lost at worst) or, for
one matrix, 0.85 D (three). If many C_ii are small, Barlow Twins' diagonal term is larger than the rounding error.
Covariances where fewer than N uncorrelated features have all the variance lose more, relative to a sum that is then
almost 0. The result is clamped at 0.

Shapes: N samples, D features.
"""

from typing import Any, TypeAlias

import torch
from torch import Tensor

from twinbench.methods.ops.precision import full_precision

Products: TypeAlias = tuple[Tensor, Tensor]
Gradients: TypeAlias = tuple[Tensor | None, Tensor | None]


def squared_products(a: Tensor, b: Tensor | None = None) -> Products:
    """Return the diagonal of a^T b, [D], and the sum of its squared off-diagonal entries. Without b, of a^T a.

    a, b: [N, D], row n of both from one sample. Differentiable once.
    """
    samples, width = a.shape
    form = GramForm if gram_is_cheaper(samples, width, alone=b is None) else DirectForm
    diagonal, off_diagonal = form.apply(a, b)
    return diagonal, off_diagonal


def gram_is_cheaper(samples: int, width: int, alone: bool) -> bool:
    """Return whether the Gram form takes less time, forward and backward.

    For two matrices it has 8 N^2 D operations and the direct form 6 N D^2; for one, 4 N^2 D and 4 N D^2. The direct
    form reads more memory, so both take the same time at some N smaller than D (measured on 2 cores,
    N and D from 64 to 8192).
    """
    return samples < (0.85 if alone else 0.75) * width


class GramForm(torch.autograd.Function):
    """`squared_products` by two N x N matrices, or one if b is None."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor | None) -> Products:
        gram_a = a @ a.T
        gram_b = gram_a if b is None else b @ b.T
        diagonal = (a * (a if b is None else b)).sum(0)
        off_diagonal = ((gram_a * gram_b).sum() - diagonal.square().sum()).clamp_min(0)
        ctx.save_for_backward(a, b, gram_a, gram_b, diagonal)
        return diagonal, off_diagonal

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_diagonal: Tensor, to_off_diagonal: Tensor) -> Gradients:
        a, b, gram_a, gram_b, diagonal = ctx.saved_tensors
        twice = 2 * to_off_diagonal
        by_feature = to_diagonal - twice * diagonal
        # b C^T = (b b^T) a, and a C = (a a^T) b; scaling the small matrices is cheaper
        with full_precision(a.device.type):
            if b is None:
                return (a * (2 * by_feature)).addmm_(2 * twice * gram_a, a), None
            to_a = (b * by_feature).addmm_(twice * gram_b, a)
            return to_a, (a * by_feature).addmm_(twice * gram_a, b)


class DirectForm(torch.autograd.Function):
    """`squared_products` by the D x D matrix, which is stored once, without its diagonal."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor | None) -> Products:
        c_DD = a.T @ (a if b is None else b)
        diagonal = c_DD.diagonal().clone()
        c_DD.fill_diagonal_(0)
        # row by row: no copy of squares, and on a CPU one fp32 norm over 8192^2 numbers is wrong in its second digit
        off_diagonal = torch.linalg.vector_norm(c_DD, dim=1).square().sum()
        ctx.save_for_backward(a, b, c_DD)
        return diagonal, off_diagonal

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_diagonal: Tensor, to_off_diagonal: Tensor) -> Gradients:
        a, b, c_DD = ctx.saved_tensors
        to_c_DD = 2 * to_off_diagonal * c_DD
        to_c_DD.diagonal().copy_(to_diagonal)
        with full_precision(a.device.type):
            if b is None:
                return a @ to_c_DD.mul_(2), None  # symmetric
            return b @ to_c_DD.T, a @ to_c_DD
