"""The plain text that a LaTeX cell or caption typesets."""

import re
from collections.abc import Sequence

from twinbench.reports.table_check.latex_tokens import QUERY, Token, TokenStream
from twinbench.reports.table_check.numbers import clean

# Environments that are read as tables, by the number of their arguments; the last one describes the columns.
TABULARS = {
    "tabular": 1, "tabular*": 2, "tabularx": 2, "tabulary": 2, "array": 1, "longtable": 1, "longtable*": 1,
    "supertabular": 1, "supertabular*": 2, "xtabular": 1, "xtabular*": 2, "xltabular": 2, "tabu": 1, "longtabu": 1,
    "tblr": 1, "longtblr": 1, "talltblr": 1, "NiceTabular": 1, "NiceTabular*": 2, "NiceTabularX": 2, "NiceArray": 1,
}  # fmt: skip

GREEK = ("alpha", "beta", "gamma", "delta", "epsilon", "eta", "lambda", "mu", "nu", "rho", "sigma", "tau")
_THIN = "\u2009"
_SYMBOLS = {
    "pm": "±", "textpm": "±", "times": "×", "cdot": "·", "percent": "%", "%": "%", "&": "&", "_": "_", "#": "#",
    "$": "$", "{": "{", "}": "}", ",": _THIN, "thinspace": _THIN, ";": " ", ":": " ", " ": " ", "\n": " ", "\\": " ",
    "quad": " ", "qquad": " ", "newline": " ", "tabularnewline": " ", "textendash": "–", "textemdash": "—",
    "dagger": "†", "ddagger": "‡", "textdagger": "†", "textdaggerdbl": "‡", "ast": "*", "star": "*",
    "downarrow": "↓", "uparrow": "↑", "Delta": "Δ",
    "approx": "≈", "sim": "~", "textasciitilde": "~", "textasciicircum": "^", "textbackslash": "\\", "textless": "<",
    "textgreater": ">", "textbar": "|", "textquotedblright": '"', "textasciigrave": "`", "textminus": "−",
    **{name: name for name in GREEK},
}  # fmt: skip
# Commands by how many of their arguments are not text. The arguments after those are text.
_NOT_TEXT = {
    0: "num SI qty makecell thead shortstack makebox",
    1: "cite citep citet citealp citealt citeauthor parencite textcite autocite ref eqref cref autoref label tnote "
    "footnote footnotemark footnotetext hspace vspace cellcolor rowcolor color includegraphics phantom hphantom "
    "vphantom cmidrule cline textcolor colorbox href rotatebox scalebox parbox raisebox SetCell SetRow Block",
    2: "rule setlength fcolorbox resizebox multirow multicolumn",
}
_DROPPED = {name: count for count, names in _NOT_TEXT.items() for name in names.split()}
_POWER_OF_TEN = re.compile(r"(?:(\d+(?:\.\d+)?) ?[×·] ?)?\b10\^([-−+]?\d+)")
_SUPERSCRIPTS = ("^", r"\textsuperscript")
_SUBSCRIPTS = ("_", r"\textsubscript")


def plain_text(tokens: Sequence[Token]) -> str:
    """Return the text in one line. Of an unknown command all arguments are text."""
    text = _plain(tokens)
    text = re.sub(rf"{_THIN}(?!\d)|(?<!\d){_THIN}", " ", text)
    return clean(_POWER_OF_TEN.sub(lambda found: f"{found[1] or 1}e{found[2].replace('−', '-')}", text))


def _plain(tokens: Sequence[Token]) -> str:
    parts: list[str] = []
    stream = TokenStream(tokens)
    while (token := stream.take()) is not None:
        text = token.text
        if token.nesting:
            if text not in ("{", "}"):
                parts.append(" ")
                stream.arguments(TABULARS.get(token.begins, 0))
        elif text in _SUPERSCRIPTS or text in _SUBSCRIPTS:
            raised = plain_text(stream.first_character())
            parts.append(_raised(text in _SUPERSCRIPTS, raised, "".join(parts[-2:]).rstrip()))
        elif text.startswith("\\"):
            name = text[1:] if len(text) <= 2 else text[1:].rstrip("*")
            parts.append(_SYMBOLS.get(name, ""))
            if name in _DROPPED:
                stream.bracket()
                stream.arguments(_DROPPED[name])
            if name == "multirow":
                stream.bracket()
        elif text != "$" and not text.startswith(QUERY):
            parts.append(" " if text in ("~", "&") else text.replace("---", "—").replace("--", "–"))
    return "".join(parts)


def _raised(is_superscript: bool, text: str, before: str) -> str:
    """Return a superscript or subscript in line: a spread and a power of ten stay, the mark of a footnote goes."""
    if text.startswith("±"):
        return f" {text}"
    if is_superscript and re.search(r"(^|\D)10$", before) and re.fullmatch(r"[-−+]?\d+", text):
        return f"^{text}"
    if re.fullmatch(r"\d*\.\d+", text) or (not is_superscript and text.isdigit()):
        return f" ({text})"
    is_mark = re.fullmatch(r"[†‡*§¶, ]+", text)
    return "" if is_superscript and not is_mark else text if is_mark else f" {text}"
