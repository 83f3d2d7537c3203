"""Errors in the user's input: collected, then reported all at once."""

import difflib
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass

NOTHING = object()  # `seen` of a mistake without a value to show
MOST_MISTAKES = 50  # listed at once; the rest are counted
LONGEST_SEEN = 300  # characters of a value that an error shows
LONGEST_PART = 3000  # characters of any other part of an error


@dataclass(frozen=True)
class Mistake:
    """One error: the file or option, the key, the problem, the value seen, the values allowed and the nearest name.

    `count` is how many errors it stands for: more than one where it says how many are not listed.
    """

    where: str
    key: str
    problem: str
    seen: object = NOTHING
    allowed: str = ""
    nearest: str = ""
    count: int = 1

    def __str__(self) -> str:
        text = ": ".join(shortened(part) for part in (self.where, self.key, self.problem) if part)
        if self.seen is not NOTHING:
            text += f" (seen: {shortened(repr(self.seen), LONGEST_SEEN)})"
        if self.allowed:
            text += f"; allowed: {shortened(self.allowed)}"
        if self.nearest:
            text += f"; did you mean {shortened(repr(self.nearest), LONGEST_SEEN)}?"
        return printable(text)


class InvalidInput(Exception):
    """The input is invalid; `mistakes` lists the errors found, up to a bound. The command line exits with code 2."""

    def __init__(self, mistakes: Iterable[Mistake]):
        self.mistakes = first_ones(list(mistakes))
        super().__init__("\n".join(map(str, self.mistakes)))


def first_ones(mistakes: Sequence[Mistake], more: int = 0) -> tuple[Mistake, ...]:
    """Return at most MOST_MISTAKES, then one that counts the rest and `more`, if there are any."""
    more += sum(mistake.count for mistake in mistakes[MOST_MISTAKES:])
    is_counted = len(mistakes) == MOST_MISTAKES + 1 and mistakes[-1].count == more > 1  # by an earlier call
    if not more or is_counted:
        return tuple(mistakes)
    rest = Mistake(mistakes[-1].where, "", f"{more:,} more mistakes are not listed", count=more)
    return (*mistakes[:MOST_MISTAKES], rest)


def shortened(text: str, longest: int = LONGEST_PART) -> str:
    """Return the text, or its beginning with the number of its characters if it is longer than `longest`."""
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text):,} characters)"


def printable(text: str) -> str:
    """Escape control characters: a name from a file must not send commands to the terminal or start a new line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def plain(text: str) -> str:
    """Return one line of printable characters: white space becomes a blank, others become their code."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in " ".join(text.split()))


def lines_of(error: BaseException) -> list[str]:
    """Return the lines of an error's text, at least one: the error's type if it has no text."""
    return str(error).strip().splitlines() or [type(error).__name__]


def counted(number: float, noun: str) -> str:
    """Return a number of things in words: "1 trial", "2 trials", "1.5 epochs"."""
    return f"{number if isinstance(number, int) else number_text(number)} {noun}{'s' * (number != 1)}"


def number_text(value: float) -> str:
    """Return a number without trailing zeros, with as many digits as distinguish it from every other number."""
    return f"{value:g}" if float(f"{value:g}") == value else str(value)


def nearest(name: str, names: Iterable[str], before: Sized = ()) -> str:
    """Return the name most similar to `name`, or an empty string if none is similar.

    Also an empty string if there are as many mistakes `before` as are listed: the search takes long.
    """
    if len(before) >= MOST_MISTAKES:
        return ""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)), "")


def unknown_name(where: str, kind: str, name: str, names: Iterable[str]) -> Mistake:
    """Return the mistake of a `name` that is not among `names`, such as "no such launcher"."""
    allowed = list(names)
    return Mistake(where, "", f"no such {kind}", name, ", ".join(allowed), nearest(name, allowed))
