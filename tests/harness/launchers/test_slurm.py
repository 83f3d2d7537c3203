"""Claims: a sweep on a real SLURM ends in the records of an undisturbed local run, whatever happens to it."""

import dataclasses
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from launching import (
    FEW_TRIALS,
    ONE_TRIAL,
    TWO_LONG_TRIALS,
    Twinbench,
    end_well,
    run_in_two_stages,
    run_misbehaving,
    run_on_two_ranks,
    run_out_of_disk,
    run_with_a_worker_killed,
    wait_until,
)
from slurm_cluster import SlurmCluster, start_cluster

from twinbench.harness.system import provenance
from twinbench.results.record import record_files

pytestmark = pytest.mark.slurm
ON_SLURM = ("--launcher", "slurm", "--slurm", "time=10")


@pytest.fixture
def there(here: Twinbench, slurm: SlurmCluster) -> Twinbench:
    """The command line with SLURM, in the same folder."""
    return dataclasses.replace(here, env=slurm.env)


def _release(cluster: SlurmCluster) -> None:
    """Let requeued jobs start at once."""

    def requeued() -> list[str]:
        jobs = cluster.jobs()
        return [job["job_id"] for job in jobs if (job["state"], job["partition"]) == ("PENDING", "main")]

    for job in wait_until(requeued, "nothing was requeued"):
        cluster.release(job)


def test_two_slots_on_two_nodes_leave_the_records_of_a_local_run(there: Twinbench, slurm: SlurmCluster) -> None:
    requested = [part for change in ("slots=8", "cpus=2", "sbatch.exclusive=user") for part in ("--slurm", change)]
    printed = there.run("slots", FEW_TRIALS, *ON_SLURM, *requested)
    assert "submitted SLURM job" in printed and "report: slots/report/index.html" in printed
    assert there.digests("slots") == there.digests("few")
    assert there.launch("slots")["slots"] == 2  # the largest array here; a node each
    assert _elements(slurm, there.launch("slots")["job_id"], "node") == ["n1", "n2"]
    assert {record["circumstance"]["where"].split()[-1] for record in there.records("slots")} <= {"n1", "n2"}


def test_two_ranks_of_which_one_is_killed_leave_the_record_of_a_local_run(there: Twinbench) -> None:
    run_on_two_ranks(there, *ON_SLURM, "--slurm", "cpus=2")


def test_a_worker_that_is_killed_costs_its_attempt_and_its_slot_goes_on(there: Twinbench) -> None:
    run_with_a_worker_killed(there, *ON_SLURM)
    assert there.launch("worker")["slots"] == 1


def test_two_commands_that_submit_at_once_share_the_work(there: Twinbench) -> None:
    for command in [there.start_run("shared-slurm", FEW_TRIALS, *ON_SLURM) for _ in range(2)]:
        end_well(command)
    assert there.digests("shared-slurm") == there.digests("few")
    assert {record["circumstance"]["attempts"] for record in there.records("shared-slurm")} == {1}


def test_a_detached_sweep_can_be_watched_collected_and_reported_and_also_runs_trials_planned_as_it_ends(
    there: Twinbench,
) -> None:
    there.run("grown", (*FEW_TRIALS, "projector_width=[16]", "baselines=false"), *ON_SLURM, "--detach")
    wait_until(lambda: there.digests("grown"), "the first trial was not run")
    there.run("grown", FEW_TRIALS, *ON_SLURM, "--detach")
    assert "done" in there("status", "grown")
    wait_until(lambda: there.digests("grown") == there.digests("few"), "the trials planned later were not run")
    trials = len(there.digests("few"))
    assert f"{trials} trials: {trials} done" in there("status", "grown")
    assert f"{trials} new" in there("collect", "grown")
    there("report", "grown")
    assert (there.folder / "grown" / "report" / "index.html").exists()


def test_chosen_cells_are_confirmed_by_the_same_command(there: Twinbench) -> None:
    run_in_two_stages(there, *ON_SLURM)


def test_under_a_limit_on_submitted_jobs_fewer_slots_do_the_same_work(there: Twinbench) -> None:
    requested = [part for change in ("account=lab", "qos=one", "slots=2") for part in ("--slurm", change)]
    there.run("limited", FEW_TRIALS, *ON_SLURM, *requested)
    assert there.launch("limited")["slots"] == 1
    assert there.digests("limited") == there.digests("few")


def test_slots_measure_packs_where_they_run(there: Twinbench) -> None:
    there.run("packed", FEW_TRIALS, *ON_SLURM, "--pack", "auto")
    assert there.digests("packed") == there.digests("few")
    assert list((there.cache / "bench").glob("*.packs.json"))


def test_a_trial_that_reaches_its_slots_time_limit_continues_to_the_undisturbed_record(
    there: Twinbench, slurm: SlurmCluster
) -> None:
    trial = (*ONE_TRIAL, "epochs=100")
    there.run("unlimited", trial)
    there.run("limit", trial, *ON_SLURM, "--detach")
    there.wait_for_progress("limit")
    job = there.launch("limit")["job_id"]
    slurm.command("scontrol", "update", f"jobid={job}", "timelimit=2")  # the warning comes within half a minute
    wait_until(lambda: not there.running("limit"), "no warning came at the time limit")
    (saved,) = there.attempts("limit")
    assert saved["status"] == "interrupted" and saved["step"] < saved["steps"]
    slurm.command("scontrol", "update", f"jobid={job}", "timelimit=10")
    _release(slurm)
    wait_until(lambda: record_files(there.folder / "limit"), "the trial did not go on")
    assert there.digests("limit") == there.digests("unlimited")
    (last,) = there.attempts("limit")
    assert last["number"] == 2 and last["from_step"] == saved["step"]


def _elements(cluster: SlurmCluster, array: str, key: str) -> list[str]:
    """Return that column of the queue for each element of an array, in order."""
    jobs = [job for job in cluster.jobs(finished=True) if job["id"].startswith(f"{array}_")]
    return [job[key] for job in sorted(jobs, key=lambda job: job["task"])]


def _preempt(there: Twinbench, cluster: SlurmCluster, out: str) -> None:
    cluster.command("sbatch", "-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    wait_until(lambda: not there.running(out), "the trial was not saved")
    _release(cluster)


def _take_the_node_down(there: Twinbench, cluster: SlurmCluster, out: str) -> None:
    (first,) = there.attempts(out)
    node = first["where"].split()[-1]
    cluster.set_node(node, "down")
    _release(cluster)
    wait_until(lambda: there.attempts(out)[0].get("number") == 2, "the trial did not go on elsewhere")
    assert there.attempts(out)[0]["where"].split()[-1] != node
    cluster.set_node(node, "resume")


@pytest.mark.parametrize("disturb", [_preempt, _take_the_node_down])
def test_a_disturbed_trial_continues_to_the_undisturbed_record(
    there: Twinbench,
    slurm: SlurmCluster,
    disturb: Callable[[Twinbench, SlurmCluster, str], None],
) -> None:
    out = disturb.__name__.strip("_")
    there.run(out, ONE_TRIAL, *ON_SLURM, "--detach")
    there.wait_for_progress(out)
    disturb(there, slurm, out)
    wait_until(lambda: record_files(there.folder / out), "the trial did not go on")
    assert there.digests(out) == there.digests("one")
    (last,) = there.attempts(out)
    assert last["number"] == 2 and last["from_step"] > 0


def test_a_driver_and_a_worker_that_are_killed_cost_the_workers_attempt(there: Twinbench) -> None:
    driver = there.start_run("killed", ONE_TRIAL, *ON_SLURM)
    (first,) = there.wait_for_progress("killed")
    driver.kill()
    os.kill(first["pid"], signal.SIGKILL)
    driver.communicate()
    there.run("killed", ONE_TRIAL, *ON_SLURM)
    assert there.launch("killed")["slots"] == 1  # the only launch, whichever of slot and command was first
    assert there.digests("killed") == there.digests("one")
    (last,) = there.attempts("killed")
    assert last["number"] == 2 and last["from_step"] > 0


SITE = """
[slurm]
account = "lab"
qos = "low"
constraint = "on-n2"
time = "00:10:00"
gpus = 1
cpus = 2
memory = "500M"
slots = 2
array_parallelism = 1

[slurm.sbatch]
licenses = "scratch"
comment = "requested"
"""


def test_slots_get_what_they_request_are_requeued_at_their_time_limit_cancelled_and_run_again(
    there: Twinbench, slurm: SlurmCluster
) -> None:
    (there.folder / "site.toml").write_text(SITE)
    options = ("--launcher", "slurm", "--site", "site.toml", "--workers-per-gpu", 2, "--detach")
    there.run("requested", (*TWO_LONG_TRIALS, "baselines=true"), *options)
    there.wait_for_progress("requested", trials=2)
    array = there.launch("requested")["job_id"]

    printed = slurm.command("scontrol", "show", "job", f"{array}_0")
    given = dict(word.split("=", 1) for word in printed.split() if "=" in word)
    requested = {"Account": "lab", "QOS": "low", "Features": "on-n2", "Licenses": "scratch", "Comment": "requested"}
    requested |= {"TresPerNode": "gres:gpu:1", "NumCPUs": "2", "MinMemoryNode": "500M"}
    requested |= {"TimeLimit": "00:10:00", "ArrayTaskThrottle": "1"}
    assert {key: given[key] for key in requested} == requested
    assert _elements(slurm, array, "state") == ["RUNNING", "PENDING"]  # one at a time
    assert _elements(slurm, array, "reason")[1] == "JobArrayTaskLimit"
    both = there.running("requested")  # in one slot, on its one GPU
    assert {attempt["where"] for attempt in both} == {f"slurm {array}_0 n2"}
    assert len({attempt["pid"] for attempt in both}) == 2
    assert {record["circumstance"]["where"] for record in there.records("requested")} == {f"slurm {array}_0 n2"}

    slurm.command("scancel", f"{array}_1")
    # now the limit's warning is due, and comes when SLURM next looks, which it does every half minute
    slurm.command("scontrol", "update", f"jobid={array}_0", "timelimit=2")
    wait_until(lambda: not there.running("requested"), "no warning came at the time limit")
    saved = [attempt["step"] for attempt in there.attempts("requested") if attempt["status"] == "interrupted"]
    slurm.command("scontrol", "update", f"jobid={array}_0", "timelimit=10")
    _release(slurm)
    wait_until(lambda: _advanced(there.running("requested")) == 2, "the trials did not go on")
    assert [attempt["from_step"] for attempt in there.running("requested")] == saved
    there("cancel", "requested")
    wait_until(lambda: not there.running("requested"), "cancel did not reach the workers")
    # at once: the slot that was cancelled may still be ending
    there.run("requested", (*TWO_LONG_TRIALS, "baselines=true"), *options)
    assert there.launch("requested")["job_id"] != array
    wait_until(lambda: _advanced(there.running("requested")) == 2, "a run after a cancel does not go on")
    there("cancel", "requested")
    wait_until(lambda: not slurm.jobs(), "a cancelled job is still queued")


def _advanced(attempts: list[dict[str, Any]]) -> int:
    """Return how many of the attempts have made progress since they began."""
    return sum(attempt.get("step", 0) > attempt.get("from_step", 0) for attempt in attempts)


def test_failing_trials_are_recorded_and_stop_no_other(there: Twinbench) -> None:
    run_misbehaving(there, 15, *ON_SLURM, "--slurm", "slots=2")


def test_a_refusal_by_slurm_is_reported_in_one_line(there: Twinbench) -> None:
    printed = there.run("refused", FEW_TRIALS, *ON_SLURM, "--slurm", "partition=nowhere", code=2)
    assert "sbatch: refused the job" in printed and "partition" in printed


def test_a_full_disk_is_reported_and_the_sweep_continues_once_there_is_room_even_without_accounting(
    here: Twinbench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cluster = start_cluster(tmp_path_factory.mktemp("sl"), accounting=False)
    try:
        run_out_of_disk(dataclasses.replace(here, env=cluster.env), 0, *ON_SLURM)
    finally:
        cluster.stop()


def test_a_queued_job_runs_the_code_of_its_submission_even_while_accounting_is_down(
    there: Twinbench, slurm: SlurmCluster
) -> None:
    slurm.stop_accounting()
    try:
        there.run("frozen", FEW_TRIALS, *ON_SLURM, "--slurm", "sbatch.begin=now+3600", "--detach")
        (code,) = (there.folder / "frozen" / "code").iterdir()
        (code / "twinbench" / provenance.COMMIT).write_text("c" * 40)  # which is recorded only if this copy runs
        slurm.release(there.launch("frozen")["job_id"])
        wait_until(lambda: there.digests("frozen") == there.digests("few"), "it did not end")
    finally:
        slurm.start_accounting()
    ran = [record["circumstance"] for record in there.records("frozen")]
    (same_code,) = {record["circumstance"]["code_hash"] for record in there.records("few")}
    assert {(each["commit"], each["code_hash"]) for each in ran} == {("c" * 40, same_code)}
