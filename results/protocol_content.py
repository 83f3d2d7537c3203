"""What is checked of the protocol that a plan or a record carries, so that its readers may rely on the types.

A key may be missing, since older versions wrote fewer, and unknown keys are kept. No value is checked against the
range that sweeps/protocol.py allows: a protocol of another version may have had another.
"""

import sys
from typing import Annotated, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, StrictStr, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

SCALAR = "a number, a text, true, false or null"
Integer = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]  # what the database's BIGINT holds
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


def _scalar(value: object) -> object:
    is_number = isinstance(value, int | float) and abs(value) <= sys.float_info.max  # integers may be longer
    if value is None or isinstance(value, str) or is_number:
        return value
    raise PydanticCustomError("scalar_type", f"should be {SCALAR}")


Scalar = Annotated[object, AfterValidator(_scalar)]


class DatasetShape(TypedDict, total=False):
    name: StrictStr
    mean: list[Number]
    std: list[Number]
    validation_fraction: Number
    split_seed: Integer
    image_size: Integer | None
    train_examples: Integer | None
    test_examples: Integer | None


class BackboneShape(TypedDict, total=False):
    name: StrictStr
    options: dict[str, Scalar]


class EvaluationShape(TypedDict, total=False):
    metrics: dict[str, StrictStr]
    knn_neighbours: list[Integer]
    knn_temperatures: list[Number]
    linear_learning_rates: list[Number]
    linear_weight_decays: list[Number]
    linear_epochs: Integer
    linear_batch_size: Integer
    ridge_penalties: list[Number]
    diagnostics_every_epochs: Integer
    diagnostics_examples: Integer


class ContentShape(TypedDict, total=False):
    name: StrictStr
    version: Integer
    summary: StrictStr
    dataset: DatasetShape
    backbone: BackboneShape
    views: list[dict[str, object]]
    training: dict[str, Scalar]
    evaluation: EvaluationShape
    minimum_seeds: Integer
    margin: Number
    movable: dict[str, object]
    methods: dict[str, dict[str, Scalar]]
    changelog: list[StrictStr]
    not_restated: list[StrictStr]
    selected_on: Literal["validation", "test"]
    checkpoint: Literal["last", "best_on_test"]
    collapsed_below: Number | None


class _Deviation(TypedDict):
    key: StrictStr
    value: object
    protocol_value: object
    reason: StrictStr


def _unchanged(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """Return what was checked: a 1 for a float must not become 1.0, which has another hash."""
    check(value)
    return value


class CheckedProtocol(TypedDict):
    """What is checked of a `CarriedProtocol`."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    name: StrictStr
    version: Integer
    hash: StrictStr
    content: Annotated[ContentShape, WrapValidator(_unchanged)]
    deviations: NotRequired[Annotated[list[_Deviation], WrapValidator(_unchanged)]]
    base_hash: NotRequired[StrictStr]
