"""What the tests of all launchers share: small sweeps, the command line in a process, and waiting for a moment."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinbench.harness.attempts import read_attempt
from twinbench.results.record import read_record, record_files

PLUGINS = Path(__file__).parent / "plugins"
# One trial long enough to be disturbed, and one short sweep of several trials.
ONE_TRIAL = ("methods=byol", "baselines=false", "seeds=[0]", "epochs=8", "byol.projector_width=32")
FEW_TRIALS = ("methods=simclr", "seeds=[0]", "epochs=1", "batch_size=256", "projector_width=[16, 32]")
MISBEHAVING = """
question = "What becomes of trials that go wrong?"
protocol = "digits-small"
seeds = [0]
baselines = false

[[grids]]
methods = ["raises", "out_of_memory", "killed", "hangs", "simclr"]
axes = { epochs = [2], batch_size = [256] }
"""


@dataclass(frozen=True)
class Twinbench:
    """The command line in `folder`, with a data cache of its own and, with plugins, the misbehaving methods."""

    folder: Path
    cache: Path
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Starts a command."""
        variables = {**self.env, "TWINBENCH_CACHE": str(self.cache), "PYTHONPATH": str(PLUGINS), "COLUMNS": "200"}
        command = [sys.executable, "-m", "twinbench.harness.cli", *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=variables, cwd=self.folder)

    def __call__(self, *arguments: object, code: int | None = 0) -> str:
        """Runs a command to its end; what it printed, errors included. `code` is the exit code it must have."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=600)
        assert code is None or process.returncode == code, f"exit code {process.returncode}\n{output}{errors}"
        assert "Traceback" not in errors, errors
        return output + errors

    def run(self, out: str, changes: Sequence[str], *options: object, sweep: str = "digits", code: int = 0) -> str:
        """`twinbench run` with `--set` for each change."""
        return self("run", sweep, "--out", out, *_set(changes), *options, code=code)

    def digests(self, out: str) -> dict[str, str]:
        """Result digest by trial of the run folder."""
        return {path.stem: read_record(path)["result_digest"] for path in record_files(self.folder / out)}

    def records(self, out: str) -> list[dict[str, Any]]:
        """The whole records of the run folder."""
        return [read_record(path) for path in record_files(self.folder / out)]

    def attempt(self, out: str, number: int = 1) -> dict[str, Any]:
        """That attempt at the run folder's one trial."""
        (trial,) = (self.folder / out / "trials").iterdir()
        return read_attempt(self.folder / out, trial.name, number)

    def wait_for_progress(self, out: str) -> dict[str, Any]:
        """Waits until the folder's one trial has saved its first epoch; its attempt."""
        wait_until(lambda: list((self.folder / out / "trials").glob("*/state.pt")), f"no trial of {out} began")
        return self.attempt(out)


def _set(changes: Sequence[str]) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def wait_until(condition: Callable[[], Any], otherwise: str, seconds: float = 120) -> Any:
    """What `condition` gives once it is true; AssertionError with `otherwise` when it never is."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
    return answer
