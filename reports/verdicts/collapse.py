"""The judgement on claims of collapse: how many trials collapsed."""

import math
from collections.abc import Sequence

from twinbench.reports.claims.evidence import Evidence
from twinbench.reports.rules.case import Case
from twinbench.reports.statistics.intervals import ALPHA
from twinbench.reports.statistics.superiority import clopper_pearson
from twinbench.reports.tables.run import TrialRow
from twinbench.reports.verdicts.verdict import Judgement, Part

COLLAPSED_BELOW = 0.1  # feature_std, where the protocol gives none: a tenth of that of directions spread evenly


def judge_collapses(case: Case) -> list[Part]:
    """Return one part for each point of the scope."""
    return [Part(point, side.label, judge_collapse(case, side.trials)) for side, _, point in case.evidence.pairs]


def judge_collapse(case: Case, trials: Sequence[TrialRow]) -> Judgement:
    """Judge by how many trials collapsed: by their status, or by the final spread of their features.

    Supported where the exact interval of the share, at alpha over the family, lies above one half and all trials agree.
    A trial whose features were not measured counts against the claim, whichever way it goes.
    """
    claim, level = case.evidence.claim, ALPHA / case.family_size
    below = case.evidence.content.get("collapsed_below") or COLLAPSED_BELOW
    collapsed = [_has_collapsed(trial, case.evidence, below) for trial in trials]
    unknown = collapsed.count(None)
    if unknown == len(collapsed):
        return Judgement("UNVERIFIABLE", "no trial has a measured spread of features")
    n, hits = len(collapsed), collapsed.count(claim.kind == "collapses")
    low, high = clopper_pearson(hits, n, 1 - level)
    verb = "collapsed" if claim.kind == "collapses" else "did not collapse"
    not_measured = f", {unknown} unknown" if unknown else ""
    reason = f"{hits} of {n} trials {verb}{not_measured} (share of all seeds {low:.2f} to {high:.2f})"
    if low > 0.5:
        return Judgement("SUPPORTED" if hits == n else "DIRECTION_ONLY", reason)
    return Judgement("CONTRADICTED" if high < 0.5 else "UNDERPOWERED", reason)


def _has_collapsed(trial: TrialRow, evidence: Evidence, below: float) -> bool | None:
    """Whether the trial collapsed; None where its features were not measured."""
    if trial["status"] == "collapsed":
        return True
    spread = evidence.feature_std.get(str(trial["trial_id"]))
    return None if spread is None or math.isnan(spread) else spread < below
