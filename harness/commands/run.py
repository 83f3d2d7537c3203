"""`twinbench run`: train what is missing, then write the report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from twinbench.harness.commands.options import INTERRUPTED, SOME_FAILED, Data, Out, Set, SweepName, out
from twinbench.sweeps.errors import InvalidInput, Mistake, nearest

LAUNCHERS = ("local", "ray", "slurm")
AUTO = "auto"


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
    from twinbench.harness.commands.command_text import as_given
    from twinbench.harness.launchers.local import run_locally
    from twinbench.harness.launchers.outcome import Outcome
    from twinbench.harness.launchers.ray import run_on_ray
    from twinbench.harness.launchers.slurm import run_on_slurm
    from twinbench.harness.monitor.progress_bars import Watch
    from twinbench.harness.monitor.status import counted
    from twinbench.harness.planning import check_ranks, make_plan
    from twinbench.harness.run_folder.layout import allow, set_failed_aside, write_plan
    from twinbench.harness.system.devices import choose_devices, first_devices

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
    from twinbench.harness.trial.execute import Surroundings

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
    from twinbench.reports.page.write import write_report

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
    from twinbench.harness.performance.pack_size import SIZES

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
    from twinbench.harness.launchers.site import RaySite, SlurmSite, read_site

    if launcher == "local":
        return None
    site: Any = (
        read_site(RaySite, "ray", file, ray) if launcher == "ray" else read_site(SlurmSite, "slurm", file, slurm)
    )
    if site.gpus and processes_per_trial > 1 and site.gpus < processes_per_trial:
        allowed = f"at least {processes_per_trial}, a GPU for each process of a trial"
        raise InvalidInput([Mistake(f"--{launcher}", "gpus", "are too few", site.gpus, allowed)])
    return site
