"""Numbers outside the cells of a table: in its caption, its head, its headings and its labels.

A setting, a count, a year, a reference and the like are not results. What remains is looked up if a sentence of the
caption names its method, and is counted as not read otherwise.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

from twinbench.reports.table_check.labels import Vocabulary
from twinbench.reports.table_check.lookups import Lookup
from twinbench.reports.table_check.numbers import ALONE, PrintedNumber, is_value
from twinbench.reports.table_check.reader import PrintedTable
from twinbench.reports.table_check.shape import setting_text, shape
from twinbench.reports.tables.cells import REPORTED_ON

_COUNTED = (
    "images?|samples?|examples?|classes|epochs?|seeds?|runs?|views?|steps?|iterations?|gpus?|cpus?|cores?|hours?|h|"
    "minutes?|seconds?|datasets?|methods?|rows?|columns?|neighbou?rs?|layers?|trials?|cells?|parameters?|pixels?|px|"
    "folds?|candidates?|decimals?|digits|tasks?|nodes?|bits?|times|crops?|warm-?up"
)
_NUMBER = r"\d+(?:[.,]\d+)*"
_NUMBERS = rf"{_NUMBER}(?:(?: ?[,/–-] ?|,? and |,? or | to ){_NUMBER})*"
# Numbers in text that are no results, in lower case.
_NO_RESULTS = [
    re.compile(pattern)
    for pattern in (
        rf"{_NUMBERS} ?(?:[a-z-]+ )?(?:{_COUNTED})\b",
        rf"\b(?:seeds?|epochs?|views?|versions?) ?[=:]? ?{_NUMBERS}",
        r"\b9[059](?:\.\d)? ?% ?(?:[\w'’-]+ ){0,2}?(?:intervals?|ci|cis|confidence|level|credible)\b",
        r"±? ?9[059](?:\.\d)? ?% ?(?:t )?(?:interval|ci)\b",
        r"\b(?:tab(?:le|\.)?|fig(?:ure|\.)?|sec(?:tion|\.)?|eqn?(?:uation|\.)?|app(?:endix|\.)?|ref\.?|chapter|algorithm|§)"
        r"s?~? ?\(?[a-z]?\.?\d+(?:\.\d+)*\)?",
        r"(?<![\d.,])(?:19|20)\d\d(?![\d.,]|\s?%)",
        r"\b[knp] ?[=<>≤] ?\d*\.?\d+",
        r"\bsignifican\w* (?:\w+ ){0,4}\d+(?:\.\d+)? ?%|\b(?:at )?\d+(?:\.\d+)? ?% level",
        r"\d+ ?[×x] ?\d+(?: ?[×x] ?\d+)?",
        r"\b[0-9a-f]{8,64}\b",
        r"\b(?:cifar|stl|imagenet|places|top|resnet|vit|convnext|swin)[ ~-]?\d+\b",
        r"\[\d+(?:, ?\d+)*\]",
        r"\b[a-z]+@\d+",
    )
]
# Words of a sentence that says which result a method has.
_VERBS = (
    "reach reaches reached attain attains attained achieve achieves achieved obtain obtains obtained get gets has have "
    "gives give scores scored top here best now only about up"
)


def numbers_outside(table: PrintedTable, vocabulary: Vocabulary) -> Iterator[tuple[Lookup, str]]:
    """Yield the numbers outside the table's value cells, each with what is wrong with it; empty: look it up."""
    yield from _of_text(table, table.caption, "caption", vocabulary)
    yield from _of_text(table, table.notes, "notes", vocabulary)
    columns = shape(table, vocabulary).columns
    for row in table.head_rows:
        for number, text in _once(row.cells):
            named = {value for _, value in columns[number].facts.settings}
            if setting_text(text) not in named and is_value(text) and not vocabulary.is_value(text):
                yield _not_read(row.line, "head", text), "is in the head"
            elif not is_value(text):
                yield from ((_not_read(row.line, "head", one), "is in the head") for one in _results(text, vocabulary))
    group = ""
    for row in table.rows:
        if row.group != group:
            group = row.group
            for one in _results(group, vocabulary):
                yield _not_read(row.line, group, one), "is in a heading between the rows"
        for text, column in zip(row.cells, columns, strict=True):
            for one in _results(text, vocabulary) if column.kind in ("label", "ignored") else ():
                if "." in one or "," in one or "%" in text:
                    yield _not_read(row.line, text, one), "is in a label, or in a column that is not compared"


def _once(cells: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield each text of a head row with its column, a text over several columns once."""
    for column, text in enumerate(cells):
        if text and (column == 0 or cells[column - 1] != text):
            yield column, text


def _not_read(line: int, where: str, text: str) -> Lookup:
    return Lookup(line, -1, -1, where, "", PrintedNumber(text, Decimal(), "unclear"))


def _results(text: str, vocabulary: Vocabulary) -> list[str]:
    """Return the numbers of a text that may be results."""
    found = [match[0] for match in ALONE.finditer(_without_settings(text, vocabulary))]
    return [one for one in found if not vocabulary.is_value(one)]


def _without_settings(text: str, vocabulary: Vocabulary) -> str:
    """Return the text in lower case with spaces in place of settings, counts, years, references and the like."""
    text = vocabulary.without_settings(text)
    for pattern in _NO_RESULTS:
        text = pattern.sub(lambda match: " " * len(match[0]), text)
    return text


def _of_text(table: PrintedTable, whole: str, where: str, vocabulary: Vocabulary) -> Iterator[tuple[Lookup, str]]:
    """Yield the numbers of caption or notes: looked up where the words before them name one method and no more."""
    caption, start = vocabulary.facts(table.caption), 0
    text = _without_settings(whole, vocabulary)
    for match in ALONE.finditer(text):
        if vocabulary.is_value(match[0]) and not text[match.end() :].lstrip().startswith("%"):
            continue
        sentence = re.split(r"[.;:(](?=\s)|[;(]", text[start : match.start()])[-1]
        facts, start = vocabulary.facts(sentence.strip()), match.end()
        percent = text[match.end() :].lstrip().startswith(("%", "percent"))
        number = PrintedNumber(match[0], Decimal(match[0].replace(",", ".")), "value", percent)
        lookup = Lookup(
            table.line,
            -1,
            -1,
            where,
            sentence.strip(),
            number,
            "mean",
            methods=facts.methods,
            version=facts.version,
            settings=facts.settings,
            of_caption=caption.settings,
            metrics=tuple(vocabulary.metrics_of([facts.metric, caption.metric])),
            split=min(facts.splits or caption.splits or {REPORTED_ON}),
            scope=caption if caption.names_protocol_or_dataset else None,
            percent=percent,
        )
        is_clear = len(facts.methods) == 1 and not set(facts.unknown) - set(_VERBS.split()) and not facts.statistics
        yield lookup, "" if is_clear else f"is in the {where}"
