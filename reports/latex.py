"""Escape text for LaTeX, and write tables of sentences, which need \\usepackage{booktabs,longtable}."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",  # in the default encoding, < and > print as Spanish punctuation
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedblright{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # at the start of a row it would be an argument of the line break before it
    "]": "{]}",
    "*": "{*}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "…": r"\ldots{}",
    "–": "--",
    "—": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
    "\u2212": r"$-$",  # the minus sign
    "\n": " ",
    "\t": " ",
}


def escape(text: str) -> str:
    """Return LaTeX that prints `text`. A character that pdfLaTeX's default fonts lack is printed as its code point."""
    parts = re.split("(?<=-)(?=-)", text)  # two adjacent hyphens would print as a dash
    return "{}".join("".join(_ESCAPES.get(character) or _spell(character) for character in part) for part in parts)


LONGEST = 20.0  # longer words may be broken; in widths of a digit


def breakable(text: str, longest: float = LONGEST) -> str:
    """Return `text` escaped, with allowed line breaks in words longer than `longest` widths of a digit.

    A word may break after any character that is neither a letter nor a decimal point, and anywhere in a part that is
    still too long. Breaks have no hyphen, which would look like part of the name.
    """
    return "".join(_broken(word, longest) if length(word) > longest else escape(word) for word in re.split("( )", text))


def _broken(word: str, longest: float) -> str:
    pieces = re.findall(r"(?:\d+\.\d+|[^\W_]+)[\W_]?|[\W_]", word)
    parts = [part for piece in pieces for part in ([piece] if length(piece) <= longest else piece)]
    return r"\allowbreak{}".join(map(escape, parts))


def length(text: str) -> float:
    """Return the approximate printed width of `text` in widths of a digit, rather too large than too small."""
    return sum(map(_width, text))


def _width(character: str) -> float:
    if character in _ESCAPES or (spelled := _spell(character)) == character:
        return 1.8 if character in "MWmw%@—" else 1.45 if character.isupper() or character in "&–±" else 1.0
    return 1.2 * len(spelled.replace("{", "").replace("}", ""))


def table(
    rows: Iterable[Sequence[str]], caption: str, label: str, notes: Iterable[str], widths: Mapping[str, float]
) -> str:
    """Return a `longtable`, which LaTeX breaks over pages, with the head on each page.

    `widths`: each column's title and its fraction of the line width. `notes` are printed below the last row. The
    longtable package works only in one-column text, which the comment above the table says.
    """
    head = [r"\toprule", " & ".join(map(escape, widths)) + r" \\", r"\midrule"]
    note = " ".join(map(escape, notes))
    lines = [
        "% Made by twinbench from the records of one run folder.",
        "% Needs \\usepackage{booktabs,longtable} and a document, or a part of it, in one column.",
        r"\begingroup",
        r"\setlength{\LTcapwidth}{\linewidth}",
        rf"\begin{{longtable}}{{{''.join(map(_column, widths.values()))}}}",
        rf"\caption{{{escape(caption)}}}\label{{{label}}} \\",
        *head,
        r"\endfirsthead",
        *head,
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
        r"\bottomrule",
        rf"\addlinespace\multicolumn{{{len(widths)}}}{{@{{}}p{{\linewidth}}@{{}}}}{{\footnotesize {note}}} \\",
        r"\endlastfoot",
        *(" & ".join(map(_cell, row)) + r" \tabularnewline\addlinespace[0.4em]" for row in rows),
        r"\end{longtable}",
        r"\endgroup",
    ]
    return "\n".join([*lines, ""])


def _column(width: float) -> str:
    """Return a column without LaTeX's own padding, which `widths` does not include, and 0.9 em after it."""
    return rf"@{{}}p{{{width}\linewidth}}@{{\hspace{{0.9em}}}}"


def _cell(text: str) -> str:
    """Return a cell set ragged right: in a narrow column, LaTeX would stretch a few words over the whole line."""
    return rf"\raggedright {escape(text)}"


def _spell(character: str) -> str:
    if " " <= character <= "~":
        return character
    # LaTeX's default fonts have the accented Latin letters, but not the four Icelandic ones.
    if "À" <= character <= "ÿ" and unicodedata.category(character) in ("Lu", "Ll") and character not in "ÐðÞþ":
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"
