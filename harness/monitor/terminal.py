"""`twinbench watch`: the run in a terminal, while it runs; plain lines where there is no terminal."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from twinbench.harness.monitor.overview import COLUMNS, HEADINGS, CellRow, Failure, Overview, Picture, Running
from twinbench.harness.monitor.status import counted, duration
from twinbench.reports.tables.cells import REPORTED_ON

LOOK_SECONDS = 1.0
LEAST_TIMES_ITS_COST = 10
FAILURES_SHOWN = 5
CURVE_WIDTH = 16
WIDE = 110
HEADING_LINES = 3
OTHER_COLUMNS = 60  # what those beside a trial's name take
BARS = "▁▂▃▄▅▆▇█"
MARKS = {"done": "■", "running": "◧", "silent": "◫", "interrupted": "‖", "planned": "□", "diverged": "∞"}
ENDED = ("done", "collapsed", "diverged", "failed")
STATES = {
    "waiting": "waiting for the plan, which `run` writes",
    "idle": "nobody works on it yet",
    "stopped": "no worker is seen; the same `run` goes on",
    "cancelled": "cancelled; the same `run` goes on",
}


def watch(folder: Path, console: Console) -> None:
    """Shows the run until all of it is recorded. Raises KeyboardInterrupt, the terminal as it should be."""
    overview = Overview(folder)
    if not console.is_terminal:
        _lines(overview, console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            began = time.monotonic()
            picture = overview.look()
            if picture.state == "finished":
                break
            live.update(view(picture, folder, console.width, console.height), refresh=True)
            time.sleep(max(LOOK_SECONDS, LEAST_TIMES_ITS_COST * (time.monotonic() - began)))
    console.print(view(picture, folder, console.width, None))


def _lines(overview: Overview, console: Console) -> None:
    """A line whenever something changed, and the whole at the end."""
    told, failed = "", 0
    while True:
        picture = overview.look()
        for failure in reversed(picture.failures[: len(picture.failures) - failed]):
            console.print(_failure(failure), soft_wrap=True)
        failed = len(picture.failures)
        told_of = picture.problem or counted(dict(picture.counts))
        line = f"{plain(told_of)}; {STATES.get(picture.state, picture.state)}"
        if line != told:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            told = line
        if picture.state == "finished":
            console.print(cells_table(picture, picture.cells, console.width))
            return
        time.sleep(LOOK_SECONDS)


def view(picture: Picture, folder: Path, width: int, height: int | None) -> RenderableType:
    """All there is to see in less than `height` lines, or in as many as it takes."""
    parts: list[RenderableType] = [_head(picture, folder)]
    if picture.planned:
        recorded = sum(count for state, count in picture.counts if state in ENDED)
        parts += [_bar(recorded, picture.planned, width), Text(counted(dict(picture.counts)))]
    room = 10**9 if height is None else height - len(parts) - 1
    failures = picture.failures[: max(1, min(FAILURES_SHOWN, room // 6))]
    running = picture.running[: max(1, room // 3 - 3)]
    used = 0
    if running:
        block: list[RenderableType] = [
            Text(),
            _running_table(running, width),
            *_more(len(picture.running) - len(running), "that run"),
        ]
        parts += block
        used += len(block) + len(running)
    if failures:
        block = [Text(), *map(_failure, failures), *_more(len(picture.failures) - len(failures), "")]
        parts += block
        used += len(block)
    if picture.cells:
        heading = max(HEADING_LINES, *(axis.count("_") + 1 for axis in picture.axes), 1)
        cells = _most_telling(picture.cells, max(1, room - used - heading - 2))
        parts += [Text(), cells_table(picture, cells, width), *_more(len(picture.cells) - len(cells), "cells")]
    return Group(*parts)


def _more(count: int, what: str) -> list[RenderableType]:
    return [Text(f"and {count} more {what}", "dim")] if count else []


def _head(picture: Picture, folder: Path) -> Text:
    told = STATES.get(picture.state, picture.state)
    if picture.state == "running" and picture.seconds_left is not None:
        told += f", about {duration(picture.seconds_left)} left"
    text = Text.assemble((plain(picture.name or str(folder)), "bold"), f"  {told}", no_wrap=True, overflow="ellipsis")
    return text.append(f"  {plain(picture.problem)}", "yellow") if picture.problem else text


def _bar(recorded: int, planned: int, width: int) -> Text:
    whole = min(width, 80)
    done = whole * recorded // planned
    return Text.assemble(("━" * done, "green"), ("━" * (whole - done), "bright_black"))


def _running_table(running: Sequence[Running], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(
        "running",
        no_wrap=True,
        overflow="ellipsis",
        max_width=max(24, width - OTHER_COLUMNS - (26 if width >= WIDE else 0)),
    )
    table.add_column("where", no_wrap=True, overflow="ellipsis", max_width=18)
    for column in ("step", "images/s", "left"):
        table.add_column(column, justify="right", no_wrap=True)
    if width >= WIDE:
        table.add_column("loss", no_wrap=True)
    for one in running:
        steps = f"{one.step}/{one.steps}" if one.steps and one.step is not None else "starting"
        rate = f"{one.images_per_second:.0f}" if one.images_per_second else ""
        where = Text(plain(f"{one.host} {one.where}"), "yellow" if one.state == "silent" else "")
        left = "evaluating" if one.steps and one.step == one.steps else duration(one.seconds_left)
        loss = [f"{sparkline(one.loss)} {one.loss[-1]:.4g}" if one.loss else ""] if width >= WIDE else []
        table.add_row(Text(plain(one.label)), where, steps, rate, left, *loss)
    return table


def _failure(failure: Failure) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis").append(failure.status, "yellow")
    return line.append(f" {plain(failure.label)}: {plain(failure.reason)}")


def cells_table(picture: Picture, cells: Sequence[CellRow], width: int) -> Table:
    """The table as it fills: accuracies in per cent, in a narrow terminal those on test alone."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("method", no_wrap=True, overflow="ellipsis", max_width=32)
    for axis in picture.axes:
        table.add_column(Text(plain(axis).replace("_", "_\n")), no_wrap=True, overflow="ellipsis")
    table.add_column("seeds", min_width=5)
    shown = [place for place, (_, split) in enumerate(COLUMNS) if width >= WIDE or split == REPORTED_ON]
    for place in shown:
        table.add_column(HEADINGS[place].replace(" ", "\n"), no_wrap=True, min_width=11)
    for cell in cells:
        marks = "".join(MARKS.get(state, "✕") for _, _, state in cell.trials)
        values = [Text(plain(value)) for value in cell.values]
        estimates = [cell.estimates[place] for place in shown]
        style = "dim" if cell.is_baseline else ""
        table.add_row(Text(plain(cell.method)), *values, marks, *estimates, style=style)
    return table


def _most_telling(cells: Sequence[CellRow], room: int) -> list[CellRow]:
    """As many as there is room for: those that run first, then those with results, in the plan's order."""
    if len(cells) <= room:
        return list(cells)
    states = [{state for _, _, state in cell.trials} for cell in cells]
    order = sorted(range(len(cells)), key=lambda place: ("running" not in states[place], states[place] == {"planned"}))
    return [cells[place] for place in sorted(order[:room])]


def sparkline(values: Sequence[float], width: int = CURVE_WIDTH) -> str:
    """The curve in one line of characters: equal steps in between the least and the greatest value."""
    if len(values) > width:
        values = [values[round(place * (len(values) - 1) / (width - 1))] for place in range(width)]
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)


def plain(text: str) -> str:
    """One line that no terminal takes for a command."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in " ".join(text.split()))
