"""The message for an unknown name: the nearest one, and all there are."""

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """`unknown KIND 'NAME'; did you mean 'NEAREST'? Known: ALL`; the question is left out when nothing is alike."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    question = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {kind} {name!r}{question} Known: {', '.join(names)}"
