"""`twinbench status`, `watch`, `serve`, `logs` and `cancel`: follow or stop a run."""

import sys
from typing import Annotated

import typer

from twinbench.harness.commands.options import RunFolder, out


def status(
    folder: RunFolder,
    follow: Annotated[bool, typer.Option("--watch", help="Go on until all is recorded, as `watch` does.")] = False,
) -> None:
    """Say how far a run is, what runs where, and what failed: from the folder alone, while it runs or later."""
    if follow:
        return watch(folder)
    from twinbench.harness.monitor.terminal import status_text

    out().print(status_text(folder))


def watch(folder: RunFolder) -> None:
    """Show a run in the terminal until all is recorded: before it starts, while it runs, and after an interruption."""
    from twinbench.harness.monitor.terminal import watch as watch_folder
    from twinbench.harness.run_folder.layout import check_folder_exists

    check_folder_exists(folder)
    watch_folder(folder, out())


def serve(
    folder: RunFolder,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of 127.0.0.1; by default 8642, or any other if it is taken.")
    ] = None,
) -> None:
    """Show a run as a page on this machine, which follows it: before it starts, while it runs, and afterwards."""
    import contextlib

    from twinbench.harness.monitor.server import serve as serve_folder
    from twinbench.harness.run_folder.layout import check_folder_exists

    check_folder_exists(folder)
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        serve_folder(folder, port, lambda text: out().print(text, markup=False))


def logs(
    folder: RunFolder,
    trial: Annotated[str, typer.Argument(help="The beginning of a trial's id, as `status` and `plan` print it.")],
) -> None:
    """Print what a trial's attempts printed, and how each ended."""
    from twinbench.harness.monitor.logs import find_trial, log_lines

    for line in log_lines(folder, find_trial(folder, trial)):
        sys.stdout.write(line)


def cancel(folder: RunFolder) -> None:
    """Ask every worker of a run, wherever it is, to save its trial and end. `run` goes on from there."""
    from twinbench.harness.run_folder.layout import cancel as cancel_folder
    from twinbench.results.plan import read_plan

    read_plan(folder)
    if launches := cancel_folder(folder):
        from twinbench.harness.launchers import ray, slurm

        slurm.cancel_waiting(launches)
        ray.cancel_waiting(folder, launches)
    out().print("cancelled: workers save their trials and end within seconds; the same `run` goes on from there")
