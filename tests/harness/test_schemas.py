"""A description gives the settings of the class it describes; it is never out of date; a damaged one does no harm."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from launching import Twinbench

from twinbench.harness.schemas import (
    METHODS_ROOM,
    Schema,
    Schemas,
    Shipped,
    _files,
    _hash,
    _kept,
    _key,
    describe,
    imported_schemas,
    schema_from,
)
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.toml_reader import parse

SHIPPED = Shipped(**imported_schemas())
SCHEMAS = {**SHIPPED.methods, **SHIPPED.baselines, **SHIPPED.backbones}
VALUES = (0, 1, -1, 7, 10**30, 0.0, 0.3, 1.0, 1.5, -0.1, float("inf"), True, "cifar", "cifer", "1", [1], {"a": 1}, None)


def _outcome(cls: type, data: Mapping[str, object]) -> list[str] | dict[str, str]:
    """The settings that `data` gives, with their types; or the errors."""
    try:
        return {name: repr(value) for name, value in asdict(parse(cls, data, "sweep.toml")).items()}
    except InvalidInput as error:
        return [str(mistake) for mistake in error.mistakes]


def _inputs(cls: type) -> list[dict[str, object]]:
    names = [one.name for one in fields(cls)]
    wrong = {name: "x" for name in names}
    return [{}, wrong, {"unknown": 1}, *({name: value} for name in names for value in VALUES)]


def _built(schema: Schema) -> Schema:
    """The schema that its description gives."""
    described = describe(schema)
    assert described is not None, "a shipped class that is not described costs every plan an import of torch"
    return schema_from(json.loads(json.dumps(described)))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_described_class_gives_the_settings_and_errors_of_the_class(name: str) -> None:
    cls, built = SCHEMAS[name].config_class, _built(SCHEMAS[name]).config_class
    outcomes = [_outcome(cls, data) for data in _inputs(cls)]
    assert outcomes == [_outcome(built, data) for data in _inputs(cls)]
    if fields(cls):
        assert {type(outcome) for outcome in outcomes} == {list, dict}  # some inputs are right and some are wrong
    assert [one.name for one in fields(built)] == [one.name for one in fields(cls)]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_description_gives_all_that_is_known_of_a_method_or_backbone(name: str) -> None:
    schema = SCHEMAS[name]
    assert replace(_built(schema), config_class=schema.config_class) == schema


@pytest.mark.parametrize("names", [{1: "width"}, {"lambda": {"width"}}])
def test_names_that_json_does_not_know_are_not_described(names: Any) -> None:
    assert describe(Schema("mine", "", Required)) and describe(Schema("mine", "", Required, 1, names)) is None


@dataclass(frozen=True)
class Required:
    """Has settings without defaults and every bound."""

    steps: Annotated[int, Gt(0), Lt(100)]
    name: str
    rate: Annotated[float, Ge(0), Le(1)] = 1
    rule: Literal["linear", "sqrt"] = "sqrt"
    fast: bool = False


def test_bounds_choices_and_missing_settings_are_described() -> None:
    built = _built(Schema("required", "", Required)).config_class
    good = {"steps": 5, "name": "n"}
    inputs = [good, {}, *(good | {one.name: value} for one in fields(Required) for value in VALUES)]
    outcomes = [_outcome(Required, data) for data in inputs]
    assert outcomes == [_outcome(built, data) for data in inputs]
    assert "sweep.toml: steps: is missing; allowed: int" in outcomes[1]


@dataclass(frozen=True)
class Checked:
    """Checks its setting in code of its own."""

    width: int = 1

    def __post_init__(self) -> None:
        if self.width % 2 == 0:
            raise ValueError("even")


@dataclass(frozen=True)
class Inherits(Checked):
    """Inherits the check."""


@dataclass(frozen=True)
class OtherBound:
    """Has a bound that descriptions do not know."""

    width: Annotated[int, MultipleOf(8)] = 8


@dataclass(frozen=True)
class Pair:
    """Has a default that JSON does not know."""

    scale: tuple[float, float] = (0.1, 1.0)


@dataclass(frozen=True)
class Strict:
    """Has a config of pydantic's."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    width: int = 1


class NoDataclass:
    """Is not a dataclass."""


@dataclass(frozen=True)
class NotANumber:
    """Has a default that equals nothing."""

    width: float = float("nan")


@pytest.mark.parametrize("cls", [Checked, Inherits, OtherBound, Pair, Strict, NoDataclass, NotANumber])
def test_a_class_that_a_description_cannot_give_exactly_is_not_described(cls: type) -> None:
    assert describe(Schema("mine", "", cls)) is None


# --- the cache --------------------------------------------------------------------------------------------------------


@dataclass
class Described:
    """A package, the schemas that were imported from it, and the module outside it that it imports."""

    package: Path
    helper: Path
    made: int = 0

    def imported(self) -> dict[str, Schemas]:
        self.made += 1
        schemas = (Schema("b", self.helper.read_text(), Required), Schema("a", "", Required, self.made))
        return {"methods": {one.name: one for one in schemas}}

    def kept(self, name: str = "mine") -> Schemas:
        kept = _kept(name, [self.package], self.imported, lambda: {str(self.helper): _hash(self.helper)})
        return kept["methods"]


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Described:
    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "package" / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/method.py", "defaults.json"):
        (tmp_path / "package" / name).write_text("1")
    (tmp_path / "helper.py").write_text("1")
    return Described(tmp_path / "package", tmp_path / "helper.py")


def test_a_description_is_made_once_and_keeps_its_order(described: Described) -> None:
    first, second = described.kept(), described.kept()
    assert described.made == 1 and second["b"].summary == "1" and second["a"].version == 1
    assert list(first) == list(second) == ["b", "a"]  # the order of names in errors
    described.kept("another")
    assert described.made == 2


@pytest.mark.parametrize(
    "name", ["package/__init__.py", "package/inner/method.py", "package/defaults.json", "helper.py"]
)
def test_a_change_of_any_file_behind_a_description_makes_it_anew(described: Described, name: str) -> None:
    file = described.package.parent / name
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    described.kept()
    if file.suffix == ".py":  # of code the content counts, even where size and time of change are the same
        file.write_text("2")
        os.utime(file, ns=times)
    else:
        file.write_text("22")
    for _ in range(2):
        described.kept()
        assert described.made == 2


def test_a_new_version_of_an_installed_package_makes_it_anew(
    described: Described, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    described.kept()
    (tmp_path / "site" / "other-2.0.dist-info").mkdir()
    described.kept()
    assert described.made == 2


def test_a_file_that_changes_while_it_is_imported_leaves_no_description(described: Described) -> None:
    file = described.package / "inner" / "method.py"

    def imported() -> dict[str, Schemas]:
        file.write_text("changed")
        return {"methods": {"a": Schema("a", "of the old code or the new", Required)}}

    assert _kept("mine", [described.package], imported)["methods"]["a"].summary == "of the old code or the new"
    assert described.kept()["a"].version == 1
    file.write_text("1")
    assert described.kept()["a"].version == 2


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b'{"digest": 1}', b"\xff"])
def test_a_damaged_description_is_made_anew(described: Described, tmp_path: Path, damage: bytes) -> None:
    described.kept()
    (file,) = (tmp_path / "cache" / "schemas").iterdir()
    file.write_bytes(damage)
    described.kept()
    described.kept()
    assert described.made == 2


def test_a_changed_value_in_a_description_is_noticed(described: Described, tmp_path: Path) -> None:
    described.kept()
    (file,) = (tmp_path / "cache" / "schemas").iterdir()
    text = file.read_text()
    assert '"summary": "1"' in text
    file.write_text(text.replace('"summary": "1"', '"summary": "2"'))
    assert described.kept()["b"].summary == "1" and described.made == 2


def test_a_cache_that_cannot_be_written_is_done_without(
    described: Described, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path / "file"))
    assert [described.kept()["a"].version for _ in range(2)] == [1, 2]


ASK = """
import json, sys
from twinbench.harness.schemas import method_schema, method_names
answers = {}
for name in sys.argv[1:]:
    method = method_schema(name)
    settings = {one: getattr(method.config_class(), one) for one in method.settings}
    answers[name] = {"version": method.version, "summary": method.summary, "settings": settings}
print(json.dumps({"names": method_names(), "torch": "torch" in sys.modules} | answers))
"""


def _ask(folder: Path, *names: str) -> dict[str, Any]:
    """What a process with this folder on its path knows of methods, and whether it imported torch."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = os.environ | {"TWINBENCH_CACHE": str(folder / "cache"), "PYTHONPATH": path}
    answered = subprocess.run([sys.executable, "-c", ASK, *names], capture_output=True, text=True, env=variables)
    assert answered.returncode == 0, answered.stderr
    return dict(json.loads(answered.stdout))


PLUGIN = """
from dataclasses import dataclass
from twinbench.methods.simclr import SimCLR
from mine_defaults import WIDTH

@dataclass(frozen=True)
class Config:
    width: int = WIDTH

@dataclass(frozen=True)
class PairConfig:
    widths: tuple[int, int] = (WIDTH, 1)

class Mine(SimCLR):
    "Mine."
    name, version, config_class = "mine", 3, Config

class Pair(SimCLR):
    "Has settings that cannot be described."
    name, version, config_class = "pair", 1, PairConfig
"""


@pytest.mark.slow
def test_methods_of_another_package_are_described_too(tmp_path: Path) -> None:
    points = "[twinbench.methods]\nmine = mine.method:Mine\npair = mine.method:Pair\nbroken = mine.nowhere:Broken\n"
    for name, text in {
        "mine-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n",
        "mine-1.0.dist-info/entry_points.txt": points,
        "mine/__init__.py": "",
        "mine/method.py": PLUGIN,
        "mine_defaults.py": "WIDTH = 8\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    first = _ask(tmp_path, "simclr", "mine", "pair")
    second = _ask(tmp_path, "simclr", "mine")
    assert first.pop("torch") and not second["torch"]
    assert first["mine"] == second["mine"] == {"version": 3, "summary": "Mine.", "settings": {"width": 8}}
    assert first["simclr"] == second["simclr"]
    assert second["names"] == [*SHIPPED.methods, "broken", "mine", "pair"]  # one that cannot be imported harms no other
    (tmp_path / "mine_defaults.py").write_text("WIDTH = 9\n")  # outside the package that has the entry point
    third = _ask(tmp_path, "mine", "pair")
    assert (
        third["torch"] and third["mine"]["settings"] == {"width": 9} and third["pair"]["settings"] == {"widths": [9, 1]}
    )


# --- commands ---------------------------------------------------------------------------------------------------------

COUNT = """
import sys
from twinbench.harness.cli import main
sys.argv[0] = "twinbench"
try:
    main()
finally:
    heavy = [name for name in ("torch", "torchvision", "pandas", "scipy", "duckdb") if name in sys.modules]
    print("imported:", *heavy, file=sys.stderr)
"""


def _run(twinbench: Twinbench, arguments: str) -> subprocess.CompletedProcess[str]:
    """A command; its last line of errors lists which heavy packages it has imported."""
    variables = {**twinbench.env, "TWINBENCH_CACHE": str(twinbench.cache), "COLUMNS": "200"}
    command = [sys.executable, "-c", COUNT, *arguments.split()]
    return subprocess.run(command, capture_output=True, text=True, cwd=twinbench.folder, env=variables)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Twinbench:
    """A folder in whose cache a plan has left the dataset and the descriptions."""
    folder = tmp_path_factory.mktemp("planned")
    twinbench = Twinbench(folder, folder / "cache")
    assert "torch" in _run(twinbench, "plan digits").stderr.splitlines()[-1]
    (folder / "wrong.toml").write_text('protocol = "digits-small"\nquestion = "?"\nseeds = "none"\n')
    return twinbench


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ("plan digits", 0, "46 missing"),
        ("plan digits --set byol.projektor_width=64", 2, "did you mean 'projector_width'?"),
        ("plan digits --set methods=simclrr", 2, "did you mean 'simclr'?"),
        ("plan wrong.toml", 2, "wrong.toml: seeds:"),
        ("run wrong.toml", 2, "wrong.toml: seeds:"),
        ("run digits --set byol.target_momentum=2", 2, "is out of range"),
        ("run --help", 0, "--launcher"),
        ("list methods", 0, "vicreg"),
        ("list backbones", 0, "vit_tiny"),
        ("list datasets", 0, "cifar10"),
        ("list protocols", 0, "digits-small"),
        ("list sweeps", 0, "digits"),
        ("protocol show digits-small", 0, "digits-small v"),
    ],
)
def test_small_commands_and_errors_import_no_torch(
    planned: Twinbench, arguments: str, code: int, expected: str
) -> None:
    ended = _run(planned, arguments)
    assert ended.returncode == code, ended.stderr
    assert expected in ended.stdout + ended.stderr
    assert ended.stderr.splitlines()[-1] == "imported:", "small commands need none of these"


def test_the_hash_does_not_depend_on_packages_that_an_imported_package_brings_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _key([METHODS_ROOM])
    site = tmp_path / "site-packages"
    (site / "ray/thirdparty_files/psutil-7.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(site / "ray/thirdparty_files")])
    assert _key([METHODS_ROOM]) == before
    (site / "psutil-7.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    assert _key([METHODS_ROOM]) != before


def test_the_description_of_the_shipped_methods_is_kept_by_the_hash_of_their_code(planned: Twinbench) -> None:
    files = {path.relative_to(METHODS_ROOM).as_posix() for path in _files(METHODS_ROOM)}
    assert {"simclr.py", "backbones/resnet.py", "layers/projector.py"} <= files
    assert (planned.cache / "schemas" / f"shipped-{_key([METHODS_ROOM])[:32]}.json").exists()
