"""Tables as authors write them, with the verdict that each number shall get marked in them.

The tables are in marked.tex, and their results in conftest.py.
"""

import re
from pathlib import Path

import pytest

from twinbench.reports.table_check.check import all_traced, check_tables, check_text
from twinbench.sweeps.errors import InvalidInput

MARK = re.compile(r"@([RWNC])\{([^{}]*)\}")
VERDICTS = {
    "R": ("traced",),
    "W": ("wrong", "rounded wrongly", "from another protocol"),
    "N": ("untraceable", "not read", "reported"),
    "C": ("cited",),
}
TABLES = (Path(__file__).parent / "marked.tex").read_text()
CASES = dict(re.findall(r"^%% (.*)\n((?:(?!%%).*\n)+)", TABLES, re.MULTILINE))
RIGHT = (
    r"\begin{table} \caption{Linear} \begin{tabular}{lc} & (\%) \\ \hline BYOL & @R{88.1} \\ \end{tabular} \end{table}"
)


def without_marks(text: str) -> str:
    return MARK.sub(lambda mark: mark[2], text)


@pytest.fixture(scope="module")
def by_case(paper, tmp_path_factory):
    """Return the checked numbers of each case, which stands in a file of its own below a right table."""
    folder = tmp_path_factory.mktemp("cases")
    files = {name: folder / f"{number}.tex" for number, name in enumerate(CASES)}
    for name, file in files.items():
        file.write_text(without_marks(RIGHT + CASES[name]), encoding="utf-8")
    checked = check_tables(list(files.values()), [paper.folder])
    return {name: [one for one in checked if one.file == str(file)] for name, file in files.items()}


@pytest.mark.parametrize("name", CASES)
def test_each_number_of_a_marked_table_gets_its_verdict_also_beside_a_right_table(by_case, name):
    left = [one for one in by_case[name] if (one.row, one.kind) != ("caption", "seeds done")]
    marks = MARK.findall(RIGHT + CASES[name])
    for kind, text in marks:
        one = next((one for one in left if one.printed == text), None)
        assert one is not None, f"{text} is not counted"
        assert one.verdict in VERDICTS[kind], (kind, text, one)
        left.remove(one)
    assert left == []
    assert all_traced(by_case[name]) == all(kind in "RC" for kind, _ in marks)


def test_a_float_without_its_table_is_counted_unless_the_included_file_is_given(paper, tmp_path):
    part, image = tmp_path / "rows.tex", r"\begin{table}\includegraphics[width=3cm]{table.png}\end{table}"
    part.write_text(without_marks(RIGHT))
    whole = tmp_path / "paper.tex"
    whole.write_text(part.read_text() + r"\begin{table}\caption{x}\input{tables/rows}\end{table}")
    assert [one.verdict for one in check_tables([whole], [paper.folder])] == ["traced", "not read"]
    assert [one.verdict for one in check_tables([whole, part], [paper.folder])] == ["traced", "traced"]
    whole.write_text(part.read_text() + image)
    assert [one.verdict for one in check_tables([whole], [paper.folder])] == ["traced", "not read"]


def test_a_table_of_a_macro_or_of_a_plain_command_is_counted(paper, tmp_path):
    for command in (
        r"\newcommand{\mine}{\begin{tabular}{lc}BYOL & 99.9\end{tabular}} \mine",
        r"\halign{#&#\cr BYOL&1\cr}",
    ):
        (tmp_path / "paper.tex").write_text(without_marks(RIGHT) + command)
        checked = check_tables([tmp_path / "paper.tex"], [paper.folder])
        assert [one.verdict for one in checked] == ["traced", "not read"]


def test_the_first_lines_are_problems_and_then_come_the_counts(paper, tmp_path):
    marked = RIGHT + CASES["environment: tabu"] + CASES["environment: tabbing"]
    (tmp_path / "paper.tex").write_text(without_marks(marked))
    lines = check_text(check_tables([tmp_path / "paper.tex"], [paper.folder])).splitlines()
    first = [line for line in lines if not line.startswith("    ")]
    assert [line.split("  ")[-1] for line in first] == [
        "wrong",
        "not read",
        "4 numbers: 2 traced, 1 wrong, 0 not traced, 1 not read",
        "traced",
        "traced",
    ]


def test_an_ablation_holds_what_its_rows_do_not_name_and_is_no_choice_on_test(synthetic_run, tmp_path):
    cells = {(64, 128): (0.80, 0.90), (256, 128): (0.85, 0.88), (256, 64): (0.82, 0.87), (256, 512): (0.81, 0.86)}
    for (width, batch), (test, validation) in cells.items():
        of_cell = {"settings": {"projector_width": width}, "training": {"batch_size": batch}}
        synthetic_run.planned_and_recorded(test, validation=validation, **of_cell)
    table = tmp_path / "paper.csv"
    points = ((64, 82.0), (128, 85.0), (512, 81.0))
    rows = ("method,batch size,kNN,linear (%)", *(f"barlow twins,{batch},{v - 2},{v}" for batch, v in points))
    table.write_text("\n".join(rows))
    assert [one.verdict for one in check_tables([table], [synthetic_run.folder])] == ["traced"] * 6
    table.write_text("\n".join([rows[0], rows[2]]))  # nothing says which width is held
    checked = check_tables([table], [synthetic_run.folder])
    assert [(one.verdict, one.correct) for one in checked] == [("wrong", "78.0"), ("wrong", "80.0")]


def test_raw_pixels_have_one_seed_whatever_the_caption_says(synthetic_run, tmp_path):
    synthetic_run.planned_and_recorded(0.7, method="raw_pixels")
    for seed in range(3):
        synthetic_run.planned_and_recorded(0.8, method="byol", seed=seed)
    (tmp_path / "paper.csv").write_text("# Means over 3 seeds\nmethod,linear\nraw pixels,70.0\nbyol,80.0\n")
    assert all_traced(check_tables([tmp_path / "paper.csv"], [synthetic_run.folder]))


# --- the mapping file -----------------------------------------------------------------------------------------------

UNCLEAR = r"""\begin{table} \caption{Accuracy (\%), up to 99.9.}
\begin{tabular}{lcc} & kNN & Transfer linear \\ \midrule
BYOL w/ tricks & 86.1 & 88.1 \\ Ours & 89.1 & 91.1 \\ SimCLR & 85.2 & 12.3 \\ \end{tabular} \end{table}"""
MAP = """
[[row]]
label = "BYOL w/ tricks"
cell = "9e4c706011a350a5"

[[row]]
label = "Ours"
table = 1
cell = "0a2e1b243ebb78cf"

[[column]]
label = "Transfer linear"
metric = "linear_top1"

[[number]]
label = "caption"
printed = "99.9"
cited = "the authors' Table 2"
"""


@pytest.fixture
def check_mapped(paper, tmp_path):
    """Return a function that checks UNCLEAR beside a mapping file."""

    def check(mapping: str, text: str = UNCLEAR):
        (tmp_path / "paper.tex").write_text(text)
        (tmp_path / "paper.map.toml").write_text(mapping)
        return check_tables([tmp_path / "paper.tex"], [paper.folder])

    return check


def test_a_mapping_file_says_which_cell_a_row_is_and_the_numbers_are_still_compared(check_mapped):
    checked = check_mapped("")
    assert [one.verdict for one in checked] == ["untraceable"] * 4 + ["traced", "wrong", "not read"]
    checked = check_mapped(MAP)
    assert [one.verdict for one in checked] == ["traced"] * 5 + ["wrong", "cited"]
    assert "7 numbers: 5 traced (4 by a mapping file), 1 cited, 1 wrong" in check_text(checked)
    (wrong, *_) = check_mapped(MAP, UNCLEAR.replace("86.1", "86.7"))
    assert (wrong.verdict, wrong.correct) == ("wrong", "86.1")


def test_the_proposed_mapping_file_is_read_and_traces_what_it_was_proposed_for(check_mapped):
    checked = check_mapped("")
    proposed = "\n".join(dict.fromkeys(entry for one in checked for entry in one.proposals))
    assert proposed in check_text(checked)
    assert [one.verdict for one in check_mapped(proposed)] == ["traced"] * 5 + ["wrong", "not read"]


@pytest.mark.parametrize(
    ("mapping", "messages"),
    [
        ("[[rows]]\nlabel = 'x'", ["unknown key", "row"]),
        ("[[row]]\nlabel = 'SimCLR'\ncell = 'ffff'", ["no such cell", "9e4c706011a350a5"]),
        ("[[column]]\nlabel = 'kNN'\nmetric = 'knn'", ["no such metric", "knn_top1"]),
        ("[[row]]\nlabel = 'SimCLR'", ["needs one of cell, cited"]),
        ("[[row]]\nlabel = 'Simclr'\ncited = 'x'", ["row.Simclr", "no row with numbers in the tables has this label"]),
        ("[[number]]\nlabel = 'SimCLR'\nprinted = '1.0'\ncited = 'x'", ["no number in the tables has this label"]),
    ],
)
def test_a_mistake_in_a_mapping_file_is_named(check_mapped, mapping, messages):
    with pytest.raises(InvalidInput) as error:
        check_mapped(mapping)
    assert all(message in str(error.value) for message in ("paper.map.toml", *messages)), str(error.value)


# --- queries in comments --------------------------------------------------------------------------------------------

QUERIED = r"""\begin{tabular}{lc} Row & Linear \\ \midrule
% first, Linear: twinbench query "$DIR" "SELECT printf('%.1f', 100 * favg(value)) AS mean, '' AS half_width \
FROM metrics WHERE cell_id = 'CELL' AND status = 'done' AND name = 'METRIC' AND split = 'test'"
LABEL & NUMBER \\ \end{tabular}""".replace("\\\n", "")
WIDE_CELL = "dedb0ef262698e02"  # SimCLR's, of width 256


@pytest.mark.parametrize(
    ("label", "number", "cell", "metric", "verdict", "reason"),
    [
        ("SimCLR, batch size 128", "88.3", WIDE_CELL, "linear_top1", "traced", "mean of linear_top1"),
        (
            "SimCLR, batch size 128",
            "87.2",
            WIDE_CELL,
            "linear_top1",
            "wrong",
            "belongs to simclr",
        ),
        ("SimCLR", "88.3", WIDE_CELL, "linear_top1", "wrong", "is the highest of 2 cells on test"),
        ("BYOL", "88.3", WIDE_CELL, "linear_top1", "untraceable", f"of cell {WIDE_CELL}, which its labels do not name"),
        ("SimCLR, batch size 128", "86.3", WIDE_CELL, "knn_top1", "untraceable", "is of knn_top1 on test"),
        ("SimCLR w/o augmentation", "87.2", "1fd60521dcbf9340", "linear_top1", "untraceable", "these words"),
    ],
)
def test_a_query_above_a_row_names_the_cell_but_not_against_its_labels(
    paper, tmp_path, label, number, cell, metric, verdict, reason
):
    text = QUERIED.replace("LABEL", label).replace("NUMBER", number).replace("CELL", cell).replace("METRIC", metric)
    (tmp_path / "paper.tex").write_text(text)
    (one,) = check_tables([tmp_path / "paper.tex"], [paper.folder])
    assert (one.verdict, reason in one.reason) == (verdict, True), one
