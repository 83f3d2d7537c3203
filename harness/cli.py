"""The command line. Heavy modules are imported by the command that uses them, so that `--help` stays quick."""

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinbench.harness.bench_command import bench
from twinbench.harness.bundle_commands import bundle, verify
from twinbench.harness.claim_commands import check, claim_app
from twinbench.harness.paper_commands import export, paper
from twinbench.harness.plan_command import plan
from twinbench.harness.protocol_commands import protocol_app
from twinbench.results.record import takes_no_more
from twinbench.sweeps.mistakes import InvalidInput, Mistake, nearest

if TYPE_CHECKING:
    from rich.console import Console

FINE, SOME_FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130
LAUNCHERS = ("local", "ray", "slurm")
AUTO = "auto"
KINDS = ("methods", "backbones", "datasets", "protocols", "sweeps")

app = typer.Typer(
    name="twinbench",
    help="Ablation studies of joint-embedding self-supervised learning, with records that can be checked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(protocol_app, name="protocol")
app.add_typer(claim_app, name="claim")
app.command()(plan)
app.command()(bench)
app.command()(check)
app.command()(bundle)
app.command()(verify)
app.command()(paper)
app.command()(export)

SweepName = Annotated[str, typer.Argument(help="A shipped sweep (`twinbench list sweeps`) or a path to a TOML file.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder, as `twinbench run` leaves it.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE changes the sweep: seeds=[0], epochs=5, simclr.temperature=0.2"),
]
Out = Annotated[Path | None, typer.Option("--out", help="The run folder; by default runs/NAME.")]
Data = Annotated[
    Path | None, typer.Option("--data", help="The folder with the dataset's files, where the dataset has any.")
]


@functools.cache
def out() -> "Console":
    """The terminal; not made before something is printed, since `--help` needs no part of rich."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False)


@app.command()
def run(
    context: typer.Context,
    sweep: SweepName,
    out_folder: Out = None,
    launcher: Annotated[str, typer.Option(help=f"Where trials run: {', '.join(LAUNCHERS)}.")] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes at once; by default one per core or GPU.")
    ] = None,
    workers_per_gpu: Annotated[int, typer.Option(min=1, help="Trials that share one GPU.")] = 1,
    threads: Annotated[
        str,
        typer.Option(help="Threads per trial; auto measures. Results are bit-equal only at equal threads."),
    ] = "1",
    processes_per_trial: Annotated[
        int,
        typer.Option(min=1, help="Ranks that share each batch of a trial, on one node; a GPU each where there are."),
    ] = 1,
    pack: Annotated[
        str,
        typer.Option(help="Trials at most that take turns in one process, on views made once for all; auto measures."),
    ] = "1",
    isolate: Annotated[
        bool,
        typer.Option("--isolate", help="Give each trial a process of its own: nothing stays of those before."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    mode: Annotated[
        str,
        typer.Option(help="Of a GPU's kernels: repro, the same bits every time; fast, compiled and chosen by timing."),
    ] = "repro",
    trial_time_limit: Annotated[
        float | None, typer.Option(min=1, help="Seconds after which an attempt at a trial, hung or not, is ended.")
    ] = None,
    retry: Annotated[
        str | None, typer.Option(help="`failed` runs failed trials again; their records stay with their attempts.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the cluster has the work.")] = False,
    site: Annotated[Path | None, typer.Option(help="A TOML file with the cluster's [slurm] or [ray] table.")] = None,
    slurm: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE of the [slurm] table: partition=gpu, time=08:00:00, gpus=1")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster, or auto; without one Ray runs on this machine alone.")
    ] = None,
    ray: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE of the [ray] table: gpus=0.5, labels.region=eu, dashboard=true")
    ] = None,
    changes: Set = None,
    data: Data = None,
) -> None:
    """Run what is missing of a sweep, then write its report. Run it again after an interruption to go on."""
    from twinbench.harness.as_given import as_given
    from twinbench.harness.run_folder import allow, set_failed_aside, write_plan
    from twinbench.harness.running import (
        Outcome,
        check_ranks,
        choose_devices,
        first_devices,
        make_plan,
        run_locally,
        run_on_ray,
        run_on_slurm,
    )
    from twinbench.harness.status import counted
    from twinbench.harness.watching import Watch

    _check_run_options(launcher, retry, detach, mode, isolate)
    threads_per_trial = _threads(threads, launcher, processes_per_trial)
    most_packed = _most_packed(pack, processes_per_trial, trial_time_limit)
    devices = []
    if launcher == "local":
        devices = first_devices(choose_devices(device), processes_per_trial, workers_per_gpu)
    on_ray = [*(ray or ()), *([f"address={address}"] if address else [])]
    cluster = _cluster_site(launcher, site, slurm or [], on_ray, processes_per_trial)
    planned = make_plan(sweep, tuple(changes or ()), data)
    check_ranks(planned, processes_per_trial)
    folder = out_folder or Path("runs") / planned.name
    write_plan(folder, planned, as_given(context))
    allow(folder)
    if retry:
        out().print(f"{set_failed_aside(folder, planned)} failed trials run again")
    from twinbench.harness.execute import Surroundings

    surroundings = Surroundings(
        folder,
        threads=threads_per_trial,
        data=data,
        trial_time_limit=trial_time_limit,
        where=launcher,
        keep_log=True,
        processes=processes_per_trial,
        pack=most_packed,
        mode=mode,
        isolate=isolate,
    )
    watch, measures_packs = Watch(folder, planned.axes, planned.trials, out()), pack == AUTO
    outcome: Outcome | None
    if launcher == "slurm":
        outcome = run_on_slurm(planned, surroundings, cluster, device, workers_per_gpu, watch, detach, measures_packs)
    elif launcher == "ray":
        outcome = run_on_ray(planned, surroundings, cluster, workers, watch, detach, measures_packs)
    else:
        outcome = run_locally(planned, surroundings, devices, workers, watch, measures_packs, threads == AUTO)
    if not outcome:
        out().print(f"twinbench status {folder} says how far it is")
        return
    out().print(counted(outcome.statuses))
    if outcome.stopped:
        out().print(outcome.stopped, markup=False)
        raise typer.Exit(INTERRUPTED if outcome.stopped.startswith("interrupted") else SOME_FAILED)
    from twinbench.reports.page import write_report

    out().print(f"report: {write_report(folder)}")
    if set(outcome.statuses) - {"done"}:
        raise typer.Exit(SOME_FAILED)


def _check_run_options(launcher: str, retry: str | None, detach: bool, mode: str, isolate: bool) -> None:
    from twinbench.harness.training.kernels import MODES

    mistakes = []
    if mode not in MODES:
        mistakes.append(Mistake("--mode", "", "no such mode", mode, ", ".join(MODES), nearest(mode, MODES)))
    if launcher not in LAUNCHERS:
        close = nearest(launcher, LAUNCHERS)
        mistakes.append(Mistake("--launcher", "", "no such launcher", launcher, ", ".join(LAUNCHERS), close))
    if isolate and launcher == "ray":
        problem = "cannot fork a process for each trial off Ray's, which have threads"
        mistakes.append(Mistake("--isolate", "", problem, launcher, "local, slurm"))
    if retry not in (None, "failed"):
        mistakes.append(Mistake("--retry", "", "cannot be run again", retry, "failed"))
    if detach and launcher == "local":
        mistakes.append(Mistake("--detach", "", "needs a cluster to leave the work with", launcher, "ray, slurm"))
    if mistakes:
        raise InvalidInput(mistakes)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0


def _threads(threads: str, launcher: str, processes_per_trial: int) -> int:
    """The number that `--threads` says; 1 where it is measured, from which the measurement goes on."""
    mistakes = []
    if threads == AUTO and launcher != "local":
        allowed = "a number: what a cluster is asked for depends on it"
        mistakes.append(Mistake("--threads", "--launcher", "cannot be measured", launcher, allowed))
    if threads == AUTO and processes_per_trial > 1:
        allowed = "a number: trials of one process are measured"
        mistakes.append(
            Mistake("--threads", "--processes-per-trial", "cannot be measured", processes_per_trial, allowed)
        )
    if threads != AUTO and not _is_count(threads):
        mistakes.append(Mistake("--threads", "", "is no number of threads", threads, f"1 or more, or {AUTO}"))
    if mistakes:
        raise InvalidInput(mistakes)
    return 1 if threads == AUTO else int(threads)


def _most_packed(pack: str, processes_per_trial: int, trial_time_limit: float | None) -> int:
    """The number that `--pack` says, or the most that are measured."""
    from twinbench.harness.packing import SIZES

    if pack == "1":
        return 1
    mistakes = []
    if pack != AUTO and not _is_count(pack):
        mistakes.append(Mistake("--pack", "", "is no number of trials", pack, f"1 or more, or {AUTO}"))
    if processes_per_trial > 1:
        allowed = "1: a pack is several trials in one process, and these would be several processes for one trial"
        mistakes.append(Mistake("--pack", "--processes-per-trial", "cannot be packed", processes_per_trial, allowed))
    if trial_time_limit is not None:
        allowed = "none: what ends a trial that hangs is the end of its process, and of its pack"
        mistakes.append(Mistake("--pack", "--trial-time-limit", "cannot be packed", trial_time_limit, allowed))
    if mistakes:
        raise InvalidInput(mistakes)
    return max(SIZES) if pack == AUTO else int(pack)


def _cluster_site(launcher: str, file: Path | None, slurm: list[str], ray: list[str], processes_per_trial: int) -> Any:
    """What the cluster is asked for, a SlurmSite or a RaySite; None on this machine alone."""
    from twinbench.harness.site import RaySite, SlurmSite, read_site

    if launcher == "local":
        return None
    site: Any = (
        read_site(RaySite, "ray", file, ray) if launcher == "ray" else read_site(SlurmSite, "slurm", file, slurm)
    )
    if site.gpus and processes_per_trial > 1 and site.gpus < processes_per_trial:
        allowed = f"at least {processes_per_trial}, a GPU for each process of a trial"
        raise InvalidInput([Mistake(f"--{launcher}", "gpus", "are too few", site.gpus, allowed)])
    return site


@app.command()
def status(
    folder: RunFolder,
    follow: Annotated[bool, typer.Option("--watch", help="Go on until all is recorded, as `watch` does.")] = False,
) -> None:
    """Say how far a run is, what runs where, and what failed: from the folder alone, while it runs or later."""
    if follow:
        return watch(folder)
    from twinbench.harness.status import Status, shown

    out().print(shown(Status(folder)))


@app.command()
def watch(folder: RunFolder) -> None:
    """Show a run in the terminal until all is recorded: before it starts, while it runs, and after an interruption."""
    from twinbench.harness.live.terminal import watch as watch_folder
    from twinbench.harness.run_folder import check_is_folder

    check_is_folder(folder)
    watch_folder(folder, out())


@app.command()
def serve(
    folder: RunFolder,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of 127.0.0.1; by default 8642, or any other if it is taken.")
    ] = None,
) -> None:
    """Show a run as a page on this machine, which follows it: before it starts, while it runs, and afterwards."""
    import contextlib

    from twinbench.harness.live.server import serve as serve_folder
    from twinbench.harness.run_folder import check_is_folder

    check_is_folder(folder)
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        serve_folder(folder, port, lambda text: out().print(text, markup=False))


@app.command()
def logs(
    folder: RunFolder,
    trial: Annotated[str, typer.Argument(help="The beginning of a trial's id, as `status` and `plan` print it.")],
) -> None:
    """Print what a trial's attempts printed, and how each ended."""
    from twinbench.harness.status import find_trial, log_lines

    for line in log_lines(folder, find_trial(folder, trial)):
        sys.stdout.write(line)


@app.command()
def cancel(folder: RunFolder) -> None:
    """Ask every worker of a run, wherever it is, to save its trial and end. `run` goes on from there."""
    from twinbench.harness.run_folder import cancel as cancel_folder
    from twinbench.harness.run_folder import read_plan

    read_plan(folder)
    if launches := cancel_folder(folder):
        from twinbench.harness.launchers import ray, slurm

        slurm.cancel_waiting(launches)
        ray.cancel_waiting(folder, launches)
    out().print("cancelled: workers save their trials and end within seconds; the same `run` goes on from there")


@app.command()
def collect(folder: RunFolder) -> None:
    """Bring the folder's records into its DuckDB database. What is there already is not read again."""
    from twinbench.results.store import ResultStore

    _check_run_folder(folder)
    with ResultStore(folder) as store:
        ingested = store.ingest()
    out().print(f"{ingested.new} new, {ingested.replaced} replaced, {ingested.unchanged} unchanged")
    for file, reason in ingested.set_aside:
        out().print(f"set aside: {file}: {reason}", style="yellow", markup=False)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="A run folder, or several to be shown side by side.")],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Where the page of several runs goes; by default ./report.")
    ] = None,
) -> None:
    """Write report/index.html and report/tables/*.csv. Equal records give equal bytes."""
    from twinbench.reports.page import write_report, write_reports

    for folder in folders:
        _check_run_folder(folder)
    if len(folders) == 1 and out_folder is not None:
        problem = "is for several runs; the report of one goes into its folder"
        raise InvalidInput([Mistake("--out", "", problem, str(out_folder))])
    written = write_report(folders[0]) if len(folders) == 1 else write_reports(folders, out_folder or Path("report"))
    out().print(f"report: {written}")


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Run folders of one protocol.")],
    out_folder: Annotated[Path, typer.Option("--out", help="The new run folder.")],
) -> None:
    """Join run folders of several sites. Unequal results of one trial are reported, never chosen between."""
    from twinbench.results.merge import merge_folders

    merged = merge_folders(folders, out_folder)
    out().print(
        f"{merged.trials} trials: {merged.records} recorded ({merged.duplicates} more than once, equal), "
        f"{merged.missing} missing, {len(merged.disagreements)} in disagreement"
    )
    if merged.failures_superseded:
        out().print(f"{merged.failures_superseded} failures of one site gave way to another site's result")
    for file, reason in merged.set_aside:
        out().print(f"set aside: {file}: {reason}", style="yellow", markup=False)
    for disagreement in merged.disagreements:
        out().print(f"disagreement on {disagreement.trial_id}:", style="yellow", markup=False)
        for line in (*disagreement.differences, *disagreement.hints):
            out().print(f"  {line}", markup=False)
    if merged.disagreements:
        raise typer.Exit(SOME_FAILED)


@app.command()
def query(
    folder: RunFolder,
    sql: Annotated[
        str,
        typer.Argument(
            help='A query, such as "select method, avg(value) from metrics join trials using (trial_id) group by 1".'
        ),
    ],
    form: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
) -> None:
    """Ask the folder's database, read-only, and print the answer."""
    from twinbench.results.store import ResultStore

    forms = {"table": _print_table, "csv": _print_csv, "json": _print_json}
    if form not in forms:
        raise InvalidInput([Mistake("--format", "", "no such format", form, ", ".join(forms), nearest(form, forms))])
    _check_run_folder(folder)
    with ResultStore(folder) as store:
        store.ingest()
        frame = store.query(sql)
    forms[form](frame)


@app.command(name="list")
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
        from twinbench.methods.backbones import BACKBONES

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


def _check_run_folder(folder: Path) -> None:
    from twinbench.results.record import PLAN, RECORDS

    if not (folder / PLAN).exists() and not (folder / RECORDS).is_dir():
        raise InvalidInput([Mistake(str(folder), "", f"is no run folder: it has neither {PLAN} nor {RECORDS}/")])


def _print_table(frame: Any) -> None:
    from rich.table import Table

    table = Table(*map(str, frame.columns), box=None, pad_edge=False)
    for row in frame.itertuples(index=False):
        table.add_row(*(_shown(value) for value in row))
    out().print(table, markup=False)


def _shown(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and value != value) else str(value)


def _print_csv(frame: Any) -> None:
    sys.stdout.write(frame.to_csv(index=False))


def _print_json(frame: Any) -> None:
    sys.stdout.write(frame.to_json(orient="records", indent=1, date_format="iso") + "\n")


def main() -> None:
    """The console command: mistakes in what was asked end with code 2 and without a traceback."""
    try:
        app()
    except InvalidInput as error:
        for mistake in error.mistakes:
            print(f"error: {mistake}", file=sys.stderr)
        sys.exit(MISTAKE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not takes_no_more(error):
            raise
        print(f"error: the disk takes no more: {error}; what is recorded stays", file=sys.stderr)
        sys.exit(SOME_FAILED)


if __name__ == "__main__":
    main()
