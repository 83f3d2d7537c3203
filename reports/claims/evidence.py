"""The evidence for a claim: for each side of its comparisons the cell, its trials, and their values by seed.

A selector may leave settings open. Then validation selects among the cells that match, as in the methods table, and the
number of candidates is part of the evidence. Where the cells of all sides were trained on the seeds of the confirm
stage, the claim is judged by those.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from twinbench.reports.claims.claim import Claim, Selector, all_selectors, points, reported_value, selector_text
from twinbench.reports.claims.curve_checks import Curves
from twinbench.reports.claims.declarations import Declaration, Log, read_log
from twinbench.reports.claims.known_names import Names
from twinbench.reports.claims.run_context import RunContext, unknown_trials
from twinbench.reports.claims.trial_files import TrialFiles, read_trial_files
from twinbench.reports.statistics.per_example import Correct
from twinbench.reports.tables.cells import BASELINES, REPORTED_ON, WITHOUT_SEEDS, Cell, Section, choose
from twinbench.reports.tables.published import PublishedTable, PublishedValue
from twinbench.reports.tables.run import MetricRow, TrialRow, read_run, records, rows
from twinbench.reports.tables.sections import sections
from twinbench.results.plain_files import claims_files
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.metrics import get_metric, metric_names

CURVES = """
SELECT trial_id, max(epoch) AS last_epoch, bool_or(name LIKE 'test/%') AS on_test,
    arg_max(value, epoch) FILTER (name = 'diagnostics/feature_std') AS feature_std,
    count(DISTINCT name) AS series,
    sum(value) FILTER (name = 'learning_rate') AS learning_rates,
    arg_min(value, epoch) FILTER (name = 'loss') AS loss,
    arg_max(value, epoch) FILTER (name = 'validation/knn_top1') AS online
FROM curves GROUP BY trial_id
"""


@dataclass(frozen=True)
class Side:
    """One cell of a comparison, or one published number.

    `candidates` counts the cells that match the selector and whose trials all ended; `tried` counts all such cells of
    the method at the settings that every side of the claim shares. `values` holds the metric of done trials by seed.
    """

    label: str
    selector: Selector
    section: Section | None = None
    cell: Cell | None = None
    candidates: int = 0
    tried: int = 0
    values: Mapping[int, float] = field(default_factory=dict)
    measurements: tuple[MetricRow, ...] = ()  # rows of the metrics table that hold `values`
    correct: Correct | None = None  # bool [seeds, test examples], where the records have them
    reported: PublishedValue | None = None  # instead of a cell, where the number is published

    @property
    def trials(self) -> tuple[TrialRow, ...]:
        """Return all planned trials of the cell, whatever their status."""
        return self.cell.trials if self.cell else ()

    @property
    def is_method_choice(self) -> bool:
        """Whether the cell is chosen among all cells of its method, as in the methods table."""
        if self.section is None or self.cell is None:
            return False
        return len(self.section.having(self.selector)) == len(self.section.methods[self.cell.label])

    @property
    def is_seeded(self) -> bool:
        """Whether the side is a cell whose results depend on the seed."""
        return self.cell is not None and self.cell.method != WITHOUT_SEEDS

    @property
    def has_values(self) -> bool:
        """Whether the side has any number."""
        return bool(self.values) or (self.reported is not None and self.reported.value is not None)


@dataclass(frozen=True)
class Evidence:
    """All that the rules and statistics of a claim use.

    `pairs` gives the compared sides and the point of the scope; the second side is None where A is compared with a
    fixed number.
    """

    claim: Claim
    sides: tuple[Side, ...]
    pairs: tuple[tuple[Side, Side | None, str], ...]
    log: Log
    declared: Declaration | None  # under the protocol of the trials
    table: PublishedTable | None  # of claims about a published table, or that equal one
    versions: Mapping[str, Mapping[str, str]]  # by trial, versions by package
    feature_std: Mapping[str, float]  # at the end of training, by trial
    locked: Mapping[tuple[str, int], str]  # hashes of the shipped protocols by name and version
    context: RunContext = field(default_factory=RunContext)
    files: Mapping[str, TrialFiles] = field(default_factory=dict)  # by trial, of the recorded trials of the sides
    # The evidence of all claims judged from the folder so far, including this one.
    judged_together: Sequence["Evidence"] = field(default=(), compare=False, repr=False)

    @property
    def measured(self) -> tuple[Side, ...]:
        """Return the sides with a cell of the run."""
        return tuple(side for side in self.sides if side.cell is not None)

    @cached_property
    def trials(self) -> tuple[TrialRow, ...]:
        """Return the trials of all sides."""
        return tuple(trial for side in self.sides for trial in side.trials)

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """Return the protocol's content, that of the first side; rule A1 reports sides that differ."""
        return next((side.section.content for side in self.sides if side.section), {})

    @property
    def margin(self) -> float:
        """Return the smallest difference that matters, from the protocol; 0 for other metrics and published tables."""
        return float(self.content.get("margin", 0.0)) if self.claim.metric.endswith("top1") else 0.0

    @cached_property
    def withdrawn(self) -> tuple[str, ...]:
        """Return the names of claims that were declared but are neither judged now nor in a file of the folder."""
        judged = {other.claim.hash for other in self.judged_together} | {self.claim.hash}
        absent = [entry for entry in self.log.entries if entry.claim not in judged]
        return tuple(entry.name for entry in absent if entry.claim not in self.context.claims_on_file)


def protocol_hashes(claim: Claim, sides: Sequence[Side]) -> list[frozenset[str]]:
    """Return hash and hash without deviations of each protocol of the sides that has the name the claim gives."""
    named = [side.section for side in sides if side.section and side.section.protocol_name == claim.protocol]
    return list(dict.fromkeys(frozenset({section.protocol_hash, section.base_hash}) for section in named))


class Folder:
    """A run folder that gives the evidence of many claims; it is read once."""

    def __init__(self, run_folder: Path):
        self._folder, self._log = run_folder, read_log(run_folder)
        run = read_run(run_folder, CURVES)
        self.sections = sections(run)
        self._names = Names(self.sections)
        self._methods = sorted({cell.method for section in self.sections for cell in section.cells} - {*BASELINES})
        self._reported: dict[tuple[str, str], list[MetricRow]] = {}
        for row in records(run.metrics[run.metrics["split"] == REPORTED_ON]):
            self._reported.setdefault((row["trial_id"], row["name"]), []).append(row)
        self._files: dict[str, TrialFiles] = {}
        self._judged_together: list[Evidence] = []
        self._feature_std = dict(rows(run.curves, "trial_id", "feature_std"))
        self._versions: dict[str, dict[str, str]] = {}
        for trial, package, version in rows(run.versions, "trial_id", "package", "version"):
            self._versions.setdefault(trial, {})[package] = version
        self._context = RunContext(
            tuple(self.sections),
            *unknown_trials(run_folder, set(run.trials["trial_id"])),
            dict(zip(run.set_aside["file"], run.set_aside["reason"], strict=True)),
            frozenset(run.curves["trial_id"][run.curves["on_test"]]),
            dict(rows(run.curves, "trial_id", "last_epoch")),
            {name: Curves(*compared) for name, *compared in rows(run.curves, "trial_id", *Curves._fields)},
            tuple(claims_files(run_folder)),
        )

    def evidence(self, claim: Claim, table: PublishedTable | None, locked: Mapping[tuple[str, int], str]) -> Evidence:
        """Return a claim's evidence. InvalidInput where it names an unknown method, metric, setting or protocol."""
        if not claim.is_about_a_table:
            selectors = [one for point in points(claim) for one in self._selectors(claim, point)]
            if mistakes := self._names.mistakes(claim, selectors):
                raise InvalidInput(mistakes)
        sides, pairs = self._compared(claim, table)
        recorded = [(side.section, one) for side in sides for one in side.trials if one["status"] != "missing"]
        files = {str(trial["trial_id"]): self._files_of(section, trial) for section, trial in recorded if section}
        declared = self._log.of(claim, protocol_hashes(claim, sides))
        of_folder = (self._versions, self._feature_std, locked, self._context, files, self._judged_together)
        evidence = Evidence(claim, sides, pairs, self._log, declared, table, *of_folder)
        self._judged_together.append(evidence)
        return evidence

    def _compared(
        self, claim: Claim, table: PublishedTable | None
    ) -> tuple[tuple[Side, ...], tuple[tuple[Side, Side | None, str], ...]]:
        sides, pairs = self._compared_on(claim, table, confirms=False)
        seeded = [side.cell for side in sides if side.cell and side.is_seeded]
        if seeded and all(cell.confirmed for cell in seeded):
            return self._compared_on(claim, table, confirms=True)
        return sides, pairs

    def _compared_on(
        self, claim: Claim, table: PublishedTable | None, confirms: bool
    ) -> tuple[tuple[Side, ...], tuple[tuple[Side, Side | None, str], ...]]:
        """Return sides and pairs on the seeds of the grid, or of the confirm stage."""
        sides: list[Side] = []
        pairs: list[tuple[Side, Side | None, str]] = []
        for point in points(claim):
            selectors = self._selectors(claim, point)
            here = [self._side(claim, selector, selectors, table, confirms) for selector in selectors]
            sides += here
            others: list[Side | None] = [*here[1:]] or [None]
            compared: Iterable[tuple[Side, Side | None]] = ((here[0], other) for other in others)
            if claim.kind == "monotone":
                compared = itertools.pairwise(here if claim.direction == "decreasing" else here[::-1])
            elif claim.kind == "insensitive":
                compared = itertools.combinations(here, 2)
            pairs += [(one, other, selector_text(point)) for one, other in compared]
        return tuple(sides), tuple(pairs)

    def _selectors(self, claim: Claim, point: Selector) -> list[Selector]:
        """Return the selectors at a point of the scope; for `best_of` without `among`, also all other methods'."""
        selectors = [selector | point for selector in all_selectors(claim)]
        if claim.kind == "best_of" and not claim.among:
            selectors += [point | {"method": name} for name in self._methods if name != claim.a["method"]]
        return selectors

    def _side(
        self,
        claim: Claim,
        selector: Selector,
        selectors: Sequence[Selector],
        table: PublishedTable | None,
        confirms: bool,
    ) -> Side:
        label = selector_text(selector)
        if claim.is_about_a_table and table is not None:
            row = reported_value(table, claim, selector)
            value = getattr(row, claim.metric) if claim.metric in metric_names("published_cost") else row.value
            return Side(label, selector, values={} if value is None else {0: float(value)}, reported=row)
        matching = self._matching(claim, selector)
        if not matching:
            return Side(label, selector)
        shared = {key: value for key, value in selector.items() if all(other.get(key) == value for other in selectors)}
        of_method = self._matching(claim, shared | {"method": selector["method"]})
        # A cell that was only planned is no candidate.
        candidates, tried = (max(1, sum(cell.is_recorded for _, cell in cells)) for cells in (matching, of_method))
        cell = choose([cell for _, cell in matching], matching[0][0].selected_by)
        section = next(section for section, one in matching if one is cell)
        cell = cell.confirmed if confirms and cell.confirmed else cell
        values, measurements = self._values(claim, cell)
        correct = self._correctness(claim, section, cell)
        return Side(label, selector, section, cell, candidates, tried, values, measurements, correct)

    def _matching(self, claim: Claim, selector: Selector) -> list[tuple[Section, Cell]]:
        """Return the cells that match under the claim's protocol, or, if none match there, under any protocol.

        In that case rule A1 names the other protocol, which says more than that nothing was found.
        """
        found = [(section, cell) for section in self.sections for cell in section.having(selector)]
        under = [one for one in found if one[0].protocol_name == claim.protocol]
        return under or found

    def _values(self, claim: Claim, cell: Cell) -> tuple[dict[int, float], tuple[MetricRow, ...]]:
        """Return the metric on test by seed, and the rows that hold it; rule A1 reports several rows of one seed."""
        done = [trial for trial in cell.trials if trial["status"] == "done"]
        if claim.metric in metric_names("trial_cost"):
            costs = {int(trial["seed"]): trial.get(claim.metric) for trial in done}
            return {seed: float(cost) for seed, cost in costs.items() if isinstance(cost, int | float)}, ()
        rows = [(int(t["seed"]), row) for t in done for row in self._reported.get((t["trial_id"], claim.metric), ())]
        return {seed: float(row["value"]) for seed, row in rows}, tuple(row for _, row in rows)

    def _correctness(self, claim: Claim, section: Section, cell: Cell) -> Correct | None:
        """Return which test examples were right for every done trial; None unless all have such outputs."""
        probe = get_metric(claim.metric).probe
        done = [self._files_of(section, trial) for trial in cell.trials if trial["status"] == "done"]
        rows = [trace.correct[probe] for trace in done if probe in trace.correct]
        if not rows or len(rows) < len(done) or len({len(row) for row in rows}) > 1:
            return None
        return np.stack(rows)

    def _files_of(self, section: Section, trial: TrialRow) -> TrialFiles:
        trial_id = str(trial["trial_id"])
        if trial_id not in self._files:
            self._files[trial_id] = read_trial_files(self._folder, trial_id, section.content)
        return self._files[trial_id]
