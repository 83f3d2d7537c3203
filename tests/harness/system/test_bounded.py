"""Claims: what reads files of others ends at its bounds, says which it met, and leaves nothing behind."""

import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from twinbench.harness.system.bounded import Bounds, within_bounds
from twinbench.sweeps.errors import InvalidInput, Mistake

AMPLE = Bounds(memory=16, seconds=60)


def test_what_is_read_comes_back_and_so_does_what_is_wrong_with_it(tmp_path: Path) -> None:
    assert within_bounds(lambda: {"pid": os.getpid(), "read": [1.5]}, "x", AMPLE, tmp_path)["pid"] != os.getpid()
    wrong = (Mistake("file", "key", "is wrong", [1, "\x1b"], "one", "on"), Mistake("file", "", "has more"))

    def refuse() -> None:
        raise InvalidInput(wrong)

    with pytest.raises(InvalidInput) as caught:
        within_bounds(refuse, "x", AMPLE, tmp_path)
    assert list(map(str, caught.value.mistakes)) == list(map(str, wrong))


def test_an_error_of_the_system_keeps_its_file_and_reason(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        within_bounds((tmp_path / "absent").read_bytes, "x", AMPLE, tmp_path)
    assert caught.value.filename == str(tmp_path / "absent") and caught.value.strerror


@pytest.mark.parametrize("how", ["raises", "swallowed"])
def test_more_memory_than_allowed_is_an_error_that_names_the_option(how: str, tmp_path: Path) -> None:
    def take() -> None:
        try:
            bytearray(3 * 2**30)
        except MemoryError:
            if how == "raises":
                raise
            raise ValueError("a library's own words")  # noqa: B904

    with pytest.raises(InvalidInput) as caught:
        within_bounds(take, "b.tar.gz", Bounds(memory=2, seconds=60), tmp_path)
    text = "b.tar.gz: reading it takes more than 2 GiB of memory; allowed: more with --memory-limit GIB"
    assert str(caught.value) == text


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGRTMIN + 1])
def test_a_signal_that_ends_the_reading_is_named_and_not_taken_for_a_bound(number: int, tmp_path: Path) -> None:
    def end() -> None:
        faulthandler.disable()  # pytest's would print a page
        os.kill(os.getpid(), number)

    with pytest.raises(InvalidInput) as caught:
        within_bounds(end, "b.tar.gz", AMPLE, tmp_path)
    text = str(caught.value)
    name = getattr(number, "name", "signal 35")
    assert text.startswith(f"b.tar.gz: the process that read it was ended by {name}") and "limit" not in text
    assert ("memory" in text) == (number in (signal.SIGABRT, signal.SIGKILL))


def test_more_time_than_allowed_is_an_error_that_names_the_option_and_half_written_files_are_gone(
    tmp_path: Path,
) -> None:
    def wait() -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "half").write_bytes(b"written")
            (tmp_path / "pid").write_text(str(os.getpid()))
            time.sleep(60)

    begun = time.monotonic()
    with pytest.raises(InvalidInput, match="reading it takes more than 1 s; allowed: more with --time-limit SECONDS"):
        within_bounds(wait, "b.tar.gz", Bounds(memory=16, seconds=1), tmp_path)
    assert time.monotonic() - begun < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]


def test_temporary_files_are_in_the_folder_that_the_caller_removes(tmp_path: Path) -> None:
    assert Path(within_bounds(tempfile.mkdtemp, "x", AMPLE, tmp_path)).parent == tmp_path


ENDED = """
import os, tempfile, time
from pathlib import Path
from twinbench.harness.system.bounded import Bounds, within_bounds

def wait():
    print(os.getpid(), flush=True)
    time.sleep(60)

with tempfile.TemporaryDirectory() as folder:
    within_bounds(wait, "x", Bounds(4, 60), Path(folder))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_command_that_is_ended_ends_what_it_started_and_removes_its_folder(
    number: int, code: int, tmp_path: Path
) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", ENDED], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as command:
        assert command.stdout
        child = int(command.stdout.readline())
        command.send_signal(number)
        assert command.wait(20) == code
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert not list(tmp_path.iterdir())
