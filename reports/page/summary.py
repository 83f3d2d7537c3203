"""Sentences for the page: the summary at its top, the notes below its tables, and counts of trials.

With claims, the summary repeats their verdicts. Without, it says which methods differ significantly, and nothing more.
"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twinbench.reports.statistics import separation
from twinbench.reports.statistics.intervals import ALPHA, CONFIDENCE, Interval, least_wins
from twinbench.reports.tables.cells import BASELINES, NOT_DONE, REPORTED_ON, Cell, Section, numbers_text, seeds_of
from twinbench.reports.tables.frames import estimate_text, signed
from twinbench.reports.verdicts.verdict import Verdict
from twinbench.sweeps.errors import counted, plain
from twinbench.sweeps.metrics import METRICS

SHOWN = 5  # claims quoted in the summary; all of them follow below it


@dataclass(frozen=True)
class Grouping:
    """The trained methods of one column of a table, highest mean first, with the letters of their groups."""

    metric: str
    order: tuple[str, ...]
    letters: Mapping[str, str]
    leader: str  # significantly different from every other; empty if no method is
    fewest_seeds: int

    @property
    def above(self) -> list[tuple[list[str], list[str]]]:
        """Return pairs (upper, lower): every method of `upper` is significantly above every method of `lower`."""
        found: dict[tuple[str, ...], list[str]] = {}
        for place, name in enumerate(self.order):
            upper = tuple(one for one in self.order[:place] if not set(self.letters[one]) & set(self.letters[name]))
            if upper:
                found.setdefault(upper, []).append(name)
        return [(list(upper), lower) for upper, lower in found.items()]

    @property
    def groups(self) -> list[list[str]]:
        """Return the groups of two or more methods without a significant difference, in the order of the letters."""
        marks = sorted({mark for own in self.letters.values() for mark in own})
        members = [[name for name in self.order if mark in self.letters[name]] for mark in marks]
        return [group for group in members if len(group) > 1]


def grouping(section: Section, metric: str) -> Grouping:
    """Return the groups of the trained methods' chosen cells in one metric. Baselines are not tested."""
    return group_cells(_trained(section), metric)


def group_cells(cells: Mapping[str, Cell], metric: str) -> Grouping:
    """Return the groups of named cells in one metric, whose tests form one family."""
    values = _values(cells, metric)
    means = {name: mean for name in values if (mean := cells[name].interval(metric))}
    order = separation.by_mean((name, mean.mean) for name, mean in means.items())
    different = separation.significantly_different(values)
    return Grouping(
        metric,
        tuple(order),
        separation.letters(different, order),
        order[0] if separation.leads(different, order) else "",
        min((mean.n for mean in means.values()), default=0),
    )


def _trained(section: Section) -> dict[str, Cell]:
    return {label: cell for label, cell in section.reported.items() if not cell.is_baseline}


def _values(cells: Mapping[str, Cell], metric: str) -> dict[str, dict[int, float]]:
    """Return the values by seed of each cell whose trials were measured with one variant of the metric."""
    return {name: cell.by_seed(metric) for name, cell in cells.items() if cell.interval(metric) is not None}


# --- prose ----------------------------------------------------------------------------------------------------------


def from_verdicts(verdicts: Sequence[Verdict]) -> list[str]:
    """Return how many claims are supported, quotes of supported and contradicted ones, and counts of the others."""
    supported = [verdict for verdict in verdicts if verdict.is_supported]
    contradicted = [verdict for verdict in verdicts if verdict.word == "CONTRADICTED"]
    sentences = [f"Of {counted(len(verdicts), 'claim')}, {_count(len(supported))} supported."]
    sentences += [_quoted(verdict) for verdict in [*supported, *contradicted][:SHOWN]]
    rest = [verdict.word for verdict in verdicts if verdict not in supported and verdict not in contradicted]
    counts = [f"{count} {word.lower().replace('_', ' ')}" for word, count in sorted(Counter(rest).items())]
    return sentences + ([f"Not settled: {', '.join(counts)}."] if counts else [])


def from_seeds(section: Section) -> list[str]:
    """Return sentences on which methods differ significantly by paired tests with Holm's correction. Not a verdict."""
    metric = section.selected_by[0]
    groups = grouping(section, metric)
    name = METRICS[metric].phrase
    sentences = ["Exploratory: no claims were declared."]
    if not groups.order:
        return [*sentences, f"No trained method has a {name} on {REPORTED_ON} yet."]
    if len(groups.order) == 1:
        (label,) = groups.order
        level = estimate_text(section.reported[label].interval(metric))
        return [*sentences, f"{label} reaches a {name} of {level} % on {REPORTED_ON} in its chosen cell."]
    n, pairs = groups.fewest_seeds, math.comb(len(groups.order), 2)
    tests = f"paired t tests over {n} seeds, Holm's correction over {counted(pairs, 'pair')}, 5 %"
    if n == 1:
        tests = "methods with one seed cannot be tested"
    where = f"In {name} on {REPORTED_ON},"
    if [sorted(group) for group in groups.groups] == [sorted(groups.order)]:
        how = "cannot be compared by a test" if n == 1 else "are not significantly different"
        sentences.append(f"{where} {and_(groups.order)} {how} ({tests}).")
        return sentences + _cautions(section, groups, any_significant=False)
    if groups.leader:
        sentences.append(f"{where} {groups.leader} is significantly above every other method ({tests}).")
    else:
        sentences.append(f"{where} no method is significantly above every other ({tests}).")
        sentences += [
            f"{and_(upper)} {'is' if len(upper) == 1 else 'are'} significantly above {and_(low)}."
            for upper, low in groups.above
        ]
    if groups.groups:
        sentences.append(f"Not significantly different: {'; '.join(and_(group) for group in groups.groups)}.")
    return sentences + _cautions(section, groups, any_significant=True)


def _cautions(section: Section, groups: Grouping, any_significant: bool) -> list[str]:
    """Return the reasons for which a verdict would not support a sentence like those of `from_seeds`."""
    cautions = []
    least_pairs = least_wins(ALPHA)
    if any_significant and groups.fewest_seeds < least_pairs:
        cautions.append(
            f"A claim of this difference would not be supported: fewer than {least_pairs} pairs of seeds cannot show "
            "that the probability of one method winning at a new seed is above one half."
        )
    least = int(section.content.get("minimum_seeds", 1))
    few = [label for label in groups.order if section.reported[label].done < least]
    if few:
        cautions.append(f"Fewer seeds than the protocol's minimum of {least}: {and_(few)}.")
    tried = {label: len(section.methods[label]) for label in groups.order}
    if len(set(tried.values())) > 1:
        counts = ", ".join(f"{label} {count}" for label, count in tried.items())
        cautions.append(f"The methods were tuned unequally; number of cells to choose from: {counts}.")
    return cautions


def _quoted(verdict: Verdict) -> str:
    if verdict.word == "CONTRADICTED":
        opening = "Contradicted (exploratory)" if verdict.exploratory else "Contradicted"
    else:
        opening = "Supported as stated" if verdict.word == "SUPPORTED_AS_STATED" else "Supported"
        opening += ", but exploratory (declared after its results)" if verdict.exploratory else ""
    return f"{opening}: “{plain(verdict.judged)}”"


def _count(number: int) -> str:
    return "none is" if number == 0 else "one is" if number == 1 else f"{number} are"


# --- under the tables -----------------------------------------------------------------------------------------------


def notes(section: Section) -> list[str]:
    """Return the notes below every table of accuracies."""
    deviations = [f"{one['key']}: {one['reason']}" for one in section.deviations]
    return [
        f"Mean ± half the width of the {CONFIDENCE:.0%} t interval over seeds. The interval covers the variation "
        f"between seeds only, not the sampling of the {REPORTED_ON} images.",
        selection_words(section),
        *confirm_words(section),
        f"Protocol {section.ran_as}. {counts(section)}",
        *shared_seeds(section),
        *([f"Reasons for deviating from the protocol: {'; '.join(deviations)}."] if deviations else []),
    ]


def shared_seeds(section: Section) -> list[str]:
    """Return how the chosen cells of two methods correlate over shared seeds, which is what pairing by seed gains.

    In a sweep of one method, its chosen cell is compared with its other cells. Empty if no correlation is defined.
    """
    metric = section.selected_by[0]
    values, pair = _values(_trained(section), metric), "two methods"
    if len(values) == 1:  # the other cells have only the seeds of the grid
        (method,) = values
        chosen = section.chosen[method].cell_id
        values = _values({cell.cell_id: cell for cell in section.methods[method]}, metric)
        others = [{chosen: values[chosen], other: values[other]} for other in values if other != chosen]
        found = [r for rows in others for r in separation.seed_correlations(rows)]  # of all pairs there may be millions
        pair = f"the chosen cell of {method} and another cell"
    else:
        found = separation.seed_correlations(values)
    if not found:
        return []
    several = f" (median of {len(found)} pairs; {signed(min(found))} to {signed(max(found))})" if len(found) > 1 else ""
    return [
        "Trials with the same seed see the same images in the same order with the same augmentation, so comparisons "
        f"are paired by seed. Over seeds, the {METRICS[metric].phrase} of {pair} has a correlation of "
        f"{signed(statistics.median(found))}{several}."
    ]


def selection_words(section: Section) -> str:
    """Return how the cell that represents a method was chosen."""
    metric, split = section.selected_by
    if all(len(cells) == 1 for cells in section.methods.values()):
        return f"Each method has one cell, so none was chosen. {_selection(section)}"
    return (
        f"For each method, the cell with the highest mean {split} {METRICS[metric].phrase} was chosen (ties are broken "
        f"by the cell's id); cells with missing seeds rank last. {_selection(section)}"
    )


def confirm_words(section: Section) -> list[str]:
    """Return on which seeds cells were chosen and are reported, and what the intervals do not cover if on the same."""
    chosen, reported = section.chosen.values(), section.reported.values()
    sentences = []
    if any(cell.confirms for cell in reported):
        sentences.append(
            f"Cells were chosen on {seeds_of(cell for cell in chosen if cell.confirmed)}; results of the chosen cells "
            f"are from new {seeds_of(cell for cell in reported if cell.confirms)}."
        )
    elif section.has_confirm_stage:
        sentences.append(f"The confirm stage, on seeds {numbers_text(section.confirm_seeds)}, has not begun.")
    same = [label for label, cell in section.reported.items() if not cell.confirms and len(section.methods[label]) > 1]
    if same:
        sentences.append(
            f"{and_(same)}: the cell was chosen among several by the seeds that are reported, so its interval does not "
            "cover the bias of the choice."
        )
    return sentences


def _selection(section: Section) -> str:
    """Return whether the images that numbers are reported on were used for selection."""
    if section.selected_by[1] != REPORTED_ON:
        return f"No {REPORTED_ON} data was used for selection."
    best = section.content.get("checkpoint") == "best_on_test"
    epochs = ", and each value is the best over the epochs measured" if best else ""
    return f"Accuracy is reported on the same images that were used for selection{epochs}, so it is optimistic."


# --- counts ---------------------------------------------------------------------------------------------------------


def facts(section: Section) -> list[str]:
    """Return what the section contains: methods, protocol, varied axes, trials and baselines."""
    methods = [label for label, cells in section.methods.items() if not cells[0].is_baseline]
    opening = counted(len(methods), "method")
    opening += f" ({', '.join(methods)})" if methods else ""
    opening += f" under protocol {section.ran_as}"
    axes = [f"{axis}{section.own_value(axis)}" for axis in section.varied_axes]
    opening += f"; varied: {', '.join(axes)}" if axes else "; no axis was varied"
    return [sentence for sentence in (f"{opening}.", counts(section), against_baselines(section)) if sentence]


def counts(section: Section) -> str:
    """Return the number of trials by status: "12 trials: 10 done, 1 diverged, 1 missing." """
    statuses = sum((part.statuses for cell in section.cells for part in cell.parts), Counter())
    order = ("done", *NOT_DONE, "missing")
    found = [f"{statuses[status]} {status}" for status in order if statuses[status] or status == "done"]
    return f"{counted(len(section.trials), 'trial')}: {', '.join(found)}."


def against_baselines(section: Section) -> str:
    """Return which methods are not above both baselines in the mean of the metric that selects, on test.

    Means are compared, without a test.
    """
    metric = section.selected_by[0]
    means = {label: cell.interval(metric) for label, cell in section.reported.items()}
    methods = {label: mean for label, mean in means.items() if not section.chosen[label].is_baseline}
    baselines = {label: mean for label, mean in means.items() if mean is not None and label not in methods}
    if not methods:
        return ""
    absent = [name for name in BASELINES if name not in {section.chosen[label].method for label in baselines}]
    if absent:
        return f"No comparison with the baselines: {and_(absent)} {'has' if len(absent) == 1 else 'have'} no result."
    unknown = [label for label, mean in methods.items() if mean is None]
    below = [
        f"{and_(beaten)} {'is' if len(beaten) == 1 else 'are'} not above {_level(name, other)}"
        for name, other in baselines.items()
        if (beaten := [label for label, mean in methods.items() if mean and mean.mean <= other.mean])
    ]
    where = f"mean {METRICS[metric].phrase} on {REPORTED_ON}"
    if not below and not unknown:
        levels = and_([_level(name, other) for name, other in baselines.items()])
        return f"Every method's {where} is above {levels}."
    sentences = [f"In {where}, {'; '.join(below)}."] if below else []
    return " ".join(sentences + ([f"No mean to compare: {and_(unknown)}."] if unknown else []))


def _level(name: str, mean: Interval) -> str:
    level = f"{100 * mean.mean:.1f} %, one seed" if mean.half_width is None else f"{estimate_text(mean)} %"
    return f"{name} ({level})"


def and_(names: Sequence[str]) -> str:
    """Return the names as one text: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def plural(word: str, count: float) -> str:
    """Return the word in singular or plural, to match the count."""
    return word if count == 1 else f"{word}s"
