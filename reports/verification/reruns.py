"""Compare records with runs of the same trials: bit by bit where the machine is the same, elsewhere by what is claimed.

With the same code, versions, processor, device, kernels and threads, a trial gives the same bits. With others, rounding
errors grow during training until some test answers differ. Of N answers that are right in one run alone, about half are
right in each: the surplus has the mean 0 and the variance SPREAD times N. It would be N if answers changed
independently; in 110 pairs of runs of 21 trials on digits, with AVX-512 and AVX2, one and two threads, with and without
oneDNN, it was 2.0 N in linear accuracy and 2.3 N in kNN accuracy, with 10 changed answers of 359 in the median. An edit
in favour of one method always has the same direction, so that the mean over trials finds it.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from twinbench.reports.claims.claim import claims_on_file
from twinbench.reports.claims.contrasts import COLLAPSE_KINDS
from twinbench.reports.claims.copied_seeds import Outputs
from twinbench.reports.claims.evidence import Folder, Side
from twinbench.reports.tables.cells import BASELINES, REPORTED_ON
from twinbench.reports.tables.published import published_tables
from twinbench.results.bundles.contents import Contents
from twinbench.results.code_hash import is_same_code
from twinbench.results.record import COMPUTED_WITH, Record
from twinbench.sweeps.errors import InvalidInput, Mistake, counted, unknown_name
from twinbench.sweeps.metrics import METRICS, MetricValue, metric_names

SPREAD = 2.0
BITS_DEPEND_ON = ("versions", *COMPUTED_WITH, "processor")  # apart from the code
LEVEL = 0.01  # probability that honest trials are found at fault, and the same for honest comparisons

# --- what is compared -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """The trials behind one comparison of a claim: A's, and B's unless A is compared with a fixed number.

    `has_direction`: more for A is what is claimed. Otherwise a shift in either direction counts. `claim` is the name of
    the claim, empty where a method is compared with itself. `metric` is empty for a claim of how trials end, which is
    compared trial by trial.
    """

    name: str
    metric: str
    a: tuple[str, ...]
    b: tuple[str, ...] = ()
    has_direction: bool = False
    claim: str = ""


def claimed(contents: Contents, only: str | None = None) -> tuple[Comparison, ...]:
    """Return the comparisons of the bundle's claims; without claims on its trials, those of each method with itself.

    `only` is the name of the one claim that shall be compared. InvalidInput if no claim has that name.
    """
    claims, _ = claims_on_file(map(contents.unpacked.file, contents.unpacked.names("claims")))
    if only is not None:
        names = sorted({claim.name for claim in claims})
        if only not in names:
            raise InvalidInput([unknown_name("--claim", "claim in the bundle", only, names)])
        claims = [claim for claim in claims if claim.name == only]
    folder, tables, found = Folder(contents.unpacked.run_folder), published_tables(), []
    for claim in claims:
        if claim.is_about_a_table:
            continue
        try:
            pairs = folder.evidence(claim, tables.get(claim.reported), {}).pairs
        except InvalidInput:  # it names nothing in the run
            continue
        has_direction = claim.kind not in ("insensitive", "equals", *COLLAPSE_KINDS)
        for a, b, point in pairs:
            name = f"claim {claim.name}, {a.label}{f' and {b.label}' if b else ''}{point and f', {point}'}"
            of_a, of_b = _done(a), _done(b)
            if of_a and (of_b or b is None):
                metric = "" if claim.kind in COLLAPSE_KINDS else claim.metric
                found.append(Comparison(name, metric, of_a, of_b, has_direction, claim.name))
    if only is not None and not found:
        raise InvalidInput([Mistake("--claim", "", "compares no trials of the bundle", only)])
    return tuple(found) or by_method(contents.records)


def _done(side: Side | None) -> tuple[str, ...]:
    return tuple(str(trial["trial_id"]) for trial in (side.trials if side else ()) if trial["status"] == "done")


def by_method(records: Mapping[str, Record]) -> tuple[Comparison, ...]:
    """Return each method's trials and their metrics, for runs without claims."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for trial_id, record in records.items():
        method = record["result"]["trial"]["method"]
        for metric in record["result"]["metrics"]:
            if metric["split"] == REPORTED_ON and method not in BASELINES:
                found[method, metric["name"]].append(trial_id)
    return tuple(Comparison(name, metric, tuple(ids)) for (name, metric), ids in sorted(found.items()))


def drawn(records: Mapping[str, Record], comparisons: Sequence[Comparison], count: int, seed: int) -> list[str]:
    """Return at most `count` ids of trials, drawn without replacement with `seed`. Failed trials are not drawn.

    The sides of comparisons take turns, so that each has as many trials as the others; trials of no comparison follow,
    and baselines come last unless a claim compares them.
    """
    rng = np.random.default_rng(seed)
    candidates = sorted(trial_id for trial_id, record in records.items() if record["result"]["status"] != "failed")
    order = [candidates[place] for place in rng.permutation(len(candidates))]
    place = {trial_id: number for number, trial_id in enumerate(order)}
    sides = sorted({side for one in comparisons for side in (one.a, one.b)})
    in_turn = [sorted(place.keys() & sides[number], key=place.__getitem__) for number in rng.permutation(len(sides))]
    turns = [side[turn] for turn in range(len(order)) for side in in_turn if turn < len(side)]
    is_baseline = {one: records[one]["result"]["trial"]["method"] in BASELINES for one in order}
    return list(dict.fromkeys([*turns, *sorted(order, key=is_baseline.__getitem__)]))[:count]


def sampled(comparisons: Sequence[Comparison], chosen: Sequence[str]) -> Iterator[str]:
    """Yield how many of each claim's trials are among the `chosen`; of a method's, where there are no claims."""
    behind: dict[str, set[str]] = {}
    for one in comparisons:
        behind.setdefault(f"claim {one.claim}" if one.claim else one.name, set()).update(one.a, one.b)
    for name, trials in behind.items():
        yield f"{name}: {len(trials.intersection(chosen))} of {counted(len(trials), 'trial')} drawn"


# --- one trial ------------------------------------------------------------------------------------------------------


def omitted(record: Record, own: Record) -> list[str]:
    """Return what the record lacks although the code that it names always records it: it was removed.

    Code hashes of today's kind cover the code that finds these values, so equal ones record the same keys.
    """
    there, here = record["circumstance"], own["circumstance"]
    is_same_code = there.get("code_hash") == here.get("code_hash")
    return [key for key in BITS_DEPEND_ON if is_same_code and there.get(key) is None and here.get(key) is not None]


def differing(record: Record, own: Record) -> list[str]:
    """Return what is not known to be the same in two runs of a trial; without any, their results must be equal."""
    there, here = record["circumstance"], own["circumstance"]
    others = [key for key in BITS_DEPEND_ON if there.get(key) is None or there[key] != here[key]]
    same = is_same_code((_text(one, "code_hash"), _text(one, "commit")) for one in (there, here))
    return others if same else [*others, "code" if same is False else "code, perhaps"]


def _text(circumstance: Mapping[str, object], key: str) -> str | None:
    """Return the value of `key` if it is a string. A record's circumstance is not validated when it is read."""
    value = circumstance.get(key)
    return value if isinstance(value, str) else None


@dataclass(frozen=True)
class Shift:
    """How a recorded accuracy differs from that of the rerun, in answers of `examples`.

    `gain` counts those that are right in the record alone, minus those that are right in the rerun alone; `changed`
    counts both.
    """

    gain: float
    changed: float
    examples: int


Shifts = Mapping[tuple[str, str], Shift]  # of one trial, by metric and split


def shifts(record: Record, own: Record, recorded: Outputs, repeated: Outputs) -> Shifts:
    """Return the shift of each accuracy that both runs of a trial have, given the outputs of both."""
    there = {(metric["name"], metric["split"]): metric for metric in record["result"]["metrics"]}
    found = {}
    for metric in own["result"]["metrics"]:
        key = (metric["name"], metric["split"])
        if key in there and metric["name"] in metric_names("probe"):
            found[key] = _shift(there[key]["value"], metric, recorded, repeated)
    return found


def _shift(value: float, metric: MetricValue, recorded: Outputs, repeated: Outputs) -> Shift:
    """Return the shift by the outputs; where a split has none, all wrong answers of both runs may be other ones."""
    examples, name = metric["n_examples"], f"{METRICS[metric['name']].probe}_correct"
    a, b = (outputs.get(name) if metric["split"] == REPORTED_ON else None for outputs in (recorded, repeated))
    if a is not None and b is not None and len(a) == len(b) == examples:
        gained, lost = int(((a != 0) & (b == 0)).sum()), int(((a == 0) & (b != 0)).sum())
        return Shift(gained - lost, gained + lost, examples)
    return Shift((value - metric["value"]) * examples, (2 - value - metric["value"]) * examples, examples)


def trial_faults(found: Mapping[str, Shifts]) -> Iterator[str]:
    """Yield the accuracies of single trials that differ by more than the runs of a trial on two machines."""
    tests = 2 * sum(map(len, found.values()))
    for trial_id, shifts_ in found.items():
        for (metric, split), shift in shifts_.items():
            allowed = _allowed(SPREAD * shift.changed, tests)
            if abs(shift.gain) > allowed:
                yield (
                    f"trial {trial_id}: {metric} on {split} differs from the rerun by {abs(shift.gain):.1f} of "
                    f"{shift.examples:,} answers, with at most {allowed:.1f} allowed"
                )


def _allowed(variance: float, tests: int) -> float:
    """Return what a normal variable of mean 0 exceeds with probability LEVEL in any of so many tests."""
    return -float(special.ndtri(LEVEL / max(tests, 1))) * math.sqrt(variance)


# --- comparisons ----------------------------------------------------------------------------------------------------


def judged_comparisons(comparisons: Sequence[Comparison], found: Mapping[str, Shifts]) -> tuple[list[str], list[str]]:
    """Return the faults of the comparisons whose trials were run again, and notes on the others."""
    faults, notes = [], []
    measured = [(one, *_sides(one, found)) for one in comparisons]
    measured = [one for one in measured if one[1] or one[2]]
    for comparison, a, b in measured:
        examples = (a or b)[0].examples
        gain = _mean(shift.gain for shift in a) - _mean(shift.gain for shift in b)
        variance = sum(SPREAD * sum(shift.changed for shift in side) / len(side) ** 2 for side in (a, b) if side)
        allowed = _allowed(variance, len(measured) * (1 if comparison.has_direction else 2))
        trials = f"{_run_again(a, comparison.a)}{f' and {_run_again(b, comparison.b)}' if comparison.b else ''}"
        if not any(shift.changed for shift in (*a, *b)):
            notes.append(f"{comparison.name}: {trials} rerun, with equal {comparison.metric}")
            continue
        text = (
            f"{comparison.name}: {comparison.metric} is shifted by {gain:+.1f} of {examples:,} answers in the records "
            f"of {trials}"
        )
        if (gain if comparison.has_direction else abs(gain)) > allowed:
            favour = ", in favour of the claim" if comparison.has_direction else ""
            faults.append(f"{text}{favour}; reruns elsewhere allow {allowed:.1f}")
        else:
            notes.append(f"{text}; allowed {allowed:.1f}")
    return faults, notes


def _sides(comparison: Comparison, found: Mapping[str, Shifts]) -> tuple[list[Shift], list[Shift]]:
    key = (comparison.metric, REPORTED_ON)
    a, b = ([found[one][key] for one in side if key in found.get(one, {})] for side in (comparison.a, comparison.b))
    return a, b


def _run_again(shifts_: Sequence[Shift], side: Sequence[str]) -> str:
    return f"{len(shifts_)} of {len(side)} trials"


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
