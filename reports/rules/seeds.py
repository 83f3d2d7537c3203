"""Rules on seeds: enough of them, paired, and none a copy of another (A4, A7)."""

import itertools
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from twinbench.reports.claims.contrasts import Contrast
from twinbench.reports.claims.copied_seeds import Result, copied_seeds
from twinbench.reports.claims.evidence import Evidence, Side
from twinbench.reports.rules.case import (
    FAILED,
    NO_RECORD,
    NOT_APPLICABLE,
    PASSED,
    Case,
    Outcome,
    is_trained,
    passed_if,
)
from twinbench.reports.tables.cells import WITHOUT_SEEDS
from twinbench.sweeps.metrics import get_metric

FEW_DISAGREEMENTS = 20  # of two seeds: with fewer, two honest ones may well agree in nearly all
COPY_SHARE = 0.2  # of the usual number of disagreements between seeds: two with fewer are no two seeds


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
    yield from copied_seeds(_results(evidence, sides))
    yield from _near_copies(evidence, sides)


def least_seeds(evidence: Evidence) -> int:
    """How many seeds a cell must have by the protocol, as it is without what the sweep deviates in."""
    return int(max(evidence.content.get("minimum_seeds", 1), _undeviated(evidence, "minimum_seeds")))


def _undeviated(evidence: Evidence, key: str) -> Any:
    """What the protocol says where the sweep deviates from it; 0 where it does not."""
    sections = [side.section for side in evidence.measured if side.section]
    deviations = [one for section in sections for one in section.deviations if one["key"] == key]
    return max((one["protocol_value"] for one in deviations), default=0)


def _results(evidence: Evidence, sides: Sequence[Side]) -> Iterator[Result]:
    """The artefacts of every recorded trial of the sides, each trial once."""
    for trial in {str(trial["trial_id"]): trial for side in sides for trial in side.trials}.values():
        if trace := evidence.traces.get(str(trial["trial_id"])):
            yield Result(
                str(trial["trial_id"]), str(trial["method"]), int(trial["seed"]), trace.curves_file, trace.outputs_file
            )


def _near_copies(evidence: Evidence, sides: Sequence[Side]) -> Iterator[str]:
    """Two seeds of a cell that disagree in far fewer examples than its seeds do: a copy that was touched up."""
    probe = get_metric(evidence.claim.metric).probe
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
