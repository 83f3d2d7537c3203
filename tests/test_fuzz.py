"""Claim: whatever a file holds, a command ends with a right result or with an error that names the file.

Each case changes one file of a sound run folder, or one input file, and runs one command on it, in this process.
A failure prints the recipe of its case. `FUZZ=record-17 pytest tests/test_fuzz.py -n 0` runs case 17 of the records
alone; `FUZZ_TIMES=10` runs ten times as many cases.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz_cases import FORMATS, Case, Sound, copy_of, make_case, sound_folder
from fuzz_commands import COMMANDS, Done, call

LINES, CHARACTERS = 51, 220_000  # of an error: 50 mistakes, and one line that counts the rest
BEGINNINGS = ("error: ", "run/results.duckdb: ")  # of its lines; what was done about a damaged database is said, too
AT_ONCE = 20  # cases of a test
TIMES = int(os.environ.get("FUZZ_TIMES", "1"))


def slices() -> list[Any]:
    """Return the formats with the numbers of their cases, some at a time; the first of each are quick tests."""
    if chosen := os.environ.get("FUZZ"):
        name, _, number = chosen.partition("-")
        return [pytest.param(name, range(int(number), int(number) + 1))]
    counts = {name: count * TIMES for name, (count, _, _) in FORMATS.items()}
    return [
        pytest.param(name, range(first, min(first + AT_ONCE, count)), marks=[pytest.mark.slow] if first else [])
        for name, count in counts.items()
        for first in range(0, count, AT_ONCE)
    ]


@pytest.fixture(scope="session")
def sound() -> Iterator[Sound]:
    with sound_folder() as made:
        yield made


@pytest.mark.parametrize(("name", "numbers"), slices(), ids=lambda value: str(getattr(value, "start", value)))
def test_a_command_ends_with_a_right_result_or_a_clean_error_whatever_a_file_holds(
    name: str, numbers: range, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = []
    for number in numbers:
        folder = copy_of(sound, f"{name}-{number}")
        monkeypatch.chdir(folder)
        case = make_case(folder, name, number)
        if problem := fault(case, case.run(), sound):
            faults.append(f"{case}\n{problem}")
        shutil.rmtree(folder)
    assert not faults, f"{len(faults)} of {len(numbers)}\n\n" + "\n\n".join(faults)


def test_every_command_ends_well_in_the_sound_folder(sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_of(sound, "unchanged")
    monkeypatch.chdir(folder)
    for name, arguments in COMMANDS.items():
        trial = next((folder / "run/trials").iterdir()).name
        done = call(*(trial if part == "TRIAL" else part for part in arguments))
        assert not done.crash and "set aside" not in done.out, done
        assert (done.code, done.err) in ((0, ""), (1, "")) or name in ("slurm", "ray"), (name, done)


# --- what is accepted -------------------------------------------------------------------------------------------------


def fault(case: Case, done: Done, sound: Sound) -> str:
    """Return what is wrong with how a command ended; empty if it is a clean error or a right result."""
    if done.crash:
        return done.crash
    printed = done.err if case.command in ("logs", "query", "check", "page") else done.err + done.out
    if any(not (c.isprintable() or c == "\n") for c in printed):
        return f"control characters: {printed!r:.500}"
    if done.code == 2:
        return _unclean(case, done)
    if done.code not in (0, 1):
        return f"exit code {done.code}: {done.err}"
    results = {"query": _wrong_rows, "merge": _wrong_merge, "check": _wrong_verdict, "report": _wrong_page}
    return results[case.command](case, done, sound) if case.command in results else ""


def _unclean(case: Case, done: Done) -> str:
    """Return why an error is not clean: it must name the file, and say what is wrong in a few lines."""
    lines = done.err.splitlines()
    if not lines or not all(line.startswith(BEGINNINGS) and len(line) > 20 for line in lines):
        return f"not a clean error: {done.err!r:.500}"
    if len(lines) > LINES or len(done.err) > CHARACTERS:
        return f"too long an error: {len(lines)} lines, {len(done.err)} characters: {done.err:.300}"
    if case.format == "site" and lines[0].startswith("error: sweep 'nothing': no such sweep"):
        return ""  # the site file is accepted, and the command ends before it asks for a cluster
    named = (Path(case.file).name, case.file.split("/")[0])
    if case.format in ("sweep", "protocol") and any(text in lines[0] for text in ("cannot be read", "is locked with")):
        return ""  # names the protocol's file or the lock, which the file leads to
    return "" if any(name in done.err for name in named) else f"does not name the file: {done.err:.500}"


def _wrong_rows(case: Case, done: Done, sound: Sound) -> str:
    """No number changes whose record has its digest, and no record is lost without being set aside."""
    after = json.loads(done.out)
    touched = Path(case.file).stem if case.format == "record" else ""
    for row in [row for row in after if row["kind"] == "trial" and row["status"] != "missing"]:
        if row not in sound.rows and not (row["name"] == touched and case.is_mended):
            return f"not recorded: {row}"
    shown = {row["name"].removeprefix("records/").removesuffix(".json") for row in after}
    lost = {path.stem for path in Path("run/records").glob("[!.]*")} - shown
    return f"neither shown nor set aside: {lost}" if lost else ""


def _wrong_merge(case: Case, done: Done, sound: Sound) -> str:
    """Every record is merged as it is, or named."""
    for record in Path("run/records").glob("[!.]*"):
        merged = Path("merged/records", record.name)
        if not (merged.read_bytes() == record.read_bytes() if merged.exists() else record.name in done.out):
            return f"{record.name} is neither merged nor named: {done.out}"
    return ""


def _wrong_verdict(case: Case, done: Done, sound: Sound) -> str:
    """A damaged file supports no claim that the sound folder leaves open."""
    words = [one["verdict"] for one in json.loads(done.out)["verdicts"]]
    return f"supported: {words}" if not case.is_mended and any(word.startswith("SUPPORTED") for word in words) else ""


def _wrong_page(case: Case, done: Done, sound: Sound) -> str:
    """The page names every file that was set aside."""
    page = Path("run/report/index.html").read_text("utf-8")
    rows = json.loads(call(*COMMANDS["query"]).out)
    aside = [row["name"] for row in rows if row["kind"] == "set aside"]
    return "".join(f"{file} is not on the page" for file in aside if file not in page)
