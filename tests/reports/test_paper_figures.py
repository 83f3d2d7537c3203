import re
import zlib

import pytest

from twinbench.reports import figures
from twinbench.reports.paper.figures import PaperFigure, cost, paper_figures, pareto
from twinbench.reports.paper.style import STYLES, read_style
from twinbench.reports.paper.vector import draw, plain
from twinbench.reports.paper.writing import read_sources


@pytest.fixture(scope="module")
def drawn(whole_sweep) -> dict[str, PaperFigure]:
    ((run, source),) = read_sources([whole_sweep.folder])
    return {figure.key: figure for figure in paper_figures(run, source.section)}


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
    assert all(len(figure.alternative) > 40 for figure in drawn.values())
    assert "0.05: " in drawn["sensitivity-off_diagonal_weight"].alternative


def test_methods_have_the_pages_colours(drawn):
    figure = drawn["cost"]
    svg = draw(figure.panels, STYLES["neurips"], figure.legend)["svg"].decode()
    looks = figures.styles([])
    for method in ("barlow_twins", "simclr", "byol", "vicreg"):
        assert looks[method].colour.lower() in svg


def test_a_pdf_holds_no_date_no_version_and_no_font_that_venues_refuse(drawn):
    figure = drawn["sensitivity-projector_width"]
    pdf = pdf_text(draw(figure.panels, STYLES["icml"])["pdf"])
    assert b"/Type3" not in pdf
    assert b"/FontFile2" in pdf  # embedded TrueType
    assert b"STIXGeneral" in pdf
    assert not re.search(rb"CreationDate|ModDate|Matplotlib|matplotlib", pdf)


@pytest.mark.parametrize(("style", "inches"), [("icml", 3.25), ("neurips", 5.5), ("4x2", 4.0)])
def test_a_figure_is_as_wide_as_the_column(drawn, style, inches):
    figure = drawn["sensitivity-projector_width"]  # of four panels
    pdf = draw(figure.panels, read_style(style))["pdf"]
    (width,) = re.findall(rb"/MediaBox \[ ?0 0 ([0-9.]+)", pdf)
    assert float(width) == pytest.approx(72 * inches)


def test_every_seed_is_drawn_once_and_lies_within_the_panel(drawn):
    """Markers in the SVG: one per seed and one per mean, as in the page's panels."""
    figure = drawn["sensitivity-off_diagonal_weight"]
    (panel,) = figure.panels
    expected = sum(len(trace.x) for trace in panel.figure.data if "markers" in trace.mode)
    svg = draw(figure.panels, STYLES["neurips"])["svg"].decode()
    colour = figures.styles([])["barlow_twins"].colour.lower()
    marks = re.findall(rf'<use xlink:href="#[^"]+" x="[^"]+" y="[^"]+" style="[^"]*{colour}', svg)
    # Caps of error bars are markers too: two for each.
    bars = sum(
        len([a for a in trace.error_y.array if a is not None]) for trace in panel.figure.data if trace.error_y.array
    )
    assert len(marks) == expected + 2 * bars


def test_the_front_holds_what_nothing_beats_in_cost_and_accuracy():
    points = [(3.0, 0.9), (1.0, 0.7), (2.0, 0.6), (2.0, 0.8), (4.0, 0.9), (5.0, 0.95)]
    assert pareto(points) == [(1.0, 0.7), (2.0, 0.8), (3.0, 0.9), (5.0, 0.95)]
    assert pareto([]) == []


def test_cost_is_that_of_the_trials_that_are_done(synthetic_run):
    for seed, seconds in enumerate((60.0, 180.0)):
        synthetic_run.planned_and_recorded(0.9, seed=seed, circumstance={"train_seconds": seconds})
    synthetic_run.planned_and_recorded(None, seed=2, status="failed", reason="x", circumstance={"train_seconds": 6e4})
    ((_, source),) = read_sources([synthetic_run.folder])
    minutes = cost(source.section)[0]
    assert minutes.title == "Training (minutes per trial)"
    assert [list(trace.x) for trace in minutes.figure.data] == [[2.0], [2.0]]


def test_a_label_is_text_whatever_is_in_it():
    assert plain("a &lt;b&gt; $x$ _y") == "a <b> $x$ _y"
    assert plain("a\u202eb\x07\nc") == "a[U+202E]b[U+0007] c"
    assert plain("\u4e2d\u05d0é") == "[U+4E2D][U+05D0]é"
