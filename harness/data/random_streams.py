"""Counter-based random numbers: each is a function of (seed, purpose, sample, column) and of nothing else.

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), in torch's
integers, so that every device and every version draws the same bits. It has no state: neither earlier draws nor the
split of samples over batches, workers or ranks can change a draw.
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
    """Return the key of a seed's stream for one purpose, such as "order"; `more` are numbers such as epoch and view."""
    digest = _digest(seed, purpose, more)
    return int.from_bytes(digest[0:4], "big"), int.from_bytes(digest[4:8], "big")


def uniforms(key: Key, samples: Tensor, count: int) -> Tensor:
    """Return numbers in [0, 1), float32 [N, count], for samples int64 [N]; row n is set by `key` and `samples[n]`.

    Column c does not depend on `count`. The numbers are multiples of 2**-24, so exact in float32.
    """
    return (words(key, samples, count) >> 8).to(torch.float32) * 2.0**-24


def words(key: Key, samples: Tensor, count: int) -> Tensor:
    """Return words of 32 random bits, int64 [N, count] in [0, 2**32), for nonnegative samples int64 [N]."""
    blocks = torch.arange((count + 3) // 4, device=samples.device)
    block = blocks[None, :].expand(len(samples), -1)
    sample = samples[:, None].expand_as(block)
    counter = torch.stack([block, torch.zeros_like(block), sample & _WORD, sample >> 32])
    return philox(counter, key).permute(1, 2, 0).flatten(1)[:, :count]


def permutation(key: Key, n: int, device: torch.device | str = "cpu") -> Tensor:
    """Return 0..n-1 in random order, int64 [n], equal on every device: a stable sort by 63 random bits each."""
    drawn = words(key, torch.arange(n, device=device), 2)
    return torch.argsort((drawn[:, 0] << 31) | (drawn[:, 1] >> 1), stable=True)


def order(seed: int, epoch: int, n: int) -> Tensor:
    """Return the order in which an epoch visits n samples, int64 [n]."""
    return permutation(key(seed, "order", epoch), n)


def torch_seed(seed: int, purpose: str, *more: int) -> int:
    """Return a seed for one of torch's generators, in [0, 2**63); unrelated to `key` with the same arguments."""
    return int.from_bytes(_digest(seed, purpose, more)[8:16], "big") >> 1


def generator(seed: int, purpose: str, *more: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator for one purpose, where torch needs one, as for the initialisation of weights."""
    return torch.Generator(device=device).manual_seed(torch_seed(seed, purpose, *more))


def philox(counter: Tensor, key: Key) -> Tensor:
    """Return Philox4x32-10 of counter words int64 [4, ...] in [0, 2**32): random words of the same shape."""
    shape = (2,) + (1,) * (counter.ndim - 1)
    constants = torch.tensor([_MULTIPLIERS, *_round_keys(key)]).view(-1, *shape)
    if counter.is_cuda:  # so that the copy does not wait for the device
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
    """Return the high and low 32 bits of a * b, in two halves of b, since int64 cannot hold the unsigned product."""
    low = a * (b & 0xFFFF)
    middle = a * (b >> 16) + (low >> 16)
    return middle >> 16, ((middle & 0xFFFF) << 16) | (low & 0xFFFF)


def _digest(seed: int, purpose: str, more: tuple[int, ...]) -> bytes:
    text = json.dumps([int(seed), purpose, *map(int, more)], separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()
