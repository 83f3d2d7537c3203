"""`twinbench serve`: the live page of a run folder, on 127.0.0.1 only. The server reads, and only from that folder.

/                     the page, which fetches the rest
/state.json           the latest snapshot of the run, with an ETag
/trials/ID.json       one planned trial: settings, curves, how it ended, the end of its log
/report/...           the files of the report, once it is written
"""

import asyncio
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from twinbench.harness.monitor.cells import HEADINGS
from twinbench.harness.monitor.request_guard import Guard
from twinbench.harness.monitor.snapshot import STATES, RunView, Snapshot
from twinbench.harness.monitor.trial_details import trial_details
from twinbench.harness.run_folder.progress import poll_pause
from twinbench.reports.figures.panels import styles
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.hashing import to_utf8

HOST = "127.0.0.1"
USUAL_PORT = 8642
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 0.1  # how long a request waits for a poll before it gets the previous snapshot
REPORT = "report"
REPORT_FILES = (".html", ".csv", ".tex", ".md", ".pdf", ".svg", ".png", ".json", ".js")
PAGE_FILES = {"live.js": "text/javascript", "live.css": "text/css", "icon.svg": "image/svg+xml"}


class Feed:
    """The latest snapshot as JSON. All readers share one poll of the folder; without readers there are no polls."""

    def __init__(self, run: RunView):
        self._run = run
        self._poll: asyncio.Task[None] | None = None
        self._next_poll = 0.0
        self.body, self.etag = b"", ""
        self._show(Snapshot("waiting"))

    async def current(self) -> tuple[bytes, str]:
        """Return the latest snapshot and its ETag."""
        if (self._poll is None or self._poll.done()) and time.monotonic() >= self._next_poll:
            self._poll = asyncio.create_task(asyncio.to_thread(self._poll_and_show))
        if self._poll is not None:
            await asyncio.wait({self._poll}, timeout=PATIENCE_SECONDS)
        return self.body, self.etag

    def _poll_and_show(self) -> None:
        began = time.monotonic()
        try:
            snapshot = self._run.poll()
        except Exception as error:  # whatever is wrong with the folder, the page says so and tries again
            snapshot = Snapshot("waiting", problem=f"the folder cannot be read: {error!r}")
        self._show(snapshot)
        self._next_poll = time.monotonic() + poll_pause(began, POLL_SECONDS)

    def _show(self, snapshot: Snapshot) -> None:
        has_report = (self._run.folder / REPORT / "index.html").is_file()
        self.body = state_json(snapshot, has_report)
        self.etag = f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


def state_json(snapshot: Snapshot, has_report: bool) -> bytes:
    """Return the snapshot as the page reads it."""
    looks = styles(cell.method for cell in snapshot.cells)
    return _json(
        vars(snapshot)
        | {
            "state_text": STATES[snapshot.state],
            "folder_has_report": has_report,
            "headings": HEADINGS,
            "looks": {cell.method: [looks[cell.method].colour, looks[cell.method].glyph] for cell in snapshot.cells},
        }
    )


def make_app(folder: Path, hosts: frozenset[str]) -> Guard:
    """Return the application. It refuses requests for a host that is not in `hosts` and any method but GET."""
    run = RunView(folder)
    feed = Feed(run)
    page = _page(folder)
    files = {name: resources.files("twinbench.harness.monitor").joinpath(name).read_bytes() for name in PAGE_FILES}

    async def index(_: Request) -> Response:
        return HTMLResponse(page)

    async def page_file(request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        return Response(files[name], media_type=PAGE_FILES[name])

    async def state(request: Request) -> Response:
        body, etag = await feed.current()
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if etag in known:
            return Response(status_code=304, headers={"ETag": etag})
        return Response(body, media_type="application/json", headers={"ETag": etag})

    def trial(request: Request) -> Response:  # not async: it reads files, so Starlette must run it in a thread
        planned = run.trial(request.path_params["trial_id"])
        if planned is None:
            return PlainTextResponse("no such trial in the plan\n", 404)
        return Response(_json(trial_details(folder, planned, run.axes)), media_type="application/json")

    def report(request: Request) -> Response:
        file = report_file(folder, request.path_params["path"] or "index.html")
        if file is None:
            return PlainTextResponse("no such file in the report\n", 404)
        return FileResponse(file)

    return Guard(
        Starlette(
            routes=[
                Route("/", index),
                *(Route(f"/{name}", page_file) for name in PAGE_FILES),
                Route("/state.json", state),
                Route("/trials/{trial_id}.json", trial),
                Route("/report/{path:path}", report),
            ]
        ),
        hosts,
    )


def report_file(folder: Path, path: str) -> Path | None:
    """Return the report's file at `path`; None if there is none or if it lies outside, links followed."""
    home = folder.resolve() / REPORT
    try:
        file = (home / path).resolve()
        return file if file.is_relative_to(home) and file.suffix in REPORT_FILES and file.is_file() else None
    except (OSError, ValueError, RuntimeError):  # a null byte, a name that is too long, circular links
        return None


def serve(folder: Path, port: int | None, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C. InvalidInput if the port is taken."""
    listening = listen(port)
    address = f"{HOST}:{listening.getsockname()[1]}"
    app = make_app(folder, frozenset({address, address.replace(HOST, "localhost")}))
    say(f"http://{address}/ shows {folder}; Ctrl-C stops the page, not the run")
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[listening])


def listen(port: int | None) -> socket.socket:
    """Return a socket on 127.0.0.1, at `port`; without one at USUAL_PORT, or any free port if that is taken."""
    for wanted in (USUAL_PORT, 0) if port is None else (port,):
        try:
            # It listens before the address is printed: a browser that connects early waits for the server.
            return socket.create_server((HOST, wanted))
        except OSError as error:
            reason = os.strerror(error.errno or 0)
    allowed = "another port, or 0 for any free port"
    raise InvalidInput([Mistake("--port", "", f"cannot be used: {reason}", port, allowed)])


def _page(folder: Path) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files("twinbench.harness.monitor").joinpath("page.html.j2").read_text("utf-8")
    return environment.from_string(source).render(folder=str(folder))


def _json(content: object) -> bytes:
    """Return JSON; dataclasses become objects."""
    return to_utf8(json.dumps(content, ensure_ascii=False, allow_nan=False, default=vars))
