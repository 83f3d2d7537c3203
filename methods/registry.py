"""All methods. To add one: write a file next to this one and add it to METHODS, or add an entry point elsewhere."""

from importlib.metadata import EntryPoint

from twinbench.methods.barlow_twins import BarlowTwins
from twinbench.methods.baselines import RawPixels, Untrained
from twinbench.methods.byol import BYOL
from twinbench.methods.method import Method
from twinbench.methods.names import UnknownMethod, UnusableMethod, outside_methods, unknown_name
from twinbench.methods.simclr import SimCLR
from twinbench.methods.vicreg import VICReg

METHODS: dict[str, type[Method]] = {method.name: method for method in (BarlowTwins, BYOL, SimCLR, VICReg)}
BASELINES: dict[str, type[Method]] = {method.name: method for method in (RawPixels, Untrained)}
SHIPPED = METHODS | BASELINES


def get_method(name: str) -> type[Method]:
    """Return the method or baseline of that name. An entry point cannot replace a shipped method."""
    if name in SHIPPED:
        return SHIPPED[name]
    outside = outside_methods(tuple(SHIPPED))
    if name in outside:
        return _load(outside[name])
    raise UnknownMethod(unknown_name("method", name, (*SHIPPED, *outside)))


def _load(entry_point: EntryPoint) -> type[Method]:
    method = entry_point.load()
    if not (isinstance(method, type) and issubclass(method, Method) and method.name == entry_point.name):
        raise UnusableMethod(f"{entry_point.value} is not a Method named {entry_point.name!r}: {method!r}")
    return method
