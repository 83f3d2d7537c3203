"""Counter-based streams give the published vectors, and a draw depends only on its own names."""

import pytest
import torch

from twinbench.harness.data import random_streams

# Random123, tests/kat_vectors, "philox4x32 10": counter, key, expected
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter: str, key: str, expected: str) -> None:
    low, high = _words(key)
    assert random_streams.philox(torch.tensor(_words(counter)), (low, high)).tolist() == _words(expected)


def test_philox_of_many_counters_is_philox_of_each() -> None:
    counters = torch.randint(0, 2**32, (4, 5, 3), generator=torch.Generator().manual_seed(0))
    together = random_streams.philox(counters, (1, 2))
    assert all(
        torch.equal(together[:, i, j], random_streams.philox(counters[:, i, j], (1, 2)))
        for i in range(5)
        for j in range(3)
    )


def test_words_are_drawn_on_the_device_of_their_counters() -> None:
    assert random_streams.philox(torch.zeros((4, 3), dtype=torch.int64, device="meta"), (1, 2)).device.type == "meta"


def test_a_draw_does_not_depend_on_the_batch_its_order_or_the_number_of_columns() -> None:
    key = random_streams.key(7, "augmentation", 3, 1)
    samples = torch.tensor([5, 0, 2**40 + 3, 17, 49_999])
    whole = random_streams.uniforms(key, samples, 11)
    assert torch.equal(random_streams.uniforms(key, samples.flip(0), 11).flip(0), whole)
    assert torch.equal(torch.cat([random_streams.uniforms(key, sample[None], 11) for sample in samples]), whole)
    assert torch.equal(random_streams.uniforms(key, samples, 36)[:, :11], whole)
    assert whole.unique().numel() == whole.numel()


def test_streams_of_different_names_differ() -> None:
    names = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (0, "a", 0, 1), (0, "a", 1, 0), (-1, "a")]
    assert len({random_streams.key(*name) for name in names}) == len(names)
    assert len({random_streams.torch_seed(*name) for name in names}) == len(names)


def test_draws_are_even_and_uncorrelated() -> None:
    u = random_streams.uniforms(random_streams.key(0, "test"), torch.arange(20_000), 8).double()
    assert u.min() >= 0 and u.max() < 1
    assert u.dtype == torch.float64 and torch.equal(u * 2**24, torch.floor(u * 2**24))
    counts = torch.histc(u, bins=64, min=0, max=1)
    expected = u.numel() / 64
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert 30 < chi_square < 110  # 63 degrees of freedom: beyond these with probability 3e-4
    correlation = torch.corrcoef(u.T) - torch.eye(8)
    assert correlation.abs().max() < 4.5 / 20_000**0.5
    neighbours = torch.corrcoef(torch.stack([u[:-1, 0], u[1:, 0]]))[0, 1]
    assert neighbours.abs() < 4.5 / 20_000**0.5


def test_orders_are_permutations_and_differ_between_epochs_and_seeds() -> None:
    first = random_streams.order(0, 0, 1000)
    assert torch.equal(first.sort().values, torch.arange(1000))
    assert torch.equal(first, random_streams.order(0, 0, 1000))
    assert not torch.equal(first, random_streams.order(0, 1, 1000)) and not torch.equal(
        first, random_streams.order(1, 0, 1000)
    )


def test_published_streams_do_not_change() -> None:
    # records made by earlier versions are compared with new ones: these values must never change
    assert random_streams.key(0, "order", 0) == (3845280368, 26970895)
    assert random_streams.order(0, 0, 8).tolist() == [5, 1, 6, 4, 0, 2, 3, 7]
    assert random_streams.torch_seed(0, "initialisation") == 1969032096585310081


def test_a_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    drawn = torch.rand(3, generator=random_streams.generator(0, "initialisation"))
    assert torch.equal(drawn, torch.rand(3, generator=random_streams.generator(0, "initialisation")))
    assert torch.equal(torch.get_rng_state(), before)
