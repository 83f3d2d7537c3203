"""Cuts the tables out of a LaTeX file: tokens, then braces and environments, then rows of plain text.

No TeX runs and no file is opened. The file's own macros are filled in inside tables and captions, up to a limit.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from twinbench.reports.table_check.numbers import clean, is_value

MOST_COLUMNS = 200
MOST_DEPTH = 60
MOST_EXPANDED = 100_000  # tokens that a file's macros may come to


class LatexError(Exception):
    """What stands at `line` cannot be read as a table; `problem` says why."""

    def __init__(self, line: int, problem: str):
        super().__init__(f"line {line}: {problem}")
        self.line, self.problem = line, problem


class Line(NamedTuple):
    """A row of a table: where it begins, and the text of each column."""

    line: int
    texts: tuple[str, ...]


@dataclass(frozen=True)
class LatexTable:
    """A tabular. In the head a text stands over all columns that it spans, in the body over the first."""

    line: int
    caption: str  # of the tabular's own environment first, then of those around it
    head: tuple[Line, ...]
    body: tuple[Line, ...]


Including = tuple[int, str, int]  # line, the command, and the number of the table it stands in, or 0

# --- tokens ---------------------------------------------------------------------------------------------------------

_TABULARS = {"tabular": 1, "tabular*": 2, "tabularx": 2, "tabulary": 2, "longtable": 1, "supertabular": 1}
_FLOATS = re.compile(r"(sub|wrap|sideways)?(table|figure)\*?|minipage|threeparttable")
_RAW = ("verbatim", "verbatim*", "Verbatim", "lstlisting", "minted", "comment")
_INCLUDING = (r"\input", r"\include", r"\subfile", r"\csvreader", r"\csvautotabular", r"\pgfplotstabletypeset")
_TOKEN = re.compile(
    r"%[^\n]*(?:\n[ \t]*)?"
    r"|\\begin\{(?P<raw>" + "|".join(map(re.escape, _RAW)) + r")\}"
    r"|\\verb\*?(?P<bar>[^\sa-zA-Z*])(?P<verb>[^\n]{0,300}?)(?P=bar)"
    r"|\\[a-zA-Z@]+\*?|\\.|[{}&$^_~\[\]]|\s+|[^\\{}&$^_~\[\]%\s]+|\\",
    re.DOTALL,
)


class _Token(NamedTuple):
    text: str
    line: int


@dataclass
class _Group:
    """What stands between braces (kind "{") or in an environment (kind: its name)."""

    kind: str
    line: int
    nodes: "_Nodes" = field(default_factory=list)


_Nodes = list[_Token | _Group]


def _tokens(text: str) -> list[_Token]:
    """The file up to \\end{document}, without comments and without what is only shown, not set."""
    tokens, position, line = [], 0, 1
    text = text.partition(r"\end{document}")[0]
    while match := _TOKEN.match(text, position):
        found, position = match[0], match.end()
        ending = rf"\end{{{match['raw']}}}" if match["raw"] else r"\fi" if found == r"\iffalse" else ""
        if ending:
            position = text.find(ending, position) + len(ending)
            if position < len(ending):
                raise LatexError(line, f"{found} is not ended")
        elif match["bar"]:
            tokens.append(_Token(match["verb"], line))
        elif not found.startswith("%"):
            tokens.append(_Token(found, line))
        line += text.count("\n", match.start(), position)
    return tokens


class _Macro(NamedTuple):
    arguments: int
    default: list[_Token] | None  # of the first argument, which is then optional
    body: list[_Token]


class _Stream:
    """The tokens of a file, one after the other; `expanded` fills in the file's own macros."""

    def __init__(self, tokens: list[_Token]):
        self.ahead = tokens[::-1]
        self.macros: dict[str, _Macro] = {}
        self.filled_in = 0

    def take(self) -> _Token | None:
        return self.ahead.pop() if self.ahead else None

    def expanded(self) -> _Token | None:
        while (token := self.take()) is not None and token.text in self.macros:
            macro = self.macros[token.text]
            given = [self._argument(macro.default if number == 0 else None) for number in range(macro.arguments)]
            body = [_Token(text, token.line) for text in _filled(macro.body, given)]
            self.filled_in += len(body) + 1
            if self.filled_in > MOST_EXPANDED:
                raise LatexError(token.line, f"macros come to more than {MOST_EXPANDED:,} tokens")
            self.ahead += reversed(body)
        return token

    def _argument(self, default: list[_Token] | None) -> list[_Token]:
        return self.argument() if default is None else self.bracket(default)

    def argument(self) -> list[_Token]:
        """What stands in braces next, or one token."""
        found = self._between("{", "}")
        if found is None:
            token = self.take()
            return [] if token is None else [token]
        return found

    def bracket(self, default: list[_Token] | None = None) -> list[_Token]:
        """What stands in [...] next, if anything does."""
        found = self._between("[", "]")
        return (default or []) if found is None else found

    def begins_with(self, text: str) -> bool:
        """Whether `text` comes next, spaces aside; if so it is taken."""
        while self.ahead and self.ahead[-1].text.isspace():
            self.ahead.pop()
        if self.ahead and self.ahead[-1].text == text:
            self.ahead.pop()
            return True
        return False

    def _between(self, opening: str, closing: str) -> list[_Token] | None:
        line = self.ahead[-1].line if self.ahead else 0
        if not self.begins_with(opening):
            return None
        inner: list[_Token] = []
        depth = 0
        while (token := self.take()) is not None:
            if depth == 0 and token.text == closing:
                return inner
            depth += (token.text == "{") - (token.text == "}")
            inner.append(token)
        raise LatexError(line, f"{opening} is not closed")


def _filled(body: Sequence[_Token], given: Sequence[Sequence[_Token]]) -> Iterator[str]:
    """The texts of a macro's body with #1 to #9 replaced."""
    for token in body:
        for number, part in enumerate(re.split(r"#([1-9])", token.text)):
            if number % 2 == 0:
                yield from [part] if part else []
            elif int(part) <= len(given):
                yield from (one.text for one in given[int(part) - 1])


# --- the file -------------------------------------------------------------------------------------------------------


def latex_tables(text: str) -> tuple[list[LatexTable], list[Including]]:
    """All tables, and all that would bring in another file. LatexError for a table that cannot be read."""
    stream = _Stream(_tokens(text))
    open_: list[tuple[str, list[str]]] = []  # environments, with the captions of those that float
    found: list[tuple[LatexTable, list[list[str]]]] = []
    including: list[Including] = []
    while (token := stream.take()) is not None:
        command = token.text.rstrip("*")
        if command in (r"\newcommand", r"\renewcommand", r"\providecommand"):
            _define(stream)
        elif command == r"\def":
            _define_plainly(stream)
        elif command in (r"\newenvironment", r"\renewenvironment"):
            _skip_environment(stream)
        elif command in _INCLUDING:
            including.append((token.line, f"{command}{{{_joined(stream.argument())}}}", 0))
        elif command in (r"\caption", r"\captionof", r"\subcaption"):
            _take_caption(stream, token, [captions for name, captions in open_ if _FLOATS.fullmatch(name)])
        elif command == r"\begin":
            name = _joined(stream.argument())
            if name in _TABULARS:
                table, inside = _tabular(stream, name, token.line)
                including += [(line, told, len(found) + 1) for line, told in inside]
                found.append((table, [captions for _, captions in open_]))
            else:
                open_.append((name, []))
        elif command == r"\end":
            _close(open_, _joined(stream.argument()))
    return [_with_captions(table, around) for table, around in found], including


def _with_captions(table: LatexTable, around: list[list[str]]) -> LatexTable:
    captions = [table.caption, *(caption for captions in reversed(around) for caption in captions)]
    return LatexTable(table.line, " ".join(filter(None, captions)), table.head, table.body)


def _joined(tokens: Sequence[_Token]) -> str:
    return clean("".join(token.text for token in tokens))


def _close(open_: list[tuple[str, list[str]]], name: str) -> None:
    """End the innermost environment of that name: outside tables a paper may be as untidy as TeX lets it be."""
    names = [one for one, _ in open_]
    if name in names:
        del open_[len(names) - 1 - names[::-1].index(name) :]


def _take_caption(stream: _Stream, token: _Token, floats: list[list[str]]) -> None:
    if token.text.startswith(r"\captionof"):
        stream.argument()
    stream.bracket()
    if floats and stream.begins_with("{"):
        floats[-1].append(_tidy(_plain(_tree(stream, "{", token.line).nodes)))


def _define(stream: _Stream) -> None:
    name = _joined(stream.argument())
    count = _joined(stream.bracket())
    default = stream.bracket() if stream.ahead and stream.ahead[-1].text == "[" else None
    body = stream.argument()
    if name.startswith("\\") and re.fullmatch(r"[1-9]?", count):
        stream.macros[name] = _Macro(int(count or 0), default, body)


def _define_plainly(stream: _Stream) -> None:
    """\\def\\name#1#2{...}; with any other pattern it is left alone."""
    name, pattern = stream.take(), ""
    while stream.ahead and stream.ahead[-1].text != "{":
        pattern += stream.ahead.pop().text
    body = stream.argument()
    if name is not None and re.fullmatch(r"(#[1-9])*", pattern):
        stream.macros[name.text] = _Macro(len(pattern) // 2, None, body)


def _skip_environment(stream: _Stream) -> None:
    stream.argument()
    stream.bracket()
    stream.bracket()
    stream.argument()
    stream.argument()


def _tree(stream: _Stream, name: str, line: int) -> _Group:
    """Everything up to \\end{name}, or to } where name is "{", with braces and environments nested."""
    stack = [_Group(name, line)]
    while (token := stream.expanded()) is not None:
        if token.text in ("{", r"\begin"):
            if len(stack) > MOST_DEPTH:
                raise LatexError(token.line, f"is nested more than {MOST_DEPTH} deep")
            inner = _Group("{" if token.text == "{" else _joined(stream.argument()), token.line)
            stack[-1].nodes.append(inner)
            stack.append(inner)
        elif token.text in ("}", r"\end"):
            ended = "{" if token.text == "}" else _joined(stream.argument())
            if stack[-1].kind != ended:
                told = "}" if ended == "{" else rf"\end{{{ended}}}"
                raise LatexError(token.line, f"{told} does not end the {stack[-1].kind} of line {stack[-1].line}")
            if len(stack) == 1:
                return stack[0]
            stack.pop()
        else:
            stack[-1].nodes.append(token)
    raise LatexError(stack[-1].line, f"the {stack[-1].kind} that begins here is not ended")


# --- a table --------------------------------------------------------------------------------------------------------

_RULES = {r"\toprule": 0, r"\midrule": 0, r"\bottomrule": 0, r"\hline": 0, r"\specialrule": 3}
_NO_CELL = {r"\cmidrule": 1, r"\cline": 1, r"\addlinespace": 0, r"\noalign": 1, r"\rowcolor": 1, r"\label": 1}
_NO_CELL |= {r"\cdashline": 1, r"\arrayrulecolor": 1}
_ROW_ENDS = (r"\\", r"\tabularnewline", r"\cr")
_REPEATED = (r"\endfirsthead", r"\endhead", r"\endfoot", r"\endlastfoot")


class _Cell(NamedTuple):
    """A text and how many columns and rows it covers."""

    text: str
    columns: int
    rows: int


_Row = tuple[int, list[_Cell]]


def _tabular(stream: _Stream, name: str, line: int) -> tuple[LatexTable, list[tuple[int, str]]]:
    """The table with the caption that stands inside it (a longtable's), and what would bring in another file."""
    nodes = _tree(stream, name, line).nodes
    (*_, columns), position = _arguments(nodes, _past_bracket(nodes, 0), _TABULARS[name])
    caption, head_rows = "", 0
    rows: list[_Row] = []
    rules: list[int] = []
    including = []
    cells: list[_Nodes] = [[]]
    while position < len(nodes):
        node = nodes[position]
        position += 1
        command = node.text.rstrip("*") if isinstance(node, _Token) else ""
        if command == "&":
            cells.append([])
        elif command in _ROW_ENDS:
            rows += _row(cells)
            cells = [[]]
            position = _past_bracket(nodes, position)
        elif command in _RULES or command in _NO_CELL:
            position = _past_parenthesis(nodes, _past_bracket(nodes, position))
            _, position = _arguments(nodes, position, (_RULES | _NO_CELL)[command])
            rules += [len(rows)] if command in _RULES else []
        elif command in _REPEATED:  # of a longtable: what the next page begins or ends with is no row
            head_rows = head_rows or len(rows)
            del rows[head_rows:]
        elif command == r"\caption":
            (text,), position = _arguments(nodes, _past_bracket(nodes, position), 1)
            caption = _tidy(_plain(text))
        elif command in _INCLUDING:
            (text,), position = _arguments(nodes, position, 1)
            including.append((node.line, f"{command}{{{_tidy(_plain(text))}}}"))
        else:
            cells[-1].append(node)
    rows += _row(cells)
    head_rows = head_rows or next((rule for rule in rules if 0 < rule < len(rows)), min(len(rows), 1))
    lines = _lines(rows, head_rows, line)
    lines[head_rows:] = [_with_signs(one, _behind_sign(columns)) for one in lines[head_rows:]]
    return LatexTable(line, caption, tuple(lines[:head_rows]), tuple(lines[head_rows:])), including


def _behind_sign(columns: _Nodes) -> list[bool]:
    """By column, whether the table's column argument puts a ± before it, as in r@{$\\pm$}l."""
    found: list[bool] = []
    before, sign, count = "", False, 1
    position = 0
    while position < len(columns):
        position = _past_bracket(columns, position)
        node = columns[position] if position < len(columns) else _Token("", 0)
        position += 1
        if isinstance(node, _Token):
            for letter in "" if node.text.startswith("\\") else node.text:
                if letter.isalpha():
                    found.append(sign)
                    sign = False
                before = letter
        elif before == "*" and _plain(node.nodes).strip().isdigit():
            count = min(_count(node.nodes, node.line), MOST_COLUMNS)
        elif before == "*":
            found += _behind_sign(node.nodes) * count
        elif before in ("@", "!", ">"):
            sign = sign or "±" in _plain(node.nodes)
    return found


def _with_signs(row: Line, signs: list[bool]) -> Line:
    texts = [f"±{text}" if sign and is_value(text) else text for text, sign in zip(row.texts, signs, strict=False)]
    return Line(row.line, (*texts, *row.texts[len(texts) :]))


def _row(cells: list[_Nodes]) -> list[_Row]:
    """The row as a list of one, or of none where nothing stands in it."""
    filled = [node for cell in cells for node in cell if not _is_space(node)]
    return [(filled[0].line, [_cell(cell) for cell in cells])] if filled else []


def _cell(nodes: _Nodes) -> _Cell:
    columns = rows = 1
    filled = [node for node in nodes if not _is_space(node)]
    if filled and filled[0] == (r"\multicolumn", filled[0].line):
        (count, _, nodes), _ = _arguments(filled, 1, 3)
        columns = _count(count, filled[0].line)
    multirow = _from_command(nodes, r"\multirow")
    if multirow is not None:
        (count,), _ = _arguments(multirow, _past_bracket(multirow, 1), 1)
        rows = _count(count, multirow[0].line)
    return _Cell(_tidy(_plain(nodes)), max(columns, 1), rows)


def _count(nodes: _Nodes, line: int) -> int:
    text = _plain(nodes).strip()
    if not re.fullmatch(r"-?\d{1,4}", text):
        raise LatexError(line, f"{text[:40]!r} is no number of columns or rows")
    return int(text)


def _lines(rows: list[_Row], head_rows: int, line: int) -> list[Line]:
    """Rows as texts by column; a text that covers several rows stands in each, unless it is a value."""
    width = max((sum(cell.columns for cell in cells) for _, cells in rows), default=0)
    if width > MOST_COLUMNS:
        raise LatexError(line, f"has more than {MOST_COLUMNS} columns")
    grid = [_spread(cells, width, index < head_rows) for index, (_, cells) in enumerate(rows)]
    for index, (_, cells) in enumerate(rows):
        column = 0
        for cell in cells:
            covered = range(index + 1, index + cell.rows) if cell.rows > 0 else range(index + cell.rows + 1, index)
            if cell.text and not is_value(cell.text):
                for other in covered:
                    if 0 <= other < len(grid):
                        grid[other][column] = grid[other][column] or cell.text
            column += cell.columns
    return [Line(begun, tuple(texts)) for (begun, _), texts in zip(rows, grid, strict=True)]


def _spread(cells: list[_Cell], width: int, repeat: bool) -> list[str]:
    texts: list[str] = []
    for cell in cells:
        texts += [cell.text, *[cell.text if repeat else ""] * (cell.columns - 1)]
    return texts + [""] * (width - len(texts))


# --- arguments ------------------------------------------------------------------------------------------------------


def _is_space(node: _Token | _Group) -> bool:
    return isinstance(node, _Token) and node.text.isspace()


def _arguments(nodes: _Nodes, position: int, count: int) -> tuple[list[_Nodes], int]:
    """The next `count` arguments (empty ones where nothing is left), past [...] between them, and where they end."""
    found: list[_Nodes] = []
    while len(found) < count:
        while position < len(nodes) and _is_space(nodes[position]):
            position += 1
        node = nodes[position] if position < len(nodes) else None
        found.append(node.nodes if isinstance(node, _Group) and node.kind == "{" else [node] if node else [])
        position = _past_bracket(nodes, position + 1) if len(found) < count else position + 1
    return found, position


def _past_bracket(nodes: _Nodes, position: int) -> int:
    """Past an optional argument in [...], if one begins here."""
    texts = [node.text if isinstance(node, _Token) else "" for node in nodes[position : position + 40]]
    begun = next((i for i, text in enumerate(texts) if not text.isspace()), len(texts))
    if begun < len(texts) and texts[begun] == "[" and "]" in texts:
        return position + texts.index("]") + 1
    return position


def _past_parenthesis(nodes: _Nodes, position: int) -> int:
    """Past the (lr) of a \\cmidrule, or its (l{2pt}r{2pt})."""
    texts = [node.text if isinstance(node, _Token) else "" for node in nodes[position : position + 10]]
    if texts and texts[0].startswith("("):
        return position + next((i for i, text in enumerate(texts) if text.endswith(")")), -1) + 1
    return position


def _inside(group: _Group) -> _Nodes:
    """The nodes of a group, without the arguments of a tabular."""
    nodes = group.nodes
    _, position = _arguments(nodes, _past_bracket(nodes, 0), _TABULARS.get(group.kind, 0))
    return nodes[position:] if group.kind in _TABULARS else nodes


def _from_command(nodes: _Nodes, command: str) -> _Nodes | None:
    """The nodes from the first such command on, wherever it is nested."""
    for index, node in enumerate(nodes):
        if isinstance(node, _Group):
            if (found := _from_command(node.nodes, command)) is not None:
                return found
        elif node.text == command:
            return nodes[index:]
    return None


# --- plain text -----------------------------------------------------------------------------------------------------

GREEK = ("alpha", "beta", "gamma", "delta", "epsilon", "eta", "lambda", "mu", "nu", "rho", "sigma", "tau")
_THIN = "\u2009"
_SYMBOLS = {
    "pm": "±", "textpm": "±", "times": "×", "cdot": "·", "percent": "%", "%": "%", "&": "&", "_": "_", "#": "#",
    "$": "$", "{": "{", "}": "}", ",": _THIN, "thinspace": _THIN, ";": " ", ":": " ", " ": " ", "\n": " ", "\\": " ",
    "quad": " ", "qquad": " ", "newline": " ", "tabularnewline": " ", "textendash": "–", "textemdash": "—",
    "approx": "≈", "sim": "~", "textasciitilde": "~", "textasciicircum": "^", "textbackslash": "\\", "textless": "<",
    "textgreater": ">", "textbar": "|", "textquotedblright": '"', "textasciigrave": "`", "textminus": "−",
    **{name: name for name in GREEK},
}  # fmt: skip
# Commands by how many of their arguments are not text. What follows those is, and stands in the cell.
_NOT_TEXT = {
    0: "num SI qty makecell thead shortstack makebox",
    1: "cite citep citet citealp citealt citeauthor parencite textcite autocite ref eqref cref autoref label tnote "
    "footnote footnotemark footnotetext hspace vspace cellcolor rowcolor color includegraphics phantom hphantom "
    "vphantom cmidrule cline textcolor colorbox href rotatebox scalebox parbox raisebox",
    2: "rule setlength fcolorbox resizebox multirow multicolumn",
}
_DROPPED = {name: count for count, names in _NOT_TEXT.items() for name in names.split()}


def _plain(nodes: _Nodes) -> str:
    """The text that is set. Of commands that are not known here the arguments stand, side by side."""
    out: list[str] = []
    nodes, position = list(nodes), 0
    while position < len(nodes):
        node = nodes[position]
        position += 1
        if isinstance(node, _Group):
            out.append(_plain(_inside(node)) if node.kind == "{" else f" {_plain(_inside(node))} ")
        elif node.text in ("^", "_", r"\textsuperscript", r"\textsubscript"):
            if len(node.text) == 1:
                _part_first_character(nodes, position)
            (given,), position = _arguments(nodes, position, 1)
            out.append(_raised(node.text, _tidy(_plain(given)), "".join(out[-2:]).rstrip()))
        elif not node.text.startswith("\\"):
            text = node.text.replace("---", "—").replace("--", "–")
            out.append({"$": "", "~": " ", "&": " "}.get(text, text))
        else:
            name = node.text[1:] if len(node.text) <= 2 else node.text[1:].rstrip("*")
            out.append(_SYMBOLS.get(name, ""))
            if name in _DROPPED:
                _, position = _arguments(nodes, _past_bracket(nodes, position), _DROPPED[name])
                position = _past_bracket(nodes, position) if name == "multirow" else position
    return "".join(out)


def _part_first_character(nodes: _Nodes, position: int) -> None:
    """Without braces only one character is raised: the rest of the token is text again."""
    node = nodes[position] if position < len(nodes) else None
    if isinstance(node, _Token) and len(node.text) > 1 and not node.text.startswith("\\"):
        nodes[position : position + 1] = [_Token(node.text[0], node.line), _Token(node.text[1:], node.line)]


def _raised(mark: str, text: str, before: str) -> str:
    """A superscript or subscript in a line: a spread stays, a power of ten stays, the mark of a note goes."""
    high = mark in ("^", r"\textsuperscript")
    if text.startswith("±"):
        return f" {text}"
    if high and re.search(r"(^|\D)10$", before) and re.fullmatch(r"[-−+]?\d+", text):
        return f"^{text}"
    if re.fullmatch(r"\d*\.\d+", text) or (not high and text.isdigit()):
        return f" ({text})"
    return "" if high else f" {text}"


def _tidy(text: str) -> str:
    text = re.sub(rf"{_THIN}(?!\d)|(?<!\d){_THIN}", " ", text)
    text = re.sub(r"(?:(\d+(?:\.\d+)?) ?[×·] ?)?\b10\^([-−+]?\d+)", _power_of_ten, text)
    return clean(text)


def _power_of_ten(match: re.Match[str]) -> str:
    return f"{match[1] or 1}e{match[2].replace('−', '-')}"
