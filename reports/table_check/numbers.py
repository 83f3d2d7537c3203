"""The plain text of a printed table's cell, and the numbers in it: "92.1 ± 0.3", "92.1(3)", "92.1 [91.8, 92.4]"."""

import re
import unicodedata
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Literal

LONGEST_VALUE = 200  # characters; a longer cell is a sentence
NEGLIGIBLE = 1e-9  # of a value: so near to the middle between two roundings, both are right

# value: the number of the cell. spread: what stands after ±. low, high: the ends of an interval. count: of seeds.
# difference: a number with its sign, as in (+0.4). unclear: a number in a text that is no value.
Role = Literal["value", "spread", "low", "high", "count", "difference", "unclear"]

_NUM = (
    r"(?:\d{1,3}(?:[,'\u2009\u202f]\d{3})+(?!\d)(?:\.\d{1,20})?|\d{1,20}(?:[.,]\d{1,20})?|\.\d{1,20})"
    r"(?:[eE][+\-−]?\d{1,2})?"
)
_VALUE = re.compile(rf"[~≈]?\s*(?P<sign>[+\-−–]?)\s?(?P<number>{_NUM})\s*(?:%|percent\b)?\s*")
_LAST_DIGITS = re.compile(r"\((\d{1,3})\)\s*%?\s*")
_BEHIND: tuple[tuple[tuple[Role, ...], re.Pattern[str]], ...] = (
    (("spread",), re.compile(rf"±\s*({_NUM})\s*%?\s*")),
    (("spread",), re.compile(rf"\(\s*±\s*({_NUM})\s*%?\s*\)\s*%?\s*")),
    (("spread",), re.compile(r"\(\s*(\d*\.\d{1,20})\s*%?\s*\)\s*%?\s*")),
    (("count",), re.compile(r"\(\s*(?:n\s*=\s*)?(\d{1,6})\s*(?:(?:seeds?|runs?)\s*)?\)\s*%?\s*")),
    (("low", "high"), re.compile(rf"[\[(]\s*({_NUM})\s*%?\s*(?:,|;|–|-|to)\s*({_NUM})\s*%?\s*[\])]\s*%?\s*")),
    (("difference",), re.compile(rf"\(?\s*[+\-−–↑↓]\s*({_NUM})\s*%?\s*\)?\s*")),
)
_BY_ITSELF = (("spread",), ("low", "high"))  # what may also have a cell of its own
_MARKS = re.compile(r"[*†‡§¶✓★]+|\b(?:pts?|points)\b\.?")
_ALONE = re.compile(rf"(?<![\w.,\-–]){_NUM}(?![\w]|[.,]\d)")


@dataclass(frozen=True)
class PrintedNumber:
    """A number as printed. `part` of `parts`: which of several values in one cell, as in "90.1 / 92.3"."""

    text: str
    value: Decimal
    role: Role
    percent: bool = False
    part: int = 0
    parts: int = 1

    @property
    def decimals(self) -> int:
        """Digits behind the point; negative where the last printed digit stands for more than one."""
        exponent = self.value.as_tuple().exponent
        return -exponent if isinstance(exponent, int) else 0


def clean(text: str) -> str:
    """One line without control characters; ± where authors type +-; the code points that latex.escape spells."""
    text = re.sub(r"\[U\+([0-9A-F]{4,5})\]", lambda match: chr(int(match[1], 16)), text)
    text = re.sub(r"\+/?[-−](?=\s*\d)", "±", text)
    text = re.sub(r"[ \t\n\u00a0]+", " ", text)
    return "".join(c for c in text if unicodedata.category(c)[0] != "C").strip()


def numbers_in(text: str) -> list[PrintedNumber]:
    """The numbers of a cell. Those of a text that is no value (a name, a sentence) have the role "unclear"."""
    if len(text) <= LONGEST_VALUE:
        parts = [_one_value(part) for part in re.split(r"[/|]", text)]
        if all(parts):
            return [replace(n, part=i, parts=len(parts)) for i, numbers in enumerate(parts) for n in numbers]
    return [_number(match[0], "unclear") for match in _ALONE.finditer(text)]


def is_value(text: str) -> bool:
    """Whether the cell is a number, with or without what may stand behind one."""
    return any(number.role != "unclear" for number in numbers_in(text))


def _one_value(text: str) -> list[PrintedNumber]:
    """Empty when the text is not a number with what may stand behind one."""
    text = _MARKS.sub(" ", text).strip()
    if text.startswith("(") and "±" in text:
        text = re.sub(r"^\(([^()]*)\)", r"\1", text)
    percent = "%" in text or "percent" in text
    for roles, pattern in _BEHIND:
        if roles in _BY_ITSELF and (found := pattern.fullmatch(text)):
            return [_number(one, role, percent) for one, role in zip(found.groups(), roles, strict=True)]
    match = _VALUE.match(text)
    if match is None:
        return []
    sign = "-" if match["sign"] in ("-", "−", "–") else ""
    numbers = [_number(sign + match["number"], "difference" if match["sign"] == "+" else "value", percent)]
    position = match.end()
    last_digits = _LAST_DIGITS.fullmatch(text, position)
    if last_digits and text[position - 1].isdigit() and "." in match["number"]:
        return [numbers[0], _in_last_digits(numbers[0], last_digits[1])]
    while position < len(text):
        behind = next(((roles, found) for roles, p in _BEHIND if (found := p.match(text, position))), None)
        if behind is None:
            return []
        roles, found = behind
        numbers += [_number(one, role, percent) for one, role in zip(found.groups(), roles, strict=True)]
        position = found.end()
    return numbers


def _in_last_digits(mean: PrintedNumber, digits: str) -> PrintedNumber:
    """92.1(3) is 92.1 ± 0.3: the digits count from the last place, as siunitx prints them."""
    value = Decimal((0, tuple(map(int, digits)), -mean.decimals))
    return PrintedNumber(f"({digits})", value, "spread", mean.percent)


def _number(text: str, role: Role, percent: bool = False) -> PrintedNumber:
    plain = re.sub(r"['\u2009\u202f]", "", text).replace("−", "-")
    if re.fullmatch(r"-?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", plain):  # 10,000 is ten thousand; 92,1 and 0,921 are decimals
        plain = plain.replace(",", "")
    return PrintedNumber(text, Decimal(plain.replace(",", ".")), role, percent)


# --- rounding -------------------------------------------------------------------------------------------------------


def roundings(exact: float, scale: int, decimals: int) -> tuple[int, ...]:
    """The right roundings of `scale * exact`, in units of the last of `decimals` digits: one, or two at a tie."""
    units = as_fraction(exact) * scale * Fraction(10) ** decimals
    below = units.numerator // units.denominator
    if abs(units - below - Fraction(1, 2)) <= abs(units) * Fraction(NEGLIGIBLE):
        return (below, below + 1)
    return (below,) if units - below < Fraction(1, 2) else (below + 1,)


def off_by(number: PrintedNumber, exact: float, scale: int) -> int:
    """How many units of its last place the number is away from a right rounding of `scale * exact`."""
    units = int(Fraction(number.value) * Fraction(10) ** number.decimals)
    return min(abs(units - right) for right in roundings(exact, scale, number.decimals))


def is_cut_off(number: PrintedNumber, exact: float, scale: int) -> bool:
    """Whether the digits behind the printed ones were left away without rounding."""
    left_away = abs(as_fraction(exact) * scale) - abs(Fraction(number.value))
    return 0 < left_away < Fraction(10) ** -number.decimals


def right_text(number: PrintedNumber, exact: float, scale: int) -> str:
    """`scale * exact` with as many digits as the number has; at a tie away from zero."""
    right = roundings(exact, scale, number.decimals)[-1]
    return format(Decimal((int(right < 0), tuple(map(int, str(abs(right)))), -number.decimals)), "f")


def as_fraction(exact: float) -> Fraction:
    """The number that is printed for a float: 0.9215 is 9215/10000, whatever its last bits."""
    return Fraction(exact) if isinstance(exact, int) else Fraction(repr(float(exact)))
