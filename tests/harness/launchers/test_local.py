"""Claims: on one machine a sweep ends in undisturbed records, whatever dies and however many commands run it."""

import os
import signal

import pytest
from launching import (
    FEW_TRIALS,
    ONE_TRIAL,
    Twinbench,
    end_well,
    run_in_two_stages,
    run_misbehaving,
    run_out_of_disk,
    run_out_of_memory,
    run_with_a_worker_killed,
    wait_until,
)

pytestmark = pytest.mark.slow


def test_two_commands_on_one_folder_share_the_work(here: Twinbench) -> None:
    for command in [here.start_run("shared", FEW_TRIALS) for _ in range(2)]:
        assert "report: shared/report/index.html" in end_well(command)
    assert here.digests("shared") == here.digests("few")
    assert {record["circumstance"]["attempts"] for record in here.records("shared")} == {1}


def test_ctrl_c_saves_running_trials_and_the_next_run_continues_them(here: Twinbench) -> None:
    command = here.start_run("interrupted", ONE_TRIAL)
    here.wait_for_progress("interrupted")
    command.send_signal(signal.SIGINT)
    output, errors = command.communicate(timeout=120)
    assert command.returncode == 130 and "Traceback" not in errors, output + errors
    assert "run the same command again to continue" in output
    here.run("interrupted", ONE_TRIAL)
    assert here.digests("interrupted") == here.digests("one")
    assert here.attempt("interrupted", 2)["from_step"] > 0


def test_a_driver_that_is_killed_leaves_its_trial_to_the_next_run(here: Twinbench) -> None:
    driver = here.start_run("driver", ONE_TRIAL)
    pid = here.wait_for_progress("driver")[0]["pid"]
    driver.kill()
    driver.communicate()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the worker outlives its command", 30)
    here.run("driver", ONE_TRIAL)
    assert here.digests("driver") == here.digests("one")
    assert here.attempt("driver", 2)["from_step"] > 0


def test_a_command_takes_over_from_another_whose_worker_dies(here: Twinbench) -> None:
    first = here.start_run("taken", ONE_TRIAL)
    pid = here.wait_for_progress("taken")[0]["pid"]
    second = here.start_run("taken", ONE_TRIAL)
    os.kill(first.pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    end_well(second)
    first.communicate()
    assert here.digests("taken") == here.digests("one")


def test_failing_trials_are_recorded_and_stop_no_other(here: Twinbench) -> None:
    run_misbehaving(here, 15)
    printed = here("status", "wrong")
    assert "1 done, 4 failed" in printed and "this method always raises" in printed
    again = here.run("wrong", ("methods=raises",), "--retry", "failed", sweep="wrong.toml", code=1)
    assert "1 failed trial will run again" in again
    assert {r["circumstance"]["attempts"] for r in here.records("wrong") if "raises" in r["result"]["reason"]} == {2}


def test_a_trial_killed_for_want_of_memory_is_recorded_and_stops_no_other(here: Twinbench) -> None:
    run_out_of_memory(here, "--workers", 1)


def test_a_worker_that_is_killed_costs_its_attempt_and_its_driver_goes_on(here: Twinbench) -> None:
    run_with_a_worker_killed(here)


def test_isolated_trials_leave_the_same_records(here: Twinbench) -> None:
    here.run("isolated", FEW_TRIALS, "--isolate")
    assert here.digests("isolated") == here.digests("few")


def test_two_processes_per_trial_leave_nearly_the_record_of_one(here: Twinbench) -> None:
    here.run("ranks", ONE_TRIAL, "--processes-per-trial", "2")
    (one,), (two,) = here.records("one"), here.records("ranks")
    assert two["circumstance"]["ranks"] == 2 and one["circumstance"]["ranks"] == 1
    assert two["result"]["trial_id"] == one["result"]["trial_id"]


def test_a_full_disk_is_reported_and_the_sweep_continues_once_there_is_room(here: Twinbench) -> None:
    run_out_of_disk(here, 0)


def test_chosen_cells_are_confirmed_by_the_same_command(here: Twinbench) -> None:
    run_in_two_stages(here)
