"""Verdicts as JSON."""

import json
from dataclasses import asdict
from typing import Any

from twinbench.reports.claims.contrasts import Contrast
from twinbench.reports.claims.evidence import Side
from twinbench.reports.statistics.hypothesis_tests import wilcoxon_test
from twinbench.reports.statistics.intervals import ALPHA, seed_differences
from twinbench.reports.statistics.per_example import Correct, mcnemar
from twinbench.reports.verdicts.verdict import (
    Checked,
    Verdict,
)


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
    names = ("label", "point", "bound", "p", "holm_p", "detectable")
    sides = [side for side in (contrast.a, contrast.b) if side is not None]
    values = {side.label: {str(seed): side.values[seed] for seed in sorted(side.values)} for side in sides}
    told |= {"wilcoxon": _wilcoxon(contrast), "mcnemar": _mcnemar(contrast)}
    numbers = {name: getattr(contrast, name) for name in names} | {"asked": contrast.criterion}
    return numbers | told | {"effect_size": effect, "values": values}


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
