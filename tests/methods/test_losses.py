"""The losses equal the published equations.

Claims, method by method: the value is that of the equations written as loops over numbers in float64; the gradient is
that of finite differences; the invariances that the equations have hold; perfect and collapsed inputs give the values
worked out by hand; half precision is computed in fp32, autocast or not; wrong shapes are refused.
"""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from twinbench.methods.barlow_twins import barlow_twins_loss
from twinbench.methods.byol import byol_loss
from twinbench.methods.method import LossTerms
from twinbench.methods.simclr import ntxent_loss
from twinbench.methods.vicreg import vicreg_loss

N, D = 6, 4
Array = np.ndarray


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers whose features differ in mean and deviation."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return numbers * torch.linspace(0.3, 2, shape[-1], dtype=torch.float64) + torch.linspace(-1, 3, shape[-1])


def two_views(samples: int = N, width: int = D) -> tuple[Tensor, Tensor]:
    z1 = draw(samples, width, seed=1)
    return z1, z1 + 0.7 * draw(samples, width, seed=2)


LOSSES: dict[str, Callable[[Tensor, Tensor], LossTerms]] = {
    "barlow_twins": lambda z1, z2: barlow_twins_loss(z1, z2, 0.3),
    "ntxent": lambda z1, z2: ntxent_loss(z1, z2, 0.4),
    "byol": lambda z1, z2: byol_loss(z1, z2, draw(N, D, seed=3).to(z1), draw(N, D, seed=4).to(z1)),
    "vicreg": lambda z1, z2: vicreg_loss(z1, z2, 25, 20, 1.5),
}
each_shape = pytest.mark.parametrize("shape", [(N, D), (3, 7)], ids=["more samples", "more features"])
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


# ---- the equations, restated with loops over numbers ----


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def columns(z: Array) -> list[list[float]]:
    return [[float(z[b, i]) for b in range(z.shape[0])] for i in range(z.shape[1])]


def barlow_by_hand(z1: Array, z2: Array, weight: float) -> tuple[float, float, float]:
    def standardised(column: list[float]) -> list[float]:
        centre = mean(column)
        variance = mean([(value - centre) ** 2 for value in column])
        return [(value - centre) / math.sqrt(variance + 1e-5) for value in column]

    a, b = ([standardised(column) for column in columns(z)] for z in (z1, z2))
    on = off = 0.0
    for i, j in product(range(len(a)), repeat=2):
        c = mean([x * y for x, y in zip(a[i], b[j], strict=True)])
        if i == j:
            on += (1 - c) ** 2
        else:
            off += c**2
    return on + weight * off, on, off


def cosine(x: Array, y: Array) -> float:
    dot = sum(float(a) * float(b) for a, b in zip(x, y, strict=True))
    return dot / math.sqrt(sum(float(a) ** 2 for a in x)) / math.sqrt(sum(float(b) ** 2 for b in y))


def ntxent_by_hand(z1: Array, z2: Array, temperature: float) -> tuple[float, float, float]:
    def mean_over(anchors: Array, others: Array) -> float:
        losses = []
        for i in range(len(anchors)):
            positive = math.exp(cosine(anchors[i], others[i]) / temperature)
            total = sum(math.exp(cosine(anchors[i], others[k]) / temperature) for k in range(len(others)))
            total += sum(math.exp(cosine(anchors[i], anchors[k]) / temperature) for k in range(len(anchors)) if k != i)
            losses.append(-math.log(positive / total))
        return mean(losses)

    return mean_over(z1, z2) + mean_over(z2, z1), mean_over(z1, z2), mean_over(z2, z1)


def byol_by_hand(p1: Array, p2: Array, t1: Array, t2: Array) -> tuple[float, float, float]:
    first = mean([2 - 2 * cosine(p1[i], t2[i]) for i in range(len(p1))])
    second = mean([2 - 2 * cosine(p2[i], t1[i]) for i in range(len(p2))])
    return first + second, first, second


def vicreg_by_hand(z1: Array, z2: Array, lam: float, mu: float, nu: float) -> tuple[float, float, float, float]:
    samples, width = z1.shape
    distance = sum((float(z1[b, i]) - float(z2[b, i])) ** 2 for b, i in product(range(samples), range(width)))
    invariance = distance / (samples * width)
    variance = covariance = 0.0
    for z in (z1, z2):
        centred = [[value - mean(column) for value in column] for column in columns(z)]
        for i, j in product(range(width), repeat=2):
            cov = sum(x * y for x, y in zip(centred[i], centred[j], strict=True)) / (samples - 1)
            if i == j:
                variance += 0.5 * max(0.0, 1 - math.sqrt(cov + 1e-4)) / width
            else:
                covariance += cov**2 / width
    return lam * invariance + mu * variance + nu * covariance, invariance, variance, covariance


def values(terms: LossTerms) -> list[float]:
    return [float(terms.total), *(float(part) for part in terms.parts.values())]


@each_shape
def test_barlow_twins_loss_equals_the_equation_as_loops(shape: tuple[int, int]) -> None:
    z1, z2 = two_views(*shape)
    terms = barlow_twins_loss(z1, z2, 0.0051)
    assert list(terms.parts) == ["on_diagonal", "off_diagonal"]
    assert values(terms) == pytest.approx(barlow_by_hand(z1.numpy(), z2.numpy(), 0.0051), rel=1e-12)


def test_ntxent_loss_equals_the_equation_as_loops_and_is_twice_the_mean_over_both_views() -> None:
    z1, z2 = two_views()
    terms = ntxent_loss(z1, z2, 0.2)
    assert list(terms.parts) == ["view_1", "view_2"]
    assert values(terms) == pytest.approx(ntxent_by_hand(z1.numpy(), z2.numpy(), 0.2), rel=1e-12)
    assert float(terms.total) == pytest.approx(2 * mean(values(terms)[1:]), rel=1e-12)


def test_byol_loss_equals_the_equation_as_loops() -> None:
    tensors = [draw(N, D, seed=seed) for seed in range(4)]
    terms = byol_loss(*tensors)
    assert list(terms.parts) == ["view_1", "view_2"]
    assert values(terms) == pytest.approx(byol_by_hand(*(tensor.numpy() for tensor in tensors)), rel=1e-12)


@each_shape
def test_vicreg_loss_equals_the_official_code_as_loops(shape: tuple[int, int]) -> None:
    z1, z2 = (0.6 * z for z in two_views(*shape))  # deviations on both sides of the hinge
    terms = vicreg_loss(z1, z2, 25, 10, 2)
    assert list(terms.parts) == ["invariance", "variance", "covariance"]
    assert 0 < float((z1.std(0) < 1).double().mean()) < 1
    assert values(terms) == pytest.approx(vicreg_by_hand(z1.numpy(), z2.numpy(), 25, 10, 2), rel=1e-12)


# ---- gradients ----


@each_loss
def test_gradient_equals_finite_differences(loss: Callable[[Tensor, Tensor], LossTerms]) -> None:
    z1, z2 = (z.requires_grad_() for z in two_views())
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b).total, (z1, z2))


@each_loss
def test_parts_carry_no_gradient(loss: Callable[[Tensor, Tensor], LossTerms]) -> None:
    z1, z2 = (z.requires_grad_() for z in two_views())
    terms = loss(z1, z2)
    assert terms.total.requires_grad
    assert not any(part.requires_grad for part in terms.parts.values())


def test_no_gradient_reaches_byol_targets() -> None:
    tensors = [draw(N, D, seed=seed).requires_grad_() for seed in range(4)]
    byol_loss(*tensors).total.backward()
    p1, p2, t1, t2 = tensors
    assert p1.grad is not None and p2.grad is not None
    assert t1.grad is None and t2.grad is None


@each_loss
def test_collapsed_outputs_have_finite_gradients(loss: Callable[[Tensor, Tensor], LossTerms]) -> None:
    for constant in (0.0, 1.5):
        z1 = torch.full((N, D), constant, requires_grad=True)
        z2 = torch.full((N, D), constant, requires_grad=True)
        loss(z1, z2).total.backward()
        assert z1.grad is not None and torch.isfinite(z1.grad).all()
        assert z2.grad is not None and torch.isfinite(z2.grad).all()


# ---- invariances ----


@pytest.mark.parametrize("loss", [LOSSES[name] for name in ("barlow_twins", "ntxent", "vicreg")])
def test_swapping_the_views_leaves_the_loss(loss: Callable[[Tensor, Tensor], LossTerms]) -> None:
    z1, z2 = two_views()
    torch.testing.assert_close(loss(z1, z2).total, loss(z2, z1).total, rtol=1e-12, atol=0)


def test_swapping_the_views_of_predictions_and_targets_leaves_byol_loss() -> None:
    p1, p2, t1, t2 = (draw(N, D, seed=seed) for seed in range(4))
    torch.testing.assert_close(byol_loss(p1, p2, t1, t2).total, byol_loss(p2, p1, t2, t1).total, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["barlow_twins", "ntxent", "vicreg"])
def test_reordering_the_images_leaves_the_loss(name: str) -> None:
    z1, z2 = two_views()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(LOSSES[name](z1[order], z2[order]).total, LOSSES[name](z1, z2).total)


def test_barlow_twins_loss_is_unchanged_by_shifts_and_positive_scales_of_each_feature() -> None:
    z1, z2 = (1e3 * z for z in two_views())  # large against the 1e-5 under the root
    scale, shift = torch.tensor([2.0, 0.5, 7.0, 1.0]), torch.tensor([3.0, -1.0, 0.0, 9.0])
    torch.testing.assert_close(
        barlow_twins_loss(z1 * scale + shift, z2, 0.3).total, barlow_twins_loss(z1, z2, 0.3).total, rtol=1e-9, atol=0
    )


def test_ntxent_loss_is_unchanged_by_positive_scales_of_each_row() -> None:
    z1, z2 = two_views()
    scale = torch.linspace(0.1, 9, N).unsqueeze(1)
    torch.testing.assert_close(
        ntxent_loss(z1 * scale, z2, 0.5).total, ntxent_loss(z1, z2, 0.5).total, rtol=1e-12, atol=0
    )


def test_byol_loss_is_unchanged_by_positive_scales_of_each_row() -> None:
    tensors = [draw(N, D, seed=seed) for seed in range(4)]
    scale = torch.linspace(0.1, 9, N).unsqueeze(1)
    expected = byol_loss(*tensors).total
    torch.testing.assert_close(byol_loss(*(t * scale for t in tensors)).total, expected, rtol=1e-12, atol=0)


def test_vicreg_variance_and_covariance_are_unchanged_by_a_shift_of_one_view_and_all_of_it_by_one_of_both() -> None:
    z1, z2 = (0.4 * z for z in two_views())
    shift = torch.tensor([3.0, -1.0, 0.0, 9.0])
    before, one, both = (
        vicreg_loss(*views, 25, 25, 1) for views in ((z1, z2), (z1 + shift, z2), (z1 + shift, z2 + shift))
    )
    for name in ("variance", "covariance"):
        torch.testing.assert_close(one.parts[name], before.parts[name])
    assert float(one.parts["invariance"]) > float(before.parts["invariance"]) + 1
    torch.testing.assert_close(both.total, before.total)


# ---- perfect and collapsed inputs, worked out by hand ----

UNCORRELATED = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
"""Two features of mean 0 and biased variance 1 with no correlation."""


def test_barlow_twins_loss_of_identical_uncorrelated_views_is_zero() -> None:
    assert float(barlow_twins_loss(UNCORRELATED, UNCORRELATED, 1.0).total) == pytest.approx(2 * (1 - 1 / 1.00001) ** 2)


def test_barlow_twins_loss_of_collapsed_views_is_the_width() -> None:
    """All deviations 0, so C = 0: every diagonal entry costs 1 and nothing is off the diagonal."""
    constant = torch.ones(5, 7)
    assert values(barlow_twins_loss(constant, 3 * constant, 0.0051)) == [7, 7, 0]


def test_barlow_twins_loss_of_one_repeated_feature_counts_the_off_diagonal_pairs() -> None:
    """All of C is 1: the diagonal costs nothing, D(D - 1) = 6 entries cost the weight each."""
    repeated = 100 * UNCORRELATED[:, :1].repeat(1, 3)
    assert float(barlow_twins_loss(repeated, repeated, 0.5).total) == pytest.approx(3, rel=1e-6)


def test_barlow_twins_loss_of_opposite_views_is_four_per_feature() -> None:
    assert float(barlow_twins_loss(100 * UNCORRELATED, -100 * UNCORRELATED, 1).total) == pytest.approx(8, rel=1e-6)


def test_ntxent_loss_of_collapsed_outputs_is_twice_the_logarithm_of_the_candidates() -> None:
    """2N - 1 = 9 equal candidates, whatever the temperature."""
    assert float(ntxent_loss(torch.ones(5, 3), torch.ones(5, 3), 0.1).total) == pytest.approx(2 * math.log(9), rel=1e-6)


def test_ntxent_loss_of_orthogonal_images_with_identical_views_is_worked_out_by_hand() -> None:
    """The positive has cosine 1, the other 2N - 2 = 4 have 0."""
    eye = torch.eye(3, dtype=torch.float64)
    expected = 2 * math.log((math.exp(1 / 0.5) + 4) / math.exp(1 / 0.5))
    assert float(ntxent_loss(eye, eye, 0.5).total) == pytest.approx(expected, rel=1e-12)


def test_ntxent_loss_of_one_image_is_zero_since_nothing_else_is_there() -> None:
    assert float(ntxent_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]]), 0.1).total) == 0


def test_byol_loss_is_zero_when_predictions_point_as_targets_and_eight_when_opposite() -> None:
    z1, z2 = two_views()
    assert float(byol_loss(z1, z2, 3 * z2, 2 * z1).total) == pytest.approx(0, abs=1e-12)
    assert float(byol_loss(z1, z2, -z2, -z1).total) == pytest.approx(8, rel=1e-12)


def test_byol_loss_of_orthogonal_predictions_is_four() -> None:
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    assert values(byol_loss(x, x, y, y)) == [4, 2, 2]


def test_vicreg_loss_of_identical_spread_uncorrelated_views_is_zero() -> None:
    assert values(vicreg_loss(UNCORRELATED, UNCORRELATED, 25, 25, 1)) == [0, 0, 0, 0]


def test_vicreg_loss_of_collapsed_views_is_the_variance_hinge() -> None:
    """Deviation sqrt(0 + 1e-4) = .01 in both views, so the hinge costs .99, halved and summed over two views."""
    constant = torch.full((5, 3), 2.0, dtype=torch.float64)
    assert values(vicreg_loss(constant, constant, 25, 25, 1)) == pytest.approx([24.75, 0, 0.99, 0], rel=1e-12)


def test_vicreg_covariance_of_one_repeated_feature_is_worked_out_by_hand() -> None:
    """Covariance 4/3 at the D(D - 1) = 6 entries off the diagonal, over D = 3, for both views: 2 * 2 * 16/9."""
    repeated = UNCORRELATED[:, :1].repeat(1, 3)
    terms = vicreg_loss(repeated, repeated, 0, 0, 1)
    assert values(terms) == pytest.approx([64 / 9, 0, 0, 64 / 9], rel=1e-12)


def test_vicreg_invariance_is_the_mean_squared_difference() -> None:
    terms = vicreg_loss(UNCORRELATED, UNCORRELATED + torch.tensor([1.0, 3.0]), 2, 0, 0)
    assert values(terms)[:2] == pytest.approx([10, 5], rel=1e-12)


# ---- precision and shapes ----


@each_loss
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_in_fp32(
    loss: Callable[[Tensor, Tensor], LossTerms], precision: torch.dtype
) -> None:
    z1, z2 = (z.to(precision) for z in two_views())
    targets = [draw(N, D, seed=seed).to(precision).float() for seed in (3, 4)]
    total = loss(z1, z2).total
    expected = byol_loss(z1.float(), z2.float(), *targets) if loss is LOSSES["byol"] else loss(z1.float(), z2.float())
    assert total.dtype == torch.float32
    assert torch.equal(total, expected.total)


@each_loss
def test_autocast_around_a_loss_does_not_reach_into_it(loss: Callable[[Tensor, Tensor], LossTerms]) -> None:
    z1, z2 = (z.float() for z in two_views())
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(z1, z2).total
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss(z1, z2).total)


@each_loss
@pytest.mark.parametrize("shape", [(N, D + 1), (N + 1, D), (D,), (1, D)])
def test_views_of_different_shapes_are_refused_before_they_broadcast(
    loss: Callable[[Tensor, Tensor], LossTerms], shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"must be \[N, D\] of one shape"):
        loss(torch.zeros(N, D), torch.zeros(shape))


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg"])
def test_statistics_over_one_image_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="needs at least 2, not 1"):
        LOSSES[name](torch.ones(1, D), torch.ones(1, D))
