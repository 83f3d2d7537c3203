"""What a claim's sentence says of dataset, protocol, methods, sizes, epochs, backbone and probe.

Only what is spelled out is read, by patterns. A sentence that does not mention a thing does not contradict it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from twinbench.reports.claims.claim import Claim
from twinbench.sweeps.metrics import get_metric
from twinbench.sweeps.protocol import Scalar

# Names that can only mean a dataset, including datasets that no shipped protocol uses.
DATASETS = (
    "cifar10", "cifar100", "fashion_mnist", "imagenet", "imagenet100", "imagenette", "mnist", "stl10", "svhn",
    "tiny_imagenet",
)  # fmt: skip
ROUNDING = 0.01  # a sentence may round a size by this share of it
_ALSO_CALLED = {"imagenet": ("imagenet1k", "ilsvrc2012")}
_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50,
}  # fmt: skip
_NUMBER = rf"(\d+(?:,\d{{3}})*(?:\.\d+)?|{'|'.join(_NUMBERS)})"
_POINTS = re.compile(rf"(?<!and )(?<![\w.,-]){_NUMBER}(?:[ -](?:percentage[ -])?points?| ?pp)\b")
_BETTER = "better|higher|above|more accurate|worse|lower|below|ahead|behind"
_PERCENT = re.compile(  # percentages of a difference only
    rf"(?<![\w.,-]){_NUMBER} ?(?:%|percent\b)(?= (?:{_BETTER})\b)|\bby (?:[a-z]+ ){{0,2}}{_NUMBER} ?(?:%|percent\b)"
)
_ANY_PERCENT = re.compile(rf"(?<![\w.,-]){_NUMBER} ?(?:%|percent\b)")
_ONE_IN = re.compile(rf"\b(?:one|1|a) (?:[a-z]+ )?(?:in|of|out of) (?:every )?{_NUMBER}\b")
_HALF_A_POINT = re.compile(r"\bhalf (?:a |of a )?(?:percentage )?point\b")
_EPOCHS = re.compile(rf"(?<![\w.,-]){_NUMBER}[ -]epochs?\b")
_RESNET = re.compile(r"\bresnet[ -]?(\d+)\b")
_KNN, _LINEAR = re.compile(r"\bk ?-?nn\b|\bnearest[ -]neighbou?rs?\b"), re.compile(r"\blinear\b")
_ABOVE = (
    r"\b(?:better than|beats?|outperforms?|exceeds?|surpass(?:es)?|ahead of|superior to|above|tops"
    r"|wins (?:over|against)|higher than|more accurate than)\b"
)
_BELOW = r"\b(?:worse than|loses to|behind|inferior to|below|lower than|less accurate than)\b"
_BEST = re.compile(
    r"\bbest (?:of all|among|method|overall|self-supervised)\b|\b(?:than|over|beats|outperforms|exceeds) "
    r"(?:all|every|any)\b|\bstate[ -]of[ -]the[ -]art\b"
)
_DENIED = re.compile(r"\b(?:not|no|never|nor|neither|hardly|than|if|whether)\b|n't\b")
_GENERAL = re.compile(
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


def names_dataset(claim: Claim, dataset: str) -> bool:
    """Whether the sentence names the dataset, or the protocol, which fixes the dataset."""
    sentence = _plain(claim.sentence)
    named = [_pattern(spelling).search(sentence) for spelling in (dataset, *_ALSO_CALLED.get(dataset, ()))]
    return any(named) or names_protocol(claim)


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
    sizes = _sizes_in_points(_plain(claim.sentence))
    return bool(sizes) if size is None else any(_is_size(one, size) for one in sizes)


def names_share(claim: Claim) -> bool:
    """Whether the sentence names the claim's share of seeds: 0.1 is also "10 %" and "one in ten", 0.5 also "half"."""
    sentence, share = _plain(claim.sentence), claim.share or 0.0
    named = {_number(found[1]) / 100 for found in _ANY_PERCENT.finditer(sentence)}
    named |= {1 / _number(found[1]) for found in _ONE_IN.finditer(sentence)}
    named |= {0.5} if re.search(r"\bhalf\b", sentence) else set()
    return names_value(claim, "share", share) or any(abs(one - share) <= ROUNDING * share for one in named)


def names_methods(claim: Claim, methods: Iterable[str]) -> bool:
    """Whether the sentence names every one of the methods."""
    return all(_pattern(method).search(_plain(claim.sentence)) for method in methods)


def names_value(claim: Claim, key: str, value: Scalar) -> bool:
    """Whether the sentence names a setting's value: 4 is also "four", 1000 also "1,000"; of a boolean, the setting."""
    sentence = _plain(claim.sentence)
    if isinstance(value, bool):
        return bool(_pattern(key).search(sentence))
    if not isinstance(value, int | float):
        return bool(_pattern(str(value)).search(sentence))
    spellings = [f"{value:g}", f"{value:,}", *(word for word, number in _NUMBERS.items() if number == value)]
    return any(re.search(rf"(?<![\w.,]){re.escape(one)}(?![\w]|[.,]\d)", sentence) for one in spellings)


def names_setting(claim: Claim, key: str) -> bool:
    """Whether the sentence names a setting: "batch size", "batch sizes"."""
    return bool(re.search(rf"(?<![a-z0-9])(?:{'[ _-]*'.join(key.split('_'))})s?(?![a-z0-9])", _plain(claim.sentence)))


def contradictions(claim: Claim, compared: Compared) -> Iterator[str]:
    """Yield each statement of the sentence that differs from the comparison."""
    sentence = _plain(claim.sentence)
    other_protocols = {name for name in compared.protocols if name != claim.protocol}
    protocols, rest = _named(sentence, {*other_protocols, claim.protocol} - {""})
    if wrong := sorted(protocols & other_protocols):
        yield f"it names protocol {', '.join(wrong)}"
    datasets, rest = _named(rest, (*DATASETS, *(name for names in _ALSO_CALLED.values() for name in names)))
    own = {compared.dataset, *_ALSO_CALLED.get(compared.dataset, ())}
    if compared.dataset and (wrong := sorted(datasets - own)):
        yield f"it names {', '.join(wrong)}, but the images are of {compared.dataset}"
    yield from _method_contradictions(claim, sentence, compared.methods)
    yield from _order_contradictions(claim, sentence)
    if claim.kind in ("better", "not_worse") and (best := _BEST.search(sentence)):
        yield f"it says {best[0]!r}, but only one other is compared"
    yield from _size_contradictions(claim, sentence)
    epochs = {int(_number(found[1])) for found in _EPOCHS.finditer(sentence)}
    if compared.epochs and (others := sorted(epochs - compared.epochs)):
        of = ", ".join(map(str, sorted(compared.epochs)))
        yield f"it names {', '.join(map(str, others))} epochs, but the trials had {of}"
    depths = {f"resnet{found[1]}" for found in _RESNET.finditer(sentence)}
    if compared.backbone and (other_depths := sorted(depths - {compared.backbone})):
        yield f"it names {', '.join(other_depths)}, but the backbone is {compared.backbone}"
    probes = {"knn": bool(_KNN.search(sentence)), "linear": bool(_LINEAR.search(sentence))}
    probe = get_metric(claim.metric).probe
    if probe in probes and not probes[probe] and any(probes.values()):
        yield f"it names {'linear' if probe == 'knn' else 'kNN'} accuracy, but the metric is {claim.metric}"


def _method_contradictions(claim: Claim, sentence: str, known: Iterable[str]) -> Iterator[str]:
    """The sentence names a method that is not compared, and does not name one that is."""
    sides = {str(side["method"]) for side in (claim.a, claim.b, *claim.among) if side}
    named, _ = _named(sentence, {*known, *sides})
    if (others := sorted(named - sides)) and (missing := sorted(sides - named)) and claim.kind != "best_of":
        yield f"it names {', '.join(others)}, but {', '.join(missing)} is compared"


def _order_contradictions(claim: Claim, sentence: str) -> Iterator[str]:
    """The sentence says "B is better than A" or "A is below B", not negated, where the claim says A is better."""
    if claim.kind != "better" or claim.lower_is_better or claim.a["method"] == claim.b["method"]:
        return
    a, b = (_pattern(str(side["method"])).pattern for side in (claim.a, claim.b))
    for first, verbs, second in ((b, _ABOVE, a), (a, _BELOW, b)):
        for found in re.finditer(rf"{first}(?P<between>[^.;:]*?)(?:{verbs})[^.;:,]*?{second}", sentence):
            if not _DENIED.search(found["between"]) and not re.search(rf"{a}|{b}", found["between"]):
                yield f"it says that {claim.b['method']} is better"


def _size_contradictions(claim: Claim, sentence: str) -> Iterator[str]:
    sizes = _sizes_in_points(sentence)
    sizes |= {_number(found[1] or found[2]) for found in _PERCENT.finditer(sentence)}
    claimed = claim.within or claim.claimed_size
    is_named = any(_is_size(size, claimed) for size in sizes)
    if claim.metric.endswith("top1") and sizes and not is_named:
        named = " and ".join(f"{size:g}" for size in sorted(sizes))
        yield f"it says {named} points, but the claim has {f'{100 * claimed:g}' if claimed else 'no size'}"


def _sizes_in_points(sentence: str) -> set[float]:
    sizes = {_number(found[1]) for found in _POINTS.finditer(sentence)}
    return sizes | ({0.5} if _HALF_A_POINT.search(sentence) else set())


def _is_size(points: float, size: float) -> bool:
    return abs(points / 100 - size) <= ROUNDING * size


def _named(sentence: str, names: Iterable[str]) -> tuple[set[str], str]:
    """Return the names that the sentence holds and the rest of it. Longer names first: a part of one does not count."""
    found = set()
    for name in sorted(names, key=lambda name: (-len(name), name)):
        sentence, count = _pattern(name).subn(" ", sentence)
        if count:
            found.add(name)
    return found, sentence


def _pattern(name: str) -> re.Pattern[str]:
    """Return a pattern by which "cifar10" matches CIFAR-10 and CIFAR 10, but not CIFAR-100 or a part of a word."""
    parts = re.findall(r"[a-z]+|\d+", name.lower())
    return re.compile(r"(?<![a-z0-9])" + r"[ _-]*".join(parts) + r"(?![a-z0-9])(?![_-]\d)")


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("‑", "-").replace("–", "-").split())


def _number(word: str) -> float:
    return float(_NUMBERS[word]) if word in _NUMBERS else float(word.replace(",", ""))
