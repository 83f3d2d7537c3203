"""`write_paper` writes tables and figures for a paper from one or more run folders. Equal records give equal bytes.

paper/tables/NAME.tex, .csv, .md     paper/figures/NAME.pdf, .svg, .tex     paper/preview.tex with all of them
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from twinbench.reports.figures.fitted_labels import plain
from twinbench.reports.figures.matplotlib_backend import draw
from twinbench.reports.figures.paper_style import PaperStyle
from twinbench.reports.latex import breakable, escape
from twinbench.reports.paper.figures import PaperFigure, paper_figures
from twinbench.reports.paper.latex import PACKAGES, latex
from twinbench.reports.paper.parts import Number, PaperTable, Source, frame, key_of, texts
from twinbench.reports.paper.tables import paper_tables
from twinbench.reports.tables.cells import NOTHING
from twinbench.reports.tables.csv_text import csv_text
from twinbench.reports.tables.run import read_run
from twinbench.reports.tables.sections import sections
from twinbench.results.atomic_files import write_bytes_atomically
from twinbench.sweeps.file_reader import read_regular

PAPER = "paper"
_MARKED = re.compile(r"([\\`*_{}\[\]()#+!|~&$-])")


def read_sources(folders: Sequence[Path | str]) -> list[Source]:
    """Return every section of the run folders, after ingesting new records."""
    found = [(n, run, section) for n, run in enumerate(map(read_run, folders), 1) for section in sections(run)]
    return [
        Source(
            run,
            section,
            number,
            "DIR" if len(folders) == 1 else f"DIR{number}",
            "" if len(found) == 1 else f"-{number}-{section.short_id}",
        )
        for number, run, section in found
    ]


def write_paper(folders: Sequence[Path | str], out: Path | str, style: PaperStyle) -> Path:
    """Write the tables and figures into `out`, and return the path of preview.tex, which includes all of them."""
    sources = read_sources(folders)
    tables = paper_tables(sources)
    files = {f"tables/{name}": data.encode("utf-8") for t in tables for name, data in table_files(t, style).items()}
    figures = [
        (key_of(f"{figure.key}{source.suffix}"), figure, source)
        for source in sources
        for figure in paper_figures(source.run, source.section)
    ]
    for key, figure, source in figures:
        drawing = draw(figure.panels, style, figure.legend)
        files |= {f"figures/{key}.{form}": data for form, data in drawing.files.items()}
        files[f"figures/{key}.tex"] = _figure_float(key, figure, source, drawing.shortened).encode("utf-8")
    files["preview.tex"] = preview([table.key for table in tables], [key for key, _, _ in figures], style).encode()
    return _write(files, Path(out)) / "preview.tex"


def table_files(table: PaperTable, style: PaperStyle) -> dict[str, str]:
    """Return the table as LaTeX, as CSV with exact values, and as Markdown, by file name."""
    return {
        f"{table.key}.tex": latex(table, style),
        f"{table.key}.csv": csv_text(frame(table)),
        f"{table.key}.md": markdown(table),
    }


def markdown(table: PaperTable) -> str:
    """Return the table in GitHub's Markdown, with its caption and notes."""
    columns = [*table.stub, *table.columns, *table.tail]
    lines = [_row(map(_marked, columns)), _row("---" for _ in columns)]
    for row in table.rows:
        lines.append(_row([*map(_marked, row.labels), *map(_in_markdown, row.numbers), *map(_marked, row.tail)]))
    notes = "\n\n".join(map(_marked, table.notes))
    return f"{_marked(table.caption)}\n\n" + "\n".join(lines) + f"\n\n{notes}\n"


def preview(tables: Sequence[str], figures: Sequence[str], style: PaperStyle) -> str:
    """Return a LaTeX document that includes all tables and figures at the widths of the style."""
    columns = "twocolumn," if style.text_width > style.width else ""
    gap = f",columnsep={style.text_width - 2 * style.width:g}in" if columns else ""
    lines = [
        rf"\documentclass[{columns}{style.body_size}pt]{{article}}",
        rf"\usepackage[letterpaper,textwidth={style.text_width:g}in,textheight=9in{gap}]{{geometry}}",
        r"\usepackage{graphicx}\usepackage[skip=6pt]{caption}",
        PACKAGES,
        r"\setcounter{totalnumber}{9}\renewcommand{\topfraction}{.9}\renewcommand{\textfraction}{.05}",
        r"\begin{document}",
        *(rf"\input{{tables/{key}}}" + "\n" + r"\clearpage" * (place % 3 == 2) for place, key in enumerate(tables)),
        r"\clearpage",
        *(rf"\input{{figures/{key}}}" + "\n" + r"\clearpage" * (place % 3 == 2) for place, key in enumerate(figures)),
        r"\end{document}",
    ]
    return "\n".join([*lines, ""])


def _figure_float(key: str, figure: PaperFigure, source: Source, shortened: Mapping[str, str]) -> str:
    """Return the LaTeX float of a figure, with its description in words as a comment, for use as alternative text."""
    caption = f"{figure.title}. {figure.note} Protocol {source.section.ran_as}."
    if shortened:
        caption += (
            f" Shortened names: {'; '.join(f'{short} is {whole}' for short, whole in sorted(shortened.items()))}."
        )
    lines = [
        "% Made by twinbench from records. Needs \\usepackage{graphicx}. In words:",
        *(f"% {escape(panel.alternative)}" for panel in figure.panels),
        r"\begin{figure}",
        r"\centering",
        rf"\includegraphics{{figures/{key}.pdf}}",
        rf"\caption{{{breakable(caption)}}}\label{{fig:{key}}}",
        r"\end{figure}",
    ]
    return "\n".join([*lines, ""])


def _in_markdown(number: Number) -> str:
    text = " ± ".join(filter(None, texts(number))) or NOTHING
    group = f"<sup>{number.group.replace('*', '&#42;')}</sup>" if number.group else ""
    return f"**{text}**{group}" if number.leads else f"{text}{group}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _marked(text: str) -> str:
    """Return `text` with every character that Markdown or HTML would interpret escaped."""
    return _MARKED.sub(r"\\\1", plain(html.escape(text))).replace("<", "&lt;").replace(">", "&gt;")


def _write(files: dict[str, bytes], out: Path) -> Path:
    """Write every file, and delete files of an earlier call that are no longer made: stale numbers must not remain."""
    for name, data in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(out / name, data)
    listed = out / "files.txt"
    earlier = read_regular(listed).decode("utf-8", "replace") if listed.exists() else ""
    for name in earlier.splitlines():
        if name not in files and re.fullmatch(r"(tables|figures)/[A-Za-z0-9_-]+\.(tex|csv|md|pdf|svg)", name):
            (out / name).unlink(missing_ok=True)
    write_bytes_atomically(listed, "".join(f"{name}\n" for name in sorted(files)).encode("utf-8"))
    return out
