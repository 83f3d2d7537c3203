"""Squared products of features are exact in both forms, value and gradient, and no larger matrix than needed is made.

Claims: both forms equal loops in float64 and finite differences, whichever of N and D is larger; fp32 keeps its digits
where the correlation comes close to the identity; the cheaper form is taken; precision holds in backward too.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from twinbench.methods import simclr
from twinbench.methods.barlow_twins import barlow_twins_loss
from twinbench.methods.method import LossTerms
from twinbench.methods.ops.correlation import DirectForm, GramForm, Products, squared_products
from twinbench.methods.ops.precision import full_precision
from twinbench.methods.simclr import ntxent_loss
from twinbench.methods.vicreg import vicreg_loss

Form = Callable[[Tensor, Tensor | None], Products]
each_form = pytest.mark.parametrize("form", [GramForm.apply, DirectForm.apply], ids=["gram", "direct"])
each_shape = pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (2, 9), (6, 1)], ids=str)
with_another_or_itself = pytest.mark.parametrize("another", [True, False], ids=["a and b", "a alone"])

LOSSES: dict[str, Callable[[Tensor, Tensor], LossTerms]] = {
    "barlow_twins": lambda z1, z2: barlow_twins_loss(z1, z2, 0.3),
    "ntxent": lambda z1, z2: ntxent_loss(z1, z2, 0.4),
    "vicreg": lambda z1, z2: vicreg_loss(z1, z2, 25, 20, 1.5),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def draw(samples: int, width: int, seed: int) -> Tensor:
    return torch.randn(samples, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(samples: int, width: int) -> Tensor:
    """Columns (or, in a wide matrix, rows) of one length that are orthogonal to each other and to the constant one."""
    centred = draw(samples, width, seed=0)
    centred -= centred.mean(0)
    u, _, v = torch.linalg.svd(centred, full_matrices=False)
    rank = min(samples - 1, width)
    return u[:, :rank] @ v[:rank] * samples**0.5


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.detach().double() - expected.detach()).norm() / expected.detach().norm())


# ---- both forms ----


@each_form
@each_shape
@with_another_or_itself
def test_both_forms_equal_the_products_as_loops(form: Form, shape: tuple[int, int], another: bool) -> None:
    a, b = draw(*shape, seed=1), draw(*shape, seed=2) if another else None
    diagonal, off_diagonal = form(a, b)
    others = a if b is None else b
    width = range(shape[1])
    products = [[sum(float(x * y) for x, y in zip(a[:, i], others[:, j], strict=True)) for j in width] for i in width]
    assert diagonal.tolist() == pytest.approx([products[i][i] for i in width], rel=1e-12)
    expected = sum(products[i][j] ** 2 for i in width for j in width if i != j)
    assert float(off_diagonal) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@each_form
@each_shape
@with_another_or_itself
def test_gradients_of_both_forms_equal_finite_differences(form: Form, shape: tuple[int, int], another: bool) -> None:
    a, b = (draw(*shape, seed=seed).requires_grad_() for seed in (1, 2))
    assert torch.autograd.gradcheck(form, (a, b if another else None))


@each_shape
@pytest.mark.parametrize("loss", [LOSSES["barlow_twins"], LOSSES["vicreg"]], ids=["barlow_twins", "vicreg"])
def test_gradients_of_the_losses_equal_finite_differences_whichever_of_n_and_d_is_larger(
    loss: Callable[[Tensor, Tensor], LossTerms], shape: tuple[int, int]
) -> None:
    z1, z2 = (draw(*shape, seed=seed).requires_grad_() for seed in (1, 2))
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b).total, (z1, z2))


@pytest.mark.parametrize(
    ("samples", "another", "form"),
    [(2, True, "Gram"), (47, True, "Gram"), (48, True, "Direct"), (54, False, "Gram"), (55, False, "Direct")],
)
def test_the_cheaper_form_is_taken(samples: int, another: bool, form: str) -> None:
    """Of two matrices, 8 N^2 D operations against 6 N D^2: they meet at N = 48 for D = 64."""
    a, b = (draw(samples, 64, seed=seed).requires_grad_() for seed in (1, 2))
    diagonal, _ = squared_products(a, b if another else None)
    assert diagonal.grad_fn is not None and diagonal.grad_fn.name() == f"{form}FormBackward"


# ---- digits ----


@pytest.mark.parametrize(("samples", "width"), [(256, 64), (64, 64), (190, 256)])
def test_fp32_keeps_its_digits_as_the_correlation_comes_close_to_the_identity(samples: int, width: int) -> None:
    """Off-diagonal entries of 1e-4 beside ones (N > D), or as few as there can be when D > N, just in the Gram form."""
    view = orthogonal(samples, width) + 1e-4 * draw(samples, width, seed=3)
    z1, z2 = view.float(), (view + 1e-4 * draw(samples, width, seed=4)).float()
    exact = [z.double().requires_grad_() for z in (z1, z2)]
    expected = barlow_twins_loss(exact[0], exact[1], 1.0)
    rough = [z.requires_grad_() for z in (z1, z2)]
    actual = barlow_twins_loss(rough[0], rough[1], 1.0)
    assert relative(actual.parts["off_diagonal"], expected.parts["off_diagonal"]) < 1e-3
    expected.total.backward()
    actual.total.backward()
    for r, e in zip(rough, exact, strict=True):
        assert r.grad is not None and e.grad is not None
        assert relative(r.grad, e.grad) < 5e-3


def test_the_subtraction_that_the_direct_form_avoids_would_lose_all_digits_there() -> None:
    a = orthogonal(256, 64).float() / 16 + 1e-6 * draw(256, 64, seed=3).float()
    c = a.T @ a
    exact = squared_products(a.double())[1]
    assert relative(squared_products(a)[1], exact) < 1e-2
    assert relative(c.square().sum() - c.diagonal().square().sum(), exact) > 0.5


def test_the_gram_form_is_good_to_the_last_places_of_all_squares_and_never_negative() -> None:
    """Three uncorrelated features hold all variance: nothing is off the diagonal."""
    for seed in range(20):
        features = torch.zeros(32, 256)
        features[:, :3] = orthogonal(32, 3).float() * draw(1, 3, seed=seed).float()
        diagonal, off_diagonal = squared_products(features)
        assert 0 <= float(off_diagonal) < 1e-6 * float(diagonal.square().sum())


@pytest.mark.parametrize(("samples", "width"), [(64, 512), (256, 300), (300, 256), (512, 64)])
@each_loss
def test_fp32_gives_the_value_and_gradient_of_float64(
    loss: Callable[[Tensor, Tensor], LossTerms], samples: int, width: int
) -> None:
    rough = [(draw(samples, width, seed=seed) + draw(samples, width, seed=3) + 2).float() for seed in (1, 2)]
    exact = [z.double().requires_grad_() for z in rough]
    rough = [z.requires_grad_() for z in rough]
    totals = [loss(*views).total for views in (rough, exact)]
    assert relative(totals[0], totals[1]) < 2e-6
    for r, e in zip(torch.autograd.grad(totals[0], rough), torch.autograd.grad(totals[1], exact), strict=True):
        assert relative(r, e) < 5e-6


# ---- sizes ----


class Largest(TorchDispatchMode):
    """Notes how many entries the largest tensor has that any operation gives."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.entries = max(self.entries, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


@pytest.mark.parametrize(("samples", "width"), [(8, 400), (400, 8)])
@pytest.mark.parametrize("name", ["barlow_twins", "vicreg"])
def test_nothing_larger_than_a_view_is_made(name: str, samples: int, width: int) -> None:
    z1, z2 = (draw(samples, width, seed=seed).requires_grad_() for seed in (1, 2))
    with Largest() as largest:
        LOSSES[name](z1, z2).total.backward()  # type: ignore[no-untyped-call]
    assert largest.entries == samples * width


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Seven rows of the logits of 20 images at a time, which is no divisor of 40."""
    monkeypatch.setattr(simclr, "BLOCK_ENTRIES", 7 * 40)
    yield 7 * 40


def test_ntxent_in_blocks_equals_one_block_and_holds_no_more_logits_than_a_block(
    small_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    z1, z2 = (draw(20, 3, seed=seed).requires_grad_() for seed in (1, 2))
    with Largest() as largest:
        total = ntxent_loss(z1, z2, 0.1).total
        gradients = torch.autograd.grad(total, (z1, z2))
    assert largest.entries == small_blocks
    monkeypatch.undo()
    whole = ntxent_loss(z1, z2, 0.1).total
    torch.testing.assert_close(total, whole, rtol=1e-12, atol=0)
    for actual, expected in zip(gradients, torch.autograd.grad(whole, (z1, z2)), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-14)


def test_ntxent_keeps_similarities_finite_at_a_temperature_whose_exponentials_overflow() -> None:
    z1, z2 = (draw(4, 3, seed=seed).float().requires_grad_() for seed in (1, 2))
    total = ntxent_loss(z1, z2, 1e-3).total
    assert torch.isfinite(total)
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(total, (z1, z2)))


# ---- precision, and calls that are repeated ----


def test_full_precision_holds_inside_and_what_held_before_holds_again_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(ZeroDivisionError), full_precision("cpu"):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"  # type: ignore[attr-defined]
            _ = 1 / 0
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"  # type: ignore[attr-defined]
    finally:
        torch.set_float32_matmul_precision(before)


@each_loss
@pytest.mark.parametrize("shape", [(16, 80), (80, 16)])
def test_autocast_around_backward_changes_no_bit_of_the_gradient(
    loss: Callable[[Tensor, Tensor], LossTerms], shape: tuple[int, int]
) -> None:
    views = [draw(*shape, seed=seed).float().requires_grad_() for seed in (1, 2)]
    expected = torch.autograd.grad(loss(*views).total, views)
    total = loss(*views).total
    with torch.autocast("cpu", torch.bfloat16):
        actual = torch.autograd.grad(total, views)
    assert all(map(torch.equal, actual, expected))


@each_loss
@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_a_second_backward_over_a_kept_graph_gives_the_same_gradient(
    loss: Callable[[Tensor, Tensor], LossTerms], shape: tuple[int, int]
) -> None:
    views = [draw(*shape, seed=seed).requires_grad_() for seed in (1, 2)]
    total = loss(*views).total
    first = torch.autograd.grad(total, views, retain_graph=True)
    assert all(map(torch.equal, torch.autograd.grad(total, views), first))


@each_loss
@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_the_value_is_the_same_where_no_gradient_is_asked_for(
    loss: Callable[[Tensor, Tensor], LossTerms], shape: tuple[int, int]
) -> None:
    z1, z2 = (draw(*shape, seed=seed) for seed in (1, 2))
    plain, tracked = loss(z1, z2).total, loss(z1.clone().requires_grad_(), z2).total
    assert not plain.requires_grad
    assert torch.equal(plain, tracked.detach())
