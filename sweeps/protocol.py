"""A protocol: everything that is held fixed so that numbers can be compared. Read from `protocols/NAME.toml`.

The sections are plain frozen dataclasses, so that a trial can run from its own JSON without the TOML reader.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal, NotRequired, cast

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from twinbench.sweeps.errors import Mistake
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.metrics import FEATURE_STD, METRICS, ONLINE_KNN
from twinbench.sweeps.recipe import ViewRecipe

Fraction = Annotated[float, Ge(0), Le(1)]
Scalar = bool | int | float | str
PROSE = ("summary", "changelog", "not_restated")  # change no number, so the hash excludes them
# Left out of the content if empty, because it was added after protocols had hashes.
LEFT_OUT = ("evaluation.ridge_penalties",)
# Used where a protocol lists none: two per decade, from almost no to very strong regularisation. Other values would be
# another variant of the metric, since the hash of such a protocol does not cover them.
RIDGE_PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Section:
    """Base of the sections: an unknown key is an error."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True)
class DatasetRule(Section):
    """The dataset, how its train split is divided, and the per-channel statistics that normalise pixels."""

    name: str
    mean: tuple[float, float, float]
    std: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)], Annotated[float, Gt(0)]]
    validation_fraction: Annotated[float, Ge(0), Le(0.5)]  # 0 keeps the whole train split; see `selected_on`
    split_seed: Annotated[int, Ge(0)] = 0
    image_size: Annotated[int, Ge(4)] | None = None  # pixels; None keeps the images' size
    train_examples: Annotated[int, Gt(0)] | None = None  # None: all; else a subset drawn with `split_seed`
    test_examples: Annotated[int, Gt(0)] | None = None


@dataclass(frozen=True)
class BackboneRule(Section):
    """The encoder that all methods share."""

    name: str
    options: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Training(Section):
    """Optimisation: set by a protocol, also per method, and varied by a sweep where the protocol allows it."""

    epochs: Annotated[int, Ge(0)]
    batch_size: Annotated[int, Ge(2)]  # the global batch; the last, smaller batch of an epoch is dropped
    optimizer: Literal["sgd", "adamw", "lars"]
    learning_rate: Annotated[float, Gt(0)]  # at `reference_batch_size`, before `learning_rate_rule`
    learning_rate_rule: Literal["linear", "sqrt", "none"] = "linear"  # how it scales with the batch size
    reference_batch_size: Annotated[int, Gt(0)] = 256
    momentum: Annotated[float, Ge(0), Le(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 0.0
    decay_bias_and_norm: bool = False  # whether weight decay and LARS adaptation apply to 1-D parameters
    bias_and_norm_learning_rate_factor: Annotated[float, Gt(0)] = 1.0
    trust_coefficient: Annotated[float, Gt(0)] = 0.001  # LARS only
    clip_trust_ratio: bool = False  # LARS only: the trust ratio divided by the rate is at most 1 (LARC)
    warmup_epochs: Annotated[float, Ge(0)] = 0.0
    final_learning_rate_factor: Annotated[float, Ge(0), Le(1)] = 0.0  # the cosine ends at this fraction of the peak
    clip_gradient_norm: Annotated[float, Gt(0)] | None = None
    precision: Literal["fp32", "auto"] = "auto"  # auto: bf16 autocast on devices where it is fast (GPUs), else fp32


@dataclass(frozen=True)
class Evaluation(Section):
    """What is measured on the frozen backbone, each metric in a named variant, and the candidates of the probes."""

    metrics: Annotated[dict[str, str], MinLen(1)]  # name to variant; metrics that are not listed are not measured
    knn_neighbours: tuple[Annotated[int, Gt(0)], ...] = ()
    knn_temperatures: tuple[Annotated[float, Gt(0)], ...] = ()
    linear_learning_rates: tuple[Annotated[float, Gt(0)], ...] = ()
    linear_weight_decays: tuple[Annotated[float, Ge(0)], ...] = ()
    linear_epochs: Annotated[int, Gt(0)] = 50
    linear_batch_size: Annotated[int, Gt(0)] = 256
    ridge_penalties: tuple[Annotated[float, Gt(0)], ...] = ()  # on the mean squared error; if empty, RIDGE_PENALTIES
    diagnostics_every_epochs: Annotated[int, Gt(0)] = 10  # this often they cost at most 5% of the training
    diagnostics_examples: Annotated[int, Ge(16)] = 1024  # validation images, and four times as many of the train bank


@dataclass(frozen=True)
class Range(Section):
    """The range in which a sweep may vary a number, ends included."""

    at_least: float
    at_most: float


@dataclass(frozen=True)
class Protocol(Section):
    """Everything that is held fixed. `hash` covers all but the prose; `movable` names the axes that a sweep may vary.

    `selected_on` is the split that chooses among candidates. `checkpoint` says which weights are reported: those after
    the last epoch, or for each metric those of the best measured epoch, chosen on the same test images that it is
    reported on. Test selection and best epochs exist to restate published numbers; new comparisons select on
    validation and use the last epoch.
    """

    name: str
    version: Annotated[int, Ge(1)]
    summary: str
    dataset: DatasetRule
    backbone: BackboneRule
    views: Annotated[tuple[ViewRecipe, ...], MinLen(2), MaxLen(100)]
    training: Training
    evaluation: Evaluation
    minimum_seeds: Annotated[int, Ge(1)]
    margin: Fraction  # the smallest difference in top-1 that matters
    movable: dict[str, Range | bool]
    methods: dict[str, dict[str, Scalar | None]]
    changelog: tuple[str, ...] = ()
    not_restated: tuple[str, ...] = ()  # how this protocol differs from the published one that it restates
    selected_on: Literal["validation", "test"] = "validation"
    checkpoint: Literal["last", "best_on_test"] = "last"
    collapsed_below: Annotated[float, Ge(0)] | None = None  # a trial with a final feature_std below is `collapsed`

    @property
    def content(self) -> "ProtocolContent":
        """Return the whole protocol as plain JSON types."""
        whole = json.loads(json.dumps(asdict(self)))
        for section, name in (key.split(".") for key in LEFT_OUT):
            if not whole[section][name]:
                del whole[section][name]
        return cast(ProtocolContent, {part.name: whole[part.name] for part in fields(Protocol)})

    @property
    def hash(self) -> str:
        """Return the sha256 of everything but the prose."""
        return content_hash(self.content)

    @property
    def carried(self) -> "CarriedProtocol":
        """Return what a trial carries of its protocol: enough to run it, and the hash that the trial's id covers."""
        return {"name": self.name, "version": self.version, "hash": self.hash, "content": self.content}


# --- a protocol as plans and records carry it -----------------------------------------------------------------------
# The types of what `Protocol.content` and `Protocol.carried` return. Read back from a file, any key may be missing
# where it is not checked: an older version wrote fewer.


class BackboneContent(TypedDict):
    """The fields of `BackboneRule`."""

    name: str
    options: dict[str, Scalar]


class ProtocolContent(TypedDict, total=False):
    """The fields of `Protocol`. Dataset, views, training and evaluation are read by their own dataclasses."""

    name: str
    version: int
    summary: str
    dataset: dict[str, Any]
    backbone: BackboneContent
    views: list[dict[str, Any]]
    training: dict[str, Any]
    evaluation: dict[str, Any]
    minimum_seeds: int
    margin: float
    movable: dict[str, object]
    methods: dict[str, dict[str, Scalar | None]]
    changelog: list[str]
    not_restated: list[str]
    selected_on: Literal["validation", "test"]
    checkpoint: Literal["last", "best_on_test"]
    collapsed_below: float | None


class AppliedDeviation(TypedDict):
    """A deviation as a trial carries it; `protocol_value` is None where the protocol has no such key."""

    key: str
    value: object
    protocol_value: object
    reason: str


class CarriedProtocol(TypedDict):
    """A protocol as plans and trials carry it; the last two keys only where the sweep deviates from it."""

    name: str
    version: int
    hash: str
    content: ProtocolContent
    deviations: NotRequired[list[AppliedDeviation]]
    base_hash: NotRequired[str]  # hash of the protocol without the deviations


def without_prose(content: Mapping[str, object]) -> dict[str, object]:
    """Return a protocol's content without the keys that change no number."""
    return {key: value for key, value in content.items() if key not in PROSE}


def content_hash(content: Mapping[str, object]) -> str:
    """Return the sha256 of a protocol's content without the prose, 64 hex digits."""
    return digest(without_prose(content))


def contradictions(protocol: Protocol, where: str) -> list[Mistake]:
    """Return a mistake for each value that contradicts another one."""
    mistakes = []
    if not protocol.dataset.validation_fraction and protocol.selected_on == "validation":
        allowed = 'more than 0, or selected_on = "test"'
        mistakes.append(Mistake(where, "dataset.validation_fraction", "leaves no image to select on", 0.0, allowed))
    if not protocol.dataset.validation_fraction and ONLINE_KNN.name in protocol.evaluation.metrics:
        key = f"evaluation.metrics.{ONLINE_KNN.name}"
        mistakes.append(Mistake(where, key, "is measured on validation images only"))
    if protocol.checkpoint == "best_on_test" and protocol.selected_on != "test":
        mistakes.append(Mistake(where, "checkpoint", "selects on test", protocol.checkpoint, 'selected_on = "test"'))
    mistakes += [
        Mistake(where, f"movable.{key}.at_least", "is above at_most", rule.at_least, f"at most {rule.at_most}")
        for key, rule in protocol.movable.items()
        if isinstance(rule, Range) and rule.at_least > rule.at_most
    ]
    if protocol.collapsed_below is not None and FEATURE_STD.name not in protocol.evaluation.metrics:
        mistakes.append(Mistake(where, "collapsed_below", f"needs {FEATURE_STD.name} among the metrics"))
    return mistakes + _candidate_mistakes(protocol.evaluation, where)


def _candidate_mistakes(evaluation: Evaluation, where: str) -> list[Mistake]:
    """Return mistakes: a probe that is measured needs candidates, each once; one that is not measured has none."""
    mistakes = []
    for metric, name in [(one.name, name) for one in METRICS.values() for name in one.candidates]:
        candidates, key = getattr(evaluation, name), f"evaluation.{name}"
        if metric in evaluation.metrics and not candidates and key not in LEFT_OUT:
            mistakes.append(Mistake(where, key, f"needs at least one value: {metric} is measured"))
        if candidates and metric not in evaluation.metrics:
            mistakes.append(Mistake(where, key, f"is not used: {metric} is not among the metrics", list(candidates)))
        if len(set(candidates)) < len(candidates):
            mistakes.append(Mistake(where, key, "a value is listed twice", list(candidates)))
    return mistakes
