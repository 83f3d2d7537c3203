import re
import zlib
from itertools import product

import plotly.graph_objects as go
import pytest
from conftest import SyntheticRun

from twinbench.reports.figures import matplotlib_backend, panels
from twinbench.reports.figures.cost import cost_panels
from twinbench.reports.figures.fitted_labels import plain
from twinbench.reports.figures.grids import heat_maps
from twinbench.reports.figures.matplotlib_backend import _ink, draw
from twinbench.reports.figures.panels import Panel
from twinbench.reports.figures.paper_style import STYLES, read_style
from twinbench.reports.paper.figures import PaperFigure, paper_figures
from twinbench.reports.paper.write import _figure_float, read_sources


@pytest.fixture(scope="module")
def drawn(whole_sweep) -> dict[str, PaperFigure]:
    (source,) = read_sources([whole_sweep.folder])
    return {figure.key: figure for figure in paper_figures(source.run, source.section)}


def pdf_text(data: bytes) -> bytes:
    """The file with what is packed in it unpacked."""
    packed = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL)
    unpacked = []
    for part in packed:
        try:
            unpacked.append(zlib.decompress(part))
        except zlib.error:
            continue
    return data + b"".join(unpacked)


def test_the_figures_that_a_paper_needs_are_there_and_say_in_words_what_they_show(drawn):
    assert set(drawn) == {
        "sensitivity-off_diagonal_weight",
        "sensitivity-projector_width",
        "cost",
        "curves-accuracy",
        "curves-loss",
        "diagnostics",
        "grid-off_diagonal_weight-projector_width",
    }
    assert all(len(panel.alternative) > 40 for figure in drawn.values() for panel in figure.panels)
    assert "0.05: " in drawn["sensitivity-off_diagonal_weight"].panels[0].alternative


def test_baselines_outside_the_range_shown_are_named(synthetic_run):
    for method, width, value in (("raw_pixels", 0, 0.1), ("simclr", 64, 0.9), ("simclr", 128, 0.91)):
        settings = {"projector_width": width} if width else {}
        synthetic_run.planned_and_recorded(value, method=method, settings=settings)
    (source,) = read_sources([synthetic_run.folder])
    found = {figure.key: figure.note for figure in paper_figures(source.run, source.section)}
    assert found["sensitivity-projector_width"].endswith(
        "Small points: seeds. Outside the range shown: raw_pixels 10.0."
    )


def test_axes_of_accuracy_end_at_100_percent_and_baselines_are_named_at_the_right_edge(synthetic_run):
    synthetic_run.planned_and_recorded(0.98, method="raw_pixels")
    for width, values in ((64, (0.9, 1.0)), (128, (0.97, 0.99))):
        for seed, value in enumerate(values):
            settings = {"projector_width": width}
            synthetic_run.planned_and_recorded(value, method="simclr", seed=seed, settings=settings)
    (source,) = read_sources([synthetic_run.folder])
    figures = {figure.key: figure.panels[0].figure for figure in paper_figures(source.run, source.section)}
    assert max(figures["sensitivity-projector_width"].data[0].y) > 150  # t intervals of two seeds are wide
    assert figures["sensitivity-projector_width"].layout.yaxis.range[1] == 101
    (name,) = figures["sensitivity-projector_width"].layout.annotations
    assert (name.text, name.x, name.xanchor) == ("raw_pixels", 1, "right")


def test_methods_have_the_pages_colours(drawn):
    figure = drawn["cost"]
    svg = draw(figure.panels, STYLES["neurips"], figure.legend).files["svg"].decode()
    looks = panels.styles([])
    for method in ("barlow_twins", "simclr", "byol", "vicreg"):
        assert looks[method].colour.lower() in svg


def test_a_pdf_holds_no_date_no_version_and_no_font_that_venues_refuse(drawn):
    figure = drawn["sensitivity-projector_width"]
    pdf = pdf_text(draw(figure.panels, STYLES["icml"]).files["pdf"])
    assert b"/Type3" not in pdf
    assert b"/FontFile2" in pdf  # embedded TrueType
    assert b"STIXGeneral" in pdf
    assert not re.search(rb"CreationDate|ModDate|Matplotlib|matplotlib", pdf)


@pytest.mark.parametrize(("style", "inches"), [("icml", 3.25), ("neurips", 5.5), ("4x2", 4.0)])
def test_a_figure_is_as_wide_as_the_column(drawn, style, inches):
    figure = drawn["sensitivity-projector_width"]  # of four panels
    pdf = draw(figure.panels, read_style(style)).files["pdf"]
    (width,) = re.findall(rb"/MediaBox \[ ?0 0 ([0-9.]+)", pdf)
    assert float(width) == pytest.approx(72 * inches)


def test_every_seed_is_drawn_once_and_lies_within_the_panel(drawn):
    """Markers in the SVG: one per seed and one per mean, as in the page's panels."""
    figure = drawn["sensitivity-off_diagonal_weight"]
    (panel,) = figure.panels
    expected = sum(len(trace.x) for trace in panel.figure.data if "markers" in trace.mode)
    svg = draw(figure.panels, STYLES["neurips"]).files["svg"].decode()
    colour = panels.styles([])["barlow_twins"].colour.lower()
    marks = re.findall(rf'<use xlink:href="#[^"]+" x="[^"]+" y="[^"]+" style="[^"]*{colour}', svg)
    # Caps of error bars are markers too: two for each.
    bars = sum(
        len([a for a in trace.error_y.array if a is not None]) for trace in panel.figure.data if trace.error_y.array
    )
    assert len(marks) == expected + 2 * bars


def test_costs_and_heat_maps_are_the_pages_panels(drawn, whole_sweep):
    (source,) = read_sources([whole_sweep.folder])
    metric = source.section.selected_by[0]
    assert all(panel.figure.layout.yaxis.range[1] <= 101 for panel in drawn["cost"].panels)
    page = [*cost_panels(source.section, metric), *heat_maps(source.section, metric)]
    paper = [*drawn["cost"].panels, *drawn["grid-off_diagonal_weight-projector_width"].panels]
    assert [panel.figure for panel in paper] == [panel.figure for panel in page]
    assert [panel.alternative for panel in paper] == [panel.alternative for panel in page]


def test_cells_that_were_not_chosen_are_drawn_unfilled(drawn):
    figure = drawn["cost"]
    svg = draw(figure.panels[:1], STYLES["neurips"], figure.legend).files["svg"].decode()
    marks = [trace for trace in figure.panels[0].figure.data if trace.mode == "markers"]
    unfilled = re.findall(r'<use [^>]*style="fill-opacity: 0;|<use [^>]*style="fill: none', svg)
    assert len(unfilled) == sum(len(trace.x) for trace in marks if trace.marker.symbol.endswith("-open")) > 0


AXES = tuple(f"{letter}_weight_of_the_off_diagonal_terms_of_the_cross_correlation" for letter in "ab")
VALUES = [f"{'WM' * 30}{number}" for number in range(3)]  # differ in their 61st letter
METHOD = "two_views_and_a_projector_of_three_layers_and_no_normalisation"


@pytest.fixture(scope="module")
def long_names(tmp_path_factory) -> SyntheticRun:
    """Five methods, two axes and their values, of 60 letters and more."""
    run = SyntheticRun(tmp_path_factory.mktemp("long") / "run", axes=AXES, later=True)
    for method, one, (other, name) in product(range(5), VALUES, enumerate(("momentum-0.996" * 5, "M" * 70))):
        for seed in range(2):
            value = 0.8 + VALUES.index(one) / 50 + other / 100 + seed / 1000
            curves = {"epoch": [1, 2], "series": {"loss": [2.0, 1.0]}} if (one, other) == (VALUES[0], 0) else None
            settings = {AXES[0]: one, AXES[1]: name}
            run.planned_and_recorded(value, method=f"{METHOD}_{method}", seed=seed, settings=settings, curves=curves)
    run.write_plan()
    return run


@pytest.fixture(scope="module")
def long_figures(long_names) -> list[PaperFigure]:
    (source,) = read_sources([long_names.folder])
    return paper_figures(source.run, source.section)


@pytest.mark.parametrize("style", ["neurips", "icml", "2x2.5"])
def test_long_names_leave_room_for_what_they_name(long_figures, style):
    """matplotlib warns, which is an error here, of a panel that labels leave no room; and none is left a sliver."""
    assert {"sensitivity", "curves", "grid"} == {figure.key.split("-")[0] for figure in long_figures}
    for figure in long_figures:
        with matplotlib_backend._settings(read_style(style)):
            labels = matplotlib_backend.Labels(read_style(style).font)
            drawing = matplotlib_backend._figure(figure.panels, read_style(style), figure.legend, labels)
            drawing.draw_without_rendering()
        extents = [axes.get_window_extent() for axes in drawing.axes]
        assert min(min(extent.width, extent.height) for extent in extents) > 20 * drawing.dpi / 72, figure.key


def test_shortened_names_stay_different_and_the_caption_gives_them_in_full(long_names, long_figures):
    (grid,) = [figure for figure in long_figures if figure.key.startswith("grid-")]
    drawing = draw(grid.panels[:1], STYLES["icml"])
    short = [short for short, whole in drawing.shortened.items() if whole in VALUES]
    assert len(short) == len(set(short)) == 3 and all("…" in name for name in short)
    (source,) = read_sources([long_names.folder])
    caption = _figure_float(grid.key, grid, source, drawing.shortened).split("caption")[1]
    assert "Shortened names: " in caption
    assert all(name in caption.replace(r"\allowbreak", "").replace("{}", "") for name in VALUES)


def test_names_that_fit_are_not_shortened(drawn):
    for figure in drawn.values():
        labels = matplotlib_backend.Labels(STYLES["neurips"].font)
        matplotlib_backend._figure(figure.panels, STYLES["neurips"], figure.legend, labels)
        assert labels.whole == {}, figure.key


def svg_of(trace: go.Scatter | go.Heatmap) -> str:
    return draw([Panel("", go.Figure(trace), "")], STYLES["neurips"]).files["svg"].decode()


def test_a_band_is_an_area_in_its_methods_colour():
    band = {"x": [1, 2, 2, 1], "y": [3, 4, 1, 2], "mode": "lines", "fill": "toself", "line": {"width": 0}}
    svg = svg_of(go.Scatter(**band, fillcolor=panels.faint("#0072B2")))
    assert re.search(r'style="fill: #0072b2; fill-opacity: 0.16|style="fill: #0072b2; opacity: 0.16', svg)
    assert "#1f77b4" not in svg and "#9467bd" not in svg  # those that matplotlib gives a line without a colour


def test_a_number_in_a_heat_map_is_light_on_dark_and_dark_on_light_and_on_paper():
    assert [_ink(ground) for ground in ((0.0, 0.13, 0.3, 1.0), (1.0, 0.9, 0.2, 1.0), (0.0, 0.0, 0.0, 0.0))] == [
        "white",
        "black",
        "black",
    ]
    shades = {"z": [[1.0, None], [2.0, 3.0]], "x": ["a", "b"], "y": ["c", "d"], "colorscale": "Cividis"}
    svg = svg_of(go.Heatmap(**shades, text=[["1", "–"], ["2", "3"]]))
    assert svg.count('<g style="fill: #ffffff"') == 1  # the least


def test_a_label_is_text_whatever_is_in_it():
    assert plain("a &lt;b&gt; $x$ _y") == "a <b> $x$ _y"
    assert plain("a\u202eb\x07\nc") == "a[U+202E]b[U+0007] c"
    assert plain("\u4e2d\u05d0é") == "[U+4E2D][U+05D0]é"
