"""What accounts for the words of a claim's sentence: its names, numbers and settings, as patterns.

What accounts for a word is replaced by blanks of the same length, so that what is left over keeps its place.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, partial

from twinbench.reports.claims.characters import plain_characters
from twinbench.reports.claims.claim import COLLAPSE_SHARES, Claim
from twinbench.reports.rules import comparison, words
from twinbench.reports.rules.comparison import BLANK, blanked
from twinbench.sweeps.metrics import get_metric

_ALSO_CALLED = {"imagenet": ("imagenet1k", "ilsvrc2012"), "digits": ("scanned_digits", "handwritten_digits")}
ROUNDING = 0.01  # a sentence may round a size by this share of it
_NUMBERS = {
    "a": 1, "a single": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50,
    "half a": 0.5, "half of a": 0.5,
}  # fmt: skip
_NUMBER = rf"(\d+(?:,\d{{3}})*(?:\.\d+)?|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})"
_PARTS = {2: "hal(?:f|ve)", 3: "third", 4: "quarter", 5: "fifth", 10: "tenth", 20: "twentieth"}
_UNITS = {
    "points": r"(?:absolute )?(?:percentage[ -])?points?(?: absolute)?|pp|%(?! confidence| ci)|percent(?! confidence)",
    "epochs": "epochs?(?: each| of training)?",
    "seeds": r"(?:random |independent |paired )?(?:seeds?|runs?|pairs|repetitions)(?: each| per method| a side)?",
    "images": r"(?:of its )?(?:test |training |train )?(?:images?|examples?)",
    "methods": "(?:self-supervised |ssl |joint-embedding )?methods?",
    "confidence": r"(?:%|percent) (?:confidence(?: intervals?)?|ci)",
    "seconds": r"s|sec|seconds?",
    "minutes": r"min|minutes?",
    "gigabytes": r"gb|gigabytes?",
}
_START = r"(?<![\w.,/+-])"
MEASURED = {  # a number with its unit
    unit: re.compile(rf"{_START}(?:first )?{_NUMBER}[ -]?(?:{names})(?!\w)") for unit, names in _UNITS.items()
}
_QUANTIFIERS = {  # what may stand before the claimed size
    "at_least": r"at least|more than|(?:no|not) less than|over|by|of|a margin of",
    "by": r"by|about|around|roughly|approximately|of|a margin of|to|within|±|plus or minus|give or take",
    "within": r"at most|no more than|not more than|less than|more than|up to|by|to|of|within",
}
_AFTER = {"at_least": "(?: or more| at least)?"}  # what may stand behind it
GENERAL = re.compile(
    r"\b(?:in general|generally|universally|always|everywhere|across (?:all )?datasets"
    r"|(?:on|for|over) (?:all|any|every|most|many) (?:\w+ )?datasets?|(?:regardless|independent(?:ly)?) of the dataset"
    r"|whatever the dataset)\b"
)


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
    settings_of: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)  # the same by method
    seeds: frozenset[int] = frozenset()  # numbers of seeds
    images: frozenset[int] = frozenset()  # numbers of training images
    test_images: frozenset[int] = frozenset()
    published: frozenset[float] = frozenset()  # the value of the published table, in percent
    is_chosen: bool = False  # whether a side was chosen among several cells
    is_level: bool = True  # of not_worse: whether A is not above B by more than it may be below


def unaccounted(claim: Claim, compared: Compared) -> str:
    """Return the sentence in lower case with all that is accounted for replaced by blanks of the same length."""
    whole, mentions = plain(claim.sentence), mentions_of(claim, compared)
    rest = comparison.read(claim, without_sizes(claim, compared), whole, mentions, compared.is_level)
    rest = GENERAL.sub(blanked, rest)  # rule A23 judges these
    for pattern in (*_names(claim, compared), *_settings(claim, compared)):
        rest = pattern.sub(blanked, rest)
    phrases = "|".join(filter(None, (f"{words.PHRASES}|across(?= {BLANK})", words.KIND_WORDS.get(claim.kind, ""))))
    rest = re.sub(rf"(?<![\w-])(?:{phrases})(?![\w-])", blanked, rest)
    return re.sub(f"(?<={BLANK})'s?(?!\\w)", blanked, rest)


def without_sizes(claim: Claim, compared: Compared) -> str:
    """Return the sentence without its accounted numbers that have a unit; see comparison.py for what bounds a loss."""
    rest = plain(claim.sentence)
    kind = "within" if claim.within else "by" if claim.by else "at_least"
    metric = get_metric(claim.metric)
    unit = {"%": "points", "s": "seconds", "min": "minutes", "GB": "gigabytes"}.get(metric.unit, "points")
    number = MEASURED[unit].pattern.removeprefix(_START)
    with_quantifier = re.compile(rf"{_START}((?:(?:{_QUANTIFIERS[kind]}) )*){number}{_AFTER.get(kind, '')}")
    rest = with_quantifier.sub(lambda found: _size_read(found, claim, metric.scale), rest)
    allowed: dict[str, Iterable[float]] = {
        "points": compared.published, "epochs": compared.epochs, "seeds": compared.seeds,
        "confidence": (95,), "methods": (len(sides_of(claim, compared)),),
    }  # fmt: skip
    for unit, values in allowed.items():
        rest = _without_numbers(rest, unit, values)
    return MEASURED["images"].sub(lambda found: _images_read(found, compared), rest)


def _images_read(found: re.Match[str], compared: Compared) -> str:
    """Return blanks for a known number of training or test images; of either where neither word stands with it."""
    before = found.string[: found.start()]
    is_of_training = "train" in found[0] or re.search(r"\btrain(?:ed|ing|s)?\b[^.,;:]{0,40}$", before)
    known = compared.test_images if "test" in found[0] else compared.images
    known = known if is_of_training else known | compared.test_images
    return blanked(found) if value_of(found[1]) in known else found[0]


def _without_numbers(sentence: str, unit: str, values: Iterable[float]) -> str:
    exact = [*values]
    return MEASURED[unit].sub(
        lambda one: blanked(one) if any(map(partial(math.isclose, value_of(one[1])), exact)) else one[0], sentence
    )


def _size_read(found: re.Match[str], claim: Claim, scale: float) -> str:
    """Return blanks for the claimed size; what bounds a loss keeps a mark, since it reverses "below"."""
    is_tolerance = claim.by and re.search("within|±|plus|give", found[1])
    size = claim.tolerance if is_tolerance else claim.within or claim.claimed_size
    if not size or not is_among(found[2], [scale * size]):
        return found[0]
    mark = ""
    if claim.kind == "not_worse" and "within" in found[1]:
        mark = comparison.WITHIN
    elif claim.kind == "not_worse" and re.search(r"at most|no more|not more|less|up to", found[1]):
        mark = comparison.BOUND
    return mark + BLANK * (len(found[0]) - len(mark))


def is_among(number: str, values: Iterable[float]) -> bool:
    """Whether a number of the sentence is one of the values, as a sentence may round them."""
    return any(abs(value_of(number) - value) <= ROUNDING * value for value in values)


def _names(claim: Claim, compared: Compared) -> Iterator[re.Pattern[str]]:
    """Yield patterns of the names that the claim and its protocol account for."""
    if claim.protocol:  # its name may begin with the dataset's
        yield name_pattern(claim.protocol)
    images, tested = (value_pattern(map(str, of)).pattern for of in (compared.images, compared.test_images))
    for dataset in called(compared.dataset):
        behind = "data(?: ?set)?|images|benchmark|(?:test|training) set"
        name = name_pattern(dataset).pattern
        yield re.compile(rf"{tested} {name} test images|(?:{images} )?{name}(?: (?:{behind}))?")
    names = [*sides_of(claim, compared), compared.backbone]
    names += claim.reported.split("-")
    for name in sorted(filter(None, names), key=len, reverse=True):
        yield name_pattern(name)
    if "resnet" in compared.backbone:
        yield re.compile(r"(?<![\w-])resnets?(?![\w-]| ?\d)")
    yield re.compile(rf"(?<![\w-])(?:{_metric_words(claim)})(?!\w)")
    if claim.kind in COLLAPSE_SHARES:
        yield share_pattern(claim.share or COLLAPSE_SHARES[claim.kind])
    if claim.kind == "wins":
        yield share_pattern(claim.chance or 0.5)


def _metric_words(claim: Claim) -> str:
    metric = get_metric(claim.metric)
    title = [re.escape(word.lower()) for word in re.findall(r"[\w-]+", metric.title)]
    return "|".join([words.METRIC_WORDS.get(re.split("_", claim.metric)[0], claim.metric), claim.metric, *title])


def _settings(claim: Claim, compared: Compared) -> Iterator[re.Pattern[str]]:
    """Yield patterns of settings: the values that the claim gives, other values with their names, and bare names."""
    given = [(claim.axis, value) for value in claim.values]
    given += [item for side in (claim.a, claim.b, *claim.among) for item in side.items() if item[0] != "method"]
    given += [(key, value) for key, values in claim.scope.items() for value in values]
    sentence = plain(claim.sentence)
    # Only those that the sentence may name: compiling patterns for all takes a fifth of a check.
    named = [key for key in compared.settings if key.lower().partition("_")[0] in sentence]
    for key in sorted(named, key=len, reverse=True):  # "momentum" ends others
        name, values = setting_words(key), compared.settings[key]
        yield re.compile(rf"(?<![\w-])(?:{name})(?: of| is)? ?[=:]? ?{value_pattern(values).pattern}")
        if not claim.axis or key in dict(given):  # what else changes, or does not, along an axis is not judged
            start = "" if claim.axis else "(?<!over )(?<!across )"
            best = "(?:the best )?" if compared.is_chosen or claim.axis else "(?<!best )"
            yield re.compile(rf"(?<![\w-]){start}{best}(?:{name})(?: of each)?(?!\w)")
    alone = value_pattern([*(str(value) for _, value in given), *compared.settings.get("optimizer", ())])
    yield re.compile(rf"(?<!by ){alone.pattern}{without_unit('epochs')}")


def share_pattern(share: float) -> re.Pattern[str]:
    """Return a pattern of a share of seeds: "10 %", "0.1", "one in ten", "half"; with "of all seeds" behind it."""
    percent, decimal, one_in = (value_pattern([f"{value:.4g}"]).pattern for value in (100 * share, share, 1 / share))
    parts = Fraction(share).limit_denominator(20)
    some, all_ = (value_pattern([str(number)]).pattern for number in (parts.numerator, parts.denominator))
    part = rf"|(?<!\w)(?:{some} |an? )?{_PARTS[parts.denominator]}s?" if parts.denominator in _PARTS else ""
    named = (
        rf"{percent} ?(?:%|percent)|(?:one|1|a) (?:seed |trial )?(?:in|of|out of) (?:every )?{one_in}|{decimal}"
        rf"|{some} (?:in|of|out of) (?:every )?{all_}{part}"
    )
    return re.compile(rf"(?:a share of )?(?:{named})(?: of)?(?: all)?(?: the)?(?: seeds?| trials?| runs?)?")


def without_unit(*allowed: str) -> str:
    """Return a pattern for the end of a setting's value: "2 points" is no value of a setting, since it has a unit."""
    units = "|".join(names for unit, names in _UNITS.items() if unit not in allowed)
    return rf"(?![ -]?(?:{units})(?!\w))"


def setting_words(key: str) -> str:
    """Return a pattern of a setting's name: "batch_size" is also "batch sizes" and "batches"."""
    whole = "[ _-]*".join(map(re.escape, key.lower().split("_"))) + "s?"
    return f"{whole}|{key.removesuffix('_size')}(?:es)?(?: of)?" if key.endswith("_size") else whole


def is_number(value: str) -> bool:
    """Return whether the text of a setting's value is a number."""
    return bool(re.fullmatch(r"[-+]?\d*\.?\d+(?:e[-+]?\d+)?", value))


def setting_pattern(key: str, value: str) -> re.Pattern[str]:
    """Return a pattern of a setting with a number: "epochs = 2", "2 epochs", "batches of 64"."""
    number, name = value_pattern([value]).pattern, setting_words(key)
    before, behind = rf"(?<![\w-])(?:{name})(?: of| is)? ?[=:]? ?{number}", rf"{number}[ -]?(?:{name})(?!\w)"
    return re.compile(f"{before}|{behind}")


def value_pattern(values: Iterable[str]) -> re.Pattern[str]:
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


# --- names and numbers ---------------------------------------------------------------------------------------------


def sides_of(claim: Claim, compared: Compared) -> frozenset[str]:
    """Return the methods that are compared."""
    return compared.sides | {str(side["method"]) for side in (claim.a, claim.b, *claim.among) if side}


def mentions_of(claim: Claim, compared: Compared) -> tuple[str, str]:
    """Return patterns by which the sentence mentions A and the other side: their names, or what they differ in."""
    others = sides_of(claim, compared) - {str(claim.a["method"])}
    if others:
        return name_pattern(str(claim.a["method"])).pattern, "|".join(
            name_pattern(name).pattern for name in sorted(others)
        )
    a, b = (
        [str(v) for key, v in one.items() if other.get(key) != v]
        for one, other in ((claim.a, claim.b), (claim.b, claim.a))
    )
    return value_pattern(a).pattern, value_pattern(b).pattern


def called(dataset: str) -> tuple[str, ...]:
    """Return the names of a dataset; none where it is unknown."""
    return (*_ALSO_CALLED.get(dataset, ()), dataset) if dataset else ()


def name_pattern(name: str) -> re.Pattern[str]:
    """Return a pattern by which "cifar10" matches CIFAR-10 and CIFAR 10, but not CIFAR-100 or a part of a word."""
    parts = re.findall(r"[a-z]+|\d+", name.lower()) or [re.escape(name)]
    return re.compile(r"(?<!\w)" + r"[ _-]*".join(parts) + r"(?!\w)(?![_.,-]\d)")


def plain(text: str) -> str:
    """Return the text in lower case, character for character."""
    return "".join(character.lower()[0] for character in shown(text))


def shown(text: str) -> str:
    """Return the text as it is written, in one line of common characters."""
    return " ".join(plain_characters(text).translate(_ASCII).split())


_ASCII = str.maketrans({"\u2010": "-", "\u2013": "-", "\u2212": "-", "\u2018": "'", "\u2019": "'", "\u201c": '"',
                        "\u201d": '"'})  # fmt: skip


def value_of(word: str) -> float:
    """Return the number of a figure or a word."""
    return float(_NUMBERS[word]) if word in _NUMBERS else float(word.replace(",", ""))
