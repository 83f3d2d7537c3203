"""Reads who is compared with whom in a claim's sentence, and in which direction.

Words of comparison are accounted for where they agree with the claim: the method before them is the better one, that
behind them the other, and the reverse for "worse" and "not better". Otherwise they are left, as more than was judged.
"""

import itertools
import re

from twinbench.reports.claims.claim import Claim
from twinbench.reports.rules import words

BLANK = "\x00"  # in place of what is accounted for
BOUND, WITHIN = "\x01", "\x02"  # in place of "no more than two points", which bounds a loss, and "within two points of"
_MARKS = r"(?:than|over|compared (?:with|to)|relative to|rather than|unlike|against|versus|vs\.?)(?: [\w-]+){0,5}? "
_ANEW = r"\b(?:and|but|while)\b|[,;:.]"  # between two comparisons


def blanked(found: re.Match[str]) -> str:
    """Return blanks of the same length."""
    return BLANK * len(found[0])


def read(claim: Claim, sentence: str, whole: str, mentions: tuple[str, str], is_level: bool) -> str:
    """Return the sentence with the words of comparison blanked that agree with the claim.

    `whole` is the sentence before anything was blanked, of the same length. `is_level`: A is not shown to be above B by
    more than what it may be below, so that a claim that it is not worse may also say that it is "on par".
    """
    if claim.kind == "monotone":
        return _read_growth(claim, sentence, whole)
    if claim.kind not in ("better", "wins", "best_of", "not_worse"):
        return sentence
    relations = _relations(claim, sentence, mentions)
    agreeing = [word for word, outcome in relations if outcome == "agrees" and (is_level or not word["level"])]
    rest = list(sentence)
    for word in agreeing:
        rest[word.start() : word.end()] = blanked(word)
        clause = _clause(sentence, word)
        for negation in re.finditer(rf"\b(?:{words.PLAIN_NEGATIONS})\b|{BOUND}", sentence[clause]):
            at = slice(clause.start + negation.start(), clause.start + negation.end())
            rest[at] = blanked(negation)
    return "".join(rest)


def is_exchanged(claim: Claim, sentence: str, mentions: tuple[str, str]) -> bool:
    """Whether the sentence says of a claim that A is better that B is."""
    relations = _relations(claim, sentence, mentions) if claim.kind in ("better", "wins") else []
    return any(outcome == "exchanged" for _, outcome in relations)


def _relations(claim: Claim, sentence: str, mentions: tuple[str, str]) -> list[tuple[re.Match[str], str]]:
    """Return each word of comparison, with whether it agrees with the claim, exchanges its sides, or is unclear."""
    a, b = mentions
    above, below = words.ABOVE, words.BELOW
    if claim.lower_is_better:
        above, below = (
            f"{words.CHEAPER}|{_without(above, words.DEARER)}",
            f"{words.DEARER}|{_without(below, words.CHEAPER)}",
        )
    above = f"{words.BEST}|{above}" if claim.kind == "best_of" else above
    token = re.compile(
        rf"(?P<mark>{_MARKS})?(?:(?P<a>{a})|(?P<b>{b}))|(?<![\w-])(?:(?P<below>{below})|(?P<level>{words.LEVEL}"
        rf"|{WITHIN})|(?P<not_below>{words.NOT_BELOW})|(?P<above>{above}))(?![\w-])"
    )
    found = [*token.finditer(sentence)]
    if claim.kind != "best_of" and not any(one["b"] for one in found):
        return []  # "better" without the other side says more than that one was compared
    relations = []
    incomplete = _incomplete(sentence, found) if claim.kind != "best_of" else set()
    for place, word in enumerate(found):
        if not _side(word):
            outcome = _outcome(claim, word, sentence, found[:place], found[place + 1 :])
            relations.append((word, "unclear" if outcome == "agrees" and place in incomplete else outcome))
    return relations


def _incomplete(sentence: str, found: list[re.Match[str]]) -> set[int]:
    """Return the places of words of comparison that name no other side, where the sentence has another comparison.

    "SimCLR beats BYOL and works better" says more than its first half, which alone says better than what.
    """
    groups: list[list[int]] = []  # in "is ahead, and better, than" each word begins another group
    for place, word in enumerate(found):
        if _side(word):
            continue
        if groups and not re.search(_ANEW, sentence[found[groups[-1][-1]].end() : word.start()]):
            groups[-1].append(place)
        else:
            groups.append([place])
    is_complete = [
        any(map(_side, found[group[-1] + 1 : group[-1] + 2]))
        or found[group[-1]][0] == WITHIN
        or (group is groups[0] and any(one["mark"] for one in found[: group[0]]))
        for group in groups
    ]
    return {
        place
        for group, complete in zip(groups, is_complete, strict=True)
        for place in group
        if not complete and len(groups) > 1
    }


def _without(alternatives: str, others: str) -> str:
    return "|".join(one for one in alternatives.split("|") if one not in others.split("|"))


def _outcome(
    claim: Claim, word: re.Match[str], sentence: str, before: list[re.Match[str]], after: list[re.Match[str]]
) -> str:
    """Compare a word's sides with those of the claim.

    Its subject is the last side before it that is not marked as the other one ("than byol"); its object is the next
    side behind it, before another word of comparison, or else a marked one before it.
    """
    named = [(one, previous) for previous, one in itertools.pairwise([None, *before]) if one and _side(one)]
    is_object = [bool(one["mark"]) or (previous is not None and not _side(previous)) for one, previous in named]
    subject = next((_side(one) for (one, _), other in zip(named[::-1], is_object[::-1], strict=True) if not other), "")
    behind = [*itertools.takewhile(_side, after)]
    object_ = next((_side(one) for one in [*behind, *reversed(before)] if _side(one) and one["mark"]), "")
    if behind and (not object_ or not behind[0]["mark"]):
        object_ = _side(behind[0])
    marked = next((_side(one) for one in behind if one["mark"]), "")
    if marked and not subject and not behind[0]["mark"]:  # "better at 256 than at 64"
        subject, object_ = _side(behind[0]), marked
    if behind and re.match(r"(?:advantage|improvements?|gains?|lead|favou?r) of ", sentence[word.start() :]):
        subject, object_ = _side(behind[0]), _side(behind[1]) if behind[1:] else ""
    negations = len(re.findall(rf"\b(?:{words.NEGATIONS})\b|{BOUND}", sentence[_clause(sentence, word)]))
    says_not_below, is_negated = bool(word["level"] or word["not_below"]), negations % 2 == 1
    if claim.kind == "not_worse":
        if says_not_below == is_negated:  # "better" says more than not worse; "not on par" the opposite
            return "unclear"
    elif says_not_below:
        return "unclear"
    is_above = (bool(word["above"]) or says_not_below) != is_negated
    expected = ("a", "b") if is_above or word["level"] else ("b", "a")
    if subject in ("", expected[0]) and object_ in ("", expected[1]):
        return "agrees"
    return "exchanged" if subject == expected[1] and object_ in ("", expected[0]) else "unclear"


def _side(found: re.Match[str]) -> str:
    return "a" if found["a"] else "b" if found["b"] else ""


def _clause(sentence: str, word: re.Match[str]) -> slice:
    """Return the part of the sentence around the word, between punctuation."""
    start = max(sentence.rfind(mark, 0, word.start()) for mark in ",;:.") + 1
    ends = [end for mark in ",;:." if (end := sentence.find(mark, word.end())) >= 0]
    return slice(start, min(ends, default=len(sentence)))


def _read_growth(claim: Claim, sentence: str, whole: str) -> str:
    """Return the sentence without the words of growth in clauses that have the claim's direction.

    Two words of opposite directions in one clause fall: "loses accuracy as the batch grows", "falls from 512 to 128".
    """
    rest, start = "", 0
    for end in [*(found.end() for found in re.finditer(r"[,;:.](?!\d)| and ", whole)), len(whole)]:
        clause = whole[start:end]
        down = len(re.findall(rf"(?<![\w-])(?:{words.DOWN})(?![\w-])", clause))
        numbers = re.search(r"\bfrom\b.*?(\d+)\b.*?\bto\b.*?(\d+)\b", clause)
        down += numbers is not None and float(numbers[1]) > float(numbers[2])
        is_agreed = (down % 2 == 0) == (claim.direction == "increasing")
        pattern = rf"(?<![\w-])(?:{words.UP}|{words.DOWN})(?![\w-])" if is_agreed else r"(?!)"
        rest, start = rest + re.sub(pattern, blanked, sentence[start:end]), end
    return rest
