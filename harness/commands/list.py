"""`twinbench list`: the methods, backbones, datasets, protocols and sweeps to choose from."""

from typing import Annotated

import typer

from twinbench.harness.commands.options import out
from twinbench.sweeps.errors import InvalidInput, unknown_name

KINDS = ("methods", "backbones", "datasets", "protocols", "sweeps")


def list_(what: Annotated[str, typer.Argument(help=f"One of: {', '.join(KINDS)}.")]) -> None:
    """List the available methods, backbones, datasets, protocols or sweeps."""
    from rich.table import Table

    if what not in KINDS:
        raise InvalidInput([unknown_name("list", "list", what, KINDS)])
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, summary in _entries(what):
        table.add_row(name, summary)
    out().print(table)


def _entries(what: str) -> list[tuple[str, str]]:
    """Return the name and a one-line summary of each entry."""
    from twinbench.harness.schemas import method_names, method_schema, shipped

    if what == "methods":
        return [(name, method_schema(name).summary) for name in method_names()]
    if what == "backbones":
        return [(name, backbone.summary) for name, backbone in shipped().backbones.items()]
    if what == "datasets":
        from twinbench.harness.data.datasets import DATASETS

        return list(DATASETS.items())
    from twinbench.sweeps.sweep import read_protocol, read_sweep, shipped_protocols, shipped_sweeps

    if what == "protocols":
        return [(name, read_protocol(name).summary) for name in shipped_protocols()]
    return [(name, read_sweep(name)[0].question) for name in shipped_sweeps()]
