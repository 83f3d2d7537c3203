"""docs/ARCHITECTURE.md shows the code: its drawing has the imports that there are, and the functions it names exist."""

import ast
import re

from room_graph import ROOT, mermaid

PAGE = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w/]+\.py): ([\w., ]+)`")


def test_the_drawing_has_the_rooms_and_imports_of_the_code() -> None:
    drawing = PAGE.split("```mermaid\n")[1].split("```")[0]
    assert drawing == mermaid(), "`python tests/room_graph.py` prints the drawing of today"


def test_each_function_that_it_names_exists_in_the_file_that_it_names() -> None:
    named = [(path, name.strip()) for path, names in NAMED.findall(PAGE) for name in names.split(",")]
    assert len(named) > 20
    for path, name in named:
        assert name in _definitions(path), f"{path} has no {name}"


def _definitions(path: str) -> set[str]:
    """Functions and classes at the top of a file, and methods as `Class.method`."""
    found = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found
