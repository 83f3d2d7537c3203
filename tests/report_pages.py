"""Report pages as tests look at them."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from twinbench.reports.page.write import write_report

HOSTILE = "<script>alert(1)</script>$&%_{}"


class Page(HTMLParser):
    """Tags with their attributes, the text outside scripts, and the scripts apart."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self._open: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open = dict(attributes) if tag == "script" else None

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open is None:
            self.text += data
        else:
            self.scripts.append((self._open, data))

    def figures(self) -> list[dict]:
        return [
            json.loads(text) for attributes, text in self.scripts if (attributes.get("id") or "").endswith("-figure")
        ]

    def data(self, id: str) -> Any:
        """The JSON of one element."""
        (found,) = [json.loads(text) for attributes, text in self.scripts if attributes.get("id") == id]
        return found


def report(run) -> Page:
    return Page(write_report(run.folder).read_text("utf-8"))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
