"""Helpers for tests of the live page: a client without a socket, and attempts that run nothing."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from twinbench.harness.monitor.server import make_app
from twinbench.harness.run_folder.leases import Attempt

HOSTS = frozenset({"127.0.0.1:8642", "localhost:8642"})


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A client of the application of a run folder, with its own event loop."""

    def __init__(self, folder: Path):
        self.app = make_app(folder, HOSTS)
        self.runner = asyncio.Runner()

    def __call__(
        self,
        path: str = "/state.json",
        hosts: Sequence[str] = ("127.0.0.1:8642",),
        method: str = "GET",
        kind: str = "http",
        **headers: str,
    ) -> Answer:
        """Send one request; the path is decoded once, as a server does."""
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": kind,
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [*((b"host", host.encode("latin-1")) for host in hosts), *named],
            "scheme": "http",
            "server": ("127.0.0.1", 8642),
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()  # the client stays connected and sends nothing
            return {}

        async def send(message: Any) -> None:
            sent.append(message)

        self.runner.run(self.app(scope, receive, send))
        if sent[0]["type"] != "http.response.start":
            return Answer(0, {"type": sent[0]["type"]}, b"")
        answered = [(name.decode().lower(), value.decode()) for name, value in sent[0]["headers"]]
        assert len(dict(answered)) == len(answered), "a header was sent twice"
        return Answer(sent[0]["status"], dict(answered), b"".join(part.get("body", b"") for part in sent[1:]))

    def state(self) -> dict[str, Any]:
        """Return the run's state as the page reads it."""
        content: dict[str, Any] = self().json()
        return content


def running_attempt(folder: Path, trial_id: str, number: int = 1, **progress: Any) -> Attempt:
    """Write an attempt of this process, which is alive, at a trial."""
    attempt = Attempt(folder, trial_id, number, "slurm 7")
    attempt.report(**progress)
    attempt.beat()
    return attempt
