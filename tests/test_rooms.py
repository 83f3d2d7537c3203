"""The rooms import each other in the directions of the design, never by bare folder names, and are all packaged."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("methods", "sweeps", "results", "reports", "harness")
MAY_IMPORT = {
    "methods": set(),
    "sweeps": set(),
    "results": {"sweeps"},
    "reports": {"results", "sweeps"},
    "harness": {"methods", "sweeps", "results", "reports"},
}
# within the harness, each knows only those before it
HARNESS_ORDER = ("data", "training", "evaluation", "launchers")
TORCH_FREE = ("sweeps", "results", "reports")
LAZY = ("ray", "submitit", "duckdb", "plotly", "matplotlib")  # a machine that trains may have none of them


def _imports(path: Path, top_level_only: bool = False) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
    return names


def _files(room: str) -> list[Path]:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    return files


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_before_it(room: str) -> None:
    for path in _files(room):
        for name in _imports(path):
            first, _, rest = name.partition(".")
            assert first not in (*ROOMS, "tests"), f"{path}: bare import of {name}"
            if first == "twinbench":
                assert rest.split(".")[0] in MAY_IMPORT[room] | {room}, f"{path} imports {name}"


def test_harness_rooms_know_only_those_before_them() -> None:
    for number, part in enumerate(HARNESS_ORDER):
        for path in _files(f"harness/{part}"):
            for name in _imports(path):
                words = name.split(".")
                if words[:2] == ["twinbench", "harness"] and words[2] in HARNESS_ORDER:
                    assert HARNESS_ORDER.index(words[2]) <= number, f"{path} imports {name}"


@pytest.mark.parametrize("room", TORCH_FREE)
def test_rooms_that_read_results_do_without_torch(room: str) -> None:
    for path in _files(room):
        assert not [name for name in _imports(path) if name.split(".")[0] in ("torch", "torchvision", "timm")], path


@pytest.mark.parametrize(
    "room", ["methods", "sweeps", "harness", "harness/data", "harness/training", "harness/evaluation"]
)
def test_what_trains_imports_no_database_plot_or_cluster_library_at_the_top(room: str) -> None:
    for path in sorted((ROOT / room).glob("*.py")):
        assert not [name for name in _imports(path, top_level_only=True) if name.split(".")[0] in LAZY], path


def test_every_folder_of_code_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert {str(folder) for folder in folders} == set(settings["package-dir"].values())
    assert set(settings["packages"]) == set(settings["package-dir"])
