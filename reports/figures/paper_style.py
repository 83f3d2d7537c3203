"""The styles of `twinbench paper --style`: widths of columns, fonts and sizes of figures."""

import re
from dataclasses import dataclass

from twinbench.sweeps.errors import InvalidInput, Mistake, nearest


@dataclass(frozen=True)
class PaperStyle:
    """Lengths in inches, font sizes in points. `height`: of one row of panels; None makes it follow the width.

    `text_width`: of the page, larger than `width` if the page has two columns.
    """

    width: float
    text_width: float
    font: str = "STIXGeneral"  # a Times-like font that comes with matplotlib, so that every machine has it
    size: float = 8.0
    height: float | None = None
    body_size: int = 10  # font size of the paper's text and tables


STYLES = {
    "neurips": PaperStyle(5.5, 5.5),
    "icml": PaperStyle(3.25, 6.75),
    "two-column": PaperStyle(3.25, 6.75),
    "thesis": PaperStyle(5.8, 5.8, size=10.0, body_size=11),
    "sans": PaperStyle(5.5, 5.5, font="DejaVu Sans", size=7.5),
}
DEFAULT = "neurips"
_OWN = re.compile(r"(?P<width>\d+(\.\d+)?)x(?P<height>\d+(\.\d+)?)(:(?P<font>[^:]+))?(:(?P<size>\d+(\.\d+)?))?")
_ALLOWED = f"{', '.join(STYLES)}, or WIDTHxHEIGHT[:FONT[:SIZE]] in inches and points, such as 3.3x2.2:DejaVu Sans:8"


def read_style(text: str) -> PaperStyle:
    """Return the style of that name or of those measures. Raises InvalidInput."""
    if text in STYLES:
        return STYLES[text]
    if not (own := _OWN.fullmatch(text)):
        raise InvalidInput([Mistake("--style", "", "no such style", text, _ALLOWED, nearest(text, STYLES))])
    width, height, size = float(own["width"]), float(own["height"]), float(own["size"] or 8)
    if not (1 <= width <= 20 and 0.5 <= height <= 20 and 4 <= size <= 30):
        allowed = "a width of 1 to 20 and a height of 0.5 to 20 inches, a font of 4 to 30 points"
        raise InvalidInput([Mistake("--style", "", "cannot be set", text, allowed)])
    font = own["font"] or STYLES[DEFAULT].font
    _check_font(font)
    return PaperStyle(width, width, font, size, height)


def _check_font(name: str) -> None:
    from matplotlib import font_manager

    known = sorted({entry.name for entry in font_manager.fontManager.ttflist})
    if name not in known:
        allowed = "a font that matplotlib finds on this machine"
        raise InvalidInput([Mistake("--style", "font", "is not installed", name, allowed, nearest(name, known))])
