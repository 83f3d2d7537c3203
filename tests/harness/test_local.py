"""Claims: on one machine too, a sweep ends in the undisturbed records, whoever dies, and however many run it."""

import os
import signal
from collections.abc import Callable

import pytest
from launching import FEW_TRIALS, MISBEHAVING, ONE_TRIAL, Twinbench, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Twinbench:
    """The command line, and the undisturbed runs `one` and `few`."""
    folder = tmp_path_factory.mktemp("runs")
    twinbench = Twinbench(folder, folder / "cache")
    twinbench.run("one", ONE_TRIAL)
    twinbench.run("few", FEW_TRIALS)
    return twinbench


def _start(here: Twinbench, out: str, changes: tuple[str, ...]) -> Callable[[], str]:
    """Starts a run; the answer waits for its end and gives what it printed."""
    driver = here.start("run", "digits", "--out", out, *[p for change in changes for p in ("--set", change)])

    def end() -> str:
        output, errors = driver.communicate(timeout=300)
        assert driver.returncode == 0, output + errors
        return output

    return end


def test_two_commands_on_one_folder_share_the_work(here: Twinbench) -> None:
    ends = [_start(here, "shared", FEW_TRIALS) for _ in range(2)]
    for end in ends:
        assert "report: shared/report/index.html" in end()
    assert here.digests("shared") == here.digests("few")
    assert {record["circumstance"]["attempts"] for record in here.records("shared")} == {1}


def test_a_driver_that_is_killed_leaves_its_trial_to_the_next_run(here: Twinbench) -> None:
    driver = here.start("run", "digits", "--out", "driver", *[p for change in ONE_TRIAL for p in ("--set", change)])
    pid = here.wait_for_progress("driver")["pid"]
    driver.kill()
    driver.communicate()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the worker outlives its driver", 30)
    here.run("driver", ONE_TRIAL)
    assert here.digests("driver") == here.digests("one")
    assert here.attempt("driver", 2)["from_step"] > 0


def test_a_command_takes_over_from_another_whose_worker_dies(here: Twinbench) -> None:
    first = here.start("run", "digits", "--out", "taken", *[p for change in ONE_TRIAL for p in ("--set", change)])
    pid = here.wait_for_progress("taken")["pid"]
    end = _start(here, "taken", ONE_TRIAL)
    os.kill(first.pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    end()
    first.communicate()
    assert here.digests("taken") == here.digests("one")


def test_trials_that_go_wrong_are_recorded_and_stop_no_other(here: Twinbench) -> None:
    (here.folder / "wrong.toml").write_text(MISBEHAVING)
    told = here.run("wrong", (), "--trial-time-limit", "15", sweep="wrong.toml", code=1)
    assert "5 trials: 1 done, 4 failed" in told
    reasons = {record["result"]["trial"]["method"]: record["result"]["reason"] for record in here.records("wrong")}
    assert "always raises" in reasons["raises"] and "memory" in reasons["out_of_memory"]
    assert "died 3 times" in reasons["killed"] and "time limit of 15 s" in reasons["hangs"]
    assert reasons["simclr"] == ""
    told = here("status", "wrong")
    assert "1 done, 4 failed" in told and "this method always raises" in told
    again = here.run("wrong", ("methods=raises",), "--retry", "failed", sweep="wrong.toml", code=1)
    assert "1 failed trials run again" in again
    assert {r["circumstance"]["attempts"] for r in here.records("wrong") if "raises" in r["result"]["reason"]} == {2}


def test_two_processes_per_trial_leave_nearly_the_record_of_one(here: Twinbench) -> None:
    here.run("ranks", ONE_TRIAL, "--processes-per-trial", "2")
    (one,), (two,) = here.records("one"), here.records("ranks")
    assert two["circumstance"]["ranks"] == 2 and one["circumstance"]["ranks"] == 1
    assert two["result"]["trial_id"] == one["result"]["trial_id"]
