"""Claim: what is not a TOML file of a bounded size and depth is refused at once, in one line for each mistake."""

from pathlib import Path

import pytest

from twinbench.sweeps.errors import LONGEST_PART, MOST_MISTAKES, InvalidInput
from twinbench.sweeps.sweep import Sweep
from twinbench.sweeps.toml_reader import LARGEST, MOST_VALUES, parse, read_toml, read_value


def _mistakes(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        parse(Sweep, read_toml(path), "s.toml")
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("seeds = [" + "1" * 5000 + "]", "has an integer with too many digits; allowed: at most 4,300"),
        ("x = " + "[" * 3000 + "]" * 3000, "is nested too deeply; allowed: at most 50 levels, and 10 dots in a key"),
        (
            "\n".join(f"k{number}{'.a' * 20} = 1" for number in range(1000)),
            "is nested too deeply; allowed: at most 50 levels, and 10 dots in a key",
        ),
        (f'x = "{"x" * LARGEST}"', "larger than 1 MiB"),
        (f"x = [{'1,' * MOST_VALUES}]", f"holds 50,002 values; allowed: at most {MOST_VALUES:,}"),
    ],
)
def test_what_would_take_long_to_read_is_one_mistake(tmp_path: Path, text: str, piece: str) -> None:
    (line,) = _mistakes(tmp_path, text)
    assert piece in line


def test_a_long_line_of_numbers_with_dots_is_not_deep(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(f"x = {[0.5] * 40_000}\nquestion = '{'A sentence. ' * 100}'")
    assert len(read_toml(tmp_path / "s.toml")["x"]) == 40_000


def test_mistakes_are_listed_up_to_a_bound_and_the_rest_is_counted(tmp_path: Path) -> None:
    lines = _mistakes(tmp_path, "\n".join(f"k{number} = 1" for number in range(40_000)))
    assert len(lines) == MOST_MISTAKES + 1
    assert lines[-1] == f"s.toml: {40_000 - MOST_MISTAKES + 3 + 1:,} more mistakes are not listed"  # and 4 missing keys


def test_the_count_of_mistakes_that_are_not_listed_survives_further_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(Sweep, dict.fromkeys(map(str, range(100)), 1), "s.toml")
    mistakes = caught.value.mistakes
    again = InvalidInput([*mistakes[:1], *mistakes]).mistakes
    assert sum(mistake.count for mistake in again) == 1 + sum(mistake.count for mistake in mistakes) == 1 + 104


def test_a_long_value_is_shown_by_its_beginning_and_its_length(tmp_path: Path) -> None:
    (line,) = _mistakes(tmp_path, f'question = "q"\nprotocol = "p"\nseeds = [0]\ngrids = "{"x" * 500_000}"')
    assert "xxx... (500,002 characters))" in line and len(line) < 500
    (line,) = _mistakes(tmp_path, f'question = "q"\nprotocol = "p"\nseeds = [0]\ngrids.{"x" * 500_000} = 1')
    assert len(line) < LONGEST_PART + 500


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1,\n2]", [1, 2]),
        ("0.1", 0.1),
        ("08:00:00", "08:00:00"),
        ("word", "word"),
        ("", ""),
        ("1\nseeds=[5]", "1\nseeds=[5]"),  # two values are none
        ("1, b = 2", "1, b = 2"),
        ("1 }\nb = { c = 2", "1 }\nb = { c = 2"),
        ("1 # 2", "1 # 2"),
    ],
)
def test_a_text_is_read_whole_as_one_value_or_as_a_string(text: str, value: object) -> None:
    assert read_value(text, "--set") == value


def test_an_integer_that_no_record_could_hold_is_named_by_its_key(tmp_path: Path) -> None:
    (line,) = _mistakes(tmp_path, f'question = "q"\nprotocol = "p"\nseeds = [0, {2**63}]\ngrids = []')
    assert line == f"s.toml: seeds.1: is not an integer of 64 bits (seen: '{2**63}')"
