"""What is requested from a cluster: the `[slurm]` and `[ray]` tables of a site file, changed by the command line.

[slurm]
partition = "gpu"
time = "08:00:00"
gpus = 1
cpus = 8
memory = "32GB"
setup = ["module load cuda"]

[slurm.sbatch]          # any other option of sbatch, by its name there
licenses = "scratch"
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeVar

from annotated_types import Ge, Gt

from twinbench.sweeps.errors import InvalidInput, Mistake, nearest
from twinbench.sweeps.protocol import Section
from twinbench.sweeps.toml_reader import parse, read_toml, read_value

T = TypeVar("T")
TABLES = ("slurm", "ray")


@dataclass(frozen=True)
class SlurmSite(Section):
    """What one slot, which is one array task, requests. `time` is [days-]hours:minutes:seconds or minutes.

    `slots` is the size of the array, by default enough for the missing trials and at most 16; each slot runs trials
    until none is left, so fewer slots do the same work. `array_parallelism` limits how many run at once.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: str | Annotated[int, Ge(1)] = 60
    gpus: Annotated[int, Ge(0)] = 0
    cpus: Annotated[int, Ge(1)] = 1
    memory: str | None = None
    slots: Annotated[int, Ge(1)] | None = None
    array_parallelism: Annotated[int, Ge(1)] | None = None
    setup: tuple[str, ...] = ()
    sbatch: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def minutes(self) -> int:
        """Return `time` in whole minutes, rounded up: 90, "90", "01:30:00" or "1-12:00:00". ValueError for others."""
        match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):(\d+):(\d+)|(\d+))", str(self.time))
        if not match:
            raise ValueError(self.time)
        days, hours, minutes, seconds, alone = (int(part or 0) for part in match.groups())
        return alone or days * 1440 + hours * 60 + minutes + (seconds > 0)


@dataclass(frozen=True)
class RaySite(Section):
    """What one worker requests from Ray. `gpus` may be a fraction; `labels` are those of the nodes it may run on."""

    address: str | None = None
    cpus: Annotated[float, Gt(0)] | None = None
    gpus: Annotated[float, Ge(0)] = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    dashboard: bool = False


def read_site(cls: type[T], table: str, file: Path | None, changes: Sequence[str]) -> T:
    """Read a table of the site file and apply the KEY=VALUE changes to it. InvalidInput lists all mistakes."""
    content = read_toml(file) if file else {}
    where = str(file) if file else f"--{table}"
    mistakes: list[Mistake] = []
    for key in [key for key in content if key not in TABLES]:
        close = nearest(key, TABLES, mistakes)
        mistakes.append(Mistake(where, key, "unknown table", allowed=", ".join(TABLES), nearest=close))
    read = content.get(table, {})
    if not isinstance(read, dict):
        raise InvalidInput([*mistakes, Mistake(where, table, "is not a table", read, f"[{table}]")])
    values: dict[str, object] = dict(read)
    option, given = f"--{table}", [change.partition("=")[0] for change in changes]
    for change in changes:
        key, separator, text = change.partition("=")
        inner, dot, name = key.partition(".")
        before = values.get(inner, {})
        if not separator:
            mistakes.append(Mistake(option, "", "is not of the form KEY=VALUE", change))
        elif not dot:
            values[key] = read_value(text, option)
        elif isinstance(before, dict):
            values[inner] = {**before, name: read_value(text, option)}
        else:
            mistakes.append(Mistake(option, key, f"{inner} is not a table", before))
    if mistakes:
        raise InvalidInput(mistakes)
    try:
        site = parse(cls, values, where)
        if isinstance(site, SlurmSite):
            _check_slurm(site, where)
    except InvalidInput as error:
        raise InvalidInput(
            replace(one, where=option) if any(f"{one.key}.".startswith(f"{key}.") for key in given) else one
            for one in error.mistakes
        ) from None
    return site


def _check_slurm(site: SlurmSite, where: str) -> None:
    mistakes = []
    try:
        site.minutes  # noqa: B018
    except ValueError:
        mistakes.append(Mistake(where, "time", "is not a time", site.time, "minutes, or [days-]hours:minutes:seconds"))
    name = str(site.sbatch.get("job-name", ""))
    if "," in name:
        mistakes.append(Mistake(where, "sbatch.job-name", "has a comma, which separates names in squeue --name", name))
    if mistakes:
        raise InvalidInput(mistakes)


def described(site: SlurmSite | RaySite) -> dict[str, object]:
    """Return the fields that differ from their defaults, for the launch file in the run folder."""
    defaults = dataclasses.asdict(type(site)())
    return {name: value for name, value in dataclasses.asdict(site).items() if value != defaults[name]}
