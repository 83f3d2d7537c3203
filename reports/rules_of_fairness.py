"""Rules A9, A10, A12 and A14 to A19: whether the comparison is a fair one, and what its numbers carry."""

import itertools
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from twinbench.reports.around import WITHOUT_SEEDS
from twinbench.reports.case import (
    FAILED,
    NO_RECORD,
    NOT_APPLICABLE,
    PASSED,
    Case,
    Outcome,
    distinct,
    is_trained,
    passed_if,
    some,
)
from twinbench.reports.claims import Claim
from twinbench.reports.contrasts import ALPHA, Contrast
from twinbench.reports.evidence import Evidence, Side
from twinbench.reports.sentences import says_size
from twinbench.reports.statistics import welch_covers

IMAGES_SEEN_APART = 0.1  # more than this share apart is another budget of compute
FEW_DISAGREEMENTS = 20  # of two seeds: with fewer, two honest ones may well agree in nearly all
COPY_SHARE = 0.2  # of the usual number of disagreements between seeds: two with fewer are no two seeds


# --- A9, A10 --------------------------------------------------------------------------------------------------------


def enough_seeds(case: Case) -> Outcome:
    """At least the protocol's number of seeds, the same on all sides, each a seed of its own, and none left out."""
    evidence = case.evidence
    if evidence.table is not None and evidence.claim.is_about_a_table:
        n = evidence.table.protocol.n_seeds
        if n is None:
            return NOT_APPLICABLE, "the number of seeds is unknown"
        return (PASSED, f"{n} seeds") if n > 2 else (FAILED, f"{n} seed", "told")
    sides = [side for side in evidence.measured if is_trained(side)]
    if not sides:
        return NO_RECORD
    if problem := next(_seed_problems(evidence, sides), ""):
        return FAILED, problem
    ran = {seed for side in sides for seed in _seeds(side)}
    keys = {(side.section.protocol_hash, side.section.dataset_fingerprint) for side in sides if side.section}
    if others := sorted({seed for key in keys for seed in evidence.around.seeds.get(key, ())} - ran):
        return FAILED, f"seeds {others} were run of other cells, and of none of these", "told"
    return PASSED, f"seeds {sorted(ran)}"


def _seeds(side: Side) -> list[int]:
    return sorted(int(trial["seed"]) for trial in side.trials)


def _seed_problems(evidence: Evidence, sides: Sequence[Side]) -> Iterator[str]:
    least = least_seeds(evidence)
    if few := [f"{side.label} has {len(_seeds(side))}" for side in sides if len(_seeds(side)) < least]:
        yield f"the protocol asks for {least} seeds: {', '.join(few)}"
    ran = {seed for side in sides for seed in _seeds(side)}
    lacking = {side.label: sorted(ran - set(_seeds(side))) for side in sides}
    if left_out := [f"{label} without {seeds}" for label, seeds in lacking.items() if seeds]:
        yield f"seeds that were run are left out: {', '.join(left_out)}"
    yield from _copies(evidence, sides)
    yield from _near_copies(evidence, sides)


def least_seeds(evidence: Evidence) -> int:
    """How many seeds a cell must have by the protocol, as it is without what the sweep deviates in."""
    return int(max(evidence.content.get("minimum_seeds", 1), _undeviated(evidence, "minimum_seeds")))


def _undeviated(evidence: Evidence, key: str) -> Any:
    """What the protocol says where the sweep deviates from it; 0 where it does not."""
    sections = [side.section for side in evidence.measured if side.section]
    deviations = [one for section in sections for one in section.deviations if one["key"] == key]
    return max((one["protocol_value"] for one in deviations), default=0)


def _copies(evidence: Evidence, sides: Sequence[Side]) -> Iterator[str]:
    """Trials of different seeds that come to the same losses, or the same predictions, bit by bit."""
    first: dict[str, Any] = {}
    for trial in _once(trial for side in sides for trial in side.trials):
        trace = evidence.traces.get(str(trial["trial_id"]))
        if trace is None:
            continue
        telling = bool(trace.correct) and not trace.trivial
        for file in filter(None, (trace.curves_file, trace.outputs_file if telling else "")):
            other = first.setdefault(file, trial)
            if other["seed"] != trial["seed"]:
                yield f"{_trial_text(other)} and {_trial_text(trial)} have the very same results: one is a copy"


def _near_copies(evidence: Evidence, sides: Sequence[Side]) -> Iterator[str]:
    """Two seeds of a cell that disagree in far fewer examples than its seeds do: a copy that was touched up."""
    probe = evidence.claim.metric.removesuffix("_top1")
    for side in sides:
        right = [
            (trial, trace.correct[probe])
            for trial in side.trials
            if (trace := evidence.traces.get(str(trial["trial_id"]))) and probe in trace.correct
        ]
        if len(right) < 3 or len({len(correct) for _, correct in right}) > 1:
            continue
        apart = {(id(a), id(b)): int((x != y).sum()) for (a, x), (b, y) in itertools.combinations(right, 2)}
        usual = statistics.median(apart.values())
        for (a, _), (b, _) in itertools.combinations(right, 2):
            count = apart[(id(a), id(b))]
            if usual >= FEW_DISAGREEMENTS and count < COPY_SHARE * usual:
                told = f"differ in {count} examples, and seeds of this cell in {usual:g}"
                yield f"{_trial_text(a)} and {_trial_text(b)} {told}: one is a copy"


def _once(trials: Iterator[Any]) -> list[Any]:
    return list({str(trial["trial_id"]): trial for trial in trials}.values())


def _trial_text(trial: Any) -> str:
    return f"{trial['method']} seed {trial['seed']} ({trial['trial_id']})"


def paired_seeds(case: Case) -> Outcome:
    """The same seeds on both sides, whose trials saw the same images in the same order."""
    compared = [
        contrast
        for contrast in case.contrasts
        if contrast.b is not None
        and contrast.difference
        and WITHOUT_SEEDS not in (_method(contrast.a), _method(contrast.b))
    ]
    if not compared or case.has_no_record:
        return NOT_APPLICABLE, "no two sides that were measured at seeds"
    unpaired = [c.label for c in compared if c.b is not None and c.a.values.keys() != c.b.values.keys()]
    pairs = sorted({c.difference.n for c in compared if c.difference})
    told = f"{' or '.join(map(str, pairs))} pairs{_correlation(compared)}"
    return passed_if(not unpaired, told, f"unequal seeds: {'; '.join(unpaired)}")


def _method(side: Side) -> str:
    return str(side.selector.get("method"))


def _correlation(compared: Sequence[Contrast]) -> str:
    found = [c.difference.correlation for c in compared if c.difference and c.difference.correlation is not None]
    return f", correlation of the sides {min(found):.2f} to {max(found):.2f}" if found else ""


# --- A12 --------------------------------------------------------------------------------------------------------------


def same_compute(case: Case) -> Outcome:
    """As many epochs and images seen, within a tenth, unless the claim itself sets them; and as many as were set."""
    pairs = [(a, b) for a, b, _ in case.evidence.pairs if b is not None and is_trained(a) and is_trained(b)]
    if otherwise := next(_trained_otherwise(case), ""):
        return FAILED, otherwise
    if not pairs:
        return NOT_APPLICABLE, "compute is not compared"
    sides = {side.label: side for pair in pairs for side in pair}
    told = ", ".join(f"{label}: {_compute_text(side)}" for label, side in sides.items())
    if all(_compute_is_equal(a, b) for a, b in pairs):
        return PASSED, told
    if all(_compute_is_equal(a, b) or _sets_compute(case.evidence.claim, a, b) for a, b in pairs):
        return PASSED, f"unequal as the claim says: {told}"
    return FAILED, f"unequal compute: {told}"


def _trained_otherwise(case: Case) -> Iterator[str]:
    for side in case.evidence.measured:
        epochs = _epochs(side)
        for trial in side.trials:
            last = case.evidence.around.last_epoch.get(str(trial["trial_id"]))
            if epochs and last is not None and (last > epochs or (trial["status"] == "done" and last < epochs)):
                yield f"{_trial_text(trial)} was set {epochs:g} epochs, and its curves go to {last:g}"


def _epochs(side: Side) -> float:
    value = side.cell.values.get("epochs") if side.cell else None
    return value.number or 0.0 if value else 0.0


def _images_seen(side: Side) -> float:
    counts = [float(trial["images_seen"]) for trial in side.trials if trial["images_seen"]]
    return sum(counts) / len(counts) if counts else 0.0


def _compute_text(side: Side) -> str:
    return f"{_epochs(side):g} epochs, {_images_seen(side):,.0f} images"


def _compute_is_equal(a: Side, b: Side) -> bool:
    """Epochs are part of what was asked for; the images are counted by who trained, and are no part of the result."""
    return _are_close(_epochs(a), _epochs(b)) and _are_close(_images_seen(a), _images_seen(b))


def _are_close(one: float, other: float) -> bool:
    return not one or not other or max(one, other) <= min(one, other) * (1 + IMAGES_SEEN_APART)


def _sets_compute(claim: Claim, a: Side, b: Side) -> bool:
    """Whether the claim says on both sides what makes them unequal: the epochs, or else the batch."""
    keys = ("batch_size", "epochs") if _are_close(_epochs(a), _epochs(b)) else ("epochs",)
    return claim.axis in keys or any(key in a.selector and key in b.selector for key in keys)


# --- A14 to A16 -----------------------------------------------------------------------------------------------------


def two_uncertainties(case: Case) -> Outcome:
    """An interval over seeds and one over test examples."""
    if not case.contrasts or not case.evidence.claim.metric.endswith("top1"):
        return NOT_APPLICABLE, "no accuracies are compared"
    lacking = [c.label for c in case.contrasts if c.b is not None and c.examples is None]
    if case.evidence.claim.kind == "equals":
        return NOT_APPLICABLE, "the reported value has no examples to pair with"
    return passed_if(not lacking, "over seeds and over test examples", f"no per-example outputs: {'; '.join(lacking)}")


def defined_error_bars(case: Case) -> Outcome:
    """Which factor varies, by which formula."""
    if case.evidence.claim.is_about_a_table:
        return FAILED, "the source gives no interval"
    if not any(contrast.low is not None for contrast in case.contrasts):
        return NOT_APPLICABLE, "no interval is shown"
    if short := [contrast.label for contrast in case.contrasts if _covers_less(contrast)]:
        told = "unpaired intervals of few seeds against more cover less than they say, down to 92 % at three, 87 at two"
        return FAILED, f"{told}: {some(short)}"
    return PASSED, "t intervals over seeds, with everything else held fixed"


def _covers_less(contrast: Contrast) -> bool:
    """Whether its interval is an unpaired one, of too few seeds on a side."""
    if contrast.b is None or contrast.difference is None or contrast.difference.paired:
        return False
    return not welch_covers(len(contrast.a.values), len(contrast.b.values))


def interval_and_size(case: Case) -> Outcome:
    """The difference with its interval, Cohen's d and P(A > B)."""
    if not case.contrasts:
        return NOT_APPLICABLE, "no difference is claimed"
    lacking = [contrast.label for contrast in case.contrasts if contrast.low is None]
    return passed_if(not lacking, "interval, effect size and P(A > B)", f"below two seeds: {'; '.join(lacking)}")


# --- A17 to A19 -----------------------------------------------------------------------------------------------------


def multiplicity(case: Case) -> Outcome:
    """Holm's correction over all comparisons of the family, and over those of its question that stand elsewhere.

    A family that was split up, over families or over files of the run folder, or whose other claims were declared and
    then left out, is judged as if it were whole: by Bonferroni, since how the others came out is not known here. Only
    a claim that does not stand so fails.
    """
    if not case.contrasts:
        return NOT_APPLICABLE, "no test is made"
    evidence, size = case.evidence, case.family_size
    told = f"Holm over the {size} comparison{'s' * (size > 1)} of family {evidence.claim.family!r}"
    question = _question(evidence.claim)
    others = [other for other in evidence.together if other.claim.family != evidence.claim.family]
    apart = [other for other in others if _question(other.claim) == question]
    unjudged = list(_unjudged(evidence, question))
    more = sum(len(other.pairs) for other in apart) + len(evidence.withdrawn) + len(unjudged)
    if not more:
        return PASSED, told
    families = ", ".join(distinct(repr(other.claim.family) for other in apart))
    where = [f"in {families}"] if apart else []
    where += [f"declared and left out ({some(evidence.withdrawn)})"] if evidence.withdrawn else []
    where += [f"on file and not judged with it ({some(unjudged)})"] if unjudged else []
    level = 1 - ALPHA / (size + more)
    holds = all(_holds_at(contrast, level) for contrast in case.contrasts)
    if holds or not all(_holds_at(contrast, None) for contrast in case.contrasts):
        return PASSED, f"{told}; {more} more of the same question {' and '.join(where)} change nothing"
    return FAILED, f"{told}, and {more} more of the same question {' and '.join(where)}: over all it does not hold"


def _unjudged(evidence: Evidence, question: tuple[str, ...]) -> Iterator[str]:
    """Names of claims of the same family or question that stand in a file of the folder, and are not judged now.

    One comparison each is counted: how many it takes is known of claims that are judged.
    """
    judged = {other.claim.hash for other in evidence.together} | {evidence.claim.hash}
    for hash_, claim in evidence.around.claims_on_file.items():
        if hash_ not in judged and (claim.family == evidence.claim.family or _question(claim) == question):
            yield claim.name


def _question(claim: Claim) -> tuple[str, ...]:
    """Protocol or table, metric, and what is varied: the method, the settings of one method, or an axis of it.

    Claims of one question add up their chances of error, whatever families they are put in.
    """
    method = str(claim.a["method"])
    within_one = claim.kind in ("better", "not_worse") and claim.b.get("method") == method
    varied = {"equals": "reported", "insensitive": f"{method} {claim.axis}", "monotone": f"{method} {claim.axis}"}
    what = varied.get(claim.kind, f"settings of {method}" if within_one else "method")
    return claim.protocol, claim.reported, claim.metric, what


def _holds_at(contrast: Contrast, confidence: float | None) -> bool:
    """Whether the interval of that confidence, or else the one it is judged by, shows what is asked."""
    difference = contrast.difference
    if difference is None or difference.low is None:
        return False
    judged = difference if confidence is None else difference.at(confidence)
    if judged.low is None or judged.high is None:
        return False
    if contrast.asked == "within":
        return -contrast.bound < judged.low and judged.high < contrast.bound
    return judged.low > contrast.bound


def power(case: Case) -> Outcome:
    """The smallest difference that these seeds detect is no larger than the one that is claimed, or than the margin."""
    found = [contrast.detectable for contrast in case.contrasts if contrast.detectable is not None]
    wanted = case.evidence.claim.within or max(case.evidence.claim.claimed_size, case.evidence.margin)
    if not found or not wanted:
        return NOT_APPLICABLE, "no size is claimed, or there is no spread to tell from"
    told = f"detectable with power .8: {max(found):.4f}; asked for: {wanted:.4f}"
    return passed_if(max(found) <= wanted, told, told)


def practical_margin(case: Case) -> Outcome:
    """The least difference that matters was fixed by the protocol; a claim that allows more says how much."""
    evidence, margin = case.evidence, case.evidence.margin
    if not evidence.content:
        return NO_RECORD
    if 0 < margin < _undeviated(evidence, "margin"):
        return FAILED, f"the margin of {_undeviated(evidence, 'margin'):g} was lowered to {margin:g}", "stops"
    allowed = evidence.claim.within or 0.0
    if 0 < margin < allowed and not says_size(evidence.claim):
        told = f"it allows {100 * allowed:g} points, more than the margin of {100 * margin:g}, and does not say so"
        return FAILED, told, "narrows"
    return passed_if(bool(margin), f"margin {margin:g}", "no margin")
