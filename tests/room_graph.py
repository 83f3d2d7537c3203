"""The import graph of the code, read from its text. `python tests/room_graph.py` prints the architecture as a drawing.

A room is a top-level folder or, within `reports/` and `harness/`, a folder or file there: `harness/training`.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOP = ("methods", "sweeps", "results", "reports", "harness")
DIVIDED = ("reports", "harness")  # their folders are rooms of their own


@cache
def modules() -> dict[str, Path]:
    """Each module's dotted name, without `twinbench.`, and its file."""
    files = [path for room in TOP for path in sorted((ROOT / room).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports(path: Path, top_level_only: bool = False) -> list[str]:
    """Dotted names of what a file imports; of `from a import b` both `a` and `a.b`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = []
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return names


@cache
def module_graph() -> dict[str, frozenset[str]]:
    """For each module the modules of twinbench that it imports, at its top or inside a function."""
    graph = {}
    for module, path in modules().items():
        ours = [name.removeprefix("twinbench.") for name in imports(path) if name.startswith("twinbench.")]
        graph[module] = frozenset(name for name in ours if name in modules()) - {module}
    return graph


def room(module: str) -> str:
    """The room of a module: `harness/training` of `harness.training.loop`, `sweeps` of `sweeps.trial`."""
    parts = module.split(".")
    return "/".join(parts[:2]) if parts[0] in DIVIDED else parts[0]


@cache
def room_graph() -> dict[str, frozenset[str]]:
    """For each room the rooms that its modules import."""
    graph: dict[str, set[str]] = {}
    for module, imported in module_graph().items():
        if module not in DIVIDED:
            graph.setdefault(room(module), set()).update(room(name) for name in imported if name not in DIVIDED)
    return {name: frozenset(imported - {name}) for name, imported in graph.items()}


def reduced(graph: dict[str, frozenset[str]]) -> dict[str, list[str]]:
    """The graph without the arrows that a longer way replaces. It needs a graph without circles."""

    @cache
    def reachable(name: str) -> frozenset[str]:
        return graph[name].union(*(reachable(other) for other in graph[name]))

    return {
        name: sorted(other for other in imported if not any(other in reachable(step) for step in imported - {other}))
        for name, imported in graph.items()
    }


def mermaid() -> str:
    """The rooms and who imports whom, as a Mermaid flowchart."""
    lines = ["flowchart TD"]
    for top in TOP:
        inner = sorted(name for name in room_graph() if name.startswith(f"{top}/"))
        if inner:
            lines += [f"    subgraph {top}/", *(f"        {name}[{name.split('/')[1]}]" for name in inner), "    end"]
    arrows = sorted((name, other) for name, others in reduced(room_graph()).items() for other in others)
    return "\n".join([*lines, *(f"    {name} --> {other}" for name, other in arrows)]) + "\n"


if __name__ == "__main__":
    print(mermaid(), end="")
