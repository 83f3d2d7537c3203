"""What a sweep may set of each method and backbone, known without importing torch.

To check a sweep, the names, types, bounds and defaults of settings are enough. They stand in the methods' files, which
import torch, and that takes seconds. So they are described once in the user's cache, and later processes build equal
dataclasses from the description:

    CACHE/schemas/shipped-KEY.json    the methods, baselines and backbones that come with twinbench
    CACHE/schemas/NAME-KEY.json       one method of another package

A description is never out of date: KEY is a hash of the code that defines the settings, of this file, of Python's
version and of the names and versions of all installed packages. A class is described only if the dataclass that is
built from the description has the same type hints and fields; a class that checks its settings in code of its own, or
has types that are not listed here, is imported every time. A process that has imported torch already uses the classes
themselves, since the files may have changed after it imported them. A description that is damaged or cannot be written
costs the import and nothing else.
"""

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

import twinbench.methods
from twinbench.harness.system.user_cache import cache_folder
from twinbench.methods.names import UnknownMethod, outside_methods, unknown_name
from twinbench.results.atomic_files import write_bytes_atomically
from twinbench.sweeps.hashing import digest

if TYPE_CHECKING:
    from twinbench.methods.backbones.registry import Backbone
    from twinbench.methods.method import Method

METHODS_ROOM = Path(twinbench.methods.__file__).parent
Json = dict[str, Any]
SCALARS: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
BOUNDS: dict[str, Any] = {"ge": Ge, "gt": Gt, "le": Le, "lt": Lt}


@dataclass(frozen=True)
class MethodSchema:
    """What a plan needs to know of a method. `config_class` is its own or an equal dataclass; see `Method`."""

    name: str
    version: int
    summary: str
    literature_names: Mapping[str, str]
    config_class: type

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of its settings."""
        return tuple(one.name for one in fields(self.config_class))


@dataclass(frozen=True)
class BackboneSchema:
    """What a plan needs to know of a backbone. `options_class` is its own or an equal dataclass."""

    name: str
    summary: str
    options_class: type


@dataclass(frozen=True)
class Shipped:
    """The methods, baselines and backbones that come with twinbench, by name."""

    methods: Mapping[str, MethodSchema]
    baselines: Mapping[str, MethodSchema]
    backbones: Mapping[str, BackboneSchema]


def method_names() -> tuple[str, ...]:
    """Return the names of all methods that can be trained, those of other packages included; no baselines."""
    return (*shipped().methods, *_outside_methods())


def method_schema(name: str) -> MethodSchema:
    """Return the schema of that method or baseline. Raises what `get_method` raises."""
    ours = {**shipped().methods, **shipped().baselines}
    if name in ours:
        return ours[name]
    outside = _outside_methods()
    if name in outside:
        return _outside_schema(outside[name])
    raise UnknownMethod(unknown_name("method", name, (*ours, *outside)))


def _outside_methods() -> dict[str, EntryPoint]:
    return outside_methods((*shipped().methods, *shipped().baselines))


@functools.cache
def shipped() -> Shipped:
    """Return what comes with twinbench."""
    if _was_torch_imported():
        return _shipped_classes()
    kept = _kept("shipped", [METHODS_ROOM], _describe_shipped)
    return Shipped(
        {name: _method_from(name, one) for name, one in kept["methods"].items()},
        {name: _method_from(name, one) for name, one in kept["baselines"].items()},
        {name: _backbone_from(name, one) for name, one in kept["backbones"].items()},
    )


@functools.cache
def _was_torch_imported() -> bool:
    """Return whether torch was imported before this process first asked for a schema."""
    return "torch" in sys.modules


def _shipped_classes() -> Shipped:
    from twinbench.methods.backbones.registry import BACKBONES
    from twinbench.methods.registry import BASELINES, METHODS

    return Shipped(
        {name: _method_schema(method) for name, method in METHODS.items()},
        {name: _method_schema(method) for name, method in BASELINES.items()},
        {name: _backbone_schema(name, backbone) for name, backbone in BACKBONES.items()},
    )


def _describe_shipped() -> Json:
    classes = _shipped_classes()
    return {
        "methods": {name: describe_method(method) for name, method in classes.methods.items()},
        "baselines": {name: describe_method(method) for name, method in classes.baselines.items()},
        "backbones": {name: describe_backbone(backbone) for name, backbone in classes.backbones.items()},
    }


@functools.cache
def _outside_schema(point: EntryPoint) -> MethodSchema:
    if _was_torch_imported() or point.module in sys.modules:
        return _imported_method(point.name)
    kept = _kept(
        point.name, _package(point), lambda: {"method": describe_method(_imported_method(point.name))}, _sources
    )
    return _method_from(point.name, kept["method"])


def _imported_method(name: str) -> MethodSchema:
    from twinbench.methods.registry import get_method

    return _method_schema(get_method(name))


def _method_schema(method: "type[Method]") -> MethodSchema:
    return MethodSchema(method.name, method.version, _first_line(method), method.literature_names, method.config_class)


def _backbone_schema(name: str, backbone: "Backbone") -> BackboneSchema:
    return BackboneSchema(name, _first_line(backbone.options_class), backbone.options_class)


def _first_line(documented: type) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]


# --- descriptions -----------------------------------------------------------------------------------------------------


def describe_method(method: MethodSchema) -> Json | None:
    """Return JSON from which an equal schema can be built; None where there is none."""
    described = {
        "version": method.version,
        "summary": method.summary,
        "literature_names": dict(method.literature_names),
        "config": describe_dataclass(method.config_class),
    }
    return described if described["config"] is not None and _is_json(described) else None


def describe_backbone(backbone: BackboneSchema) -> Json | None:
    """Return JSON from which an equal schema can be built; None where there is none."""
    options = describe_dataclass(backbone.options_class)
    return None if options is None else {"summary": backbone.summary, "options": options}


def _method_from(name: str, described: Json | None) -> MethodSchema:
    if described is None:
        return _imported_method(name)
    config_class = dataclass_from(described["config"])
    return MethodSchema(name, described["version"], described["summary"], described["literature_names"], config_class)


def _backbone_from(name: str, described: Json | None) -> BackboneSchema:
    if described is None:
        from twinbench.methods.backbones.registry import BACKBONES

        return _backbone_schema(name, BACKBONES[name])
    return BackboneSchema(name, described["summary"], dataclass_from(described["options"]))


@dataclass(frozen=True)
class _Plain:
    """A dataclass without code of its own, for the names that every dataclass has."""

    field: int = 0


def describe_dataclass(cls: type) -> Json | None:
    """Return the name and fields of a dataclass, from which `dataclass_from` builds an equal one; None if it cannot."""
    try:
        hints = get_type_hints(cls, include_extras=True)
        described = {"name": cls.__name__, "fields": [_describe_field(one, hints[one.name]) for one in fields(cls)]}
        built = dataclass_from(json.loads(json.dumps(described)))
    except (TypeError, ValueError, NameError, KeyError, AttributeError):
        return None
    names = {name for base in cls.__mro__[:-1] for name in vars(base)} - {one.name for one in fields(cls)}
    has_own_code = bool(names - set(vars(_Plain)))
    return None if has_own_code or _facts(built) != _facts(cls) else described


def dataclass_from(described: Json) -> type:
    """Return the frozen dataclass that `describe_dataclass` described."""
    members = [
        (one["name"], _type_from(one["type"]), field(default=one.get("default", MISSING)))
        for one in described["fields"]
    ]
    return make_dataclass(described["name"], members, frozen=True)


def _facts(cls: type) -> list[Any]:
    """All that decides which settings are accepted and what they resolve to."""
    hints = get_type_hints(cls, include_extras=True)
    return [
        hints,
        *(
            (one.name, type(one.default), one.default, one.default_factory, one.init, one.kw_only)
            for one in fields(cls)
        ),
    ]


def _describe_field(one: "Field[Any]", hint: Any) -> Json:
    described = {"name": one.name, "type": _describe_type(hint)}
    return described if one.default is MISSING else described | {"default": one.default}


def _describe_type(hint: Any) -> Json:
    """Describe a scalar, a scalar with bounds or a choice of values; ValueError for other types. Drops other bounds."""
    if get_origin(hint) is Literal:
        return {"values": list(get_args(hint))}
    base, *bounds = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    scalar = next((name for name, scalar in SCALARS.items() if scalar is base), None)
    known = [[name, getattr(one, name)] for one in bounds for name, bound in BOUNDS.items() if type(one) is bound]
    if scalar is None:
        raise ValueError(f"a type that is not described: {hint}")
    return {"scalar": scalar, "bounds": known}


def _type_from(described: Json) -> Any:
    if "values" in described:
        return Literal[tuple(described["values"])]
    scalar, bounds = SCALARS[described["scalar"]], [BOUNDS[name](bound) for name, bound in described["bounds"]]
    return Annotated[(scalar, *bounds)] if bounds else scalar


def _is_json(content: object) -> bool:
    try:
        return bool(json.loads(json.dumps(content)) == content)
    except (TypeError, ValueError):
        return False


# --- the cache --------------------------------------------------------------------------------------------------------


def _kept(name: str, code: list[Path], describe: Callable[[], Json], sources: Callable[[], Json] = dict) -> Json:
    """Return the description in the cache, or make it and put it there.

    `code` are the module or package that the description is of, `sources` gives after the description is made what
    else it may come from: files with their hashes.
    """
    key = _key(code)
    file = cache_folder() / "schemas" / f"{name}-{key[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(file.read_bytes())
        description, others = found["description"], found["sources"]
        is_whole = found["digest"] == digest([description, others])
        if is_whole and all(_hash(Path(other)) == known for other, known in others.items()):
            return dict(description)
    description = describe()
    if code and _key(code) == key:  # no file was changed while it was imported
        with contextlib.suppress(OSError):
            kept = {"description": description, "sources": sources()}
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomically(file, json.dumps(kept | {"digest": digest([*kept.values()])}).encode())
    return description


def _key(code: Iterable[Path]) -> str:
    """The hash of what can change a description."""
    files = [Path(__file__), *(file for one in code for file in _files(one))]
    hashes = [(str(file), _hash(file)) for file in files]
    return hashlib.sha256(repr((sys.version, _installed(), hashes)).encode(errors="surrogateescape")).hexdigest()


def _hash(file: Path) -> str:
    """Of a module its content; of any other file, which may be large, size and time of change."""
    if file.suffix == ".py":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{file.stat().st_size} {file.stat().st_mtime_ns}"


def _files(code: Path) -> Iterator[Path]:
    """A module, or all files of a package."""
    if code.is_file():
        yield code
    for folder, _, names in os.walk(code):
        if not folder.endswith("__pycache__"):
            yield from (Path(folder, name) for name in sorted(names))


def _installed() -> list[str]:
    """Name and version of every installed distribution, by the names of their folders of metadata."""
    found = []
    for folder in sys.path:
        with contextlib.suppress(OSError):
            found += [name for name in os.listdir(folder or ".") if name.endswith((".dist-info", ".egg-info"))]
    return sorted(found)


def _package(point: EntryPoint) -> list[Path]:
    """The top-level module or package that an entry point leads to; nothing where it is no file."""
    spec = importlib.util.find_spec(point.module.partition(".")[0])  # of a top-level module: imports nothing
    if spec and spec.submodule_search_locations:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec and spec.origin and Path(spec.origin).exists() else []


def _sources() -> Json:
    """Files of loaded modules for which no version of Python or of an installed package stands, with their hashes."""
    installed = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    files = {str(getattr(module, "__file__", "")) for module in list(sys.modules.values())}
    ours = [file for file in sorted(files) if os.path.isabs(file) and not file.startswith(installed)]
    return {file: _hash(Path(file)) for file in ours}
