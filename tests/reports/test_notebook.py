"""docs/notebook.md is run as it stands, on a synthetic run folder."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from twinbench.reports import Report
from twinbench.reports.figures.paper_style import STYLES
from twinbench.reports.page.write import write_report
from twinbench.reports.paper.write import write_paper

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "notebook.md"


@pytest.fixture(scope="module")
def report(whole_sweep) -> Report:
    return Report(whole_sweep.folder)


def test_the_document_runs_as_it_stands(whole_sweep, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits").symlink_to(whole_sweep.folder)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOCUMENT), "exec"), names)
    assert len(blocks) == 7
    assert len(names["methods"]) == 6
    assert len(names["ablation"]) == 18
    assert set(names["curve"]["method"]) == {"barlow_twins", "simclr", "byol", "vicreg"}
    tries = names["tries"]["value"]
    assert names["best"][0] == pytest.approx(tries.mean()) and names["best"][-1] == tries.max()
    assert [source.name for source in names["sources"]] == ["cell_id", "seed", "remainder"]


def test_frames_have_the_names_and_the_numbers_of_the_files(synthetic_run, tmp_path):
    for width in (64, 128):
        for method in ("simclr", "byol"):
            synthetic_run.planned_and_recorded(0.8, method=method, settings={"projector_width": width})
    report = Report(synthetic_run.folder)
    folder = write_report(synthetic_run.folder).parent / "tables"
    assert set(report.tables) == {path.stem for path in folder.glob("*.csv")}
    paper = write_paper([synthetic_run.folder], tmp_path / "paper", STYLES["neurips"]).parent
    assert set(report.paper_tables) == {path.stem for path in (paper / "tables").glob("*.csv")}
    assert set(report.figures) == {path.stem for path in (paper / "figures").glob("*.pdf")}
    read = pd.read_csv(paper / "tables" / "methods.csv")
    frame = report.paper_tables["methods"]
    assert list(read["mean"]) == [pytest.approx(mean) for mean in frame["mean"]]


def test_figures_are_plotly_objects(report):
    panels = report.figures["sensitivity-projector_width"]
    assert set(panels) == {"barlow_twins", "simclr", "byol", "vicreg"}
    assert all(isinstance(figure, go.Figure) for figure in panels.values())


def test_a_name_that_neither_package_has_is_an_error_like_any_other():
    import twinbench.reports
    import twinbench.results

    for package in (twinbench.reports, twinbench.results):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            package.nothing  # noqa: B018


def test_the_packages_load_nothing_heavy_until_a_name_is_asked_for():
    program = (
        "import sys, twinbench.results, twinbench.reports\n"
        "assert not {'duckdb', 'pandas', 'plotly', 'matplotlib'} & set(sys.modules)\n"
        "from twinbench.reports import Report\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
