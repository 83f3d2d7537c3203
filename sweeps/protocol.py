"""A protocol: everything held fixed so that numbers can be compared. Read from `protocols/NAME.toml`.

The sections are plain frozen dataclasses, so that a trial can be run from its own JSON without the reader of files.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

from twinbench.sweeps.identity import digest
from twinbench.sweeps.recipe import ViewRecipe

Fraction = Annotated[float, Ge(0), Le(1)]
Scalar = bool | int | float | str


class Section:
    """Tells the reader of files that an unknown key is a mistake."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True)
class DatasetRule(Section):
    """Which images, how the train split is divided, and the per-channel statistics that normalise pixels."""

    name: str
    mean: tuple[float, float, float]
    std: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)], Annotated[float, Gt(0)]]
    validation_fraction: Annotated[float, Gt(0), Le(0.5)]
    split_seed: Annotated[int, Ge(0)] = 0
    image_size: Annotated[int, Ge(4)] | None = None  # pixels; None keeps the images as they are
    train_examples: Annotated[int, Gt(0)] | None = None  # None: all; else a subset drawn with `split_seed`
    test_examples: Annotated[int, Gt(0)] | None = None


@dataclass(frozen=True)
class BackboneRule(Section):
    """The encoder that all methods share."""

    name: str
    options: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class Training(Section):
    """Optimisation: set by a protocol, also per method, and moved by a sweep where the protocol lets it."""

    epochs: Annotated[int, Ge(0)]
    batch_size: Annotated[int, Ge(2)]  # the global batch; the last, smaller batch of an epoch is dropped
    optimizer: Literal["sgd", "adamw", "lars"]
    learning_rate: Annotated[float, Gt(0)]  # as asked, for `reference_batch_size`
    learning_rate_rule: Literal["linear", "sqrt", "none"] = "linear"  # how it grows with the batch
    reference_batch_size: Annotated[int, Gt(0)] = 256
    momentum: Annotated[float, Ge(0), Le(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 0.0
    decay_bias_and_norm: bool = False  # whether 1-D parameters take weight decay and LARS adaptation
    bias_and_norm_learning_rate_factor: Annotated[float, Gt(0)] = 1.0
    trust_coefficient: Annotated[float, Gt(0)] = 0.001  # LARS only
    warmup_epochs: Annotated[float, Ge(0)] = 0.0
    final_learning_rate_factor: Annotated[float, Ge(0), Le(1)] = 0.0  # the cosine ends at this share of the peak
    clip_gradient_norm: Annotated[float, Gt(0)] | None = None
    precision: Literal["fp32", "auto"] = "auto"  # auto: bf16 autocast where the device has it fast (GPUs), else fp32


@dataclass(frozen=True)
class Evaluation(Section):
    """kNN and linear probe on the frozen backbone: the candidates that validation chooses from."""

    knn_neighbours: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)]
    knn_temperatures: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)]
    linear_learning_rates: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)]
    linear_weight_decays: Annotated[tuple[Annotated[float, Ge(0)], ...], MinLen(1)]
    linear_epochs: Annotated[int, Gt(0)] = 50
    linear_batch_size: Annotated[int, Gt(0)] = 256
    diagnostics_every_epochs: Annotated[int, Gt(0)] = 1
    diagnostics_examples: Annotated[int, Ge(16)] = 1024  # validation images, and as many times four of the train bank


@dataclass(frozen=True)
class Range(Section):
    """How far a sweep may move a number, ends included."""

    at_least: float
    at_most: float


@dataclass(frozen=True)
class Protocol(Section):
    """See the module. `hash` covers all but the prose; `movable` names the axes that a sweep may move."""

    name: str
    version: Annotated[int, Ge(1)]
    summary: str
    dataset: DatasetRule
    backbone: BackboneRule
    views: Annotated[tuple[ViewRecipe, ...], MinLen(2)]
    training: Training
    evaluation: Evaluation
    minimum_seeds: Annotated[int, Ge(1)]
    margin: Fraction  # the least difference in top-1 that matters
    movable: dict[str, Range | bool]
    methods: dict[str, dict[str, Scalar | None]]
    changelog: tuple[str, ...] = ()
    selected_on: Literal["validation"] = "validation"
    checkpoint: Literal["last"] = "last"
    collapsed_below: Annotated[float, Ge(0)] | None = None  # feature_std at the end under which a trial is `collapsed`

    @property
    def content(self) -> dict[str, Any]:
        """The whole protocol as plain JSON types."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @property
    def hash(self) -> str:
        """sha256 of everything but `summary` and `changelog`, which change no number."""
        return digest({key: value for key, value in self.content.items() if key not in ("summary", "changelog")})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
