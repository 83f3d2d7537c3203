"""Claim: the script of the documentation runs a sweep on Ray inside a SLURM allocation of two hosts.

The hosts are made of namespaces of this machine: each has a network address of its own and sees its own processes
only, which Ray needs, since it looks for other Rays and stops all that it sees.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from launching import Twinbench, wait_until
from slurm_cluster import Host, SlurmCluster, start_cluster

pytestmark = [pytest.mark.slurm, pytest.mark.ray]
DOCUMENTATION = Path(__file__).parents[3] / "docs" / "clusters.md"
NETWORK = f"198.18.{os.getpid() % 256}"  # RFC 2544 sets 198.18.0.0/15 aside for tests
# What FEW_TRIALS makes of the sweep `digits`.
MINE = """
question = "Does the documented script run?"
protocol = "digits-small"
seeds = [0]

[[grids]]
methods = ["simclr"]
axes = { epochs = [1], batch_size = [256], projector_width = [16, 32] }
"""


def _ip(*words: object) -> None:
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True, text=True)


@contextmanager
def _two_hosts(folder: Path) -> Iterator[list[Host]]:
    """Hosts n1 and n2 on a bridge, on which this machine is NETWORK.254."""
    bridge = f"tb{os.getpid()}"
    names = folder / "hosts"
    names.write_text(f"127.0.0.1 localhost\n{NETWORK}.1 n1\n{NETWORK}.2 n2\n")
    hosts = []
    with ExitStack() as undo:
        _ip("link", "add", bridge, "type", "bridge")
        undo.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{NETWORK}.254/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number in (1, 2):
            name = f"{bridge}-{number}"
            _ip("netns", "add", name)
            undo.callback(_ip, "netns", "del", name)
            _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", name, "master", bridge, "up")
            _ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
            network = ("nsenter", f"--net=/run/netns/{name}")
            processes = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
            # the shell is the namespace's first process, which has to wait for orphans: `ray stop` does
            own_names = ("sh", "-c", f'mount --bind {names} /etc/hosts && "$@" & wait', "sh")
            hosts.append(Host(f"{NETWORK}.{number}", (*network, *processes, *own_names)))
        yield hosts


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A SLURM of two hosts."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("hosts of network namespaces need root and ip; Debian package: iproute2")
    folder = tmp_path_factory.mktemp("h")
    with ExitStack() as undo:
        try:
            hosts = undo.enter_context(_two_hosts(folder))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine makes no network namespaces: {error.stderr}")
        cluster = start_cluster(folder, hosts, cpus=8, accounting=False, controller=f"{NETWORK}.254")
        undo.callback(cluster.stop)
        yield cluster


def _script() -> str:
    """The documentation's batch script with `ray symmetric-run`."""
    blocks = re.findall(r"```sh\n(#!.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), re.DOTALL)
    (script,) = [block for block in blocks if "symmetric-run" in block]
    return str(script)


def test_the_documented_script_runs_a_sweep_on_ray_in_an_allocation_of_two_hosts(
    here: Twinbench, cluster: SlurmCluster, tmp_path: Path
) -> None:
    (here.folder / "mine.toml").write_text(MINE)
    (here.folder / "job.sh").write_text(_script())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {"PATH": path, "HOME": tmp_path, "RAY_TMPDIR": cluster.folder, "TWINBENCH_CACHE": here.cache}
    cluster.env.update({key: str(value) for key, value in variables.items()})
    printed = here.folder / "job.out"
    cluster.command("sbatch", f"--chdir={here.folder}", f"--output={printed}", here.folder / "job.sh")

    def is_over() -> bool:
        # not the job's end: the host without the head notices up to a minute later that Ray is over
        return not cluster.jobs() or (printed.exists() and "report: runs/mine/" in printed.read_text())

    wait_until(is_over, "the sweep does not end")
    assert "4 trials: 4 done" in printed.read_text(), printed.read_text()
    assert here.digests("runs/mine") == here.digests("few")
    # a worker asks for a GPU, and each host has one
    assert here.launch("runs/mine")["actors"] == 2
