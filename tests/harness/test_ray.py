"""Claims: a sweep on real Ray nodes ends in the records of an undisturbed local run, whatever is done to it."""

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from launching import FEW_TRIALS, ONE_TRIAL, Twinbench, end_well, run_misbehaving, wait_until
from ray_cluster import RayCluster

from twinbench.results.record import record_files

pytestmark = pytest.mark.ray


@pytest.fixture
def there(here: Twinbench, ray_cluster: RayCluster) -> Twinbench:
    """The command line with the cluster's token, in the same folder."""
    return dataclasses.replace(here, env=ray_cluster.env)


def _on(cluster: RayCluster) -> tuple[str, ...]:
    return ("--launcher", "ray", "--address", cluster.address, "--ray", "resources.worker=1")


def test_two_nodes_leave_the_records_of_a_local_run(there: Twinbench, ray_cluster: RayCluster) -> None:
    there.run("nodes", FEW_TRIALS, *_on(ray_cluster), "--workers", "2")
    assert there.digests("nodes") == there.digests("few")
    assert len({record["circumstance"]["where"] for record in there.records("nodes")}) == 2


def test_ray_starts_itself_on_one_machine(here: Twinbench, tmp_path: Path) -> None:
    alone = dataclasses.replace(here, env={**os.environ, "RAY_ADDRESS": "", "HOME": str(tmp_path)})
    alone.run("alone", FEW_TRIALS, "--launcher", "ray")
    assert alone.digests("alone") == alone.digests("few")


def _kill_the_worker(cluster: RayCluster, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _kill_the_node(cluster: RayCluster, pid: int) -> None:
    name = cluster.node_of(pid)
    cluster.kill(name)
    cluster.add_worker(name)


@pytest.mark.parametrize("disturb", [_kill_the_worker, _kill_the_node])
def test_a_disturbed_trial_goes_on_to_the_undisturbed_record(
    there: Twinbench, ray_cluster: RayCluster, disturb: Callable[[RayCluster, int], None]
) -> None:
    out = disturb.__name__.strip("_")
    driver = there.start_run(out, ONE_TRIAL, *_on(ray_cluster))
    pid = there.wait_for_progress(out)["pid"]
    disturb(ray_cluster, pid)
    end_well(driver)
    assert there.digests(out) == there.digests("one")
    assert there.records(out)[0]["circumstance"]["attempts"] == 2
    assert there.attempt(out, 2)["from_step"] > 0


def test_a_driver_that_is_killed_finds_its_actors_again(there: Twinbench, ray_cluster: RayCluster) -> None:
    driver = there.start_run("driver", ONE_TRIAL, *_on(ray_cluster))
    there.wait_for_progress("driver")
    driver.kill()
    driver.communicate()
    there.run("driver", ONE_TRIAL, *_on(ray_cluster))
    assert there.digests("driver") == there.digests("one")
    assert there.records("driver")[0]["circumstance"]["attempts"] == 1


def test_a_detached_sweep_goes_on_and_can_be_cancelled(there: Twinbench, ray_cluster: RayCluster) -> None:
    there.run("detached", (*ONE_TRIAL[:3], "epochs=400", *ONE_TRIAL[4:]), *_on(ray_cluster), "--detach")
    there.wait_for_progress("detached")
    there("cancel", "detached")
    wait_until(lambda: there.attempt("detached")["status"] == "interrupted", "cancel did not reach the worker")
    assert not record_files(there.folder / "detached")


def test_trials_that_go_wrong_are_recorded_and_stop_no_other(there: Twinbench, ray_cluster: RayCluster) -> None:
    run_misbehaving(there, 20, *_on(ray_cluster))


def test_an_address_where_no_ray_answers_is_told_in_a_line(here: Twinbench) -> None:
    told = here.run("nobody", FEW_TRIALS, "--launcher", "ray", "--address", "127.0.0.1:1", code=2)
    assert "no Ray answers there" in told


def test_a_command_on_ray_waits_for_what_another_command_runs(there: Twinbench, ray_cluster: RayCluster) -> None:
    local = there.start_run("mixed", ONE_TRIAL)
    there.wait_for_progress("mixed")
    there.run("mixed", ONE_TRIAL, *_on(ray_cluster))
    end_well(local)
    assert there.digests("mixed") == there.digests("one")
    assert there.records("mixed")[0]["circumstance"]["attempts"] == 1
