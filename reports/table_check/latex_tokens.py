"""Cut a LaTeX file into tokens, read the arguments of commands, and expand the macros that the file defines.

No library does this: pylatexenc and TexSoup do not expand macros and raise RecursionError on nested braces, pylatexenc
takes quadratic time on long text, and plasTeX runs TeX code and opens other files.
"""

import re
from collections.abc import Container, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from twinbench.reports.table_check.numbers import clean

MOST_DEPTH = 60
MOST_EXPANDED = 100_000  # tokens that all expanded macros of a file may add up to
LONGEST_BRACKET = 200  # tokens of an optional argument; a limit keeps the search for its end linear

_NOT_TYPESET = r"\\begin\{(?P<raw>verbatim\*?|Verbatim|lstlisting|minted|comment)\}"
_TOKEN = re.compile(
    r"%[^\n]*(?:\n[ \t]*)?"
    rf"|{_NOT_TYPESET}"
    r"|\\(?P<edge>begin|end)\s*\{(?P<name>[^{}\\]{0,100})\}"
    r"|\\verb\*?(?P<bar>[^\sa-zA-Z*])(?P<verb>[^\n]{0,300}?)(?P=bar)"
    r"|\\[a-zA-Z@]+\*?|\\.|[{}&$^_~\[\]]|\s+|[^\\{}&$^_~\[\]%\s]+|\\",
    re.DOTALL,
)


# `twinbench paper` writes above each row of a table, in comments, the queries that give its numbers.
QUERY = "%query"
_QUERY = re.compile(
    r"\bcell_id = '([0-9a-f]{16})'(?: AND (?:NOT )?confirms)? AND status = 'done' "
    r"AND name = '(\w+)' AND split = '(\w+)'"
)


class LatexError(Exception):
    """The text at `line` cannot be read as a table; `problem` says why."""

    def __init__(self, line: int, problem: str):
        super().__init__(f"line {line}: {problem}")
        self.line, self.problem = line, problem


class Token(NamedTuple):
    r"""A command, a brace, another special character, white space, or a word. \begin{name} is one token."""

    text: str
    line: int

    @property
    def begins(self) -> str:
        r"""The name of the environment that this \begin{name} opens, or an empty string."""
        return self.text[7:-1] if self.text.startswith(r"\begin{") else ""

    @property
    def ends(self) -> str:
        r"""The name of the environment that this \end{name} closes, or an empty string."""
        return self.text[5:-1] if self.text.startswith(r"\end{") else ""

    @property
    def nesting(self) -> int:
        """1 where a group or an environment opens, -1 where one closes, else 0."""
        if self.text[0] not in "{}\\":
            return 0
        return (self.text == "{" or bool(self.begins)) - (self.text == "}" or bool(self.ends))


def tokens(text: str) -> list[Token]:
    r"""Return the tokens up to \end{document}, without comments, verbatim text and what \iffalse hides."""
    found, position, line = [], 0, 1
    text = text.partition(r"\end{document}")[0]
    while match := _TOKEN.match(text, position):
        token, position = match[0], match.end()
        end = rf"\end{{{match['raw']}}}" if match["raw"] else r"\fi" if token == r"\iffalse" else ""
        if end:
            position = text.find(end, position) + len(end)
            if position < len(end):
                raise LatexError(line, f"{token} is not ended")
        elif match["edge"]:
            found.append(Token(rf"\{match['edge']}{{{match['name'].strip()}}}", line))
        elif match["bar"]:
            found.append(Token(match["verb"], line))
        elif not token.startswith("%"):
            found.append(Token(token, line))
        elif query := _QUERY.search(token):
            found.append(Token(f"{QUERY} {query[1]} {query[2]} {query[3]}", line))
        line += text.count("\n", match.start(), position)
    return found


class _Macro(NamedTuple):
    """A macro that the file defines. `default`: of the first argument, which is then optional."""

    arguments: int
    default: list[Token] | None
    body: list[Token]


class TokenStream:
    """Tokens that are taken one after the other, with the arguments of the commands among them."""

    def __init__(self, tokens: Sequence[Token]):
        self._ahead = list(reversed(tokens))
        self._macros: dict[str, _Macro] = {}
        self._expanded = 0

    def take(self) -> Token | None:
        """Return the next token without expanding macros; None at the end."""
        return self._ahead.pop() if self._ahead else None

    def take_expanded(self) -> Token | None:
        """Return the next token after expanding the file's own macros; None at the end."""
        while (token := self.take()) is not None and token.text in self._macros:
            count, default, body = self._macros[token.text]
            optional = self.bracket() if default is not None else None
            given = [] if default is None else [default if optional is None else optional]
            given += [self.argument() for _ in range(count - len(given))]
            expanded = [Token(text, token.line) for text in _substituted(body, given)]
            self._expanded += len(expanded) + 1
            if self._expanded > MOST_EXPANDED:
                raise LatexError(token.line, f"macros come to more than {MOST_EXPANDED:,} tokens")
            self._ahead += reversed(expanded)
        return token

    def defines(self, name: str, environments: Container[str]) -> bool:
        """Return whether `name` is a macro of the file that begins one of the environments."""
        return name in self._macros and any(token.begins in environments for token in self._macros[name].body)

    def peek(self) -> str:
        """Return the text of the next token that is not white space; an empty string at the end."""
        return next((token.text for token in reversed(self._ahead) if not token.text.isspace()), "")

    def skip_space(self) -> None:
        """Take the white space that comes next."""
        while self._ahead and self._ahead[-1].text.isspace():
            self._ahead.pop()

    def argument(self) -> list[Token]:
        """Return the tokens between the braces that follow, or one token where no brace follows."""
        self.skip_space()
        if self.peek() != "{":
            token = self.take()
            return [] if token is None else [token]
        opening = self._ahead.pop()
        inner: list[Token] = []
        depth = 1
        while (token := self.take()) is not None:
            depth += (token.text == "{") - (token.text == "}")
            if depth == 0:
                return inner
            inner.append(token)
        raise LatexError(opening.line, "{ is not closed")

    def arguments(self, count: int) -> list[list[Token]]:
        """Return `count` arguments, skipping optional ones before and between them."""
        found = []
        for _ in range(count):
            while self.bracket() is not None:
                pass
            found.append(self.argument())
        return found

    def bracket(self, opening: str = "[", closing: str = "]", required: bool = False) -> list[Token] | None:
        r"""Return the tokens of an optional argument, such as [2pt], or the (lr) of a \cmidrule; None if none follows.

        It ends with a token outside braces that ends in `closing`. One that does not end before the table's cell, or is
        very long, is text; with `required`, as in a caption or the definition of a macro, it is an error.
        """
        if not self.peek().startswith(opening):
            return None
        self.skip_space()
        stops, most = ((), len(self._ahead)) if required else (("&", r"\\"), LONGEST_BRACKET)
        depth = 0
        for count, token in enumerate(islice(reversed(self._ahead), most), 1):
            depth += (token.text == "{") - (token.text == "}")
            if depth < 0 or (depth == 0 and token.text in stops):
                break
            if depth == 0 and token.text.endswith(closing):
                taken = self._ahead[: -count - 1 : -1]
                del self._ahead[-count:]
                return taken[1:-1]
        if required:
            raise LatexError(self._ahead[-1].line, f"{opening} is not closed")
        return None

    def first_character(self) -> list[Token]:
        """Return what a superscript or subscript raises: an argument, but only one character of a word."""
        self.skip_space()
        if self._ahead and self._ahead[-1].text[0] not in "{\\":
            text, line = self._ahead.pop()
            self._ahead += [Token(part, line) for part in (text[1:], text[0]) if part]
        return self.argument()

    def define(self, command: str) -> None:
        r"""Read the definition that follows \newcommand, \def and their relatives, and keep the macro."""
        if command == r"\def":
            name, pattern = self.take(), ""
            while self._ahead and self._ahead[-1].text != "{":
                pattern += self._ahead.pop().text
            body = self.argument()
            if name is not None and re.fullmatch(r"(#[1-9])*", pattern):  # no other pattern can be expanded here
                self._macros[name.text] = _Macro(len(pattern) // 2, None, body)
        else:
            name_text = joined(self.argument())
            count = joined(self.bracket(required=True) or [])
            default, body = self.bracket(required=True), self.argument()
            if name_text.startswith("\\") and re.fullmatch(r"[1-9]?", count):
                self._macros[name_text] = _Macro(int(count or 0), default, body)

    def body(self, name: str, line: int) -> list[Token]:
        r"""Return the expanded tokens up to the \end{name} or } that closes what was opened at `line`."""
        found: list[Token] = []
        opened = [(name, line)]
        while (token := self.take_expanded()) is not None:
            if token.nesting > 0:
                if len(opened) > MOST_DEPTH:
                    raise LatexError(token.line, f"is nested more than {MOST_DEPTH} deep")
                opened.append((token.begins or "{", token.line))
            elif token.nesting < 0:
                innermost, opening_line = opened.pop()
                if innermost != (token.ends or "{"):
                    raise LatexError(token.line, f"{token.text} does not end the {innermost} of line {opening_line}")
                if not opened:
                    return found
            found.append(token)
        name, line = opened[-1]
        raise LatexError(line, f"the {name} that begins here is not ended")


def joined(tokens: Sequence[Token]) -> str:
    """Return the source text of the tokens, in one line."""
    return clean("".join(token.text for token in tokens))


def _substituted(body: Sequence[Token], given: Sequence[Sequence[Token]]) -> Iterator[str]:
    """Yield the texts of a macro's body, with its arguments in place of #1 to #9."""
    for token in body:
        for number, part in enumerate(re.split(r"#([1-9])", token.text)):
            if number % 2 == 0:
                yield from [part] if part else []
            elif int(part) <= len(given):
                yield from (one.text for one in given[int(part) - 1])
