"""Names of methods: the message for an unknown one, and those that other packages add. Imports no torch."""

import difflib
import functools
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

ENTRY_POINTS = "twinbench.methods"
"""The group under which other packages name their methods: `my_method = "my_package.my_module:MyMethod"`."""


class UnknownMethod(ValueError):
    """No method has that name; the message gives the nearest name and all known ones."""


class UnusableMethod(TypeError):
    """An entry point is not a method of its name, or takes a name twice; the message says where it leads."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return `unknown KIND 'NAME'; did you mean 'NEAREST'? Known: ALL`; without the question if no name is close."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    question = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {kind} {name!r}{question} Known: {', '.join(names)}"


@functools.cache  # reads the metadata of every installed package, which do not change while a process runs
def outside_methods(shipped: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Return the entry points of other packages' methods by name. UnusableMethod if a name is also in `shipped`."""
    found: dict[str, EntryPoint] = {}
    for entry_point in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry_point: entry_point.name):
        name = entry_point.name
        if name in shipped or name in found:
            other = found[name].value if name in found else "twinbench"
            raise UnusableMethod(f"method {name!r} is registered twice: by {other} and by {entry_point.value}")
        found[name] = entry_point
    return found
