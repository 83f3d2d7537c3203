"""GPU kernels: repro (bit-identical every time) or fast (compiled, autotuned)."""

import contextlib
import os
from contextlib import AbstractContextManager

import torch
from torch import nn

from twinbench.harness.system.user_cache import share_cache

REPRO, FAST = "repro", "fast"
MODES = (REPRO, FAST)
MOST_SHAPES = 10_000  # of inputs and networks that one worker compiles


def choose_kernels(mode: str) -> None:
    """Set the kernels of this process, before its first work on a GPU. On a CPU nothing changes.

    `repro`: deterministic kernels of cuDNN, chosen by rule and not by timing, and of torch; an operation without one is
    an error that names it. A warning would not do: attention uses its deterministic kernel only where the other is an
    error. `fast`: the kernel that is fastest when first tried, so two runs of a trial agree only up to rounding, which
    training amplifies.
    """
    repro = mode == REPRO
    share_cache()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS may split sums by the memory it finds free
    torch.backends.cudnn.deterministic = repro
    torch.backends.cudnn.benchmark = not repro
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(repro)
        # a debugging aid that costs a pass over every new buffer
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def compile_networks(method: nn.Module) -> None:
    """Compile each network of a method in place, keeping its parameters' names.

    Takes one or two minutes, at the first update. Later trials of equal shapes in the same process reuse the result.
    """
    # By default torch stops compiling at the ninth width or batch size of a process, and such trials would be slow.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = MOST_SHAPES
    for network in method.children():
        network.compile(dynamic=False)


def uncompiled(compiled: bool) -> AbstractContextManager[None]:
    """Return a context in which the process runs compiled networks eagerly; without effect if none are `compiled`.

    Otherwise each batch size of an evaluation, which training does not have, would be compiled.
    """
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()
