"""Claims: a sweep on real Ray nodes ends in the records of an undisturbed local run, whatever fails."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

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
from ray_cluster import RayCluster, new_cluster

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
    assert there.launch("nodes")["actors"] == 2  # on a node each, which has one `worker`


def test_two_ranks_of_which_one_is_killed_leave_the_record_of_a_local_run(
    there: Twinbench, ray_cluster: RayCluster
) -> None:
    run_on_two_ranks(there, *_on(ray_cluster), "--ray", "cpus=1")  # as many as a node has; two ranks share it


def test_a_worker_that_is_killed_costs_its_attempt_and_its_driver_goes_on(
    there: Twinbench, ray_cluster: RayCluster
) -> None:
    run_with_a_worker_killed(there, *_on(ray_cluster))


def test_chosen_cells_are_confirmed_by_the_same_command(there: Twinbench, ray_cluster: RayCluster) -> None:
    run_in_two_stages(there, *_on(ray_cluster))


def test_two_commands_at_once_share_the_work(there: Twinbench, ray_cluster: RayCluster) -> None:
    for command in [there.start_run("shared-ray", FEW_TRIALS, *_on(ray_cluster)) for _ in range(2)]:
        end_well(command)
    assert there.digests("shared-ray") == there.digests("few")
    assert {record["circumstance"]["attempts"] for record in there.records("shared-ray")} == {1}


def test_a_driver_that_is_killed_costs_nothing(there: Twinbench, ray_cluster: RayCluster) -> None:
    driver = there.start_run("driver", ONE_TRIAL, *_on(ray_cluster))
    there.wait_for_progress("driver")
    driver.kill()
    driver.communicate()
    there.run("driver", ONE_TRIAL, *_on(ray_cluster))
    assert there.digests("driver") == there.digests("one")
    assert there.attempts("driver")[0]["number"] == 1


def test_packs_are_measured_where_actors_run(there: Twinbench, ray_cluster: RayCluster) -> None:
    printed = there.run("packed", FEW_TRIALS, *_on(ray_cluster), "--pack", "auto")
    assert "packs of at most " in printed
    assert there.digests("packed") == there.digests("few")
    assert list((there.cache / "bench").glob("*.packs.json"))


def test_ray_starts_itself_on_one_machine(here: Twinbench, tmp_path: Path) -> None:
    alone = dataclasses.replace(here, env={**os.environ, "RAY_ADDRESS": "", "HOME": str(tmp_path)})
    alone.run("alone", FEW_TRIALS, "--launcher", "ray")
    assert alone.digests("alone") == alone.digests("few")


OWN_RAY = """
import json, ray_cluster
from twinbench.harness.launchers.ray_connection import connected
from twinbench.harness.launchers.site import RaySite

with connected(RaySite()):
    import ray

    address = ray.get_runtime_context().gcs_address
    nodes = [node["NodeManagerAddress"] for node in ray.nodes()]
    dashboard = ray._private.worker.global_worker.node.webui_url
    others = [ray_cluster.answers_elsewhere(address), ray_cluster.lets_in(address, {"RAY_AUTH_TOKEN": "0" * 64})]
    print(json.dumps([address, nodes, dashboard, *others, ray_cluster.lets_in(address, {})]))
"""


def test_a_local_ray_listens_on_the_loopback_only_requires_a_token_and_has_no_dashboard(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    env = {**os.environ, "RAY_ADDRESS": "", "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    printed = subprocess.run(
        [sys.executable, "-c", OWN_RAY], env=env, capture_output=True, text=True, timeout=120, check=True
    ).stdout
    address, nodes, dashboard, answers_elsewhere, without_token, with_token = json.loads(printed.splitlines()[-1])
    assert address.startswith("127.0.0.1:") and nodes == ["127.0.0.1"]
    assert not dashboard and not answers_elsewhere and not without_token and with_token


def test_when_a_node_dies_the_other_node_takes_its_trial(there: Twinbench, ray_cluster: RayCluster) -> None:
    driver = there.start_run("node", ONE_TRIAL, *_on(ray_cluster))
    name = ray_cluster.node_of(there.wait_for_progress("node")[0]["pid"])
    ray_cluster.kill(name)
    ray_cluster.add_worker(name)
    end_well(driver)
    assert there.digests("node") == there.digests("one")
    (last,) = there.attempts("node")
    assert last["number"] == 2 and last["from_step"] > 0


def test_a_head_that_dies_is_reported_and_costs_the_workers_attempt(
    here: Twinbench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("ray")
    cluster = new_cluster(tmp_path_factory.mktemp("r"))
    there = dataclasses.replace(here, env=cluster.env)
    command = (ONE_TRIAL, "--launcher", "ray", "--address", cluster.address)
    try:
        cluster.add_head(1)
        driver = there.start_run("head", *command)
        there.wait_for_progress("head")
        cluster.kill("head")
        output, errors = driver.communicate(timeout=120)
        assert driver.returncode == 1 and "Traceback" not in output + errors
        assert "the head of the Ray cluster does not answer; run the same command again to continue" in output
        cluster.add_head(1)
        there.run("head", *command)
    finally:
        cluster.stop()
    differences = [(a["result"], b["result"]) for a, b in zip(there.records("head"), there.records("one"), strict=True)]
    assert all(a == b for a, b in differences), differences  # shown whole: this failed once without showing where
    (last,) = there.attempts("head")
    assert last["number"] == 2 and last["from_step"] > 0


@pytest.mark.parametrize("seconds", [0.0, 8.0], ids=["and is killed", "and hangs before it is killed"])
def test_a_head_that_is_lost_as_a_command_connects_is_named_and_its_plan_is_kept(
    here: Twinbench, tmp_path_factory: pytest.TempPathFactory, seconds: float
) -> None:
    """It takes connections and says nothing, so that the command is in the middle of connecting."""
    pytest.importorskip("ray")
    cluster = new_cluster(tmp_path_factory.mktemp("r"))
    there, out = dataclasses.replace(here, env=cluster.env), f"lost{seconds:g}"
    with socket.create_server(("127.0.0.1", int(cluster.address.rpartition(":")[2]))) as silent:
        driver = there.start_run(out, FEW_TRIALS, "--launcher", "ray", "--address", cluster.address)
        silent.settimeout(60)
        silent.accept()[0].close()
        time.sleep(seconds)
    output, errors = driver.communicate(timeout=120)
    assert driver.returncode == 2 and "Traceback" not in output + errors
    assert "--address: the head of the Ray cluster stopped answering" in errors and cluster.address in errors
    assert (there.folder / out / "plan.json").exists()


def test_rays_workers_import_nothing_from_the_working_directory(here: Twinbench, tmp_path: Path) -> None:
    """With a console script as the installed command has: `python -m` itself would look there."""
    script = tmp_path / "bin" / "twinbench"
    script.parent.mkdir()
    script.write_text("from twinbench.harness.cli import main\nif __name__ == '__main__':\n    main()\n")
    for module in ("signal", "types", "torch", "twinbench/__init__"):
        file = tmp_path / "here" / f"{module}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("raise SystemExit('imported from the working directory')\n")
    env = {**os.environ, "RAY_ADDRESS": "", "HOME": str(tmp_path), "TWINBENCH_CACHE": str(here.cache)}
    changes = [word for change in FEW_TRIALS for word in ("--set", change)]
    command = [sys.executable, script, "run", "digits", *changes, "--launcher", "ray"]
    done = subprocess.run(command, env=env, cwd=tmp_path / "here", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_driver_and_a_worker_that_are_killed_cost_the_workers_attempt(
    there: Twinbench, ray_cluster: RayCluster
) -> None:
    driver = there.start_run("killed", ONE_TRIAL, *_on(ray_cluster))
    (first,) = there.wait_for_progress("killed")
    driver.kill()
    os.kill(first["pid"], signal.SIGKILL)
    driver.communicate()
    there.run("killed", ONE_TRIAL, *_on(ray_cluster))
    assert there.digests("killed") == there.digests("one")
    (last,) = there.attempts("killed")
    assert last["number"] == 2 and last["from_step"] > 0


def test_actors_get_what_they_request_and_a_detached_sweep_can_be_cancelled_and_run_again(
    there: Twinbench, ray_cluster: RayCluster
) -> None:
    requested = ("gpus=0.5", "cpus=0.5", "resources.worker=0.5", "labels.name=b")
    options = [part for change in requested for part in ("--ray", change)]
    command = (TWO_LONG_TRIALS, "--launcher", "ray", "--address", ray_cluster.address, *options, "--detach")
    there.run("requested", *command)
    pids = {attempt["pid"] for attempt in there.wait_for_progress("requested", trials=2)}
    assert len(pids) == 2 and {ray_cluster.node_of(pid) for pid in pids} == {"b"}
    for resource in ("CPU", "GPU", "worker"):
        wait_until(lambda resource=resource: f"1.0/2.0 {resource}" in ray_cluster.status(), f"no half {resource} each")
    note = there.launch("requested")
    printed = there.run("requested", *command, "--ray", "gpus=1", "--workers", 1)
    assert "2 workers of an earlier command are already there" in printed and there.launch("requested") == note
    there("cancel", "requested")
    wait_until(lambda: not there.running("requested"), "cancel did not reach the workers")
    there.run("requested", *command)  # at once: the actors that were cancelled may still be ending
    wait_until(lambda: [attempt["number"] for attempt in there.running("requested")] == [2, 2], "no run after a cancel")
    there("cancel", "requested")
    wait_until(lambda: not there.running("requested"), "the second cancel did not reach the workers")
    assert not record_files(there.folder / "requested")


def test_actors_that_wait_for_a_place_end_when_their_command_is_interrupted(
    there: Twinbench, ray_cluster: RayCluster
) -> None:
    command = there.start_run("waits", FEW_TRIALS, *_on(ray_cluster), "--ray", "resources.worker=9")
    wait_until(lambda: "'worker': 9.0" in ray_cluster.status(), "no actor waits")
    command.send_signal(signal.SIGINT)
    output, errors = command.communicate(timeout=60)
    assert (
        command.returncode == 130
        and "run the same command again to continue" in output
        and "Traceback" not in output + errors
    )
    wait_until(lambda: "'worker': 9.0" not in ray_cluster.status(), "an actor still waits")


def test_interrupting_a_command_that_only_watched_leaves_the_workers_running(
    there: Twinbench, ray_cluster: RayCluster
) -> None:
    there.run("watched", TWO_LONG_TRIALS, *_on(ray_cluster), "--detach")
    there.wait_for_progress("watched", trials=2)
    command = there.start_run("watched", TWO_LONG_TRIALS, *_on(ray_cluster))
    assert command.stdout is not None
    while "workers of an earlier command are already there" not in command.stdout.readline():
        assert command.poll() is None
    command.send_signal(signal.SIGINT)
    output, errors = command.communicate(timeout=60)
    assert "the workers of an earlier command continue" in output and "Traceback" not in output + errors
    assert len(there.running("watched")) == 2
    there("cancel", "watched")
    wait_until(lambda: not there.running("watched"), "cancel did not reach the workers")


def test_cancel_ends_actors_that_wait_for_a_place(there: Twinbench, ray_cluster: RayCluster) -> None:
    there.run("waits-detached", FEW_TRIALS, *_on(ray_cluster), "--ray", "resources.worker=7", "--detach")
    wait_until(lambda: "'worker': 7.0" in ray_cluster.status(), "no actor waits")
    there("cancel", "waits-detached")
    wait_until(lambda: "'worker': 7.0" not in ray_cluster.status(), "an actor still waits")


def test_the_command_reports_why_its_workers_ended(there: Twinbench, ray_cluster: RayCluster) -> None:
    driver = there.start_run("said", FEW_TRIALS, *_on(ray_cluster))
    folder = there.folder / "said"
    wait_until(lambda: list((folder / "launches").glob("*.json")), "no worker was launched")
    (folder / "plan.json").write_text("no plan")  # which workers read once they have imported torch
    output, errors = driver.communicate(timeout=120)
    assert driver.returncode == 1 and "plan.json is not a plan" in output and "Traceback" not in output + errors


def test_failing_trials_are_recorded_and_stop_no_other(there: Twinbench, ray_cluster: RayCluster) -> None:
    run_misbehaving(there, 15, *_on(ray_cluster))


def test_an_address_without_a_ray_is_reported_in_one_line(here: Twinbench) -> None:
    printed = here.run("nobody", FEW_TRIALS, "--launcher", "ray", "--address", "127.0.0.1:1", code=2)
    assert "no Ray cluster answers at this address" in printed


def test_a_command_on_ray_waits_for_the_trials_of_a_local_command(there: Twinbench, ray_cluster: RayCluster) -> None:
    local = there.start_run("mixed", ONE_TRIAL)
    there.wait_for_progress("mixed")
    there.run("mixed", ONE_TRIAL, *_on(ray_cluster))
    end_well(local)
    assert there.digests("mixed") == there.digests("one")
    assert there.records("mixed")[0]["circumstance"]["attempts"] == 1


def test_a_full_disk_is_reported_and_the_sweep_continues_once_there_is_room(
    there: Twinbench, ray_cluster: RayCluster
) -> None:
    run_out_of_disk(there, 64 * 1024, *_on(ray_cluster))
