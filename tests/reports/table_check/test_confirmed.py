"""Claims: a printed number of a chosen cell is that of the seeds that confirm it; a row of the sweep is the grid's."""

from pathlib import Path

import pytest
from confirm_study import confirm_study

from twinbench.reports.figures.paper_style import STYLES
from twinbench.reports.page.write import write_report
from twinbench.reports.paper.write import write_paper
from twinbench.reports.table_check.check import all_traced, check_tables, check_text

TABLE = r"\begin{{tabular}}{{lc}} Method & Linear (\%) \\ \hline {} & {} \\ \end{{tabular}}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return confirm_study(tmp_path_factory.mktemp("confirm")).folder


@pytest.mark.parametrize(
    ("row", "printed", "verdict"),
    [
        ("SimCLR", "61.8", "traced"),
        ("SimCLR", "65.6", "wrong"),  # of the seeds that chose the cell
        (r"SimCLR, temperature 0.2", "65.6", "traced"),  # a row of the sweep
        (r"SimCLR, temperature 0.2", "61.8", "traced"),
    ],
)
def test_a_number_is_of_the_seeds_that_its_row_means(
    folder: Path, tmp_path: Path, row: str, printed: str, verdict: str
) -> None:
    file = tmp_path / "t.tex"
    file.write_text(TABLE.format(row, printed))
    (one,) = check_tables([file], [folder])
    assert one.verdict == verdict, one
    assert ("of the seeds that chose this cell" in one.reason) == ((row, printed) == ("SimCLR", "65.6"))


def test_all_tables_of_the_paper_and_the_report_are_traced(folder: Path, tmp_path: Path) -> None:
    write_paper([folder], tmp_path / "paper", STYLES["neurips"])
    write_report(folder, tmp_path / "report")
    files = [*tmp_path.glob("paper/tables/*.tex"), *tmp_path.glob("*/tables/*.csv")]
    checked = check_tables(files, [folder])
    assert checked and all_traced(checked), check_text(checked)
