"""Verdicts as terminal text and Markdown."""

import textwrap
from collections import Counter

from twinbench.reports.rules.case import FAILED, NOT_APPLICABLE, PASSED, Result
from twinbench.reports.rules.registry import Finding
from twinbench.reports.verdicts.phrasing import difference_text
from twinbench.reports.verdicts.verdict import INADMISSIBLE, Checked, Verdict

RULE_ORDER: tuple[Result, ...] = (FAILED, PASSED, NOT_APPLICABLE)
NOTHING = "–"
LONGEST = 300  # characters of one rule's text where people read it


def summary(checked: Checked) -> str:
    """ "7 claims: 2 supported, …"."""
    counts = Counter(verdict.word for verdict in checked.verdicts)
    told = ", ".join(f"{count} {word.lower().replace('_', ' ')}" for word, count in sorted(counts.items()))
    late = sum(verdict.exploratory for verdict in checked.verdicts)
    exploratory = f"; {late} not declared before the results" if late else ""
    return f"{len(checked.verdicts)} claim{'s' * (len(checked.verdicts) != 1)}: {told}{exploratory}"


def remarks(verdict: Verdict) -> list[tuple[str, str]]:
    """What is said of a verdict beside its word: reason, numbers or supported sentence, what would settle it, rules."""
    told: list[tuple[str, str]] = []
    if verdict.word != INADMISSIBLE and verdict.why not in verdict.sentence:
        told.append(("because", verdict.why))
    if verdict.is_supported:
        told += [("numbers", f"{one.label}: {difference_text(one, verdict.claim)}") for one in verdict.contrasts]
    if verdict.is_supported and not verdict.contrasts:
        told.append(("numbers", verdict.why))
    elif verdict.sentence and not verdict.is_supported:
        told.append(("supported", verdict.sentence))
    told += [("settled by", text) for text in verdict.settling]
    full, rest = _failed(verdict)
    told += [(finding.rule, f"{finding.title}: {_shortened(finding.text)}") for finding in full]
    return told + ([("fails too", ", ".join(finding.rule for finding in rest))] if rest else [])


def _failed(verdict: Verdict) -> tuple[list[Finding], list[Finding]]:
    """The failed rules that are told in full, and those of which the id will do."""
    failed = [finding for finding in verdict.findings if finding.outcome == FAILED]
    if verdict.has_statistics:
        return failed, []
    full = [finding for finding in failed if finding.weight == "stops"]
    return full, [finding for finding in failed if finding not in full]


def outcomes(verdict: Verdict) -> dict[str, list[str]]:
    """The rules that failed, passed and were not applicable, by their ids."""
    return {
        outcome: [finding.rule for finding in verdict.findings if finding.outcome == outcome] for outcome in RULE_ORDER
    }


def rules_text(verdict: Verdict, *told: str) -> str:
    """ "passed A1 A2 …; not applicable A23": of the outcomes that are asked for, those that there are."""
    found = outcomes(verdict)
    return "; ".join(f"{outcome} {' '.join(found[outcome])}" for outcome in told if found[outcome])


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def plain(text: str) -> str:
    """One line that no terminal takes for a command: white space as blanks, what cannot be printed by its code."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in " ".join(text.split()))


def terminal_text(checked: Checked) -> str:
    """One block a claim: the verdict, what it rests on, the rules that failed, and the others by their ids."""
    blocks = []
    for verdict in checked.verdicts:
        lines = [f"{plain(verdict.label)}  {plain(verdict.claim.name)}"]
        lines += [
            f"  {name:<10} {plain(text)}" for name, text in [("claim", verdict.claim.sentence), *_told_in_full(verdict)]
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, summary(checked)]) + "\n"


def _told_in_full(verdict: Verdict) -> list[tuple[str, str]]:
    return [*remarks(verdict), ("rules", rules_text(verdict, PASSED, NOT_APPLICABLE))]


def folded(text: str, width: int) -> str:
    """The same for a terminal of that width, whose own line ends would cut words."""
    margin = " " * min(13, width // 4)
    lines = [
        textwrap.wrap(line, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False) or [""]
        for line in text.splitlines()
    ]
    return "\n".join(part for parts in lines for part in parts) + "\n"


def markdown_text(checked: Checked) -> str:
    """A table of verdicts, and below it what each rests on."""
    lines = [f"# Claims of {_cell(checked.claims_file)}, judged from {_cell(checked.run)}", "", summary(checked), ""]
    lines += ["| claim | verdict |", "| --- | --- |"]
    lines += [f"| {_cell(v.claim.name)} | {_cell(v.label)} |" for v in checked.verdicts]
    for verdict in checked.verdicts:
        lines += ["", f"## {_cell(verdict.claim.name)}", ""]
        lines += [f"> {_cell(verdict.claim.sentence)}", "", f"**{_cell(verdict.label)}**", ""]
        lines += [f"- {name}: {_cell(text)}" for name, text in _told_in_full(verdict)]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    """Text that nothing in Markdown, or in HTML within it, takes for markup."""
    escaped = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{character}" if character in "\\`*_{}[]()|#~!$" else character for character in escaped)
