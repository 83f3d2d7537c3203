"""Verdicts as text, Markdown, JSON, in-toto, LaTeX and HTML: the formats by name. Equal verdicts give equal bytes.

Formats for people give failed rules in words and all others by id; of a claim that is not judged, only the rules that
stop it are in words. LaTeX has the ids in comments, so that a paper's table stays readable.
"""

from collections.abc import Callable

from twinbench.reports.verdicts.formats.html import html_text
from twinbench.reports.verdicts.formats.json import in_toto_text, json_text
from twinbench.reports.verdicts.formats.latex import latex_text
from twinbench.reports.verdicts.formats.text import markdown_text, terminal_text
from twinbench.reports.verdicts.verdict import Checked

FORMATS: dict[str, Callable[[Checked], str]] = {
    "terminal": terminal_text,
    "json": json_text,
    "markdown": markdown_text,
    "latex": latex_text,
    "html": html_text,
    "in-toto": in_toto_text,
}
