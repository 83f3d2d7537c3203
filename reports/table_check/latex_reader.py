"""Find the tables of a LaTeX file, with their captions and notes, and what is not read.

No TeX runs and no other file is opened. The file's own macros are expanded inside tables and captions, up to a limit.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from twinbench.reports.table_check.latex_grid import INCLUDING, Grid, NotFollowed, read_table
from twinbench.reports.table_check.latex_text import TABULARS, plain_text
from twinbench.reports.table_check.latex_tokens import Token, TokenStream, joined, tokens
from twinbench.reports.table_check.numbers import printed_numbers


class NotRead(NamedTuple):
    """A number, or a command that makes a table, which is not read; `where` names the environment or the command."""

    line: int
    text: str
    where: str


class LatexFile(NamedTuple):
    """What is in a LaTeX file."""

    tables: list[Grid]
    not_followed: list[NotFollowed]
    not_read: list[NotRead]


# --- the file -------------------------------------------------------------------------------------------------------

_FLOATS = re.compile(r"(sub|wrap|sideways)?(table|figure)\*?|minipage|threeparttable")
_DEFINING = (r"\newcommand", r"\renewcommand", r"\providecommand", r"\def")
_CAPTIONS = (r"\caption", r"\captionof", r"\subcaption")
_TABLE_FLOATS = re.compile(r"(sub|wrap|sideways)?table\*?")
# Commands that make a table in a way that is not read.
_TABLE_COMMANDS = (r"\halign", r"\ctable", r"\tabular", r"\tabularx", r"\longtable", r"\tblr", r"\startdata")
# Environments in which & separates something else than the columns of a table.
_NO_TABLES = re.compile(
    r"((flal|al|xal|xxal)ign(ed|at|edat)?|gather(ed)?|split|multline|eqnarray|IEEEeqnarray(box)?|d?r?cases|equation|math"
    r"|displaymath|subarray|[a-zA-Z]*[mM]atrix|tikzpicture|tikzcd|pgfpicture|axis|scope|document)\*?"
)


class _Open(NamedTuple):
    """An open environment, with the captions and the tokens that are directly in it."""

    name: str
    captions: list[str]
    tokens: list[Token]
    notes: list[str]


def latex_tables(text: str) -> LatexFile:
    """Return all tables, and what is not read. LatexError for an unreadable table."""
    stream = TokenStream(tokens(text))
    environments: list[_Open] = []
    found: list[tuple[Grid, list[list[str]]]] = []
    including: list[NotFollowed] = []
    not_read: list[NotRead] = []
    notes: list[list[list[str]]] = []  # by table
    while (token := stream.take()) is not None:
        command = token.text.rstrip("*")
        if command in _DEFINING:
            stream.define(command)
        elif command in (r"\newenvironment", r"\renewenvironment"):
            stream.arguments(3)
        elif command in INCLUDING or (command == r"\includegraphics" and _in_table(environments)):
            stream.bracket()
            included = f"{command}{{{joined(stream.argument())}}}"
            including.append(NotFollowed(token.line, included, in_float=_in_table(environments)))
        elif command in _TABLE_COMMANDS or stream.defines(token.text, TABULARS):
            not_read.append(NotRead(token.line, token.text, token.text))
        elif command in _CAPTIONS:
            _read_caption(stream, token, [one.captions for one in environments if _FLOATS.fullmatch(one.name)])
        elif token.begins in TABULARS:
            table, inside = read_table(stream.body(token.begins, token.line), token)
            including += [replace(one, table=len(found) + 1) for one in inside]
            found.append((table, [one.captions for one in environments]))
            notes.append([one.notes for one in environments])
        elif token.begins:
            environments.append(_Open(token.begins, [], [], []))
        elif token.ends:
            not_read += _close(environments, token.ends)
        elif environments:
            environments[-1].tokens.append(token)
    captions = [" ".join(filter(None, [table.caption, *chain(*reversed(around))])) for table, around in found]
    tables = [
        replace(table, caption=one, notes=" ".join(chain(*around)))
        for (table, _), one, around in zip(found, captions, notes, strict=True)
    ]
    return LatexFile(tables, including, not_read)


def _in_table(environments: Sequence[_Open]) -> bool:
    return any(_TABLE_FLOATS.fullmatch(one.name) for one in environments)


def _close(environments: list[_Open], name: str) -> list[NotRead]:
    """Close the innermost environment of that name; return the numbers in it if it has columns that are not read.

    Outside tables, TeX accepts environments that do not nest.
    """
    names = [one.name for one in environments]
    if name not in names:
        return []
    first = len(names) - 1 - names[::-1].index(name)
    inside = [token for one in environments[first:] for token in one.tokens]
    if name == "tablenotes" and first:
        environments[first - 1].notes.append(plain_text(inside))
    del environments[first:]
    if _NO_TABLES.fullmatch(name) or not (name == "tabbing" or any(token.text == "&" for token in inside)):
        return []
    return [NotRead(token.line, text, name) for token in inside for text in printed_numbers(token.text)]


def _read_caption(stream: TokenStream, token: Token, floats: list[list[str]]) -> None:
    """Add the caption that follows to the innermost float."""
    if token.text.startswith(r"\captionof"):
        stream.argument()
    stream.bracket(required=True)
    if floats and stream.peek() == "{":
        stream.skip_space()
        stream.take()
        floats[-1].append(plain_text(stream.body("{", token.line)))
