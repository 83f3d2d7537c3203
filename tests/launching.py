"""Helpers for the tests of all launchers: small sweeps, the command line in a process, and waiting."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from twinbench.harness.run_folder.leases import is_running
from twinbench.results.attempts import last_attempt, read_attempt
from twinbench.results.record import read_record, record_files

PLUGINS = Path(__file__).parent / "plugins"
# One trial that is long enough to be disturbed, two that a test has to end, and a short sweep of several trials.
ONE_TRIAL = ("methods=byol", "baselines=false", "seeds=[0]", "epochs=8", "byol.projector_width=32")
TWO_LONG_TRIALS = ("methods=byol", "baselines=false", "seeds=[0, 1]", "epochs=400", "byol.projector_width=32")
FEW_TRIALS = (
    "methods=simclr",
    "seeds=[0]",
    "confirm.seeds=[]",
    "epochs=1",
    "batch_size=256",
    "projector_width=[16, 32]",
)
TWO_STAGES = ("methods=simclr", "baselines=false", "epochs=1", "batch_size=256", "projector_width=[16, 32]")
RANKS = ("methods=byol", "baselines=false", "seeds=[0]", "epochs=3", "byol.projector_width=32")
MISBEHAVING = """
question = "What happens to trials that fail?"
protocol = "digits-small"
seeds = [0]
baselines = false

[[grids]]
methods = ["raises", "out_of_memory", "killed", "hangs", "simclr"]
axes = { epochs = [2], batch_size = [256] }
"""
DEVOURING = """
question = "What happens to a trial that needs more memory than there is?"
protocol = "digits-small"
seeds = [0]
baselines = false

[[grids]]
methods = ["devours", "simclr"]
axes = { epochs = [2], batch_size = [256] }
"""


@dataclass(frozen=True)
class Twinbench:
    """The command line in `folder`, with a data cache of its own and, with plugins, the misbehaving methods."""

    folder: Path
    cache: Path
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start a command."""
        path = os.pathsep.join([str(PLUGINS), *filter(None, [self.env.get("PYTHONPATH")])])
        variables = {**self.env, "TWINBENCH_CACHE": str(self.cache), "PYTHONPATH": path, "COLUMNS": "200"}
        command = [sys.executable, "-m", "twinbench.harness.cli", *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=variables, cwd=self.folder)

    def __call__(self, *arguments: object, code: int | None = 0) -> str:
        """Run a command to its end and return its output, errors included. `code` is the exit code it must have."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=600)
        assert code is None or process.returncode == code, f"exit code {process.returncode}\n{output}{errors}"
        assert "Traceback" not in errors, errors
        return output + errors

    def run(self, out: str, changes: Sequence[str], *options: object, sweep: str = "digits", code: int = 0) -> str:
        """Run `twinbench run` with `--set` for each change and return what it printed."""
        return self("run", sweep, "--out", out, *_set(changes), *options, code=code)

    def start_run(self, out: str, changes: Sequence[str], *options: object) -> subprocess.Popen[str]:
        """Start `twinbench run` on digits with `--set` for each change."""
        return self.start("run", "digits", "--out", out, *_set(changes), *options)

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

    def attempts(self, out: str) -> list[dict[str, Any]]:
        """The last attempt at each of the run folder's trials that have begun."""
        folder = self.folder / out
        return [last_attempt(folder, trial.name) for trial in sorted((folder / "trials").iterdir())]

    def running(self, out: str) -> list[dict[str, Any]]:
        """Those of them that are running."""
        return [attempt for attempt in self.attempts(out) if is_running(attempt)]

    def launch(self, out: str) -> dict[str, Any]:
        """The run folder's note of its only launch that was not cancelled."""
        (file,) = (self.folder / out / "launches").glob("*.json")
        return dict(json.loads(file.read_text()))

    def wait_for_progress(self, out: str, trials: int = 1) -> list[dict[str, Any]]:
        """Wait until so many trials of the folder have saved their first epoch, and return their attempts."""

        def have_begun() -> bool:
            return len(list((self.folder / out / "trials").glob("*/state.pt"))) == trials

        wait_until(have_begun, f"no {trials} trials of {out} began")
        return self.attempts(out)


def run_with_a_worker_killed(twinbench: Twinbench, *options: object) -> None:
    """Run ONE_TRIAL and kill its worker: the waiting command goes on and the record is that of an undisturbed run."""
    command = twinbench.start_run("worker", ONE_TRIAL, *options)
    (first,) = twinbench.wait_for_progress("worker")
    os.kill(first["pid"], signal.SIGKILL)
    end_well(command)
    assert twinbench.digests("worker") == twinbench.digests("one")
    assert twinbench.attempt("worker", 1)["status"] == "died" and twinbench.attempt("worker", 2)["from_step"] > 0
    assert twinbench.attempts("worker")[0]["number"] == 2


def run_in_two_stages(twinbench: Twinbench, *options: object) -> None:
    """Run TWO_STAGES: once the grid is recorded, the chosen cell is trained on fresh seeds; again adds nothing."""
    printed = twinbench.run("stages", (*TWO_STAGES, "seeds=[0]", "confirm.seeds=[7, 8]"), *options)
    assert "confirm stage: 2 more trials" in printed and "4 trials: 4 done" in printed
    trials = [record["result"] for record in twinbench.records("stages")]
    assert sorted(one["trial"]["seed"] for one in trials) == [0, 0, 7, 8]
    grid = {one["cell_id"]: _on_validation(one) for one in trials if one["trial"]["seed"] == 0}
    (chosen,) = {one["cell_id"] for one in trials if one["trial"]["seed"] != 0}
    assert grid[chosen] == max(grid.values())
    again = twinbench.run("stages", (*TWO_STAGES, "seeds=[0]", "confirm.seeds=[7, 8]"), *options)
    assert "4 of 4 trials are already recorded" in again or "4 trials: 4 done" in again
    assert "grid 2 of 2, confirm stage 2 of 2" in twinbench("status", "stages")


def _on_validation(result: Mapping[str, Any]) -> float:
    (value,) = [
        one["value"] for one in result["metrics"] if (one["name"], one["split"]) == ("linear_top1", "validation")
    ]
    return float(value)


def run_on_two_ranks(twinbench: Twinbench, *options: object) -> None:
    """Run RANKS with two processes per trial and kill one: the record is that of an undisturbed local run."""
    twinbench.run("ranks-here", RANKS, "--processes-per-trial", 2)
    command = twinbench.start_run("ranks", RANKS, "--processes-per-trial", 2, *options)
    (first,) = twinbench.wait_for_progress("ranks")
    os.kill(_spawned_by(first["pid"]), signal.SIGKILL)
    end_well(command)
    (record,) = twinbench.records("ranks")
    assert (record["circumstance"]["ranks"], record["circumstance"]["attempts"]) == (2, 2)
    assert twinbench.attempt("ranks", 1)["status"] == "died" and twinbench.attempt("ranks", 2)["from_step"] > 0
    assert twinbench.digests("ranks") == twinbench.digests("ranks-here")


def _spawned_by(pid: int) -> int:
    """The other rank of a trial."""
    tasks = Path(f"/proc/{pid}/task").iterdir()  # a child belongs to the thread that started it
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    (rank,) = {child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}
    return int(rank)


def run_misbehaving(twinbench: Twinbench, seconds: int, *options: object) -> None:
    """Run MISBEHAVING in `wrong` with that time limit: failures are recorded, and stop no other trial."""
    (twinbench.folder / "wrong.toml").write_text(MISBEHAVING)
    printed = twinbench.run("wrong", (), *options, "--trial-time-limit", seconds, sweep="wrong.toml", code=1)
    assert "5 trials: 1 done, 4 failed" in printed
    results = [record["result"] for record in twinbench.records("wrong")]
    reasons = {result["trial"]["method"]: result["reason"] for result in results}
    assert "always raises" in reasons["raises"] and "memory" in reasons["out_of_memory"]
    assert "died 3 times" in reasons["killed"] and f"time limit of {seconds} s" in reasons["hangs"]
    assert reasons["simclr"] == ""
    alone = ("methods=simclr", "baselines=false", "seeds=[0]", "epochs=2", "batch_size=256", "projector_width=[128]")
    twinbench.run("right", alone)
    assert twinbench.digests("right").items() <= twinbench.digests("wrong").items()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own on `folder`, with room for one small run and its report; skips where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def limited_memory(size: int) -> Iterator[Path]:
    """A control group of so many bytes, by the file that takes process numbers; skips where none can be made."""
    root = Path("/sys/fs/cgroup")
    version_1 = root / "memory"
    group = (version_1 if version_1.is_dir() else root) / f"twinbench-{os.getpid()}"
    limit = "memory.limit_in_bytes" if version_1.is_dir() else "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(size))
    except OSError as error:
        pytest.skip(f"limiting memory needs root and its controller: {error}")
    try:
        yield group / "cgroup.procs"
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "processes outlive their command", 30)
        group.rmdir()


def run_out_of_memory(twinbench: Twinbench, *options: object) -> None:
    """Run DEVOURING in 1.5 GiB: the kernel kills the trial that needs more, and the other trial is recorded."""
    (twinbench.folder / "devouring.toml").write_text(DEVOURING)
    with limited_memory(3 * 2**29) as processes:
        run = twinbench.start("run", "devouring.toml", "--out", "devouring", *options)
        processes.write_text(str(run.pid))
        output, errors = run.communicate(timeout=300)
    assert run.returncode == 1 and "2 trials: 1 done, 1 failed" in output, output + errors
    assert "signal SIGKILL" in errors
    (failed,) = [one["result"] for one in twinbench.records("devouring") if one["result"]["status"] == "failed"]
    assert failed["trial"]["method"] == "devours" and "died 3 times" in failed["reason"]


def run_out_of_disk(twinbench: Twinbench, room: int, *options: object) -> None:
    """Run ONE_TRIAL on a disk that fills up to `room` bytes: the command says so, and the next one continues.

    With room for 64 KiB the small files of an attempt are still written, and a trial's state or record is not.
    """
    folder = twinbench.folder / "disk"
    with small_disk(folder):
        run = twinbench.start_run("disk", ONE_TRIAL, *options)
        twinbench.wait_for_progress("disk")
        (folder / "other").write_bytes(bytes(shutil.disk_usage(folder).free - room))
        output, errors = run.communicate(timeout=300)
        assert run.returncode == 1 and "cannot be written: No space left" in output, output + errors
        assert "Traceback" not in output + errors and not record_files(folder)
        (folder / "other").unlink()
        twinbench.run("disk", ONE_TRIAL, *options)
        assert twinbench.digests("disk") == twinbench.digests("one")
        assert twinbench.attempts("disk")[0]["from_step"] > 0
        (folder / "other").write_bytes(bytes(shutil.disk_usage(folder).free))
        printed = twinbench("report", "disk", code=1)
        assert "error: cannot write" in printed and "Traceback" not in printed


def end_well(run: subprocess.Popen[str]) -> str:
    """Wait for a run that was started, which must succeed, and return what it printed."""
    output, errors = run.communicate(timeout=300)
    assert run.returncode == 0, output + errors
    return output


def last_of_each(changes: Sequence[str]) -> tuple[str, ...]:
    """Return the last change of each key, since a key that is set twice is an error."""
    return tuple({change.partition("=")[0]: change for change in changes}.values())


def _set(changes: Sequence[str]) -> list[str]:
    return [part for change in last_of_each(changes) for part in ("--set", change)]


def wait_until(condition: Callable[[], Any], otherwise: str, seconds: float = 120) -> Any:
    """Wait for `condition` and return its true value; AssertionError with the text `otherwise` if it never is."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
    return answer
