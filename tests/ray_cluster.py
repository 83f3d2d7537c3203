"""Real Ray nodes on this machine, for tests: a head without processors and nodes of one processor and one GPU each.

The GPU is a number that Ray counts, and no device: torch finds none and computes on the processor.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class RayCluster:
    """A running cluster; every node is a `ray start --block` with a session of its own."""

    folder: Path
    address: str
    env: dict[str, str]
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def add(self, name: str, *options: str) -> None:
        """Start a node and wait until it is up: nodes that start at the same time disturb each other."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options, "--block", "--disable-usage-stats"]
        printed = self.folder / f"{name}.out"
        with printed.open("wb") as out:
            node = subprocess.Popen(
                command, env=self.env, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.nodes[name] = node
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in printed.read_text():
            assert node.poll() is None and time.monotonic() < deadline, printed.read_text()[-2000:]
            time.sleep(0.1)

    def add_head(self, cpus: int) -> None:
        """Start the head, at whose address other nodes and drivers find the cluster."""
        where = (f"--port={self.address.rpartition(':')[2]}", "--node-ip-address=127.0.0.1")
        self.add(
            "head", "--head", *where, f"--num-cpus={cpus}", "--include-dashboard=false", f"--temp-dir={self.folder}/r"
        )

    def add_worker(self, name: str) -> None:
        """Start a node with one resource `worker`; a test that requests a whole one gets a node for each actor."""
        own = ("--num-cpus=1", "--num-gpus=1", '--resources={"worker": 1}', f"--labels=name={name}")
        self.add(name, f"--address={self.address}", *own)

    def kill(self, name: str) -> None:
        """Kill a node at once, with all that runs on it."""
        node = self.nodes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()

    def node_of(self, pid: int) -> str:
        """Return the name of the node that a process belongs to."""
        session = os.getsid(pid)
        return next(name for name, node in self.nodes.items() if node.pid == session)

    def status(self) -> str:
        """Return what `ray status` prints: the resources used and available, some seconds ago."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "status", f"--address={self.address}"]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60).stdout

    def stop(self) -> None:
        """Kill all nodes."""
        for name in reversed(list(self.nodes)):
            self.kill(name)


def new_cluster(folder: Path) -> RayCluster:
    """Return a cluster without nodes, with a token of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = folder / "token"
    token.write_text(secrets.token_hex())
    own = {"RAY_ADDRESS": "", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    # so that a dead node is soon noticed
    own |= {"RAY_health_check_initial_delay_ms": "0", "RAY_health_check_period_ms": "1000"}
    return RayCluster(folder, f"127.0.0.1:{port}", {**os.environ, **own})


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A head and two nodes."""
    pytest.importorskip("ray")
    cluster = new_cluster(tmp_path_factory.mktemp("ray"))
    try:
        cluster.add_head(0)
        for name in ("a", "b"):
            cluster.add_worker(name)
        yield cluster
    finally:
        cluster.stop()


def answers_elsewhere(address: str) -> bool:
    """Return whether the port answers at an address of this machine other than the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing, but selects this machine's outgoing address
        except OSError:
            return False
        host = probe.getsockname()[0]
    try:
        socket.create_connection((host, int(address.rpartition(":")[2])), timeout=5).close()
    except OSError:
        return False
    return host != "127.0.0.1"


def lets_in(address: str, env: dict[str, str]) -> bool:
    """Return whether a driver with these variables may connect to the cluster."""
    command = [sys.executable, "-c", f"import ray; ray.init(address={address!r}); print(ray.cluster_resources())"]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, timeout=120).returncode == 0
