"""Mistakes in what was asked: collected, then reported all at once."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

NOTHING = object()  # `seen` of a mistake that has no value to show


@dataclass(frozen=True)
class Mistake:
    """One thing wrong: in which file (or option), at which key, the value seen, and what would be right."""

    where: str
    key: str
    problem: str
    seen: object = NOTHING
    allowed: str = ""
    nearest: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.key}: {self.problem}" if self.key else f"{self.where}: {self.problem}"
        if self.seen is not NOTHING:
            text += f" (seen: {self.seen!r})"
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        if self.nearest:
            text += f"; did you mean {self.nearest!r}?"
        # A name out of a file must not be taken for a command by the terminal, nor for another line.
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class InvalidInput(Exception):
    """What was asked cannot be done; `mistakes` holds every reason found. The command line ends with exit code 2."""

    def __init__(self, mistakes: Iterable[Mistake]):
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


def nearest(name: str, names: Iterable[str]) -> str:
    """The name most like `name`, or an empty string when none is alike."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)), "")
