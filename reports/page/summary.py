"""The answer in prose: what the verdicts say where claims were made, else what the seeds tell apart, and no more."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twinbench.reports.statistics import separation
from twinbench.reports.statistics.intervals import ALPHA, CONFIDENCE, least_wins
from twinbench.reports.tables.cells import BASELINES, NOT_DONE, REPORTED_ON, Cell, Section
from twinbench.reports.tables.frames import estimate_text
from twinbench.reports.verdicts.formats.text import plain
from twinbench.reports.verdicts.verdict import CONTRADICTED, SUPPORTED_AS_STATED, Verdict
from twinbench.sweeps.metrics import KNN, METRICS

SHOWN = 5  # claims that the opening quotes; all stand below it


@dataclass(frozen=True)
class Grouping:
    """The trained methods of a table's column: highest mean first, with the letters of the groups they belong to."""

    metric: str
    order: tuple[str, ...]
    letters: Mapping[str, str]
    leader: str  # told apart from every other; empty where none is
    fewest_seeds: int

    @property
    def above(self) -> list[tuple[list[str], list[str]]]:
        """Who lies above whom as far as the seeds tell: the upper ones of each lower one, equal sets told once."""
        found: dict[tuple[str, ...], list[str]] = {}
        for place, name in enumerate(self.order):
            upper = tuple(one for one in self.order[:place] if not set(self.letters[one]) & set(self.letters[name]))
            if upper:
                found.setdefault(upper, []).append(name)
        return [(list(upper), lower) for upper, lower in found.items()]

    @property
    def groups(self) -> list[list[str]]:
        """Those of two or more that cannot be told apart, in the order of the letters."""
        marks = sorted({mark for own in self.letters.values() for mark in own})
        members = [[name for name in self.order if mark in self.letters[name]] for mark in marks]
        return [group for group in members if len(group) > 1]


def grouping(section: Section, metric: str) -> Grouping:
    """Baselines stand outside: they are levels to be above, and no competitors. One family per metric."""
    values = _by_seed(section, metric)
    found = {label: mean for label in values if (mean := section.chosen[label].interval(metric, REPORTED_ON))}
    order = separation.by_mean((label, mean.mean) for label, mean in found.items())
    apart = separation.told_apart(values)
    return Grouping(
        metric,
        tuple(order),
        separation.letters(apart, order),
        order[0] if separation.leads(apart, order) else "",
        min((mean.n for mean in found.values()), default=0),
    )


def _by_seed(section: Section, metric: str) -> dict[str, dict[int, float]]:
    """The values of each trained method's chosen cell."""
    return _values({label: cell for label, cell in section.chosen.items() if not cell.is_baseline}, metric)


def _values(cells: Mapping[str, Cell], metric: str) -> dict[str, dict[int, float]]:
    """Of each cell by seed, where they were measured alike."""
    return {
        name: {one.seed: one.value for one in cell.measured[metric, REPORTED_ON]}
        for name, cell in cells.items()
        if cell.interval(metric, REPORTED_ON) is not None
    }


# --- prose ----------------------------------------------------------------------------------------------------------


def from_verdicts(verdicts: Sequence[Verdict]) -> list[str]:
    """A count, then what is supported and what is contradicted; of the others only how many there are."""
    supported = [verdict for verdict in verdicts if verdict.is_supported]
    contradicted = [verdict for verdict in verdicts if verdict.word == CONTRADICTED]
    told = [f"Of {len(verdicts)} {plural('claim', len(verdicts))}, {_count(len(supported))} supported."]
    told += [_supported(verdict) for verdict in supported[:SHOWN]]
    told += [_contradicted(verdict) for verdict in contradicted[: SHOWN - len(supported[:SHOWN])]]
    rest = [verdict for verdict in verdicts if verdict not in supported and verdict not in contradicted]
    words = sorted({verdict.word for verdict in rest})
    counts = [f"{sum(verdict.word == word for verdict in rest)} {word.lower().replace('_', ' ')}" for word in words]
    return told + ([f"Not settled: {', '.join(counts)}."] if counts else [])


def from_seeds(section: Section) -> list[str]:
    """Groups of methods, as paired tests with Holm's correction tell them apart: a description, not a verdict."""
    metric = section.selected_by[0]
    groups = grouping(section, metric)
    name = METRICS[metric].phrase
    told = ["No claim was declared, so this describes what was seen and judges nothing."]
    if not groups.order:
        return [*told, f"No trained method has a {name} on {REPORTED_ON} yet."]
    if len(groups.order) == 1:
        (label,) = groups.order
        level = estimate_text(section.chosen[label].interval(metric, REPORTED_ON))
        return [*told, f"{label} reaches a {name} of {level} % on {REPORTED_ON} in the cell that was chosen."]
    tests = (
        f"paired t tests over {groups.fewest_seeds} {plural('seed', groups.fewest_seeds)}, "
        f"Holm's correction over {len(groups.order) * (len(groups.order) - 1) // 2} "
        f"{plural('pair', len(groups.order) * (len(groups.order) - 1) // 2)}, 5 %"
    )
    if groups.fewest_seeds == 1:
        tests = "a single seed shows no spread, so that no test tells anything"
    if groups.leader:
        told.append(f"In {name} on {REPORTED_ON}, {groups.leader} lies above every other method ({tests}).")
    elif [sorted(group) for group in groups.groups] == [sorted(groups.order)]:
        told.append(f"In {name} on {REPORTED_ON}, {and_(groups.order)} cannot be told apart ({tests}).")
        return told + _cautions(section, groups, any_apart=False)
    else:
        told.append(f"In {name} on {REPORTED_ON}, no method lies above every other ({tests}).")
        told += [
            f"{and_(upper)} {'lies' if len(upper) == 1 else 'lie'} above {and_(low)}." for upper, low in groups.above
        ]
    if groups.groups:
        told.append(f"Not told apart: {'; '.join(and_(group) for group in groups.groups)}.")
    return told + _cautions(section, groups, any_apart=True)


def _cautions(section: Section, groups: Grouping, any_apart: bool) -> list[str]:
    """What a verdict would hold against such a sentence."""
    told = []
    least_pairs = least_wins(ALPHA)
    if any_apart and groups.fewest_seeds < least_pairs:
        told.append(
            f"As a claim this would not be supported: with fewer than {least_pairs} pairs of seeds, the chance that "
            "one method wins at a further seed cannot be shown to be above one half."
        )
    least = int(section.content.get("minimum_seeds", 1))
    few = [label for label in groups.order if section.chosen[label].done < least]
    if few:
        told.append(f"Fewer seeds than the {least} that the protocol asks for: {and_(few)}.")
    tried = {label: len(section.methods[label]) for label in groups.order}
    if len(set(tried.values())) > 1:
        counts = ", ".join(f"{label} out of {count}" for label, count in tried.items())
        told.append(f"The methods were tuned unequally; cells to choose from: {counts}.")
    return told


def _supported(verdict: Verdict) -> str:
    how = "Supported as stated" if verdict.word == SUPPORTED_AS_STATED else "Supported"
    late = ", but exploratory, since it was not declared before its results" if verdict.exploratory else ""
    return f"{how}{late}: “{plain(verdict.claim.sentence)}”"


def _contradicted(verdict: Verdict) -> str:
    late = " (exploratory)" if verdict.exploratory else ""
    return f"Contradicted{late}: “{plain(verdict.claim.sentence)}”"


def _count(number: int) -> str:
    return "none is" if number == 0 else "one is" if number == 1 else f"{number} are"


# --- under the tables -----------------------------------------------------------------------------------------------


def notes(section: Section) -> list[str]:
    """What stands under every table of accuracies."""
    deviations = [f"{one['key']}: {one['reason']}" for one in section.deviations]
    return [
        f"Mean over seeds ± half of the {CONFIDENCE:.0%} t interval over seeds. The interval covers the variation "
        f"between seeds only, not that of the {REPORTED_ON} sample.",
        selection_words(section),
        f"Protocol {section.protocol_id}. {counts(section)}",
        *shared_seeds(section),
        *([f"Why it deviates from the protocol: {'; '.join(deviations)}."] if deviations else []),
    ]


def shared_seeds(section: Section) -> list[str]:
    """What it is worth that methods share a seed, as far as the chosen cells show it; of one method, its others too."""
    metric = section.selected_by[0]
    values, pair = _by_seed(section, metric), "two methods"
    if len(values) == 1:
        (method,) = values
        chosen = section.chosen[method].cell_id
        values = _values({cell.cell_id: cell for cell in section.methods[method]}, metric)
        others = [{chosen: values[chosen], other: values[other]} for other in values if other != chosen]
        found = [r for rows in others for r in separation.seed_correlations(rows)]  # of all pairs there may be millions
        pair = f"the selected cell of {method} and another"
    else:
        found = separation.seed_correlations(values)
    if not found:
        return []
    around = f", {min(found):.2f} to {max(found):.2f}" if len(found) > 1 else ""
    return [
        "Trials of one seed see the same images in the same order, distorted alike, so comparisons are paired by seed: "
        f"over seeds the {METRICS[metric].phrase} of {pair} correlates by {statistics.median(found):.2f} "
        f"({plural('pair', len(found))}: {len(found)}{around})."
    ]


def selection_words(section: Section) -> str:
    """What chose the cell that stands for a method."""
    metric, split = section.selected_by
    return (
        f"The cell of each method was selected by the highest mean {split} {METRICS[metric].phrase} (ties: the cell's "
        f"id); cells that lack seeds stand back. {_selection(section)}"
    )


def _selection(section: Section) -> str:
    """Whether the images that numbers are reported on had a part in choosing them."""
    if section.selected_by[1] != REPORTED_ON:
        return f"{REPORTED_ON.capitalize()} data selected nothing."
    best = section.content.get("checkpoint") == "best_on_test"
    epochs = ", and each value is that of the best epoch on them" if best else ""
    return f"These are the very images that it is reported on{epochs}: a look at the answers, which flatters."


# --- counts ---------------------------------------------------------------------------------------------------------


def facts(section: Section) -> list[str]:
    """Counts and facts, no judgement."""
    methods = [label for label, cells in section.methods.items() if not cells[0].is_baseline]
    moved = [axis for axis in section.axes if any(axis in section.moved(label) for label in section.methods)]
    opening = f"{len(methods)} {plural('method', len(methods))}"
    opening += f" ({', '.join(methods)})" if methods else ""
    opening += f" under protocol {section.protocol_id}"
    opening += f"; moved: {', '.join(moved)}" if moved else "; no axis was moved"
    return [sentence for sentence in (f"{opening}.", counts(section), against_baselines(section)) if sentence]


def counts(section: Section) -> str:
    """ "12 trials: 10 done, 1 diverged, 1 missing." """
    statuses = [str(trial["status"]) for trial in section.trials]
    order = ("done", *NOT_DONE, "missing")
    found = [f"{statuses.count(status)} {status}" for status in order if status in statuses or status == "done"]
    return f"{len(statuses)} {plural('trial', len(statuses))}: {', '.join(found)}."


def against_baselines(section: Section) -> str:
    """Which methods' mean kNN on test lies above both baselines. Means only; whether that is sure is another matter."""
    means = {label: cell.interval(KNN.name, REPORTED_ON) for label, cell in section.chosen.items()}
    baselines = {
        label: mean for label, mean in means.items() if mean is not None and section.chosen[label].method in BASELINES
    }
    methods = {label: mean for label, mean in means.items() if not section.chosen[label].is_baseline}
    if not methods:
        return ""
    absent = [name for name in BASELINES if name not in {section.chosen[label].method for label in baselines}]
    if absent:
        return f"No comparison with the baselines: {and_(absent)} {'has' if len(absent) == 1 else 'have'} no result."
    below, unknown = [], []
    for label, mean in methods.items():
        if mean is None:
            unknown.append(label)
            continue
        beaten_by = [name for name, other in baselines.items() if other.mean >= mean.mean]
        if beaten_by:
            below.append(f"{label} (not above {and_(beaten_by)})")
    levels = ", ".join(f"{label} {estimate_text(mean)}" for label, mean in baselines.items())
    if not below and not unknown:
        return f"Every method's mean {KNN.phrase} on {REPORTED_ON} is above both baselines ({levels}, in percent)."
    said = (
        [f"Not above both baselines in mean {KNN.phrase} on {REPORTED_ON} ({levels}, in percent): {and_(below)}."]
        if below
        else []
    )
    return " ".join(said + ([f"Without a mean to compare: {and_(unknown)}."] if unknown else []))


def and_(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def plural(word: str, count: float) -> str:
    """The word as it stands beside the count."""
    return word if count == 1 else f"{word}s"
