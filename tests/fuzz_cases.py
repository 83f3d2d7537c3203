"""The cases of the fuzzer: a sound folder, which file of it is changed, how, and which command then reads it."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bundling import GenuineRun, members_of, packed
from conftest import CLAIM
from fuzz_commands import COMMANDS, Done, call, without_roots_rights
from fuzzing import as_json, as_toml, mutated_bytes, mutated_tree, put_in_place

from twinbench.harness.planning import make_plan
from twinbench.harness.run_folder.layout import write_launch, write_plan
from twinbench.results.store import DATABASE, DIGEST, mark
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.sweep import shipped_protocols
from twinbench.sweeps.toml_reader import read_toml

SWEEP = """
question = "Which of the two is better?"
protocol = "own.toml"
seeds = [0, 1]
baselines = false
[[grids]]
methods = ["simclr", "vicreg"]
axes = { projector_width = 16, epochs = 2 }
[[deviations]]
key = "training.warmup_epochs"
value = 1.0
reason = "Of two epochs, one is enough."
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
    "followed": (160, "run/*s/**/*.*", "page"),
    "planned": (40, "run/plan.json", "page"),
    "printed": (40, "run/*s/*.json", "paper exported exported exported"),
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
        Path(place, "tmp").mkdir()
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


def copy_of(sound: Sound, name: str) -> Path:
    """Return a copy of the sound folder, in which the database is still the one that was written there."""
    folder = sound.folder.with_name(name)
    shutil.copytree(sound.folder, folder, copy_function=shutil.copyfile)
    database = folder / "run" / DATABASE
    (database.with_name(DIGEST)).write_bytes(mark(database, hashlib.sha256(database.read_bytes()).hexdigest()))
    return folder


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
    is_mended = rng.random() < 0.5
    if file.parent.name == "records" and is_mended:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            data = _with_its_digest(json.loads(data))
            change += ", digest mended"
    file.write_bytes(data)
    if file.parent.name == "artefacts" and is_mended:
        _give_its_digest(file, data)
        change += ", digests mended"
    return change


def _with_its_digest(record: Any) -> bytes:
    return as_json(record | {"result_digest": digest(record["result"])}).encode()


def _give_its_digest(artefact: Path, data: bytes) -> None:
    """Call the artefact by the digest of its new content, in the records that name it, too."""
    old, new = artefact.stem, hashlib.sha256(data).hexdigest()
    artefact.rename(artefact.with_stem(new))
    for path in (artefact.parents[1] / "records").glob("*.json"):
        text = path.read_text("utf-8")
        if old in text:
            path.write_bytes(_with_its_digest(json.loads(text.replace(old, new))))


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
