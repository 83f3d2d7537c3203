"""The rules A1 to A24 that a claim is held against, each a function of the case with its source and its evidence query.

    stops       a claim that fails it is INADMISSIBLE: no statistics are printed as its support
    unverified  a claim that fails it rests on numbers that no record stands behind
    late        a claim that fails it is EXPLORATORY
    told        what fails is said beside the verdict

Sources are named by author and arXiv number, or by the tool whose rules say the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from twinbench.reports.contrasts import COLLAPSE_KINDS, Contrast
from twinbench.reports.evidence import Evidence, Side
from twinbench.sweeps.identity import digest
from twinbench.sweeps.protocol import PROSE
from twinbench.sweeps.values import differences

PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "not applicable"
Outcome = tuple[str, str]  # one of the three, and what was seen
Weight = Literal["stops", "unverified", "late", "told"]

IMAGES_SEEN_APART = 0.1  # more than this share apart is another budget of compute
# Test images with a near duplicate in train (Barz & Denzler, arXiv 1902.00423).
NEAR_DUPLICATES = {"cifar10": 0.033, "cifar100": 0.10}
DRIFTING = ("commit", "code_hash", "device", "precision")


@dataclass(frozen=True)
class Case:
    """A claim with its evidence and its contrasts, judged within a family of so many."""

    evidence: Evidence
    contrasts: tuple[Contrast, ...]
    family_size: int


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
        outcome, text = self.check(case)
        return Finding(self.id, self.title, self.weight, outcome, text, self._query(case), self.source)

    def _query(self, case: Case) -> str:
        cells = sorted({side.cell.cell_id for side in case.evidence.measured if side.cell})
        if not cells:
            return ""
        named = ", ".join(f"'{cell}'" for cell in cells)
        join = "" if self.table == "trials" else f" JOIN {self.table} USING (trial_id)"
        return (
            f"SELECT trial_id, method, seed, {self.columns} FROM trials{join} WHERE cell_id IN ({named}) ORDER BY ALL"
        )


def _passed_if(passed: bool, well: str, ill: str) -> Outcome:
    return (PASSED, well) if passed else (FAILED, ill)


def _distinct(values: Sequence[Any]) -> list[str]:
    return sorted({str(value) for value in values})


def _no_record(case: Case) -> bool:
    return not case.evidence.measured


NO_RECORD = (NOT_APPLICABLE, "no record stands behind these numbers")


# --- what makes a comparison one (A1 to A8, A13) --------------------------------------------------------------------


def same_protocol(case: Case) -> Outcome:
    """One content hash on all sides, that of the protocol the claim names, whole, and as that version is locked."""
    if _no_record(case):
        return NO_RECORD
    claim, sides = case.evidence.claim, case.evidence.measured
    sections = {side.section.protocol_hash: side.section for side in sides if side.section}
    if len(sections) > 1:
        first, second = list(sections.values())[:2]
        keys = [f"{d.key} ({d.left} and {d.right})" for d in differences(first.content, second.content)[:5]]
        return FAILED, f"{first.protocol_id} and {second.protocol_id} differ: {', '.join(keys) or 'in name alone'}"
    section = next(iter(sections.values()))
    if claim.protocol and section.protocol_name != claim.protocol:
        return FAILED, f"the claim names {claim.protocol}, the trials ran under {section.protocol_id}"
    if digest({key: value for key, value in section.content.items() if key not in PROSE}) != section.protocol_hash:
        return FAILED, f"the content of {section.protocol_id} is not what its hash stands for"
    locked = case.evidence.locked.get((section.protocol_name, section.protocol_version or 0))
    if locked not in (None, section.protocol_hash, section.base_hash):
        return FAILED, f"{section.protocol_id} bears the name and version of {locked[:12] if locked else ''}"
    table = case.evidence.table
    if table is not None and claim.kind == "equals" and section.protocol_name not in table.restated_by:
        restating = ", ".join(table.restated_by) or "no protocol of ours"
        return FAILED, f"{table.name} is restated by {restating}, not by {section.protocol_name}"
    deviations = f", with deviations: {section.deviations_text}" if section.deviations else ""
    return PASSED, f"{section.protocol_id}{deviations}"


def same_split(case: Case) -> Outcome:
    """The same decoded images and labels, and the same division of them, on all sides."""
    if _no_record(case):
        return NO_RECORD
    prints = _distinct([trial["dataset_fingerprint"] for trial in case.evidence.trials])
    return _passed_if(len(prints) == 1, f"dataset {prints[0][:19]}", f"datasets differ: {', '.join(prints)}")


def no_leakage(case: Case) -> Outcome:
    """Pretraining, probes, selection and test each on images of their own."""
    if _no_record(case):
        return NO_RECORD
    rule = case.evidence.content.get("dataset", {})
    if not rule.get("validation_fraction"):
        return NOT_APPLICABLE, "the protocol holds out no validation images: see A5"
    return PASSED, "pretraining and probes use the train split without the validation images held out of it"


def near_duplicates(case: Case) -> Outcome:
    """How many test images have a near duplicate among the training images."""
    name = _dataset_name(case)
    if name not in NEAR_DUPLICATES:
        return NOT_APPLICABLE, f"no rate of near duplicates is known for {name or 'this dataset'}"
    return (
        PASSED,
        f"{NEAR_DUPLICATES[name]:.1%} of the test images of {name} have near duplicates in train, for all alike",
    )


def selection_split(case: Case) -> Outcome:
    """What is reported on test was selected on other images, out of a number of candidates that is on record."""
    table = case.evidence.table
    if case.evidence.claim.is_about_a_table and table is not None:
        if case.evidence.claim.metric in ("minutes", "peak_memory_gb"):
            return NOT_APPLICABLE, "a cost is not selected"
        selected, reported = table.protocol.selected_on, table.protocol.reported_on
        if selected is None or reported is None:
            return NOT_APPLICABLE, f"{table.name} does not say what its numbers were selected on"
        return _passed_if(
            selected != reported, f"selected on {selected}", f"{table.name}: selected and reported on {selected}"
        )
    rows = [row for side in case.evidence.measured for row in side.measurements]
    if not rows:
        return NOT_APPLICABLE, "nothing was selected"
    selected_on = _distinct([row["selected_on"] for row in rows])
    unknown = [row for row in rows if row["selected_on"] is None or row["candidates"] is None]
    if unknown:
        return FAILED, f"{len(unknown)} values do not say what they were selected on, or out of how many"
    candidates = _distinct([int(row["candidates"]) for row in rows])
    told = f"selected on {', '.join(selected_on)} out of {' or '.join(candidates)}, reported on test"
    return _passed_if("test" not in selected_on, told, f"{told}: the best of a look at the answers")


def checkpoint_rule(case: Case) -> Outcome:
    """The last epoch, or the best on validation; never the best on test."""
    table = case.evidence.table
    if case.evidence.claim.is_about_a_table and table is not None:
        if case.evidence.claim.metric in ("minutes", "peak_memory_gb"):
            return NOT_APPLICABLE, "a cost belongs to no checkpoint"
        rule = table.protocol.checkpoint
        if rule is None:
            return NOT_APPLICABLE, f"{table.name} does not say which checkpoint it reports"
    else:
        rule = case.evidence.content.get("checkpoint")
    if rule is None:
        return NO_RECORD
    return _passed_if(rule != "best_on_test", f"checkpoint: {rule}", "checkpoint: the best on test, epoch by epoch")


def tuning_parity(case: Case) -> Outcome:
    """As many cells to choose from on one side as on the other; those tried count where the claim came after them."""
    sides = case.evidence.measured
    if len(sides) < 2 or case.evidence.claim.axis:
        return NOT_APPLICABLE, "one method is not tuned against another"
    late = case.evidence.declared is None
    counts = {
        side.label: side.tried if late else side.candidates
        for side in sides
        if side.cell is not None and not side.cell.is_baseline
    }
    what = "cells tried" if late else "cells to choose from"
    told = ", ".join(f"{label}: {count} {what}" for label, count in counts.items())
    return _passed_if(len(set(counts.values())) < 2, told, f"unequal budgets: {told}")


def failures_counted(case: Case) -> Outcome:
    """Every planned trial ended, and none that was started has vanished."""
    if _no_record(case):
        return NO_RECORD
    states = [str(trial["status"]) for trial in case.evidence.trials]
    missing = [str(trial["trial_id"]) for trial in case.evidence.trials if trial["status"] == "missing"]
    if missing:
        return FAILED, f"{len(missing)} planned trials have no record: {', '.join(missing[:5])}"
    if gone := case.evidence.attempted_without_record:
        return FAILED, f"{len(gone)} trials were started and have neither a plan nor a record: {', '.join(gone[:5])}"
    ill = [state for state in states if state != "done"]
    if ill and case.evidence.claim.kind not in COLLAPSE_KINDS:
        return (
            FAILED,
            f"{len(ill)} of {len(states)} trials did not end well ({', '.join(_distinct(ill))}): left out, "
            "they would make the mean one of those that did",
        )
    return PASSED, f"{len(states)} trials, all ended"


def same_backbone(case: Case) -> Outcome:
    """The same architecture and stem under every method."""
    if _no_record(case):
        return NO_RECORD
    backbones = _distinct([side.section.content.get("backbone") for side in case.evidence.measured if side.section])
    return _passed_if(len(backbones) == 1, backbones[0], f"backbones differ: {'; '.join(backbones)}")


# --- what makes it a fair one (A9 to A13) ---------------------------------------------------------------------------


def enough_seeds(case: Case) -> Outcome:
    """At least the protocol's number of seeds, and all that were run: no seed of the folder is left out."""
    if case.evidence.table is not None and case.evidence.claim.is_about_a_table:
        n = case.evidence.table.protocol.n_seeds
        return (
            (NOT_APPLICABLE, "the number of seeds is unknown") if n is None else _passed_if(n > 2, f"{n}", f"{n} seed")
        )
    sides = [side for side in case.evidence.measured if side.cell and not side.cell.is_baseline]
    if not sides:
        return NO_RECORD
    least = int(case.evidence.content.get("minimum_seeds", 1))
    seeds = {side.label: sorted(int(trial["seed"]) for trial in side.trials) for side in sides}
    few = [f"{label} has {len(of)}" for label, of in seeds.items() if len(of) < least]
    if few:
        return FAILED, f"the protocol asks for {least} seeds: {', '.join(few)}"
    ran = _seeds_of_the_folder(sides)
    left_out = [f"{label} without {sorted(ran - set(of))}" for label, of in seeds.items() if ran - set(of)]
    return _passed_if(not left_out, f"seeds {sorted(ran)}", f"seeds that were run are left out: {', '.join(left_out)}")


def _seeds_of_the_folder(sides: Sequence[Side]) -> set[int]:
    """Every seed that any trained method has in the sections that the sides come from."""
    sections = {id(side.section): side.section for side in sides if side.section}.values()
    cells = [cell for section in sections for cell in section.cells if not cell.is_baseline]
    return {int(trial["seed"]) for cell in cells for trial in cell.trials}


def paired_seeds(case: Case) -> Outcome:
    """The same seeds on both sides, whose trials saw the same images in the same order."""
    compared = [contrast for contrast in case.contrasts if contrast.b is not None and contrast.difference]
    if not compared or _no_record(case):
        return NOT_APPLICABLE, "no two sides that were measured"
    unpaired = [c.label for c in compared if c.b is not None and c.a.values.keys() != c.b.values.keys()]
    pairs = sorted({c.difference.n for c in compared if c.difference})
    told = f"{' or '.join(map(str, pairs))} pairs{_correlation(compared)}"
    return _passed_if(not unpaired, told, f"unequal seeds: {'; '.join(unpaired)}")


def _correlation(compared: Sequence[Contrast]) -> str:
    found = [c.difference.correlation for c in compared if c.difference and c.difference.correlation is not None]
    return f", correlation of the sides {min(found):.2f} to {max(found):.2f}" if found else ""


def same_augmentation(case: Case) -> Outcome:
    """One recipe of views for all."""
    if _no_record(case):
        return NO_RECORD
    recipes = _distinct([digest(side.section.content.get("views")) for side in case.evidence.measured if side.section])
    return _passed_if(len(recipes) == 1, f"recipe {recipes[0][:12]}", f"recipes differ: {', '.join(recipes)}")


def same_compute(case: Case) -> Outcome:
    """As many images seen, within a tenth."""
    seen = {
        side.label: _images_seen(side) for side in case.evidence.measured if side.cell and not side.cell.is_baseline
    }
    counts = [count for count in seen.values() if count]
    if len(counts) < 2 or case.evidence.claim.axis in ("epochs", "batch_size"):
        return NOT_APPLICABLE, "compute is not compared"
    told = ", ".join(f"{label}: {count:,.0f} images" for label, count in seen.items() if count)
    return _passed_if(max(counts) <= min(counts) * (1 + IMAGES_SEEN_APART), told, f"unequal compute: {told}")


def _images_seen(side: Side) -> float:
    counts = [float(trial["images_seen"]) for trial in side.trials if trial["images_seen"]]
    return sum(counts) / len(counts) if counts else 0.0


# --- what the numbers carry (A14 to A19) ----------------------------------------------------------------------------


def two_uncertainties(case: Case) -> Outcome:
    """An interval over seeds and one over test examples."""
    if not case.contrasts or not case.evidence.claim.metric.endswith("top1"):
        return NOT_APPLICABLE, "no accuracies are compared"
    lacking = [c.label for c in case.contrasts if c.b is not None and c.examples is None]
    if case.evidence.claim.kind == "equals":
        return NOT_APPLICABLE, "the reported value has no examples to pair with"
    return _passed_if(not lacking, "over seeds and over test examples", f"no per-example outputs: {'; '.join(lacking)}")


def defined_error_bars(case: Case) -> Outcome:
    """Which factor varies, by which formula."""
    if case.evidence.claim.is_about_a_table:
        return FAILED, "the source gives no interval"
    if not any(contrast.low is not None for contrast in case.contrasts):
        return NOT_APPLICABLE, "no interval is shown"
    return PASSED, "t intervals over seeds, with everything else held fixed"


def interval_and_size(case: Case) -> Outcome:
    """The difference with its interval, Cohen's d and P(A > B)."""
    if not case.contrasts:
        return NOT_APPLICABLE, "no difference is claimed"
    lacking = [contrast.label for contrast in case.contrasts if contrast.low is None]
    return _passed_if(not lacking, "interval, effect size and P(A > B)", f"below two seeds: {'; '.join(lacking)}")


def multiplicity(case: Case) -> Outcome:
    """Holm's correction over all comparisons of the family."""
    if not case.contrasts:
        return NOT_APPLICABLE, "no test is made"
    count, family = case.family_size, case.evidence.claim.family
    return PASSED, f"Holm over the {count} comparison{'s' * (count > 1)} of family {family!r}"


def power(case: Case) -> Outcome:
    """The smallest difference that these seeds detect is no larger than the one that is claimed, or than the margin."""
    found = [contrast.detectable for contrast in case.contrasts if contrast.detectable is not None]
    wanted = case.evidence.claim.within or max(case.evidence.claim.claimed_size, case.evidence.margin)
    if not found or not wanted:
        return NOT_APPLICABLE, "no size is claimed, or there is no spread to tell from"
    told = f"detectable with power .8: {max(found):.4f}; asked for: {wanted:.4f}"
    return _passed_if(max(found) <= wanted, told, told)


def practical_margin(case: Case) -> Outcome:
    """The least difference that matters was fixed by the protocol."""
    margin = case.evidence.margin
    return _passed_if(bool(margin), f"margin {margin:g}", "no margin") if case.evidence.content else NO_RECORD


# --- what may be said (A20 to A24) ----------------------------------------------------------------------------------


def scope_words(case: Case) -> Outcome:
    """The sentence names the dataset that it holds for."""
    name = _dataset_name(case)
    if not name:
        return NOT_APPLICABLE, "the dataset is unknown"
    said = _letters(case.evidence.claim.sentence)
    spellings = (name, case.evidence.claim.protocol, *_ALSO_CALLED.get(name, ()))
    named = any(_letters(spelling) in said for spelling in spellings if spelling)
    return _passed_if(named, f"names {name}", f"does not say that it is about {name}: without a scope it says too much")


_ALSO_CALLED = {"digits": ("scanned digits",), "stl10": ("STL-10",), "fashion_mnist": ("Fashion-MNIST",)}


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def measured_not_reported(case: Case) -> Outcome:
    """Numbers from papers are a class of their own, and are paired with nothing."""
    if not case.evidence.claim.is_about_a_table:
        return PASSED, "measured; what is reported stands beside it as a fixed number, if anywhere"
    table = case.evidence.table
    return FAILED, f"numbers reported in {table.name if table else ''}: no record stands behind them"


def no_drift(case: Case) -> Outcome:
    """The same code, device and precision for all trials."""
    if _no_record(case):
        return NO_RECORD
    done = [trial for trial in case.evidence.trials if trial["status"] != "missing"]
    drifting = {what: _distinct([trial[what] for trial in done]) for what in DRIFTING}
    for package in sorted({name for of in case.evidence.versions.values() for name in of}):
        drifting[package] = _distinct([case.evidence.versions.get(t["trial_id"], {}).get(package) for t in done])
    told = [
        f"{what}: {', '.join(value[:16] for value in values)}" for what, values in drifting.items() if len(values) > 1
    ]
    return _passed_if(not told, "one code, device, precision and set of versions", f"they differ in {'; '.join(told)}")


def dataset_count(case: Case) -> Outcome:
    """A sentence about datasets needs datasets as its unit, never seeds."""
    said = case.evidence.claim.sentence.lower()
    general = [words for words in _GENERAL if words in said]
    if not general:
        return NOT_APPLICABLE, "one dataset, and the sentence speaks of no others"
    return FAILED, f"one dataset carries no sentence that holds {general[0]!r}: Friedman's test wants eight or so"


_GENERAL = ("in general", "across datasets", "on all datasets", "regardless of the dataset", "universally", "always")


def declared_before(case: Case) -> Outcome:
    """The claim stood in the log, as it is now, before the first of its results did."""
    log, claim, entry = case.evidence.log, case.evidence.claim, case.evidence.declared
    if claim.is_about_a_table:
        return FAILED, "the results were published before"
    if entry is None:
        if log.problem:
            return FAILED, log.problem
        if log.named(claim.name):
            return FAILED, "what was declared under this name is another claim: it was changed since"
        return FAILED, "never declared"
    finished = [str(trial["finished"]) for trial in case.evidence.trials if trial["finished"]]
    first = min(finished).replace(" ", "T") if finished else ""
    return _passed_if(
        not first or entry.time[:19] <= first[:19],
        f"declared {entry.time}" + (f", first result {first[:19]}" if first else ""),
        f"declared {entry.time}, after the first result of {first[:19]}",
    )


def _dataset_name(case: Case) -> str:
    table = case.evidence.table
    if case.evidence.claim.is_about_a_table and table is not None:
        return table.dataset
    return str(case.evidence.content.get("dataset", {}).get("name", ""))


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
    Rule("A9", "enough seeds, and all of them", "told", enough_seeds, "Bouthillier et al., arXiv 2103.03098"),
    Rule("A10", "paired seeds", "told", paired_seeds, "arXiv 2511.19794; benchopt get_seed"),
    Rule("A11", "same augmentation", "told", same_augmentation, "AugSelf, arXiv 2111.09613", columns="protocol_hash"),
    Rule("A12", "same compute", "told", same_compute, ALGOPERF, columns="images_seen, train_seconds"),
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
    Rule("A17", "multiplicity", "told", multiplicity, "Holm 1979; Demsar 2006"),
    Rule("A18", "power", "told", power, "Colas et al., How Many Random Seeds?"),
    Rule("A19", "practical margin", "told", practical_margin, "Kruschke & Liddell 2018", columns="protocol_hash"),
    Rule("A20", "scope in the words", "told", scope_words, NEURIPS, columns="protocol_name"),
    Rule("A21", "measured, not reported", "unverified", measured_not_reported, "huggingface_hub EvalResult.verified"),
    Rule("A22", "no drift", "told", no_drift, ALGOPERF, columns='"commit", code_hash, device, "precision"'),
    Rule("A23", "number of datasets", "told", dataset_count, "Demsar 2006", columns="dataset_fingerprint"),
    Rule("A24", "declared before", "late", declared_before, "REFORMS, arXiv 2308.07832", columns="finished"),
)
