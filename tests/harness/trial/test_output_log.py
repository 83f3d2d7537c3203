"""Claims: a command works without standard streams, and a run goes on when what it prints reaches nobody."""

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from twinbench.harness.trial.output_log import log_output, usable_log

PRINTS = """
import os, subprocess, sys
from twinbench.harness.trial.output_log import keep_running_without_output, open_closed_streams
open_closed_streams()
keep_running_without_output()
with open(sys.argv[1], "w") as file:
    print("out", flush=True)
    print("err", file=sys.stderr)
    print("more", flush=True)
    subprocess.run(["sh", "-c", "echo child; echo child >&2"])
    file.write("the end")
sys.exit(7)
"""


def _printing(tmp_path: Path, redirection: str) -> tuple[subprocess.CompletedProcess[bytes], str]:
    """How a process ended that prints and writes a file, and that file's content."""
    file = tmp_path / "file"
    words = [sys.executable, "-c", PRINTS, str(file)]
    done = subprocess.run(["sh", "-c", f'"$@" {redirection}', "sh", *words], capture_output=True)
    return done, file.read_text()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_nowhere_and_not_into_the_next_file(tmp_path: Path, closed: str) -> None:
    done, content = _printing(tmp_path, closed)
    assert done.returncode == 7 and b"Traceback" not in done.stderr and content == "the end"
    assert (b"out\nmore\nchild\n" in done.stdout) == (">" not in closed.replace("2>", ""))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_behind_the_output_is_said_once_and_ends_nothing(tmp_path: Path) -> None:
    done, content = _printing(tmp_path, ">/dev/full")
    assert done.returncode == 7 and content == "the end"
    assert done.stderr.count(b"what was to be printed is lost: No space left on device") == 1


def test_a_reader_that_leaves_ends_nothing(tmp_path: Path) -> None:
    done, content = _printing(tmp_path, "| true")
    assert done.stderr == b"err\n" or b"Traceback" not in done.stderr
    assert content == "the end"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda log: log.symlink_to("/etc/absent/x")])
def test_a_log_whose_name_is_taken_ends_no_trial(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path], None]
) -> None:
    def trial() -> Generator[None, None, str]:
        os.write(1, b"lost")
        yield
        return "done"

    log = tmp_path / "attempt-0001.log"
    make(log)
    run = log_output(trial(), usable_log(log))
    with pytest.raises(StopIteration) as end:
        while True:
            next(run)
    out, err = capfd.readouterr()
    assert (end.value.value, out) == ("done", "") and f"{log} is not a regular file" in err
