"""Verdicts as an in-toto test result statement."""

import json

from twinbench.reports.verdicts.formats.text import outcomes
from twinbench.reports.verdicts.verdict import Checked, Verdict

IN_TOTO = {
    "statement": "https://in-toto.io/Statement/v1",
    "predicate": "https://in-toto.io/attestation/test-result/v0.1",
}


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


def _resources(digests: dict[str, str]) -> list[dict[str, object]]:
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()]


def _configuration(verdict: Verdict) -> dict[str, object]:
    (resource,) = _resources({verdict.claim.name: verdict.claim.hash})
    return resource | {"annotations": {"verdict": verdict.label, "rules": outcomes(verdict)}}
