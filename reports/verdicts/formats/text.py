"""Verdicts as terminal text and Markdown."""

import html
import re
import textwrap
from collections import Counter

from twinbench.reports.rules.case import Result
from twinbench.reports.verdicts.phrasing import by_seed_text, difference_text
from twinbench.reports.verdicts.verdict import Checked, Verdict
from twinbench.sweeps.errors import counted, plain

RULE_ORDER: tuple[Result, ...] = ("failed", "passed", "not applicable")
NOTHING = "–"
LONGEST = 300  # characters of one rule's text in formats for people


def summary(checked: Checked) -> str:
    """Return "7 claims: 2 supported, 5 unverifiable; 1 not declared before the results"."""
    counts = Counter(verdict.word for verdict in checked.verdicts)
    by_word = ", ".join(f"{count} {word.lower().replace('_', ' ')}" for word, count in sorted(counts.items()))
    late = sum(verdict.exploratory for verdict in checked.verdicts)
    exploratory = f"; {late} not declared before the results" if late else ""
    return f"{counted(len(checked.verdicts), 'claim')}: {by_word}{exploratory}"


def remarks(verdict: Verdict) -> list[tuple[str, str]]:
    """Return what is shown with a verdict: reason, numbers or supported sentence, remedies and failed rules."""
    found: list[tuple[str, str]] = []
    if verdict.word != "INADMISSIBLE" and verdict.reason not in verdict.sentence:
        found.append(("because", verdict.reason))
    if verdict.is_supported:
        found += [("numbers", f"{one.label}: {difference_text(one, verdict.claim)}") for one in verdict.contrasts]
    if verdict.is_supported and not verdict.contrasts:
        found.append(("numbers", verdict.reason))
    elif verdict.sentence and not verdict.is_supported:
        found.append(("supported", verdict.sentence))
    if verdict.has_statistics:
        several = len(verdict.contrasts) > 1
        seeds = [(one.label, by_seed_text(one, verdict.claim)) for one in verdict.contrasts if one.samples]
        found += [("by seed", f"{label}: {text}" if several else text) for label, text in seeds]
    found += [("settled by", text) for text in verdict.settled_by]
    failed = [finding for finding in verdict.findings if finding.outcome == "failed"]
    full = [finding for finding in failed if verdict.has_statistics or finding.weight == "stops"]
    found += [(finding.rule, f"{finding.title}: {_shortened(finding.text)}") for finding in full]
    rest = ", ".join(finding.rule for finding in failed if finding not in full)
    return found + ([("also fails", rest)] if rest else [])


def outcomes(verdict: Verdict) -> dict[str, list[str]]:
    """Return the ids of the rules that failed, passed and were not applicable."""
    return {
        outcome: [finding.rule for finding in verdict.findings if finding.outcome == outcome] for outcome in RULE_ORDER
    }


def rules_text(verdict: Verdict, *shown: Result) -> str:
    """Return "passed A1 A2; not applicable A23" for those of the given outcomes that occur."""
    found = outcomes(verdict)
    return "; ".join(f"{outcome} {' '.join(found[outcome])}" for outcome in shown if found[outcome])


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def terminal_text(checked: Checked) -> str:
    """Return one block for each claim: the verdict, its grounds, the failed rules, and the ids of the others."""
    blocks = []
    for verdict in checked.verdicts:
        lines = [f"{plain(verdict.label)}  {plain(verdict.claim.name)}"]
        said = [("claim", verdict.judged), ("authors", verdict.claim.sentence)]
        lines += [f"  {name:<10} {plain(text)}" for name, text in [*said, *_all_remarks(verdict)]]
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, summary(checked)]) + "\n"


def _all_remarks(verdict: Verdict) -> list[tuple[str, str]]:
    return [*remarks(verdict), ("rules", rules_text(verdict, "passed", "not applicable"))]


def folded(text: str, width: int) -> str:
    """Return the text wrapped to a terminal of that width between words."""
    margin = " " * min(13, width // 4)
    wrapper = textwrap.TextWrapper(width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrapper.fill, text.splitlines())) + "\n"


def markdown_text(checked: Checked) -> str:
    """Return a table of verdicts, and below it what each is about and its grounds."""
    lines = [f"# Claims of {_cell(checked.claims_file)}, judged from {_cell(checked.run)}", "", summary(checked), ""]
    lines += ["| claim | verdict |", "| --- | --- |"]
    lines += [f"| {_cell(v.claim.name)} | {_cell(v.label)} |" for v in checked.verdicts]
    for verdict in checked.verdicts:
        lines += ["", f"## {_cell(verdict.claim.name)}", ""]
        lines += [f"> {_cell(verdict.judged)}", "", f"**{_cell(verdict.label)}**", ""]
        lines += [f"- authors: {_cell(verdict.claim.sentence)}"]
        lines += [f"- {name}: {_cell(text)}" for name, text in _all_remarks(verdict)]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    """Return the text with all markup of Markdown, and of HTML within it, escaped."""
    return re.sub(r"([\\`*_{}\[\]()|#~!$])", r"\\\1", html.escape(plain(text), quote=False))
