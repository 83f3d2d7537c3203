"""Find the numbers in the text of a table's cell, such as "92.1 ± 0.3", "92.1(3)" or "92.1 [91.8, 92.4]"."""

import re
import unicodedata
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Literal

LONGEST_VALUE = 200  # characters; a longer cell is a sentence
NEGLIGIBLE = 1e-9  # relative to the value: this close to a tie, both roundings are correct

# value: the number of the cell. spread: the number after ±. low, high: the ends of an interval. count: of seeds.
# difference: a number with a sign, as in (+0.4). unclear: a number in text that is not a value.
Role = Literal["value", "spread", "low", "high", "count", "difference", "unclear"]

_NUM = (
    r"(?:\d{1,3}(?:[,'\u2009\u202f]\d{3})+(?!\d)(?:\.\d{1,20})?|\d{1,20}(?:[.,]\d{1,20})?|\.\d{1,20})"
    r"(?:[eE][+\-−]?\d{1,2})?"
)
_VALUE = re.compile(rf"[~≈]?\s*(?P<sign>[+\-−–]?)\s?(?P<number>{_NUM})\s*(?:%|percent\b)?\s*")
_LAST_DIGITS = re.compile(r"\((\d{1,3})\)\s*%?\s*")
_AFTER_VALUE: tuple[tuple[tuple[Role, ...], re.Pattern[str]], ...] = (
    (("spread",), re.compile(rf"±\s*({_NUM})\s*%?\s*")),
    (("spread",), re.compile(rf"\(\s*±\s*({_NUM})\s*%?\s*\)\s*%?\s*")),
    (("spread",), re.compile(r"\(\s*(\d*\.\d{1,20})\s*%?\s*\)\s*%?\s*")),
    (("count",), re.compile(r"\(\s*(?:n\s*=\s*)?(\d{1,6})\s*(?:(?:seeds?|runs?)\s*)?\)\s*%?\s*")),
    (("low", "high"), re.compile(rf"[\[(]\s*({_NUM})\s*%?\s*(?:,|;|–|-|to)\s*({_NUM})\s*%?\s*[\])]\s*%?\s*")),
    (("difference",), re.compile(rf"\(?\s*[+\-−–↑↓]\s*({_NUM})\s*%?\s*\)?\s*")),
    (("difference",), re.compile(rf"\(?\s*({_NUM})\s*%?\s*[↑↓]\s*\)?\s*")),
)
_ALONE_IN_CELL = (("spread",), ("low", "high"))  # these may also stand alone in a cell
_RANGE = re.compile(rf"({_NUM})\s*%?\s*(?:–|to)\s*({_NUM})\s*%?")
_MARKS = re.compile(r"[*†‡§¶✓★]+|\b(?:pts?|points)\b\.?")
ALONE = re.compile(rf"(?<![\w.,\-–]){_NUM}(?![\w]|[.,]\d)")


@dataclass(frozen=True)
class PrintedNumber:
    """A number as printed. `part`: its index among the `parts` values of a cell such as "90.1 / 92.3"."""

    text: str
    value: Decimal
    role: Role
    percent: bool = False
    part: int = 0
    parts: int = 1

    @property
    def decimals(self) -> int:
        """Return the number of decimals; negative if the last printed digit counts tens or more."""
        exponent = self.value.as_tuple().exponent
        return -exponent if isinstance(exponent, int) else 0


def clean(text: str) -> str:
    """Return the text in one line without control characters, with ± for +- and [U+0394] as that character."""
    text = re.sub(r"\[U\+([0-9A-F]{4,5})\]", lambda match: chr(int(match[1], 16)), text)
    text = re.sub(r"\+/?[-−](?=\s*\d)", "±", text)
    text = re.sub(r"[ \t\n\u00a0]+", " ", text)
    return "".join(c for c in text if unicodedata.category(c)[0] != "C").strip()


def numbers_in(text: str) -> list[PrintedNumber]:
    """Return the numbers of a cell. In text that is not a value (a name, a sentence) their role is "unclear"."""
    if len(text) <= LONGEST_VALUE:
        parts = [_one_value(part) for part in re.split(r"[/|]", text)]
        if all(parts):
            return [replace(n, part=i, parts=len(parts)) for i, numbers in enumerate(parts) for n in numbers]
    return [_number(match[0], "unclear") for match in ALONE.finditer(text)]


def is_value(text: str) -> bool:
    """Return whether the cell is a number, alone or with a spread, an interval, a count or a difference."""
    return any(number.role != "unclear" for number in numbers_in(text))


def printed_numbers(text: str) -> list[str]:
    """Return the numbers that stand alone in any text: not those of names such as ResNet-18."""
    return [match[0] for match in ALONE.finditer(text)]


def _one_value(text: str) -> list[PrintedNumber]:
    """Return the number and what follows it, such as a spread; an empty list if the text is anything else."""
    text = re.sub(r"[↑↓]$", "", _MARKS.sub(" ", text).strip()).strip()
    if text.startswith("(") and "±" in text:
        text = re.sub(r"^\(([^()]*)\)", r"\1", text)
    percent = "%" in text or "percent" in text
    for roles, pattern in _AFTER_VALUE:
        if roles in _ALONE_IN_CELL and (found := pattern.fullmatch(text)):
            return [_number(one, role, percent) for one, role in zip(found.groups(), roles, strict=True)]
    if (ends := _RANGE.fullmatch(text)) and (low := _number(ends[1], "low")).value < _number(ends[2], "high").value:
        return [replace(low, percent=percent), _number(ends[2], "high", percent)]
    match = _VALUE.match(text)
    if match is None:
        return []
    sign = "-" if match["sign"] in ("-", "−", "–") else ""
    numbers = [_number(sign + match["number"], "difference" if match["sign"] == "+" else "value", percent)]
    position = match.end()
    last_digits = _LAST_DIGITS.fullmatch(text, position)
    if last_digits and text[position - 1].isdigit() and "." in match["number"]:
        # siunitx prints a spread in units of the last decimal: that in 92.1(3) is 0.3
        spread = Decimal((0, tuple(map(int, last_digits[1])), -numbers[0].decimals))
        return [numbers[0], PrintedNumber(f"({last_digits[1]})", spread, "spread", percent)]
    while position < len(text):
        following = next(((roles, found) for roles, p in _AFTER_VALUE if (found := p.match(text, position))), None)
        if following is None:
            return []
        roles, found = following
        falls = roles == ("difference",) and any(c in found[0] for c in "-−–↓")
        numbers += [_number(one, role, percent, falls) for one, role in zip(found.groups(), roles, strict=True)]
        position = found.end()
    return numbers


def _number(text: str, role: Role, percent: bool = False, falls: bool = False) -> PrintedNumber:
    plain = re.sub(r"['\u2009\u202f]", "", text).replace("−", "-")
    if re.fullmatch(r"-?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", plain):  # 10,000 is ten thousand; 92,1 and 0,921 are decimals
        plain = plain.replace(",", "")
    value = Decimal(plain.replace(",", "."))
    return PrintedNumber(text, -value if falls else value, role, percent)


# --- rounding -------------------------------------------------------------------------------------------------------


def roundings(exact: float, scale: int, decimals: int) -> tuple[int, ...]:
    """Return the correct roundings of `scale * exact` in units of the last decimal: one, or two at a tie."""
    units = as_fraction(exact) * scale * Fraction(10) ** decimals
    below = units.numerator // units.denominator
    if abs(units - below - Fraction(1, 2)) <= abs(units) * Fraction(NEGLIGIBLE):
        return (below, below + 1)
    return (below,) if units - below < Fraction(1, 2) else (below + 1,)


def off_by(number: PrintedNumber, exact: float, scale: int) -> int:
    """Return how far the number is from a correct rounding of `scale * exact`, in units of its last decimal."""
    units = int(Fraction(number.value) * Fraction(10) ** number.decimals)
    return min(abs(units - rounded) for rounded in roundings(exact, scale, number.decimals))


def is_truncated(number: PrintedNumber, exact: float, scale: int) -> bool:
    """Return whether `scale * exact` was truncated instead of rounded."""
    truncated = abs(as_fraction(exact) * scale) - abs(Fraction(number.value))
    return 0 < truncated < Fraction(10) ** -number.decimals


def rounded_text(number: PrintedNumber, exact: float, scale: int) -> str:
    """Return `scale * exact` with the decimals of the number; a tie is rounded away from zero."""
    rounded = roundings(exact, scale, number.decimals)[-1]
    return format(Decimal((int(rounded < 0), tuple(map(int, str(abs(rounded)))), -number.decimals)), "f")


def as_fraction(exact: float) -> Fraction:
    """Return the float's shortest decimal form as a fraction: 0.9215 is 9215/10000, not its binary value."""
    return Fraction(exact) if isinstance(exact, int) else Fraction(repr(float(exact)))
