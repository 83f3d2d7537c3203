"""Verdicts as JSON."""

import json
from dataclasses import asdict

from twinbench.reports.claims.contrasts import Contrast
from twinbench.reports.claims.evidence import Side
from twinbench.reports.statistics.hypothesis_tests import wilcoxon_test
from twinbench.reports.statistics.intervals import ALPHA, seed_differences
from twinbench.reports.statistics.per_example import Correct, mcnemar
from twinbench.reports.verdicts.verdict import Checked, Verdict


def json_text(checked: Checked) -> str:
    """Return all verdicts, each with its numbers and its 24 findings."""
    content = {
        "claims_file": checked.claims_file,
        "run": checked.run,
        "all_supported": checked.all_supported,
        "verdicts": [_content(verdict) for verdict in checked.verdicts],
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _content(verdict: Verdict) -> dict[str, object]:
    return {
        "claim": asdict(verdict.claim) | {"hash": verdict.claim.hash},
        "verdict": verdict.word,
        "detail": verdict.detail,
        "exploratory": verdict.exploratory,
        "label": verdict.label,
        "why": verdict.reason,
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
    names = ("label", "point", "bound", "p", "holm_p", "detectable")
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
