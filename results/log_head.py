"""The head of the log of declarations, which every trial keeps from the moment it began.

A log that was cut or rewritten later does not continue these heads, and a declaration that a trial's head includes was
made before the trial began, whatever the clocks say. A worker reads the head; reports/claims/declarations.py the log.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from twinbench.results.record import DECLARATIONS
from twinbench.sweeps.file_reader import parse_json, read_regular


class LogHead(NamedTuple):
    """How many lines the log has, and the digest of the last one; empty where there is none."""

    lines: int
    digest: str


def read_log_head(run_folder: Path) -> LogHead | None:
    """Return the head of the folder's log; None if it cannot be read. A line that is being written does not count."""
    try:
        *lines, _ = read_regular(run_folder / DECLARATIONS).split(b"\n")
        return LogHead(len(lines), str(parse_json(lines[-1])["digest"])) if lines else LogHead(0, "")
    except FileNotFoundError:
        return LogHead(0, "")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def recorded_head(circumstance: Mapping[str, object]) -> LogHead | None:
    """Return the head that a record keeps; None for records of earlier versions."""
    head = circumstance.get("declarations")
    count, digest = (head.get("count"), head.get("head")) if isinstance(head, Mapping) else (None, None)
    return LogHead(count, digest) if type(count) is int and count >= 0 and isinstance(digest, str) else None
