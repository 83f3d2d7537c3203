"""Rule A24: whether the claim was declared before its results.

Each record keeps the head of the log of declarations from the moment its trial began. A declaration that the head
includes was made before, whatever the clocks say, and a log that does not continue the head was cut or rewritten.
Records of earlier versions keep no head: for those the times decide.
"""

from collections.abc import Iterator, Sequence

from twinbench.reports.claims.attempts import head_problem, left_result
from twinbench.reports.claims.declarations import Declaration
from twinbench.reports.rules.case import NOTED, Case, Outcome, distinct, failed, passed, some
from twinbench.reports.tables.run import TrialRow
from twinbench.sweeps.errors import counted


def declared_before(case: Case) -> Outcome:
    """A24: the claim was declared, as it is now, before its first trial began or, by times alone, before its result."""
    log, claim, entry = case.evidence.log, case.evidence.claim, case.evidence.declared
    if claim.is_about_a_table:
        return failed("the results were published before")
    if log.problem:
        return failed(log.problem)
    if contradiction := next(_contradictions(case), ""):
        return failed(contradiction)
    if entry is None:
        return failed(_undeclared(case))
    undated = _without_head(case)
    if problem := next(_lateness(case, entry, undated), ""):
        return failed(problem)
    ran = any(trial["status"] != "missing" for trial in case.evidence.trials)
    shown = ", before its first trial began, as the records show" if ran and not undated else ""
    if undated:
        times = f"by times alone, since {counted(len(undated), 'record')} without a digest of the log cannot show it"
        shown = f", first result {_first_result(undated)}; {times}"
    content = "" if entry.protocol else "; the hash of its protocol was not declared"
    text = f"declared {entry.time}{shown}{content}"
    if contradiction := next(_contradictions_elsewhere(case), ""):
        return failed(f"{text}; {contradiction}", NOTED)
    return passed(text)


def is_declared_late(case: Case) -> bool:
    """Whether A24 makes the claim EXPLORATORY."""
    outcome = declared_before(case)
    return outcome.result == "failed" and outcome.weight is None


def _lateness(case: Case, entry: Declaration, by_time: Sequence[TrialRow]) -> Iterator[str]:
    """Yield what shows, or leaves open, that results came before the declaration; `by_time` are those without head."""
    place = case.evidence.log.place(entry)
    heads = {trial_id: files.log_head for trial_id, files in case.evidence.files.items()}
    if early := {trial_id: head.lines for trial_id, head in heads.items() if head and head.lines < place}:
        before = f"{len(early)} trials began when the log had at most {counted(max(early.values()), 'line')}"
        yield f"declared {entry.time} in line {place}, but {before}: {some(early)}"
    if undated := [str(trial["trial_id"]) for trial in by_time if not trial["finished"]]:
        yield f"declared {entry.time}, but {len(undated)} results have no time: {some(undated)}"
    elif impossible := [str(trial["trial_id"]) for trial in by_time if _ended_before_it_began(trial)]:
        problem = f"{len(impossible)} results ended before they began, so a clock is wrong"
        yield f"declared {entry.time}, but {problem}: {some(impossible)}"
    elif by_time and entry.time[:19] > (first := _first_result(by_time)):
        yield f"declared {entry.time}, after the first result of {first}"
    yield from _ended_before(case, entry.time)
    begun = case.evidence.context.begun_by(entry.time)
    if entry.recorded > begun:
        counts = f"{entry.recorded} trials were recorded when it was declared, but only {begun} of the recorded trials"
        yield f"{counts} had begun by {entry.time}: a clock is wrong, or records were removed"
    yield from _other_seed_count(case)


def _contradictions(case: Case) -> Iterator[str]:
    """Yield how the log differs from what the records say of it at an earlier time."""
    for trial_id, files in case.evidence.files.items():
        if problem := head_problem(files.attempts, files.log_head):
            yield f"trial {trial_id}: {problem}"
        if files.log_head and (contradiction := case.evidence.log.contradiction(files.log_head)):
            yield f"when trial {trial_id} began, the log of declarations {contradiction}"


def _contradictions_elsewhere(case: Case) -> Iterator[str]:
    """Yield the same of trials of other cells: in a merged folder they may have had the log of another site."""
    for head, trial_id in case.evidence.context.log_heads.items():
        if contradiction := case.evidence.log.contradiction(head):
            yield f"but when trial {trial_id} of another cell began, the log of declarations {contradiction}"


def _without_head(case: Case) -> list[TrialRow]:
    """Return the recorded trials whose records do not keep the head of the log."""
    ran = [trial for trial in case.evidence.trials if trial["status"] != "missing"]
    files = case.evidence.files
    return [one for one in ran if (found := files.get(str(one["trial_id"]))) is None or found.log_head is None]


def _first_result(trials: Sequence[TrialRow]) -> str:
    return min(_second(trial["finished"]) for trial in trials)


def _ended_before_it_began(trial: TrialRow) -> bool:
    """Judged by the record alone: a verdict that read the clock would change from day to day. `verify` reads it."""
    return _second(trial["finished"]) < _second(trial["started"] or "")


def _second(moment: object) -> str:
    """Return a moment in UTC as text to the second, in ISO 8601, so that texts are in the order of time."""
    return str(moment).replace(" ", "T")[:19]


def _undeclared(case: Case) -> str:
    """Return why the log has no declaration of the claim: it or its protocol was changed since, or it never had one."""
    claim, evidence = case.evidence.claim, case.evidence
    if entry := evidence.log.of(claim):
        ran = ", ".join(distinct(side.section.protocol_id for side in evidence.measured if side.section))
        return f"declared {entry.time} under {claim.protocol} ({entry.protocol[:12]}), which was changed since: {ran}"
    changed = "another claim was declared under this name: it was changed since"
    return changed if evidence.log.named(claim.name) else "never declared"


def _other_seed_count(case: Case) -> Iterator[str]:
    """Sides with another number of seeds than declared: judging repeatedly until a claim holds errs more often."""
    planned = case.evidence.claim.seeds
    if planned is None:
        return
    for side in case.evidence.measured:
        ran = {int(trial["seed"]) for trial in side.trials if trial["status"] != "missing"}
        if len(ran) != planned:
            yield f"declared to be judged at {counted(planned, 'seed')}, but {side.label} has {len(ran)}"


def _ended_before(case: Case, time: str) -> Iterator[str]:
    """Trials that began before the declaration, left a result, and were run again; by time where there is no head."""
    for trial_id, files in case.evidence.files.items():
        for attempt in files.attempts[:-1] if files.log_head is None else ():
            status, started = attempt["status"], attempt["started"]
            if left_result(attempt) and started[:19] < time[:19]:
                yield f"trial {trial_id} ended as {status} in an attempt of {started} and ran again"
