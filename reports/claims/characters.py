"""Characters that are not what they seem: invisible ones, look-alikes, and letters of two scripts in one word.

People and rules read a claim's text, and both must see the same words. The checks are those of Unicode's UTS 39, in
short: nothing is invisible, NFKC changes nothing, and a word with Latin letters has no others.
"""

import re
import unicodedata
from collections.abc import Iterator

# Typography that people paste from papers and that shows what it is; NFKC would change it.
_TYPOGRAPHY = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2011": "-", "\u2026": "...", "\u2122": ""})


def plain_characters(text: str) -> str:
    """Return the text composed (NFC), with a common space, hyphen and ellipsis for their typographic forms."""
    return unicodedata.normalize("NFC", text).translate(_TYPOGRAPHY)


def deceptive_characters(text: str) -> list[str]:
    """Return each character that is not what it seems, with its code and name; words of two scripts as a whole."""
    text = plain_characters(text)
    return list(dict.fromkeys([*map(_named, filter(_is_deceptive, text)), *_words_of_two_scripts(text)]))


def _is_deceptive(character: str) -> bool:
    """Whether it is invisible, a combining mark, another digit than 0 to 9, or another form of other characters."""
    if character in "\t\n\r" or (character.isascii() and character.isprintable()):
        return False
    category = unicodedata.category(character)
    return category[0] in "CMZ" or category == "Nd" or unicodedata.normalize("NFKC", character) != character


def _words_of_two_scripts(text: str) -> Iterator[str]:
    """Yield the words that have Latin letters and others: "ImageNet" with a Cyrillic a."""
    for word in re.findall(r"\w+", text):
        scripts = sorted({_script(letter) for letter in word if letter.isalpha()})
        if "LATIN" in scripts and len(scripts) > 1:
            yield f"{' and '.join(scripts)} letters in {word!r}"


def _script(letter: str) -> str:
    """Return the first word of the letter's name, which is its script: LATIN, CYRILLIC, GREEK."""
    return unicodedata.name(letter, "UNNAMED").split()[0]


def _named(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'without a name')}"
