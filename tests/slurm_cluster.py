"""A real SLURM on this machine, for tests: munged, MariaDB, slurmdbd, slurmctld, and a slurmd per node.

Every daemon is a child of the test process and keeps to one folder and to ports the operating system gave, so clusters
can run beside each other. Two partitions: `main` (default; preempted with five seconds of grace, then requeued) and
`urgent` (preempts main). Every node says that it has one GPU, which is /dev/null, and has a feature that names it:
`on-n1`, `on-n2`. There is a licence `scratch`.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PACKAGES = "slurm-wlm slurmdbd munge mariadb-server"  # Debian's names
BASIC_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munge", "munged", "setpriv")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb-admin")

LONGEST_SOCKET = 107  # bytes of a Unix socket's path
LONGEST_NAME = len("/spool-n99/n99_99999.4294967294.0")  # the longest socket's name: slurmstepd's


@dataclass(frozen=True)
class Host:
    """Where a node runs: its address, and the words before a command that make it run there."""

    address: str = "127.0.0.1"
    enter: tuple[str, ...] = ()


@dataclass
class SlurmCluster:
    """A running cluster. `env` is for every subprocess that shall speak to it."""

    folder: Path
    conf: Path
    env: dict[str, str]
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def command(self, *args: object, check: bool = True) -> str:
        """Run a command against this cluster and return what it printed; with `check`, a failure raises."""
        done = subprocess.run([str(arg) for arg in args], env=self.env, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def jobs(self, finished: bool = False) -> list[dict[str, Any]]:
        """The queue, one entry per job and array element; with `finished`, also those that ended minutes ago."""
        states = ["--states=all"] if finished else []
        # %i is 7 or 7_2, %A the element's own number, %K its index in the array
        lines = self.command("squeue", "-h", "-r", *states, "-o", "%i|%A|%K|%T|%r|%N|%P|%j").splitlines()
        keys = ("id", "job_id", "task", "state", "reason", "node", "partition", "name")
        jobs = [dict(zip(keys, line.split("|", len(keys) - 1), strict=True)) for line in lines]
        return [job | {"task": None if job["task"] == "N/A" else int(job["task"])} for job in jobs]

    def release(self, job: object) -> None:
        """Let a requeued, pending job start: SLURM holds it back for two minutes after it was stopped."""
        # not at once: a node refuses what was signed within the second in which it revoked the job, and the job fails
        self.command("scontrol", "update", f"jobid={job}", "starttime=now+2")

    def set_node(self, name: str, state: str) -> None:
        """Set a node `down` (what runs there is requeued) or `resume` it."""
        self.command("scontrol", "update", f"nodename={name}", f"state={state}", "reason=test")

    def stop_accounting(self) -> None:
        """Stop slurmdbd: sacct fails, while jobs still run."""
        daemon = self._daemons.pop("slurmdbd")
        daemon.terminate()
        daemon.wait(30)

    def start_accounting(self) -> None:
        """Start slurmdbd and wait until it answers."""
        # slurmdbd has no setting for the path of the database's socket; MariaDB's client library reads this variable
        self._start("slurmdbd", "-D", env={"MYSQL_UNIX_PORT": str(self.folder / "db.sock")})
        self._wait_for("slurmdbd", "sacctmgr", "-n", "show", "cluster")

    def stop(self) -> None:
        """Kill the daemons, the jobs, and whatever else was started with this cluster's environment."""
        # Nothing here outlives the test, so nothing is ended in good order. slurmstepd leaves slurmd's process
        # tree and jobs have sessions of their own; the environment is what they cannot have lost.
        deadline = time.monotonic() + 30
        while left := self._processes():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for daemon in self._daemons.values():
                daemon.poll()  # reaps it
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes of {self.folder} do not end: {left}")
            time.sleep(0.02)
        for daemon in self._daemons.values():
            daemon.wait(30)
        self._daemons.clear()
        shutil.rmtree(self.folder / "db", ignore_errors=True)  # pytest keeps the folder; the logs are enough

    def _processes(self) -> list[int]:
        """The processes whose environment names this cluster's slurm.conf, zombies left out."""
        mark = f"SLURM_CONF={self.conf}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def _start(self, *args: str, name: str = "", env: dict[str, str] | None = None) -> None:
        """Start a daemon in the foreground; it gets SIGTERM should the test process die without stopping it."""
        name = name or args[0]
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *args],
                env=self.env | (env or {}),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops the cluster
            )

    def _wait_for(self, daemon: str, *command: str, prints: str = "") -> None:
        """Wait until a daemon is ready, which is when a command succeeds and prints this text, if one is given."""
        deadline = time.monotonic() + 60
        while True:
            done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
            if done.returncode == 0 and prints in done.stdout:
                return
            if self._daemons[daemon].poll() is not None or time.monotonic() > deadline:
                log = (self.folder / f"{daemon}.out").read_text(errors="replace")[-4000:]
                said = f"{' '.join(command)}: {done.stdout}{done.stderr}"
                raise RuntimeError(f"{daemon} did not come up in {self.folder}\n{said}\n{log}")
            time.sleep(0.05)

    def _start_munged(self, socket_path: Path) -> None:
        """Start a munged of our own, with its own key; it signs every message between the daemons."""
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        paths = [f"--{kind}-file={self.folder / f'munge.{kind}'}" for kind in ("key", "pid", "seed", "log")]
        # the folder is only its owner's, which munged takes for a mistake unless forced
        self._start("munged", "-F", "--force", f"--socket={socket_path}", *paths)
        self._wait_for("munged", "munge", "-n", "-S", str(socket_path))

    def _start_database(self) -> None:
        """Start an empty MariaDB that listens on nothing but a socket in the folder; slurmdbd makes its tables."""
        # --user=root: another user could not enter the folder. A small log file, because it is written in full first.
        options = ["--no-defaults", "--user=root", f"--datadir={self.folder / 'db'}", "--innodb-log-file-size=8M"]
        options += ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"]
        self.command("mariadb-install-db", *options, "--auth-root-authentication-method=normal", "--skip-test-db")
        database_socket = f"--socket={self.folder / 'db.sock'}"
        self._start("mariadbd", *options, database_socket, "--skip-networking")
        self._wait_for("mariadbd", "mariadb-admin", "--no-defaults", database_socket, "ping")


def start_cluster(
    folder: Path,
    hosts: Sequence[Host] = (Host(), Host()),
    cpus: int = 2,
    accounting: bool = True,
    extra_conf: str = "",
    controller: str = "127.0.0.1",
) -> SlurmCluster:
    """Start a cluster with the nodes n1, n2, … on `hosts` and return it when they are idle; skip where it cannot run.

    `cpus` are declared, not pinned. A line of `extra_conf` takes the place of the setting of that name. `controller` is
    an address of this machine which all hosts reach.
    """
    _skip_unless_possible(accounting)
    folder = folder.resolve()
    if len(str(folder)) + LONGEST_NAME > LONGEST_SOCKET:
        raise ValueError(f"the path is too long for SLURM's sockets: {folder}")
    conf = folder / "slurm.conf"
    # should the tests themselves run in a SLURM job, they are not to inherit that job
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH", "SRUN"))}
    cluster = SlurmCluster(folder, conf, inherited | {"SLURM_CONF": str(conf)})
    try:
        _start_daemons(cluster, hosts, cpus, accounting, extra_conf, controller)
    except BaseException:
        cluster.stop()
        raise
    return cluster


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Two nodes of two CPUs and arrays of three tasks at most, with accounting: an account `lab`, and two qos.

    They are `low`, and `one`, under which a user may have a single job at a time, running or not.
    """
    conf = "MaxArraySize=3\nAccountingStorageEnforce=limits,qos"
    cluster = start_cluster(tmp_path_factory.mktemp("slurm"), extra_conf=conf)
    one = "qos one MaxSubmitJobsPerUser=1"
    for added in ("qos low", one, "account lab", "user root account=lab qos=normal,low,one"):
        cluster.command("sacctmgr", "-i", "add", *added.split())
    yield cluster
    cluster.stop()


def _skip_unless_possible(accounting: bool) -> None:
    programs = BASIC_PROGRAMS + (ACCOUNTING_PROGRAMS if accounting else ())
    if missing := [program for program in programs if shutil.which(program) is None]:
        pytest.skip(f"no {', '.join(missing)}; Debian packages: {PACKAGES}")
    if os.geteuid() != 0:
        pytest.skip("a SLURM cluster needs root")


def _start_daemons(
    cluster: SlurmCluster, hosts: Sequence[Host], cpus: int, accounting: bool, extra_conf: str, controller: str
) -> None:
    """Write the settings and start the daemons in the order in which they need each other."""
    auth = ""  # how to reach munged, where it is not in its usual place
    if subprocess.run(["munge", "-n"], env=cluster.env, capture_output=True).returncode:
        munge_socket = cluster.folder / "munge.sock"
        cluster._start_munged(munge_socket)
        auth = f"AuthInfo=socket={munge_socket}\n"
        extra_conf = f"AccountingStoragePass={munge_socket}\n{extra_conf}"  # the same, for messages to slurmdbd
    if accounting:
        cluster._start_database()
    ports = _free_ports(len(hosts) + 2)  # only now: the database takes seconds, in which a port could be lost again
    addresses = [controller, *(host.address for host in hosts)]
    cluster.conf.write_text(_slurm_conf(cluster.folder, addresses, ports, cpus, accounting, auth + extra_conf))
    (cluster.folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")  # slurmd counts device files
    if accounting:
        settings = cluster.folder / "slurmdbd.conf"  # slurmdbd looks for it beside slurm.conf
        settings.write_text(_slurmdbd_conf(cluster.folder, ports[1], auth))
        settings.chmod(0o600)  # slurmdbd insists
        cluster.start_accounting()
    cluster._start("slurmctld", "-D")
    cluster._wait_for("slurmctld", "scontrol", "ping")
    names = {f"n{number}": host for number, host in enumerate(hosts, start=1)}
    for name, host in names.items():
        cluster._start(*host.enter, "slurmd", "-D", "-N", name, name=f"slurmd-{name}")
    for name in names:
        cluster._wait_for(f"slurmd-{name}", "sinfo", "-h", "-n", name, "-t", "idle", "-o", "%N", prints=name)


def _slurm_conf(
    folder: Path, addresses: list[str], ports: list[int], cpus: int, accounting: bool, extra_conf: str
) -> str:
    """slurm.conf: addresses of controller and nodes; ports of controller, slurmdbd and nodes."""
    here = socket.gethostname().split(".")[0]
    settings = {
        "ClusterName": "test",
        "SlurmctldHost": f"{here}({addresses[0]})",
        "SlurmctldPort": ports[0],
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool-%n",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd-%n.pid",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU",
        "SlurmdParameters": "config_overrides",  # the declared CPUs and memory count, not what the machine has
        "SchedulerParameters": "sched_interval=1,bf_interval=1,batch_sched_delay=0",
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "JobRequeue": 1,
        "KillWait": 10,
        "MaxArraySize": 1001,
        "ReturnToService": 1,  # a node that was set down stays down
        "GresTypes": "gpu",
        "Licenses": "scratch:2",
        "JobAcctGatherType": "jobacct_gather/linux" if accounting else "jobacct_gather/none",
        "AccountingStorageType": "accounting_storage/slurmdbd" if accounting else "accounting_storage/none",
    }
    if accounting:
        settings |= {"AccountingStorageHost": "127.0.0.1", "AccountingStoragePort": ports[1]}
    replaced = {line.split("=")[0].strip().lower() for line in extra_conf.splitlines()}
    lines = [f"{key}={value}" for key, value in settings.items() if key.lower() not in replaced]
    for number, (address, port) in enumerate(zip(addresses[1:], ports[2:], strict=True), start=1):
        where = f"NodeHostname={here} NodeAddr={address} Port={port} Feature=on-n{number}"
        lines.append(f"NodeName=n{number} {where} CPUs={cpus} RealMemory=8000 Gres=gpu:1 State=UNKNOWN")
    lines.append("PartitionName=main Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=5")
    lines.append("PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF")
    return "\n".join([*lines, extra_conf, ""])


def _slurmdbd_conf(folder: Path, port: int, auth: str) -> str:
    # "localhost" is what makes MariaDB's client library use the socket
    return f"""AuthType=auth/munge
{auth}DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
PidFile={folder / "slurmdbd.pid"}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
"""


def _free_ports(number: int) -> list[int]:
    """Different free ports, from the operating system; all are open at once so that none comes twice."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
