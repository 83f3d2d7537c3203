"""Which methods there are. A new one is a file beside this and a line in METHODS, or an entry point elsewhere."""

import functools
from importlib.metadata import EntryPoint, entry_points

from twinbench.methods.barlow_twins import BarlowTwins
from twinbench.methods.baselines import RawPixels, Untrained
from twinbench.methods.byol import BYOL
from twinbench.methods.method import Method
from twinbench.methods.names import unknown_name
from twinbench.methods.simclr import SimCLR
from twinbench.methods.vicreg import VICReg

METHODS: dict[str, type[Method]] = {
    "barlow_twins": BarlowTwins,
    "byol": BYOL,
    "simclr": SimCLR,
    "vicreg": VICReg,
}

BASELINES: dict[str, type[Method]] = {
    "raw_pixels": RawPixels,
    "untrained": Untrained,
}

ENTRY_POINTS = "twinbench.methods"
"""The group under which other packages name their methods: `my_method = "my_package.my_module:MyMethod"`."""


class UnknownMethod(ValueError):
    """No method has that name; the text names the nearest and all."""


class UnusableMethod(TypeError):
    """An entry point does not lead to a method of its name; the text says where it leads."""


def get_method(name: str) -> type[Method]:
    """The method or baseline of that name. A package's entry point cannot stand in for one of ours."""
    ours = METHODS | BASELINES
    if name in ours:
        return ours[name]
    outside = _outside_methods()
    if name in outside:
        return _load(outside[name])
    raise UnknownMethod(unknown_name("method", name, (*ours, *outside)))


def method_names() -> tuple[str, ...]:
    """The names of all methods that can be trained, other packages' included; no baselines."""
    return (*METHODS, *_outside_methods())


@functools.cache  # reads the metadata of every installed package; a process's packages do not change
def _outside_methods() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry_point in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry_point: entry_point.name):
        name = entry_point.name
        other = METHODS.get(name) or BASELINES.get(name) or found.get(name)
        if other is not None:
            raise UnusableMethod(f"method {name!r} is registered twice: {other} and {entry_point.value}")
        found[name] = entry_point
    return found


def _load(entry_point: EntryPoint) -> type[Method]:
    method = entry_point.load()
    if not (isinstance(method, type) and issubclass(method, Method) and method.name == entry_point.name):
        raise UnusableMethod(f"{entry_point.value} is not a Method named {entry_point.name!r}: {method!r}")
    return method
