"""A package of methods that go wrong, found through its entry points when this folder is on PYTHONPATH."""

import os
import signal
import time
from typing import Any

import torch

from twinbench.methods.simclr import SimCLR


class Raises(SimCLR):
    """Fails in its second epoch."""

    name = "raises"

    def loss(self, views: Any, step: Any) -> Any:
        if step.epoch == 1:
            raise RuntimeError("this method always raises")
        return super().loss(views, step)


class OutOfMemory(SimCLR):
    """Asks for more memory than there is."""

    name = "out_of_memory"

    def loss(self, views: Any, step: Any) -> Any:
        torch.empty(2**60)
        raise AssertionError("such a machine exists")


class Killed(SimCLR):
    """Is killed as the kernel kills a process when memory is short."""

    name = "killed"

    def loss(self, views: Any, step: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Devours(SimCLR):
    """Takes a hundred megabytes after another until it is killed, or has had eight gigabytes."""

    name = "devours"

    def loss(self, views: Any, step: Any) -> Any:
        kept = [os.urandom(2**20) * 100 for _ in range(80)]
        raise AssertionError(f"nobody minds {len(kept)} such pieces")


class Hangs(SimCLR):
    """Never comes back."""

    name = "hangs"

    def loss(self, views: Any, step: Any) -> Any:
        time.sleep(10_000)
