"""Verdicts as JSON, and as an in-toto test result statement."""

import json
from dataclasses import asdict

from twinbench.reports.claims.contrasts import Contrast
from twinbench.reports.claims.evidence import Side
from twinbench.reports.statistics.hypothesis_tests import wilcoxon_test
from twinbench.reports.statistics.intervals import ALPHA, seed_differences
from twinbench.reports.statistics.per_example import Correct, mcnemar
from twinbench.reports.verdicts.formats.text import outcomes
from twinbench.reports.verdicts.verdict import Checked, Verdict


def json_text(checked: Checked) -> str:
    """Return all verdicts, each with its numbers and its 24 findings."""
    content = {
        "claims_file": checked.claims_file,
        "run": checked.run,
        "all_supported": checked.all_supported,
        "verdicts": [_content(verdict) for verdict in checked.verdicts],
    }
    return _dumped(content)


def _content(verdict: Verdict) -> dict[str, object]:
    return {
        "claim": asdict(verdict.claim) | {"hash": verdict.claim.hash},
        "verdict": verdict.word,
        "detail": verdict.detail,
        "exploratory": verdict.exploratory,
        "label": verdict.label,
        "why": verdict.reason,
        "judged_sentence": verdict.judged,
        "supported_sentence": verdict.sentence,
        "settled_by": list(verdict.settled_by),
        "findings": [asdict(finding) for finding in verdict.findings],
        "comparisons": [_numbers(contrast) for contrast in verdict.contrasts] if verdict.has_statistics else [],
        "trials": sorted({str(trial["trial_id"]) for trial in verdict.evidence.trials}),
        "missing_trials": sorted({str(t["trial_id"]) for t in verdict.evidence.trials if t["status"] == "missing"}),
    }


def _numbers(contrast: Contrast) -> dict[str, object]:
    """Return a comparison's numbers. Differences are in the unit of the metric with more being better."""
    parts = ("difference", "wins", "sign_flip", "examples")
    statistics = {name: asdict(part) if (part := getattr(contrast, name)) else None for name in parts}
    effect = contrast.difference.effect_size if contrast.difference else None
    names = ("label", "point", "bound", "target", "p", "holm_p", "detectable")
    sides = [side for side in (contrast.a, contrast.b) if side is not None]
    values = {side.label: {str(seed): side.values[seed] for seed in sorted(side.values)} for side in sides}
    statistics |= {"wilcoxon": _wilcoxon(contrast), "mcnemar": _mcnemar(contrast)}
    numbers = {name: getattr(contrast, name) for name in names} | {"asked": contrast.criterion}
    return numbers | statistics | {"effect_size": effect, "values": values}


def _wilcoxon(contrast: Contrast) -> dict[str, object] | None:
    """Return a test next to the judged interval, for readers who do not assume normal differences between seeds."""
    if contrast.b is None or contrast.difference is None or not contrast.difference.paired:
        return None
    return asdict(wilcoxon_test(seed_differences(contrast.a.values, contrast.b.values), ALPHA))


def _mcnemar(contrast: Contrast) -> dict[str, object]:
    """Return, for each seed that both sides have, McNemar's test of the two networks on the same examples."""
    of_a, of_b = _correct_by_seed(contrast.a), _correct_by_seed(contrast.b)
    return {str(seed): asdict(mcnemar(of_a[seed], of_b[seed])) for seed in sorted(of_a.keys() & of_b.keys())}


def _correct_by_seed(side: Side | None) -> dict[int, Correct]:
    """Return the per-example outputs by seed; empty unless every done trial of the side has them."""
    if side is None or side.correct is None or len(side.correct) != len(side.values):
        return {}
    return dict(zip(sorted(side.values), side.correct, strict=True))


def in_toto_text(checked: Checked) -> str:
    """Return an unsigned in-toto statement of test results: one test per claim, with the records as subjects.

    Supported claims are passed tests, supported exploratory ones are warnings, all others failed. Without any record
    the claims themselves are the subjects, since a statement must have some. Each claim is a configuration, with its
    verdict and rules as annotations. Source: in-toto/attestation, spec/predicates/test-result.md and
    spec/v1/resource_descriptor.md.
    """
    trials = {
        str(trial["trial_id"]): str(trial["result_digest"])
        for verdict in checked.verdicts
        for trial in verdict.evidence.trials
        if trial["result_digest"]
    }
    claims = {verdict.claim.name: verdict.claim.hash for verdict in checked.verdicts}
    supported = [verdict for verdict in checked.verdicts if verdict.is_supported]
    warned = [verdict.claim.name for verdict in supported if verdict.exploratory]
    passed = [verdict.claim.name for verdict in supported if not verdict.exploratory]
    failed = [verdict.claim.name for verdict in checked.verdicts if not verdict.is_supported]
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": _resources(dict(sorted(trials.items())) or claims),
        "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
        "predicate": {
            "result": "FAILED" if failed else "WARNED" if warned else "PASSED",
            "configuration": [
                resource | {"annotations": _annotations(verdict)}
                for resource, verdict in zip(_resources(claims), checked.verdicts, strict=True)
            ],
            "passedTests": passed,
            "warnedTests": warned,
            "failedTests": failed,
        },
    }
    return _dumped(statement)


def _annotations(verdict: Verdict) -> dict[str, object]:
    words = {"judged_sentence": verdict.judged, "authors_sentence": verdict.claim.sentence}
    return {"verdict": verdict.label, "rules": outcomes(verdict), **words}


def _resources(digests: dict[str, str]) -> list[dict[str, object]]:
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()]


def _dumped(content: object) -> str:
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
