"""Verdicts as text: for terminals, JSON, Markdown, LaTeX, HTML, in-toto. Equal input, equal bytes."""

import json
from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from typing import Any

from twinbench.reports import latex
from twinbench.reports.checking import Checked
from twinbench.reports.contrasts import Contrast
from twinbench.reports.rules import FAILED, NOT_APPLICABLE, PASSED
from twinbench.reports.verdicts import Verdict, difference_text

RULE_ORDER = (PASSED, FAILED, NOT_APPLICABLE)
IN_TOTO = {
    "statement": "https://in-toto.io/Statement/v1",
    "predicate": "https://in-toto.io/attestation/test-result/v0.1",
}


def terminal_text(checked: Checked) -> str:
    """One block a claim: the verdict, what it rests on, the rules that failed."""
    blocks = []
    for verdict in checked.verdicts:
        lines = [f"{verdict.label}  {verdict.claim.name}", f"  claim      {_plain(verdict.claim.sentence)}"]
        lines += [f"  {name:<10} {text}" for name, text in _told(verdict)]
        lines += [
            f"  {finding.rule:<10} {finding.title}: {finding.text}"
            for finding in verdict.findings
            if finding.outcome == FAILED
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, summary(checked)]) + "\n"


def summary(checked: Checked) -> str:
    """ "7 claims: 2 supported, …"."""
    words = [verdict.word for verdict in checked.verdicts]
    counts = ", ".join(f"{words.count(word)} {word.lower().replace('_', ' ')}" for word in dict.fromkeys(sorted(words)))
    return f"{len(words)} claims: {counts}"


def _told(verdict: Verdict) -> list[tuple[str, str]]:
    """What is said of a verdict beside its word: why, the supported sentence, what would settle it."""
    told = [("because", verdict.why), ("supported", verdict.sentence if not verdict.is_supported else "")]
    return [(name, text) for name, text in told if text] + [("settled by", text) for text in verdict.settling]


def _plain(text: str) -> str:
    return " ".join(text.split())


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
        "comparisons": [_numbers(contrast) for contrast in verdict.contrasts],
        "trials": sorted({str(trial["trial_id"]) for trial in verdict.evidence.trials}),
    }


def _numbers(contrast: Contrast) -> dict[str, Any]:
    """A comparison's numbers; differences in the unit of the metric, a fraction for accuracies."""
    parts = ("difference", "wins", "sign_flip", "examples")
    told = {name: asdict(part) if (part := getattr(contrast, name)) else None for name in parts}
    effect = contrast.difference.effect_size if contrast.difference else None
    plain = {
        name: getattr(contrast, name) for name in ("label", "point", "asked", "bound", "p", "holm_p", "detectable")
    }
    sides = [side for side in (contrast.a, contrast.b) if side is not None]
    values = {side.label: {str(seed): side.values[seed] for seed in sorted(side.values)} for side in sides}
    return plain | told | {"effect_size": effect, "values": values}


def in_toto_text(checked: Checked) -> str:
    """An in-toto statement with a test-result predicate: a test per claim, whose subjects are the records' digests.

    Supported claims passed, supported but exploratory ones are warnings. Source: in-toto/attestation,
    spec/predicates/test-result.md. It is not signed: whoever wants that signs the file.
    """
    trials = {
        str(trial["trial_id"]): str(trial["result_digest"])
        for verdict in checked.verdicts
        for trial in verdict.evidence.trials
        if trial["result_digest"]
    }
    well = [verdict for verdict in checked.verdicts if verdict.is_supported]
    warned = [verdict.claim.name for verdict in well if verdict.exploratory]
    passed = [verdict.claim.name for verdict in well if not verdict.exploratory]
    failed = [verdict.claim.name for verdict in checked.verdicts if not verdict.is_supported]
    statement = {
        "_type": IN_TOTO["statement"],
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(trials.items())],
        "predicateType": IN_TOTO["predicate"],
        "predicate": {
            "result": "FAILED" if failed else "WARNED" if warned else "PASSED",
            "configuration": [
                {"name": verdict.claim.name, "digest": {"sha256": verdict.claim.hash}} for verdict in checked.verdicts
            ],
            "passedTests": passed,
            "warnedTests": warned,
            "failedTests": failed,
        },
    }
    return json.dumps(statement, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


# --- for papers and pages ---------------------------------------------------------------------------------------------


def markdown_text(checked: Checked) -> str:
    """A table of verdicts, and below it what each rests on."""
    lines = [f"# Claims of {_cell(checked.claims_file)}, judged from {_cell(checked.run)}", ""]
    lines += ["| claim | verdict | rules failed |", "| --- | --- | --- |"]
    lines += [f"| {_cell(v.claim.name)} | {_cell(v.label)} | {_failed_ids(v)} |" for v in checked.verdicts]
    for verdict in checked.verdicts:
        lines += [
            "",
            f"## {_cell(verdict.claim.name)}: {_cell(verdict.label)}",
            "",
            f"> {_cell(verdict.claim.sentence)}",
        ]
        lines += ["", *(f"- {name}: {_cell(text)}" for name, text in _told(verdict))]
        lines += [f"- {f.rule} {f.title}: {_cell(f.text)}" for f in verdict.findings if f.outcome == FAILED]
    return "\n".join([*lines, "", summary(checked), ""])


def _failed_ids(verdict: Verdict) -> str:
    return ", ".join(finding.rule for finding in verdict.findings if finding.outcome == FAILED) or "–"


def _cell(text: str) -> str:
    """Text that nothing in Markdown, or in HTML within it, takes for markup."""
    plain = _plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{character}" if character in "\\`*_[]|#~" else character for character in plain)


def latex_text(checked: Checked) -> str:
    """A booktabs table: the claim's sentence, its verdict, its numbers."""
    import pandas as pd

    rows = [
        {"Claim": _plain(verdict.claim.sentence), "Verdict": verdict.label, "Difference": _differences(verdict)}
        for verdict in checked.verdicts
    ]
    notes = [
        "Differences over paired seeds with the t interval at the confidence that Holm's correction leaves within the "
        "family. Rules in parentheses are those that the comparison breaks.",
        summary(checked),
    ]
    frame = pd.DataFrame(rows, dtype=object)
    caption = f"Claims of {checked.claims_file}, judged from the records of {checked.run}."
    return latex.table(frame, caption, "tab:claims", notes, widths={"Claim": 0.42, "Verdict": 0.2, "Difference": 0.3})


def _differences(verdict: Verdict) -> str:
    if verdict.word in ("INADMISSIBLE", "UNVERIFIABLE"):
        return "–"
    return "; ".join(difference_text(contrast, verdict.claim) for contrast in verdict.contrasts) or verdict.why


def html_text(checked: Checked) -> str:
    """One page that opens offline; every name escaped, no script."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("twinbench.reports").joinpath("templates", "claims.html.j2").read_text("utf-8")
    verdicts = [
        {"verdict": v, "told": _told(v), "numbers": [difference_text(c, v.claim) for c in v.contrasts]}
        for v in checked.verdicts
    ]
    return environment.from_string(source).render(checked=checked, verdicts=verdicts, summary=summary(checked)) + "\n"


FORMS: dict[str, Callable[[Checked], str]] = {
    "terminal": terminal_text,
    "json": json_text,
    "markdown": markdown_text,
    "latex": latex_text,
    "html": html_text,
    "in-toto": in_toto_text,
}
