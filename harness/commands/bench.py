"""`twinbench bench`: measure this machine in about two minutes, for the estimates of `plan` and `run --pack auto`."""

import errno
import os
from collections import Counter
from typing import TYPE_CHECKING

import typer

from twinbench.harness.system.user_cache import cache_errors
from twinbench.sweeps.errors import counted, printable

if TYPE_CHECKING:
    from twinbench.harness.performance.measurements import Machine, Measurement, Shape

THREADS = 1  # of a trial, the default of `run`
ROW = "{:<44} {:>5} {:>10} {:>9}"


def bench() -> None:
    """Measure matrix products, memory copies, views, training steps and packs on this machine, in two minutes."""
    from twinbench.harness.performance.bench import LeftOut, packs
    from twinbench.harness.performance.measurements import measurement_file, store, store_packs, this_machine
    from twinbench.harness.system.devices import choose_devices

    device = choose_devices("auto")[0]
    machine = this_machine(device, THREADS)
    file, stored = measurement_file(machine), "nothing"
    try:
        with cache_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(file.parent, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        cores, threads = counted(machine.cores, "core"), counted(machine.threads, "thread")
        typer.echo(f"{machine.device}: {cores}, {threads} per trial, torch {machine.torch}")
        found = measured(device, machine)
        with cache_errors(file):
            store(found)
        stored = "everything but packs"
        for packed in packs(device, found):
            name = f"{shape_text(packed.shape)}, batch {packed.batch_size}"
            if isinstance(packed, LeftOut):
                typer.echo(f"{name}: {packed.reason}")
                continue
            with cache_errors(file):
                store_packs(machine, packed)
            stored = "everything but some packs"
            best = min(packed.seconds, key=packed.seconds.__getitem__)
            gain = packed.seconds[1] / packed.seconds[best]
            typer.echo(f"{name}: packs of {best} are {gain:.2f} times as fast as one trial after another")
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {stored} is stored", err=True)
        raise
    typer.echo(printable(f"stored for `twinbench plan` and `run --pack auto`: {file}"))


def measured(device_name: str, machine: "Machine") -> "Measurement":
    """Measure everything but packs, printing each number as it is measured."""
    import torch

    from twinbench.harness.performance.bench import (
        copy_gigabytes_per_second,
        gemm_gflops,
        training_steps,
        views_per_second,
    )
    from twinbench.harness.performance.measurements import Measurement, TrainingStep
    from twinbench.harness.run_folder.leases import now
    from twinbench.harness.system.memory import keep_freed_memory
    from twinbench.harness.training.kernels import REPRO, choose_kernels

    device = torch.device(device_name)
    torch.set_num_threads(machine.threads)
    keep_freed_memory()  # as a worker does
    choose_kernels(REPRO)
    gflops = gemm_gflops(device)
    typer.echo("".join(f"product in {dtype}: {value:,.0f} GFLOP/s\n" for dtype, value in gflops.items()), nl=False)
    copied = copy_gigabytes_per_second(device)
    typer.echo(f"copy: {copied:,.0f} GB/s, read and written")
    views = views_per_second(device)
    typer.echo(f"views of 32 pixels: {views:,.0f} per second")
    steps, left_out = [], []
    typer.echo(ROW.format("a training step of", "batch", "ms", "images/s"))
    for one in training_steps(device, max(gflops.values())):
        if isinstance(one, TrainingStep):
            steps.append(one)
            ms, rate = f"{1000 * one.seconds:,.1f}", f"{one.images_per_second:,.0f}"
            typer.echo(ROW.format(shape_text(one.shape), one.batch_size, ms, rate))
        else:
            left_out.append(one)
    for reason, count in Counter(f"{one.shape['backbone']['name']}: {one.reason}" for one in left_out).items():
        typer.echo(f"{counted(count, 'measurement')} left out: {reason}")
    return Measurement(machine, now(), gflops, copied, views, tuple(steps))


def shape_text(shape: "Shape") -> str:
    """Return a training step's shape in words."""
    return f"{shape['backbone']['name']} at {shape['image_size']} px, {shape['method']}"
