"""Runs a sweep on Ray: detached, restartable actors, each of which imports torch once and drains the run folder.

Ray places the actors by what they ask for, and starts one again elsewhere when its process or node dies. They belong
to the cluster and not to the driver: a driver that is started again finds them by name. There are as many as can work
at once, however many trials there are, and no trial passes through the driver.
"""

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinbench.harness.launchers.code_snapshot import snapshot
from twinbench.harness.launchers.outcome import CannotStart, Outcome, _count_missing, _watched
from twinbench.harness.launchers.site import RaySite, described
from twinbench.harness.monitor.progress_bars import LOOK_SECONDS, Watch
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.layout import (
    LAUNCHES,
    cancellations,
    forget_last_words,
    last_words,
    leave_last_words,
    missing,
    write_launch,
)
from twinbench.harness.run_folder.progress import at_work
from twinbench.harness.system.devices import choose_devices, cores
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.worker import BrokenDevice, Execute, why_unusable
from twinbench.results.record import PLAN
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.harness.launchers.site import RaySite
    from twinbench.harness.trial.execute import Surroundings


NAMESPACE = "twinbench"
LOOK_EVERY_SECONDS = 2.0
STOP_SECONDS = 120.0
HEAD_SECONDS = 15.0  # that a head may be away; after a minute Ray ends the driver's process, without what it would say
ANSWER_SECONDS = 10.0  # in which an actor that has a place answers
MEASURE_SECONDS = 300.0  # for a task that measures packs, its wait for a place included


class Worker:
    """The actor. It begins to work when it is made, so that Ray's restart of it needs nobody who asks."""

    def __init__(self, name: str, launch: str, surroundings: Surroundings, execute: Execute | None):
        if not (surroundings.run_folder / PLAN).exists():
            raise FileNotFoundError(f"node {_node()} does not see {surroundings.run_folder}, which all must share")
        self._name, self._launch, self._execute = name, launch, execute
        self._stop, self._is_ending = threading.Event(), False
        device = "cpu" if surroundings.device == "cpu" else choose_devices("auto")[0]
        if reason := why_unusable(device):
            raise BrokenDevice(reason)
        self._surroundings = replace(surroundings, device=device, where=f"ray {_node()} actor {_number(name)}")
        self._thread = threading.Thread(target=self._work, name="drain", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Asks the trial that runs to save its state and end."""
        self._stop.set()

    def is_ending(self) -> bool:
        """Whether it takes no more trials. Answers once the actor has a place."""
        return self._is_ending or self._stop.is_set()

    def _work(self) -> None:
        import ray

        from twinbench.harness.launchers.worker_loop import drain

        try:
            drain(self._surroundings, self._stop.is_set, stay=False, execute=self._execute)
        except BrokenDevice:
            os._exit(1)  # Ray starts the actor again, in a process that has the device anew
        except Exception as error:  # no trial's fault, since those are recorded: another actor would fare no better
            leave_last_words(self._surroundings.run_folder, self._launch, error, f"node {_node()}")
        finally:
            self._is_ending = True
            # Gives its resources back, also when no driver is there any more to do so. Not an exit of the process,
            # which Ray would take for a failure and start again.
            ray.kill(ray.get_actor(self._name, NAMESPACE), no_restart=True)


def _seconds_in_packs(
    trial: Trial, image_size: int, on_gpu: bool, threads: int, most: int, processes: int
) -> dict[int, float]:
    from twinbench.harness.performance.pack_size import seconds_in_packs

    device = choose_devices("auto")[0] if on_gpu else "cpu"
    return dict(seconds_in_packs(trial, image_size, device, threads, most, print, processes))


def _number(name: str) -> str:
    """Of an actor, among those of its launch."""
    return name.rpartition("-")[2]


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())[:8]


def address_of(site: RaySite) -> str:
    """The cluster that is asked for, or "local" for one of this machine alone, which ends with the driver."""
    return site.address or os.environ.get("RAY_ADDRESS") or "local"


def _described_node(node: Mapping[str, Any]) -> str:
    """What a node has, without the resources and labels that Ray itself adds."""
    own = ("memory", "object_store_memory")
    resources = {name: amount for name, amount in node["Resources"].items() if ":" not in name and name not in own}
    labels = {name: value for name, value in node.get("Labels", {}).items() if not name.startswith("ray.io/")}
    return f"{node['NodeManagerAddress']} {resources}" + (f" {labels}" if labels else "")


@contextlib.contextmanager
def connected(site: RaySite) -> Iterator[None]:
    """In the cluster of `address_of`. InvalidInput where none answers."""
    address = address_of(site)
    own: dict[str, Any] = {}
    if address == "local":  # Ray's token authentication stays as it is, which in 2.60 is on
        own = {"num_cpus": cores(), "include_dashboard": site.dashboard}
        # Ray gives a node that is told to take the loopback another address, unless clusters are off altogether.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    _check_that_somebody_listens(address)
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InvalidInput([Mistake("--address", "", f"no Ray answers there: {reason}", address)]) from None
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """OSError where nobody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _check_that_somebody_listens(address: str) -> None:
    """InvalidInput where nobody does: Ray itself would try for minutes."""
    if not address.rpartition(":")[2].isdigit() or ":" not in address or "/" in address:
        return
    try:
        _reach(address)
    except OSError as error:
        reason = f"no Ray answers there: {error.strerror or error}"
        raise InvalidInput([Mistake("--address", "", reason, address)]) from None


def head_is_gone() -> bool:
    """Whether the cluster's head answers no more: whatever is asked of Ray then never comes back."""
    import ray
    from ray.util.client import ray as client

    if client.is_connected():  # through a proxy, by which alone the head may be reached
        return False
    deadline = time.monotonic() + HEAD_SECONDS
    while True:
        try:
            _reach(ray.get_runtime_context().gcs_address)
            return False
        except OSError:
            if time.monotonic() > deadline:
                return True
            time.sleep(LOOK_EVERY_SECONDS)


class Actors:
    """The actors of one run folder, by name."""

    def __init__(self, surroundings: Surroundings, site: RaySite, execute: Execute | None = None):
        self.surroundings, self._site, self._execute = surroundings, site, execute
        # Other names after a `cancel`: actors that are just ending are not to be found again.
        named_by = f"{surroundings.run_folder} {cancellations(surroundings.run_folder)}"
        key = hashlib.sha256(named_by.encode()).hexdigest()[:12]
        self._launch, self._prefix = f"ray-{key}", f"twinbench-{key}-"
        self._handles: dict[str, Any] = {}
        self._is_lost = False
        self._cpus = site.cpus or surroundings.threads * surroundings.processes

    def start(self, count: int, say: Callable[[str], None]) -> None:
        """Makes `count` actors, those that are there already included, which stay as they were asked for."""
        import ray

        options: dict[str, Any] = {
            "lifetime": "detached",
            "namespace": NAMESPACE,
            "get_if_exists": True,
            "max_restarts": -1,  # a process or node that dies; a trial that raises never ends an actor
            "max_concurrency": 2,
            "runtime_env": self._environment(),
            **self._asked(),
        }
        there, folder = self._settled(), self.surroundings.run_folder
        if not there:
            forget_last_words(folder, self._launch)  # of earlier actors
        if not there or not (folder / LAUNCHES / f"{self._launch}.json").exists():
            launch = {
                "launcher": "ray",
                "actors": count,
                "name": self._prefix,
                "address": address_of(self._site),
                "asked": described(self._site),
                "code": snapshot(folder).name,
            }
            write_launch(folder, self._launch, launch)  # before any: a `cancel` must find what a dead driver left
        self._handles, actor = {}, ray.remote(Worker)
        surroundings = replace(self.surroundings, device="auto" if self._site.gpus else "cpu")
        for number in range(count):
            name = f"{self._prefix}{number}"
            made = actor.options(name=name, **options).remote(name, self._launch, surroundings, self._execute)
            self._handles[name] = made
        if there:
            new = len(self._handles.keys() - there)
            told = "go on as that command asked for them; " + (f"{new} more start" if new else "no more start")
            say(f"{len(there)} workers of an earlier command are there already, and {told}")

    def seconds_in_packs(self, trial: Trial, image_size: int, most: int, actors: int | None) -> Mapping[int, float]:
        """What packs of such trials cost where an actor may run, measured there unless stored. RuntimeError if not.

        By as many processes as `_beside_each_other` says. A cluster that has no place for it within MEASURE_SECONDS is
        such a failure.
        """
        import ray

        task = ray.remote(_seconds_in_packs).options(runtime_env=self._environment(), **self._asked())
        on_gpu, threads, processes = bool(self._site.gpus), self.surroundings.threads, self._beside_each_other(actors)
        found = task.remote(trial, image_size, on_gpu, threads, most, processes)
        try:
            return dict(ray.get(found, timeout=MEASURE_SECONDS))
        except ray.exceptions.GetTimeoutError:
            ray.cancel(found, force=True)
            raise RuntimeError(f"the cluster had no place for it within {MEASURE_SECONDS:g} s") from None
        except ray.exceptions.RayError as error:
            raise RuntimeError(str(error).strip().splitlines()[-1]) from error

    def _environment(self) -> dict[str, Any]:
        """The code as it is now, and our own variables."""
        code = snapshot(self.surroundings.run_folder)
        path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
        variables = {key: value for key, value in os.environ.items() if key.startswith("TWINBENCH_")}
        return {"env_vars": {**variables, "PYTHONPATH": path}}

    def _asked(self) -> dict[str, Any]:
        """What one actor asks of a node."""
        asked: dict[str, Any] = {"num_cpus": self._cpus, "num_gpus": self._site.gpus}
        if self._site.resources:
            asked["resources"] = dict(self._site.resources)
        if self._site.labels:
            asked["label_selector"] = dict(self._site.labels)
        return asked

    def fitting(self, say: Callable[[str], None]) -> int:
        """How many actors the nodes have room for, what they run aside; at least one, which may wait for a node.

        A cluster may still grow, so `say` tells that one waits; this machine does not: InvalidInput.
        """
        if count := sum(map(self._room, self._nodes())):
            return count
        problem, asked = "one worker asks for more than any node has", str(self._asked())
        there = "; ".join(map(_described_node, self._nodes()))
        if address_of(self._site) == "local":
            raise InvalidInput([Mistake("--ray", "", problem, asked, there)])
        say(f"{problem} ({asked}); there are: {there}; it waits for a node that fits")
        return 1

    def _beside_each_other(self, actors: int | None) -> int:
        """How many of `actors`, or of all that fit, one node may come to have, or one of its GPUs."""
        room = max(map(self._room, self._nodes()), default=1)
        if self._site.gpus:
            room = min(room, int(1 / self._site.gpus + 1e-6))
        return max(1, min(room, actors or room))

    def _nodes(self) -> list[Mapping[str, Any]]:
        import ray

        return [node for node in ray.nodes() if node["Alive"]]

    def _room(self, node: Mapping[str, Any]) -> int:
        """How many actors a node holds when it runs nothing else."""
        resources, labels = node["Resources"], node.get("Labels", {})
        for name, value in self._site.labels.items():
            if not value.startswith(("!", "in(")) and labels.get(name) != value:  # Ray alone reads expressions
                return 0
        wanted = {"CPU": self._cpus, "GPU": self._site.gpus, **self._site.resources}
        return int(min(resources.get(name, 0) / amount + 1e-6 for name, amount in wanted.items() if amount))

    def are_lost(self) -> bool:
        """Whether the cluster's head is gone, and they with it. Once it is, it is not asked again."""
        self._is_lost = self._is_lost or head_is_gone()
        return self._is_lost

    def alive(self) -> list[str]:
        """Names of the actors that work, wait for a place, or are being started again."""
        return _named(self._prefix)

    def _settled(self) -> set[str]:
        """The same, once those are gone that are just ending: they would be found by name, and do nothing."""
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            answers, _ = _answers(self.alive())
            if not any(answers.values()):
                break
            time.sleep(0.2)
        return set(self.alive())

    def why_none(self) -> str:
        """What actors said that ended, or Ray of one that could not be made; empty when all ended as they should."""
        import ray

        if words := last_words(self.surroundings.run_folder, self._launch):
            return words
        for handle in self._handles.values():
            try:
                ray.get(handle.is_ending.remote(), timeout=5)
            except ray.exceptions.ActorDiedError as error:
                if "ray.kill" not in str(error):
                    return str(error).strip().splitlines()[-1]
            except ray.exceptions.RayError as error:
                return str(error).strip().splitlines()[-1]
        return ""

    def stop(self) -> None:
        """Asks all to save what runs and end, and waits until they have. Those that wait for a place are given up."""
        _stop(self.alive(), self.surroundings.run_folder)
        deadline = time.monotonic() + STOP_SECONDS
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.2)


def cancel_waiting(run_folder: Path, notes: Sequence[Path]) -> None:
    """Gives up actors without a place, of the launches noted, where their clusters can be reached from here.

    They would end once they had one, but until then a cluster that grows makes room for them.
    """
    launches = []
    for file in notes:
        with contextlib.suppress(OSError, ValueError, KeyError):
            launch = json.loads(file.read_bytes())
            if launch["launcher"] == "ray" and launch["address"] != "local":
                launches.append((str(launch["address"]), str(launch["name"])))
    for address, prefix in launches:
        import ray

        # where Ray is in trouble, the mark in the folder ends them once they have a place
        with contextlib.suppress(OSError, InvalidInput, ray.exceptions.RayError), connected(RaySite(address=address)):
            _stop(_named(prefix), run_folder)


def _named(prefix: str) -> list[str]:
    from ray.util import list_named_actors

    named = list_named_actors(all_namespaces=True)
    return [actor["name"] for actor in named if actor["name"].startswith(prefix)]


def _answers(names: Sequence[str]) -> tuple[dict[str, bool], dict[str, Any]]:
    """Whether each actor is ending, of those that answer; handles of those that do not: most likely without a place."""
    import ray

    asked = {}
    for name in names:
        with contextlib.suppress(ValueError):  # it has just ended
            handle = ray.get_actor(name, NAMESPACE)
            asked[handle.is_ending.remote()] = (name, handle)
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS) if asked else ([], [])
    answers = {}
    for answer in answered:
        with contextlib.suppress(ray.exceptions.RayError):
            answers[asked[answer][0]] = bool(ray.get(answer))
    return answers, dict(asked[answer] for answer in silent)


def _stop(names: Sequence[str], run_folder: Path) -> None:
    """Asks actors to end, and gives up those that do not answer, but for one whose trial is seen to go on."""
    import ray

    for name in names:
        with contextlib.suppress(ValueError):
            ray.get_actor(name, NAMESPACE).stop.remote()
    _, silent = _answers(names)
    busy = {str(attempt["where"]).rpartition(" ")[2] for attempt in at_work(run_folder)} if silent else set()
    for name, handle in silent.items():
        if _number(name) not in busy:
            ray.kill(handle, no_restart=True)


def run_on_ray(
    planned: Plan,
    surroundings: "Surroundings",
    site: "RaySite",
    workers: int | None,
    watch: Watch,
    detach: bool,
    measures_packs: bool = False,
) -> Outcome | None:
    """Starts what actors the cluster has room for, and waits until every trial is recorded; None once detached.

    With `measures_packs` a task that asks for what an actor does measures first what packs cost there, unless actors of
    an earlier command are at work: they have the room that it would wait for.
    """
    from twinbench.harness.launchers import ray
    from twinbench.harness.performance.pack_size import fit_pack

    if detach and ray.address_of(site) == "local":
        problem = "needs a Ray cluster that outlives this command"
        raise InvalidInput([Mistake("--detach", "", problem, allowed="--address")])
    surroundings = surroundings.absolute()
    folder = surroundings.run_folder
    with ray.connected(site):
        actors = ray.Actors(surroundings, site)
        are_anothers = bool(actors.alive())

        def measure(trial: Trial, most: int) -> Mapping[int, float]:
            watch.say("a task on Ray finds how many trials should take turns in one process")
            return actors.seconds_in_packs(trial, planned.image_size, most, workers)

        def start() -> None:
            if todo := missing(planned, folder):
                count = min(len(todo), workers or actors.fitting(watch.say))
                costs = measure if measures_packs and not are_anothers else None
                actors.surroundings = fit_pack(surroundings, todo, count, costs, watch.say)
                actors.start(count, watch.say)

        if detach:
            start()
            return None

        def work() -> None:
            start()
            _wait_for_actors(actors, planned, workers, watch)

        outcome = _watched(planned, folder, watch, work)
        if are_anothers and outcome.stopped.startswith("interrupted"):
            goes_on = "the workers of an earlier command go on; the same command watches again, `cancel` ends them"
            return replace(outcome, stopped=goes_on)
        if outcome.stopped and not actors.are_lost():
            actors.stop()
        return outcome


def _wait_for_actors(actors: "Actors", planned: Plan, workers: int | None, watch: Watch) -> None:
    """Until every trial is recorded; starts actors again where all are gone. Raises CannotStart where that is vain."""

    folder = actors.surroundings.run_folder
    left, looked, rounds_in_vain = _count_missing(planned, folder), time.monotonic(), 0
    while not watch.look():
        time.sleep(LOOK_SECONDS)
        if time.monotonic() - looked < LOOK_EVERY_SECONDS:
            continue
        looked = time.monotonic()
        if actors.are_lost():
            raise CannotStart("the head of the Ray cluster answers no more")
        if actors.alive():
            continue
        still = _count_missing(planned, folder)
        if is_cancelled(folder) or not still:
            return
        if watch.is_worked_on():  # by another command's workers: nothing is free
            continue
        rounds_in_vain = rounds_in_vain + 1 if still == left else 0
        if reason := actors.why_none() if rounds_in_vain else "":
            raise CannotStart(reason)
        if rounds_in_vain > 1:  # once may be the end of an earlier command's actors; to go on, for ever
            return
        left = still
        actors.start(min(left, workers or actors.fitting(watch.say)), watch.say)
