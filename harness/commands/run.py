"""`twinbench run`: train what is missing, then write the report."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinbench.harness.commands.options import (
    INTERRUPTED,
    SOME_FAILED,
    Data,
    Out,
    Set,
    SweepName,
    out,
    print_damaged_launches,
    print_left_out,
    print_other_trials,
    say,
)
from twinbench.sweeps.errors import InvalidInput, Mistake, counted, unknown_name

if TYPE_CHECKING:
    from twinbench.harness.launchers.launcher import Launcher, LaunchOptions, Outcome
    from twinbench.harness.monitor.progress_bars import ProgressBars
    from twinbench.harness.planning import Plan
    from twinbench.harness.trial.execute import Surroundings

AUTO = "auto"
MOST = 4096  # of any count: more threads than that crash the libraries that start them
# Options that a launcher does not use, by their names in LaunchOptions.
UNUSED = {
    "local": ("site", "slurm", "ray", "address"),
    "ray": ("slurm", "workers_per_gpu"),
    "slurm": ("ray", "address", "workers"),
}
LauncherName = Annotated[str, typer.Option("--launcher", help="Where trials run: local, ray or slurm.")]
Workers = Annotated[
    int | None, typer.Option(min=1, max=MOST, help="Processes at once; by default one per core or GPU.")
]
WorkersPerGPU = Annotated[int, typer.Option(min=1, max=MOST, help="Trials that share one GPU.")]
Threads = Annotated[
    str,
    typer.Option(help="Threads per trial, or auto to measure. Only equal numbers of threads give equal bits."),
]
Processes = Annotated[
    int,
    typer.Option(
        min=1, max=MOST, help="Processes (ranks) that train one trial on one node; each on its own GPU, if any."
    ),
]
Pack = Annotated[
    str,
    typer.Option(help="At most this many trials take turns in one process and share views; auto measures."),
]
Isolate = Annotated[
    bool, typer.Option("--isolate", help="Run each trial in its own process, so that no trial affects the next.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Mode = Annotated[str, typer.Option(help="GPU kernels: repro (bit-identical results) or fast (compiled, autotuned).")]
TimeLimit = Annotated[
    float | None, typer.Option(min=1, help="Seconds after which an attempt at a trial is ended, even if it hangs.")
]
Retry = Annotated[str | None, typer.Option(help="`failed` runs failed trials again; their records are kept.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return as soon as the cluster has accepted the work.")]
Site = Annotated[Path | None, typer.Option(help="A TOML file with the cluster's [slurm] or [ray] table.")]
Slurm = Annotated[
    list[str] | None, typer.Option(help="KEY=VALUE of the [slurm] table: partition=gpu, time=08:00:00, gpus=1")
]
Address = Annotated[
    str | None, typer.Option(help="A running Ray cluster, or auto. Default: RAY_ADDRESS; without it, Ray starts here.")
]
Ray = Annotated[
    list[str] | None, typer.Option(help="KEY=VALUE of the [ray] table: gpus=0.5, labels.region=eu, dashboard=true")
]


def run(
    context: typer.Context,
    sweep: SweepName,
    out_folder: Out = None,
    launcher_name: LauncherName = "local",
    workers: Workers = None,
    workers_per_gpu: WorkersPerGPU = 1,
    threads: Threads = "1",
    processes_per_trial: Processes = 1,
    pack: Pack = "1",
    isolate: Isolate = False,
    device: Device = "auto",
    mode: Mode = "repro",
    trial_time_limit: TimeLimit = None,
    retry: Retry = None,
    detach: Detach = False,
    site: Site = None,
    slurm: Slurm = None,
    address: Address = None,
    ray: Ray = None,
    changes: Set = None,
    data: Data = None,
) -> None:
    """Run the missing trials of a sweep, then write its report. After an interruption, run it again to continue.

    A sweep with a confirm stage goes on with it once every trial of the grid is recorded.
    """
    from twinbench.harness.launchers.launcher import LaunchOptions
    from twinbench.harness.planning import make_plan

    _begin(out_folder)
    options = LaunchOptions(
        device=device,
        workers=workers,
        workers_per_gpu=workers_per_gpu,
        processes_per_trial=processes_per_trial,
        measures_threads=threads == AUTO,
        measures_packs=pack == AUTO,
        isolate=isolate,
        detach=detach,
        site=site,
        slurm=tuple(slurm or ()),
        ray=tuple(ray or ()),
        address=address,
    )
    mistakes = _option_mistakes(mode, retry, threads, pack, processes_per_trial, trial_time_limit)
    launcher = _make_launcher(launcher_name, options, mistakes)
    planned = make_plan(sweep, tuple(changes or ()), data)
    folder, planned = _prepare(out_folder, planned, context, processes_per_trial, retry)
    from twinbench.harness.trial.execute import Surroundings

    surroundings = Surroundings(
        folder,
        threads=1 if threads == AUTO else int(threads),
        data=data,
        trial_time_limit=trial_time_limit,
        where=launcher_name,
        keep_log=True,
        processes=processes_per_trial,
        pack=_largest_pack() if pack == AUTO else int(pack),
        mode=mode,
        isolate=isolate,
    )
    _report(_run_stages(launcher, planned, surroundings), folder)


def _begin(out_folder: Path | None) -> None:
    """Keep running if nobody reads the output any more, and refuse a folder that cannot be a run folder."""
    from twinbench.harness.trial.output_log import keep_running_without_output
    from twinbench.results.places import check_places

    keep_running_without_output()
    if out_folder:
        check_places(out_folder)


def _run_stages(launcher: "Launcher", planned: "Plan", surroundings: "Surroundings") -> "Outcome":
    """Run the plan, then the confirm stage, whose trials are known once every trial of the grid is recorded."""
    from twinbench.harness.run_folder.confirm_stage import has_confirm_stage

    folder = surroundings.run_folder
    outcome = launcher.run(planned, surroundings, _progress_bars(folder, planned))
    is_to_come = len(planned.grid) == len(planned.trials) and has_confirm_stage(planned.trials, planned.confirm_seeds)
    if outcome.is_detached and is_to_come:
        say("once these trials are recorded, the same command starts the confirm stage")
    if outcome.stopped or outcome.is_detached:
        return outcome
    both = _with_confirm_stage(planned, folder)
    return outcome if both is planned else launcher.run(both, surroundings, _progress_bars(folder, both))


def _with_confirm_stage(planned: "Plan", folder: Path) -> "Plan":
    """Return the plan with the trials of the confirm stage, and write it, if there are any to add."""
    from twinbench.harness.run_folder.confirm_stage import with_confirmations
    from twinbench.harness.run_folder.layout import write_plan

    both = with_confirmations(planned, folder)
    if both is not planned:
        write_plan(folder, both)
        seeds, more = ", ".join(map(str, planned.confirm_seeds)), len(both.trials) - len(planned.trials)
        say(f"confirm stage: {counted(more, 'more trial')}: chosen cells on seeds {seeds}")
    return both


def _progress_bars(folder: Path, planned: "Plan") -> "ProgressBars":
    from twinbench.harness.monitor.progress_bars import ProgressBars

    return ProgressBars(folder, planned.axes, planned.trials, out())


def _prepare(
    out_folder: Path | None, planned: "Plan", context: typer.Context, processes_per_trial: int, retry: str | None
) -> "tuple[Path, Plan]":
    """Write the plan with the command, undo an earlier `cancel`, set failed trials to run again.

    Return the folder, and the plan with the confirm stage as far as its trials are known.
    """
    from twinbench.harness.commands.command_text import as_given
    from twinbench.harness.planning import check_ranks
    from twinbench.harness.run_folder.confirm_stage import with_planned_confirmations
    from twinbench.harness.run_folder.layout import launch_notes, retry_failed, undo_cancel, write_plan
    from twinbench.results.places import check_places
    from twinbench.results.record import recorded_ids

    print_left_out(planned)
    check_ranks(planned, processes_per_trial)
    folder = out_folder or Path("runs") / planned.name
    if not out_folder:  # which `_begin` has checked
        check_places(folder)
    print_damaged_launches(launch_notes(folder))
    planned = with_planned_confirmations(planned, folder)
    write_plan(folder, planned, as_given(context))
    undo_cancel(folder)
    if retry:
        say(f"{counted(retry_failed(folder, planned), 'failed trial')} will run again")
    both = _with_confirm_stage(planned, folder)
    print_other_trials(len(recorded_ids(folder).keys() - {trial.trial_id for trial in both.trials}))
    return folder, both


def _report(outcome: "Outcome", folder: Path) -> None:
    """Print how the run ended and write the report; exit with the code that says so."""
    from twinbench.harness.monitor.labels import counts_text

    if outcome.is_detached:
        say(f"twinbench status {folder} shows the progress")
        return
    say(counts_text(outcome.statuses))
    if outcome.stopped:
        say(outcome.stopped)
        raise typer.Exit(INTERRUPTED if outcome.is_interrupted else SOME_FAILED)
    from twinbench.reports.page.write import write_report

    say(f"report: {write_report(folder)}")
    if set(outcome.statuses) - {"done"}:
        raise typer.Exit(SOME_FAILED)


def _make_launcher(name: str, options: "LaunchOptions", mistakes: list[Mistake]) -> "Launcher":
    """Return the launcher of that name. InvalidInput lists `mistakes` and those that the launcher finds."""
    from twinbench.harness.launchers import local, ray, slurm

    launchers: dict[str, Callable[[LaunchOptions], Launcher]] = {
        "local": local.from_options,
        "ray": ray.from_options,
        "slurm": slurm.from_options,
    }
    mistakes += _unused(name, options)
    if name not in launchers:
        raise InvalidInput([*mistakes, unknown_name("--launcher", "launcher", name, launchers)])
    try:
        launcher = launchers[name](options)
    except InvalidInput as error:
        raise InvalidInput([*mistakes, *error.mistakes]) from None
    if mistakes:
        raise InvalidInput(mistakes)
    return launcher


def _unused(launcher: str, options: "LaunchOptions") -> list[Mistake]:
    """Return a mistake for each option that was given and that the launcher would ignore."""
    mistakes = []
    for name in UNUSED.get(launcher, ()):
        if getattr(options, name) != getattr(type(options)(), name):
            allowed = " or ".join(f"--launcher {other}" for other, unused in UNUSED.items() if name not in unused)
            mistakes.append(Mistake(f"--{name.replace('_', '-')}", "", f"is not used by {launcher}", allowed=allowed))
    return mistakes


def _option_mistakes(
    mode: str, retry: str | None, threads: str, pack: str, processes_per_trial: int, trial_time_limit: float | None
) -> list[Mistake]:
    mistakes = []
    if mode != "repro":  # the check of other modes imports torch
        from twinbench.harness.training.kernels import MODES

        mistakes += [] if mode in MODES else [unknown_name("--mode", "mode", mode, MODES)]
    if retry not in (None, "failed"):
        mistakes.append(Mistake("--retry", "", "runs failed trials again, and no others", retry, "failed"))
    if threads == AUTO and processes_per_trial > 1:
        problem = f"{AUTO} cannot be combined with --processes-per-trial"
        allowed = "a number: only trials of one process are measured"
        mistakes.append(Mistake("--threads", "", problem, processes_per_trial, allowed))
    if threads != AUTO and not _is_count(threads):
        mistakes.append(
            Mistake("--threads", "", "is not a number of threads", threads, f"1 or more, or {AUTO}; at most {MOST:,}")
        )
    return mistakes + _pack_mistakes(pack, processes_per_trial, trial_time_limit)


def _pack_mistakes(pack: str, processes_per_trial: int, trial_time_limit: float | None) -> list[Mistake]:
    if pack == "1":
        return []
    mistakes = []
    if pack != AUTO and not _is_count(pack):
        mistakes.append(
            Mistake("--pack", "", "is not a number of trials", pack, f"1 or more, or {AUTO}; at most {MOST:,}")
        )
    if processes_per_trial > 1:
        allowed = "1: a pack is several trials in one process, not one trial in several processes"
        problem = "cannot be combined with --processes-per-trial"
        mistakes.append(Mistake("--pack", "", problem, processes_per_trial, allowed))
    if trial_time_limit is not None:
        problem = "cannot be combined with --trial-time-limit"
        allowed = "none: ending a trial that hangs ends its process, and with it the whole pack"
        mistakes.append(Mistake("--pack", "", problem, trial_time_limit, allowed))
    return mistakes


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 100 and 0 < int(text) <= MOST


def _largest_pack() -> int:
    from twinbench.harness.performance.pack_size import SIZES

    return max(SIZES)
