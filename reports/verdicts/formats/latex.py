"""Verdicts as a LaTeX table."""

import re

from twinbench.reports import latex
from twinbench.reports.verdicts.formats.text import NOTHING, RULE_ORDER, rules_text, summary
from twinbench.reports.verdicts.phrasing import difference_text
from twinbench.reports.verdicts.verdict import Checked, Verdict
from twinbench.sweeps.errors import plain

WIDTHS = {"Claim": 0.37, "Verdict": 0.27, "Difference": 0.28}  # of the line; "UNDERPOWERED," takes 0.27 of 345 pt
NOTE = (
    "Differences over seeds with the t interval, at the confidence that Holm's correction leaves in the family. "
    "In parentheses: the rules that are broken, or the part that holds."
)


def latex_text(checked: Checked) -> str:
    """Return one longtable of claims, verdicts and numbers, and above it, as comments, each claim's rules by id."""
    rows = [
        (
            f"{plain(verdict.judged)} Authors: “{plain(verdict.claim.sentence)}”",
            verdict.label.replace(verdict.word, verdict.word.replace("_", " "), 1),
            _with_minus_signs(_differences(verdict)),
        )
        for verdict in checked.verdicts
    ]
    caption = f"Claims of {checked.claims_file}, judged from the records of {checked.run}."
    rules = [f"% {plain(v.claim.name)}: {rules_text(v, *RULE_ORDER)}" for v in checked.verdicts]
    table = latex.table(rows, caption, "tab:claims", [NOTE, f"{summary(checked)}."], WIDTHS)
    return "\n".join([*rules, table])


def _with_minus_signs(text: str) -> str:
    """Return the text with minus signs before negative numbers, where LaTeX would break the line after a hyphen."""
    return re.sub(r"(?<!\S)(\(?)-(?=\d)", "\\1\u2212", text)


def _differences(verdict: Verdict) -> str:
    """Return the numbers; of several comparisons, those of the one furthest from meeting its criterion."""
    if not verdict.has_statistics:
        return NOTHING
    contrasts = [contrast for contrast in verdict.contrasts if contrast.low is not None]
    if not contrasts:
        return verdict.reason
    weakest = min(contrasts, key=lambda one: one.room() or 0.0)
    text = difference_text(weakest, verdict.claim)
    return text if len(contrasts) == 1 else f"{text}, the weakest of {len(contrasts)}: {weakest.label}"
