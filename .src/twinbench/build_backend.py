"""setuptools, which also packs the commit into wheels and source archives: no .git is installed with a package."""

import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  all that an installer may call

COMMIT = Path(".src/twinbench/COMMIT")  # below the root, where builds run; harness/system/provenance.py reads it


def build_wheel(*arguments: Any) -> Any:
    """Build a wheel; PEP 517 has the arguments."""
    with _commit_in_file():
        return build_meta.build_wheel(*arguments)


def build_sdist(*arguments: Any) -> Any:
    """Build a source archive; PEP 517 has the arguments."""
    with _commit_in_file():
        return build_meta.build_sdist(*arguments)


@contextmanager
def _commit_in_file() -> Iterator[None]:
    """Write the checkout's commit for the time of a build. A source archive, which is no checkout, holds it already."""
    if not Path(".git").exists():
        yield
        return
    checkout_commit = runpy.run_path(str(COMMIT.with_name("harness") / "system" / "commit.py"))["checkout_commit"]
    COMMIT.write_text(checkout_commit(Path.cwd()), encoding="utf-8")
    try:
        yield
    finally:
        COMMIT.unlink(missing_ok=True)
