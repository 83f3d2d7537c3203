"""Rules A9 and A10: whether there are enough seeds, each trained by itself, and whether both sides have the same."""

import itertools
import statistics
from collections.abc import Iterator, Sequence

from twinbench.reports.claims.copied_seeds import Result, copied_seeds
from twinbench.reports.claims.evidence import Evidence, Side
from twinbench.reports.rules.case import (
    NO_RECORD,
    NOTED,
    Case,
    Outcome,
    failed,
    is_trained,
    not_applicable,
    passed,
    passed_if,
    protocol_value,
    trial_text,
)
from twinbench.reports.tables.cells import WITHOUT_SEEDS
from twinbench.sweeps.errors import counted
from twinbench.sweeps.metrics import get_metric

FEW_DISAGREEMENTS = 20  # below this median, two honest seeds may well agree in nearly all examples
COPY_SHARE = 0.2  # of the median disagreement between seeds: a pair with fewer is a copy


def enough_seeds(case: Case) -> Outcome:
    """A9: at least the protocol's number of seeds, the same on all sides, none left out and none copied."""
    evidence = case.evidence
    if evidence.table is not None and evidence.claim.is_about_a_table:
        n = evidence.table.protocol.n_seeds
        if n is None:
            return not_applicable("the number of seeds is unknown")
        return passed(f"{n} seeds") if n > 2 else failed(counted(n, "seed"), NOTED)
    sides = [side for side in evidence.measured if is_trained(side)]
    if not sides:
        return NO_RECORD
    if problem := next(_seed_problems(evidence, sides), ""):
        return failed(problem)
    run = {seed for side in sides for seed in _seeds(side)}
    keys = {
        (side.section.protocol_hash, side.section.dataset_fingerprint, side.cell.confirms)
        for side in sides
        if side.section and side.cell
    }
    if elsewhere := sorted({seed for key in keys for seed in evidence.context.seeds.get(key, ())} - run):
        return failed(f"seeds {elsewhere} were run for other cells but not for these", NOTED)
    return passed(f"seeds {sorted(run)}")


def _seeds(side: Side) -> list[int]:
    return sorted(int(trial["seed"]) for trial in side.trials)


def _seed_problems(evidence: Evidence, sides: Sequence[Side]) -> Iterator[str]:
    minimum = minimum_seeds(evidence)
    if few := [f"{side.label} has {len(_seeds(side))}" for side in sides if len(_seeds(side)) < minimum]:
        yield f"the protocol requires {counted(minimum, 'seed')}: {', '.join(few)}"
    run = {seed for side in sides for seed in _seeds(side)}
    lacking = {side.label: sorted(run - set(_seeds(side))) for side in sides}
    if left_out := [f"{label} without {seeds}" for label, seeds in lacking.items() if seeds]:
        yield f"some sides lack seeds that others have: {', '.join(left_out)}"
    yield from copied_seeds(_results(evidence, sides))
    yield from _near_copies(evidence, sides)


def minimum_seeds(evidence: Evidence) -> int:
    """Return how many seeds a cell must have by the protocol; a sweep that deviates from it may only ask for more."""
    return int(max(evidence.content.get("minimum_seeds", 1), protocol_value(evidence, "minimum_seeds")))


def _results(evidence: Evidence, sides: Sequence[Side]) -> Iterator[Result]:
    """The artefacts of every recorded trial of the sides, each trial once."""
    for trial_id, trial in {str(trial["trial_id"]): trial for side in sides for trial in side.trials}.items():
        if files := evidence.files.get(trial_id):
            yield Result(trial_id, str(trial["method"]), int(trial["seed"]), files.curves_file, files.outputs_file)


def _near_copies(evidence: Evidence, sides: Sequence[Side]) -> Iterator[str]:
    """Pairs of seeds that disagree in far fewer examples than seeds of their cell usually do: an edited copy."""
    probe = get_metric(evidence.claim.metric).probe
    for side in sides:
        found = [(trial, evidence.files.get(str(trial["trial_id"]))) for trial in side.trials]
        correct = [(trial, files.correct[probe]) for trial, files in found if files and probe in files.correct]
        if len(correct) < 3 or len({len(values) for _, values in correct}) > 1:
            continue
        pairs = [(a, b, int((x != y).sum())) for (a, x), (b, y) in itertools.combinations(correct, 2)]
        usual = statistics.median(count for _, _, count in pairs)
        for a, b, count in pairs:
            if usual >= FEW_DISAGREEMENTS and count < COPY_SHARE * usual:
                difference = (
                    f"disagree in {counted(count, 'example')}, where seeds of this cell usually do in {usual:g}"
                )
                yield f"{trial_text(a)} and {trial_text(b)} {difference}: one is a copy"


def paired_seeds(case: Case) -> Outcome:
    """A10: both sides have the same seeds, whose trials saw the same images in the same order."""
    compared = [
        (contrast.label, contrast.difference, contrast.a.values.keys() == contrast.b.values.keys())
        for contrast in case.contrasts
        if contrast.b is not None
        and contrast.difference
        and all(side.selector.get("method") != WITHOUT_SEEDS for side in (contrast.a, contrast.b))
    ]
    if not compared or case.has_no_record:
        return not_applicable("no two sides were measured over seeds")
    unpaired = [label for label, _, has_equal_seeds in compared if not has_equal_seeds]
    counts = sorted({difference.n for _, difference, _ in compared})
    found = [difference.correlation for _, difference, _ in compared if difference.correlation is not None]
    correlation = f", correlation of the sides {min(found):.2f} to {max(found):.2f}" if found else ""
    text = " or ".join([*map(str, counts[:-1]), counted(counts[-1], "pair")]) + correlation
    return passed_if(not unpaired, text, f"unequal seeds: {'; '.join(unpaired)}")
