"""Text of `twinbench status` and `twinbench watch`: the renderer of snapshots for terminals."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from twinbench.harness.monitor.labels import counts_text, duration_text, thinned
from twinbench.harness.monitor.snapshot import STATES, Failure, Running, RunView, Snapshot
from twinbench.harness.run_folder.layout import launch_notes, worker_error
from twinbench.harness.run_folder.progress import poll_pause
from twinbench.sweeps.errors import plain
from twinbench.sweeps.file_reader import parse_json, read_regular

if TYPE_CHECKING:
    from twinbench.harness.monitor.cells import CellRow

POLL_SECONDS = 1.0
FAILURES_SHOWN = 5
CURVE_WIDTH = 16
WIDE = 110
HEADING_LINES = 3
OTHER_COLUMNS = 60  # width of the columns next to a trial's label
BARS = "▁▂▃▄▅▆▇█"
MARKS = {"done": "■", "running": "◧", "silent": "◫", "interrupted": "‖", "planned": "□", "diverged": "∞"}


# --- status: everything, once ---------------------------------------------------------------------------------------


def status_text(folder: Path) -> RenderableType:
    """Return everything that `twinbench status` prints. InvalidInput if the folder has no readable plan."""
    run = RunView(folder, has_tables=False).read()
    parts: list[RenderableType] = [counts_text(run.counts), *([run.stages] if run.stages else [])]
    if run.state == "unconfirmed":
        parts.append(STATES[run.state])
    if run.running:
        parts.append(_running_table(run.running))
    elif run.state not in ("cancelled", "finished"):
        parts += [Text(f"submitted: {launch}") for launch in _launches(folder)]
    for status in ("died", "failed", "unreadable"):
        failures = [failure for failure in run.failures if failure.status == status]
        parts += map(_failure, failures[:FAILURES_SHOWN])
        if len(failures) > FAILURES_SHOWN:
            parts.append(f"and {len(failures) - FAILURES_SHOWN} more {status}; `twinbench logs` shows each")
    return Group(*parts)


def _launches(folder: Path) -> Iterator[str]:
    """Yield the jobs that were submitted to a cluster. Only the cluster knows whether they still wait in its queue."""
    for file in launch_notes(folder):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = parse_json(read_regular(file))
            words = worker_error(folder, file.stem)
            error = f"; one of its workers ended with {words}" if words else ""
            yield plain(f"{note['launcher']} {file.stem}, {note['submitted']}; none of its workers is running{error}")


# --- watch: what fits the terminal, again and again -----------------------------------------------------------------


def watch(folder: Path, console: Console) -> None:
    """Show the run until every trial is recorded. On KeyboardInterrupt the terminal is restored."""
    run = RunView(folder)
    if not console.is_terminal:
        _print_changes(run, console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            began = time.monotonic()
            snapshot = run.poll()
            if snapshot.state == "finished":
                break
            live.update(screen(snapshot, folder, console.width, console.height), refresh=True)
            time.sleep(poll_pause(began, POLL_SECONDS))
    console.print(screen(snapshot, folder, console.width, None))


def _print_changes(run: RunView, console: Console) -> None:
    """Print a line whenever something changed, and the table at the end."""
    printed, failures = "", 0
    while True:
        snapshot = run.poll()
        for failure in reversed(snapshot.failures[: len(snapshot.failures) - failures]):
            console.print(_failure(failure), soft_wrap=True)
        failures = len(snapshot.failures)
        summary = snapshot.problem or counts_text(snapshot.counts)
        line = f"{plain(summary)}; {STATES[snapshot.state]}"
        if line != printed:
            console.print(line, soft_wrap=True)
            printed = line
        if snapshot.state == "finished":
            console.print(_cells_table(snapshot, snapshot.cells))
            return
        time.sleep(POLL_SECONDS)


def screen(snapshot: Snapshot, folder: Path, width: int, height: int | None) -> RenderableType:
    """Return the snapshot in less than `height` lines, or in as many as it needs if `height` is None."""
    parts: list[RenderableType] = [_head(snapshot, folder)]
    if snapshot.planned:
        counts = "; ".join(filter(None, [counts_text(snapshot.counts), snapshot.stages]))
        parts += [_bar(snapshot.recorded, snapshot.planned, width), Text(counts)]
    room = 10**9 if height is None else height - len(parts) - 1
    failures = snapshot.failures[: max(1, min(FAILURES_SHOWN, room // 6))]
    running = snapshot.running[: max(1, room // 3 - 3)]
    used = 0
    if running:
        more = _more(len(snapshot.running) - len(running), "running")
        parts += [Text(), _running_table(running, width), *more]
        used += 2 + len(running) + len(more)
    if failures:
        more = _more(len(snapshot.failures) - len(failures), "failures")
        parts += [Text(), *(_failure(failure, fits=True) for failure in failures), *more]
        used += 1 + len(failures) + len(more)
    if snapshot.cells:
        heading = max(HEADING_LINES, *(axis.count("_") + 1 for axis in snapshot.axes), 1)
        cells = _most_informative(snapshot.cells, max(1, room - used - heading - 2))
        parts += [Text(), _cells_table(snapshot, cells, width), *_more(len(snapshot.cells) - len(cells), "cells")]
    return Group(*parts)


def _more(count: int, what: str) -> list[RenderableType]:
    return [Text(f"and {count} more {what}", "dim")] if count else []


def _head(snapshot: Snapshot, folder: Path) -> Text:
    state = STATES[snapshot.state]
    if snapshot.state == "running" and snapshot.seconds_left is not None:
        state += f", about {duration_text(snapshot.seconds_left)} left"
    name = (plain(snapshot.name or str(folder)), "bold")
    text = Text.assemble(name, f"  {state}", no_wrap=True, overflow="ellipsis")
    return text.append(f"  {plain(snapshot.problem)}", "yellow") if snapshot.problem else text


def _bar(recorded: int, planned: int, width: int) -> Text:
    whole = min(width, 80)
    done = whole * recorded // planned
    return Text.assemble(("━" * done, "green"), ("━" * (whole - done), "bright_black"))


def _cells_table(snapshot: Snapshot, cells: "Sequence[CellRow]", width: int | None = None) -> Table:
    """Return the table of accuracies in per cent, cut to fit `width`; a narrow one has only those on the test split."""
    from twinbench.harness.monitor.cells import HEADINGS, TEST_COLUMNS

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("method", no_wrap=True, overflow="ellipsis", max_width=32 if width else None)
    for axis in snapshot.axes:
        table.add_column(Text(plain(axis).replace("_", "_\n")), no_wrap=True, overflow="ellipsis")
    table.add_column("seeds", min_width=5)
    shown = range(len(HEADINGS)) if width is None or width >= WIDE else TEST_COLUMNS
    for place in shown:
        table.add_column(HEADINGS[place].replace(" ", "\n"), no_wrap=True, min_width=11)
    for cell in cells:
        marks = "".join(MARKS.get(state, "✕") for _, _, state in cell.trials)
        values = [Text(plain(value)) for value in cell.values]
        estimates = [cell.estimates[place] for place in shown]
        style = "dim" if cell.is_baseline else ""
        name = plain(cell.method) + (", confirmed" if cell.confirms else "")
        table.add_row(Text(name), *values, marks, *estimates, style=style)
    return table


def _most_informative(cells: "Sequence[CellRow]", room: int) -> "list[CellRow]":
    """Return at most `room` cells in the plan's order: first those that are running, then those with results."""
    if len(cells) <= room:
        return list(cells)
    states = [{state for _, _, state in cell.trials} for cell in cells]
    order = sorted(range(len(cells)), key=lambda place: ("running" not in states[place], states[place] == {"planned"}))
    return [cells[place] for place in sorted(order[:room])]


# --- what both show -------------------------------------------------------------------------------------------------


def _running_table(running: Sequence[Running], width: int | None = None) -> Table:
    """Return the running trials, cut to fit `width` and with their loss if it is wide; without it uncut, with ids."""
    fits, has_loss = width is not None, width is not None and width >= WIDE
    table = Table(box=None, pad_edge=False, header_style="dim" if fits else "", padding=(0, 2 if fits else 1, 0, 0))
    label_width = max(24, width - OTHER_COLUMNS - 26 * has_loss) if width is not None else None
    table.add_column("running", no_wrap=fits, overflow="ellipsis", max_width=label_width)
    table.add_column("where", no_wrap=fits, overflow="ellipsis", max_width=18 if fits else None)
    for column in ("step", "images/s", "left"):
        table.add_column(column, justify="right", no_wrap=True)
    if has_loss:
        table.add_column("loss", no_wrap=True)
    for one in running:
        steps = f"{one.step}/{one.steps}" if one.steps and one.step is not None else "starting"
        rate = f"{one.images_per_second:.0f}" if one.images_per_second else ""
        left = "evaluating" if one.steps and one.step == one.steps else duration_text(one.seconds_left)
        name, where = one.label, f"{one.host} {one.where}"
        if not fits:
            silence = f" (silent since {one.updated})" if one.state == "silent" else ""
            name, where = f"{one.trial_id} {name}", f"{where}, attempt {one.attempt}{silence}"
        style = "yellow" if one.state == "silent" else ""
        loss = [f"{sparkline(one.loss)} {one.loss[-1]:.4g}" if one.loss else ""] if has_loss else []
        table.add_row(Text(plain(name)), Text(plain(where), style), steps, rate, left, *loss)
    return table


def _failure(failure: Failure, fits: bool = False) -> Text:
    """Return the line of a failure; if it `fits`, without the trial's id and cut at the terminal's width."""
    attempts = f" after {failure.attempts} attempts" if failure.attempts > 1 else ""
    name = failure.label if fits else f"{failure.trial_id} {failure.label}".strip()
    line = Text(no_wrap=fits, overflow="ellipsis" if fits else None).append(failure.status, "yellow")
    return line.append(f"{attempts} {plain(name)}: {plain(failure.reason)}")


def sparkline(values: Sequence[float], width: int = CURVE_WIDTH) -> str:
    """Return the curve as one line of characters, from the smallest to the largest value."""
    values = thinned(values, width)
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)
