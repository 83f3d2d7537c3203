"""`twinbench status`, `watch`, `serve`, `logs` and `cancel`: follow or stop a run."""

from typing import Annotated

import typer

from twinbench.harness.commands.options import (
    MOST_GIB,
    MOST_SECONDS,
    MemoryLimit,
    RunFolder,
    TimeLimit,
    out,
    print_damaged_launches,
    read_bounded,
    say,
)
from twinbench.sweeps.errors import printable
from twinbench.sweeps.hashing import to_utf8


def status(
    folder: RunFolder,
    follow: Annotated[
        bool, typer.Option("--watch", help="Follow the run until every trial is recorded, as `watch` does.")
    ] = False,
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """Show a run's progress: what is running where, and what failed. Reads only the run folder."""
    if follow:
        return watch(folder)
    from twinbench.harness.monitor.terminal import status_text
    from twinbench.results.places import check_places

    check_places(folder)
    out().print(read_bounded(lambda _: status_text(folder), [folder], memory_limit, time_limit))


def watch(folder: RunFolder) -> None:
    """Follow a run in the terminal until every trial is recorded. It may start later or be interrupted."""
    from twinbench.harness.monitor.terminal import watch as watch_folder
    from twinbench.harness.run_folder.layout import check_folder_exists

    check_folder_exists(folder)
    watch_folder(folder, out())


def serve(
    folder: RunFolder,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port on 127.0.0.1. Default: 8642, or any free port if that is taken."),
    ] = None,
) -> None:
    """Serve a live page of a run on 127.0.0.1 only, before, during and after the run."""
    import contextlib

    from twinbench.harness.monitor.server import serve as serve_folder
    from twinbench.harness.run_folder.layout import check_folder_exists

    check_folder_exists(folder)
    with contextlib.suppress(KeyboardInterrupt):  # stops the server
        serve_folder(folder, port, say)


def logs(
    folder: RunFolder,
    trial: Annotated[str, typer.Argument(help="First characters of a trial's id, as `status` and `plan` print it.")],
) -> None:
    """Print the logs of a trial's attempts, and how each ended."""
    from twinbench.harness.monitor.logs import find_trial, log_lines
    from twinbench.results.places import check_places

    check_places(folder)
    for line in log_lines(folder, find_trial(folder, trial)):
        typer.echo(to_utf8("\t".join(map(printable, line.removesuffix("\n").split("\t")))))


def cancel(folder: RunFolder) -> None:
    """Ask all workers of a run, on any machine, to save their trials and stop. `run` continues from there."""
    from twinbench.harness.run_folder.layout import cancel as cancel_folder
    from twinbench.results.places import check_places
    from twinbench.results.plan import read_plan

    check_places(folder)
    read_plan(folder)
    if launches := cancel_folder(folder):
        from twinbench.harness.launchers import ray, slurm

        print_damaged_launches(launches)
        slurm.cancel_waiting(launches)
        ray.cancel_waiting(folder, launches)
    say("cancelled: workers save their trials and stop within seconds; the same `run` command continues from there")
