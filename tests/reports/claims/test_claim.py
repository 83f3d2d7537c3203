"""Claims: a file of claims is read whole or refused with every mistake in it, each with what would be right."""

from dataclasses import asdict
from pathlib import Path

import pytest

from twinbench.reports.claims.claim import (
    KINDS,
    LATER_KEYS,
    Claim,
    all_selectors,
    in_order,
    points,
    read_claims,
    reported_value,
    selector_text,
)
from twinbench.reports.tables.published import published_tables
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.hashing import digest

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
SIMCLR, BYOL = '{ method = "simclr" }', '{ method = "byol" }'


def written(tmp_path: Path, *claims: str, head: str = 'protocol = "cifar10-small"') -> Path:
    file = tmp_path / "claims.toml"
    file.write_text("\n".join([head, *(f"[[claims]]\n{claim}" for claim in claims)]), encoding="utf-8")
    return file


def claim_text(kind: str = "better", name: str = "one", sentence: str = "On CIFAR-10 it holds.", **keys: str) -> str:
    keys = {"a": SIMCLR} | ({"b": BYOL} if kind in ("better", "wins", "not_worse") else {}) | keys
    head = [f'name = "{name}"', f'sentence = "{sentence}"', f'kind = "{kind}"']
    return "\n".join([*head, *(f"{key} = {value}" for key, value in keys.items() if value)])


def mistakes_of(file: Path) -> tuple[Mistake, ...]:
    with pytest.raises(InvalidInput) as caught:
        read_claims(file)
    return caught.value.mistakes


def the_mistake(tmp_path: Path, *claims: str, head: str = 'protocol = "cifar10-small"') -> Mistake:
    (mistake,) = mistakes_of(written(tmp_path, *claims, head=head))
    return mistake


LEAST = {
    "better": {},
    "wins": {},
    "best_of": {},
    "not_worse": {"within": "0.01"},
    "insensitive": {"axis": '"batch_size"', "values": "[64, 128]", "within": "0.01"},
    "monotone": {"axis": '"batch_size"', "values": "[64, 128]"},
    "equals": {
        "a": '{ method = "simclr", batch_size = 128, epochs = 200 }',
        "metric": '"knn_top1"',
        "reported": '"lightly-cifar10"',
        "within": "0.01",
    },
    "collapses": {},
    "does_not_collapse": {},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_with_what_it_needs_and_refused_without(tmp_path, kind):
    keys = LEAST[kind]
    (claim,) = read_claims(written(tmp_path, claim_text(kind, **keys)))
    assert (claim.kind, claim.protocol, claim.family) == (kind, "cifar10-small", "claims")
    for key in KINDS[kind][0]:
        mistakes = mistakes_of(written(tmp_path, claim_text(kind, **keys | {key: ""})))
        assert (f"claims.one: {key}: is missing: claims of kind {kind} need it") in "\n".join(map(str, mistakes))


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_another_kind_is_refused(tmp_path, kind):
    others = {"b": BYOL, "among": f"[{BYOL}]", "at_least": "0.01", "direction": '"decreasing"', "values": "[1, 2]"}
    for key, value in others.items():
        if key not in (*KINDS[kind][0], *KINDS[kind][1]):
            mistake = the_mistake(tmp_path, claim_text(kind, **LEAST[kind] | {key: value}))
            assert (mistake.key, mistake.problem) == (key, f"has no meaning in a claim of kind {kind}")
            assert key not in mistake.allowed.split(", ") and "family" in mistake.allowed


def test_every_mistake_of_a_file_is_reported_at_once(tmp_path):
    file = written(
        tmp_path,
        claim_text("beter", name="typo"),
        claim_text("not_worse", name="lacks"),
        claim_text(name="size", at_least="-0.1"),
        claim_text(name="word", a='{ metod = "simclr" }'),
        claim_text(name="key", famly='"f"'),
    )
    found = [(mistake.where.removeprefix(str(file)), mistake.key) for mistake in mistakes_of(file)]
    assert found == [
        ("", "claims.0.kind"),
        ("", "claims.2.at_least"),
        ("", "claims.4.famly"),
        (": claims.lacks", "within"),
        (": claims.word", "a"),
    ]


def test_a_wrong_kind_key_and_table_are_reported_with_the_nearest_name(tmp_path):
    kind, key = mistakes_of(written(tmp_path, claim_text("beter"), claim_text(famly='"f"')))
    assert (kind.seen, kind.nearest) == ("beter", "better")
    assert (key.problem, key.nearest) == ("unknown key", "family")
    table = the_mistake(tmp_path, claim_text(reported='"lightly-cifar"'))
    assert (table.problem, table.nearest) == ("no such published table", "lightly-cifar10")


def test_a_claim_has_one_name_one_size_and_a_source(tmp_path):
    assert "is given twice" in str(the_mistake(tmp_path, claim_text(), claim_text()))
    assert "a claim has one size" in str(the_mistake(tmp_path, claim_text(at_least="0.01", by="0.01")))
    assert "needs by" in str(the_mistake(tmp_path, claim_text(at_least="0.01", tolerance="0.01")))
    assert the_mistake(tmp_path, claim_text(), head="").key == "protocol"
    assert the_mistake(tmp_path, claim_text(sentence="")).key == "claims.0.sentence"


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("Im\u0430geNet", "CYRILLIC and LATIN letters in 'Im\u0430geNet'"),
        ("Image\u200bNet", "U+200B ZERO WIDTH SPACE"),
        ("Image\u00adNet", "U+00AD SOFT HYPHEN"),
        ("\u202eteNegamI", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("\uff29mageNet", "U+FF29 FULLWIDTH LATIN CAPITAL LETTER I"),
        ("\U0001d408mageNet", "U+1D408 MATHEMATICAL BOLD CAPITAL I"),
        ("5\u0660 seeds", "U+0660 ARABIC-INDIC DIGIT ZERO"),
        ("Image\u0336Net", "U+0336 COMBINING LONG STROKE OVERLAY"),
        ("10\u00b2 epochs", "U+00B2 SUPERSCRIPT TWO"),
    ],
)
@pytest.mark.parametrize("key", ["sentence", "family"])
def test_characters_that_are_not_what_they_seem_are_refused(tmp_path, word, shown, key):
    value = f"On CIFAR-10 and {word} it holds."
    mistake = the_mistake(tmp_path, claim_text(**{key: f'"{value}"' if key == "family" else value}))
    assert mistake.key == key and mistake.problem.startswith("has characters that are not what they seem: ")
    assert shown in mistake.problem


def test_a_sentence_that_is_as_long_as_a_page_is_refused(tmp_path):
    mistake = the_mistake(tmp_path, claim_text(sentence="It holds. " * 201))
    assert (mistake.key, mistake.problem) == ("sentence", "has 2,010 characters")
    assert read_claims(written(tmp_path, claim_text(sentence="It holds. " * 200)))


def test_letters_with_accents_greek_symbols_and_typography_are_what_they_seem(tmp_path):
    honest = "On CIFAR\u201110\u00a0\u2026 Garci\u0301a\u2019s \u201c\u03bb\u201d \u2212 SimCLR\u2122."
    (claim,) = read_claims(written(tmp_path, claim_text(sentence=honest)))
    assert claim.sentence == honest


@pytest.mark.parametrize(("kind", "key"), [("better", "at_least"), ("better", "by"), ("not_worse", "within")])
def test_points_in_place_of_a_fraction_are_refused_for_accuracies_alone(tmp_path, kind, key):
    mistake = the_mistake(tmp_path, claim_text(kind, **{key: "1.2"}))
    assert (mistake.key, mistake.seen) == (key, 1.2) and "one point is 0.01" in mistake.problem
    assert read_claims(written(tmp_path, claim_text(kind, **{key: "60.0"}, metric='"train_seconds"')))


def test_what_is_fixed_in_two_places_is_refused(tmp_path):
    fixed = '{ method = "simclr", batch_size = 64 }'
    axis = claim_text("monotone", a=fixed, axis='"batch_size"', values="[64, 128]")
    assert the_mistake(tmp_path, axis).problem == "is fixed here but varied by axis"
    scope = claim_text(a=fixed, scope="{ batch_size = [64, 128] }")
    assert the_mistake(tmp_path, scope).problem == "is fixed here but varied by scope"
    found = mistakes_of(written(tmp_path, claim_text(scope='{ method = ["dino"] }')))
    assert [mistake.key for mistake in found] == ["a.method", "b.method"]


def test_a_side_is_compared_with_another(tmp_path):
    assert the_mistake(tmp_path, claim_text(b=SIMCLR)).problem == "is the same as a"
    among = claim_text("best_of", among=f"[{BYOL}, {SIMCLR}, {{ batch_size = 64 }}]")
    found = mistakes_of(written(tmp_path, among))
    assert [(mistake.key, mistake.problem) for mistake in found] == [
        ("among.1", "is the same as a"),
        ("among.2", "names no method"),
    ]


@pytest.mark.parametrize(("values", "problem"), [("[64]", "two different"), ("[128, 64]", "order"), ("[1, 1]", "two")])
def test_the_values_of_an_axis_are_several_and_in_order(tmp_path, values, problem):
    for kind, keys in (("monotone", {}), ("insensitive", {"within": "0.01"})):
        mistake = the_mistake(tmp_path, claim_text(kind, axis='"batch_size"', values=values, **keys))
        assert mistake.key == "values" and problem in mistake.problem


def test_numbers_are_put_in_order_and_words_keep_theirs():
    assert in_order([0.5, 2, 1, 2]) == [0.5, 1, 2]
    assert in_order(["linear", "cosine"]) == ["linear", "cosine"]
    assert in_order([True, False]) == [True, False]


@pytest.mark.parametrize("scope", ["{ batch_size = [] }", "{ batch_size = [64, 64] }"])
def test_a_scope_without_points_or_with_one_twice_is_refused(tmp_path, scope):
    assert the_mistake(tmp_path, claim_text(scope=scope)).key == "scope.batch_size"


@pytest.mark.parametrize(
    "text",
    ["", "claims = 3", "claims = []", "claims = [3]", "[claims]\nname = 1", "\ufeff[[claims]]", "name = ", "\x00"],
)
def test_what_is_no_file_of_claims_is_refused(tmp_path, text):
    file = tmp_path / "claims.toml"
    file.write_text(text, encoding="utf-8")
    assert mistakes_of(file)
    file.write_bytes(b"\xff\xfe")
    assert "is not TOML" in str(mistakes_of(file)[0])
    assert "cannot be read" in str(mistakes_of(tmp_path / "nowhere.toml")[0])
    assert "cannot be read" in str(mistakes_of(tmp_path)[0])


def test_a_claim_about_a_published_table_needs_a_row_of_its_own_in_it(tmp_path):
    head = 'reported = "lightly-cifar10"'
    exact = claim_text(
        metric='"knn_top1"',
        a='{ method = "simclr", batch_size = 128, epochs = 200 }',
        b='{ method = "simsiam", batch_size = 128, epochs = 200 }',
    )
    (claim,) = read_claims(written(tmp_path, exact, head=head))
    assert claim.is_about_a_table and claim.protocol == ""
    table = published_tables()["lightly-cifar10"]
    assert reported_value(table, claim, claim.a).value == 0.847
    assert reported_value(table, claim, claim.b).value == 0.819
    loose = claim_text(metric='"knn_top1"', a='{ method = "simclr", epochs = 200 }')
    assert "2 rows" in str(mistakes_of(written(tmp_path, loose, head=head))[0])
    method = exact.replace('"simsiam"', '"simsam"')
    assert the_mistake(tmp_path, method, head=head).nearest == "simsiam"


def test_the_points_of_a_scope_single_out_rows_of_a_published_table_too(tmp_path):
    scoped = claim_text(
        "equals",
        metric='"knn_top1"',
        reported='"lightly-cifar10"',
        within="0.01",
        a='{ method = "simclr", epochs = 200 }',
        scope="{ batch_size = [128, 512] }",
    )
    (claim,) = read_claims(written(tmp_path, scoped))
    table = published_tables()["lightly-cifar10"]
    assert [reported_value(table, claim, claim.a | point).value for point in points(claim)] == [0.847, 0.848]


def test_a_claim_of_cost_finds_minutes_and_memory_in_the_rows_of_an_accuracy(tmp_path):
    (claim,) = [claim for claim in read_claims(EXAMPLES / "lightly_claims.toml") if claim.metric == "peak_memory_gb"]
    table = published_tables()["lightly-cifar10"]
    assert reported_value(table, claim, claim.a).peak_memory_gb == 4.9


def test_the_hash_is_of_all_that_was_claimed_and_of_nothing_else(tmp_path):
    (first,) = read_claims(written(tmp_path, claim_text()))
    (same,) = read_claims(written(tmp_path, claim_text(protocol='"cifar10-small"'), head=""))
    assert first.hash == same.hash and len(first.hash) == 64
    changes = [
        {"sentence": "On CIFAR-10 it holds!"},
        {"at_least": "0.01"},
        {"by": "0.01"},
        {"by": "0.01", "tolerance": "0.01"},
        {"family": '"f"'},
        {"metric": '"knn_top1"'},
        {"a": '{ method = "simclr", epochs = 20 }'},
        {"scope": "{ batch_size = [64] }"},
        {"kind": "does_not_collapse", "b": "", "share": "0.1"},
        {"kind": "does_not_collapse", "b": "", "share": "0.2"},
        {"kind": "wins"},
        {"kind": "wins", "chance": "0.75"},
        {"protocol": '"other"'},
    ]
    hashes = {read_claims(written(tmp_path, claim_text(**change)))[0].hash for change in changes}
    assert len(hashes) == len(changes) and first.hash not in hashes


def test_a_key_that_older_claims_could_not_give_changes_no_hash_where_it_is_left_out(tmp_path):
    (claim,) = read_claims(written(tmp_path, claim_text(by="0.01")))
    older = {key: value for key, value in asdict(claim).items() if key not in LATER_KEYS}
    assert claim.hash == digest(older)
    assert claim.hash == "4e441ace0e8b6e5792fc7c50861f506601551b3a6f76a01f1b046bb9c43f6668"


def test_a_claim_selects_the_values_of_its_axis_or_else_its_sides():
    base = {"name": "n", "sentence": "s", "a": {"method": "simclr"}}
    axis = Claim(**base, kind="monotone", axis="epochs", values=(10, 20))
    assert all_selectors(axis) == [{"method": "simclr", "epochs": 10}, {"method": "simclr", "epochs": 20}]
    sides = Claim(**base, kind="best_of", among=({"method": "byol"},))
    assert all_selectors(sides) == [{"method": "simclr"}, {"method": "byol"}]


def test_the_points_of_a_scope_are_all_its_combinations():
    scope = {"batch_size": [64, 256], "epochs": [20]}
    claim = Claim("n", "s", "collapses", {"method": "simclr"}, scope=scope)
    assert points(claim) == [{"batch_size": 64, "epochs": 20}, {"batch_size": 256, "epochs": 20}]
    assert points(Claim("n", "s", "collapses", {"method": "simclr"})) == [{}]


def test_a_selector_is_called_by_its_method_and_settings():
    assert selector_text({"method": "simclr", "batch_size": 128}) == "simclr, batch_size = 128"
    assert selector_text({"batch_size": 128, "epochs": 20}) == "batch_size = 128, epochs = 20"


@pytest.mark.parametrize("name", ["lightly_claims", "cifar10_claims"])
def test_the_examples_are_read(name):
    assert len(read_claims(EXAMPLES / f"{name}.toml")) == {"lightly_claims": 20, "cifar10_claims": 7}[name]


@pytest.mark.parametrize(
    ("text", "key", "count"),
    [
        (
            claim_text(scope=f"{{ {', '.join(f'x{n} = {[*range(1000)]}' for n in range(4))} }}"),
            "scope",
            "1,000,000,000,000 comparisons or more",
        ),
        (
            claim_text("insensitive", axis='"epochs"', values=f"{[*range(46)]}", within="0.1"),
            "values",
            "1,035 comparisons",
        ),
        (claim_text("monotone", axis='"epochs"', values=f"{[*range(1002)]}"), "values", "1,001 comparisons"),
    ],
)
def test_more_comparisons_than_can_be_judged_are_counted_and_not_made(
    tmp_path: Path, text: str, key: str, count: str
) -> None:
    (mistake,) = mistakes_of(written(tmp_path, text))
    assert mistake.key == key and f"makes {count}" in mistake.problem
    assert mistake.allowed == "at most 1,000"


def test_a_thousand_points_are_read(tmp_path: Path) -> None:
    (claim,) = read_claims(written(tmp_path, claim_text(scope=f"{{ epochs = {[*range(1000)]} }}")))
    assert len(points(claim)) == 1000
