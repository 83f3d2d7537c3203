"""Rules A21 and A22: how the numbers were measured, and with what code and device."""

from collections import Counter
from collections.abc import Iterator, Mapping

from twinbench.reports.claims.contrasts import COLLAPSE_KINDS
from twinbench.reports.claims.curve_checks import Curves, foreign_curves
from twinbench.reports.claims.evidence import Side
from twinbench.reports.claims.trial_files import TrialFiles
from twinbench.reports.rules.case import (
    NO_RECORD,
    NOTED,
    STOPS,
    UNVERIFIED,
    Case,
    Outcome,
    distinct,
    failed,
    is_trained,
    passed,
    some,
    trial_text,
)
from twinbench.reports.tables.run import TrialRow, is_packed
from twinbench.results.code_hash import is_same_code, kind
from twinbench.sweeps.errors import counted
from twinbench.sweeps.metrics import get_metric, metric_names

COMPUTED_WITH = ("commit", "code_hash", "device", "precision", "mode")
OF_THE_PLAN = ("planned", "confirms")  # columns of a trial that its record does not have
OF_A_METRIC = ("variant", "n_examples", "selected_on", "candidates")
COST_DEPENDS_ON = ("threads", "ranks", "pack", "host")  # compared too where the metric is seconds or bytes
HARMLESS = ("commit",)  # a difference in it alone, with equal code, changes no result
PATCHED = "python"  # its patch releases change no arithmetic: torch and numpy compute

Values = Mapping[str, str | None]  # by trial id

# --- A21 ------------------------------------------------------------------------------------------------------------


def measured_not_reported(case: Case) -> Outcome:
    """A21: the numbers were measured in this run folder, with curves and per-example outputs that support them."""
    evidence, claim = case.evidence, case.evidence.claim
    if claim.is_about_a_table:
        return failed(f"these numbers are reported in {claim.reported} and were not measured in this run")
    if problem := next(_unfounded(case), ""):
        return failed(problem)
    seconds = {name: files.seconds for name, files in evidence.files.items() if files.seconds}
    if seconds:
        (name, problem), *_ = seconds.items()
        is_cost = claim.metric in metric_names("trial_cost")
        return failed(f"trial {name} {problem}", UNVERIFIED if is_cost else NOTED)
    fixed = f"; {evidence.table.name} is compared as a fixed number" if evidence.table else ""
    if claim.metric in metric_names("trial_cost"):
        return passed(f"measured; {claim.metric} is part of the circumstance, which no digest covers{fixed}")
    return passed(f"measured, as curves and per-example outputs show{fixed}")


def _unfounded(case: Case) -> Iterator[str]:
    claim, files = case.evidence.claim, case.evidence.files
    done = [
        (str(trial["trial_id"]), side)
        for side in case.evidence.measured
        for trial in side.trials
        if trial["status"] == "done" and int(trial["seed"]) in side.values
    ]
    for trial_id, _ in done:
        if problem := files[trial_id].outputs:
            yield f"trial {trial_id}: {problem}"
    yield from _unlike_their_records(case)
    probe = get_metric(claim.metric).probe
    has_outputs = claim.metric.endswith("top1") and case.evidence.content.get("checkpoint", "last") == "last"
    if claim.kind not in COLLAPSE_KINDS and has_outputs:
        bare = [trial_id for trial_id, _ in done if probe not in files[trial_id].correct]
        if bare:
            yield f"{len(bare)} of {len(done)} values have no per-example outputs: {some(bare)}"
    for trial_id, _ in done:
        if why := case.evidence.context.set_aside.get(files[trial_id].curves_file):
            yield f"trial {trial_id}: its curves cannot be read: {why}"
    for side in case.evidence.measured:
        yield from _foreign_curves(case, side)
    without_curves = [trial_id for trial_id, side in done if is_trained(side) and not files[trial_id].curves_file]
    if without_curves:
        yield f"{len(without_curves)} of {len(done)} trials have no training curves: {some(without_curves)}"


def _foreign_curves(case: Case, side: Side) -> Iterator[str]:
    """Trials whose curves are not those of the other seeds of their cell that ran with the same code."""
    by_code: dict[object, dict[str, Curves]] = {}
    for trial in side.trials:
        if trial["status"] == "done" and (curves := case.evidence.context.curves.get(str(trial["trial_id"]))):
            by_code.setdefault(trial["code_hash"], {})[str(trial["trial_id"])] = curves
    finals = {name: files.final for name, files in case.evidence.files.items() if files.final}
    for of_code in by_code.values():
        for trial_id, problem in foreign_curves(of_code, finals).items():
            yield f"trial {trial_id}: {problem}"


def _unlike_their_records(case: Case) -> Iterator[str]:
    """Trials whose rows in the database, which anyone can write to, differ from their records."""
    for side in case.evidence.measured:
        for trial in side.trials:
            files = case.evidence.files.get(str(trial["trial_id"]))
            if files is None or files.trial is None:  # rule A1 reports a record that contradicts itself
                continue
            for name, stored, recorded in _stored_and_recorded(side, trial, files):
                if stored != recorded:
                    yield f"trial {trial['trial_id']} has {name} {stored} in the database but {recorded} in its record"


def _stored_and_recorded(side: Side, trial: TrialRow, files: TrialFiles) -> Iterator[tuple[str, object, object]]:
    """Yield name, value in the database and value in the record of all that rules read of a trial."""
    assert files.trial is not None and side.cell is not None and side.section is not None
    stored: Mapping[str, object] = {**trial}
    yield from ((name, stored[name], value) for name, value in files.row.items() if name not in OF_THE_PLAN)
    values = {name: value.text for name, value in side.cell.values.items()}
    names = sorted(files.settings.keys() | values.keys())
    yield from ((name, values.get(name), files.settings.get(name)) for name in names)
    protocol = files.trial.protocol
    yield "deviations", [*side.section.deviations], protocol.get("deviations", [])
    yield "base_hash", side.section.base_hash, protocol.get("base_hash", "")
    for (name, split), measured in side.cell.measured.items():
        for one in measured:
            if one.seed == trial["seed"]:
                yield f"{name} on {split}", one.value, files.values.get((name, split))
    for row in (row for row in side.measurements if row["trial_id"] == trial["trial_id"]):
        of_record = (one for one in files.metrics if (one["name"], one["split"]) == (row["name"], row["split"]))
        if found := next(of_record, None):
            stored = {**row}
            yield from ((name, stored[name], found.get(name)) for name in OF_A_METRIC)


# --- A22 ------------------------------------------------------------------------------------------------------------


def no_drift(case: Case) -> Outcome:
    """A22: all trials ran with the same code, device, precision, kernel mode and package versions.

    A difference between the two trials of a seed stops the claim, since it may be the cause of what was measured. What
    differs between seeds and is the same on both sides, or the commit or a patch release of Python alone, is noted.
    Code hashes of two kinds do not compare: where commits do not show that the code is the same either, the claim
    cannot be verified if the kinds differ between the sides.
    """
    if case.has_no_record:
        return NO_RECORD
    if case.evidence.claim.metric == "train_seconds" and (packed := sum(map(is_packed, case.evidence.trials))):
        return failed(
            f"{counted(packed, 'trial')} ran in packs, so the seconds are not those of one that runs alone", STOPS
        )
    differing = [(name, values) for name, values in _comparable(case) if len(distinct(values.values())) > 1]
    kinds = _kinds_of_unknown_code(case)
    if not differing and not kinds:
        return passed("one code, device, precision, kernel mode and set of versions")
    if between := _between_sides(case):
        what, unlike = "; ".join(_drift_text(*one) for one in between), some(map(trial_text, drifted_trials(case)))
        return failed(f"the sides differ in {what}; unlike most trials: {unlike}")
    texts = [f"trials differ in {'; '.join(_drift_text(*one) for one in differing)}"] if differing else []
    if not kinds:
        return failed(texts[0], NOTED)
    texts.append("it is unknown whether they ran the same code: their code hashes are of two kinds, or missing")
    return failed("; ".join(texts), UNVERIFIED if _differs_between_sides(case, kinds) else NOTED)


def drifted_trials(case: Case) -> list[TrialRow]:
    """Return the trials that make the sides differ: to be run again as most of the claim's trials ran."""
    compared = [values for _, values in _between_sides(case)]
    ran_with = {
        str(trial["trial_id"]): tuple(str(values.get(trial["trial_id"])) for values in compared)
        for trial in case.evidence.trials
        if trial["status"] != "missing"
    }
    counts = Counter(ran_with.values())
    usual = max(sorted(counts), key=counts.__getitem__, default=())
    found: dict[str, TrialRow] = {}
    for pair in _pairs(case):
        a, b = ({int(trial["seed"]): trial for trial in side.trials if trial["trial_id"] in ran_with} for side in pair)
        paired = a.keys() == b.keys()
        for seed in sorted(a.keys() | b.keys()):
            both = {str(side[seed]["trial_id"]): side[seed] for side in (a, b) if seed in side}
            if not paired or len({ran_with[one] for one in both}) > 1:
                found |= {one: trial for one, trial in both.items() if ran_with[one] != usual}
    return [*found.values()]


def _between_sides(case: Case) -> list[tuple[str, Values]]:
    """Return what can change results and differs between the two trials of some seed."""
    return [one for one in _comparable(case) if _changes_results(*one) and _differs_between_sides(case, one[1])]


def _changes_results(name: str, values: Values) -> bool:
    """Whether trials that differ so may have other results; `values` are those of all trials."""
    minor = {str(value).rpartition(".")[0] for value in values.values()}
    return name not in HARMLESS and not (name == PATCHED and len(minor) == 1)


def _comparable(case: Case) -> Iterator[tuple[str, Values]]:
    """Yield what the trials ran with, by trial; code hashes of each kind by themselves."""
    for name in _names(case):
        values = _values(case, name)
        if name != "code_hash":
            yield name, values
            continue
        for one in sorted({kind(value) for value in values.values()}):
            yield name, {trial_id: value for trial_id, value in values.items() if kind(value) == one}


def _kinds_of_unknown_code(case: Case) -> dict[str, str]:
    """Return the kind of each trial's code hash, if there are several and commits do not show that the code is one."""
    code, commits = _values(case, "code_hash"), _values(case, "commit")
    kinds = {trial_id: kind(value) for trial_id, value in code.items()}
    is_one = len(set(kinds.values())) <= 1 or is_same_code((code[trial_id], commits[trial_id]) for trial_id in code)
    return {} if is_one else kinds


def _names(case: Case) -> list[str]:
    versions = case.evidence.versions
    packages = sorted({name for trial in case.evidence.trials for name in versions.get(trial["trial_id"], {})})
    of_costs = COST_DEPENDS_ON if case.evidence.claim.metric in metric_names("trial_cost") else ()
    return [*COMPUTED_WITH, *of_costs, *packages]


def _values(case: Case, name: str) -> Values:
    """Return what each trial that ran has under the name, a column of the trials table or a package."""
    ran = [trial for trial in case.evidence.trials if trial["status"] != "missing"]
    if name in (*COMPUTED_WITH, *COST_DEPENDS_ON):
        found = {trial["trial_id"]: trial.get(name) for trial in ran}
        return {trial_id: None if value is None else str(value) for trial_id, value in found.items()}
    return {str(trial["trial_id"]): case.evidence.versions.get(trial["trial_id"], {}).get(name) for trial in ran}


def _pairs(case: Case) -> list[tuple[Side, Side]]:
    """Return the compared sides that draw seeds: an untrained backbone is evaluated by the same code and device."""
    pairs = [(a, b) for a, b, _ in case.evidence.pairs if b is not None]
    return [pair for pair in pairs if all(side.is_seeded for side in pair)]


def _differs_between_sides(case: Case, values: Values) -> bool:
    """Whether the two trials of any seed differ; of sides with other seeds, whether the shares of the values do."""
    for pair in _pairs(case):
        a, b = (
            {trial["seed"]: str(values[trial["trial_id"]]) for trial in side.trials if trial["trial_id"] in values}
            for side in pair
        )
        if a.keys() == b.keys():
            differs = a != b
        else:
            in_a, in_b = Counter(a.values()), Counter(b.values())
            differs = any(in_a[text] * len(b) != in_b[text] * len(a) for text in in_a | in_b)
        if a and b and differs:
            return True
    return False


def _drift_text(name: str, values: Values) -> str:
    return f"{name.replace('_', ' ')}: {', '.join(value[:16] for value in distinct(values.values()))}"
