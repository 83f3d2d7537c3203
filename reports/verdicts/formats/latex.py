"""Verdicts as a LaTeX table."""

import math
import re

from twinbench.reports import latex
from twinbench.reports.claims.contrasts import Contrast
from twinbench.reports.verdicts.formats.text import NOTHING, RULE_ORDER, plain, rules_text, summary
from twinbench.reports.verdicts.phrasing import difference_text
from twinbench.reports.verdicts.verdict import (
    Checked,
    Verdict,
)

LATEX_WIDTHS = {"Claim": 0.39, "Verdict": 0.25, "Difference": 0.28}  # of the line; CONTRADICTED takes .245
LATEX_GAP = 0.4  # of a line, between rows
LATEX_LETTERS, LATEX_LINES = 60, 38  # in a line and on a page of article at 10 pt, with something to spare


def latex_text(checked: Checked) -> str:
    """booktabs tables of claims, verdicts and numbers: several where one would not fit on a page.

    Above them, as comments, the rules of every claim by their ids.
    """
    import pandas as pd

    rows = [
        {
            "Claim": plain(verdict.claim.sentence),
            "Verdict": verdict.label.replace(verdict.word, verdict.word.replace("_", " "), 1),
            "Difference": re.sub(
                r"(?<!\S)(\(?)-(?=\d)", "\\1\u2212", _differences(verdict)
            ),  # a hyphen would part the line
        }
        for verdict in checked.verdicts
    ]
    notes = [
        "Differences over seeds with the t interval, at the confidence that Holm's correction leaves in the family. "
        "In parentheses: the rules that the comparison breaks, or the part that holds.",
        f"{summary(checked)}.",
    ]
    pages = _pages(rows)
    tables = []
    for number, page in enumerate(pages, 1):
        part = f", part {number} of {len(pages)}" if len(pages) > 1 else ""
        caption = f"Claims of {checked.claims_file}, judged from the records of {checked.run}{part}."
        label = "tab:claims" if number == 1 else f"tab:claims-{number}"
        frame = pd.DataFrame(page, dtype=object)
        tables.append(latex.table(frame, caption, label, notes if number == len(pages) else [], widths=LATEX_WIDTHS))
    rules = [f"% {plain(v.claim.name)}: {rules_text(v, *RULE_ORDER)}" for v in checked.verdicts]
    return "\n".join([*rules, *tables])


def _pages(rows: list[dict[str, str]]) -> list[list[dict[str, str]]]:
    """The rows in runs that fit on a page, by what their longest cells take of it."""
    pages: list[list[dict[str, str]]] = [[]]
    left: float = LATEX_LINES
    for row in rows:
        lines = LATEX_GAP + max(
            math.ceil(len(row[name]) / (LATEX_LETTERS * width)) for name, width in LATEX_WIDTHS.items()
        )
        if lines > left and pages[-1]:
            pages.append([])
            left = LATEX_LINES
        pages[-1].append(row)
        left -= lines
    return pages


def _differences(verdict: Verdict) -> str:
    """The numbers; of many comparisons the one that is furthest from being what is claimed."""
    if not verdict.has_statistics:
        return NOTHING
    contrasts = [contrast for contrast in verdict.contrasts if contrast.low is not None]
    if not contrasts:
        return verdict.why
    weakest = min(contrasts, key=_room)
    told = difference_text(weakest, verdict.claim)
    return told if len(contrasts) == 1 else f"{told}, the weakest of {len(contrasts)}: {weakest.label}"


def _room(contrast: Contrast) -> float:
    """How far the judged interval lies on the right side of its bound."""
    assert contrast.low is not None and contrast.high is not None
    if contrast.asked == "within":
        return contrast.bound - max(-contrast.low, contrast.high)
    return contrast.low - contrast.bound
