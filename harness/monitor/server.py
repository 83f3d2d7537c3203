"""`twinbench serve`: the live page of a run folder, on this machine's loopback alone. It reads, and only the folder.

/                     the page; it asks for the rest itself
/state.json           the run as it is now, with an ETag
/trials/ID.json       one planned trial: settings, curves, how it ended, the end of its log
/report/...           the files of the finished report, where there is one
"""

import asyncio
import hashlib
import json
import mimetypes
import socket
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from twinbench.harness.monitor.overview import HEADINGS, Overview, Picture
from twinbench.harness.monitor.request_guard import Guard
from twinbench.harness.monitor.trial_details import details
from twinbench.reports.figures.panels import styles
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.hashing import to_utf8

HOST = "127.0.0.1"
USUAL_PORT = 8642
LOOK_SECONDS = 0.5
LEAST_TIMES_ITS_COST = 10  # a slow file system is asked less often
PATIENCE_SECONDS = 0.1  # how long an answer waits for a look; then it gives what was seen before
REPORT = "report"
REPORT_FILES = (".html", ".csv", ".tex", ".md", ".pdf", ".svg", ".png", ".json", ".js")
PAGE_FILES = {"live.js": "text/javascript", "live.css": "text/css", "icon.svg": "image/svg+xml"}


class Feed:
    """The run as bytes for any number of readers. One look at the folder serves them all; without readers, no looks."""

    def __init__(self, overview: Overview):
        self._overview = overview
        self._looking: asyncio.Task[None] | None = None
        self._next = 0.0
        self.body, self.etag = b"", ""
        self._show(Picture("waiting"))

    async def current(self) -> tuple[bytes, str]:
        """What was seen at the latest look, and its ETag."""
        if self._looking is None and time.monotonic() >= self._next:
            self._looking = asyncio.create_task(self._look())
        if self._looking is not None:
            await asyncio.wait({self._looking}, timeout=PATIENCE_SECONDS)
        return self.body, self.etag

    async def _look(self) -> None:
        began = time.monotonic()
        try:
            await asyncio.to_thread(self._show_what_is_there)
        finally:
            ended = time.monotonic()
            self._next = ended + max(LOOK_SECONDS, LEAST_TIMES_ITS_COST * (ended - began))
            self._looking = None

    def _show_what_is_there(self) -> None:
        try:
            picture = self._overview.look()
        except Exception as error:  # whatever is in the folder, the page says so and looks again
            picture = Picture("waiting", problem=f"the folder cannot be read: {error!r}")
        self._show(picture)

    def _show(self, picture: Picture) -> None:
        has_report = (self._overview.folder / REPORT / "index.html").is_file()
        self.body = state_json(picture, has_report)
        self.etag = f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


def state_json(picture: Picture, has_report: bool) -> bytes:
    """The picture as the page reads it."""
    looks = styles(cell.method for cell in picture.cells)
    content = vars(picture) | {
        "folder_has_report": has_report,
        "counts": dict(picture.counts),
        "headings": HEADINGS,
        "looks": {cell.method: [looks[cell.method].colour, looks[cell.method].glyph] for cell in picture.cells},
        "running": [vars(one) for one in picture.running],
        "failures": [vars(one) for one in picture.failures],
        "cells": [vars(cell) for cell in picture.cells],
    }
    return _json(content)


def make_app(folder: Path, hosts: frozenset[str]) -> Guard:
    """The application. Requests for any other host than `hosts`, and any method but GET, are refused."""
    overview = Overview(folder)
    feed = Feed(overview)
    page = _page(folder)
    files = {name: resources.files("twinbench.harness.monitor").joinpath(name).read_bytes() for name in PAGE_FILES}

    async def index(_: Request) -> Response:
        return Response(page, media_type="text/html")

    async def page_file(request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        return Response(files[name], media_type=PAGE_FILES[name])

    async def state(request: Request) -> Response:
        body, etag = await feed.current()
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if etag in known:
            return Response(status_code=304, headers={"ETag": etag})
        return Response(body, media_type="application/json", headers={"ETag": etag})

    def trial(request: Request) -> Response:  # not async: Starlette calls it in a thread, since it reads files
        planned = overview.trial(request.path_params["trial_id"])
        if planned is None:
            return PlainTextResponse("no such trial in the plan\n", 404)
        return Response(_json(details(folder, planned, overview.axes)), media_type="application/json")

    def report(request: Request) -> Response:
        file = report_file(folder, request.path_params["path"] or "index.html")
        if file is None:
            return PlainTextResponse("no such file in the report\n", 404)
        return FileResponse(file, media_type=mimetypes.guess_type(file.name)[0] or "text/plain")

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
    """The file of the report at `path`; None where it is none, or lies elsewhere once links are followed."""
    home = folder.resolve() / REPORT
    try:
        file = (home / path).resolve()
        return file if file.is_relative_to(home) and file.suffix in REPORT_FILES and file.is_file() else None
    except (OSError, ValueError, RuntimeError):  # a null byte, a name too long, links in a circle
        return None


def serve(folder: Path, port: int | None, say: Callable[[str], None]) -> None:
    """Serves until Ctrl-C. InvalidInput where the port is taken."""
    listening = listen(port)
    address = f"{HOST}:{listening.getsockname()[1]}"
    app = make_app(folder, frozenset({address, address.replace(HOST, "localhost")}))
    say(f"http://{address}/ shows {folder}; Ctrl-C ends it, and nothing else")
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[listening])


def listen(port: int | None) -> socket.socket:
    """A socket on the loopback: at `port`, or else at the usual one, or else at any that is free."""
    for wanted in (USUAL_PORT, 0) if port is None else (port,):
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, wanted))
            listening.listen()  # before its address is told: who comes before the server is ready waits
            return listening
        except OSError as error:
            listening.close()
            reason = error.strerror
    raise InvalidInput([Mistake("--port", "", f"cannot be used: {reason}", port, "another, or 0 for any that is free")])


def _page(folder: Path) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files("twinbench.harness.monitor").joinpath("page.html.j2").read_text("utf-8")
    return environment.from_string(source).render(folder=str(folder))


def _json(content: Any) -> bytes:
    return to_utf8(json.dumps(content, ensure_ascii=False, allow_nan=False))
