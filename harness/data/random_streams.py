"""Random numbers by counter: each is a function of (seed, purpose, sample, column) and of nothing else.

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), written in whole
numbers of torch, so that every device and every version draws the same bits. There is no state: how samples are split
over batches, workers or ranks, and what was drawn before, cannot change a draw.
"""

import hashlib
import json

import torch
from torch import Tensor

Key = tuple[int, int]  # two words of 32 bits

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key in each round
_ROUNDS = 10
_WORD = 0xFFFFFFFF


def key(seed: int, purpose: str, *more: int) -> Key:
    """The stream for one purpose ("order", "augmentation", ...) of a seed; `more` tells epochs and views apart."""
    digest = _digest(seed, purpose, more)
    return int.from_bytes(digest[0:4], "big"), int.from_bytes(digest[4:8], "big")


def uniforms(key: Key, samples: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1), float32 [N, count], for samples int64 [N]: row n depends on `key` and `samples[n]` alone.

    Column c is the same whatever `count` is. Multiples of 2**-24, so exact in float32.
    """
    return (words(key, samples, count) >> 8).to(torch.float32) * 2.0**-24


def words(key: Key, samples: Tensor, count: int) -> Tensor:
    """32 random bits each, as int64 [N, count] in [0, 2**32), for samples int64 [N], which are not negative."""
    blocks = torch.arange((count + 3) // 4, device=samples.device)
    block = blocks[None, :].expand(len(samples), -1)
    sample = samples[:, None].expand_as(block)
    counter = torch.stack([block, torch.zeros_like(block), sample & _WORD, sample >> 32])
    return philox(counter, key).permute(1, 2, 0).flatten(1)[:, :count]


def permutation(key: Key, n: int, device: torch.device | str = "cpu") -> Tensor:
    """0..n-1 in random order, int64 [n], the same on every device: a stable sort of 63 random bits per place."""
    drawn = words(key, torch.arange(n, device=device), 2)
    return torch.argsort((drawn[:, 0] << 31) | (drawn[:, 1] >> 1), stable=True)


def order(seed: int, epoch: int, n: int) -> Tensor:
    """The order in which an epoch visits n samples, int64 [n]."""
    return permutation(key(seed, "order", epoch), n)


def torch_seed(seed: int, purpose: str, *more: int) -> int:
    """A seed for a generator of torch's own, in [0, 2**63); unrelated to `key` of the same names."""
    return int.from_bytes(_digest(seed, purpose, more)[8:16], "big") >> 1


def generator(seed: int, purpose: str, *more: int, device: torch.device | str = "cpu") -> torch.Generator:
    """torch's generator for one purpose, where a stream by counter will not do (initialisation of weights)."""
    return torch.Generator(device=device).manual_seed(torch_seed(seed, purpose, *more))


def philox(counter: Tensor, key: Key) -> Tensor:
    """Philox4x32-10 of counter words int64 [4, ...] in [0, 2**32): as many random words, in the same shape."""
    shape = (2,) + (1,) * (counter.ndim - 1)
    constants = torch.tensor([_MULTIPLIERS, *_round_keys(key)]).view(-1, *shape)
    if counter.is_cuda:  # so that the host does not wait for what the device is doing
        constants = constants.pin_memory()
    constants = constants.to(counter.device, non_blocking=True)
    multipliers = constants[0]
    even, odd = counter[0::2], counter[1::2]  # words (0, 2) are multiplied, words (1, 3) are mixed in
    for round_key in constants[1:]:
        high, low = _multiply(multipliers, even)
        even, odd = high.flip(0) ^ odd ^ round_key, low.flip(0)
    return torch.stack([even, odd], dim=1).flatten(0, 1)


def _round_keys(key: Key) -> list[tuple[int, int]]:
    return [((key[0] + i * _WEYL[0]) & _WORD, (key[1] + i * _WEYL[1]) & _WORD) for i in range(_ROUNDS)]


def _multiply(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a * b. In two halves of b, since int64 holds no product of 64 bits."""
    low = a * (b & 0xFFFF)
    middle = a * (b >> 16) + (low >> 16)
    return middle >> 16, ((middle & 0xFFFF) << 16) | (low & 0xFFFF)


def _digest(seed: int, purpose: str, more: tuple[int, ...]) -> bytes:
    text = json.dumps([int(seed), purpose, *map(int, more)], separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()
