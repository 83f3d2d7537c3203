"""Claims: a sweep on a real SLURM ends in the records of an undisturbed local run, whatever is done to it meanwhile."""

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from launching import FEW_TRIALS, ONE_TRIAL, Twinbench, run_misbehaving, wait_until
from slurm_cluster import SlurmCluster, start_cluster

from twinbench.harness import provenance
from twinbench.results.record import record_files

pytestmark = pytest.mark.slurm
ON_SLURM = ("--launcher", "slurm", "--slurm", "time=10")


@pytest.fixture
def there(here: Twinbench, slurm: SlurmCluster) -> Twinbench:
    """The command line with SLURM, in the same folder."""
    return dataclasses.replace(here, env=slurm.env)


def _release(cluster: SlurmCluster) -> None:
    """Lets requeued jobs start at once."""

    def requeued() -> list[str]:
        jobs = cluster.jobs()
        return [job["job_id"] for job in jobs if (job["state"], job["partition"]) == ("PENDING", "main")]

    for job in wait_until(requeued, "nothing was requeued"):
        cluster.release(job)


def test_two_slots_on_two_nodes_leave_the_records_of_a_local_run(there: Twinbench, slurm: SlurmCluster) -> None:
    told = there.run(
        "slots", FEW_TRIALS, *ON_SLURM, "--slurm", "slots=2", "--slurm", "cpus=2", "--slurm", "sbatch.exclusive=user"
    )
    assert "submitted SLURM job" in told and "report: slots/report/index.html" in told
    assert there.digests("slots") == there.digests("few")
    nodes = {record["circumstance"]["where"].split()[-1] for record in there.records("slots")}
    assert nodes == {"n1", "n2"}
    assert len(list((there.folder / "slots" / "launches").iterdir())) == 1


def _kill_the_worker(there: Twinbench, cluster: SlurmCluster, out: str) -> None:
    os.kill(there.attempt(out)["pid"], signal.SIGKILL)


def _preempt(there: Twinbench, cluster: SlurmCluster, out: str) -> None:
    cluster.command("sbatch", "-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    wait_until(lambda: there.attempt(out)["status"] == "interrupted", "the trial was not saved")
    _release(cluster)


def _take_the_node_down(there: Twinbench, cluster: SlurmCluster, out: str) -> None:
    node = there.attempt(out)["where"].split()[-1]
    cluster.set_node(node, "down")
    _release(cluster)
    wait_until(lambda: there.attempt(out, 2), "the trial did not go on elsewhere")
    assert there.attempt(out, 2)["where"].split()[-1] != node
    cluster.set_node(node, "resume")


@pytest.mark.parametrize("disturb", [_kill_the_worker, _preempt, _take_the_node_down])
def test_a_disturbed_trial_goes_on_to_the_undisturbed_record(
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
    (record,) = there.records(out)
    assert record["circumstance"]["attempts"] == 2
    assert there.attempt(out, 2)["from_step"] > 0


def test_a_trial_is_saved_at_the_time_limit_and_goes_on_when_its_job_is_requeued(
    there: Twinbench,
    slurm: SlurmCluster,
) -> None:
    long = (*ONE_TRIAL[:3], "epochs=400", *ONE_TRIAL[4:])
    there.run("limit", long, "--launcher", "slurm", "--slurm", "time=1", "--detach")
    there.wait_for_progress("limit")
    wait_until(lambda: there.attempt("limit")["status"] == "interrupted", "no warning came at the time limit")
    _release(slurm)
    wait_until(lambda: there.attempt("limit", 2).get("step", 0) > there.attempt("limit", 1)["step"], "it did not go on")
    assert there.attempt("limit", 2)["from_step"] == there.attempt("limit", 1)["step"]
    there("cancel", "limit")
    wait_until(lambda: there.attempt("limit", 2)["status"] == "interrupted", "cancel did not reach the worker")
    wait_until(lambda: not slurm.jobs(), "a cancelled job is still queued")


def test_a_driver_that_is_killed_finds_its_job_again(there: Twinbench, slurm: SlurmCluster) -> None:
    driver = there.start_run("driver", ONE_TRIAL, *ON_SLURM)
    there.wait_for_progress("driver")
    driver.kill()
    driver.communicate()
    told = there.run("driver", ONE_TRIAL, *ON_SLURM)
    assert "nothing more is submitted" in told
    assert there.digests("driver") == there.digests("one")
    assert there.records("driver")[0]["circumstance"]["attempts"] == 1


def test_trials_that_go_wrong_are_recorded_and_stop_no_other(there: Twinbench) -> None:
    run_misbehaving(there, 20, *ON_SLURM, "--slurm", "slots=2")


def test_what_slurm_refuses_is_said_in_a_line(there: Twinbench) -> None:
    told = there.run("refused", FEW_TRIALS, *ON_SLURM, "--slurm", "partition=nowhere", code=2)
    assert "sbatch: refused the job" in told and "partition" in told
    told = there.run("refused", FEW_TRIALS, *ON_SLURM, "--slurm", "partitoin=main", "--slurm", "gpus=-1", code=2)
    assert "did you mean 'partition'?" in told and "gpus" in told


def test_without_accounting_and_with_a_small_array_limit_the_sweep_is_the_same(
    here: Twinbench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cluster = start_cluster(tmp_path_factory.mktemp("sl"), accounting=False, extra_conf="MaxArraySize=3")
    try:
        there = dataclasses.replace(here, env=cluster.env)
        there.run("plain", FEW_TRIALS, *ON_SLURM, "--slurm", "slots=8")
        assert there.digests("plain") == there.digests("few")
        assert '"slots": 2' in next((there.folder / "plain" / "launches").iterdir()).read_text()
    finally:
        cluster.stop()


def test_the_sweep_goes_on_while_accounting_is_away(there: Twinbench, slurm: SlurmCluster) -> None:
    slurm.stop_accounting()
    try:
        there.run("unaccounted", FEW_TRIALS, *ON_SLURM)
    finally:
        slurm.start_accounting()
    assert there.digests("unaccounted") == there.digests("few")


def test_a_queued_job_runs_the_code_that_was_there_at_submission(there: Twinbench, tmp_path: Path) -> None:
    there.run("frozen", FEW_TRIALS, *ON_SLURM, "--detach")
    (code,) = (there.folder / "frozen" / "code").iterdir()
    assert (code / "twinbench" / "harness" / "worker.py").exists()
    wait_until(lambda: len(record_files(there.folder / "frozen")) == len(there.digests("few")), "it did not end")
    assert {record["circumstance"]["commit"] for record in there.records("frozen")} == {provenance.commit()}
    assert {record["circumstance"]["code_hash"][:16] for record in there.records("frozen")} == {code.name}
