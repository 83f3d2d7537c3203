"""The commit of a checkout. A build of the package runs this file alone: nothing of the package is installed then."""

import subprocess
from pathlib import Path


def checkout_commit(root: Path) -> str:
    """Return the commit of the checkout at `root`, with `+changes` if files differ from it; empty if git gives none."""
    if not (root / ".git").exists():
        return ""
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):  # no git, or another user's checkout
        return ""


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()
