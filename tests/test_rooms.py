"""The rooms import each other in the directions of the design, without circles, and never by bare folder names."""

import ast
import re
import shutil
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from room_graph import ROOT, TOP, imports, module_graph, modules

from twinbench.harness.system import provenance

MAY_IMPORT: dict[str, set[str]] = {
    "methods": set(),
    "sweeps": set(),
    "results": {"sweeps"},
    "reports": {"results", "sweeps"},
    "harness": {"methods", "sweeps", "results", "reports"},
}
# Within these rooms, each folder or file may import only those before it.
ORDER = {
    "reports": (
        "latex",
        "statistics",
        "tables",
        "figures",
        "claims",
        "rules",
        "verdicts",
        "table_check",
        "page",
        "paper",
        "verification",
        "export",
        "notebook",
    ),
    "harness": (
        "system",
        "data",
        "training",
        "evaluation",
        "schemas",
        "planning",
        "run_folder",
        "trial",
        "performance",
        "monitor",
        "launchers",
        "commands",
        "cli",
    ),
}
TORCH_FREE = ("sweeps", "results", "reports")
TORCH = ("torch", "torchvision", "timm")
LAZY = ("ray", "submitit", "duckdb", "plotly", "matplotlib")  # a machine that trains may have none of them


def test_no_module_is_imported_by_its_bare_folder_name() -> None:
    for path in modules().values():
        assert not [name for name in imports(path) if name.split(".")[0] in (*TOP, "tests")], path


@pytest.mark.parametrize("room", TOP)
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    for module, imported in module_graph().items():
        if module.split(".")[0] == room:
            wrong = {name for name in imported if name.split(".")[0] not in MAY_IMPORT[room] | {room}}
            assert not wrong, f"{module} imports {wrong}"


@pytest.mark.parametrize("room", ORDER)
def test_a_folder_of_a_room_imports_only_those_before_it(room: str) -> None:
    order = ORDER[room]
    for module, imported in module_graph().items():
        if not module.startswith(f"{room}."):
            continue
        place = order.index(module.split(".")[1])  # a folder that has no place yet fails here
        for name in imported:
            if name.startswith(f"{room}."):
                assert order.index(name.split(".")[1]) <= place, f"{module} imports {name}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    # A package's own __init__ is left out: importing any of its modules imports it.
    packages = {module for module, path in modules().items() if path.name == "__init__.py"}
    TopologicalSorter({module: imported - packages for module, imported in module_graph().items()}).prepare()


@pytest.mark.parametrize("room", TORCH_FREE)
def test_rooms_that_read_results_do_without_torch(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert not [name for name in imports(path) if name.split(".")[0] in TORCH], path


def test_only_verify_compares_results_with_the_clock() -> None:
    """Equal records give equal output on any day: what reads, judges or shows results does not ask what day it is."""
    clock = re.compile(r"\b(datetime\.now|utcnow|today|time\.time|time\.time_ns)\(")
    files = [path for room in ("results", "reports") for path in (ROOT / room).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if clock.search(path.read_text(encoding="utf-8"))}
    assert found == {"reports/verification/integrity.py"}


def test_what_computes_imports_no_database_plot_or_cluster_library_at_the_top() -> None:
    for path in _hashed().values():
        assert not [name for name in imports(path, top_level_only=True) if name.split(".")[0] in LAZY], path


def _hashed() -> dict[str, Path]:
    """The modules that the code hash covers."""
    parts = [ROOT / part for part in provenance.COMPUTES]
    assert all(part.exists() for part in parts)
    return {name: path for name, path in modules().items() if {path, *path.parents} & set(parts)}


def test_what_computes_a_number_imports_nothing_outside_the_code_hash() -> None:
    hashed = _hashed()
    assert {"methods.byol", "sweeps.trial", "harness.data.images", "harness.trial.execute"} <= hashed.keys()
    for module in hashed:
        packages = {module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)}
        outside = (module_graph()[module] | packages) - hashed.keys()
        assert not outside, f"{module} imports {outside}, which the code hash does not cover"


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("reports/latex.py", False),
        ("results/record.py", False),
        ("harness/commands/plan.py", False),
        ("harness/launchers/local.py", False),
        ("harness/run_folder/leases.py", False),
        ("harness/trial/worker.py", False),
        ("methods/byol.py", True),
        ("sweeps/trial.py", True),
        ("harness/system/memory.py", True),
        ("harness/data/images.py", True),
        ("harness/training/loop.py", True),
        ("harness/evaluation/knn.py", True),
        ("harness/trial/execute.py", True),
    ],
)
def test_a_comment_changes_the_code_hash_only_where_numbers_are_computed(
    file: str, changes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in TOP:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    before = provenance.code_hash.__wrapped__(), provenance.package_hash.__wrapped__()
    with (tmp_path / file).open("a", encoding="utf-8") as opened:
        opened.write("# A comment.\n")
    after = provenance.code_hash.__wrapped__(), provenance.package_hash.__wrapped__()
    assert (before[0] != after[0]) is changes
    assert before[1] != after[1]


def test_every_folder_of_code_says_in_a_line_what_it_is_for() -> None:
    for folder in {path.parent for path in modules().values()}:
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        assert (ast.get_docstring(ast.parse(text)) or "").strip(), f"{folder}/__init__.py has no docstring"


@pytest.mark.parametrize("room", TOP)
def test_the_package_holds_a_link_to_each_room(room: str) -> None:
    assert (ROOT / ".src" / "twinbench" / room).resolve() == ROOT / room
