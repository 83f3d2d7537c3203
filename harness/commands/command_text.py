"""The command line of a run as shell text, which the run folder keeps to show how to reproduce the run.

It contains neither the working directory nor the program's path, so that the same command has the same text everywhere.
"""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twinbench.results.bundles.redaction import redacted
from twinbench.results.record import WITHHELD

if TYPE_CHECKING:
    import typer

# Options of a cluster that only say how much and where. Others, such as setup lines, may contain a token.
HARMLESS = {
    "array_parallelism",
    "constraint",
    "cpus",
    "dashboard",
    "gpus",
    "labels",
    "memory",
    "partition",
    "qos",
    "resources",
    "slots",
    "time",
}


def as_given(context: "typer.Context") -> str:
    """Return the command of `context`: its arguments, then its options in a fixed order.

    Omitted options are left out; values that may be secret are withheld.
    """
    words = ["twinbench", str(context.command.name)]
    for parameter in sorted(context.command.params, key=lambda one: one.param_type_name != "argument"):
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE":
            words += _words(parameter, context.params[str(parameter.name)])
    return shlex.join(words)


def _words(parameter: Any, value: Any) -> Iterator[str]:
    if parameter.param_type_name == "argument":
        yield redacted(str(value))
        return
    for one in value if parameter.multiple else [value]:
        yield max(parameter.opts, key=len)
        if not parameter.is_flag:
            yield _public(str(parameter.name), str(one))


def _public(name: str, value: str) -> str:
    if name == "address":
        return value if value == "auto" else WITHHELD
    if name in ("slurm", "ray"):
        key, _, _ = value.partition("=")
        value = value if key.partition(".")[0] in HARMLESS else f"{key}={WITHHELD}"
    return redacted(value)  # anything else that looks like a secret, such as an address with a password
