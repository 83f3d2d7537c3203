"""Text for LaTeX with every name escaped, and tables of sentences, which need \\usepackage{booktabs,longtable}."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

import pandas as pd

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
    "<": r"\textless{}",  # in the default encoding < and > come out as Spanish punctuation
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedblright{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # at the beginning of a row it would be an argument of the line break before it
    "]": "{]}",
    "*": "{*}",
    "–": "--",
    "—": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
    "\u2212": r"$-$",  # the minus sign
    "\n": " ",
    "\t": " ",
}


def escape(text: str) -> str:
    """`text` as LaTeX prints it. What pdfLaTeX's default fonts lack is spelled by its code point, never dropped."""
    parts = re.split("(?<=-)(?=-)", text)  # two hyphens side by side would become a dash
    return "{}".join("".join(_ESCAPES.get(character) or _spell(character) for character in part) for part in parts)


LONGEST = 20.0  # digits' widths of a word that stays whole in a text of a column's width


def breakable(text: str, longest: float = LONGEST) -> str:
    """`text` escaped, with places to break in each word that is longer, in digits' widths: behind what is no letter,
    other than a decimal point, and within what is still too long. No hyphen marks them: it would read as the name's.
    """
    return "".join(_broken(word, longest) if length(word) > longest else escape(word) for word in re.split("( )", text))


def _broken(word: str, longest: float) -> str:
    pieces = re.findall(r"(?:\d+\.\d+|[^\W_]+)[\W_]?|[\W_]", word)
    parts = [part for piece in pieces for part in ([piece] if length(piece) <= longest else piece)]
    return r"\allowbreak{}".join(map(escape, parts))


def length(text: str) -> float:
    """How wide `text` is set, in digits' widths: roughly, and rather too much."""
    return sum(map(_width, text))


def _width(character: str) -> float:
    if character in _ESCAPES or (spelled := _spell(character)) == character:
        return 1.8 if character in "MWmw%@—" else 1.45 if character.isupper() or character in "&–±" else 1.0
    return 1.2 * len(spelled.replace("{", "").replace("}", ""))


def table(
    frame: pd.DataFrame,
    caption: str,
    label: str,
    notes: Sequence[str],
    widths: Mapping[str, float],
) -> str:
    """Return a `longtable`, which LaTeX breaks over pages and whose head stands on each of them.

    `widths` gives each column's share of the line's width; cells are broken into lines. The notes stand below the last
    row. The longtable package works in one-column text alone, which the comment above the table says.
    """
    columns = [str(column) for column in frame.columns]
    head = [r"\toprule", " & ".join(escape(column) for column in columns) + r" \\", r"\midrule"]
    note = " ".join(map(escape, notes))
    lines = [
        "% Made by twinbench from the records of one run folder.",
        "% Needs \\usepackage{booktabs,longtable} and a document, or a part of it, in one column.",
        r"\begingroup",
        r"\setlength{\LTcapwidth}{\linewidth}",
        rf"\begin{{longtable}}{{{''.join(_column(widths[column]) for column in columns)}}}",
        rf"\caption{{{escape(caption)}}}\label{{{label}}} \\",
        *head,
        r"\endfirsthead",
        *head,
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
        r"\bottomrule",
        rf"\addlinespace\multicolumn{{{len(columns)}}}{{@{{}}p{{\linewidth}}@{{}}}}{{\footnotesize {note}}} \\",
        r"\endlastfoot",
        *(
            " & ".join(map(_cell, row)) + r" \tabularnewline\addlinespace[0.4em]"
            for row in frame.itertuples(index=False, name=None)
        ),
        r"\end{longtable}",
        r"\endgroup",
    ]
    return "\n".join([*lines, ""])


def _column(width: float) -> str:
    """Without the room that LaTeX leaves before and after it, which the shares do not count; 0.9 em between columns."""
    return rf"@{{}}p{{{width}\linewidth}}@{{\hspace{{0.9em}}}}"


def _cell(value: object) -> str:
    """Narrow columns are set ragged: LaTeX would stretch three words over a line. The row ends in what that allows."""
    return rf"\raggedright {escape(str(value))}"


def _spell(character: str) -> str:
    if " " <= character <= "~":
        return character
    # Latin letters with accents are in the fonts that LaTeX loads by default; the four of Icelandic are not.
    if "À" <= character <= "ÿ" and unicodedata.category(character) in ("Lu", "Ll") and character not in "ÐðÞþ":
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"
