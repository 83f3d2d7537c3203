"""The rules A1 to A24, in order. RULES gives each rule's id, title, module and function, weight, and source.

A claim is judged by every rule. A rule's weight says what its failure does to the verdict (see case.py); a rule can
give one failure another weight, which the finding then shows. Sources are named by author and arXiv number,
or by the tool or checklist with the same rule.
"""

from collections.abc import Callable
from dataclasses import dataclass

from twinbench.reports.rules import declared, protocol, provenance, scope, seeds, selection, uncertainty
from twinbench.reports.rules.case import LATE, NARROWS, NOTED, STOPS, UNVERIFIED, Case, Outcome, Result, Weight


@dataclass(frozen=True)
class Finding:
    """What became of one rule: `text` says what was found, `query` shows it in the run folder's database."""

    rule: str
    title: str
    weight: Weight
    outcome: Result
    text: str
    query: str
    source: str


@dataclass(frozen=True)
class Rule:
    """One rule. Its evidence query selects `columns` of `table` for the trials of the claim."""

    id: str
    title: str
    check: Callable[[Case], Outcome]
    weight: Weight
    source: str
    columns: str = "status"
    table: str = "trials"

    def find(self, case: Case) -> Finding:
        """Apply the rule to a case."""
        outcome = self.check(case)
        weight = outcome.weight or self.weight
        return Finding(self.id, self.title, weight, outcome.result, outcome.text, self._query(case), self.source)

    def _query(self, case: Case) -> str:
        cells = sorted({side.cell.cell_id for side in case.evidence.measured if side.cell})
        if not cells:
            return ""
        ids = ", ".join("'" + cell.replace("'", "''") + "'" for cell in cells)
        join = "" if self.table == "trials" else f" JOIN {self.table} USING (trial_id)"
        return f"SELECT trial_id, method, seed, {self.columns} FROM trials{join} WHERE cell_id IN ({ids}) ORDER BY ALL"


ACL = "ACL reproducibility checklist"
NEURIPS = "NeurIPS paper checklist"
ALGOPERF = "AlgoPerf, mlcommons/algorithmic-efficiency"
MUSGRAVE = "Musgrave et al., arXiv 2003.08505"

PROTOCOL = "protocol_hash"
FINGERPRINT = "dataset_fingerprint"

# fmt: off
RULES: tuple[Rule, ...] = (
    Rule("A1", "same protocol", protocol.same_protocol, STOPS, f"{ACL}; lm-eval task versions",
         "protocol_name, protocol_version, protocol_hash"),
    Rule("A2", "same split", protocol.same_split, STOPS, f"{ACL}; Croissant 1.1", FINGERPRINT),
    Rule("A3", "no leakage by design", selection.no_leakage, STOPS, "Kapoor & Narayanan, arXiv 2207.07048", PROTOCOL),
    Rule("A4", "near duplicates", selection.near_duplicates, STOPS, "Barz & Denzler, arXiv 1902.00423", FINGERPRINT),
    Rule("A5", "selection split", selection.selection_split, STOPS, MUSGRAVE,
         "split, selected_on, candidates, selected", "metrics"),
    Rule("A6", "checkpoint rule", selection.checkpoint_rule, STOPS, MUSGRAVE, PROTOCOL),
    Rule("A7", "tuning parity", selection.tuning_parity, STOPS, f"Dodge et al., D19-1224; {ALGOPERF}", "cell_id"),
    Rule("A8", "failures counted", selection.failures_counted, STOPS, ALGOPERF, "status, reason"),
    Rule("A9", "enough seeds, and all of them", seeds.enough_seeds, STOPS, "Bouthillier et al., arXiv 2103.03098"),
    Rule("A10", "paired seeds", seeds.paired_seeds, NOTED, "arXiv 2511.19794; benchopt get_seed"),
    Rule("A11", "same augmentation", protocol.same_augmentation, NOTED, "AugSelf, arXiv 2111.09613", PROTOCOL),
    Rule("A12", "same compute", protocol.same_compute, STOPS, ALGOPERF, "images_seen, train_seconds"),
    Rule("A13", "same backbone", protocol.same_backbone, STOPS, "lightly's benchmark notes", PROTOCOL),
    Rule("A14", "two uncertainties", uncertainty.two_uncertainties, NOTED, "Jordan, arXiv 2304.01910",
         "outputs_file", "files"),
    Rule("A15", "error bars defined", uncertainty.defined_error_bars, NOTED, NEURIPS),
    Rule("A16", "interval and effect size", uncertainty.interval_and_size, NOTED, "autorank; rliable",
         "name, split, value", "metrics"),
    Rule("A17", "multiplicity", uncertainty.multiplicity, STOPS, "Holm 1979; Demsar 2006"),
    Rule("A18", "power", uncertainty.power, NOTED, "Colas et al., How Many Random Seeds?"),
    Rule("A19", "practical margin", uncertainty.practical_margin, NOTED, "Kruschke & Liddell 2018", PROTOCOL),
    Rule("A20", "scope in the words", scope.scope_words, NARROWS, NEURIPS, "protocol_name"),
    Rule("A21", "measured, not reported", provenance.measured_not_reported, UNVERIFIED,
         "huggingface_hub EvalResult.verified"),
    Rule("A22", "no drift", provenance.no_drift, STOPS, ALGOPERF,
         '"commit", code_hash, device, "precision", "mode"'),
    Rule("A23", "number of datasets", scope.dataset_count, NARROWS, "Demsar 2006", FINGERPRINT),
    Rule("A24", "declared before", declared.declared_before, LATE, "REFORMS, arXiv 2308.07832", "finished"),
)
# fmt: on
