"""The rules A1 to A24 that a claim is held against, each a function of the case with its source and its evidence query.

    stops       a claim that fails it is INADMISSIBLE: no statistics are printed as its support
    unverified  a claim that fails it rests on numbers without records, or on records that leave open what made them
    narrows     a claim that fails it says more than it may: what is left of it is NARROWED
    late        a claim that fails it is EXPLORATORY
    told        what fails is said beside the verdict

A rule's weight is the gravest that its failure may have; some failures weigh less, which the finding says. The checks
stand in rules_of_protocol.py, rules_of_comparison.py, rules_of_fairness.py and rules_of_words.py. Sources are named by
author and arXiv number, or by the tool whose rules say the same.
"""

from collections.abc import Callable
from dataclasses import dataclass

from twinbench.reports.rules.case import FAILED, NOT_APPLICABLE, PASSED, Case, Outcome, Weight
from twinbench.reports.rules.compute import same_compute
from twinbench.reports.rules.protocol import same_augmentation, same_backbone, same_protocol, same_split
from twinbench.reports.rules.provenance import declared_before, measured_not_reported, no_drift
from twinbench.reports.rules.scope import dataset_count, scope_words
from twinbench.reports.rules.seeds import enough_seeds, paired_seeds
from twinbench.reports.rules.selection import (
    checkpoint_rule,
    failures_counted,
    near_duplicates,
    no_leakage,
    selection_split,
    tuning_parity,
)
from twinbench.reports.rules.uncertainty import (
    defined_error_bars,
    interval_and_size,
    multiplicity,
    power,
    practical_margin,
    two_uncertainties,
)

__all__ = ["FAILED", "NOT_APPLICABLE", "PASSED", "RULES", "Case", "Finding", "Outcome", "Rule", "Weight"]


@dataclass(frozen=True)
class Finding:
    """What became of one rule: `text` says what was seen, `query` shows it in the run folder's database."""

    rule: str
    title: str
    weight: Weight
    outcome: str
    text: str
    query: str
    source: str


@dataclass(frozen=True)
class Rule:
    """One rule. `columns` of `table` are what its evidence query selects, for the trials of the claim."""

    id: str
    title: str
    weight: Weight
    check: Callable[[Case], Outcome]
    source: str
    table: str = "trials"
    columns: str = "status"

    def find(self, case: Case) -> Finding:
        """The rule held against a case."""
        seen = self.check(case)
        weight = seen[2] if len(seen) == 3 else self.weight
        return Finding(self.id, self.title, weight, seen[0], seen[1], self._query(case), self.source)

    def _query(self, case: Case) -> str:
        cells = sorted({side.cell.cell_id for side in case.evidence.measured if side.cell})
        if not cells:
            return ""
        named = ", ".join("'" + cell.replace("'", "''") + "'" for cell in cells)
        join = "" if self.table == "trials" else f" JOIN {self.table} USING (trial_id)"
        return (
            f"SELECT trial_id, method, seed, {self.columns} FROM trials{join} WHERE cell_id IN ({named}) ORDER BY ALL"
        )


ACL = "ACL reproducibility checklist"
NEURIPS = "NeurIPS paper checklist"
ALGOPERF = "AlgoPerf, mlcommons/algorithmic-efficiency"

RULES: tuple[Rule, ...] = (
    Rule(
        "A1",
        "same protocol",
        "stops",
        same_protocol,
        f"{ACL}; lm-eval task versions",
        columns="protocol_name, protocol_version, protocol_hash",
    ),
    Rule("A2", "same split", "stops", same_split, f"{ACL}; Croissant 1.1", columns="dataset_fingerprint"),
    Rule(
        "A3",
        "no leakage by design",
        "stops",
        no_leakage,
        "Kapoor & Narayanan, arXiv 2207.07048",
        columns="protocol_hash",
    ),
    Rule(
        "A4",
        "near duplicates",
        "stops",
        near_duplicates,
        "Barz & Denzler, arXiv 1902.00423",
        columns="dataset_fingerprint",
    ),
    Rule(
        "A5",
        "selection split",
        "stops",
        selection_split,
        "Musgrave et al., arXiv 2003.08505",
        "metrics",
        "split, selected_on, candidates, selected",
    ),
    Rule(
        "A6", "checkpoint rule", "stops", checkpoint_rule, "Musgrave et al., arXiv 2003.08505", columns="protocol_hash"
    ),
    Rule("A7", "tuning parity", "stops", tuning_parity, f"Dodge et al., D19-1224; {ALGOPERF}", columns="cell_id"),
    Rule("A8", "failures counted", "stops", failures_counted, ALGOPERF, columns="status, reason"),
    Rule("A9", "enough seeds, and all of them", "stops", enough_seeds, "Bouthillier et al., arXiv 2103.03098"),
    Rule("A10", "paired seeds", "told", paired_seeds, "arXiv 2511.19794; benchopt get_seed"),
    Rule("A11", "same augmentation", "told", same_augmentation, "AugSelf, arXiv 2111.09613", columns="protocol_hash"),
    Rule("A12", "same compute", "stops", same_compute, ALGOPERF, columns="images_seen, train_seconds"),
    Rule("A13", "same backbone", "stops", same_backbone, "lightly's benchmark notes", columns="protocol_hash"),
    Rule("A14", "two uncertainties", "told", two_uncertainties, "Jordan, arXiv 2304.01910", "files", "outputs_file"),
    Rule("A15", "error bars defined", "told", defined_error_bars, NEURIPS),
    Rule(
        "A16",
        "interval and effect size",
        "told",
        interval_and_size,
        "autorank; rliable",
        "metrics",
        "name, split, value",
    ),
    Rule("A17", "multiplicity", "stops", multiplicity, "Holm 1979; Demsar 2006"),
    Rule("A18", "power", "told", power, "Colas et al., How Many Random Seeds?"),
    Rule("A19", "practical margin", "told", practical_margin, "Kruschke & Liddell 2018", columns="protocol_hash"),
    Rule("A20", "scope in the words", "narrows", scope_words, NEURIPS, columns="protocol_name"),
    Rule("A21", "measured, not reported", "unverified", measured_not_reported, "huggingface_hub EvalResult.verified"),
    Rule("A22", "no drift", "stops", no_drift, ALGOPERF, columns='"commit", code_hash, device, "precision", "mode"'),
    Rule("A23", "number of datasets", "narrows", dataset_count, "Demsar 2006", columns="dataset_fingerprint"),
    Rule("A24", "declared before", "late", declared_before, "REFORMS, arXiv 2308.07832", columns="finished"),
)
