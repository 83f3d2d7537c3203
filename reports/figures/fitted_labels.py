"""Labels of figures on paper: shortened or wrapped to fit, in characters that the fonts have."""

import functools
import html
import textwrap
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass, field

FALLBACK = "DejaVu Sans"  # for characters that the style's font lacks; comes with matplotlib


@dataclass(frozen=True)
class Labels:
    """Shortens names that do not fit, keeping different names different. `whole`: full names by shortened ones."""

    font: str
    whole: dict[str, str] = field(default_factory=dict)

    def fitted(self, text: str, room: float, size: float) -> str:
        """Return the text shortened to `room` points at a font size in points."""
        text = plain(text)
        if self.width(text, size) <= room:
            return text
        fitting = bisect_right(range(len(text)), room, key=lambda end: self.width(f"{text[:end]}…", size))
        short = head = f"{text[: max(1, fitting - 1)]}…"
        number = 1
        while self.whole.setdefault(short, text) != text:
            number += 1
            short = f"{head}{number}"
        return short

    def wrapped(self, text: str, room: float, size: float, lines: int) -> str:
        """Return the text wrapped into about `lines` lines of `room` points."""
        text = self.fitted(text, (lines - 0.4) * room, size)  # lines are rarely full
        letters = room * len(text) / max(self.width(text, size), 1.0)
        return "\n".join(textwrap.wrap(text, max(4, int(letters))))

    def width(self, text: str, size: float) -> float:
        """Return the width of the drawn text in points."""
        return _width(text, self.font, size)


@functools.lru_cache(maxsize=10_000)  # the same names occur in every panel
def _width(text: str, font: str, size: float) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    drawn = FontProperties(family=[font, FALLBACK], size=size)
    return float(text_to_path.get_text_width_height_descent(text, drawn, ismath=False)[0])


def plain(text: str) -> str:
    """Return a label of a plotly figure as matplotlib should draw it: unescaped, on one line.

    Direction marks, and characters that neither the style's font nor FALLBACK has, are written as code points.
    """
    return "".join(_spelled(character) for character in html.unescape(text))


def _spelled(character: str) -> str:
    if character in "\n\t":
        return " "
    if unicodedata.category(character)[0] == "C" or unicodedata.bidirectional(character) in ("R", "AL"):
        return f"[U+{ord(character):04X}]"
    return character if ord(character) in _drawn() else f"[U+{ord(character):04X}]"


@functools.cache
def _drawn() -> frozenset[int]:
    """Return the code points that FALLBACK has."""
    from matplotlib import font_manager, ft2font

    return frozenset(ft2font.FT2Font(font_manager.findfont(FALLBACK)).get_charmap())
