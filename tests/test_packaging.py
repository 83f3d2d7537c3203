"""The wheel holds what the package needs at run time and nothing else; the README's examples work."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from twinbench.harness.planning import check
from twinbench.sweeps.sweep import read_sweep

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_wheel_and_source_archive_hold_code_protocols_sweeps_templates_and_sql_under_one_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)  # a build leaves files beside the code
    command = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(source)]  # the wheel from the archive
    subprocess.run(command, check=True, capture_output=True)
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True).stdout
    rooms = ("methods/", "sweeps/", "results/", "reports/", "harness/")
    wanted = {f"twinbench/{name}" for name in tracked.split() if name.startswith(rooms)}
    wanted |= {"twinbench/COMMIT", "twinbench/build_backend.py"}
    (wheel,) = tmp_path.glob("*.whl")
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} == wanted
    head = subprocess.run(["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    assert zipfile.ZipFile(wheel).read("twinbench/COMMIT").decode() == head.strip()  # which records of this wheel name
    assert not (source / ".src/twinbench/COMMIT").exists()
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        files = {member.name for member in archive if member.isfile()}
    assert wanted == {name.split("/.src/")[1] for name in files if "/.src/twinbench/" in name}


@pytest.mark.slow
def test_a_type_checker_sees_an_editable_install(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text("from twinbench.sweeps.sweep import expand\nexpand(1)\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "user.py"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert 'Argument 1 to "expand" has incompatible type "int"; expected "Sweep"' in printed


def test_the_readme_gives_exactly_two_commands_to_start_with() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Two commands")[1].split("\n## ")[0]
    lines = section.split("```sh\n")[1].split("```")[0].splitlines()
    assert len(lines) == 2 and all(line.startswith("python3 -m venv .venv && ") for line in lines)


def test_links_in_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [part.split(")")[0] for part in text.split("](")[1:]]
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


def test_the_sweep_in_the_readme_passes_every_check(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    sweep, protocol, path = read_sweep(str(tmp_path / "mine.toml"))
    assert len(check(sweep, protocol, str(path))) == 6
