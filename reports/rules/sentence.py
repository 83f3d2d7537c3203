"""What a claim's sentence says: what accounts for each of its words, and what is left over.

The names, numbers and qualifiers of a sentence are accounted for by the claim's fields, by what was compared, or by the
short list of neutral words in words.py. Everything else is more than was judged.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial

from twinbench.reports.claims.characters import plain_characters
from twinbench.reports.claims.claim import COLLAPSE_SHARES, Claim, selector_text
from twinbench.reports.rules import comparison, words
from twinbench.reports.rules.comparison import BLANK, blanked
from twinbench.sweeps.metrics import get_metric
from twinbench.sweeps.protocol import Scalar

# Names that can only mean a dataset, including datasets that no shipped protocol uses.
DATASETS = (
    "cifar10", "cifar100", "fashion_mnist", "imagenet", "imagenet100", "imagenette", "mnist", "stl10", "svhn",
    "tiny_imagenet", "imagenet1k", "ilsvrc2012",
)  # fmt: skip
_ALSO_CALLED = {"imagenet": ("imagenet1k", "ilsvrc2012"), "digits": ("scanned_digits", "handwritten_digits")}
ROUNDING = 0.01  # a sentence may round a size by this share of it
_NUMBERS = {
    "a": 1, "a single": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50,
    "half a": 0.5, "half of a": 0.5,
}  # fmt: skip
_NUMBER = rf"(\d+(?:,\d{{3}})*(?:\.\d+)?|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})"
_UNITS = {
    "points": r"(?:absolute )?(?:percentage[ -])?points?(?: absolute)?|pp|%(?! confidence| ci)|percent(?! confidence)",
    "epochs": "epochs?(?: each| of training)?",
    "seeds": r"(?:random |independent |paired )?(?:seeds?|runs?|pairs|repetitions)(?: each| per method| a side)?",
    "images": r"(?:of its )?(?:test |training |train )?(?:images?|examples?)",
    "methods": "methods?",
    "confidence": r"(?:%|percent) (?:confidence(?: intervals?)?|ci)",
    "seconds": r"s|sec|seconds?",
    "minutes": r"min|minutes?",
    "gigabytes": r"gb|gigabytes?",
}
_START = r"(?<![\w.,/+-])"
_MEASURED = {  # a number with its unit
    unit: re.compile(rf"{_START}(?:first )?{_NUMBER}[ -]?(?:{names})(?!\w)") for unit, names in _UNITS.items()
}
_QUANTIFIERS = {  # what may stand before the claimed size
    "at_least": r"at least|more than|over|by|of|a margin of",
    "by": r"by|about|around|roughly|approximately|of|a margin of|to|within|±|plus or minus|give or take",
    "within": r"at most|no more than|not more than|less than|more than|up to|by|to|of|within",
}
_AFTER = {"at_least": "(?: or more| at least)?"}  # what may stand behind it
_RESNET = re.compile(r"\bresnet[ -]?(\d+)\b")
_BEST = re.compile(
    r"\bbest (?:of all|among|method|overall|self-supervised)\b|\b(?:than|over|beats|outperforms|exceeds) "
    r"(?:all|every|any)\b|\bstate[ -]of[ -]the[ -]art\b"
)
_GENERAL = re.compile(
    r"\b(?:in general|generally|universally|always|everywhere|across (?:all )?datasets"
    r"|(?:on|for|over) (?:all|any|every|most|many) (?:\w+ )?datasets?|(?:regardless|independent(?:ly)?) of the dataset"
    r"|whatever the dataset)\b"
)
_PUNCTUATION = f".,;:()[]\"'!?-{BLANK}"


@dataclass(frozen=True)
class Compared:
    """What the trials behind a claim have in common; empty where nothing was measured."""

    dataset: str
    protocols: frozenset[str]  # all known names
    methods: frozenset[str]  # all known names
    epochs: frozenset[int]
    backbone: str
    sides: frozenset[str] = frozenset()  # the methods that are compared
    settings: Mapping[str, frozenset[str]] = field(default_factory=dict)  # values of all sides, by name
    seeds: frozenset[int] = frozenset()  # numbers of seeds
    images: frozenset[int] = frozenset()  # numbers of training and test images
    published: frozenset[float] = frozenset()  # the value of the published table, in percent


# --- what it names ----------------------------------------------------------------------------------------------------


def names_dataset(claim: Claim, dataset: str) -> bool:
    """Whether the sentence names the dataset, or the protocol, which fixes the dataset."""
    sentence = _plain(claim.sentence)
    return any(_pattern(one).search(sentence) for one in _called(dataset)) or names_protocol(claim)


def names_protocol(claim: Claim) -> bool:
    """Whether the sentence names the protocol, which fixes everything that the claim does not set."""
    return bool(claim.protocol and _pattern(claim.protocol).search(_plain(claim.sentence)))


def unnamed(claim: Claim, compared: Compared) -> list[str]:
    """Return the backbone and epochs that the sentence does not name: "the backbone small_resnet", "20 epochs"."""
    sentence = _plain(claim.sentence)
    missing = []
    if compared.backbone and not _pattern(compared.backbone).search(sentence):
        missing.append(f"the backbone {compared.backbone}")
    unnamed_epochs = [number for number in sorted(compared.epochs) if not names_value(claim, "epochs", number)]
    if unnamed_epochs and not (names_setting(claim, "epoch") and "epochs" in (claim.axis, *claim.scope)):
        missing.append(f"{' and '.join(map(str, unnamed_epochs))} epochs")
    return missing


def generalises(claim: Claim) -> str:
    """Return the words in which the sentence speaks of datasets in general; empty where it does not."""
    found = _GENERAL.search(_plain(claim.sentence))
    return found[0] if found else ""


def names_size(claim: Claim, size: float | None = None) -> bool:
    """Whether the sentence names a size in points, or the given one, a fraction."""
    named = [found[1] for found in _MEASURED["points"].finditer(_plain(claim.sentence))]
    return bool(named) if size is None else any(_is_among(one, [100 * size]) for one in named)


def names_share(claim: Claim) -> bool:
    """Whether the sentence names the claim's share of seeds: 0.1 is also "10 %" and "one in ten", 0.5 also "half"."""
    return bool(_share_pattern(claim.share or 0.0).search(_plain(claim.sentence)))


def names_a_new_seed(claim: Claim) -> bool:
    """Whether the sentence speaks of seeds or of a probability, rather than of methods as such."""
    return bool(re.search(r"\b(?:seeds?|trials?|runs?|probability|chance|odds|likely|often)\b", _plain(claim.sentence)))


def names_methods(claim: Claim, methods: Iterable[str]) -> bool:
    """Whether the sentence names every one of the methods."""
    return all(_pattern(method).search(_plain(claim.sentence)) for method in methods)


def names_value(claim: Claim, key: str, value: Scalar) -> bool:
    """Whether the sentence names a setting's value: 4 is also "four", 1000 also "1,000"; of a boolean, the setting."""
    pattern = _pattern(key) if isinstance(value, bool) else _value_pattern([str(value)])
    return bool(pattern.search(_plain(claim.sentence)))


def names_setting(claim: Claim, key: str) -> bool:
    """Whether the sentence names a setting: "batch size", "batch sizes"."""
    return bool(re.search(rf"(?<!\w)(?:{_setting_words(key)})(?!\w)", _plain(claim.sentence)))


# --- what it says that differs from the comparison --------------------------------------------------------------------


def contradictions(claim: Claim, compared: Compared) -> Iterator[str]:
    """Yield each statement of the sentence that is about something else than the comparison.

    They are looked for in what is not accounted for, and only what is spelled out is found: `excess` lists the rest.
    """
    rest, whole = _unaccounted(claim, compared), _plain(claim.sentence)
    if wrong := [name for name in _named(whole, compared.protocols | {claim.protocol}) if name != claim.protocol]:
        yield f"it names protocol {', '.join(wrong)}"
    if compared.dataset and (wrong := _named(rest, DATASETS)):
        yield f"it names {', '.join(wrong)}, but the images are of {compared.dataset}"
    sides = _sides(claim, compared)
    missing = [side for side in sorted(sides) if not names_methods(claim, [side])]
    if missing and claim.kind != "best_of" and (wrong := _named(rest, compared.methods - sides)):
        yield f"it names {', '.join(wrong)}, but {', '.join(missing)} is compared"
    if comparison.is_exchanged(claim, _without_sizes(claim, compared), _mentions(claim, compared)):
        is_named_by_method = claim.a["method"] != claim.b["method"]
        yield f"it says that {claim.b['method'] if is_named_by_method else selector_text(claim.b)} is better"
    if claim.kind in ("better", "wins", "not_worse") and (best := _BEST.search(whole)):
        yield f"it says {best[0]!r}, but only one other is compared"
    sizes = sorted({_value(found[1]) for found in _MEASURED["points"].finditer(rest) if _is_difference(whole, found)})
    if get_metric(claim.metric).is_accuracy and sizes:
        claimed = claim.within or claim.claimed_size
        named = " and ".join(f"{size:g}" for size in sizes)
        yield f"it says {named} points, but the claim has {f'{100 * claimed:g}' if claimed else 'no size'}"
    if compared.epochs and (others := sorted({int(_value(one[1])) for one in _MEASURED["epochs"].finditer(rest)})):
        of = ", ".join(map(str, sorted(compared.epochs)))
        yield f"it names {', '.join(map(str, others))} epochs, but the trials had {of}"
    if compared.backbone and (depths := sorted({f"resnet{found[1]}" for found in _RESNET.finditer(rest)})):
        yield f"it names {', '.join(depths)}, but the backbone is {compared.backbone}"
    yield from _other_probe(claim)


def _is_difference(sentence: str, found: re.Match[str]) -> bool:
    """Whether a number of points or percent is the size of a difference, and not "10 % of the labels"."""
    if re.search("point|pp", found[0]):
        return True
    is_after_by = re.search(r"\bby (?:[a-z]+ ){0,2}$", sentence[: found.start()])
    return bool(is_after_by or re.match(rf" ?(?:{words.ABOVE}|{words.BELOW})\b", sentence[found.end() :]))


def _other_probe(claim: Claim) -> Iterator[str]:
    """The sentence names the other probe of kNN and linear, and not the claim's."""
    own, names = get_metric(claim.metric).probe, {"knn": "kNN", "linear": "linear"}
    named = [probe for probe in names if re.search(rf"\b(?:{words.METRIC_WORDS[probe]})\b", _plain(claim.sentence))]
    if own in names and named and own not in named:
        yield f"it names {names[named[0]]} accuracy, but the metric is {claim.metric}"


# --- what it says beyond the comparison -------------------------------------------------------------------------------


def excess(claim: Claim, compared: Compared) -> list[str]:
    """Return the words of the sentence that nothing accounts for, as they are written; neighbours form one phrase."""
    rest, shown = _unaccounted(claim, compared), _shown(claim.sentence)
    for pattern in _MEASURED.values():  # a number and its unit are one word
        rest = pattern.sub(lambda one: one[0] if one[1][0] == "a" else one[0].replace(" ", "_"), rest)
    neutral = words.NEUTRAL if claim.axis else words.NEUTRAL | words.SHARED
    phrases: list[tuple[int, int]] = []
    is_open = False  # whether the next word continues the last phrase
    for found in re.finditer(r"\S+", rest):
        if _is_neutral(found[0], neutral):
            is_open = False
            continue
        start = phrases.pop()[0] if is_open else found.start()
        phrases.append((start, found.end()))
        is_open = found[0][-1] not in ",.;:"
    return list(dict.fromkeys(shown[start:end].strip(_PUNCTUATION) for start, end in phrases))


def _is_neutral(word: str, neutral: frozenset[str]) -> bool:
    """Whether the word, or each part of a compound, is neutral or blank."""
    word = word.strip(_PUNCTUATION)
    return word in neutral or {*re.split(f"[-/{BLANK}]+", word)} <= neutral | {""}


def _unaccounted(claim: Claim, compared: Compared) -> str:
    """Return the sentence in lower case with all that is accounted for replaced by blanks of the same length."""
    without_sizes = _without_sizes(claim, compared)
    rest = comparison.read(claim, without_sizes, _plain(claim.sentence), _mentions(claim, compared))
    rest = _GENERAL.sub(blanked, rest)  # rule A23 judges these
    for pattern in (*_names(claim, compared), *_settings(claim, compared)):
        rest = pattern.sub(blanked, rest)
    phrases = "|".join(filter(None, (words.PHRASES, words.KIND_WORDS.get(claim.kind, ""))))
    rest = re.sub(rf"(?<![\w-])(?:{phrases})(?![\w-])", blanked, rest)
    return re.sub(f"(?<={BLANK})'s?(?!\\w)", blanked, rest)


def _without_sizes(claim: Claim, compared: Compared) -> str:
    """Return the sentence without its accounted numbers that have a unit; see comparison.py for what bounds a loss."""
    rest = _plain(claim.sentence)
    kind = "within" if claim.within else "by" if claim.by else "at_least"
    metric = get_metric(claim.metric)
    unit = {"%": "points", "s": "seconds", "min": "minutes", "GB": "gigabytes"}.get(metric.unit, "points")
    number = _MEASURED[unit].pattern.removeprefix(_START)
    with_quantifier = re.compile(rf"{_START}((?:(?:{_QUANTIFIERS[kind]}) )*){number}{_AFTER.get(kind, '')}")
    rest = with_quantifier.sub(lambda found: _size_read(found, claim, metric.scale), rest)
    allowed: dict[str, Iterable[float]] = {
        "points": compared.published, "epochs": compared.epochs, "seeds": compared.seeds, "images": compared.images,
        "confidence": (95,), "methods": (len(_sides(claim, compared)),),
    }  # fmt: skip
    for unit, values in allowed.items():
        rest = _without_numbers(rest, unit, values)
    return rest


def _without_numbers(sentence: str, unit: str, values: Iterable[float]) -> str:
    exact = [*values]
    return _MEASURED[unit].sub(
        lambda one: blanked(one) if any(map(partial(math.isclose, _value(one[1])), exact)) else one[0], sentence
    )


def _size_read(found: re.Match[str], claim: Claim, scale: float) -> str:
    """Return blanks for the claimed size; what bounds a loss keeps a mark, since it reverses "below"."""
    is_tolerance = claim.by and re.search("within|±|plus|give", found[1])
    size = claim.tolerance if is_tolerance else claim.within or claim.claimed_size
    if not size or not _is_among(found[2], [scale * size]):
        return found[0]
    mark = ""
    if claim.kind == "not_worse" and "within" in found[1]:
        mark = comparison.WITHIN
    elif claim.kind == "not_worse" and re.search(r"at most|no more|not more|less|up to", found[1]):
        mark = comparison.BOUND
    return mark + BLANK * (len(found[0]) - len(mark))


def _is_among(number: str, values: Iterable[float]) -> bool:
    return any(abs(_value(number) - value) <= ROUNDING * value for value in values)


def _names(claim: Claim, compared: Compared) -> Iterator[re.Pattern[str]]:
    """Yield patterns of the names that the claim and its protocol account for."""
    if claim.protocol:  # its name may begin with the dataset's
        yield _pattern(claim.protocol)
    images = _value_pattern(map(str, compared.images)).pattern
    for dataset in _called(compared.dataset):
        yield re.compile(
            rf"(?:{images} )?{_pattern(dataset).pattern}(?: (?:data(?: ?set)?|images|benchmark|(?:test|training) set))?"
        )
    names = [*_sides(claim, compared), compared.backbone]
    names += claim.reported.split("-")
    for name in sorted(filter(None, names), key=len, reverse=True):
        yield _pattern(name)
    if "resnet" in compared.backbone:
        yield re.compile(r"(?<![\w-])resnets?(?![\w-]| ?\d)")
    yield re.compile(rf"(?<![\w-])(?:{_metric_words(claim)})(?!\w)")
    if claim.kind in COLLAPSE_SHARES:
        yield _share_pattern(claim.share or COLLAPSE_SHARES[claim.kind])
    if claim.kind == "wins":
        yield _share_pattern(claim.chance or 0.5)


def _metric_words(claim: Claim) -> str:
    metric = get_metric(claim.metric)
    title = [re.escape(word.lower()) for word in re.findall(r"[\w-]+", metric.title)]
    return "|".join([words.METRIC_WORDS.get(re.split("_", claim.metric)[0], claim.metric), claim.metric, *title])


def _settings(claim: Claim, compared: Compared) -> Iterator[re.Pattern[str]]:
    """Yield patterns of settings: the values that the claim gives, other values with their names, and bare names."""
    given = [(claim.axis, value) for value in claim.values]
    given += [item for side in (claim.a, claim.b, *claim.among) for item in side.items() if item[0] != "method"]
    given += [(key, value) for key, values in claim.scope.items() for value in values]
    for key, values in sorted(compared.settings.items(), key=lambda item: -len(item[0])):  # "momentum" ends others
        name = _setting_words(key)
        yield re.compile(rf"(?<![\w-])(?:{name})(?: of| is)? ?[=:]? ?{_value_pattern(values).pattern}")
        if not claim.axis or key in dict(given):  # what else changes, or does not, along an axis is not judged
            yield re.compile(rf"(?<![\w-])(?:the best )?(?:{name})(?: of each)?(?!\w)")
    units = "|".join(names for unit, names in _UNITS.items() if unit != "epochs")
    alone = _value_pattern([*(str(value) for _, value in given), *compared.settings.get("optimizer", ())])
    yield re.compile(rf"(?<!by ){alone.pattern}(?![ -]?(?:{units})(?!\w))")


def _share_pattern(share: float) -> re.Pattern[str]:
    """Return a pattern of a share of seeds: "10 %", "0.1", "one in ten", "half"; with "of all seeds" behind it."""
    percent, decimal, one_in = (_value_pattern([f"{value:.4g}"]).pattern for value in (100 * share, share, 1 / share))
    half = "|half" if share == 0.5 else ""
    named = (
        rf"{percent} ?(?:%|percent)|(?:one|1|a) (?:seed |trial )?(?:in|of|out of) (?:every )?{one_in}|{decimal}{half}"
    )
    return re.compile(rf"(?:a share of )?(?:{named})(?: of)?(?: all)?(?: the)?(?: seeds?| trials?| runs?)?")


def _setting_words(key: str) -> str:
    """Return a pattern of a setting's name: "batch_size" is also "batch sizes" and "batches"."""
    whole = "[ _-]*".join(map(re.escape, key.lower().split("_"))) + "s?"
    return f"{whole}|{key.removesuffix('_size')}(?:es)?(?: of)?" if key.endswith("_size") else whole


def _value_pattern(values: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of the values, each in all its spellings; it matches nothing where there are none."""
    spellings = {spelling for value in values for spelling in _spellings(value)}
    alternatives = "|".join(map(re.escape, sorted(spellings, key=len, reverse=True))) or r"(?!)"
    return re.compile(rf"(?<![\w.,/+-])(?:{alternatives})(?!\w|[.,]\d|[-/]\d)")


@cache
def _spellings(value: str) -> tuple[str, ...]:
    """Return 1000 as "1000" and "1,000", 4 as "4" and "four", 0.002 as "0.002" and "2e-3"; a text in lower case."""
    try:
        number = float(value)
    except ValueError:
        return (value.lower(),)
    short = re.sub(r"e\+?(-?)0*(\d)", r"e\1\2", f"{number:.0e}")
    others = [short] if float(short) == number else []
    others += [word for word, of_word in _NUMBERS.items() if of_word == number and " " not in word and word != "a"]
    return (value.lower(), f"{number:g}", f"{number:,}".removesuffix(".0"), *others)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _sides(claim: Claim, compared: Compared) -> frozenset[str]:
    return compared.sides | {str(side["method"]) for side in (claim.a, claim.b, *claim.among) if side}


def _mentions(claim: Claim, compared: Compared) -> tuple[str, str]:
    """Return patterns by which the sentence mentions A and the other side: their names, or what they differ in."""
    others = _sides(claim, compared) - {str(claim.a["method"])}
    if others:
        return _pattern(str(claim.a["method"])).pattern, "|".join(_pattern(name).pattern for name in sorted(others))
    a, b = (
        [str(v) for key, v in one.items() if other.get(key) != v]
        for one, other in ((claim.a, claim.b), (claim.b, claim.a))
    )
    return _value_pattern(a).pattern, _value_pattern(b).pattern


def _called(dataset: str) -> tuple[str, ...]:
    return (*_ALSO_CALLED.get(dataset, ()), dataset) if dataset else ()


def _named(sentence: str, names: Iterable[str]) -> list[str]:
    """Return the names that the sentence holds. Longer names first: a part of one does not count."""
    found = set()
    for name in sorted(names, key=lambda name: (-len(name), name)):
        sentence, count = _pattern(name).subn(" ", sentence)
        if count:
            found.add(name)
    return sorted(found)


def _pattern(name: str) -> re.Pattern[str]:
    """Return a pattern by which "cifar10" matches CIFAR-10 and CIFAR 10, but not CIFAR-100 or a part of a word."""
    parts = re.findall(r"[a-z]+|\d+", name.lower()) or [re.escape(name)]
    return re.compile(r"(?<!\w)" + r"[ _-]*".join(parts) + r"(?!\w)(?![_.,-]\d)")


def _plain(text: str) -> str:
    """Return the text in lower case, character for character."""
    return "".join(character.lower()[0] for character in _shown(text))


def _shown(text: str) -> str:
    return " ".join(plain_characters(text).translate(_ASCII).split())


_ASCII = str.maketrans({"\u2010": "-", "\u2013": "-", "\u2212": "-", "\u2018": "'", "\u2019": "'", "\u201c": '"',
                        "\u201d": '"'})  # fmt: skip


def _value(word: str) -> float:
    return float(_NUMBERS[word]) if word in _NUMBERS else float(word.replace(",", ""))
