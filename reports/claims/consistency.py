"""Whether the parts of a record fit together: its method and settings, what was chosen, images and seconds.

Each problem names the value seen and the values allowed. Results that were made up as a whole are not found here.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from twinbench.results.attempts import Attempt
from twinbench.results.record import Record, Result, shown
from twinbench.results.rows import to_moment
from twinbench.sweeps.errors import counted
from twinbench.sweeps.file_reader import as_mapping
from twinbench.sweeps.metrics import MetricValue, get_metric
from twinbench.sweeps.own_values import (
    is_same_text,
    own_values,
    shipped_methods,
    shipped_settings,
    shipped_versions,
)
from twinbench.sweeps.protocol import RIDGE_PENALTIES
from twinbench.sweeps.trial import setting_text

DEFAULT_CANDIDATES = {"ridge_penalties": RIDGE_PENALTIES}  # where the protocol has no such list
COMPLETE = ("done", "collapsed")  # statuses of trials that trained to their end
SLACK = 5.0  # seconds; times are rounded to one, and a clock may be set while a trial runs
SLACK_BETWEEN_ATTEMPTS = 300.0  # on other machines, whose clocks may differ

# --- version and chosen settings ------------------------------------------------------------------------------------


def choice_problems(result: Result) -> Iterator[str]:
    """Yield a version that the method never had, and chosen settings that are no candidates of the protocol."""
    method, version = result["trial"]["method"], result["trial"]["method_version"]
    if (known := shipped_versions(method)) and version not in known:
        yield f"{method} has version {version}; versions that exist here: {', '.join(map(str, known))}"
    content = result["trial"]["protocol"]["content"]
    epochs = result["trial"]["training"].get("epochs", 0)
    for metric in result["metrics"]:
        allowed = candidates_of(metric["name"], content.get("evaluation", {}))
        if content.get("checkpoint") == "best_on_test" and isinstance(epochs, int):
            allowed = allowed | {"epoch": range(epochs + 1)}
        yield from _not_candidates(metric, allowed)


def candidates_of(name: str, evaluation: Mapping[str, object]) -> dict[str, Sequence[object]]:
    """Return the values among which the probe of a metric chooses, by setting; empty where any list is unknown."""
    metric = get_metric(name)
    lists = [evaluation.get(key) or DEFAULT_CANDIDATES.get(key) for key in metric.candidates]
    known = [values for values in lists if isinstance(values, list | tuple)]
    return dict(zip(metric.chosen, known, strict=True)) if len(known) == len(metric.chosen) else {}


def _not_candidates(metric: MetricValue, allowed: Mapping[str, Sequence[object]]) -> Iterator[str]:
    for name, value in sorted(as_mapping(metric.get("selected")).items()) if allowed else ():
        where = f"{metric['name']} on {metric['split']} was measured with {name} {shown(value)}"
        if name not in allowed:
            yield f"{where}; settings of this probe: {', '.join(allowed)}"
        elif value not in allowed[name]:
            values = allowed[name]
            text = f"0 to {values[-1]}" if isinstance(values, range) else ", ".join(map(str, values))
            yield f"{where}; candidates of the protocol: {text}"


# --- names and settings ---------------------------------------------------------------------------------------------


def namesake(name: str, known: Iterable[str]) -> str:
    """Return the known name that `name` reads as without being it: "CIFAR_10" for cifar10; empty if there is none."""
    return next((one for one in known if one != name and _spoken(one) == _spoken(name)), "") if name else ""


def _spoken(name: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name).casefold())


def setting_problems(result: Result) -> Iterator[str]:
    """Yield a method that only looks like a shipped one, and settings that no sweep under the protocol can give it.

    Those are settings that are not the method's, or are missing, and values that are neither the protocol's own nor
    allowed by its table `movable`. Of another package's method only the values that the protocol gives are known.
    """
    trial = result["trial"]
    method, content = trial["method"], trial["protocol"]["content"]
    shipped = shipped_settings(method, trial["method_version"])
    if other := namesake(method, shipped_methods()):
        yield f"its method {method} is not the shipped {other}, whose name it reads as"
    if shipped is not None:
        yield from _wrong_names(method, trial["settings"], shipped)
    if trial["training"]:
        yield from _wrong_names("the protocol's training", trial["training"], as_mapping(content.get("training")))
    movable = as_mapping(content.get("movable"))
    own = own_values(content, method, trial["method_version"])
    for name, value in sorted({**trial["settings"], **trial["training"]}.items()):
        text = setting_text(value)
        if name in own and not is_same_text(text, own[name]) and not _may_be(value, movable.get(name)):
            allowed = f"{own[name]}, by the protocol, {_movable_text(movable.get(name))}"
            yield f"{method} has {name} {text}; allowed: {allowed}"


def _wrong_names(owner: str, given: Mapping[str, object], known: Iterable[str]) -> Iterator[str]:
    known = sorted(known)
    if unknown := sorted(given.keys() - {*known}):
        yield f"{shown(unknown[0])} is no setting of {owner}; allowed: {', '.join(known) or 'none'}"
    if missing := sorted({*known} - given.keys()):
        yield f"{', '.join(missing)} of {owner} is missing"


def _may_be(value: object, rule: object) -> bool:
    """Return whether a protocol's rule for an axis lets a sweep give it the value."""
    if not isinstance(rule, Mapping):
        return rule is True
    low, high = rule.get("at_least"), rule.get("at_most")
    are_numbers = all(isinstance(one, int | float) for one in (value, low, high))
    return not are_numbers or low <= value <= high  # type: ignore[operator]


def _movable_text(rule: object) -> str:
    return f"or {rule.get('at_least')} to {rule.get('at_most')}" if isinstance(rule, Mapping) else "which fixes it"


# --- images and seconds ---------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """How many images a trial saw that trained to its end, in so many epochs and in batches of so many images."""

    trial_id: str
    images: int
    epochs: int
    batch: int


def image_problems(trials: Sequence[Seen]) -> dict[str, str]:
    """Return, by trial of one dataset and split, images seen that do not fit its epochs and batches or other trials.

    An epoch has as many whole batches as the n training images give. So a trial that sees k images in an epoch, in
    batches of b, says that k is a multiple of b and that k <= n < k + b. The n that most trials allow is taken as true.
    """
    whole = [one for one in trials if one.images > 0 and one.images % (one.epochs * one.batch) == 0]
    spans = {one.trial_id: (one.images // one.epochs, one.images // one.epochs + one.batch) for one in whole}
    starts = {low for low, _ in spans.values()}
    n = max(starts, key=lambda start: (sum(low <= start < high for low, high in spans.values()), start), default=0)
    problems = {}
    for one in trials:
        low, high = spans.get(one.trial_id, (0, 0))
        if not low <= n < high:
            right = f"{n // one.batch * one.batch * one.epochs:,}, by the other trials"
            allowed = right if starts else f"a multiple of {one.epochs * one.batch:,}"
            seen = f"saw {one.images:,} images in {counted(one.epochs, 'epoch')} with batches of {one.batch}"
            problems[one.trial_id] = f"{seen}; allowed: {allowed}"
    return problems


def validation_sizes(result: Result) -> set[int]:
    """Return how many validation images the metrics of a trial say that they were measured on."""
    counts = {one.get("n_examples") for one in result["metrics"] if one["split"] == "validation"}
    return {count for count in counts if isinstance(count, int)}


def validation_problems(sizes: Mapping[str, Set[int]]) -> dict[str, str]:
    """Return, by trial of one protocol and dataset, validation images that are not as many as most trials have.

    `sizes` is what `validation_sizes` gives, by trial. A favourable part of the images could choose a cell.
    """
    counts = Counter(count for of_trial in sizes.values() for count in of_trial)
    usual = max(counts, key=lambda count: (counts[count], count), default=0)
    problems = {}
    for trial_id, of_trial in sizes.items():
        if wrong := sorted(of_trial - {usual}):
            seen = " and ".join(f"{count:,}" for count in wrong)
            problems[trial_id] = f"was selected on {seen} validation images; allowed: {usual:,}, by the other trials"
    return problems


def images_seen(record: Record) -> Seen | None:
    """Return what the record says of the images; None if the trial did not train to its end, or does not say."""
    result, training = record["result"], record["result"]["trial"]["training"]
    counts = (record["circumstance"].get("images_seen"), training.get("epochs"), training.get("batch_size"))
    images, epochs, batch = (one if type(one) is int else -1 for one in counts)
    ended = result["status"] in COMPLETE and images >= 0 and epochs > 0 and batch > 0
    return Seen(result["trial_id"], images, epochs, batch) if ended else None


def second_problems(record: Record, attempts: Sequence[Attempt]) -> Iterator[str]:
    """Yield seconds of training and evaluation that contradict each other, the images seen or the attempts' times."""
    circumstance = record["circumstance"]
    parts = [_number(circumstance.get(key)) for key in ("train_seconds", "evaluation_seconds")]
    known = [value for value in parts if value is not None]
    if negative := [value for value in known if value < 0]:
        yield f"has {negative[0]:g} seconds of training or evaluation; allowed: 0 or more"
    if (images := _number(circumstance.get("images_seen"))) and parts[0] == 0:
        yield f"saw {images:,.0f} images in 0 seconds of training"
    for limit, text in _limits(circumstance, attempts):
        if sum(known) > limit:
            yield f"trained and was evaluated for {sum(known):,.1f} seconds, but {text}"


def _limits(circumstance: Mapping[str, object], attempts: Sequence[Attempt]) -> Iterator[tuple[float, str]]:
    """Yield the most seconds that the trial can have taken, by the times of its record and by those of its attempts."""
    started, finished = (to_moment(circumstance.get(key)) for key in ("started", "finished"))
    slack = SLACK if circumstance.get("attempts") == 1 else SLACK_BETWEEN_ATTEMPTS
    if started and finished and finished >= started:
        took = (finished - started).total_seconds()
        yield took + slack, f"finished {took:,.0f} seconds after it started"
    own = [attempt.get("seconds") for attempt in attempts]
    seconds = [value for value in own if value is not None]
    if seconds and len(seconds) == len(own):
        yield sum(seconds) + SLACK, f"its attempts took {sum(seconds):,.1f}"


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]
