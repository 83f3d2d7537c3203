"""Claim: an error stays short and printable, whatever the input holds."""

from twinbench.sweeps.errors import LONGEST_SEEN, InvalidInput, Mistake


def test_a_value_of_a_megabyte_is_shown_by_its_beginning_and_its_length() -> None:
    text = str(Mistake("sweep.toml", "seeds", "should be a list", "x" * 10**6, "a list"))
    assert text.startswith("sweep.toml: seeds: should be a list (seen: 'xxx") and text.endswith("; allowed: a list")
    assert "... (1,000,002 characters))" in text and len(text) < LONGEST_SEEN + 100


def test_a_key_and_a_list_of_allowed_names_are_bounded_too() -> None:
    assert len(str(Mistake("k" * 10**6, "k" * 10**6, "p" * 10**6, 1, "a" * 10**6, "n" * 10**6))) < 15_000


def test_a_short_mistake_is_shown_whole() -> None:
    mistake = Mistake("sweep.toml", "protocol", "no such protocol", "digit", "digits, shapes", "digits")
    expected = "sweep.toml: protocol: no such protocol (seen: 'digit'); allowed: digits, shapes; did you mean 'digits'?"
    assert str(mistake) == expected


def test_mistakes_that_were_counted_once_are_counted_the_same_again() -> None:
    first = InvalidInput(Mistake("claims.toml", str(number), "is wrong") for number in range(120))
    again = InvalidInput(first.mistakes)
    assert str(again.mistakes[-1]) == "claims.toml: 70 more mistakes are not listed"
    assert again.mistakes == first.mistakes
