"""Verdicts as text: for terminals, JSON, Markdown, LaTeX, HTML, in-toto. Equal input, equal bytes.

What people read has the failed rules in words, of a claim that is not judged those that say why, and all others by
their ids. LaTeX has the ids in comments, so that a paper's table stays readable.
"""

from collections.abc import Callable

from twinbench.reports.verdicts.formats.html import html_text
from twinbench.reports.verdicts.formats.in_toto import in_toto_text
from twinbench.reports.verdicts.formats.json import json_text
from twinbench.reports.verdicts.formats.latex import latex_text
from twinbench.reports.verdicts.formats.text import markdown_text, terminal_text
from twinbench.reports.verdicts.verdict import (
    Checked,
)

# --- for terminals ----------------------------------------------------------------------------------------------------


# --- for programs -----------------------------------------------------------------------------------------------------


# --- for papers and pages ---------------------------------------------------------------------------------------------


FORMS: dict[str, Callable[[Checked], str]] = {
    "terminal": terminal_text,
    "json": json_text,
    "markdown": markdown_text,
    "latex": latex_text,
    "html": html_text,
    "in-toto": in_toto_text,
}
