"""Several ranks train as one rank with the same global batch does: loss, gradients, statistics, weights.

Run as a script, this very file starts three gloo processes, which do everything once as two ranks and once as three
and leave what they found; the tests compare it with what one process finds on the whole batch.
"""

import dataclasses
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from twinbench.methods.backbones.registry import build_backbone
from twinbench.methods.barlow_twins import barlow_twins_loss
from twinbench.methods.method import LossTerms, Method, Step, Views
from twinbench.methods.ops.distributed import GlobalBatchNorm, gather, rank_count, use_global_batch_norm
from twinbench.methods.registry import METHODS
from twinbench.methods.simclr import ntxent_loss
from twinbench.methods.vicreg import vicreg_loss

pytestmark = pytest.mark.slow  # five processes import torch and train

RANKS = (2, 3)
TRAINED = [*((2, name) for name in METHODS), (3, "simclr")]  # three ranks wait long for each other on two cores
N = 12  # the global batch
UPDATES = 3
Found = dict[str, Any]


def local(rows: Tensor, rank: int, ranks: int) -> Tensor:
    """The rank's share of the rows."""
    return rows.chunk(ranks)[rank]


# ---- what one process and several do alike ----


class GivesLoss(nn.Module):
    """The loss as a forward pass, which is what DistributedDataParallel wraps."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: Views, step: Step) -> LossTerms:
        return self.method.loss(views, step)


def small(name: str) -> Method:
    method_class = METHODS[name]
    names = [field.name for field in dataclasses.fields(method_class.config_class)]
    narrow = {name: 8 for name in names if name.endswith("width")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return method_class(build_backbone("small_resnet", {"width": 3}), method_class.config_class(**narrow))


def global_views(number: int) -> list[Tensor]:
    """Two noisy views of N random 8x8 images, other ones at every step, channels last as the loop gives them."""
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(N, 3, 8, 8, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, *images.shape, generator=generator, dtype=torch.float64)
    return [(images + 0.3 * part).contiguous(memory_format=torch.channels_last) for part in noise]


def trained(name: str, rank: int = 0, ranks: int = 1, convert: bool = False) -> Found:
    """What three updates of a method leave; with ranks, as the training loop wraps and scales the loss."""
    method = small(name).double().train()
    gives_loss: nn.Module = GivesLoss(method)
    if ranks > 1 or convert:
        use_global_batch_norm(method)
    if ranks > 1:
        with warnings.catch_warnings():  # newer torch renames the argument; older torch does not know the new name
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            gives_loss = DistributedDataParallel(gives_loss, broadcast_buffers=False)
    optimiser = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    losses, gradients = [], {}
    for number in range(UPDATES):
        step = Step(0, number, UPDATES, torch.arange(N), lambda purpose: torch.Generator())
        terms = gives_loss([local(view, rank, ranks) for view in global_views(number)], step)
        optimiser.zero_grad()
        (terms.total * ranks).backward()
        if number == 0:
            gradients = {key: p.grad.clone() for key, p in method.named_parameters() if p.grad is not None}
        losses.append({"total": terms.total.detach(), **terms.parts})
        optimiser.step()
        method.after_update(step)
    return {"losses": losses, "gradients": gradients, "state": method.state_dict()}


LOSSES: dict[str, Callable[[Tensor, Tensor], LossTerms]] = {
    "barlow_twins": lambda z1, z2: barlow_twins_loss(z1, z2, 0.3),
    "simclr": lambda z1, z2: ntxent_loss(z1, z2, 0.4),
    "vicreg": lambda z1, z2: vicreg_loss(z1, z2, 25, 20, 1.5),
}
WIDTHS = (8, 40)  # less and more than the global batch: products of features, or of samples


def lost(name: str, width: int, rank: int = 0, ranks: int = 1) -> Found:
    """A loss of outputs that are gathered, and its gradient for the rank's own rows."""
    generator = torch.Generator().manual_seed(width)
    views = [torch.randn(N, width, generator=generator, dtype=torch.float64) for _ in range(2)]
    own = [local(view, rank, ranks).clone().requires_grad_() for view in views]
    total = LOSSES[name](*map(gather, own)).total
    return {"total": total.detach(), "gradients": torch.autograd.grad(total, own)}


def without_offset() -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(4)
    norm.register_parameter("bias", None)
    return norm


NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vectors": (partial(nn.BatchNorm1d, 4), (N, 4)),
    "one_row_per_rank": (partial(nn.BatchNorm1d, 4), (-1, 4)),
    "sequences": (partial(nn.BatchNorm1d, 4), (N, 4, 5)),
    "images": (partial(nn.BatchNorm2d, 4), (N, 4, 3, 2)),
    "momentum": (partial(nn.BatchNorm1d, 4, momentum=0.3, eps=0.01), (N, 4)),
    "cumulative": (partial(nn.BatchNorm1d, 4, momentum=None), (N, 4)),
    "not_affine": (partial(nn.BatchNorm2d, 4, affine=False), (N, 4, 3, 2)),
    "not_tracking": (partial(nn.BatchNorm2d, 4, track_running_stats=False), (N, 4, 3, 2)),
    "without_offset": (without_offset, (N, 4)),
}


def norm_and_batch(case: str, ranks: int) -> tuple[nn.Module, Tensor]:
    build, (rows, *shape) = NORMS[case]
    generator = torch.Generator().manual_seed(7)
    norm = build().double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter, generator=generator)
    return norm, 3 + 2 * torch.randn(ranks if rows == -1 else rows, *shape, generator=generator, dtype=torch.float64)


def normalised(case: str, ranks_in_all: int, rank: int = 0, ranks: int = 1, convert: bool = False) -> Found:
    """Two passes in training mode and one in eval mode, of which only the first rank makes the last."""
    norm, batch = norm_and_batch(case, ranks_in_all)
    if ranks > 1 or convert:
        norm = use_global_batch_norm(norm)
    x = local(batch, rank, ranks).clone().requires_grad_()
    weights = local(torch.linspace(-1, 1, batch.numel(), dtype=torch.float64).view_as(batch), rank, ranks)
    y = norm(x)
    (y.square() * weights).sum().backward()  # type: ignore[no-untyped-call]
    norm(2 * x.detach() - 1)
    evaluated = norm.eval()(x.detach()) if rank == 0 else None
    return {
        "y": y.detach(),
        "gradient": x.grad,
        "parameter_gradients": {key: p.grad for key, p in norm.named_parameters()},
        "state": norm.state_dict(),
        "evaluated": evaluated,
    }


def far_from_zero() -> Tensor:
    """[N, 4, 3, 2] with means of a thousand deviations: E[x^2] - E[x]^2 has few digits of it in fp32."""
    return 1000 + torch.randn(N, 4, 3, 2, generator=torch.Generator().manual_seed(3))


# ---- several processes ----


def work(rank: int, folder: Path) -> None:
    """One of the processes: rank `rank` first of two, then of three."""
    torch.set_num_threads(1)
    for ranks in RANKS:
        if rank < ranks:
            rendezvous = f"file://{folder}/{ranks}"
            limit = timedelta(seconds=30)
            dist.init_process_group("gloo", rendezvous, rank=rank, world_size=ranks, timeout=limit)
            torch.save(find(rank, ranks), folder / f"{ranks}-{rank}.pt")
            dist.barrier()
            dist.destroy_process_group()


def find(rank: int, ranks: int) -> Found:
    found: Found = {"rank_count": rank_count()}
    found["methods"] = {name: trained(name, rank, ranks) for count, name in TRAINED if count == ranks}
    found["norms"] = {case: normalised(case, ranks, rank, ranks) for case in NORMS}

    found["lost"] = {(name, width): lost(name, width, rank, ranks) for name in LOSSES for width in WIDTHS}

    z = torch.arange(6.0).view(3, 2).T + 10 * rank  # [2, 3], not contiguous
    z.requires_grad_()
    gathered = gather(z)
    gathered.backward(torch.arange(gathered.numel()).view_as(gathered).float())  # type: ignore[no-untyped-call]
    found["gathered"], found["gather_gradient"] = gathered.detach(), z.grad

    norm = use_global_batch_norm(nn.BatchNorm2d(4))
    found["far"] = norm(local(far_from_zero(), rank, ranks)).detach()
    found["far_state"] = norm.state_dict()

    norm = use_global_batch_norm(nn.BatchNorm2d(4))
    with torch.autocast("cpu", torch.bfloat16):
        found["rough"] = norm(local(far_from_zero(), rank, ranks).sub(1000).bfloat16()).detach()
    found["rough_state"] = norm.state_dict()

    images = local(far_from_zero(), rank, ranks).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = use_global_batch_norm(nn.BatchNorm2d(4))(images)
    y.square().sum().backward()
    found["layouts"] = [t.is_contiguous(memory_format=torch.channels_last) for t in (y, images.grad)]
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Found]]:
    """What every rank found, by the number of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder)]  # a process of its own, which has no threads yet when it forks
    subprocess.run(command, env=environment, timeout=120, check=True)
    return {ranks: [torch.load(folder / f"{ranks}-{rank}.pt") for rank in range(ranks)] for ranks in RANKS}


@cache
def trained_on_one_rank(name: str) -> Found:
    return trained(name)


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(actual) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=1e-9, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")


every_count = pytest.mark.parametrize("ranks", RANKS)
every_training = pytest.mark.parametrize(("ranks", "name"), TRAINED)
every_method = pytest.mark.parametrize("name", METHODS)
every_norm = pytest.mark.parametrize("case", NORMS)


@every_training
def test_loss_and_its_parts_are_those_of_the_whole_batch_at_every_step(
    found: dict[int, list[Found]], name: str, ranks: int
) -> None:
    expected = trained_on_one_rank(name)["losses"]
    for of_rank in found[ranks]:
        for number in range(UPDATES):
            assert_same(of_rank["methods"][name]["losses"][number], expected[number])


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_gathered_outputs_is_that_of_the_whole_batch_whichever_of_n_and_d_is_larger(
    found: dict[int, list[Found]], name: str, width: int, ranks: int
) -> None:
    expected = lost(name, width)
    of_ranks = [of_rank["lost"][name, width] for of_rank in found[ranks]]
    for of_rank in of_ranks:
        torch.testing.assert_close(of_rank["total"], expected["total"], rtol=1e-12, atol=0)
    for view in range(2):
        gradient = torch.cat([of_rank["gradients"][view] for of_rank in of_ranks])
        torch.testing.assert_close(gradient, expected["gradients"][view], rtol=1e-11, atol=1e-14)


@every_training
def test_gradient_of_every_parameter_is_that_of_the_whole_batch(
    found: dict[int, list[Found]], name: str, ranks: int
) -> None:
    expected = trained_on_one_rank(name)["gradients"]
    assert all(gradient.abs().max() > 0 for key, gradient in expected.items() if key.endswith("weight"))
    for of_rank in found[ranks]:
        assert_same(of_rank["methods"][name]["gradients"], expected)


@every_training
def test_weights_and_running_statistics_after_three_updates_are_those_of_the_whole_batch(
    found: dict[int, list[Found]], name: str, ranks: int
) -> None:
    expected = trained_on_one_rank(name)["state"]
    for of_rank in found[ranks]:
        assert_same(of_rank["methods"][name]["state"], expected)


@every_training
def test_ranks_stay_equal_bit_for_bit(found: dict[int, list[Found]], name: str, ranks: int) -> None:
    first, *others = (of_rank["methods"][name] for of_rank in found[ranks])
    for other in others:
        assert other["losses"] == first["losses"]
        assert all(torch.equal(other["state"][key], value) for key, value in first["state"].items())


@every_count
def test_gather_stacks_the_ranks_rows_and_passes_each_its_own_gradient(
    found: dict[int, list[Found]], ranks: int
) -> None:
    rows = torch.tensor([[0.0, 2, 4], [1, 3, 5]])
    expected = torch.cat([rows + 10 * rank for rank in range(ranks)])
    gradient = torch.arange(expected.numel()).view_as(expected).float()
    for rank, of_rank in enumerate(found[ranks]):
        assert of_rank["rank_count"] == ranks
        assert torch.equal(of_rank["gathered"], expected)
        assert torch.equal(of_rank["gather_gradient"], local(gradient, rank, ranks))


@every_count
@every_norm
def test_global_batch_norm_has_values_and_gradients_of_batch_norm_on_the_whole_batch(
    found: dict[int, list[Found]], case: str, ranks: int
) -> None:
    expected = normalised(case, ranks)
    of_ranks = [of_rank["norms"][case] for of_rank in found[ranks]]
    together = {key: torch.cat([of_rank[key] for of_rank in of_ranks]) for key in ("y", "gradient")}
    assert_same(together, {key: expected[key] for key in together})
    gradients = [of_rank["parameter_gradients"] for of_rank in of_ranks]
    summed = {key: torch.stack([one[key] for one in gradients]).sum(0) for key in gradients[0]}
    assert_same(summed, expected["parameter_gradients"])


@every_count
@every_norm
def test_global_batch_norm_tracks_the_statistics_of_the_whole_batch(
    found: dict[int, list[Found]], case: str, ranks: int
) -> None:
    expected = normalised(case, ranks)["state"]
    for of_rank in found[ranks]:
        assert_same(of_rank["norms"][case]["state"], expected)


@every_count
@every_norm
def test_global_batch_norm_in_eval_mode_waits_for_no_other_rank_and_is_batch_norm(
    found: dict[int, list[Found]], case: str, ranks: int
) -> None:
    of_first = found[ranks][0]["norms"][case]
    norm, batch = norm_and_batch(case, ranks)
    norm.load_state_dict(of_first["state"])
    torch.testing.assert_close(of_first["evaluated"], norm.eval()(local(batch, 0, ranks)), rtol=0, atol=0)


@every_count
def test_global_batch_norm_keeps_its_digits_far_from_zero(found: dict[int, list[Found]], ranks: int) -> None:
    exact = nn.BatchNorm2d(4).double()
    expected = exact(far_from_zero().double()).float()
    actual = torch.cat([of_rank["far"] for of_rank in found[ranks]])
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=0, atol=5e-4)
    torch.testing.assert_close(found[ranks][0]["far_state"]["running_var"], exact.running_var.float())


@every_count
def test_global_batch_norm_computes_bf16_in_fp32_under_autocast(found: dict[int, list[Found]], ranks: int) -> None:
    exact = nn.BatchNorm2d(4).double()
    expected = exact(far_from_zero().sub(1000).bfloat16().double()).bfloat16()
    actual = torch.cat([of_rank["rough"] for of_rank in found[ranks]])
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual, expected, rtol=2**-7, atol=1e-6)  # the next bf16 at most
    for name in ("running_mean", "running_var"):
        statistic = found[ranks][0]["rough_state"][name]
        torch.testing.assert_close(statistic, exact.get_buffer(name).float(), rtol=1e-5, atol=1e-7)


@every_count
def test_global_batch_norm_keeps_channels_last_in_output_and_gradient(
    found: dict[int, list[Found]], ranks: int
) -> None:
    assert all(of_rank["layouts"] == [True, True] for of_rank in found[ranks])


# ---- one process ----


def test_one_rank_gathers_nothing() -> None:
    z = torch.ones(2, 3)
    assert rank_count() == 1
    assert gather(z) is z


@every_method
def test_global_batch_norm_changes_no_bit_of_a_trained_method_on_one_rank(name: str) -> None:
    expected, converted = trained_on_one_rank(name), trained(name, convert=True)
    assert converted["losses"] == expected["losses"]
    assert list(converted["state"]) == list(expected["state"])
    assert all(torch.equal(converted["state"][key], value) for key, value in expected["state"].items())


@every_norm
def test_global_batch_norm_is_batch_norm_bit_for_bit_on_one_rank(case: str) -> None:
    expected, converted = (normalised(case, ranks_in_all=4, convert=convert) for convert in (False, True))
    for key, value in expected.items():
        torch.testing.assert_close(converted[key], value, rtol=0, atol=0)


@every_method
def test_every_batch_norm_is_replaced_and_the_state_stays_the_same_tensors(name: str) -> None:
    method = small(name).eval()
    before, parameters = dict(method.state_dict(keep_vars=True)), list(method.parameters())
    norms = [key for key, module in method.named_modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert use_global_batch_norm(method) is method
    after = method.state_dict(keep_vars=True)
    assert list(after) == list(before) and all(after[key] is value for key, value in before.items())
    assert all(new is old for new, old in zip(method.parameters(), parameters, strict=True))
    assert norms == [key for key, module in method.named_modules() if isinstance(module, GlobalBatchNorm)]
    assert not any(module.training for module in method.modules())


def test_a_batch_norm_that_stands_in_two_places_is_replaced_in_both() -> None:
    norm = nn.BatchNorm1d(2)
    layers = nn.Sequential(norm, nn.Linear(2, 2), norm)
    use_global_batch_norm(layers)
    first, _, second = layers
    assert isinstance(first, GlobalBatchNorm) and isinstance(second, GlobalBatchNorm)
    assert first.weight is second.weight is norm.weight
    assert first.running_mean is second.running_mean is norm.running_mean


def test_what_is_global_already_stays_as_it_is() -> None:
    layers = use_global_batch_norm(nn.Sequential(nn.BatchNorm1d(2)))
    (norm,) = layers
    assert next(use_global_batch_norm(layers).children()) is norm is use_global_batch_norm(norm)


@pytest.mark.parametrize("norm", [nn.BatchNorm3d(2), nn.SyncBatchNorm(2)])
def test_a_batch_norm_of_another_kind_is_refused_by_name(norm: nn.Module) -> None:
    with pytest.raises(TypeError, match=f"^{type(norm).__name__} is not supported over several ranks"):
        use_global_batch_norm(nn.Sequential(norm))


def test_global_batch_norm_refuses_shapes_that_batch_norm_has_not() -> None:
    with pytest.raises(ValueError, match=r"not \[2\]"):
        use_global_batch_norm(nn.BatchNorm1d(2))(torch.ones(2))


if __name__ == "__main__":
    # forked, not spawned: torch is imported once, which takes longer than all that the ranks do
    torch.multiprocessing.start_processes(work, (Path(sys.argv[1]),), nprocs=max(RANKS), start_method="fork")
