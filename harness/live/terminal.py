"""`twinbench watch`: the run in a terminal, while it runs; plain lines where there is no terminal."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from twinbench.harness.live.overview import HEADINGS, CellRow, Failure, Overview, Picture, Running
from twinbench.harness.status import counted, duration

LOOK_SECONDS = 1.0
LEAST_TIMES_ITS_COST = 10
FAILURES_SHOWN = 5
CURVE_WIDTH = 16
BARS = "▁▂▃▄▅▆▇█"
MARKS = {"done": "■", "running": "◧", "silent": "◫", "interrupted": "‖", "planned": "□", "diverged": "∞"}
STATES = {
    "waiting": "waiting for the plan",
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
        line = f"{counted(dict(picture.counts))}; {STATES.get(picture.state, picture.state)}"
        if line != told:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            told = line
        if picture.state == "finished":
            console.print(cells_table(picture, picture.cells))
            return
        time.sleep(LOOK_SECONDS)


def view(picture: Picture, folder: Path, width: int, height: int | None) -> RenderableType:
    """All there is to see in `height` lines, or in as many as it takes."""
    parts: list[RenderableType] = [_head(picture, folder)]
    if picture.planned:
        recorded = sum(count for state, count in picture.counts if state in ("done", "collapsed", "diverged", "failed"))
        parts += [_bar(recorded, picture.planned, width), Text(counted(dict(picture.counts)))]
    used = len(parts) + 1
    if picture.running:
        shown = picture.running[: _room(height, used, share=2)]
        parts += [Text(), _running_table(shown)]
        used += len(shown) + 2
        if len(shown) < len(picture.running):
            parts.append(Text(f"and {len(picture.running) - len(shown)} more that run", "dim"))
            used += 1
    if picture.failures:
        parts += [Text(), *map(_failure, picture.failures[:FAILURES_SHOWN])]
        used += 1 + min(FAILURES_SHOWN, len(picture.failures))
        if len(picture.failures) > FAILURES_SHOWN:
            parts.append(Text(f"and {len(picture.failures) - FAILURES_SHOWN} more", "dim"))
            used += 1
    if picture.cells:
        cells = _most_telling(picture.cells, _room(height, used + 3))
        parts += [Text(), cells_table(picture, cells)]
        if len(cells) < len(picture.cells):
            parts.append(Text(f"and {len(picture.cells) - len(cells)} more cells", "dim"))
    return Group(*parts)


def _head(picture: Picture, folder: Path) -> Text:
    told = STATES.get(picture.state, picture.state)
    if picture.state == "running" and picture.seconds_left is not None:
        told += f", about {duration(picture.seconds_left)} left"
    text = Text.assemble((plain(picture.name or str(folder)), "bold"), f"  {told}", no_wrap=True, overflow="ellipsis")
    return text.append(f"  {plain(picture.problem)}", "yellow") if picture.problem else text


def _bar(recorded: int, planned: int, width: int) -> RenderableType:
    return ProgressBar(total=max(planned, 1), completed=recorded, width=min(width, 80))


def _room(height: int | None, used: int, share: int = 1) -> int | None:
    """How many lines are left, or that share of them; None: as many as are wanted."""
    return None if height is None else max(3, (height - used - 2) // share)


def _running_table(running: Sequence[Running]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("running", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("where", no_wrap=True, overflow="ellipsis", ratio=1)
    for column in ("step", "images/s", "left"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("loss", no_wrap=True)
    for one in running:
        steps = f"{one.step}/{one.steps}" if one.steps else "starting"
        rate = f"{one.images_per_second:.0f}" if one.images_per_second else ""
        where = Text(plain(f"{one.host} {one.where}"), "yellow" if one.state == "silent" else "")
        left = "evaluating" if one.steps and one.step == one.steps else duration(one.seconds_left)
        loss = f"{sparkline(one.loss)} {one.loss[-1]:.4g}" if one.loss else ""
        table.add_row(Text(plain(one.label)), where, steps, rate, left, loss)
    return table


def _failure(failure: Failure) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis").append(failure.status, "yellow")
    return line.append(f" {plain(failure.label)}: {plain(failure.reason)}")


def cells_table(picture: Picture, cells: Sequence[CellRow]) -> Table:
    """The table as it fills: accuracies in per cent."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("method", *picture.axes, "seeds"):
        table.add_column(Text(plain(column)), no_wrap=True, overflow="ellipsis")
    for heading in HEADINGS:
        table.add_column(heading, justify="right", overflow="ellipsis")
    for cell in cells:
        marks = "".join(MARKS.get(state, "✕") for _, _, state in cell.trials)
        values = [Text(plain(value)) for value in cell.values]
        table.add_row(
            Text(plain(cell.method)), *values, marks, *cell.estimates, style="dim" if cell.is_baseline else ""
        )
    return table


def _most_telling(cells: Sequence[CellRow], room: int | None) -> list[CellRow]:
    """As many as there is room for: those that run first, then those with results, in the plan's order."""
    if room is None or len(cells) <= room:
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
