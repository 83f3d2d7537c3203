"""The rooms import each other in the directions of the design, without circles, and never by bare folder names."""

import ast
from graphlib import TopologicalSorter

import pytest
from room_graph import ROOT, TOP, imports, module_graph, modules

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
TRAINS = ("methods", "sweeps", "harness/system", "harness/data", "harness/training", "harness/evaluation")


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


@pytest.mark.parametrize("room", TRAINS)
def test_what_trains_imports_no_database_plot_or_cluster_library_at_the_top(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert not [name for name in imports(path, top_level_only=True) if name.split(".")[0] in LAZY], path


def test_every_folder_of_code_says_in_a_line_what_it_is_for() -> None:
    for folder in {path.parent for path in modules().values()}:
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        assert (ast.get_docstring(ast.parse(text)) or "").strip(), f"{folder}/__init__.py has no docstring"


@pytest.mark.parametrize("room", TOP)
def test_the_package_holds_a_link_to_each_room(room: str) -> None:
    assert (ROOT / ".src" / "twinbench" / room).resolve() == ROOT / room
