"""Verdicts as an in-toto test result statement."""

import json
from typing import Any

from twinbench.reports.verdicts.formats.text import outcomes
from twinbench.reports.verdicts.verdict import (
    Checked,
    Verdict,
)

IN_TOTO = {
    "statement": "https://in-toto.io/Statement/v1",
    "predicate": "https://in-toto.io/attestation/test-result/v0.1",
}


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
