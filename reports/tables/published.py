"""Published tables as data, read from `reported/NAME.toml`.

Published numbers are shown beside measured ones, but never pooled, paired or averaged with them: they have no records,
their protocol is only partly known (`unknown` names what the source does not state), most are of a single run, and some
were selected on the test set. Numbers of a shipped protocol that restates a published one (`restated_by`) are measured.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from annotated_types import Ge, Gt, MinLen

from twinbench.sweeps.errors import InvalidInput, Mistake, nearest
from twinbench.sweeps.protocol import Fraction, Scalar, Section
from twinbench.sweeps.toml_reader import parse, read_toml

SHIPPED = Path(__file__).parent.parent / "reported"
REQUIRED_SETTINGS = ("epochs", "batch_size")  # of every row, unless the table lists them as unknown


@dataclass(frozen=True)
class Source(Section):
    """The source of a table: a file of a repository, or a paper, and the place in it."""

    where: str  # "Table 5", "docstring"
    repository: str = ""  # owner/name
    path: str = ""
    snapshot: str = ""  # the commit
    arxiv: str = ""

    def __str__(self) -> str:
        paper = f"arXiv {self.arxiv}" if self.arxiv else ""
        commit = f"commit {self.snapshot}" if self.snapshot else ""
        return ", ".join(part for part in (self.repository, self.path, commit, paper, self.where) if part)


@dataclass(frozen=True)
class KnownProtocol(Section):
    """How the numbers were made, according to the source. A field that it does not state is None and in `unknown`."""

    backbone: str | None = None
    stem: str | None = None
    optimizer: str | None = None
    views: str | None = None
    evaluation: str | None = None
    reported_on: Literal["test", "validation"] | None = None  # ImageNet's validation split counts as test
    selected_on: Literal["test", "validation"] | None = None  # the split that selected the checkpoint or the rows
    checkpoint: Literal["last", "best_on_validation", "best_on_test"] | None = None
    tuned: bool | None = None  # whether hyper-parameters were tuned for these numbers
    n_seeds: Annotated[int, Ge(1)] | None = None  # runs behind each value
    hardware: str | None = None


@dataclass(frozen=True)
class PublishedValue(Section):
    """One number of a table; accuracies are fractions. A run without a number has an `outcome` instead."""

    method: str
    value: Fraction | None = None
    outcome: Literal["collapsed", "unstable"] | None = None
    dataset: str = ""  # empty: the table's
    metric: str = ""  # empty: the table's
    settings: dict[str, Scalar] = field(default_factory=dict)  # added to the table's
    spread: Fraction | None = None  # the number after ±; the caveats state its meaning
    previous: Fraction | None = None  # the same cell in an older version of the table
    minutes: Annotated[float, Gt(0)] | None = None
    peak_memory_gb: Annotated[float, Gt(0)] | None = None
    note: str = ""


@dataclass(frozen=True)
class PublishedTable(Section):
    """One published table. `dataset`, `metric` and `settings` apply to every row that does not set its own."""

    name: str
    title: str
    dataset: str
    metric: str
    source: Source
    protocol: KnownProtocol
    values: Annotated[tuple[PublishedValue, ...], MinLen(1)]
    settings: dict[str, Scalar] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()  # fields of the protocol, `epochs`, `batch_size`, or free text
    restated_by: tuple[str, ...] = ()  # shipped protocols that restate this one
    caveats: tuple[str, ...] = ()


# --- reading --------------------------------------------------------------------------------------------------------


@functools.cache  # about forty files
def published_tables() -> Mapping[str, PublishedTable]:
    """Return the tables of the package, by name."""
    return MappingProxyType({path.stem: read_published(path) for path in sorted(SHIPPED.glob("*.toml"))})


def read_published(path: Path) -> PublishedTable:
    """Return the table in a file, with complete rows. InvalidInput lists every mistake."""
    table = parse(PublishedTable, read_toml(path), str(path))
    table = replace(table, values=tuple(_complete(row, table) for row in table.values))
    mistakes = [*_table_mistakes(table, path), *_row_mistakes(table, str(path))]
    if mistakes:
        raise InvalidInput(mistakes)
    return table


def _complete(row: PublishedValue, table: PublishedTable) -> PublishedValue:
    settings = {**table.settings, **row.settings}
    return replace(row, dataset=row.dataset or table.dataset, metric=row.metric or table.metric, settings=settings)


def _table_mistakes(table: PublishedTable, path: Path) -> Iterator[Mistake]:
    where = str(path)
    if table.name != path.stem:
        yield Mistake(where, "name", "is not the name of the file", table.name, path.stem)
    if not table.source.repository and not table.source.arxiv:
        yield Mistake(where, "source", "names neither a repository nor a paper", allowed="repository, arxiv")
    given = {f.name: getattr(table.protocol, f.name) is not None for f in fields(KnownProtocol)}
    given |= {name: all(name in row.settings for row in table.values) for name in REQUIRED_SETTINGS}
    for name, is_given in given.items():
        if is_given == (name in table.unknown):
            key = f"settings.{name}" if name in REQUIRED_SETTINGS else f"protocol.{name}"
            problem = "is given, and named in `unknown`" if is_given else "is neither given nor named in `unknown`"
            yield Mistake(where, key, problem)


def _row_mistakes(table: PublishedTable, where: str) -> Iterator[Mistake]:
    counts = Counter(_cell(row) for row in table.values)
    for cell, count in counts.items():
        if count > 1:
            yield Mistake(where, "values", f"{count} rows are of one cell", ", ".join(part for part in cell if part))
    for number, row in enumerate(table.values):
        if (row.value is None) == (row.outcome is None):
            yield Mistake(where, f"values.{number}", "needs a value or an outcome, and not both")
        for key, name in (("method", row.method), ("metric", row.metric), ("dataset", row.dataset)):
            if not re.fullmatch(r"[a-z0-9_]+", name):
                yield Mistake(where, f"values.{number}.{key}", "is not a lower-case name", name)


def _cell(row: PublishedValue) -> tuple[str, str, str, str]:
    return (row.method, row.dataset, row.metric, settings_text(row.settings))


# --- using ----------------------------------------------------------------------------------------------------------


def settings_text(settings: Mapping[str, Scalar]) -> str:
    """Return the settings as text, sorted by name, with values as JSON."""
    return ", ".join(f"{name} = {json.dumps(settings[name], ensure_ascii=False)}" for name in sorted(settings))


def find_reported(
    table: PublishedTable, method: str, metric: str, settings: Mapping[str, Scalar] | None = None
) -> PublishedValue:
    """Return the only row of `method` and `metric` with these settings; other settings may have any value.

    InvalidInput, with the existing rows and the nearest name, if no row or more than one matches.
    """
    wanted = dict(settings or {})
    unknown = list(_unknown_names(table, method, metric, wanted))
    if unknown:
        raise InvalidInput(unknown)
    rows = [row for row in table.values if (row.method, row.metric) == (method, metric)]
    found = [row for row in rows if all(_equal(row.settings.get(name), value) for name, value in wanted.items())]
    if len(found) == 1:
        return found[0]
    existing = [settings_text(row.settings) for row in found or rows]
    problem = (
        f"{len(found)} rows of {method}, {metric} have these" if found else f"no row of {method}, {metric} has these"
    )
    close = "" if found else nearest(settings_text(wanted), existing)
    raise InvalidInput([Mistake(_place(table), "settings", problem, settings_text(wanted), "; ".join(existing), close)])


def _unknown_names(table: PublishedTable, method: str, metric: str, wanted: dict[str, Scalar]) -> Iterator[Mistake]:
    methods = sorted({row.method for row in table.values})
    metrics = sorted({row.metric for row in table.values if row.method == method or method not in methods})
    known = {"method": (method, methods), "metric": (metric, metrics)}
    names = sorted({name for row in table.values for name in row.settings})
    known |= {f"settings.{name}": (name, names) for name in wanted}
    for key, (name, existing) in known.items():
        if name not in existing:
            yield Mistake(_place(table), key, "is not in the table", name, ", ".join(existing), nearest(name, existing))


def _equal(value: Scalar | None, wanted: Scalar) -> bool:
    """Return whether two settings are equal: 128 equals 128.0, but 1 does not equal true."""
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def _place(table: PublishedTable) -> str:
    return f"reported table {table.name!r}"
