"""Squared products of features, as Barlow Twins and VICReg need them, by the cheaper of two exact forms.

For a, b [N, D] and C = a^T b, both losses ask for the diagonal of C and for the sum of all other squared entries.

direct  C itself, D x D. Its diagonal is taken out before the squares are summed, so nothing cancels.
Gram    sum_ij C_ij^2 = <a a^T, b b^T>, two N x N matrices, less the squared diagonal (the identity is that of
        arXiv 2206.02574). C is never made: N = 256, D = 8192 takes 0.5 MiB in place of 256.

What the subtraction loses: the rounding of the Gram form is some units in the last place of ||C||^2, not of what is
left of it. C has rank N at most, so ||C||^2 >= (sum_i |C_ii|)^2 / N: as all of the diagonal comes close to one value,
at least 1 - N/D of ||C||^2 stays off it, and the Gram form is only taken below N = 3/4 D (two bits at worst) or, of one
matrix, 0.85 D (three). Where many C_ii are small instead, Barlow Twins' diagonal term outweighs the rounding.
Covariances of which a few features hold all variance (fewer than N of them, none correlated) lose more, relative to a
sum that is then next to nothing. It is held at 0 from below.

Shapes: N samples, D features.
"""

from typing import Any, TypeAlias

import torch
from torch import Tensor

from twinbench.methods.ops.precision import full_precision

Products: TypeAlias = tuple[Tensor, Tensor]
Gradients: TypeAlias = tuple[Tensor | None, Tensor | None]


def squared_products(a: Tensor, b: Tensor | None = None) -> Products:
    """The diagonal of a^T b, [D], and the sum of its squared entries off the diagonal. Without b: of a^T a.

    a, b: [N, D], row n of both from one sample. Differentiable once.
    """
    samples, width = a.shape
    form = GramForm if gram_is_cheaper(samples, width, alone=b is None) else DirectForm
    diagonal, off_diagonal = form.apply(a, b)
    return diagonal, off_diagonal


def gram_is_cheaper(samples: int, width: int, alone: bool) -> bool:
    """Whether the Gram form takes less time, forward and backward.

    Of two matrices it has 8 N^2 D operations, and the direct form 6 N D^2; of one both have half, 4 N^2 D and 4 N D^2,
    but the direct form passes over more memory, and the forms meet short of N = D (2 cores, N and D from 64 to 8192).
    """
    return samples < (0.85 if alone else 0.75) * width


class GramForm(torch.autograd.Function):
    """`squared_products` by two N x N matrices, or one where b is a."""

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
        # b C^T = (b b^T) a, and a C = (a a^T) b; the small matrices take the scale
        with full_precision(a.device.type):
            if b is None:
                return (a * (2 * by_feature)).addmm_(2 * twice * gram_a, a), None
            to_a = (b * by_feature).addmm_(twice * gram_b, a)
            return to_a, (a * by_feature).addmm_(twice * gram_a, b)


class DirectForm(torch.autograd.Function):
    """`squared_products` by the D x D matrix, which is kept once, without its diagonal."""

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
