"""`twinbench list`: the methods, backbones, datasets, protocols and sweeps that exist."""

from typing import Annotated, Any

import typer

from twinbench.harness.commands.options import out
from twinbench.sweeps.errors import InvalidInput, Mistake, nearest

KINDS = ("methods", "backbones", "datasets", "protocols", "sweeps")


def list_(what: Annotated[str, typer.Argument(help=f"One of: {', '.join(KINDS)}.")]) -> None:
    """List what is there to choose from."""
    from rich.table import Table

    if what not in KINDS:
        raise InvalidInput([Mistake("list", "", "nothing of that name", what, ", ".join(KINDS), nearest(what, KINDS))])
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, line in _listed(what):
        table.add_row(name, line)
    out().print(table)


def _listed(what: str) -> list[tuple[str, str]]:
    """Name and one line of each."""
    if what == "methods":
        from twinbench.methods.registry import get_method, method_names

        return [(name, _first_line(get_method(name))) for name in method_names()]
    if what == "backbones":
        from twinbench.methods.backbones.registry import BACKBONES

        return [(name, _first_line(backbone.options_class)) for name, backbone in BACKBONES.items()]
    if what == "datasets":
        from twinbench.harness.data.datasets import DATASETS

        return list(DATASETS.items())
    from twinbench.sweeps.sweep import read_protocol, read_sweep, shipped_protocols, shipped_sweeps

    if what == "protocols":
        return [(name, read_protocol(name).summary) for name in shipped_protocols()]
    return [(name, read_sweep(name)[0].question) for name in shipped_sweeps()]


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]
