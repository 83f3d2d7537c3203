"""From a case to the verdict on its claim: rules first, then the records, then the statistics."""

from collections.abc import Sequence

from twinbench.reports.claims.contrasts import COLLAPSE_KINDS
from twinbench.reports.rules.case import LATE, NARROWS, STOPS, UNVERIFIED, Case
from twinbench.reports.rules.registry import RULES, Finding
from twinbench.reports.verdicts.claim_sentence import unlike_protocol
from twinbench.reports.verdicts.combine import combine, holding
from twinbench.reports.verdicts.parts import judge_parts
from twinbench.reports.verdicts.phrasing import relation_text
from twinbench.reports.verdicts.remedies import remedies
from twinbench.reports.verdicts.verdict import Judgement, Part, Verdict


def judge(case: Case) -> Verdict:
    """Return the verdict on one claim."""
    findings = tuple(rule.find(case) for rule in RULES)
    failed = [finding for finding in findings if finding.outcome == "failed"]
    stopping = [finding.rule for finding in failed if finding.weight == STOPS]
    parts: list[Part] = []
    judgement = _without_statistics(case, failed)
    if judgement is None:
        parts = judge_parts(case)
        judgement = _narrowed_by_rules(combine(case.evidence.claim, parts), failed)
    return Verdict(
        case.evidence.claim,
        judgement.word,
        ", ".join(stopping) or judgement.part,
        any(finding.weight == LATE for finding in failed),
        judgement.reason,
        _supported_sentence(case, judgement, parts),
        tuple(remedies(case, judgement, parts, stopping)),
        findings,
        case.contrasts,
        case.evidence,
    )


def _without_statistics(case: Case, failed: Sequence[Finding]) -> Judgement | None:
    """Return INADMISSIBLE or UNVERIFIABLE, whatever the numbers are; None where the statistics decide."""
    evidence = case.evidence
    if stopping := [finding for finding in failed if finding.weight == STOPS]:
        return Judgement("INADMISSIBLE", "; ".join(f"{finding.rule}: {finding.text}" for finding in stopping))
    if unverified := [finding for finding in failed if finding.weight == UNVERIFIED]:
        return Judgement("UNVERIFIABLE", unverified[0].text)
    counts_trials = evidence.claim.kind in COLLAPSE_KINDS  # such a claim needs no metric of its trials
    bare = [side for side in evidence.sides if not side.has_values and not (counts_trials and side.trials)]
    if absent := [side.label for side in bare]:
        return Judgement("UNVERIFIABLE", f"no result of {', '.join(dict.fromkeys(absent))}")
    if any(b is None for _, b, _ in evidence.pairs) and evidence.claim.kind == "best_of":
        return Judgement("UNVERIFIABLE", "there is no other method to compare with")
    return None


def _narrowed_by_rules(judgement: Judgement, failed: Sequence[Finding]) -> Judgement:
    """Return NARROWED for a claim that holds while its sentence says more than was compared."""
    rules = ", ".join(finding.rule for finding in failed if finding.weight == NARROWS)
    if not judgement.is_supporting or not rules:
        return judgement
    return Judgement("NARROWED", "the comparison holds, but the sentence says more", rules)


def _supported_sentence(case: Case, judgement: Judgement, parts: Sequence[Part]) -> str:
    """Return what the records support, in words; empty where that is nothing."""
    evidence, claim = case.evidence, case.evidence.claim
    section = next((side.section for side in evidence.sides if side.section), None)
    if section is None or judgement.word in ("INADMISSIBLE", "UNVERIFIABLE"):
        return ""
    if judgement.word == "NARROWED" and any(not part.judgement.is_supporting for part in parts):
        _, parts = holding(claim, parts)
    under = ", ".join(filter(None, (f"Under protocol {section.protocol_id}", unlike_protocol(evidence))))
    if claim.kind in COLLAPSE_KINDS:
        texts = [f"{part.label}: {part.judgement.reason}" for part in parts]
        return f"{under}: {'; '.join(texts)}."
    relations = "; ".join(
        relation_text(part.contrast, claim, evidence.margin, part.judgement.word != "UNDERPOWERED")
        for part in parts
        if part.contrast
    )
    metric = f"in {claim.metric} on test" if claim.metric.endswith("top1") else f"in {claim.metric}"
    return f"{under}, {metric}: {relations}."
