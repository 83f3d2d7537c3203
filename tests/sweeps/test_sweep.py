"""Claims: a sweep file expands to the cells that it states, in a stable order; all mistakes in it come at once."""

import re
from pathlib import Path

import pytest

from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.sweep import Sweep, changed, expand, read_protocol, read_sweep, shipped_protocols, shipped_sweeps

HEAD = 'question = "q"\nprotocol = "digits-small"\nseeds = [0]\n'
CONFIRM = '[confirm]\nseeds = [5, 6]\n[[grids]]\nmethods = ["a"]\naxes = {x = [1, 2]}\n'


def _read(tmp_path: Path, text: str, *changes: str) -> Sweep:
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    return read_sweep(str(path), changes)[0]


def _cells(sweep: Sweep) -> list[tuple[object, ...]]:
    return [(cell.method, *cell.values.items()) for cell in expand(sweep)]


def _mistakes(tmp_path: Path, text: str, *changes: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        _read(tmp_path, text, *changes)
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize("name", shipped_sweeps())
def test_shipped_sweeps_read_and_expand(name: str) -> None:
    assert expand(read_sweep(name)[0])


@pytest.mark.parametrize("name", shipped_protocols())
def test_shipped_protocols_bear_the_name_of_their_file(name: str) -> None:
    assert read_protocol(name).name == name


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 10_000 + "]" * 10_000, "a" + ".a" * 20_000 + " = 1", "a" + ".a" * 60 + " = 1"]
)
def test_a_file_that_is_nested_without_end_is_refused(tmp_path: Path, text: str) -> None:
    assert "nested too deeply" in _mistakes(tmp_path, text)[0]


def test_axes_are_crossed_with_the_last_moving_fastest(tmp_path: Path) -> None:
    sweep = _read(tmp_path, HEAD + '[[grids]]\nmethods = ["a"]\n[grids.axes]\nx = [1, 2]\ny = [3, 4]\n')
    assert _cells(sweep) == [("a", ("x", x), ("y", y)) for x, y in [(1, 3), (1, 4), (2, 3), (2, 4)]]


def test_zipped_axes_walk_together_and_cross_with_the_others(tmp_path: Path) -> None:
    text = HEAD + '[[grids]]\nmethods = ["a"]\naxes = {x = [1, 2]}\n[[grids.zipped]]\ny = [3, 4]\nz = [5, 6]\n'
    expected = [(1, 3, 5), (1, 4, 6), (2, 3, 5), (2, 4, 6)]
    assert _cells(_read(tmp_path, text)) == [("a", ("x", x), ("y", y), ("z", z)) for x, y, z in expected]


def test_axes_of_one_method_leave_the_others_alone(tmp_path: Path) -> None:
    text = HEAD + '[[grids]]\nmethods = ["a", "b"]\n[grids.only.b]\ny = [3, 4]\n'
    assert _cells(_read(tmp_path, text)) == [("a",), ("b", ("y", 3)), ("b", ("y", 4))]


def test_a_cell_that_two_grids_ask_for_comes_once(tmp_path: Path) -> None:
    grid = '[[grids]]\nmethods = ["a"]\naxes = {x = [1, 2]}\n'
    assert len(expand(_read(tmp_path, HEAD + grid + grid.replace("[1, 2]", "[2, 3]")))) == 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("x=7", [("a", ("x", 7)), ("b", ("x", 7), ("y", 3))]),
        ("x=[7, 8]", [("a", ("x", 7)), ("a", ("x", 8)), ("b", ("x", 7), ("y", 3)), ("b", ("x", 8), ("y", 3))]),
        ("y=9", [("a", ("x", 1), ("y", 9)), ("b", ("x", 1), ("y", 9))]),
        ("a.y=9", [("a", ("x", 1), ("y", 9)), ("b", ("x", 1), ("y", 3))]),
        ("methods=b", [("b", ("x", 1), ("y", 3))]),
        ("x=word", [("a", ("x", "word")), ("b", ("x", "word"), ("y", 3))]),
    ],
)
def test_set_changes_what_it_names(tmp_path: Path, change: str, expected: list[object]) -> None:
    text = HEAD + '[[grids]]\nmethods = ["a", "b"]\naxes = {x = 1}\n[grids.only.b]\ny = [3]\n'
    assert _cells(_read(tmp_path, text, change)) == expected


def test_set_replaces_the_sweeps_own_keys() -> None:
    assert changed({"seeds": [0]}, "seeds", [1, 2])["seeds"] == [1, 2]


def test_every_mistake_is_told_at_once_with_key_value_and_nearest_name(tmp_path: Path) -> None:
    text = 'question = 3\nprotokol = "digits-small"\nseeds = [0, "a", -1]\n[[grids]]\nmethods = []\naxis = {a = 1}\n'
    error_lines = _mistakes(tmp_path, text)
    for piece in (
        "question: ",
        "protocol: is missing",
        "seeds.1",
        "'a'",
        "seeds.2",
        "-1",
        "grids.0.methods",
        "'axes'?",
    ):
        assert any(piece in line for line in error_lines), piece
    assert any("protokol: unknown key" in line and "did you mean 'protocol'?" in line for line in error_lines)
    assert all("s.toml" in line for line in error_lines)
    assert not any(
        line.startswith(f"{tmp_path}/s.toml: grids: ") for line in error_lines
    )  # no echo of the inner mistakes


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("question = [", "is not TOML"),
        (HEAD + '[[grids]]\nmethods = ["a"]\naxes = {x = [1.0, inf]}\n', "grids.0.axes.x.1: is not a finite number"),
        (HEAD.replace("[0]", "[0, 0]") + '[[grids]]\nmethods = ["a"]\n', "seeds: a seed is listed twice"),
        (HEAD + CONFIRM.replace("[5, 6]", "[5, 5]"), "confirm.seeds: a seed is listed twice"),
        (HEAD + CONFIRM.replace("[5, 6]", "[5, 0]"), "confirm.seeds: seeds of the grid select, so they cannot confirm"),
        (HEAD + CONFIRM.replace("seeds = [5, 6]", ""), "confirm.seeds: is missing"),
        (HEAD + '[[grids]]\nmethods = ["a"]\naxes = {x-y = {z = 1}}\n', "grids.0.axes.x-y: is of the wrong kind"),
        (HEAD + '[[grids]]\nmethods = ["a"]\n[[grids.zipped]]\nx = [1]\ny = [1, 2]\n', "differ in length"),
        (HEAD + '[[grids]]\nmethods = ["a"]\naxes = {x = 1}\n[[grids.zipped]]\nx = [1]\n', "x: is listed twice"),
        (HEAD + '[[grids]]\nmethods = ["a"]\n[grids.only.b]\nx = 1\n', "is not a method of this grid"),
        (HEAD.replace("digits-small", "digits-smal") + '[[grids]]\nmethods = ["a"]\n', "did you mean 'digits-small'?"),
    ],
)
def test_one_mistake_is_one_line(tmp_path: Path, text: str, piece: str) -> None:
    (line,) = _mistakes(tmp_path, text)
    assert piece in line


def test_a_methods_own_axis_takes_the_place_of_a_zipped_one(tmp_path: Path) -> None:
    text = HEAD + '[[grids]]\nmethods = ["a", "b"]\n[[grids.zipped]]\nx = [1, 2]\ny = [3, 4]\n'
    expected = [
        ("a", ("x", 9), ("y", 3)),
        ("a", ("x", 9), ("y", 4)),
        ("b", ("x", 1), ("y", 3)),
        ("b", ("x", 2), ("y", 4)),
    ]
    assert _cells(_read(tmp_path, text, "a.x=9")) == expected


@pytest.mark.parametrize(
    "axes",
    [
        "",
        "axes = {x = [1, 2]}",
        "axes = {x = 1}\n[grids.only.b]\nx = 2",
        "[grids.only.b]\nx = [1, 2]",
        "only = {a = {x = 1}, b = {x = 2}}",
        "[[grids.zipped]]\nx = [1, 2]",
        "[[grids.zipped]]\nx = [1, 2]\n[grids.only.a]\nx = 5",
    ],
)
def test_set_of_a_field_reaches_every_cell_wherever_the_grid_has_it(tmp_path: Path, axes: str) -> None:
    sweep = _read(tmp_path, f'{HEAD}[[grids]]\nmethods = ["a", "b"]\n{axes}\n[[grids]]\nmethods = ["c"]\n', "x=3")
    assert _cells(sweep) == [(method, ("x", 3)) for method in "abc"]


def test_methods_that_no_grid_has_are_named_with_the_nearest(tmp_path: Path) -> None:
    (line,) = _mistakes(tmp_path, HEAD + '[[grids]]\nmethods = ["byol"]\n', "methods=boyl")
    assert "did you mean 'byol'?" in line


def test_set_methods_drops_grids_that_have_none_of_them(tmp_path: Path) -> None:
    text = HEAD + '[[grids]]\nmethods = ["a"]\naxes = {x = 1}\n[[grids]]\nmethods = ["a", "b"]\n'
    assert _cells(_read(tmp_path, text, "methods=b")) == [("b",)]


def test_set_without_a_value_is_a_mistake(tmp_path: Path) -> None:
    (line,) = _mistakes(tmp_path, HEAD + '[[grids]]\nmethods = ["a"]\n', "epochs")
    assert "KEY=VALUE" in line


def test_an_unknown_sweep_names_the_nearest_and_all() -> None:
    with pytest.raises(InvalidInput, match=r"one of .*digits.*did you mean 'digits'"):
        read_sweep("digit")


def test_a_protocols_mistakes_are_told_with_their_place(tmp_path: Path) -> None:
    text = shipped_protocols()["digits-small"].read_text()
    for right, wrong in [('"sgd"', '"sdg"'), ("epochs = 12", "epochs = -3"), ("momentum = 0.9", 'momentum = "0.9"')]:
        assert right in text
        text = text.replace(right, wrong, 1)
    path = tmp_path / "p.toml"
    path.write_text(text.replace("jitter_probability", "jiter_probability", 1))
    with pytest.raises(InvalidInput) as caught:
        read_protocol(str(path))
    error_lines = str(caught.value)
    assert "did you mean 'sgd'?" in error_lines
    assert "training.epochs" in error_lines and "-3" in error_lines
    assert "training.momentum" in error_lines  # a text is no number
    assert (
        "views.0.jiter_probability: unknown key" in error_lines and "did you mean 'jitter_probability'?" in error_lines
    )
    assert len(caught.value.mistakes) == 4


def test_the_hash_covers_what_changes_numbers_and_not_the_prose(tmp_path: Path) -> None:
    text = shipped_protocols()["digits-small"].read_text()
    path = tmp_path / "p.toml"
    hashes = {}
    for name, changed_text in {
        "same": text,
        "prose": text.replace("1,797 scanned", "Scanned"),
        "epochs": text.replace("epochs = 12", "epochs = 21"),
        "view": text.replace("contrast = 0.4", "contrast = 0.5", 1),
    }.items():
        path.write_text(changed_text)
        hashes[name] = read_protocol(str(path)).hash
    assert hashes["prose"] == hashes["same"]
    assert len({hashes["same"], hashes["epochs"], hashes["view"]}) == 3


def test_ridge_penalties_are_hashed_where_they_are_listed_and_leave_no_trace_where_not(tmp_path: Path) -> None:
    text = shipped_protocols()["digits-small"].read_text()
    path = tmp_path / "p.toml"
    ridge = '[evaluation.metrics]\nridge_top1 = "ridge/eigh-standardised@1"'
    contents = []
    for penalties in ("", "ridge_penalties = [0.1]\n", "ridge_penalties = [0.2]\n"):
        path.write_text(text.replace("[evaluation.metrics]", penalties + ridge))
        contents.append(read_protocol(str(path)))
    assert "ridge_penalties" not in contents[0].content["evaluation"]
    assert contents[1].content["evaluation"]["ridge_penalties"] == [0.1]
    assert len({protocol.hash for protocol in contents}) == 3
    path.write_text(text.replace("[evaluation.metrics]", "ridge_penalties = [0.1]\n[evaluation.metrics]"))
    with pytest.raises(InvalidInput, match="ridge_penalties: is not used: ridge_top1 is not among the metrics"):
        read_protocol(str(path))


@pytest.mark.parametrize(
    ("changes", "piece"),
    [
        (
            ("training.epochs=3",),
            "training is not a method of any grid (seen: 3); allowed: a, byol; did you mean 'epochs'",
        ),
        (("BYOL.x=3",), "did you mean 'byol.x'?"),
        (("grids.0.axes.x=3",), "--set: grids.0.axes.x: grids.0.axes is not a method of any grid"),
        (("a.x=3", "x=4"), "--set: a.x: reaches no trial: another --set replaces it (seen: 3)"),
        (("x=4", "a.x=3", "byol.x=3"), "--set: x: reaches no trial"),
        (("a.x=3", "methods=byol"), "--set: a.x: a is not a method of any grid"),
        ((".x=3",), "--set: is not of the form KEY=VALUE (seen: '.x=3')"),
        (("a.x=\udcff",), "--set: is not UTF-8"),
        (("methods=[]",), "--set: methods: names no method; allowed: a, byol"),
        (("seeds=[-1]",), "--set: seeds.0: input should be greater"),
        (("x=[[]]",), "--set: x.0: is of the wrong kind"),
        (("a.x=[inf]",), "--set: a.x.0: is not a finite number"),
        (('deviations=[{key="dataset.nam", value="x", reason="r"}]',), "--set: deviations.0.key: is not a key"),
    ],
)
def test_a_change_that_reaches_no_trial_or_is_wrong_is_a_mistake_of_set(
    tmp_path: Path, changes: tuple[str, ...], piece: str
) -> None:
    lines = _mistakes(tmp_path, HEAD + '[[grids]]\nmethods = ["a", "byol"]\n[[grids]]\nmethods = ["a"]\n', *changes)
    assert piece in lines[0]
    assert all(line.startswith("--set: ") for line in lines)


@pytest.mark.parametrize("value", ["[]", "{b=1}", "[1, {b=1}]"])
def test_a_value_of_the_wrong_kind_is_one_mistake_that_lists_the_kinds(tmp_path: Path, value: str) -> None:
    (line,) = _mistakes(tmp_path, HEAD + '[[grids]]\nmethods = ["a"]\n', f"x={value}")
    assert "is of the wrong kind" in line and "true or false, a number, a text" in line


@pytest.mark.parametrize(
    "changes",
    [("x=1", "x=2"), ("seeds=[4]", " seeds =[5]"), ("baselines=true", "baselines=true"), ("methods=a", "methods=a")],
)
def test_a_key_that_is_set_twice_is_one_mistake(tmp_path: Path, changes: tuple[str, ...]) -> None:
    key = changes[0].partition("=")[0]
    assert _mistakes(tmp_path, HEAD + '[[grids]]\nmethods = ["a"]\n', *changes) == [
        f"--set: {key}: is given more than once"
    ]


def test_the_confirm_stage_and_its_seeds_are_one_key(tmp_path: Path) -> None:
    (line,) = _mistakes(tmp_path, HEAD + CONFIRM, "confirm={seeds = [7]}", "confirm.seeds=[8]")
    assert line == "--set: confirm: is given more than once"


@pytest.mark.parametrize(
    ("grid", "changes", "mistake"),
    [
        (
            'methods = ["a"]\naxes = {x = [1, 2, 1]}',
            (),
            "s.toml: grids.0.axes.x: a value is listed twice (seen: [1, 2, 1])",
        ),
        ('methods = ["a"]', ("x=[1, 1.0]",), "--set: x: a value is listed twice (seen: [1, 1.0])"),
        ('methods = ["a"]', ("a.x=[1, 1]",), "--set: a.x: a value is listed twice"),
        ('methods = ["a", "b", "a"]', (), "s.toml: grids.0.methods: a value is listed twice (seen: ['a', 'b', 'a'])"),
        ('methods = ["a"]\n[[grids.zipped]]\nx = [1, 1]\ny = [2, 2]', (), "grids.0.zipped: equal values are listed"),
    ],
)
def test_what_would_run_once_is_listed_once(tmp_path: Path, grid: str, changes: tuple[str, ...], mistake: str) -> None:
    (line,) = _mistakes(tmp_path, f"{HEAD}[[grids]]\n{grid}\n", *changes)
    assert mistake in line


def test_rows_of_zipped_axes_may_be_equal_where_set_has_replaced_an_axis(tmp_path: Path) -> None:
    zipped = '[[grids]]\nmethods = ["a"]\n[[grids.zipped]]\nx = [1, 1]\ny = [2, 3]\n'
    assert _cells(_read(tmp_path, HEAD + zipped)) == [("a", ("x", 1), ("y", 2)), ("a", ("x", 1), ("y", 3))]
    assert _cells(_read(tmp_path, HEAD + zipped, "y=4")) == [("a", ("y", 4), ("x", 1))]


def test_candidates_of_a_probe_are_listed_once(tmp_path: Path) -> None:
    text = shipped_protocols()["digits-small"].read_text()
    path = tmp_path / "p.toml"
    path.write_text(re.sub(r"(?m)^knn_neighbours = .*", "knn_neighbours = [5, 5]", text))
    with pytest.raises(InvalidInput, match=r"evaluation.knn_neighbours: a value is listed twice \(seen: \[5, 5\]\)"):
        read_protocol(str(path))


def test_seeds_that_confirm_are_set_like_others_and_an_empty_list_leaves_the_stage_out(tmp_path: Path) -> None:
    assert _read(tmp_path, HEAD + CONFIRM).confirm.seeds == (5, 6)
    assert _read(tmp_path, HEAD + CONFIRM, "confirm.seeds=[7]").confirm.seeds == (7,)
    without = _read(tmp_path, HEAD + "".join(CONFIRM.partition("[[grids]]")[1:]))
    assert _read(tmp_path, HEAD + CONFIRM, "confirm.seeds=[]") == without
    (line,) = _mistakes(tmp_path, HEAD + CONFIRM, "confirm.seeds=[0]")
    assert line.startswith("--set: confirm.seeds: seeds of the grid select")


def test_more_trials_than_a_plan_may_hold_are_counted_and_not_expanded(tmp_path: Path) -> None:
    grid = '[[grids]]\nmethods = ["a", "b"]\n[grids.axes]\n'
    (line,) = _mistakes(tmp_path, HEAD + grid + "".join(f"x{n} = {[*range(1000)]}\n" for n in range(4)))
    assert line.endswith("grids: the grids have 1,000,000,000,000 trials or more; allowed: at most 250,000")
    (line,) = _mistakes(tmp_path, HEAD + grid + f"x = {[*range(501)]}\ny = {[*range(500)]}\n")
    assert "have 501,000 trials;" in line


def test_malformed_grids_are_told_also_where_set_would_change_them(tmp_path: Path) -> None:
    for grids in ("grids = 3", "[[grids]]\nmethods = 3", "[[grids]]\nmethods = ['a']\nonly = 3", "grids = [3]"):
        lines = _mistakes(tmp_path, HEAD + grids, "x=1", "a.x=2", "methods=a")
        assert lines and all("s.toml: grids" in line for line in lines)


def test_an_unknown_protocol_is_told_with_the_file_that_names_it(tmp_path: Path) -> None:
    text = HEAD.replace("digits-small", "digits-smal") + '[[grids]]\nmethods = ["byol"]\n'
    (mistake,) = _mistakes(tmp_path, text)
    assert "s.toml: protocol: no such protocol (seen: 'digits-smal')" in mistake
    assert mistake.endswith("did you mean 'digits-small'?")
    (mistake,) = _mistakes(tmp_path, text, "protocol=y")
    assert mistake.startswith("--set: protocol: no such protocol (seen: 'y')")
