"""The verdict on each number of one printed table: what it should be by its labels, and what else it may be."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from twinbench.reports.table_check.explanations import (
    cell_text,
    chosen_on_test,
    fitting_scale,
    is_named,
    nearest_meaning,
    of_another_row,
    others,
    otherwise,
    published_as,
    scales,
    without_cell,
)
from twinbench.reports.table_check.labels import Words, dataset_of
from twinbench.reports.table_check.lookups import Ask, asks
from twinbench.reports.table_check.numbers import as_fraction, is_cut_off, off_by, right_text
from twinbench.reports.table_check.reader import PrintedTable
from twinbench.reports.table_check.recorded import (
    COSTS,
    Meaning,
    Pair,
    Place,
    Recorded,
    count_of_seeds,
    of_method,
    with_provenance,
)
from twinbench.reports.tables.cells import SELECTED_BY
from twinbench.reports.tables.published import PublishedTable, PublishedValue

Verdict = Literal[
    "traced", "rounded wrongly", "wrong", "from another protocol", "reported", "untraceable", "not followed"
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
FINE: tuple[Verdict, ...] = ("traced", "not followed")
Key = tuple[str, str]  # of a place: protocol hash and dataset fingerprint


@dataclass(frozen=True)
class Evidence:
    """The records behind a number. `exact` is in the store's unit: accuracies are fractions."""

    run_folder: str
    protocol: str
    dataset_fingerprint: str
    method: str
    cell_id: str  # empty for what is of more than one cell
    what: str  # "mean of knn_top1 on test over 3 seeds"
    n: int  # trials
    exact: float
    trial_ids: tuple[str, ...]
    record_digests: tuple[str, ...]  # of the trials' results
    query: str  # gives the number in the printed unit: `twinbench query RUN_FOLDER QUERY`


@dataclass(frozen=True)
class Traced:
    """One printed number and its verdict. `correct`: what should stand there, where that is known."""

    file: str
    line: int
    table: int
    row: str
    column: str
    printed: str
    kind: str  # "mean", "half width", "seeds done"
    verdict: Verdict
    reason: str
    correct: str = ""
    evidence: Evidence | None = None
    ambiguous: tuple[str, ...] = ()  # what else has the number, where the table does not tell them apart


@dataclass(frozen=True)
class _Found:
    """What a number was taken for: a meaning at a scale, or a published value. `elsewhere`: of another protocol."""

    meaning: Meaning | None = None
    scale: int = 1
    published: PublishedValue | None = None
    elsewhere: bool = False


_LOST = _Found()


class Tracer:
    """One table: first what each number may be, then which protocol the table is of, then the verdicts."""

    def __init__(
        self,
        file: str,
        table: PrintedTable,
        recorded: Recorded,
        published: dict[str, PublishedTable],
        words: Words,
    ):
        self.file, self.table, self.recorded, self.published, self.words = file, table, recorded, published, words
        self.asks = [self._of_one_trial(ask) for ask in asks(table, words)]
        self.home: Key | None = None  # what most of the table is of
        self.votes: Counter[tuple[int, str]] = Counter()  # how many numbers of a row are a cell's

    def traced(self) -> list[Traced]:
        """Every number of the table, in its order; then the count of seeds that the caption gives."""
        self._vote()
        done: list[Traced] = []
        before: tuple[int, int, int] | None = None
        leading = _LOST  # what the value before a ± in the same cell was taken for
        for ask in self.asks:
            place = (ask.row_number, ask.column_number, ask.number.part)
            if place != before:
                before, leading = place, _LOST
            one, found = self._judged(ask, leading)
            leading = found if ask.number.role == "value" else leading
            done.append(one)
        return [*done, *self._seeds_of_caption(done)]

    def _of_one_trial(self, ask: Ask) -> Ask:
        """A row that gives a trial's id shows that trial, not the mean of its cell."""
        seeds = [self.recorded.seeds[one] for one in ask.ids if one in self.recorded.seeds]
        return replace(ask, what=f"seed {seeds[0]}") if seeds and ask.what == "mean" else ask

    # What each number may be ----------------------------------------------------------------------------------------

    def _vote(self) -> None:
        """Find the protocol that most of the table is of, and how many numbers of each row are of each cell."""
        keys: Counter[Key] = Counter()
        for ask in self.asks:
            if ask.problem or ask.number.role != "value":
                continue
            fitting = [found.meaning for pair in self._pairs(ask) for found in self._fits(ask, pair)]
            keys.update({meaning.place.key for meaning in fitting if meaning})
            self.votes.update(
                {(ask.row_number, meaning.cell.cell_id) for meaning in fitting if meaning and meaning.cell}
            )
        sizes = Counter({place.key: len(place.section.trials) for place in self.recorded.places})
        self.home = max(keys, key=lambda key: (keys[key], sizes[key], key), default=None)

    def _pairs(self, ask: Ask) -> list[Pair]:
        """The cells that the labels lead to, under any protocol. The caption's settings count where a cell has them."""
        settings = ask.settings
        pairs = self.recorded.cells(self._methods(ask), ask.version, settings, ask.ids)
        named = {name for names, _ in settings for name in names}
        for one in ask.of_caption:
            having = self.recorded.cells(self._methods(ask), ask.version, (*settings, one), ask.ids)
            if having and not named & set(one[0]):
                pairs, settings = having, (*settings, one)
        return pairs

    def _here(self, ask: Ask) -> list[Pair]:
        """Those of them under the protocol and on the dataset that the number should be of."""
        keys = self._keys(ask)
        return [pair for pair in self._pairs(ask) if pair[0].key in keys]

    def _methods(self, ask: Ask) -> frozenset[str]:
        return ask.methods or frozenset(self.recorded.by_method if ask.ids else ())

    def _keys(self, ask: Ask) -> set[Key]:
        if ask.place is None and self.home is not None:
            return {self.home}
        return {place.key for place in self.recorded.places if is_named(ask, place)}

    def _fits(self, ask: Ask, pair: Pair) -> list[_Found]:
        """Everything of the cell that the number may be and is."""
        found = []
        for metric in ask.metrics:
            meaning = self.recorded.meaning(pair, metric, ask.split, ask.what)
            if meaning is not None and (scale := fitting_scale(ask, meaning)):
                found.append(_Found(meaning, scale))
        return found

    def _lead(self, ask: Ask, pairs: Sequence[Pair]) -> Pair:
        """The cell that the labels lead to: of several the one that most of the row is of, else validation's choice."""
        chosen = self.recorded.chosen(pairs)[1].cell_id
        votes = {pair[1].cell_id: self.votes[ask.row_number, pair[1].cell_id] for pair in pairs}
        return max(pairs, key=lambda pair: (votes[pair[1].cell_id], pair[1].cell_id == chosen, pair[1].cell_id))

    # Verdicts -------------------------------------------------------------------------------------------------------

    def _judged(self, ask: Ask, leading: _Found) -> tuple[Traced, _Found]:
        """The verdict, and what the number was taken for, which what stands behind it is held against."""
        if ask.problem:
            return self._told(ask, "untraceable", ask.problem), _LOST
        if ask.number.role == "value":
            return self._value(ask)
        if ask.what == "provenance":
            (((name,), text),) = ask.settings
            return self._one_of(ask, [with_provenance(place, name, text) for place in self.recorded.places]), _LOST
        if ask.what in ("candidates", *COSTS):
            labels = [(place, label) for place in self.recorded.places for label in place.section.methods]
            asked = [of_method(*one, ask.what) for one in labels if self._is_asked(ask, *one)]
            return self._one_of(ask, asked), _LOST
        if ask.what.startswith("seeds "):
            return self._seeds(ask), _LOST
        if leading.published is not None:
            return self._behind_published(ask, leading.published, leading.scale), _LOST
        return self._behind(ask, leading), _LOST

    def _is_asked(self, ask: Ask, place: Place, label: str) -> bool:
        first = place.section.methods[label][0]
        return first.method in ask.methods and ask.version in (None, first.trials[0]["method_version"])

    def _one_of(self, ask: Ask, meanings: Sequence[Meaning]) -> Traced:
        """A count or a cost, which has one value under each protocol."""
        keys = self._keys(ask)
        here = [meaning for meaning in meanings if meaning.place.key in keys] or list(meanings)
        if not here:
            return self._told(ask, "untraceable", f"no record is of {ask.row!r}")
        right = next((meaning for meaning in here if off_by(ask.number, meaning.exact, 1) == 0), here[0])
        return self._compared(ask, right)

    def _seeds(self, ask: Ask) -> Traced:
        pairs = self._here(ask)
        if not pairs:
            return self._told(ask, "untraceable", without_cell(ask, self.recorded, self._methods(ask)))
        return self._compared(ask, count_of_seeds(self._lead(ask, pairs), ask.what))

    def _behind(self, ask: Ask, leading: _Found) -> Traced:
        """What stands behind a value in its cell: a half width, the ends of an interval, the count of seeds."""
        role = ask.number.role
        leading = leading if leading.meaning else self._led(ask)
        ask, of = replace(ask, what={"spread": ask.spread, "count": "n"}.get(role, role)), leading.meaning
        if of is None or of.cell is None:
            return self._told(ask, "untraceable", without_cell(ask, self.recorded, self._methods(ask)))
        right = self.recorded.meaning((of.place, of.cell), of.metric, of.split, ask.what)
        if right is None:
            return self._told(ask, "wrong", f"one seed has no {ask.what}")
        scale = leading.scale if role != "count" else 1
        is_right = off_by(ask.number, right.exact, scale) == 0
        if is_right and leading.elsewhere:
            return self._found(ask, "from another protocol", "is of the same cell as the value before it", right, scale)
        if not is_right:
            for other in others(self.recorded, right):
                if off_by(ask.number, other.exact, scale) == 0:
                    return self._mistaken(ask, right, scale, f"is the {other}, not the {right}")
        return self._compared(ask, right, scale)

    def _led(self, ask: Ask) -> _Found:
        """What the labels lead to, for a spread or an interval that stands without its value."""
        here = self._here(ask)
        mean = nearest_meaning(replace(ask, what="mean"), self.recorded, self._lead(ask, here)) if here else None
        return _Found(mean, 100 if mean and 100 in scales(ask, mean.metric) else 1)

    def _behind_published(self, ask: Ask, row: PublishedValue, scale: int) -> Traced:
        if ask.number.role == "spread" and row.spread is not None and off_by(ask.number, row.spread, scale) == 0:
            return self._told(ask, "reported", "is published with the value before it")
        return self._told(ask, "untraceable", "is not published with the value before it")

    def _value(self, ask: Ask) -> tuple[Traced, _Found]:
        here = self._here(ask)
        fits = _by_cell(found for pair in here for found in self._fits(ask, pair))
        if fits:
            return self._fitting(ask, here, fits)
        right = nearest_meaning(ask, self.recorded, self._lead(ask, here)) if here else None
        if right is not None:
            scale = scales(ask, right.metric)[0]
            also = otherwise(ask, self.recorded, right)
            if off_by(ask.number, right.exact, scale) == 1:
                one = self._compared(ask, right, scale)
                return replace(one, reason=f"{one.reason}; it {also}" if also else one.reason), _Found(right, scale)
            if also:
                return self._mistaken(ask, right, scale, also), _Found(right, scale)
        elsewhere = self._elsewhere(ask)
        if elsewhere is not None:
            return self._from_another_protocol(ask, elsewhere, right), elsewhere
        datasets = set(ask.place.datasets) if ask.place else {dataset_of(place.section) for place, _ in here}
        published = published_as(ask, self.published, datasets)
        if published:
            return self._reported(ask, published)
        if right is None:
            return self._without_value(ask, here), _LOST
        return self._unexplained(ask, here, right), _Found(right, scales(ask, right.metric)[0])

    def _fitting(self, ask: Ask, here: Sequence[Pair], fits: Sequence[_Found]) -> tuple[Traced, _Found]:
        """The number is of at least one cell that the labels lead to: of validation's choice, if it may be."""
        chosen, lead = self.recorded.chosen(here), self._lead(ask, here)
        by_id = {found.meaning.cell.cell_id: found for found in fits if found.meaning and found.meaning.cell}
        ids = [pair[1].cell_id for pair in (chosen, lead) if pair[1].cell_id in by_id] or list(by_id)
        found, is_chosen = by_id[ids[0]], ids[0] == chosen[1].cell_id
        meaning = found.meaning
        assert meaning is not None
        right = nearest_meaning(ask, self.recorded, chosen)
        if right is not None and not is_chosen and not ask.unknown:
            reason = chosen_on_test(self.recorded, here, meaning, right)
            if reason:
                return self._mistaken(ask, right, found.scale, reason), _Found(right, found.scale)
        reason, count = str(meaning), len({pair[1].cell_id for pair in here})
        if count > 1:
            which = "this one" if is_chosen else "another"
            reason += f"; the labels fit {count} cells, of which {SELECTED_BY[1]} chose {which}"
        also = [f.meaning for f in by_id.values() if f is not found and f.meaning and not is_chosen]
        one = self._found(ask, "traced", reason, meaning, found.scale)
        return replace(one, ambiguous=tuple(cell_text(self.recorded, other) for other in also)), found

    def _elsewhere(self, ask: Ask) -> _Found | None:
        """The same under another protocol: of a cell that agrees with the labels, or where none does, of the chosen."""
        keys, pairs = self._keys(ask), self._pairs(ask)
        others = [pair for pair in pairs if pair[0].key not in keys]
        if not others and (pairs or not ask.settings):
            loose = self.recorded.cells(self._methods(ask), ask.version)
            for key in sorted({pair[0].key for pair in loose} - keys):
                others.append(self.recorded.chosen([pair for pair in loose if pair[0].key == key]))
        fits = [found for pair in others for found in self._fits(ask, pair)]
        return replace(fits[0], elsewhere=True) if fits else None

    def _from_another_protocol(self, ask: Ask, found: _Found, right: Meaning | None) -> Traced:
        assert found.meaning is not None
        section = found.meaning.place.section
        dataset = f"dataset {dataset_of(section) or 'unnamed'} ({section.dataset_fingerprint[:19]})"
        than = "than the table says" if ask.place else "than most of the table"
        reason = f"is under another protocol or dataset {than}: {section.protocol_id}, {dataset}"
        one = self._found(ask, "from another protocol", reason, found.meaning, found.scale)
        return replace(one, correct=right_text(ask.number, right.exact, found.scale) if right else "")

    def _reported(
        self, ask: Ask, published: Sequence[tuple[PublishedTable, PublishedValue, int]]
    ) -> tuple[Traced, _Found]:
        sources = list(dict.fromkeys(f"{table.name} ({row.dataset}; {table.source})" for table, row, _ in published))
        one = self._told(ask, "reported", f"is nothing measured, but published: {sources[0]}")
        _, row, scale = published[0]
        return replace(one, ambiguous=tuple(sources[1:])), _Found(published=row, scale=scale)

    def _without_value(self, ask: Ask, here: Sequence[Pair]) -> Traced:
        """Nothing of the kind was measured on the cell that the labels lead to, if they lead to one."""
        if not here:
            return self._told(ask, "untraceable", without_cell(ask, self.recorded, self._methods(ask)))
        lead = self._lead(ask, here)
        name, what = self.recorded.name(lead), f"{ask.what} of {' or '.join(ask.metrics)} on {ask.split}"
        if lead[1].done == 0:
            return self._told(ask, "wrong", f"no seed of {name} is done: {lead[1].seeds_text}")
        variants = {one.variant for metric in ask.metrics for one in lead[1].measured.get((metric, ask.split), ())}
        if len(variants) == 1:
            return self._told(ask, "wrong", f"{name} has no {what}: {lead[1].seeds_text} done")
        how = f"was measured in several ways ({', '.join(sorted(variants))}), so that it" if variants else ""
        return self._told(ask, "untraceable", f"{name} {how} has no {what}".replace("  ", " "))

    def _unexplained(self, ask: Ask, here: Sequence[Pair], right: Meaning) -> Traced:
        scale = scales(ask, right.metric)[0]
        if ask.unknown:
            also = f"is not the {right}, and no record knows what the row also says: {' '.join(ask.unknown)}"
            return self._told(ask, "untraceable", also)
        reason = of_another_row(ask, self.recorded, right) or f"is not the {right}"
        count = len({pair[1].cell_id for pair in here})
        if count > 1:
            reason += f"; nor is it of another of the {count} cells that the labels fit"
        return self._mistaken(ask, right, scale, reason)

    def _seeds_of_caption(self, done: Sequence[Traced]) -> Iterator[Traced]:
        """ "Mean over 5 seeds", held against the seeds behind the means that were traced."""
        told = self.words.facts(self.table.caption).n_seeds
        counts = {one.evidence.n for one in done if one.evidence and (one.verdict, one.kind) == ("traced", "mean")}
        if told is None or not counts:
            return
        verdict: Verdict = "traced" if counts == {told} else "wrong"
        seen = ", ".join(map(str, sorted(counts)))
        start = (self.file, self.table.line, self.table.number, "caption", "", str(told), "seeds done", verdict)
        yield Traced(*start, f"the means of the table are over {seen} seeds", "" if verdict == "traced" else seen)

    # What is told ---------------------------------------------------------------------------------------------------

    def _told(self, ask: Ask, verdict: Verdict, reason: str) -> Traced:
        start = (self.file, ask.line, self.table.number, ask.row, ask.column, ask.number.text)
        return Traced(*start, ask.what or ask.number.role, verdict, reason)

    def _found(self, ask: Ask, verdict: Verdict, reason: str, meaning: Meaning, scale: int) -> Traced:
        return replace(self._told(ask, verdict, reason), evidence=_evidence(meaning, scale))

    def _mistaken(self, ask: Ask, right: Meaning, scale: int, reason: str) -> Traced:
        one = self._found(ask, "wrong", reason, right, scale)
        return replace(one, correct=right_text(ask.number, right.exact, scale))

    def _compared(self, ask: Ask, right: Meaning, scale: int = 1) -> Traced:
        """The verdict of a number that can be one thing only."""
        off = off_by(ask.number, right.exact, scale)
        if off == 0:
            return self._found(ask, "traced", str(right), right, scale)
        if off > 1 or isinstance(right.exact, int):
            return self._mistaken(ask, right, scale, f"is not the {right}")
        how = "is cut off" if is_cut_off(ask.number, right.exact, scale) else "is one off in its last place"
        exact = f"{float(as_fraction(right.exact) * scale):.8g}"
        one = self._found(ask, "rounded wrongly", f"{how}: the {right} is {exact}", right, scale)
        return replace(one, correct=right_text(ask.number, right.exact, scale))


def _by_cell(found: Iterable[_Found]) -> list[_Found]:
    """One of each cell and metric: two folders may hold the same records."""
    return list({(f.meaning.cell.cell_id, f.meaning.metric): f for f in found if f.meaning and f.meaning.cell}.values())


def _evidence(meaning: Meaning, scale: int) -> Evidence:
    section = meaning.place.section
    return Evidence(
        str(meaning.place.folder),
        section.protocol_id,
        section.dataset_fingerprint,
        meaning.label,
        meaning.cell.cell_id if meaning.cell else "",
        str(meaning),
        len(meaning.trials),
        meaning.exact,
        tuple(trial["trial_id"] for trial in meaning.trials),
        tuple(trial["result_digest"] for trial in meaning.trials if trial["result_digest"]),
        meaning.query(scale),
    )
