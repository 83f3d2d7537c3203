"""`write_report` writes one self-contained HTML page and its tables as CSV. Equal records give equal bytes."""

import functools
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
import plotly.io
import plotly.offline

from twinbench.reports.figures.panels import Panel
from twinbench.reports.page import compare_runs
from twinbench.reports.page.claims import read_folder_claims
from twinbench.reports.page.sections import ShownRun, run_part
from twinbench.reports.page.trials import read_log_tails
from twinbench.reports.tables import frames
from twinbench.reports.tables.cells import Section
from twinbench.reports.tables.csv_text import csv_text
from twinbench.reports.tables.run import Run, read_run
from twinbench.reports.tables.sections import sections
from twinbench.results.atomic_files import write_bytes_atomically

REPORT = "report"

# The page must make no network request: no logo that links out, no button that uploads the data.
PLOTLY_CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "showLink": False,
    "typesetMath": False,
    "responsive": True,
    "displayModeBar": False,
}

# Files this module may delete. LaTeX tables were written here by earlier versions.
_OURS = re.compile(r"(methods|cells|failures|missing|provenance|costs)(-[0-9a-f]{8})?\.(csv|tex)")


def write_report(run_folder: Path | str, out_folder: Path | str | None = None, logs: bool = True) -> Path:
    """Ingest new records, write index.html and tables/ into `out_folder`, and return the path of the page.

    `out_folder`: by default the run folder's report/.
    `logs`: whether the page includes the end of each trial's log. Without logs, the page is determined by records,
    claims and declarations alone.
    """
    run_folder = Path(run_folder)
    shown = read_shown(run_folder, logs)
    folder = Path(out_folder or run_folder / REPORT)
    written = set()
    for section in shown.sections:
        suffix = "" if len(shown.sections) == 1 else f"-{section.short_id}"
        for name, text in table_files(shown.run, section, suffix).items():
            write_bytes_atomically(folder / "tables" / name, text.encode("utf-8"))
            written.add(name)
    for path in (folder / "tables").glob("*"):
        if _OURS.fullmatch(path.name) and path.name not in written:
            path.unlink()  # the protocol is no longer in the folder; a stale table could end up in a paper
    return write_bytes_atomically(folder / "index.html", page([shown]).encode("utf-8"))


def write_reports(run_folders: Sequence[Path | str], out_folder: Path | str) -> Path:
    """Write one page of several runs side by side into `out_folder`; the runs' own reports are not changed."""
    shown = [read_shown(Path(folder), logs=True) for folder in run_folders]
    return write_bytes_atomically(Path(out_folder) / "index.html", page(shown).encode("utf-8"))


def read_shown(run_folder: Path, logs: bool) -> ShownRun:
    """Return everything the page shows of one run folder, after ingesting new records."""
    run = read_run(run_folder)
    parts = tuple(sections(run))
    ids = [trial["trial_id"] for section in parts for trial in section.trials]
    tails = read_log_tails(run_folder, ids) if logs else {}
    return ShownRun(run, parts, read_folder_claims(run_folder), tails)


# --- files beside the page ------------------------------------------------------------------------------------------


def table_files(run: Run, section: Section, suffix: str = "") -> dict[str, str]:
    """Return the content of the section's CSV files by file name."""
    return {f"{name}{suffix}.csv": csv_text(frame) for name, frame in frames.exact(run, section).items()}


# --- the page -------------------------------------------------------------------------------------------------------


def page(shown: Sequence[ShownRun]) -> str:
    """Return the HTML of the page for one run, or for several runs side by side."""
    several = len(shown) > 1
    runs = [run_part(one, number, several) for number, one in enumerate(shown, 1)]
    of_one = shown[0].run.question or shown[0].run.name or "twinbench report"
    title = f"{len(shown)} runs side by side" if several else of_one
    return _template().render(
        title=title,
        heading=re.sub(r"(?<=[A-Za-z])-(?=\d)", "\N{NON-BREAKING HYPHEN}", title),
        name="" if several else shown[0].run.name,
        several=several,
        runs=runs,
        together=compare_runs.side_by_side(shown) if several else [],
        plotly_js=plotly.offline.get_plotlyjs(),
        config=for_script(PLOTLY_CONFIG),
        figure_json=_figure_json,
        for_script=for_script,
    )


def _figure_json(panel: Panel) -> str:
    # By default plotly uses orjson if it is installed, which writes other bytes.
    return _escaped(plotly.io.to_json(panel.figure, validate=False, engine="json"))


def for_script(content: object) -> str:
    """Return JSON that is safe inside a <script> element: it cannot end that element or begin another."""
    return _escaped(json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def _escaped(text: str) -> str:
    escaped = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return escaped.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@functools.cache  # compiling the template takes longer than rendering it
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.j2")


def _source(name: str) -> str:
    return resources.files("twinbench.reports.page").joinpath("templates", name).read_text("utf-8")
