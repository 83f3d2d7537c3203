"""The cases of the fuzzer: a sound folder, which file of it is changed, how, and which command then reads it."""

import contextlib
import ctypes
import json
import os
import random
import signal
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import pytest
from bundling import GenuineRun, members_of, packed
from conftest import CLAIM
from fuzzing import as_json, as_toml, mutated_bytes, mutated_tree, put_in_place

from twinbench.harness import cli
from twinbench.harness.commands import bundle, options
from twinbench.harness.planning import make_plan
from twinbench.harness.run_folder.layout import write_launch, write_plan
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.sweep import shipped_protocols
from twinbench.sweeps.toml_reader import read_toml

SECONDS = 60  # no case takes one of a free machine, but its other programs may
MEMORY = 2**31  # bytes beyond what is in use; libraries reserve more than they use

SWEEP = """
question = "Which of the two is better?"
protocol = "own.toml"
seeds = [0, 1]
baselines = false
[[grids]]
methods = ["simclr", "vicreg"]
axes = { projector_width = 16, epochs = 2 }
"""
SITE = """
[slurm]
partition = "gpu"
time = "08:00:00"
gpus = 1
memory = "32GB"
setup = ["module load cuda"]
sbatch = { licenses = "scratch" }
[ray]
gpus = 0.5
labels = { region = "eu" }
"""
CLAIMS = CLAIM.replace("synthetic", "own").replace("byol", "vicreg").replace("BYOL", "VICReg")
TABLE = "method,linear top-1,n\nSimCLR,75.0 ± 1.0,2\nVICReg,70.0,2\n"
LATEX = r"\begin{tabular}{lr} Method & linear \\ \midrule SimCLR & 75.0 \\ VICReg & $70.0 \pm 1.0$ \\ \end{tabular}"
EVERYTHING = """
SELECT 'trial' AS kind, trial_id AS name, status, name || ' ' || split AS metric, value
FROM trials LEFT JOIN metrics USING (trial_id)
UNION ALL SELECT 'set aside', file, reason, '', NULL FROM set_aside ORDER BY ALL
"""
# TRIAL stands for the trial that the changed file belongs to, or for any.
COMMANDS = {
    "query": ("query", "run", EVERYTHING, "--format", "json"),
    "status": ("status", "run"),
    "collect": ("collect", "run"),
    "merge": ("merge", "run", "--out", "merged"),
    "check": ("check", "claims.toml", "run", "--format", "json"),
    "declare": ("claim", "declare", "claims.toml", "run"),
    "log": ("claim", "log", "run"),
    "logs": ("logs", "run", "TRIAL"),
    "report": ("report", "run"),
    "bundle": ("bundle", "run", "--out", "new.tar.gz"),
    "plan": ("plan", "sweep.toml", "--out", "run", "--claims", "claims.toml"),
    "cancel": ("cancel", "run"),
    "fresh": ("plan", "sweep.toml", "--out", "new"),
    "show": ("protocol", "show", "own.toml"),
    "lock": ("protocol", "lock", "own.toml"),
    "diff": ("protocol", "diff", "own.toml", "digits-small"),
    "slurm": ("run", "nothing", "--launcher", "slurm", "--site", "site.toml"),
    "ray": ("run", "nothing", "--launcher", "ray", "--site", "site.toml"),
    "trace": ("check", "--table", "table.csv", "run"),
    "latex": ("check", "--table", "table.tex", "run"),
    "verify": ("verify", "run.tar.gz", "--level", "render"),
}
READERS = (
    "query " * 9 + "status " * 9 + "merge " * 5 + "logs logs collect collect check check plan declare bundle report "
)
# Of each format: how many cases, the file as a pattern, and the commands, each as often as it stands there.
FORMATS = {
    "record": (300, "run/records/*.json", READERS),
    "plan": (240, "run/plan.json", READERS + "cancel"),
    "attempt": (120, "run/trials/*/*.json", "status " * 9 + "logs " * 4 + "merge merge check check bundle"),
    "log": (30, "run/trials/*/*.log", "logs " * 6 + "status merge bundle"),
    "curves": (80, "run/artefacts/*.json", "query " * 6 + "merge " * 4 + "check check report bundle"),
    "outputs": (60, "run/artefacts/*.safetensors", "query " * 4 + "merge " * 4 + "check " * 3 + "bundle"),
    "declarations": (
        120,
        "run/declarations.jsonl",
        "log " * 8 + "declare " * 4 + "merge merge check bundle",
    ),
    "launch": (80, "run/launches/**/*.json", "status " * 4 + "cancel merge"),
    "command": (30, "run/commands/*.json", "status merge query"),
    "carried": (80, "run/claims.toml", "declare " * 10 + "merge merge bundle"),
    "folder": (140, "run/*/", READERS),
    "database": (40, "run/results.duckdb", "query query collect check"),
    "bundle": (40, "run.tar.gz", "verify"),
    "sweep": (200, "sweep.toml", "fresh"),
    "protocol": (200, "own.toml", "show show lock diff fresh"),
    "locked": (40, "protocols.lock", "show lock fresh"),
    "site": (100, "site.toml", "slurm ray"),
    "claims": (120, "claims.toml", "check declare plan"),
    "table": (20, "table.csv", "trace"),
    "tex": (20, "table.tex", "latex"),
}


# --- the sound folder -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sound:
    """A folder with a run of some trials, of which one has no record, its claims, and input files of every kind."""

    folder: Path
    rows: list[dict[str, Any]]  # that EVERYTHING gives


@contextlib.contextmanager
def sound_folder() -> Iterator[Sound]:
    """Yield a sound folder, in memory if possible: most of a case's time went into making and deleting files."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as place:
        folder, cache = Path(place, "sound"), Path(place, "cache")
        folder.mkdir()
        with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
            patch.setenv("TWINBENCH_CACHE", str(cache))
            _fill(folder)
            rows = json.loads(call(*COMMANDS["query"]).out)
        for path in (Path(place), cache, *cache.rglob("*")):  # another user may enter and read
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield Sound(folder, rows)


def _fill(folder: Path) -> None:
    own = read_toml(shipped_protocols()["digits-small"]) | {"name": "own"}
    texts = {"own.toml": as_toml(own), "sweep.toml": SWEEP, "site.toml": SITE, "claims.toml": CLAIMS}
    for name, text in (texts | {"table.csv": TABLE, "table.tex": LATEX}).items():
        (folder / name).write_text(text)
    planned = make_plan("sweep.toml", (), None)
    write_plan(folder / "run", planned, "twinbench run sweep.toml")
    run = GenuineRun(folder / "run", planned.protocol, planned.trials)
    for trial in planned.trials[:-1]:
        run.record(trial)
        (folder / f"run/trials/{trial.trial_id}/attempt-0001.log").write_text("epoch 1\n")
    run.attempt(planned.trials[-1], "interrupted", epoch=1, step=10, steps=100)
    write_launch(folder / "run", "7", {"launcher": "slurm", "job_id": "7", "name": "twinbench-7"})
    write_launch(folder / "run", "last-words/7", {"words": "out of memory"})
    for command in ("declare", "lock"):
        assert (done := call(*COMMANDS[command])).code == 0 and not done.crash, done
    assert (done := call("bundle", "run", "--out", "run.tar.gz")).code == 0 and not done.crash, done


# --- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """How a command ended: with a code, or with the text of an exception."""

    code: int
    out: str
    err: str
    crash: str = ""


class Hung(BaseException):
    """A command that did not end: nothing but this test may catch it."""


def call(*arguments: str) -> Done:
    """Run a command in this process, with bounds on its time and memory. The dataset cache is beside its folder."""
    with _output() as out, _output() as err:
        with pytest.MonkeyPatch.context() as patch, _bounded():
            patch.setenv("TWINBENCH_CACHE", str(Path.cwd().with_name("cache")))
            for module in (bundle, options):  # this process has threads, with which a fork may hang
                patch.setattr(module, "within_bounds", lambda work, *_: work())
            for name, value in {"argv": ["twinbench", *arguments], "stdout": out, "stderr": err}.items():
                patch.setattr(sys, name, value)
            options.out.cache_clear()
            code, crash = _end_of_main()
        return Done(code, _text_of(out), _text_of(err), crash)


def _end_of_main() -> tuple[int, str]:
    """Run the command line; return its exit code, and the end of a traceback if there is one."""
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0), ""
    except BaseException as error:
        return 1, "".join(traceback.format_exception(error)[-3:])
    return 0, ""


def _output() -> TextIO:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace")


def _text_of(output: TextIO) -> str:
    output.flush()
    output.seek(0)
    return output.read()


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    import resource

    def too_long(_: int, __: FrameType | None) -> None:
        raise Hung(f"not ended after {SECONDS} s")

    limits = resource.getrlimit(resource.RLIMIT_DATA)
    in_use = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (in_use + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def without_roots_rights() -> Iterator[None]:
    """Obey the permissions of files, as root does not: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.

    Another uid would do too, if it could read the package: a checkout is often below a folder of root's own.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capset(2): version 3, this thread
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same of the capabilities from 32 on
    if libc.capget(header, rights):
        raise OSError(ctypes.get_errno(), "capget")
    effective = rights[0]
    rights[0] = effective & ~0b110
    libc.capset(header, rights)
    try:
        yield
    finally:
        rights[0] = effective
        libc.capset(header, rights)


# --- cases ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One change of one file, and one command that reads it."""

    format: str
    number: int
    file: str
    change: str
    command: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"FUZZ={self.format}-{self.number}: {self.file}: {self.change}; {self.command}"

    @property
    def is_mended(self) -> bool:
        """Whether the digests fit the changed content, so that it is another sound file."""
        return self.change.endswith("mended")

    def run(self) -> Done:
        """Run its command; where a file may not be read, without root's right to read everything."""
        with without_roots_rights() if self.change.startswith("no permission") else contextlib.nullcontext():
            return call(*self.arguments)


def make_case(folder: Path, name: str, number: int) -> Case:
    """Change one file in `folder` as the number says."""
    rng = random.Random(f"{name}-{number}")
    _, pattern, commands = FORMATS[name]
    file = rng.choice(sorted(folder.glob(pattern)))
    command = rng.choice(commands.split())
    trial = file.parent if "trials" in file.parent.parts else rng.choice(sorted(folder.glob("run/trials/*/")))
    way = rng.choice(("tree", "tree", "tree", "bytes", "bytes", "place")) if file.is_file() else "place"
    change = put_in_place(file, rng) if way == "place" else _changed(file, way, rng)
    arguments = tuple(trial.name if part == "TRIAL" else part for part in COMMANDS[command])
    return Case(name, number, str(file.relative_to(folder)), change, command, arguments)


def _changed(file: Path, way: str, rng: random.Random) -> str:
    """Change the content of a file; half of the records get digests that fit, as a careful forger would see to."""
    data = file.read_bytes()
    if file.suffix == ".gz" and way == "tree":
        return _changed_member(file, rng)
    if file.suffix in (".toml", ".json", ".lock") and way == "tree":
        change, data = _changed_tree(file.name, data, rng)
    else:
        change, data = mutated_bytes(data, rng)
    if file.parent.name == "records" and rng.random() < 0.5:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            record = json.loads(data)
            data = as_json(record | {"result_digest": digest(record["result"])}).encode()
            change += ", digest mended"
    file.write_bytes(data)
    return change


def _changed_tree(name: str, data: bytes, rng: random.Random) -> tuple[str, bytes]:
    if name.endswith(".toml"):
        return mutated_tree(tomllib.loads(data.decode()), rng, as_toml)
    return mutated_tree({"": json.loads(data)}, rng, lambda tree: as_json(tree.get("", tree)))


def _changed_member(bundle: Path, rng: random.Random) -> str:
    """Change a member of a bundle, whose manifest matches it."""
    members = members_of(bundle)
    name = rng.choice(sorted(members))
    is_tree = name.endswith((".json", ".toml"))
    change, members[name] = _changed_tree(name, members[name], rng) if is_tree else mutated_bytes(members[name], rng)
    packed(members, bundle, mend=name != "MANIFEST.json")
    return f"{name}: {change}"
