"""A trial: a cell and a seed, the unit that runs. Its id is the hash of everything that can change its numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypedDict, cast

from twinbench.sweeps.hashing import ID_LENGTH, digest, to_json
from twinbench.sweeps.protocol import CarriedProtocol

WITHOUT_SEEDS = "raw_pixels"  # draws nothing at random: its result is the same for every seed


class TrialContent(TypedDict):
    """A `Trial` as plain JSON types, as records hold it."""

    method: str
    method_version: int
    settings: Mapping[str, Any]
    training: Mapping[str, Any]
    seed: int
    dataset_fingerprint: str
    protocol: CarriedProtocol


@dataclass(frozen=True)
class Trial:
    """Everything that determines a result.

    `settings` are those of the method and `training` those of the optimisation, with all defaults filled in. `protocol`
    holds name, version, hash and content; if the sweep deviates from it, also `deviations` and `base_hash`, the hash
    without them (sweeps/deviations.py). `dataset_fingerprint` covers the decoded images and labels.
    """

    method: str
    method_version: int
    settings: Mapping[str, Any]
    training: Mapping[str, Any]
    seed: int
    dataset_fingerprint: str
    protocol: CarriedProtocol

    @cached_property
    def trial_id(self) -> str:
        """Return 16 hex digits. Folder, launcher, device and resources do not affect them."""
        return digest(self._identity())[:ID_LENGTH]

    @cached_property
    def cell_id(self) -> str:
        """Return the same hash without the seed: equal for trials that differ only in the seed."""
        return digest({key: value for key, value in self._identity().items() if key != "seed"})[:ID_LENGTH]

    def _identity(self) -> dict[str, object]:
        return {**self.content(), "protocol": self.protocol["hash"]}

    def content(self) -> TrialContent:
        """Return plain JSON types, from which `Trial(**content)` makes an equal trial."""
        return cast(TrialContent, {field.name: getattr(self, field.name) for field in fields(self)})

    def setting_texts(self) -> dict[str, str]:
        """Return the settings of the method and of the training as texts, by name."""
        return {name: setting_text(value) for name, value in {**self.settings, **self.training}.items()}


def setting_text(value: object) -> str:
    """Return a text unchanged, anything else as JSON; the JSON of a finite number is its repr, which is faster."""
    if isinstance(value, str):
        return value
    is_finite = type(value) is int or (type(value) is float and math.isfinite(value))
    return repr(value) if is_finite else to_json(value)
