"""Verdicts as text: for terminals, JSON, Markdown, LaTeX, HTML, in-toto. Equal input, equal bytes.

What people read has the failed rules in words, of a claim that is not judged those that say why, and all others by
their ids. LaTeX has the ids in comments, so that a paper's table stays readable.
"""

import json
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from typing import Any

from twinbench.reports import latex
from twinbench.reports.checking import Checked
from twinbench.reports.contrasts import ALPHA, Contrast
from twinbench.reports.evidence import Side
from twinbench.reports.examples import Correct, mcnemar
from twinbench.reports.rules import FAILED, NOT_APPLICABLE, PASSED, Finding
from twinbench.reports.statistics import seed_differences, wilcoxon_test
from twinbench.reports.verdicts import DIRECTION_ONLY, EQUIVALENT, INADMISSIBLE, NARROWED, UNDERPOWERED, Verdict
from twinbench.reports.wording import amount_text, difference_text, interval_text, mean_text

RULE_ORDER = (FAILED, PASSED, NOT_APPLICABLE)
IN_TOTO = {
    "statement": "https://in-toto.io/Statement/v1",
    "predicate": "https://in-toto.io/attestation/test-result/v0.1",
}
NOTHING = "–"
NUMBERS_SHOWN = (
    "Comparison",
    "Difference",
    "Over seeds",
    "Holm p",
    "P(A > B) over seeds",
    "Over test images",
    "Found with power 0.8",
)
OPEN_ENDED = (UNDERPOWERED, DIRECTION_ONLY, NARROWED, EQUIVALENT)
LATEX_WIDTHS = {"Claim": 0.39, "Verdict": 0.25, "Difference": 0.28}  # of the line; CONTRADICTED takes .245
LATEX_GAP = 0.4  # of a line, between rows
LATEX_LETTERS, LATEX_LINES = 60, 38  # in a line and on a page of article at 10 pt, with something to spare
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


# --- for terminals ----------------------------------------------------------------------------------------------------


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


# --- for programs -----------------------------------------------------------------------------------------------------


def json_text(checked: Checked) -> str:
    """Everything: verdicts with their numbers and all 24 findings each."""
    content = {
        "claims_file": checked.claims_file,
        "run": checked.run,
        "all_supported": checked.all_supported,
        "verdicts": [_content(verdict) for verdict in checked.verdicts],
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _content(verdict: Verdict) -> dict[str, Any]:
    return {
        "claim": asdict(verdict.claim) | {"hash": verdict.claim.hash},
        "verdict": verdict.word,
        "detail": verdict.detail,
        "exploratory": verdict.exploratory,
        "label": verdict.label,
        "why": verdict.why,
        "supported_sentence": verdict.sentence,
        "settled_by": list(verdict.settling),
        "findings": [asdict(finding) for finding in verdict.findings],
        "comparisons": [_numbers(contrast) for contrast in verdict.contrasts] if verdict.has_statistics else [],
        "trials": sorted({str(trial["trial_id"]) for trial in verdict.evidence.trials}),
        "missing_trials": sorted({str(t["trial_id"]) for t in verdict.evidence.trials if t["status"] == "missing"}),
    }


def _numbers(contrast: Contrast) -> dict[str, Any]:
    """A comparison's numbers; differences in the unit of the metric, a fraction for accuracies, more being better."""
    parts = ("difference", "wins", "sign_flip", "examples")
    told = {name: asdict(part) if (part := getattr(contrast, name)) else None for name in parts}
    effect = contrast.difference.effect_size if contrast.difference else None
    names = ("label", "point", "asked", "bound", "p", "holm_p", "detectable")
    sides = [side for side in (contrast.a, contrast.b) if side is not None]
    values = {side.label: {str(seed): side.values[seed] for seed in sorted(side.values)} for side in sides}
    told |= {"wilcoxon": _wilcoxon(contrast), "mcnemar": _mcnemar(contrast)}
    return {name: getattr(contrast, name) for name in names} | told | {"effect_size": effect, "values": values}


def _wilcoxon(contrast: Contrast) -> dict[str, Any] | None:
    """Beside the interval that judges, for readers who do not take differences between seeds for normal."""
    if contrast.b is None or contrast.difference is None or not contrast.difference.paired:
        return None
    return asdict(wilcoxon_test(seed_differences(contrast.a.values, contrast.b.values), ALPHA))


def _mcnemar(contrast: Contrast) -> dict[str, Any]:
    """Of each seed that both sides have: the two networks on the same examples."""
    of_a, of_b = _correct_by_seed(contrast.a), _correct_by_seed(contrast.b)
    return {str(seed): asdict(mcnemar(of_a[seed], of_b[seed])) for seed in sorted(of_a.keys() & of_b.keys())}


def _correct_by_seed(side: Side | None) -> dict[int, Correct]:
    """Where every done trial of the side has its outputs by example, which come in the order of the seeds."""
    if side is None or side.correct is None or len(side.correct) != len(side.values):
        return {}
    return dict(zip(sorted(side.values), side.correct, strict=True))


def in_toto_text(checked: Checked) -> str:
    """An in-toto statement with a test-result predicate: a test per claim, whose subjects are the records' digests.

    Supported claims passed, supported but exploratory ones are warnings. Where no record stands behind any of them, the
    claims themselves are the subjects, for a statement has to have some. Each claim's verdict and rules are annotations
    of the configuration that it is, which is where in-toto has room for them. Source: in-toto/attestation,
    spec/predicates/test-result.md and spec/v1/resource_descriptor.md. It is not signed: whoever wants that signs it.
    """
    trials = {
        str(trial["trial_id"]): str(trial["result_digest"])
        for verdict in checked.verdicts
        for trial in verdict.evidence.trials
        if trial["result_digest"]
    }
    claims = {verdict.claim.name: verdict.claim.hash for verdict in checked.verdicts}
    well = [verdict for verdict in checked.verdicts if verdict.is_supported]
    warned = [verdict.claim.name for verdict in well if verdict.exploratory]
    passed = [verdict.claim.name for verdict in well if not verdict.exploratory]
    failed = [verdict.claim.name for verdict in checked.verdicts if not verdict.is_supported]
    statement = {
        "_type": IN_TOTO["statement"],
        "subject": _resources(dict(sorted(trials.items())) or claims),
        "predicateType": IN_TOTO["predicate"],
        "predicate": {
            "result": "FAILED" if failed else "WARNED" if warned else "PASSED",
            "configuration": [_configuration(verdict) for verdict in checked.verdicts],
            "passedTests": passed,
            "warnedTests": warned,
            "failedTests": failed,
        },
    }
    return json.dumps(statement, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _resources(digests: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()]


def _configuration(verdict: Verdict) -> dict[str, Any]:
    (resource,) = _resources({verdict.claim.name: verdict.claim.hash})
    return resource | {"annotations": {"verdict": verdict.label, "rules": outcomes(verdict)}}


# --- for papers and pages ---------------------------------------------------------------------------------------------


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


def html_text(checked: Checked) -> str:
    """One page that opens offline; every name escaped, no script."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("twinbench.reports").joinpath("templates", "claims.html.j2").read_text("utf-8")
    template = environment.from_string(source)
    claims = [_page_entry(verdict) for verdict in checked.verdicts]
    return template.render(checked=checked, claims=claims, summary=summary(checked), columns=NUMBERS_SHOWN) + "\n"


def _page_entry(verdict: Verdict) -> dict[str, Any]:
    findings = sorted(verdict.findings, key=lambda finding: RULE_ORDER.index(finding.outcome))
    counts = Counter(finding.outcome for finding in findings)
    told = [one for one in remarks(verdict) if one[0] != "numbers" or not verdict.contrasts]
    queries: dict[str, list[str]] = {}
    for finding in verdict.findings:
        if finding.query:
            queries.setdefault(finding.query, []).append(finding.rule)
    return {
        "verdict": verdict,
        "class": "good" if verdict.is_supported else "open" if verdict.word in OPEN_ENDED else "bad",
        "remarks": told,
        "numbers": [_row(contrast, verdict) for contrast in verdict.contrasts] if verdict.has_statistics else [],
        "findings": findings,
        "counts": ", ".join(f"{counts[outcome]} {outcome}" for outcome in RULE_ORDER if counts[outcome]),
        "queries": [(", ".join(rules), query) for query, rules in queries.items()],
    }


def _row(contrast: Contrast, verdict: Verdict) -> list[str]:
    """What NUMBERS_SHOWN names."""
    claim, difference = verdict.claim, contrast.difference
    if difference is None:
        return [contrast.label, *[NOTHING] * (len(NUMBERS_SHOWN) - 1)]
    wins, examples = contrast.wins, contrast.examples
    return [
        contrast.label,
        mean_text(contrast, claim),
        interval_text(contrast, claim),
        NOTHING if contrast.holm_p is None else f"{contrast.holm_p:.2g}",
        NOTHING if wins is None else f"{wins.estimate:.2f} ({wins.low:.2f} to {wins.high:.2f})",
        NOTHING
        if examples is None
        else f"{100 * examples.low:.2f} to {100 * examples.high:.2f}, {examples.n:,} images",
        NOTHING if contrast.detectable is None else amount_text(contrast.detectable, claim),
    ]


FORMS: dict[str, Callable[[Checked], str]] = {
    "terminal": terminal_text,
    "json": json_text,
    "markdown": markdown_text,
    "latex": latex_text,
    "html": html_text,
    "in-toto": in_toto_text,
}
