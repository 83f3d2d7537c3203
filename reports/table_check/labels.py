"""Find methods, metrics, splits, settings and datasets of the records in the labels of a printed table.

Each part of a label that is understood is removed from it; the words that remain are `unknown`.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from twinbench.reports.table_check.words import (
    CHOSEN_ON,
    CITATIONS,
    CITED,
    CITING_NOTE,
    DATASETS,
    EPOCHS,
    ERROR,
    ERROR_BARS,
    GREEK_LETTERS,
    MARKS,
    METHOD_PHRASES,
    METRIC_PHRASES,
    N_SEEDS,
    NOISE,
    NUMBER,
    NUMBER_WORDS,
    SEED,
    SETTING_PHRASES,
    SPLITS,
    STATISTICS,
)
from twinbench.reports.tables.cells import Section
from twinbench.reports.tables.published import PublishedValue

Settings = tuple[tuple[tuple[str, ...], str], ...]  # each: the settings that a word may mean, and the printed value


@dataclass(frozen=True)
class Facts:
    """The content of one label. Every field may be empty."""

    methods: frozenset[str] = frozenset()  # of the records or of published tables
    version: int | None = None  # of the method
    metric: frozenset[str] = frozenset()  # words of a metric's name
    splits: frozenset[str] = frozenset()
    statistics: frozenset[str] = frozenset()  # of STATISTICS
    settings: Settings = ()
    named: tuple[str, ...] = ()  # settings without a value
    datasets: frozenset[str] = frozenset()
    protocols: frozenset[tuple[str, int | None]] = frozenset()
    hashes: frozenset[str] = frozenset()  # of protocols
    ids: frozenset[str] = frozenset()  # of cells or trials
    seed: int | None = None
    n_seeds: int | None = None
    percent: bool = False
    spread: bool = False  # the label holds a ±
    error: bool = False  # the metric is an error rate: one minus the accuracy
    cited: bool = False  # the label says that its numbers are taken from elsewhere
    marks: frozenset[str] = frozenset()  # of footnotes: †, ‡, *
    unknown: tuple[str, ...] = ()

    @property
    def names_protocol_or_dataset(self) -> bool:
        return bool(self.datasets or self.protocols or self.hashes)


NO_FACTS = Facts()


class Vocabulary:
    """The names in the records and the published tables; finds them in labels."""

    def __init__(self, sections: Sequence[Section], published: Sequence[PublishedValue], metrics: Iterable[str]):
        """`metrics`: those of the records."""
        cells = [cell for section in sections for cell in section.cells]
        self.labels = {cell.label: cell.method for cell in cells}
        names = sorted({*metrics, *(row.metric for row in published)})
        self.metrics = {name: frozenset(name.split("_")) for name in names}
        self.hashes = {section.protocol_hash for section in sections}
        self.ids = {cell.cell_id for cell in cells} | {
            trial["trial_id"] for section in sections for trial in section.trials
        }
        self.known_settings = {name for cell in cells for name in cell.values}
        self._values = {
            value.number
            for section in sections
            for label in section.methods
            for values in section.varied(label).values()
            for value in values
            if value.number is not None
        }
        self._names = self._all_names(sections, published)
        self._longest = max((len(re.findall(r"[a-z]+|\d+", name)) for name in self._names), default=1)
        self._settings = self._setting_pattern()
        self._protocol_values = _protocol_values(sections)
        # By the label of a CSV file's column `protocol`, whose settings not all rows have: baselines have none.
        self._protocols = {section.ran_as: replace(section, deviations=()).protocol_id for section in sections}
        self._noise = frozenset(NOISE.split())
        self.facts = functools.cache(self._facts)  # of a label

    def _all_names(
        self, sections: Sequence[Section], published: Sequence[PublishedValue]
    ) -> dict[str, list[tuple[str, str]]]:
        """Return lists of (kind, name), by the name without spaces, hyphens and underscores."""
        methods = {*self.labels.values(), *(row.method for row in published)}
        datasets = {*map(dataset_of, sections), *(row.dataset for row in published), *DATASETS} - {""}
        pairs = [("method", name, name) for name in sorted(methods)]
        pairs += [("method", name, phrase) for phrase, name in METHOD_PHRASES.items() if name in methods]
        pairs += [("dataset", name, name) for name in sorted(datasets)]
        pairs += [("protocol", name, name) for name in sorted({section.protocol_name for section in sections})]
        pairs += [("metric", word, word) for words in self.metrics.values() for word in words]
        pairs += [("metric", word, phrase) for phrase, word in METRIC_PHRASES.items()]
        names: dict[str, list[tuple[str, str]]] = {}
        for kind, name, spelled in pairs:
            if (kind, name) not in (found := names.setdefault(compact(spelled), [])):
                found.append((kind, name))
        return names

    def _setting_pattern(self) -> re.Pattern[str]:
        self._phrases: dict[str, tuple[str, ...]] = {name.replace("_", " "): (name,) for name in self.known_settings}
        for phrase, names in SETTING_PHRASES.items():
            known = tuple(name for name in names if name in self.known_settings)
            if known:
                self._phrases.setdefault(phrase, known)
        phrases = "|".join(map(re.escape, sorted(self._phrases, key=lambda phrase: (-len(phrase), phrase)))) or "(?!)"
        value = rf"\s*[=:]\s*(?P<given>\[[^\]]*\]|\{{[^}}]*\}}|{NUMBER}(?=$|[\s,;()%])|[^\s,;()]+)"
        return re.compile(
            rf"(?<![a-z0-9])(?P<name>{phrases})s?(?:{value}|\s*(?P<number>(?=[-+−.\d]){NUMBER})(?![a-z0-9]))?(?![a-z])"
        )

    def _facts(self, label: str) -> Facts:
        text = self._protocol_values.sub(" ", _normalised(self._protocols.get(label, label)))
        marks = frozenset(label) & set(MARKS)
        facts = Facts(percent="%" in text or "percent" in text, spread="±" in text, marks=marks)
        label = label.strip(f"{MARKS} ")
        if label in self.labels:  # as reports print it: unambiguous
            version = re.search(r"\(version (\d+)\)$", label)
            return replace(facts, methods=frozenset([self.labels[label]]), version=int(version[1]) if version else None)
        text, cited = CITED.subn(" ", text)
        text = re.sub(r"\bself supervised\b", " ", text)
        facts = replace(facts, cited=cited > 0)
        ids = frozenset(one for one in re.findall(r"\b[0-9a-f]{16}\b", text) if one in self.ids)
        starts = [one for one in re.findall(r"\b[0-9a-f]{8,64}\b", text) if one not in ids]
        hashes = frozenset(h for h in self.hashes for start in starts if h.startswith(start))
        text = re.sub(r"\b[0-9a-f]{8,64}\b", lambda m: " " if m[0] in ids or hashes else m[0], text)
        text, facts = self._take_phrases(text, replace(facts, ids=ids, hashes=hashes))
        text, facts = self._take_settings(text, facts)
        return self._take_names(text, facts)

    def _take_phrases(self, text: str, facts: Facts) -> tuple[str, Facts]:
        """Move statistics, splits and counts of seeds from the text to the facts."""
        text = CHOSEN_ON.sub(" ", CITATIONS.sub(" ", text))
        statistics, splits = set(), set()
        for phrase, statistic in STATISTICS.items():
            text, found = re.subn(phrase, " ", text)
            statistics |= {statistic} if found else set()
        text, errors = ERROR.subn(" ", ERROR_BARS.sub(" ", text))
        for phrase, split in SPLITS.items():
            text, found = re.subn(phrase, " ", text)
            splits |= {split} if found else set()
        for number, word in enumerate(NUMBER_WORDS):
            text = re.sub(rf"\b{word}(?= (?:[a-z]+ ){{0,2}}?(?:seeds|runs)\b)", str(number), text)
        n_seeds, seed = N_SEEDS.search(text), SEED.search(text)
        text = SEED.sub(" ", N_SEEDS.sub(" ", text))
        return text, replace(
            facts,
            statistics=frozenset(statistics),
            error=errors > 0,
            splits=frozenset(splits),
            n_seeds=int(n_seeds[1] or n_seeds[2]) if n_seeds else None,
            seed=int(seed[1]) if seed else None,
        )

    def _take_settings(self, text: str, facts: Facts) -> tuple[str, Facts]:
        """Move settings, with and without values, from the text to the facts."""
        settings: list[tuple[tuple[str, ...], str]] = []
        named: list[str] = []
        if "epochs" in self.known_settings:
            settings += [(("epochs",), match[1]) for match in EPOCHS.finditer(text)]
            text = EPOCHS.sub(" ", text)
        for match in self._settings.finditer(text):
            names, value = self._phrases[match["name"]], match["given"] or match["number"]
            if value:
                settings.append((names, value))
            else:
                named += names
        return self._settings.sub(" ", text), replace(facts, settings=tuple(settings), named=tuple(named))

    def _take_names(self, text: str, facts: Facts) -> Facts:
        """Add methods, datasets, protocols and metrics, trying the longest names first; other words are unknown."""
        words = re.findall(r"[a-z]+\d*\+?|\d+(?:\.\d+)?[a-z]*\+?|\+|[^\W\d_a-z]+", text)
        found: dict[str, set[str]] = {"method": set(), "dataset": set(), "metric": set()}
        protocols: set[tuple[str, int | None]] = set()
        version, unknown, place = None, [], 0
        while place < len(words):
            lengths = range(self._longest + 1, 0, -1)
            count = next((n for n in lengths if "".join(words[place : place + n]) in self._names), 0)
            kinds = self._names["".join(words[place : place + count])] if count else []
            place += count
            of_version, taken = _version(words[place:]) if kinds else (None, 0)
            place += taken
            for kind, name in kinds:
                if kind == "protocol":
                    protocols.add((name, of_version))
                else:
                    found[kind].add(name)
                    version = of_version if kind == "method" and taken else version
            if not kinds:
                unknown += [] if words[place] in self._noise else [words[place]]
                place += 1
        with_version = {name for name, version in protocols if version is not None}
        return replace(
            facts,
            methods=frozenset(found["method"]),
            version=version,
            # "top-5 accuracy" names top-5 alone, although "accuracy" means top-1
            metric=frozenset(found["metric"] - ({"top1"} if "top5" in found["metric"] else set())),
            datasets=frozenset(found["dataset"]),
            protocols=frozenset(one for one in protocols if one[1] is not None or one[0] not in with_version),
            unknown=tuple(unknown),
        )

    def metrics_of(self, scopes: Iterable[frozenset[str]]) -> list[str]:
        """Return the metrics with the words of the nearest scope, and of further scopes as long as one metric has all.

        If no scope names a metric, return all accuracies: papers often name the only metric of a table in the text.
        """
        words: frozenset[str] = frozenset()
        for scope in scopes:
            combined = words | scope
            if not words or any(combined <= metric_words for metric_words in self.metrics.values()):
                words = combined
        words = words or frozenset(["top1"])
        fitting = {name: len(own - words) for name, own in self.metrics.items() if words <= own}
        return [name for name, more in fitting.items() if more == min(fitting.values())]

    def is_value(self, text: str) -> bool:
        """Return whether the text is the value of an axis that the records vary."""
        return _as_float(text) in self._values

    def without_settings(self, label: str) -> str:
        """Return the label in lower case, with spaces in place of settings and their values."""
        text = self._protocol_values.sub(_blank, _normalised(label, hyphens=True))
        text = EPOCHS.sub(_blank, text)
        return self._settings.sub(_blank, text)


def _protocol_values(sections: Sequence[Section]) -> re.Pattern[str]:
    """Return a pattern of what reports print of settings that differ from a protocol and is of no cell of a table.

    Those are the protocol's values, "(protocol: 12)", and settings of one method, "byol.epochs = 2".
    """
    values = {one.protocol_value for section in sections for cell in section.cells for one in cell.changed}
    values |= {str(one["protocol_value"]) for section in sections for one in section.deviations}
    settings = [(name, one) for section in sections for name, own in section.fixed.items() if name for one in own]
    phrases = {f"(protocol: {value})" for value in values}
    phrases |= {own.strip() for section in sections for axis in section.varied_axes if (own := section.own_value(axis))}
    phrases |= {f"{method}.{one.name} = {one.value}" for method, one in settings}
    patterns = sorted((re.escape(_normalised(phrase)) for phrase in phrases), key=len, reverse=True)
    return re.compile("|".join(patterns) or "(?!)")


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _as_float(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def cited_marks(caption: str) -> frozenset[str]:
    """Return the marks that the caption explains as cited: "† as reported by the authors", "‡ from [3]"."""
    caption = caption.lower()
    found = [
        mark
        for mark in MARKS
        if re.search(rf"{re.escape(mark)}\W*from\b|{re.escape(mark)}{CITING_NOTE}", caption)
        or re.search(rf"(?:reported|cited|published|quoted|taken|copied)[^.;]*?\W{re.escape(mark)}", caption)
    ]
    return frozenset(found)


def words_of_records(section: Section) -> frozenset[str]:
    """Return the words of the section's protocol, dataset and backbone."""
    name = section.content.get("backbone", {}).get("name", "")
    return frozenset(re.findall(r"[a-z]+\d*|\d+", _normalised(f"{name} {dataset_of(section)} {section.protocol_name}")))


def dataset_of(section: Section) -> str:
    """Return the name of the section's dataset, or an empty string."""
    return str(section.content.get("dataset", {}).get("name", ""))


def compact(name: str) -> str:
    """Return the name in lower case, without spaces, hyphens and underscores."""
    return re.sub(r"[\s_\-]+", "", name.lower())


def _normalised(label: str, hyphens: bool = False) -> str:
    """Return the label in lower case, Greek letters spelled out, underscores, and hyphens unless kept, as spaces."""
    text = unicodedata.normalize("NFKC", label).lower().replace("µ", "μ")
    text = "".join(f" {GREEK_LETTERS[c]} " if c in GREEK_LETTERS else c for c in text)
    text = text.replace("_", " ") if hyphens else re.sub(r"(?<=[a-z])(?<!\de)[-‐–](?=[a-z0-9])|_", " ", text)
    text = re.sub(r"\b(\d{1,3}[- ]?nn|(k\s*)?nearest\s*neighbou?rs?)\b", "knn", text)
    return re.sub(r"\s+", " ", text)


def _version(words: Sequence[str]) -> tuple[int | None, int]:
    """Return the version at the start of `words`, as "v2" or "version 2", and how many words it takes; or None, 0."""
    if words and re.fullmatch(r"v\d{1,6}", words[0]):
        return int(words[0][1:]), 1
    if len(words) > 1 and words[0] == "version" and words[1].isdigit():
        return int(words[1][:6]), 2
    return None, 0
