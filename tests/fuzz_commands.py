"""The commands that the fuzzer runs, in its own process, with bounds on their time and memory."""

import contextlib
import ctypes
import json
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import pytest
import typer
from typer.main import get_command

from twinbench.harness import cli
from twinbench.harness.commands import bundle, options
from twinbench.harness.monitor.server import state_json
from twinbench.harness.monitor.snapshot import RunView
from twinbench.harness.monitor.trial_details import trial_details
from twinbench.reports.export import read_exported
from twinbench.reports.verification import levels
from twinbench.results import store
from twinbench.sweeps.hashing import to_utf8

SECONDS = 60  # no case takes one of a free machine, but its other programs may
MEMORY = 2**31  # bytes beyond what is in use; libraries reserve more than they use

EVERYTHING = """
SELECT 'trial' AS kind, trial_id AS name, status, name || ' ' || split AS metric, value
FROM trials LEFT JOIN metrics USING (trial_id)
UNION ALL SELECT 'set aside', file, reason, '', NULL FROM set_aside ORDER BY ALL
"""
# TRIAL stands for the trial that the changed file belongs to, or for any.
COMMANDS = {
    "query": ("query", "run", EVERYTHING, "--format", "json"),
    "status": ("status", "run"),
    "collect": ("collect", "run"),
    "merge": ("merge", "run", "--out", "merged"),
    "check": ("check", "claims.toml", "run", "--format", "json"),
    "declare": ("claim", "declare", "claims.toml", "run"),
    "log": ("claim", "log", "run"),
    "logs": ("logs", "run", "TRIAL"),
    "report": ("report", "run"),
    "bundle": ("bundle", "run", "--out", "new.tar.gz"),
    "plan": ("plan", "sweep.toml", "--out", "run", "--claims", "claims.toml"),
    "cancel": ("cancel", "run"),
    "fresh": ("plan", "sweep.toml", "--out", "new"),
    "show": ("protocol", "show", "own.toml"),
    "lock": ("protocol", "lock", "own.toml"),
    "diff": ("protocol", "diff", "own.toml", "digits-small"),
    "slurm": ("run", "nothing", "--launcher", "slurm", "--site", "site.toml"),
    "ray": ("run", "nothing", "--launcher", "ray", "--site", "site.toml"),
    "trace": ("check", "--table", "table.csv", "run"),
    "latex": ("check", "--table", "table.tex", "run"),
    "verify": ("verify", "run.tar.gz", "--level", "render"),
    "paper": ("paper", "run", "--out", "papers"),
    "page": ("page", "run", "TRIAL"),
    "exported": ("exported", "run"),
}


def page(folder: Path, trial: str) -> None:
    """Print what `serve` sends of a run and a trial."""
    view = RunView(folder)
    typer.echo(state_json(view.read(), has_report=False))
    if planned := view.trial(trial):
        typer.echo(to_utf8(json.dumps(trial_details(folder, planned, view.axes), default=vars)))


def exported(folder: Path) -> None:
    """Print how many trials `export` would give to a tracker, none of which is installed in every environment."""
    options.check_run_folders([folder])
    typer.echo(len(read_exported(folder)[1]))


def _commands() -> Any:
    """Return the command line, made once, which takes most of a quick command's time; and the two above."""
    app: Any = get_command(cli.app)
    for extra in (page, exported):
        alone = typer.Typer(pretty_exceptions_enable=False)
        alone.command()(extra)
        app.add_command(get_command(alone), extra.__name__)
    return app


APP = _commands()


@dataclass(frozen=True)
class Done:
    """How a command ended: with a code, or with the text of an exception."""

    code: int
    out: str
    err: str
    crash: str = ""


class Hung(BaseException):
    """A command that did not end: nothing but this test may catch it."""


def call(*arguments: str) -> Done:
    """Run a command in this process, with bounds on its time and memory. The dataset cache is beside its folder."""
    with _output() as out, _output() as err:
        with pytest.MonkeyPatch.context() as patch, _bounded():
            patch.setenv("TWINBENCH_CACHE", str(Path.cwd().with_name("cache")))
            for module in (bundle, options):  # this process has threads, with which a fork may hang
                patch.setattr(module, "within_bounds", lambda work, *_: work())
            patch.setattr(cli, "app", APP)
            patch.setattr(levels, "rendered", lambda _: {})  # of `bundle`: what `report` and `check` do, for longer
            patch.setattr(tempfile, "tempdir", str(Path.cwd().with_name("tmp")))
            patch.setattr(store.time, "sleep", lambda _: None)  # for another process, to end what it writes
            for name, value in {"argv": ["twinbench", *arguments], "stdout": out, "stderr": err}.items():
                patch.setattr(sys, name, value)
            options.out.cache_clear()
            code, crash = _end_of_main()
        return Done(code, _text_of(out), _text_of(err), crash)


def _end_of_main() -> tuple[int, str]:
    """Run the command line; return its exit code, and the end of a traceback if there is one."""
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0), ""
    except BaseException as error:
        return 1, "".join(traceback.format_exception(error)[-3:])
    return 0, ""


def _output() -> TextIO:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace")


def _text_of(output: TextIO) -> str:
    output.flush()
    output.seek(0)
    return output.read()


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    import resource

    def too_long(_: int, __: FrameType | None) -> None:
        raise Hung(f"not ended after {SECONDS} s")

    limits = resource.getrlimit(resource.RLIMIT_DATA)
    in_use = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (in_use + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def without_roots_rights() -> Iterator[None]:
    """Obey the permissions of files, as root does not: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.

    Another uid would do too, if it could read the package: a checkout is often below a folder of root's own.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capset(2): version 3, this thread
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same of the capabilities from 32 on
    if libc.capget(header, rights):
        raise OSError(ctypes.get_errno(), "capget")
    effective = rights[0]
    rights[0] = effective & ~0b110
    libc.capset(header, rights)
    try:
        yield
    finally:
        rights[0] = effective
        libc.capset(header, rights)
