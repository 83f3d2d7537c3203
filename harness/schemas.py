"""What a sweep may set of each method and backbone, known without importing torch.

To check a sweep, the names, types, bounds and defaults of settings are enough. They stand in the methods' files, which
import torch, and that takes seconds. So they are described once in the user's cache, and later processes build equal
dataclasses from the description:

    CACHE/schemas/shipped-KEY.json    the methods, baselines and backbones that come with twinbench
    CACHE/schemas/NAME-KEY.json       one method of another package

A description is never out of date: KEY is a hash of the code that defines the settings, of this file, of Python's
version and of the names and versions of all installed packages. A class is described only if the dataclass that is
built from the description takes the same arguments; a class that checks its settings in code of its own, or has types
that are not listed here, is imported every time. A process that has imported torch already uses the classes
themselves, since the files may have changed after it imported them. A description that is damaged or cannot be written
costs the import and nothing else.
"""

import contextlib
import functools
import hashlib
import inspect
import json
import os
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, make_dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

import twinbench.methods
from twinbench.harness.system.provenance import top_level
from twinbench.harness.system.user_cache import CacheUnusable, cache_folder
from twinbench.methods.names import UnknownMethod, outside_methods, unknown_name
from twinbench.results.atomic_files import write_bytes_atomically
from twinbench.sweeps.file_reader import parse_json, read_regular
from twinbench.sweeps.hashing import digest

if TYPE_CHECKING:
    from twinbench.methods.method import Method

METHODS_ROOM = Path(twinbench.methods.__file__).parent
Json = dict[str, Any]
SCALARS: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
BOUNDS: dict[str, Any] = {"ge": Ge, "gt": Gt, "le": Le, "lt": Lt}


@dataclass(frozen=True)
class Schema:
    """What a plan needs to know of a method or backbone. `config_class` is that of its settings or an equal dataclass.

    For `version` and `literature_names` see `Method`; backbones have neither.
    """

    name: str
    summary: str
    config_class: type
    version: int = 0
    literature_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of its settings."""
        return tuple(one.name for one in fields(self.config_class))


Schemas = Mapping[str, Schema]


@dataclass(frozen=True)
class Shipped:
    """The methods, baselines and backbones that come with twinbench, by name."""

    methods: Schemas
    baselines: Schemas
    backbones: Schemas


def method_names() -> tuple[str, ...]:
    """Return the names of all methods that can be trained, those of other packages included; no baselines."""
    return (*shipped().methods, *_outside_methods())


def method_schema(name: str) -> Schema:
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
        return Shipped(**imported_schemas())
    return Shipped(**_kept("shipped", [METHODS_ROOM], imported_schemas))


@functools.cache
def _was_torch_imported() -> bool:
    """Return whether torch was imported before this process first asked for a schema."""
    return "torch" in sys.modules


def imported_schemas() -> dict[str, Schemas]:
    """Return the fields of `Shipped` from the classes themselves."""
    from twinbench.methods.backbones.registry import BACKBONES
    from twinbench.methods.registry import BASELINES, METHODS

    options = {name: backbone.options_class for name, backbone in BACKBONES.items()}
    return {
        "methods": {name: _method_schema(method) for name, method in METHODS.items()},
        "baselines": {name: _method_schema(method) for name, method in BASELINES.items()},
        "backbones": {name: Schema(name, _first_line(cls), cls) for name, cls in options.items()},
    }


@functools.cache
def _outside_schema(point: EntryPoint) -> Schema:
    def imported() -> dict[str, Schemas]:
        from twinbench.methods.registry import get_method

        return {"methods": {point.name: _method_schema(get_method(point.name))}}

    if _was_torch_imported() or point.module in sys.modules:
        return imported()["methods"][point.name]
    return _kept(point.name, top_level(point.module), imported, _sources)["methods"][point.name]


def _method_schema(method: "type[Method]") -> Schema:
    return Schema(method.name, _first_line(method), method.config_class, method.version, method.literature_names)


def _first_line(documented: type) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]


# --- descriptions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plain:
    """A dataclass without code of its own, for the names that every dataclass has."""

    field: int = 0


def describe(schema: Schema) -> Json | None:
    """Return JSON from which `schema_from` builds an equal schema; None if it cannot."""
    cls = schema.config_class
    try:
        signature = inspect.signature(cls, eval_str=True)
        own_names = {name for base in cls.__mro__[:-1] for name in vars(base)} - {one.name for one in fields(cls)}
        described = vars(schema) | {
            "literature_names": dict(schema.literature_names),
            "config_class": cls.__name__,
            "fields": [_describe_field(one) for one in signature.parameters.values()],
        }
        built = schema_from(json.loads(json.dumps(described)))
    except (TypeError, ValueError, NameError, KeyError, AttributeError):
        return None
    is_equal = replace(built, config_class=cls) == schema and inspect.signature(built.config_class) == signature
    return described if is_equal and own_names <= vars(_Plain).keys() else None


def schema_from(described: Json) -> Schema:
    """Return the schema that `describe` described, with a frozen dataclass of its settings."""
    rest = {key: value for key, value in described.items() if key != "fields"}
    members = [
        (one["name"], _type_from(one["type"]), field(default=one.get("default", MISSING)))
        for one in described["fields"]
    ]
    return Schema(**rest | {"config_class": make_dataclass(described["config_class"], members, frozen=True)})


def _describe_field(one: inspect.Parameter) -> Json:
    described = {"name": one.name, "type": _describe_type(one.annotation)}
    return described if one.default is one.empty else described | {"default": one.default}


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


# --- the cache --------------------------------------------------------------------------------------------------------


def _kept(
    name: str, code: list[Path], imported: Callable[[], dict[str, Schemas]], sources: Callable[[], Json] = dict
) -> dict[str, Schemas]:
    """Return the schemas described in the cache, or those of the imported classes, and describe these in the cache.

    `code` are the module or package that the schemas are of, `sources` gives after the import what else they may come
    from: files with their hashes.
    """
    key = _key(code)
    place = f"schemas/{name}-{key[:32]}.json"
    with contextlib.suppress(CacheUnusable, OSError, ValueError, KeyError, TypeError):
        file = cache_folder() / place
        found = parse_json(read_regular(file))
        described, others = found["description"], found["sources"]
        is_whole = found["digest"] == digest([described, others])
        if is_whole and all(_hash(Path(other)) == known for other, known in others.items()):
            return {kind: {name: schema_from(one) for name, one in kinds.items()} for kind, kinds in described.items()}
    schemas = imported()
    described = {kind: {name: describe(one) for name, one in kinds.items()} for kind, kinds in schemas.items()}
    is_complete = all(one for kinds in described.values() for one in kinds.values())
    if is_complete and code and _key(code) == key:  # no file was changed while it was imported
        with contextlib.suppress(CacheUnusable, OSError):
            file = cache_folder() / place
            kept = {"description": described, "sources": sources()}
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomically(file, json.dumps(kept | {"digest": digest([*kept.values()])}).encode())
    return schemas


def _key(code: list[Path]) -> str:
    """The hash of what can change a description."""
    hashes = [(str(file), _hash(file)) for one in [Path(__file__), *code] for file in _files(one)]
    return hashlib.sha256(repr((sys.version, _installed(), hashes)).encode(errors="surrogateescape")).hexdigest()


def _hash(file: Path) -> str:
    """Of a module its content; of any other file, which may be large, size and time of change."""
    if file.suffix == ".py":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{file.stat().st_size} {file.stat().st_mtime_ns}"


def _files(code: Path) -> list[Path]:
    """A module, or all files of a package."""
    inside = code.rglob("*") if code.is_dir() else [code]
    return sorted(file for file in inside if file.is_file() and file.parent.name != "__pycache__")


def _installed() -> list[str]:
    """Name and version of every installed distribution, by the names of their folders of metadata."""
    found = []
    for folder in sys.path:
        if {"site-packages", "dist-packages"} & {*Path(folder).parent.parts}:
            continue  # a package's own copies of others: setuptools and Ray add theirs when they are imported
        with contextlib.suppress(OSError):
            found += [name for name in os.listdir(folder or ".") if name.endswith((".dist-info", ".egg-info"))]
    return sorted(found)


def _sources() -> Json:
    """Files of loaded modules for which no version of Python or of an installed package stands, with their hashes."""
    installed = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    files = {str(getattr(module, "__file__", "")) for module in list(sys.modules.values())}
    ours = [file for file in sorted(files) if os.path.isabs(file) and not file.startswith(installed)]
    return {file: _hash(Path(file)) for file in ours}
