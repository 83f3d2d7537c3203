"""What a cluster wants to be asked for: the `[slurm]` and `[ray]` tables of a site file, changed by the command line.

[slurm]
partition = "gpu"
time = "08:00:00"
gpus = 1
cpus = 8
memory = "32GB"
setup = ["module load cuda"]

[slurm.sbatch]          # any further parameter of sbatch, as sbatch spells it
licenses = "scratch"
"""

import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt

from twinbench.sweeps.errors import InvalidInput, Mistake, nearest
from twinbench.sweeps.protocol import Section
from twinbench.sweeps.toml_reader import parse, read_toml

T = TypeVar("T")
TABLES = ("slurm", "ray")


@dataclass(frozen=True)
class SlurmSite(Section):
    """One slot, which is one array task, and how many there may be. `time` is [days-]hours:minutes:seconds or minutes.

    `slots` is the size of the array, by default enough for the missing trials and at most 16; each slot runs trials
    until none is left, so fewer slots do the same work. `array_parallelism` caps how many run at once.
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
        """`time` in whole minutes, rounded up."""
        return _minutes(self.time)


@dataclass(frozen=True)
class RaySite(Section):
    """What one worker asks of Ray. `gpus` may be a fraction; `labels` are those of the nodes that it may run on."""

    address: str | None = None
    cpus: Annotated[float, Gt(0)] | None = None
    gpus: Annotated[float, Ge(0)] = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    dashboard: bool = False


def read_site(cls: type[T], table: str, file: Path | None, changes: Sequence[str]) -> T:
    """The table of the site file under the command line's KEY=VALUE changes. InvalidInput lists what is wrong."""
    content = read_toml(file) if file else {}
    where = str(file) if file else f"--{table}"
    unknown = [key for key in content if key not in TABLES]
    mistakes = [
        Mistake(where, key, "unknown table", allowed=", ".join(TABLES), nearest=nearest(key, TABLES)) for key in unknown
    ]
    read = content.get(table, {})
    if not isinstance(read, dict):
        raise InvalidInput([*mistakes, Mistake(where, table, "is no table", read, f"[{table}]")])
    values: dict[str, Any] = dict(read)
    for change in changes:
        key, separator, text = change.partition("=")
        if not separator:
            mistakes.append(Mistake(f"--{table}", "", "is not of the form KEY=VALUE", change))
            continue
        inner, dot, name = key.partition(".")
        if dot:
            table_before = values.get(inner, {})
            values[inner] = {**(table_before if isinstance(table_before, dict) else {}), name: _value(text)}
        else:
            values[key] = _value(text)
    if mistakes:
        raise InvalidInput(mistakes)
    site = parse(cls, values, where)
    if isinstance(site, SlurmSite):
        _check_slurm(site, where)
    return site


def _value(text: str) -> Any:
    """What TOML makes of it; a text where it makes nothing."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check_slurm(site: SlurmSite, where: str) -> None:
    mistakes = []
    try:
        site.minutes  # noqa: B018
    except ValueError:
        mistakes.append(Mistake(where, "time", "is no time", site.time, "minutes, or [days-]hours:minutes:seconds"))
    name = str(site.sbatch.get("job-name", ""))
    if "," in name:
        mistakes.append(Mistake(where, "sbatch.job-name", "has a comma, where squeue --name begins another name", name))
    if mistakes:
        raise InvalidInput(mistakes)


def _minutes(time: str | int) -> int:
    """SLURM's ways to write a time: 90, "90", "01:30:00", "1-12:00:00"."""
    match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):(\d+):(\d+)|(\d+))", str(time))
    if not match:
        raise ValueError(time)
    days, hours, minutes, seconds, alone = (int(part or 0) for part in match.groups())
    return alone or days * 1440 + hours * 60 + minutes + (seconds > 0)


def described(site: object) -> dict[str, Any]:
    """What differs from the defaults, for the run folder's launch file."""
    default = type(site)()
    return {
        f.name: getattr(site, f.name)
        for f in dataclasses.fields(site)  # type: ignore[arg-type]
        if getattr(site, f.name) != getattr(default, f.name)
    }
