"""Claims: a confirmed cell is reported on the seeds that chose nothing, and slices of the grid show the others."""

from pathlib import Path

import pytest
from claim_study import Study, leave_record, shift
from confirm_study import CELLS, CONFIRM_SEEDS, GRID_SEEDS, LUCK, confirm_study, of_simclr

from twinbench.reports.figures import cost
from twinbench.reports.figures.curves import lines_text, shown_trials
from twinbench.reports.page.summary import confirm_words
from twinbench.reports.page.write import write_report
from twinbench.reports.paper.figures import paper_figures
from twinbench.reports.paper.latex import query_of
from twinbench.reports.paper.parts import texts
from twinbench.reports.paper.tables import paper_tables
from twinbench.reports.paper.write import read_sources
from twinbench.reports.tables import frames, queries
from twinbench.reports.tables.cells import Section
from twinbench.reports.tables.run import read_run
from twinbench.reports.tables.sections import sections
from twinbench.results.store import ResultStore

METRIC = "linear_top1_test_mean"
ON_GRID = CELLS[0.2][1] + sum(map(shift, GRID_SEEDS)) / 3
CONFIRMED = CELLS[0.2][1] - LUCK + sum(map(shift, CONFIRM_SEEDS)) / 4
HALF_AN_EXAMPLE = 1 / 4000  # made-up accuracies are rounded to whole test examples


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return confirm_study(tmp_path_factory.mktemp("confirm"))


def _section(folder: Path) -> Section:
    (section,) = sections(read_run(folder))
    return section


def test_the_methods_table_reports_the_confirm_seeds_and_the_table_of_cells_those_that_chose(study: Study) -> None:
    section = _section(study.folder)
    methods = {row["method"]: row for row in frames.methods_table(section).to_dict("records")}
    assert methods["simclr"][METRIC] == pytest.approx(CONFIRMED, abs=HALF_AN_EXAMPLE)
    assert (methods["simclr"]["seeds"], methods["simclr"]["candidates"]) == ("4 of 4", 3)
    assert methods["byol"]["seeds"] == methods["untrained"]["seeds"] == "4 of 4"  # one cell, and the same seeds
    assert methods["raw_pixels"]["seeds"] == "1 of 1"
    assert (methods["simclr"]["reported_seeds"], methods["raw_pixels"]["reported_seeds"]) == ("10 to 13", "0")
    assert "reported_seeds" not in frames.display(frames.methods_table(section))
    cells = {row["temperature"]: row for row in frames.cells_table(section).to_dict("records")}
    assert cells["0.2"][METRIC] == pytest.approx(ON_GRID, abs=HALF_AN_EXAMPLE) and cells["0.2"]["seeds"] == "3 of 3"


def test_every_trial_of_both_stages_is_counted(study: Study) -> None:
    section = _section(study.folder)
    assert len(section.trials) == len(study.trials)
    assert frames.costs(section)["trials"].sum() == len(study.trials)


def test_the_printed_queries_give_the_numbers_of_the_tables(study: Study) -> None:
    section = _section(study.folder)
    with ResultStore(study.folder) as store:
        reported = store.query(queries.accuracy(section, section.reported.values()))
        of_cells = store.query(queries.accuracy(section))
        points = store.query(queries.against_axis(section, ["temperature"], "linear_top1"))
    for table, answer in ((frames.methods_table(section), reported), (frames.cells_table(section), of_cells)):
        linear = answer[answer["name"] == "linear_top1"]
        expected = {row["cell_id"]: (row[METRIC], row["linear_top1_test_n"]) for row in table.to_dict("records")}
        found = {row["cell_id"]: (pytest.approx(row["mean"]), row["n"]) for row in linear.to_dict("records")}
        assert expected == found
    assert set(points["seed"]) == set(GRID_SEEDS)


def test_the_query_of_each_number_of_the_paper_gives_that_number(study: Study) -> None:
    tables = {table.key: table for table in paper_tables(read_sources([study.folder]))}
    numbers = [number for table in tables.values() for row in table.rows for number in row.numbers if number.cell]
    with ResultStore(study.folder) as store:
        answers = [store.query(query_of(number)).to_dict("records") for number in numbers]
    expected = [(*texts(number), number.interval and number.interval.n) for number in numbers]
    assert [(one["mean"], one["half_width"], one["n"]) for (one,) in answers] == expected
    assert {number.cell.confirms for number in numbers if number.cell} == {True, False}


def test_every_caption_names_the_seeds_that_its_table_or_figure_shows(study: Study) -> None:
    (source,) = read_sources([study.folder])
    notes = {table.key: table.notes for table in paper_tables([source])}
    assert any("over seeds 10 to 13 (n = 4)" in note for note in notes["methods"])
    assert any("over seeds 0, 1, 2 (n = 3)" in note for note in notes["ablation-simclr"])
    assert "Cells were chosen on these seeds; the table of methods has" in " ".join(notes["ablation-simclr"])
    figures = {figure.key: figure.note for figure in paper_figures(source.run, source.section)}
    assert "over seeds 0, 1, 2 (n = 3)" in figures["sensitivity-temperature"]
    assert lines_text(source.section) == (
        "One line per trial of the chosen cells (seeds 10 to 13), with a marker at its end; faint: other cells (seeds "
        "0, 1, 2)."
    )
    chosen = source.section.chosen["simclr"]
    assert [trial["seed"] for trial in shown_trials(source.section, chosen)] == [*CONFIRM_SEEDS]
    page = write_report(study.folder, study.folder / "report").read_text("utf-8")
    assert "chosen on validation, over seeds 10 to 13, baselines" in page and "All cells, over seeds 0, 1, 2," in page


def test_a_figure_of_all_cells_compares_them_on_the_seeds_that_all_of_them_have(study: Study) -> None:
    section = _section(study.folder)
    with ResultStore(study.folder) as store:
        points = store.query(queries.against_cost(section, "linear_top1"))
    assert set(points["n"]) == {1, 3}
    assert {point.cell.confirms for point in cost._points(section, lambda trial: 1.0, "linear_top1")} == {False}


def test_the_page_says_which_seeds_chose_and_which_are_reported(study: Study, tmp_path: Path) -> None:
    (words,) = confirm_words(_section(study.folder))
    assert words == "Cells were chosen on seeds 0, 1, 2; results of the chosen cells are from new seeds 10 to 13."
    pending, same = confirm_words(_section(confirm_study(tmp_path, is_confirmed=False).folder))
    assert pending == "The confirm stage, on seeds 10 to 13, has not begun."
    assert same.startswith("simclr: the cell was chosen among several by the seeds that are reported")


def test_a_cell_that_is_chosen_after_the_confirm_stage_is_reported_on_the_grids_seeds_and_said_to_be(
    tmp_path: Path,
) -> None:
    study = confirm_study(tmp_path)
    for seed in GRID_SEEDS:
        trial = of_simclr(study, 0.3, seed)
        study.trials.append(trial)
        leave_record(tmp_path, trial, 0.5, validation=0.65)
    study.write_plan()
    section = _section(tmp_path)
    (simclr,) = [row for row in frames.methods_table(section).to_dict("records") if row["method"] == "simclr"]
    assert (simclr["chosen"], simclr["seeds"]) == ("temperature = 0.3", "3 of 3")
    assert confirm_words(section)[1].startswith("simclr: the cell was chosen among several by the seeds")
