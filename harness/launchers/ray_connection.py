"""Connects to a Ray cluster, or starts Ray on this machine, and finds out whether the cluster's head still answers."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from twinbench.harness.launchers.site import RaySite
from twinbench.harness.system.devices import cores
from twinbench.sweeps.errors import InvalidInput, Mistake, lines_of

NAMESPACE = "twinbench"
LOCAL = "local"  # the address of a Ray that this command starts on this machine
NO_ANSWER = "no Ray cluster answers at this address"
RETRY_SECONDS = 2.0
CONNECT_SECONDS = 180.0  # for a head that takes connections and says nothing
HEAD_SECONDS = 15.0  # that a head may be unreachable; after a minute Ray ends the driver's process without a message


def address_of(site: RaySite) -> str:
    """Return the cluster's address, or LOCAL for a Ray on this machine alone, which ends with the command."""
    return site.address or os.environ.get("RAY_ADDRESS") or LOCAL


@contextlib.contextmanager
def connected(site: RaySite, address_from: str = "--address") -> Iterator[None]:
    """Connect to the cluster of `address_of`. InvalidInput if it does not answer.

    `address_from` says where the site's address was given.
    """
    address = address_of(site)
    own: dict[str, int | bool] = {}
    if address == LOCAL:  # Ray's token authentication keeps its default, which in 2.60 is on
        own = {"num_cpus": cores(), "include_dashboard": site.dashboard}
        # With clusters enabled, Ray gives a node that is to listen on the loopback another address.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    place = address_from if site.address else "RAY_ADDRESS"
    _check_port_open(address, place)
    job = ray.job_config.JobConfig()
    job._client_job = True  # else Ray puts the working directory first where its workers look for modules
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with _giving_up_on(address, place):
            ray.init(address=address, namespace=NAMESPACE, job_config=job, **quiet, **own)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        problem = f"{NO_ANSWER}: {lines_of(error)[0]}"
        raise InvalidInput([Mistake(place, "", problem, address)]) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _giving_up_on(address: str, place: str) -> Iterator[None]:
    """Within the context, end this process with an error once the head of a running cluster has stopped answering.

    Ray itself tries for minutes, in a call that cannot be interrupted, or ends the process without naming the address.
    So another process prints what happened, unless it reads that this one has left the context.
    """
    if address == LOCAL:
        yield
        return
    problem = "the head of the Ray cluster stopped answering while this command connected to it"
    text = f"error: {Mistake(place, '', problem, address)}"
    says_so = subprocess.Popen(["sh", "-c", 'read -r _ || printf "%s\\n" "$1" >&2', "sh", text], stdin=subprocess.PIPE)
    over = threading.Event()
    threading.Thread(target=_end_without_head, args=(address, over), daemon=True, name="watch the head").start()
    try:
        yield
    finally:
        over.set()
        says_so.communicate(b"over\n")


def _end_without_head(address: str, over: threading.Event) -> None:
    began = answered = time.monotonic()
    while not over.wait(RETRY_SECONDS):
        with contextlib.suppress(OSError):
            _connect(address)  # does nothing for `auto`, of which Ray finds out the host: it has CONNECT_SECONDS
            answered = time.monotonic()
        if time.monotonic() > min(answered + HEAD_SECONDS, began + CONNECT_SECONDS) and not over.is_set():
            sys.stdout.flush()
            os._exit(2)  # as InvalidInput does


def head_is_gone() -> bool:
    """Return whether the cluster's head has stopped answering: then no call to Ray would return."""
    import ray
    from ray.util.client import ray as client

    if client.is_connected():  # through a proxy, which may be the only way to reach the head
        return False
    deadline = time.monotonic() + HEAD_SECONDS
    while True:
        try:
            _connect(ray.get_runtime_context().gcs_address)
            return False
        except OSError:
            if time.monotonic() > deadline:
                return True
            time.sleep(RETRY_SECONDS)


def _check_port_open(address: str, place: str) -> None:
    """Raise InvalidInput if nothing listens at the address, since Ray itself would try for minutes."""
    try:
        _connect(address)
    except (OSError, OverflowError, UnicodeError) as error:  # the last two of impossible ports and hosts
        reason = f"{NO_ANSWER}: {getattr(error, 'strerror', '') or error}"
        raise InvalidInput([Mistake(place, "", reason, address)]) from None


def host_and_port(address: str) -> tuple[str, int] | None:
    """Return host and port of HOST:PORT and of ray://HOST:PORT, the address of a proxy; None for any other address."""
    found = re.fullmatch(r"(?:ray://)?(?:[^/@]*@)?([^/@]+):(\d{1,9})/?", address, re.ASCII)
    return (found[1].strip("[]"), int(found[2])) if found else None


def _connect(address: str) -> None:
    """Open and close a connection, where host and port are known. OSError if nothing listens there."""
    if place := host_and_port(address):
        socket.create_connection(place, timeout=10).close()
