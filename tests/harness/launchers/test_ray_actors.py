"""Claims: there are as many actors as the nodes have room for, and packs are measured under the load of a run."""

from pathlib import Path

import pytest

from twinbench.harness.launchers.ray_actors import Actors
from twinbench.harness.launchers.site import RaySite
from twinbench.harness.trial.execute import Surroundings


@pytest.mark.parametrize(
    ("site", "room"),
    [
        (RaySite(cpus=2), 2),
        (RaySite(cpus=1, gpus=0.5), 2),
        (RaySite(cpus=1, gpus=0.1), 4),
        (RaySite(cpus=8), 0),
        (RaySite(labels={"region": "eu"}), 4),
        (RaySite(labels={"region": "us"}), 0),
        (RaySite(labels={"region": "!us"}), 4),
        (RaySite(resources={"licence": 1}), 0),
    ],
)
def test_a_nodes_scarcest_resource_limits_its_number_of_actors(tmp_path: Path, site: RaySite, room: int) -> None:
    actors = Actors(Surroundings(tmp_path), site)
    assert actors._actors_on({"Resources": {"CPU": 4.0, "GPU": 1.0}, "Labels": {"region": "eu"}}) == room


@pytest.mark.parametrize(
    ("site", "actors", "processes"),
    [
        (RaySite(cpus=2), None, 8),
        (RaySite(cpus=2), 3, 3),
        (RaySite(cpus=1, gpus=0.25), None, 4),
        (RaySite(cpus=8, gpus=0.25), None, 2),
        (RaySite(cpus=1, gpus=1), 4, 1),
        (RaySite(cpus=64), None, 1),  # it waits for a node that fits
    ],
)
def test_packs_are_measured_by_as_many_processes_as_will_share_a_node_or_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: RaySite, actors: int | None, processes: int
) -> None:
    nodes = [{"Resources": {"CPU": 4.0}}, {"Resources": {"CPU": 16.0, "GPU": 8.0}}]
    monkeypatch.setattr(Actors, "_nodes", lambda self: nodes)
    assert Actors(Surroundings(tmp_path), site)._sharing(actors) == processes
