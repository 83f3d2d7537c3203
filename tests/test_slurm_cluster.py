"""The SLURM that other tests run on is one: it runs, preempts, requeues and accounts."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import Host, SlurmCluster, start_cluster

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A cluster without accounting."""
    cluster = start_cluster(tmp_path_factory.mktemp("bare"), cpus=1, accounting=False, extra_conf="MaxArraySize=7")
    yield cluster
    cluster.stop()


def submit(cluster: SlurmCluster, script: str, *options: str) -> str:
    """Submit a script and return the job's number."""
    return cluster.command("sbatch", "--parsable", "-o", "/dev/null", *options, "--wrap", script).strip()


def wait_until(question: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_for_state(cluster: SlurmCluster, job: str, state: str, seconds: float = 30) -> dict[str, Any]:
    """Wait until the job is in this state, and return its line of the queue."""
    lines: list[dict[str, Any]] = []

    def found() -> bool:
        lines[:] = [line for line in cluster.jobs(finished=True) if line["job_id"] == job]
        return [line["state"] for line in lines] == [state]

    wait_until(found, seconds)
    return lines[0]


def test_a_job_runs_on_each_node_and_sacct_tells(slurm: SlurmCluster, tmp_path: Path) -> None:
    array = submit(slurm, f"hostname > {tmp_path}/$SLURMD_NODENAME; sleep 1", "--array=0-1", "--exclusive")
    wait_until(lambda: not slurm.jobs())
    assert {path.name for path in tmp_path.iterdir()} == {"n1", "n2"}
    done = {(f"{array}_{task}", "COMPLETED") for task in (0, 1)}
    # the database hears of a job some seconds later
    wait_until(lambda: {tuple(line.split("|")) for line in _sacct(slurm, "-X", "-o", "jobid,state")} >= done)


def test_sacct_fails_while_accounting_is_stopped_and_jobs_still_run(slurm: SlurmCluster) -> None:
    slurm.stop_accounting()
    try:
        with pytest.raises(RuntimeError, match="Connection refused"):
            _sacct(slurm)
        wait_for_state(slurm, submit(slurm, "true"), "COMPLETED")
    finally:
        slurm.start_accounting()
    _sacct(slurm)


@pytest.fixture
def no_grace(slurm: SlurmCluster) -> Iterator[None]:
    """SLURM looks only every 30 seconds whether a time of grace is over."""
    slurm.command("scontrol", "update", "partitionname=main", "gracetime=0")
    yield
    slurm.command("scontrol", "update", "partitionname=main", "gracetime=5")


@pytest.mark.usefixtures("no_grace")
def test_an_urgent_job_preempts_one_of_main_which_is_requeued_and_can_be_released(slurm: SlurmCluster) -> None:
    preempted = submit(slurm, "sleep 300", "--nodes=2", "--exclusive")
    wait_for_state(slurm, preempted, "RUNNING")
    wait_for_state(slurm, submit(slurm, "true", "--partition=urgent"), "COMPLETED")
    assert wait_for_state(slurm, preempted, "PENDING")["reason"] == "BeginTime"
    slurm.release(preempted)
    wait_for_state(slurm, preempted, "RUNNING")
    slurm.command("scancel", preempted)
    wait_until(lambda: not slurm.jobs())


def test_a_node_that_goes_down_requeues_its_job_and_another_runs_it(bare: SlurmCluster) -> None:
    job = submit(bare, "sleep 300", "--array=6")
    line = wait_for_state(bare, job, "RUNNING")
    assert (line["id"], line["task"]) == (f"{job}_6", 6)
    bare.set_node(line["node"], "down")
    assert wait_for_state(bare, job, "PENDING")["node"] == ""
    bare.release(job)
    assert wait_for_state(bare, job, "RUNNING")["node"] != line["node"]
    bare.set_node(line["node"], "resume")
    second = submit(bare, "sleep 300")
    assert wait_for_state(bare, second, "RUNNING")["node"] == line["node"]


def test_extra_settings_take_the_place_of_the_clusters_own(bare: SlurmCluster) -> None:
    assert "MaxArraySize            = 7" in bare.command("scontrol", "show", "config")
    with pytest.raises(RuntimeError, match="Invalid job array"):
        submit(bare, "true", "--array=7")


def test_a_stopped_cluster_leaves_no_process(tmp_path: Path) -> None:
    cluster = start_cluster(tmp_path, hosts=[Host()], accounting=False)
    # neither a session of its own nor an ignored signal saves a process
    job = submit(cluster, f"trap '' TERM; setsid sleep 300 & echo $! > {tmp_path}/pid; sleep 300")
    wait_for_state(cluster, job, "RUNNING")
    wait_until((tmp_path / "pid").exists)
    cluster.stop()
    pid = (tmp_path / "pid").read_text().strip()
    assert (
        not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
    )  # a zombie's is empty
    assert not cluster._processes()


def _sacct(cluster: SlurmCluster, *options: str) -> list[str]:
    return cluster.command("sacct", "-n", "-P", *options).splitlines()
