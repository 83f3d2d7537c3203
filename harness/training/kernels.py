"""Which kernels a GPU computes with: those that give the same bits every time, or the fastest."""

import contextlib
import os
from contextlib import AbstractContextManager

import torch
from torch import nn

REPRO, FAST = "repro", "fast"
MODES = (REPRO, FAST)
MOST_SHAPES = 10_000  # that one worker compiles networks for


def choose_kernels(mode: str) -> None:
    """For this process, before its first work on a GPU. On a CPU nothing changes.

    `repro`: cuDNN's deterministic kernels, chosen by rule and not by timing, and torch's deterministic ones; an
    operation that has none is an error, which names it. A warning is not enough: attention takes its deterministic
    kernel only where the other would be an error. `fast`: whichever kernel is fastest when it is first tried, so that
    two runs of a trial agree to rounding, which training amplifies.
    """
    repro = mode == REPRO
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS may else split sums by what is free
    torch.backends.cudnn.deterministic = repro
    torch.backends.cudnn.benchmark = not repro
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(repro)
        # which would be a pass over every buffer, to find faults
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def compile_networks(method: nn.Module) -> None:
    """Compiles each network of a method in place, its names as they were: one or two minutes, at the first update.

    Trials of equal shapes that follow in one process reuse what was compiled.
    """
    # By default torch leaves the ninth width or batch size that a process sees as it is, and trials with it slow.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = MOST_SHAPES
    for network in method.children():
        network.compile(dynamic=False)


def uncompiled(compiled: bool) -> AbstractContextManager[None]:
    """Within it the whole process runs compiled networks as they are; nothing changes where none are `compiled`.

    An evaluation's batches have sizes that training's have not, and each would be compiled for.
    """
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()
