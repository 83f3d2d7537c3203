"""plan.json: what a run folder is to hold, checked whole when it is read.

Keys that this version does not know are kept, so that a merged plan loses nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, StrictStr, TypeAdapter, ValidationError

from twinbench.results.protocol_content import CheckedProtocol, Integer
from twinbench.results.record import PLAN, RecordError, shown
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.file_reader import parse_json, read_regular
from twinbench.sweeps.protocol import CarriedProtocol
from twinbench.sweeps.trial import Trial

PLAN_SCHEMA = 1
_WANTED = {"model_type": "a table", "dict_type": "a table", "tuple_type": "a list", "list_type": "a list"}


class BrokenPlan(RecordError):
    """A plan.json that is not a plan; the text names the first wrong key."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class PlannedTrial(_Table):
    """One trial of a plan: the ids that the plan states, and all that a `Trial` holds except its protocol."""

    trial_id: StrictStr
    cell_id: StrictStr
    method: StrictStr
    method_version: Integer
    settings: dict[str, object]
    training: dict[str, object]
    seed: Integer
    dataset_fingerprint: StrictStr

    def under(self, protocol: CarriedProtocol) -> Trial:
        """Return the trial under `protocol`. It computes its ids from its content."""
        return Trial(
            self.method,
            self.method_version,
            self.settings,
            self.training,
            self.seed,
            self.dataset_fingerprint,
            protocol,
        )


class PlannedConfirm(_Table):
    """The confirm stage: seeds that select nothing, on which the chosen cells are reported."""

    seeds: tuple[Integer, ...]


class PlanFile(_Table):
    """The content of plan.json. `axes` are those that the sweep varies; `commands` those that ran the folder.

    `trials` holds those of the confirm stage too, once its cells are chosen: those with a seed of `confirm`.
    """

    schema_number: Literal[1] = Field(alias="schema")
    name: StrictStr
    question: StrictStr
    protocol: Annotated[CarriedProtocol, GetPydanticSchema(lambda _, handler: handler.generate_schema(CheckedProtocol))]
    axes: tuple[StrictStr, ...]
    trials: tuple[PlannedTrial, ...]
    commands: tuple[StrictStr, ...] = ()  # absent in folders of older versions
    left_out: tuple[StrictStr, ...] = ()  # of the dataset's source, a text for each reason; absent if nothing is
    confirm: PlannedConfirm = PlannedConfirm(seeds=())  # absent without such a stage

    def content(self) -> dict[str, Any]:
        """Return the plan as plain JSON types, unknown keys included."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    def full_trials(self) -> list[Trial]:
        """Return the trials with their protocol, in the plan's order."""
        return [trial.under(self.protocol) for trial in self.trials]


def read_plan(run_folder: Path, read: Callable[[Path], bytes] = read_regular) -> PlanFile:
    """Return the plan of `run_folder`; InvalidInput where there is none. `read` returns the bytes of a file."""
    return plan_and_bytes(run_folder, read)[0]


def plan_and_bytes(run_folder: Path, read: Callable[[Path], bytes] = read_regular) -> tuple[PlanFile, bytes]:
    """Return the plan and the bytes of its file; raises as `read_plan` does."""
    try:
        data = read(run_folder / PLAN)
        return parse_plan(data), data
    except (FileNotFoundError, NotADirectoryError):
        problem = f"not a run folder: it has no {PLAN}"
    except OSError as error:
        problem = f"its {PLAN} {f'cannot be read: {error.strerror}' if error.strerror else error}"
    except BrokenPlan as error:
        problem = f"its {PLAN} is not a plan: {error}"
    raise InvalidInput([Mistake(str(run_folder), "", problem)])


def parse_plan(data: bytes) -> PlanFile:
    """Return the plan in `data`. Raises BrokenPlan."""
    try:
        content = parse_json(data)
    except ValueError as error:
        raise BrokenPlan(f"not JSON ({error})") from None
    return checked_plan(content)


def checked_plan(content: object) -> PlanFile:
    """Return the plan that was read from JSON as `content`. Raises BrokenPlan."""
    try:
        return PlanFile.model_validate(content)
    except ValidationError as error:
        raise BrokenPlan(first_problem(error)) from None


def is_carried_protocol(value: object) -> TypeGuard[CarriedProtocol]:
    """Return whether `value` has the keys and types of a protocol as plans and trials carry it."""
    try:
        _PROTOCOL.validate_python(value)
    except ValidationError:
        return False
    return True


_PROTOCOL = TypeAdapter(CheckedProtocol)


def first_problem(error: ValidationError) -> str:
    """Return the first problem as `key: problem (seen: value)`."""
    first = error.errors(include_url=False)[0]
    key, seen = ".".join(map(str, first["loc"])), shown(first["input"])
    if first["type"] == "missing":
        return f"{key}: is missing"
    if key == "schema":
        return f"schema: {seen} is not supported; this version reads {PLAN_SCHEMA}"
    wanted = _WANTED.get(first["type"])
    problem = f"should be {wanted}" if wanted else first["msg"].removeprefix("Input ").removeprefix("String ")
    return f"{key}: {problem} (seen: {seen})" if key else f"{problem} (seen: {seen})"
