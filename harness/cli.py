"""The command line. Commands import heavy modules when they run, so that `--help` stays fast."""

import errno
import os
import sys
from collections.abc import Callable, Sequence

import typer

from twinbench.harness.commands.bench import bench
from twinbench.harness.commands.bundle import bundle, verify
from twinbench.harness.commands.claims import check, claim_app
from twinbench.harness.commands.list import list_
from twinbench.harness.commands.options import INTERRUPTED, MISTAKE, SOME_FAILED
from twinbench.harness.commands.paper import export, paper
from twinbench.harness.commands.plan import plan
from twinbench.harness.commands.protocol import protocol_app
from twinbench.harness.commands.results import collect, merge, query, report
from twinbench.harness.commands.run import run
from twinbench.harness.commands.watch import cancel, logs, serve, status, watch
from twinbench.harness.system.user_cache import share_cache
from twinbench.harness.trial.output_log import open_closed_streams
from twinbench.results.atomic_files import is_storage_error
from twinbench.sweeps.errors import InvalidInput, Mistake, printable

app = typer.Typer(
    name="twinbench",
    help="Ablation studies of joint-embedding self-supervised learning, with records that can be checked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
LOOP = "Symlink loop from "  # what `Path.resolve` raises before Python 3.13
COMMANDS: tuple[Callable[..., None], ...] = (
    *(run, plan, bench, status, watch, serve, logs, cancel, collect),
    *(report, merge, query, list_, check, bundle, verify, paper, export),
)
for command in COMMANDS:
    app.command(command.__name__.removesuffix("_"))(command)
app.add_typer(protocol_app, name="protocol")
app.add_typer(claim_app, name="claim")


def main() -> None:
    """Run the command line. Invalid input exits with code 2 and without a traceback."""
    open_closed_streams()
    # Python would look for modules in the working directory of the processes that a run starts: a user's `signal.py` or
    # `torch.py` there would be taken for the module of that name.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        share_cache()
        _check_encoding(sys.argv[1:])
        app()
    except InvalidInput as error:
        for one in error.mistakes:
            print(f"error: {one}", file=sys.stderr)
        sys.exit(MISTAKE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if is_storage_error(error):
            print(printable(f"error: cannot write: {error}; finished records are kept"), file=sys.stderr)
            sys.exit(SOME_FAILED)
        if not (mistake := _refused_by_the_system(error)):
            raise
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(MISTAKE)


def _check_encoding(arguments: Sequence[str]) -> None:
    """InvalidInput for arguments that are no text: neither a plan nor a page could name such a path."""
    problem, allowed = "is not UTF-8", "text in UTF-8"
    if mistakes := [Mistake(one, "", problem, os.fsencode(one), allowed) for one in arguments if not _is_text(one)]:
        raise InvalidInput(mistakes)


def _is_text(argument: str) -> bool:
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refused_by_the_system(error: Exception) -> Mistake | None:
    """Return which file or folder the system refused, and why; None for any other error."""
    reason = str(getattr(error, "strerror", ""))
    if "temporary directory" in reason:  # from `tempfile`
        return Mistake("TMPDIR", "", reason, allowed="a folder that this user can write")
    if isinstance(error, OSError) and error.filename:
        return Mistake(os.fsdecode(error.filename), "", reason)
    if isinstance(error, FileNotFoundError):  # from `os.getcwd`, which names no file
        return Mistake("the working directory", "", "does not exist any more")
    if isinstance(error, RuntimeError) and str(error).startswith(LOOP):
        return Mistake(str(error).removeprefix(LOOP), "", os.strerror(errno.ELOOP))
    return None


if __name__ == "__main__":
    main()
