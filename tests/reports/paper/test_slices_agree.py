"""Tables, figures and ranges of one export give one number for one point of an axis."""

import pytest
from conftest import SyntheticRun

from twinbench.reports.figures.grids import importance
from twinbench.reports.paper.figures import PaperFigure, paper_figures
from twinbench.reports.paper.parts import PaperTable, Source
from twinbench.reports.paper.tables import paper_tables
from twinbench.reports.paper.write import read_sources
from twinbench.sweeps.sweep import expand, read_sweep

SWEPT = ("off_diagonal_weight", "projector_width", "batch_size")


def export_of(run: SyntheticRun) -> tuple[Source, dict[str, PaperTable], dict[str, PaperFigure]]:
    (source,) = read_sources([run.folder])
    tables = {table.key: table for table in paper_tables([source])}
    return source, tables, {figure.key: figure for figure in paper_figures(source.run, source.section)}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The export of the shipped sweep `digits` with invented numbers; each method does best at batches of 64."""
    sweep, protocol, _ = read_sweep("digits")
    run = SyntheticRun(tmp_path_factory.mktemp("digits") / "run", axes=SWEPT, later=True)
    for cell in expand(sweep):
        own, training = protocol.content["methods"][cell.method], protocol.content["training"]
        settings, training = ({name: cell.values.get(name, of[name]) for name in of} for of in (own, training))
        value = 0.8 + 0.01 * (training["batch_size"] == 64) - abs(settings["projector_width"] - 200) / 1e5
        for seed in range(2):
            choices = {"settings": settings, "training": training, "protocol": protocol.carried}
            run.planned_and_recorded(value + 0.001 * seed, method=cell.method, seed=seed, **choices)
    run.write_plan()
    return export_of(run)


def printed(table: PaperTable) -> dict[tuple[str, str], float]:
    """The means of a table by axis, in percent, by method and value."""
    return {
        (row.labels[0], column): round(100 * number.interval.mean, 6)
        for row in table.rows
        for column, number in zip(table.columns, row.numbers, strict=True)
        if number.interval
    }


def drawn(figure: PaperFigure) -> dict[tuple[str, str], float]:
    """The means on the strong line of each panel, by method and value."""
    found = {}
    for panel in figure.panels:
        line = next(trace for trace in reversed(panel.figure.data) if trace.mode == "lines+markers")
        found |= {(panel.title, f"{x:g}"): y for x, y in zip(line.x, line.y, strict=True)}
    return found


def test_table_and_figure_of_an_axis_agree_in_every_point_though_the_chosen_cell_is_off_the_line(digits):
    source, tables, figures = digits
    assert {cell.text("batch_size") for cell in source.section.chosen.values() if len(cell.values)} >= {"64"}
    for axis, points in (("projector_width", 6), ("batch_size", 6)):
        table = printed(tables[f"by-{axis}-linear_top1"])
        assert table == drawn(figures[f"sensitivity-{axis}"])
        assert len(table) == points


def test_every_axis_swept_one_at_a_time_is_drawn_and_has_a_range(digits):
    source, _, figures = digits
    lambdas = {("barlow_twins", value) for value in ("0.0005", "0.0051", "0.05")}
    assert drawn(figures["sensitivity-off_diagonal_weight"]).keys() == lambdas
    found = importance(source.section, "linear_top1").set_index(["method", "axis"])
    assert list(found["values"]) == [3] * 5
    assert found.loc[("barlow_twins", "batch_size"), "range"] == pytest.approx(0.01)
    assert found.loc[("barlow_twins", "projector_width"), "range"] == pytest.approx((512 - 200 - 56) / 1e5)
    assert found.loc[("simclr", "projector_width"), "range"] == pytest.approx((512 - 200 - 72) / 1e5)


def test_captions_say_what_is_held(digits):
    _, tables, figures = digits
    held = (
        "Other settings of barlow_twins: off_diagonal_weight = 0.0051, batch_size = 128; of simclr: batch_size = 128."
    )
    assert held in tables["by-projector_width-linear_top1"].caption
    assert held in figures["sensitivity-projector_width"].note


def test_cells_that_differ_in_another_axis_alone_are_not_drawn(digits):
    figure = digits[2]["sensitivity-off_diagonal_weight"]
    (panel,) = figure.panels
    (seeds,) = [trace for trace in panel.figure.data if trace.mode == "markers"]
    assert len(seeds.x) == 3 * 2 and "faint" not in figure.note


def test_other_slices_are_faint_and_the_caption_says_so(whole_sweep):
    figure = export_of(whole_sweep)[2]["sensitivity-projector_width"]
    panel = next(panel for panel in figure.panels if panel.title == "barlow_twins")
    assert [trace.opacity for trace in panel.figure.data if trace.mode.startswith("lines") and trace.opacity] == [
        0.4,
        0.4,
        1.0,
    ]
    assert "Strong lines: through the chosen cell; faint: other values of off_diagonal_weight." in figure.note


def test_a_heat_map_that_lacks_the_chosen_cell_marks_none(synthetic_run):
    for weight, width, batch in ((0.1, 64, 128), (0.1, 256, 128), (0.2, 64, 128), (0.2, 256, 128), (0.2, 256, 64)):
        settings = {"off_diagonal_weight": weight, "projector_width": width, "batch_size": batch}
        synthetic_run.planned_and_recorded(0.9 if batch == 64 else 0.8, settings=settings)
    _, tables, figures = export_of(synthetic_run)
    table = tables["grid-barlow_twins-off_diagonal_weight-projector_width"]
    assert "Other settings of barlow_twins: batch_size = 128." in table.caption
    assert {number.group for row in table.rows for number in row.numbers} == {""}
    assert not [note for note in table.notes if "†" in note or "*" in note]
    assert (
        "Other settings of barlow_twins: batch_size = 128." in figures["grid-off_diagonal_weight-projector_width"].note
    )
