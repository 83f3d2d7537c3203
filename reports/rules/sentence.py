"""What a claim's sentence says: what accounts for each of its words, and what is left over.

The names, numbers and qualifiers of a sentence are accounted for by the claim's fields, by what was compared, or by the
short list of neutral words in words.py. Everything else is more than was judged.
"""

import re
from collections.abc import Iterable, Iterator

from twinbench.reports.claims.claim import Claim, selector_text
from twinbench.reports.rules import comparison, words
from twinbench.reports.rules.accounted import (
    GENERAL,
    MEASURED,
    Compared,
    called,
    is_among,
    is_number,
    mentions_of,
    name_pattern,
    plain,
    setting_pattern,
    setting_words,
    share_pattern,
    shown,
    sides_of,
    unaccounted,
    value_of,
    value_pattern,
    without_sizes,
    without_unit,
)
from twinbench.reports.rules.comparison import BLANK
from twinbench.sweeps.errors import counted
from twinbench.sweeps.metrics import get_metric
from twinbench.sweeps.protocol import Scalar

# Names that can only mean a dataset, including datasets that no shipped protocol uses.
DATASETS = (
    "cifar10", "cifar100", "fashion_mnist", "imagenet", "imagenet100", "imagenette", "mnist", "stl10", "svhn",
    "tiny_imagenet", "imagenet1k", "ilsvrc2012",
)  # fmt: skip
_RESNET = re.compile(r"\bresnet[ -]?(\d+)\b")
_BEST = re.compile(
    r"\bbest (?:of all|among|method|overall|self-supervised)\b|\b(?:than|over|beats|outperforms|exceeds) "
    r"(?:all|every|any)\b|\bstate[ -]of[ -]the[ -]art\b"
)
_DIVIDES = re.compile(r"\b(?:and|but|while|than|over|whereas)\b|[,;:]")
_PUNCTUATION = f".,;:()[]\"'!?-{BLANK}"


# --- what it names ----------------------------------------------------------------------------------------------------


def names_dataset(claim: Claim, dataset: str) -> bool:
    """Whether the sentence names the dataset, or the protocol, which fixes the dataset."""
    sentence = plain(claim.sentence)
    return any(name_pattern(one).search(sentence) for one in called(dataset)) or names_protocol(claim)


def names_protocol(claim: Claim) -> bool:
    """Whether the sentence names the protocol, which fixes everything that the claim does not set."""
    return bool(claim.protocol and name_pattern(claim.protocol).search(plain(claim.sentence)))


def unnamed(claim: Claim, compared: Compared) -> list[str]:
    """Return the backbone and epochs that the sentence does not name: "the backbone small_resnet", "20 epochs"."""
    sentence = plain(claim.sentence)
    missing = []
    if compared.backbone and not name_pattern(compared.backbone).search(sentence):
        missing.append(f"the backbone {compared.backbone}")
    unnamed_epochs = [number for number in sorted(compared.epochs) if not names_value(claim, "epochs", number)]
    if unnamed_epochs and not (names_setting(claim, "epoch") and "epochs" in (claim.axis, *claim.scope)):
        missing.append(" and ".join([*map(str, unnamed_epochs[:-1]), counted(unnamed_epochs[-1], "epoch")]))
    return missing


def generalises(claim: Claim) -> str:
    """Return the words in which the sentence speaks of datasets in general; empty where it does not."""
    found = GENERAL.search(plain(claim.sentence))
    return found[0] if found else ""


def names_size(claim: Claim, size: float | None = None) -> bool:
    """Whether the sentence names a size in points, or the given one, a fraction."""
    named = [found[1] for found in MEASURED["points"].finditer(plain(claim.sentence))]
    return bool(named) if size is None else any(is_among(one, [100 * size]) for one in named)


def names_share(claim: Claim) -> bool:
    """Whether the sentence names the claim's share of seeds: 0.1 is also "10 %" and "one in ten", 0.5 also "half"."""
    return bool(share_pattern(claim.share or 0.0).search(plain(claim.sentence)))


def names_a_new_seed(claim: Claim) -> bool:
    """Whether the sentence speaks of seeds or of a probability, rather than of methods as such."""
    return bool(re.search(r"\b(?:seeds?|trials?|runs?|probability|chance|odds|likely|often)\b", plain(claim.sentence)))


def names_methods(claim: Claim, methods: Iterable[str]) -> bool:
    """Whether the sentence names every one of the methods."""
    return all(name_pattern(method).search(plain(claim.sentence)) for method in methods)


def names_compared(claim: Claim, compared: Compared) -> bool:
    """Whether the sentence says with which methods A is compared: by name, by their number, or as those compared."""
    sentence, sides = plain(claim.sentence), sides_of(claim, compared)
    counts = {value_of(one[1]) for one in MEASURED["methods"].finditer(sentence)}
    return names_methods(claim, sides) or len(sides) in counts or bool(re.search(r"\bcompared methods\b", sentence))


def names_value(claim: Claim, key: str, value: Scalar) -> bool:
    """Whether the sentence names a setting's value: 4 is also "four", 1000 also "1,000"; of a boolean, the setting."""
    of_a_setting = rf"{value_pattern([str(value)]).pattern}{without_unit('epochs', 'images')}"
    pattern = name_pattern(key).pattern if isinstance(value, bool) else of_a_setting
    return bool(re.search(pattern, plain(claim.sentence)))


def names_value_of(claim: Claim, key: str, value: str) -> bool:
    """Whether the sentence gives a setting this value, as text: "epochs = 2", "2 epochs", "batches of 64", "LARS"."""
    sentence = plain(claim.sentence)
    if value in ("true", "false", "null"):
        return names_setting(claim, key)
    if not is_number(value):
        return names_value(claim, key, value)
    if key == "epochs" and any(value_of(one[1]) == float(value) for one in MEASURED["epochs"].finditer(sentence)):
        return True
    return bool(setting_pattern(key, value).search(sentence))


def names_setting(claim: Claim, key: str) -> bool:
    """Whether the sentence names a setting: "batch size", "batch sizes"."""
    return bool(re.search(rf"(?<!\w)(?:{setting_words(key)})(?!\w)", plain(claim.sentence)))


def misplaced_settings(claim: Claim, compared: Compared) -> Iterator[tuple[str, bool]]:
    """Yield settings that stand beside a method which has not that value, and whether it has another one.

    As in "simclr has no epochs 2" of "SimCLR after 2 epochs is better than BYOL after 20", where the reverse was run.
    """
    sentence, sides = plain(claim.sentence), {side for side, own in compared.settings_of.items() if own}
    places = [(found, side) for side in sorted(sides) for found in name_pattern(side).finditer(sentence)]
    for key, values in compared.settings.items() if len(sides) > 1 and places else ():
        for value in sorted(filter(is_number, values)):  # a text, such as "linear", is also a common word
            having = {side for side, own in compared.settings_of.items() if value in own.get(key, ())}
            for found in setting_pattern(key, value).finditer(sentence) if having < sides else ():
                side = min(places, key=lambda place: _distance(sentence, found, place[0]))[1]
                if side not in having:
                    yield f"{side} has no {key} {value}", key in compared.settings_of.get(side, ())


def _distance(sentence: str, one: re.Match[str], other: re.Match[str]) -> tuple[int, int]:
    """Return how many words and marks that divide a sentence stand between two of its places, and how many letters."""
    between = sentence[min(one.end(), other.end()) : max(one.start(), other.start())]
    return len(_DIVIDES.findall(between)), len(between)


# --- what it says that differs from the comparison --------------------------------------------------------------------


def contradictions(claim: Claim, compared: Compared) -> Iterator[str]:
    """Yield each statement of the sentence that is about something else than the comparison.

    They are looked for in what is not accounted for, and only what is spelled out is found: `excess` lists the rest.
    """
    rest, whole = unaccounted(claim, compared), plain(claim.sentence)
    if wrong := [name for name in _named(whole, compared.protocols | {claim.protocol}) if name != claim.protocol]:
        yield f"it names protocol {', '.join(wrong)}"
    if compared.dataset and (wrong := _named(rest, DATASETS)):
        yield f"it names {', '.join(wrong)}, but the images are of {compared.dataset}"
    sides = sides_of(claim, compared)
    missing = [side for side in sorted(sides) if not names_methods(claim, [side])]
    if missing and claim.kind != "best_of" and (wrong := _named(rest, compared.methods - sides)):
        yield f"it names {', '.join(wrong)}, but {', '.join(missing)} is compared"
    if comparison.is_exchanged(claim, without_sizes(claim, compared), mentions_of(claim, compared)):
        is_named_by_method = claim.a["method"] != claim.b["method"]
        yield f"it says that {claim.b['method'] if is_named_by_method else selector_text(claim.b)} is better"
    if claim.kind in ("better", "wins", "not_worse") and (best := _BEST.search(whole)):
        yield f"it says {best[0]!r}, but only one other is compared"
    sizes = sorted({value_of(found[1]) for found in MEASURED["points"].finditer(rest) if _is_difference(whole, found)})
    if get_metric(claim.metric).is_accuracy and sizes:
        claimed = claim.within or claim.claimed_size
        named = " and ".join(f"{size:g}" for size in sizes)
        yield f"it says {named} points, but the claim has {f'{100 * claimed:g}' if claimed else 'no size'}"
    if compared.epochs and (others := sorted({int(value_of(one[1])) for one in MEASURED["epochs"].finditer(rest)})):
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
    named = [probe for probe in names if re.search(rf"\b(?:{words.METRIC_WORDS[probe]})\b", plain(claim.sentence))]
    if own in names and named and own not in named:
        yield f"it names {names[named[0]]} accuracy, but the metric is {claim.metric}"


# --- what it says beyond the comparison -------------------------------------------------------------------------------


def excess(claim: Claim, compared: Compared) -> list[str]:
    """Return the words of the sentence that nothing accounts for, as they are written; neighbours form one phrase."""
    rest, sentence = unaccounted(claim, compared), shown(claim.sentence)
    for pattern in MEASURED.values():  # a number and its unit are one word
        rest = pattern.sub(lambda one: one[0] if one[1][0] == "a" else one[0].replace(" ", "_"), rest)
    rest = re.sub(words.QUALIFIERS, lambda one: one[0].replace(" ", "_"), rest)
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
    return list(dict.fromkeys(sentence[start:end].strip(_PUNCTUATION) for start, end in phrases))


def _is_neutral(word: str, neutral: frozenset[str]) -> bool:
    """Whether the word, or each part of a compound, is neutral or blank."""
    word = word.strip(_PUNCTUATION)
    return word in neutral or {*re.split(f"[-/{BLANK}]+", word)} <= neutral | {""}


# --- helpers ----------------------------------------------------------------------------------------------------------


def _named(sentence: str, names: Iterable[str]) -> list[str]:
    """Return the names that the sentence holds. Longer names first: a part of one does not count."""
    found = set()
    for name in sorted(names, key=lambda name: (-len(name), name)):
        sentence, count = name_pattern(name).subn(" ", sentence)
        if count:
            found.add(name)
    return sorted(found)
