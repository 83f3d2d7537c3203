"""The sentence that a claim's fields mean, which is what a verdict is about. The authors' words stand beside it."""

from collections.abc import Iterable, Iterator, Sequence

from twinbench.reports.claims.claim import COLLAPSE_SHARES, Claim, Selector, reported_value
from twinbench.reports.claims.contrasts import COLLAPSE_KINDS, Contrast, tolerance_of
from twinbench.reports.claims.evidence import Evidence, Side
from twinbench.reports.verdicts.phrasing import size_text
from twinbench.sweeps.metrics import get_metric
from twinbench.sweeps.protocol import Scalar


def claim_sentence(evidence: Evidence, contrasts: Sequence[Contrast]) -> str:
    """Return the claim in words: dataset and protocol, what is compared, in which direction, by how much, how often.

    `contrasts` give the number of seeds and the confidence; without them the sentence has neither.
    """
    claim = evidence.claim
    shared = [_setting_text(key, value, evidence.sides) for key, value in _shared(evidence).items()]
    at = [f"at {_listed(shared)}"] if shared else []
    at += [
        f"at each of {key} = {_listed(map(str, values))}{_own_value(key, evidence.sides)}"
        for key, values in claim.scope.items()
    ]
    at += [text for text in (unlike_protocol(evidence), _seeds_text(evidence, contrasts)) if text]
    return ", ".join([f"{_place(evidence)}, {_relation(evidence)}", *at]) + "."


def _place(evidence: Evidence) -> str:
    """Return "On cifar10 under protocol cifar10-small v4 (1550f6f3e742)"; of a published table its name."""
    claim = evidence.claim
    if claim.is_about_a_table:
        return f"In the published table {claim.reported}"
    section = next((side.section for side in evidence.sides if side.section), None)
    dataset = evidence.content.get("dataset", {}).get("name")
    under = f"under protocol {section.protocol_id if section else claim.protocol}"
    return f"On {dataset} {under}" if dataset else under[0].upper() + under[1:]


def _relation(evidence: Evidence) -> str:
    """Return "the linear top-1 of simclr on test is at least 1 point above that of byol"."""
    claim = evidence.claim
    metric, a = get_metric(claim.metric), _named(claim.a, evidence)
    if claim.kind in COLLAPSE_KINDS:
        share = COLLAPSE_SHARES[claim.kind] if claim.share is None else claim.share
        return f"{a} collapses in {'more' if claim.kind == 'collapses' else 'less'} than {100 * share:g} % of all seeds"
    subject = f"the {metric.phrase} of {a}{' on test' if metric.is_accuracy and not claim.is_about_a_table else ''}"
    above, below = ("below", "above") if claim.lower_is_better else ("above", "below")
    values, within = _listed(map(str, claim.values)), size_text(claim.within or 0.0, claim)
    values += _own_value(claim.axis, evidence.sides)
    if claim.kind == "insensitive":
        return f"{subject} changes by less than {within} between any two of {claim.axis} = {values}"
    if claim.kind == "monotone":
        verb = "grows" if claim.direction == "increasing" else "falls"
        return f"{subject} {verb} from each of {claim.axis} = {values} to the next"
    if claim.kind == "equals":
        return f"{subject} is within {within} of {_published(evidence)}"
    if claim.kind == "not_worse":
        return f"{subject} is no more than {within} {below} that of {_named(claim.b, evidence)}"
    if claim.kind == "wins":
        than = f"is {above} that of {_named(claim.b, evidence)}"
        return f"at a new seed, {subject} {than} with a probability above {claim.chance or 0.5:g}"
    others = dict.fromkeys(_named(b.selector, evidence) for _, b, _ in evidence.pairs if b is not None)
    every = "each of " if len(others) > 1 else ""
    return (
        f"{subject} is {_size(claim, evidence.margin)}{above} that of {every}{_listed(others) or 'every other method'}"
    )


def _size(claim: Claim, margin: float) -> str:
    """Return "at least 1 point " or "2 points, give or take 1 point, "; empty where no size is claimed."""
    if claim.by and (tolerance := tolerance_of(claim, margin)):
        return f"{size_text(claim.by, claim)}, give or take {size_text(tolerance, claim)}, "
    least = f"{'' if claim.by else 'at least '}{size_text(claim.claimed_size, claim)} "
    return least if claim.claimed_size else ""


def _published(evidence: Evidence) -> str:
    """Return "the 84.7 % of table lightly-cifar10"."""
    claim, table, metric = evidence.claim, evidence.table, get_metric(evidence.claim.metric)
    value = reported_value(table, claim, claim.a).value if table else None
    number = "value" if value is None else f"{metric.scale * value:.4g} {metric.unit}".strip()
    return f"the {number} of table {claim.reported}"


def _shared(evidence: Evidence) -> Selector:
    """Return the settings that the claim gives to all its sides alike."""
    first, *others = [side.selector for side in evidence.sides]
    settings = [item for item in first.items() if all(item in other.items() for other in others)]
    return {key: value for key, value in settings if key not in ("method", *evidence.claim.scope)}


def _named(selector: Selector, evidence: Evidence) -> str:
    """Return "simclr at batch_size = 128 and epochs = 200", without the settings that all sides share."""
    apart = [key for key in selector if key not in ("method", *_shared(evidence), *evidence.claim.scope)]
    sides = [side for side in evidence.sides if selector.items() <= side.selector.items()]
    settings = _listed(_setting_text(key, selector[key], sides) for key in apart)
    return f"{selector['method']} at {settings}" if settings else str(selector["method"])


def _setting_text(key: str, value: Scalar, sides: Sequence[Side]) -> str:
    """Return "epochs = 4 (protocol: 20)"; without the protocol's value where it is the same, or not known."""
    return f"{key} = {value}{_own_value(key, sides)}"


def _own_value(key: str, sides: Sequence[Side]) -> str:
    """Return " (protocol: 20)" where any of the sides differs from it; methods are named where they differ in it."""
    own = {
        str(side.selector["method"]): one.protocol_value
        for side in sides
        for one in (side.cell.changed if side.cell else ())
        if one.name == key
    }
    is_one = own.keys() == {side.selector["method"] for side in sides} and len({*own.values()}) == 1
    values = {*own.values()} if is_one else (f"{method} {value}" for method, value in own.items())
    return f" (protocol: {', '.join(values)})" if own else ""


def unlike_protocol(evidence: Evidence) -> str:
    """Return what differs from the protocol in the trials and is not given by the claim; empty where nothing is.

    As in "with epochs = 1 (protocol: 12), with momentum = 0.8 (protocol: 0.9) for simclr": sides are named where not
    all of them have the setting.
    """
    trained = [side for side in evidence.measured if side.cell and side.cell.values]
    having: dict[str, list[Side]] = {}
    for side in trained:
        for one in side.cell.changed if side.cell else ():
            if one.name not in side.selector:
                having.setdefault(str(one), []).append(side)
    of: dict[str, list[str]] = {}  # settings, by the sides that have them
    for text, sides in having.items():
        whom = "" if len(sides) == len(trained) else f" for {_listed(_sides_text(sides, trained, evidence))}"
        of.setdefault(whom, []).append(text)
    return ", ".join(f"with {', '.join(texts)}{whom}" for whom, texts in sorted(of.items()))  # what all have is first


def _sides_text(sides: Sequence[Side], all_sides: Sequence[Side], evidence: Evidence) -> Iterator[str]:
    """Yield "simclr" where all sides of a method are among these, else "simclr (batch_size = 64)" for each."""
    for method in dict.fromkeys(str(side.selector["method"]) for side in sides):
        of_method = [side for side in sides if side.selector["method"] == method]
        if len(of_method) == sum(side.selector["method"] == method for side in all_sides):
            yield method
            continue
        for side in of_method:
            apart = [item for item in side.selector.items() if item[0] not in ("method", *_shared(evidence))]
            yield f"{method} ({', '.join(f'{key} = {value}' for key, value in apart)})"


def _seeds_text(evidence: Evidence, contrasts: Sequence[Contrast]) -> str:
    """Return "over 6 seeds at 97.5 % confidence"; a range where comparisons differ."""
    found = [contrast.difference for contrast in contrasts if contrast.difference and contrast.low is not None]
    if evidence.claim.kind in COLLAPSE_KINDS:
        return f"over {_range(len(side.trials) for side in evidence.measured)} seeds" if evidence.measured else ""
    if not found:
        return ""
    confidence = _range(100 * difference.confidence for difference in found)
    return f"over {_range(difference.n for difference in found)} seeds at {confidence} % confidence"


def _range(numbers: Iterable[float]) -> str:
    """Return "6" or "5 to 6"."""
    ordered = [f"{number:.4g}" for number in sorted(numbers)]
    return " to ".join(dict.fromkeys([ordered[0], ordered[-1]]))


def _listed(names: Iterable[str]) -> str:
    """Return "a, b and c"."""
    *first, last = [*names] or [""]
    return f"{', '.join(first)} and {last}" if first else last
