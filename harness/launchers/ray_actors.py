"""The actors that work on one run folder: what each does, and how they are started, counted and stopped."""

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.util import list_named_actors

from twinbench.harness.launchers.code_snapshot import snapshot
from twinbench.harness.launchers.ray_connection import LOCAL, NAMESPACE, address_of, head_is_gone
from twinbench.harness.launchers.site import RaySite, described
from twinbench.harness.launchers.worker_loop import drain
from twinbench.harness.performance.pack_size import seconds_in_packs
from twinbench.harness.run_folder.layout import (
    LAUNCHES,
    cancellations,
    clear_worker_error,
    note_worker_error,
    worker_error,
    write_launch,
)
from twinbench.harness.run_folder.progress import running_attempts
from twinbench.harness.system.devices import choose_devices
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.worker import BrokenDevice, why_unusable
from twinbench.results.record import PLAN
from twinbench.sweeps.errors import InvalidInput, Mistake, lines_of
from twinbench.sweeps.trial import Trial

STOP_SECONDS = 120.0  # that actors may take to save their trials and end
ANSWER_SECONDS = 10.0  # within which an actor that has a place answers
MEASURE_SECONDS = 300.0  # for a task that measures packs, including its wait for a place
Handle = Any  # Ray's handle of an actor; Ray comes without types
Node = Mapping[str, Any]  # an entry of `ray.nodes()`


class Worker:
    """The actor. It begins to work as soon as it exists, so that nothing has to be called after Ray restarts it."""

    def __init__(self, name: str, launch: str, surroundings: Surroundings):
        if not (surroundings.run_folder / PLAN).exists():
            raise FileNotFoundError(f"node {_node()} does not see {surroundings.run_folder}, which all must share")
        self._name, self._launch = name, launch
        self._stop, self._is_ending = threading.Event(), False
        device = "cpu" if surroundings.device == "cpu" else choose_devices("auto")[0]
        if reason := why_unusable(device):
            raise BrokenDevice(reason)
        self._surroundings = replace(surroundings, device=device, where=f"ray {_node()} actor {_number(name)}")
        self._thread = threading.Thread(target=self._work, name="drain", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the running trial to save its state and end."""
        self._stop.set()

    def is_ending(self) -> bool:
        """Return whether it takes no more trials. Answers once the actor has a place."""
        return self._is_ending or self._stop.is_set()

    def _work(self) -> None:
        try:
            drain(self._surroundings, self._stop.is_set, stay=False)
        except BrokenDevice:
            os._exit(1)  # Ray restarts the actor in a new process, which can use the device again
        except Exception as error:  # the trials' own errors are recorded, so another actor would fare no better
            note_worker_error(self._surroundings.run_folder, self._launch, error, f"node {_node()}")
        finally:
            self._is_ending = True
            # Frees the actor's resources even when no driver is left to do so. If the process simply exited, Ray
            # would take that for a failure and restart the actor.
            ray.kill(ray.get_actor(self._name, NAMESPACE), no_restart=True)


class Actors:
    """The actors of one run folder, found by name."""

    def __init__(self, surroundings: Surroundings, site: RaySite):
        self.surroundings, self._site = surroundings, site
        # After a `cancel` new actors get other names, so that those still ending are not taken for them.
        named_by = f"{surroundings.run_folder} {cancellations(surroundings.run_folder)}"
        key = hashlib.sha256(named_by.encode()).hexdigest()[:12]
        self._launch, self._prefix = f"ray-{key}", f"twinbench-{key}-"
        self._handles: dict[str, Handle] = {}
        self._is_lost = False
        self._cpus = site.cpus or surroundings.threads * surroundings.processes

    def start(self, count: int, say: Callable[[str], None]) -> None:
        """Make `count` actors, including those that exist already, which keep what they requested."""
        existing, folder = self._alive_once_settled(), self.surroundings.run_folder
        if not existing:
            clear_worker_error(folder, self._launch)  # of earlier actors
        if not existing or not (folder / LAUNCHES / f"{self._launch}.json").exists():
            launch = {
                "launcher": "ray",
                "actors": count,
                "name": self._prefix,
                "address": address_of(self._site),
                "asked": described(self._site),
                "code": snapshot(folder).name,
            }
            # Before any actor exists, so that `cancel` finds those of a driver that died.
            write_launch(folder, self._launch, launch)
        options = {
            "lifetime": "detached",
            "namespace": NAMESPACE,
            "get_if_exists": True,
            "max_restarts": -1,  # when a process or node dies; a trial that raises never ends an actor
            "max_concurrency": 2,
            "runtime_env": self._environment(),
            **self._request(),
        }
        self._handles, actor = {}, ray.remote(Worker)
        surroundings = replace(self.surroundings, device="auto" if self._site.gpus else "cpu")
        for number in range(count):
            name = f"{self._prefix}{number}"
            handle = actor.options(name=name, **options).remote(name, self._launch, surroundings)
            self._handles[name] = handle
        if existing:
            new = len(self._handles.keys() - existing)
            more = f"{new} more start" if new else "no more start"
            say(f"{len(existing)} workers of an earlier command are already there and keep its settings; {more}")

    def seconds_in_packs(
        self, trial: Trial, image_size: int, threads: int, largest: int, actors: int | None
    ) -> Mapping[int, float]:
        """Return what packs of such trials cost on a node, measured there by a task unless stored.

        As many processes measure at once as `_sharing` says. RuntimeError if it cannot be measured, also if the cluster
        has no place for the task within MEASURE_SECONDS.
        """
        task = ray.remote(seconds_in_packs).options(runtime_env=self._environment(), **self._request())
        device = "cuda:0" if self._site.gpus else "cpu"  # of the task, which sees only the GPUs that it requested
        result = task.remote(trial, image_size, device, threads, largest, print, self._sharing(actors))
        try:
            return dict(ray.get(result, timeout=MEASURE_SECONDS))
        except ray.exceptions.GetTimeoutError:
            ray.cancel(result, force=True)
            raise RuntimeError(f"the cluster had no room for the task within {MEASURE_SECONDS:g} s") from None
        except ray.exceptions.RayError as error:
            raise RuntimeError(lines_of(error)[-1]) from error

    def capacity(self, say: Callable[[str], None]) -> int:
        """Return how many actors fit on the nodes if these run nothing else; at least 1.

        If none fits, the first waits for a node where the cluster may grow, and `say` reports that; a Ray on this
        machine cannot grow: InvalidInput.
        """
        if count := sum(map(self._actors_on, self._nodes())):
            return count
        problem, request = "one worker requests more than any node has", str(self._request())
        nodes = "; ".join(map(_described_node, self._nodes()))
        if address_of(self._site) == LOCAL:
            raise InvalidInput([Mistake("--ray", "", problem, request, nodes)])
        say(f"{problem} ({request}); nodes: {nodes}; it waits for a node that fits")
        return 1

    def alive(self) -> list[str]:
        """Return the names of the actors that work, wait for a place, or are being restarted."""
        return _names(self._prefix)

    def are_lost(self) -> bool:
        """Return whether the cluster's head is gone, and the actors with it. Once it is, this does not ask again."""
        self._is_lost = self._is_lost or head_is_gone()
        return self._is_lost

    def why_ended(self) -> str:
        """Return the reason that an actor left, or Ray's reason why one could not be made; "" if there is none."""
        if words := worker_error(self.surroundings.run_folder, self._launch):
            return words
        for handle in self._handles.values():
            try:
                ray.get(handle.is_ending.remote(), timeout=5)
            except ray.exceptions.RayError as error:
                if "ray.kill" not in str(error):  # by which an actor ends itself
                    return lines_of(error)[-1]
        return ""

    def stop(self) -> None:
        """Ask all actors to save their trials and end, and wait for them. Those that wait for a place are killed."""
        stop_named(self._prefix, self.surroundings.run_folder)
        deadline = time.monotonic() + STOP_SECONDS
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.2)

    def _environment(self) -> dict[str, dict[str, str]]:
        """Return Ray's `runtime_env`: a copy of the code as it is now, and twinbench's own variables."""
        code = snapshot(self.surroundings.run_folder)
        path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
        variables = {key: value for key, value in os.environ.items() if key.startswith("TWINBENCH_")}
        return {"env_vars": {**variables, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}}

    def _request(self) -> dict[str, object]:
        """Return what one actor requests of a node, as options of Ray."""
        request: dict[str, object] = {"num_cpus": self._cpus, "num_gpus": self._site.gpus}
        if self._site.resources:
            request["resources"] = dict(self._site.resources)
        if self._site.labels:
            request["label_selector"] = dict(self._site.labels)
        return request

    def _sharing(self, actors: int | None) -> int:
        """Return how many of `actors`, or of all that fit, may share one node, or one GPU where they use GPUs."""
        limit = max(map(self._actors_on, self._nodes()), default=1)
        if self._site.gpus:
            limit = min(limit, int(1 / self._site.gpus + 1e-6))
        return max(1, min(limit, actors or limit))

    def _actors_on(self, node: Node) -> int:
        """Return how many actors fit on a node that runs nothing else."""
        resources, labels = node["Resources"], node.get("Labels", {})
        for name, value in self._site.labels.items():
            if not value.startswith(("!", "in(")) and labels.get(name) != value:  # only Ray evaluates expressions
                return 0
        wanted = {"CPU": self._cpus, "GPU": self._site.gpus, **self._site.resources}
        return int(min(resources.get(name, 0) / amount + 1e-6 for name, amount in wanted.items() if amount))

    def _nodes(self) -> list[Node]:
        return [node for node in ray.nodes() if node["Alive"]]

    def _alive_once_settled(self) -> set[str]:
        """Return the names of `alive` once those that are ending are gone: a name is not free before."""
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            answers, _ = _ask_whether_ending(self.alive())
            if not any(answers.values()):
                break
            time.sleep(0.2)
        return set(self.alive())


def stop_named(prefix: str, run_folder: Path) -> None:
    """Ask the actors of this name to end, and kill those that do not answer unless their trial is known to run."""
    names = _names(prefix)
    for name in names:
        with contextlib.suppress(ValueError):  # it has just ended
            ray.get_actor(name, NAMESPACE).stop.remote()
    _, silent = _ask_whether_ending(names)
    busy = (
        {attempt.get("where", "").rpartition(" ")[2] for attempt in running_attempts(run_folder)} if silent else set()
    )
    for name, handle in silent.items():
        if _number(name) not in busy:
            ray.kill(handle, no_restart=True)


def _ask_whether_ending(names: Sequence[str]) -> tuple[dict[str, bool], dict[str, Handle]]:
    """Return the answers by name, and the handles of actors that do not answer, most likely for want of a place."""
    calls = {}
    for name in names:
        with contextlib.suppress(ValueError):  # it has just ended
            handle = ray.get_actor(name, NAMESPACE)
            calls[handle.is_ending.remote()] = (name, handle)
    answered, silent = ray.wait(list(calls), num_returns=len(calls), timeout=ANSWER_SECONDS) if calls else ([], [])
    answers = {}
    for answer in answered:
        with contextlib.suppress(ray.exceptions.RayError):
            answers[calls[answer][0]] = bool(ray.get(answer))
    return answers, dict(calls[answer] for answer in silent)


def _names(prefix: str) -> list[str]:
    named = list_named_actors(all_namespaces=True)
    return [actor["name"] for actor in named if actor["name"].startswith(prefix)]


def _number(name: str) -> str:
    """Return the number that an actor's name ends with."""
    return name.rpartition("-")[2]


def _node() -> str:
    return str(ray.get_runtime_context().get_node_id())[:8]


def _described_node(node: Node) -> str:
    """Return a node's address, resources and labels as text, without those that Ray itself adds."""
    own = ("memory", "object_store_memory")
    resources = {name: amount for name, amount in node["Resources"].items() if ":" not in name and name not in own}
    labels = {name: value for name, value in node.get("Labels", {}).items() if not name.startswith("ray.io/")}
    return f"{node['NodeManagerAddress']} {resources}" + (f" {labels}" if labels else "")
