"""Run a trial in a test, with something else in place of its training and evaluation if need be."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from twinbench.harness.trial import worker
from twinbench.harness.trial.execute import Surroundings
from twinbench.sweeps.trial import Trial

Execute = Callable[..., Generator[None, None, tuple[str, str]]]


@contextlib.contextmanager
def executing(execute: Execute) -> Iterator[None]:
    """Within the context, this process and those that it forks call `execute` instead of `train_and_evaluate`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "train_and_evaluate", execute)
        yield


def run_trial(
    trial: Trial, surroundings: Surroundings, *given: Any, execute: Execute = worker.train_and_evaluate
) -> str:
    """Run a pack of this trial alone; return its status."""
    with executing(execute):
        (status,) = worker.run_pack([trial], surroundings, *given)
    return status
