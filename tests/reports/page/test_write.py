import csv
import io
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from report_pages import HOSTILE, Page, report, tree

from twinbench.reports import latex
from twinbench.reports.page.summary import against_baselines
from twinbench.reports.page.write import write_report
from twinbench.reports.tables.csv_text import csv_text
from twinbench.reports.tables.run import read_run
from twinbench.reports.tables.sections import sections


@pytest.fixture(scope="module")
def whole_page(whole_sweep) -> Page:
    return report(whole_sweep)


def under(run, seeds=2, cells=({},), **protocol):
    """The page and the files of a run of cells with these settings, under the protocol with these values."""
    carried = run.trial()["protocol"] | protocol
    carried["content"] = run.trial()["protocol"]["content"] | protocol.get("content", {})
    curves = {"epoch": [1], "series": CURVES}
    for settings, seed in itertools.product(cells, range(seeds)):
        run.planned_and_recorded(0.9, seed=seed, protocol=carried, curves=curves, settings=settings)
    return report(run)


CURVES = {"loss": [1.0], "diagnostics/feature_std": [0.1]}


def test_numbers_selected_on_test_data_say_so(synthetic_run):
    content = {"selected_on": "test", "checkpoint": "best_on_test", "dataset": {"validation_fraction": 0.0}}
    page = under(synthetic_run, cells=({}, {"temperature": 0.2}), content=content, hash="f" * 64)
    assert "No test data was used for selection" not in page.text
    assert "the highest mean test linear top-1" in page.text and "so it is optimistic" in page.text
    assert "the best over the epochs measured" in page.text and "each method's cell chosen on test" in page.text
    assert "features of training images" in page.text and "features of validation" not in page.text
    assert not any("validation" in name for name in pd.read_csv(synthetic_run.folder / "report/tables/cells.csv"))


def test_deviations_and_their_reasons_are_shown_with_every_table(synthetic_run):
    deviation = {"key": "training.epochs", "value": 20, "protocol_value": 40, "reason": "It diverged <later>"}
    page = under(synthetic_run, deviations=[deviation], base_hash="e" * 64, hash="f" * 64)
    assert page.text.count("deviating in training.epochs = 20 (protocol: 40)") >= 5
    assert "training.epochs: It diverged <later>" in page.text
    for name in ("methods", "cells"):
        text = (synthetic_run.folder / f"report/tables/{name}.csv").read_text()
        assert "deviating in training.epochs = 20" in text, name


def test_a_setting_that_a_sweep_fixes_is_shown_with_every_table(synthetic_run):
    content = synthetic_run.trial()["protocol"]["content"] | {"training": {"epochs": 12, "batch_size": 128}}
    protocol = synthetic_run.trial()["protocol"] | {"content": content, "hash": "f" * 64}
    synthetic_run.planned_and_recorded(method="untrained", protocol=protocol)
    for method in ("simclr", "byol"):
        training = {"epochs": 2, "batch_size": 128}
        synthetic_run.planned_and_recorded(0.9, method=method, training=training, protocol=protocol)
    page = report(synthetic_run)
    assert page.text.count("(ffffffffffff), with epochs = 2 (protocol: 12)") >= 5
    for name in ("methods", "cells"):
        text = (synthetic_run.folder / f"report/tables/{name}.csv").read_text()
        assert "with epochs = 2 (protocol: 12)" in text, name


def test_the_page_makes_no_network_requests(whole_page):
    for tag, attributes in whole_page.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    (policy,) = [a["content"] for tag, a in whole_page.tags if tag == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?:", whole_page.text)


def test_plotly_is_in_the_page_once_and_offers_no_upload(whole_page):
    assert sum("plotly.js v" in text for _, text in whole_page.scripts) == 1
    (start,) = [text for _, text in whole_page.scripts if "Plotly.newPlot(plot" in text]
    config = json.loads(re.search(r"const PLOTLY_CONFIG = (\{.*?\});", start)[1])
    assert config["displaylogo"] is False
    assert config["showSendToCloud"] is False
    assert config["plotlyServerURL"] == ""


def test_the_parts_are_in_order(whole_page):
    headings = [a["id"].removeprefix("s1-") for tag, a in whole_page.tags if tag == "h2"]
    assert headings == [
        "methods",
        "sensitivity",
        "cost",
        "learning",
        "diagnostics",
        "cells",
        "trials",
        "failures",
        "missing",
        "deviations",
        "selection",
        "protocol",
        "provenance",
        "again",
        "trial-title",  # of the dialog
    ]
    ids = [a["id"] for _, a in whole_page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_every_figure_says_in_words_what_it_shows_and_every_table_has_scopes(whole_page):
    plots = [a for tag, a in whole_page.tags if a.get("class") == "plot"]
    # Weight: 1 method; width: 4; weight by width: 1; cost: 1; validation curve; 4 losses; 6 diagnostics.
    assert len(plots) == len(whole_page.figures()) == 18
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 20 for a in plots)
    assert all("scope" in a for tag, a in whole_page.tags if tag == "th")
    assert sum(tag == "caption" for tag, _ in whole_page.tags) == sum(tag == "table" for tag, _ in whole_page.tags)


def test_the_summary_counts_and_compares(whole_page):
    text = whole_page.text
    assert "58 trials: 55 done, 1 diverged, 1 failed, 1 missing." in text
    assert (
        "Every method's mean linear top-1 on test is above raw_pixels (72.0 %, one seed) and untrained (65.8 ±" in text
    )
    assert "2 of 3, 1 diverged" in text
    assert "loss was nan at epoch 7" in text


def test_a_method_that_is_not_above_both_baselines_is_named(synthetic_run):
    for method, value in (("raw_pixels", 0.7), ("untrained", 0.6), ("byol", 0.65), ("simclr", 0.8)):
        synthetic_run.planned_and_recorded(value, method=method)
    (section,) = sections(read_run(synthetic_run.folder))
    sentence = "In mean linear top-1 on test, byol is not above raw_pixels (70.0 %, one seed)."
    assert against_baselines(section) == sentence


def test_a_sweep_without_baselines_says_so(synthetic_run):
    synthetic_run.planned_and_recorded(0.9)
    assert "No comparison with the baselines: raw_pixels and untrained have no result." in report(synthetic_run).text


def test_every_seed_is_a_point(whole_page):
    # The first figure: off_diagonal_weight of barlow_twins, three widths, three seeds, one of 27 trials diverged.
    figure = whole_page.figures()[0]
    points = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    assert sum(len(trace["y"]) for trace in points) == 26
    means = [trace for trace in figure["data"] if trace["mode"] == "lines+markers"]
    assert [len(trace["y"]) for trace in means] == [3]
    (band,) = [trace for trace in figure["data"] if trace.get("fill") == "toself"]
    assert len(band["y"]) == 6 and band["y"][0] > means[0]["y"][0] > band["y"][-1]
    assert means[0]["marker"]["symbol"] == ["circle", "circle", "circle-open"]  # 0.05 lacks a seed
    assert figure["layout"]["xaxis"]["type"] == "log"


def test_equal_records_give_equal_bytes(filled_run, elsewhere):
    """In another process with another hash seed, locale and time zone, from a database built anew."""
    write_report(filled_run.folder)
    first = tree(filled_run.folder / "report")
    (filled_run.folder / "results.duckdb").unlink()
    program = (
        "import os, sys, locale; locale.setlocale(locale.LC_ALL, ''); assert f'{0.5:n}' == os.environ['HALF']\n"
        "from twinbench.reports.page.write import write_report; write_report(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", program, str(filled_run.folder)], env=os.environ | elsewhere, check=True)
    assert tree(filled_run.folder / "report") == first
    assert len(first) == 7


def test_a_hostile_name_is_text_everywhere(synthetic_run):
    synthetic_run.question = f"Is {HOSTILE} safe?"
    for width in (64, 128):
        synthetic_run.planned_and_recorded(
            0.9,
            method=HOSTILE,
            settings={"projector_width": width, HOSTILE: f"{HOSTILE}{width}"},
            curves={"epoch": [1], "series": {"loss": [1.0], f"diagnostics/{HOSTILE}": [1.0]}},
            circumstance={"host": HOSTILE, "versions": {HOSTILE: HOSTILE}},
        )
    reason = f"{HOSTILE} </script> \u202e\u2028"
    synthetic_run.planned_and_recorded(None, method="=cmd|' /C calc'!A0", status="failed", reason=reason)
    page = report(synthetic_run)
    # Only two scripts run: the library and the page's own. All others are data.
    assert len([a for tag, a in page.tags if tag == "script" and "type" not in a]) == 2
    assert {a["type"] for tag, a in page.tags if tag == "script" and "type" in a} == {"application/json"}
    assert not any("alert(1)" in text for attributes, text in page.scripts if "type" not in attributes)
    assert HOSTILE in page.text
    for figure in page.figures():
        assert "<script" not in json.dumps(figure)  # plotly reads some tags in its labels
    folder = synthetic_run.folder / "report" / "tables"
    with (folder / "methods.csv").open(encoding="utf-8", newline="") as file:
        names = [row["method"] for row in csv.DictReader(file)]
    assert names == [HOSTILE, "'=cmd|' /C calc'!A0"]


@pytest.mark.parametrize("first", "=+-@\t\r")
def test_no_text_in_a_csv_begins_like_a_formula(first):
    frame = pd.DataFrame({f"{first}name": [f"{first}1+1", "plain"], "number": [-0.5, 1.0]})
    rows = list(csv.reader(io.StringIO(csv_text(frame), newline="")))
    shown = first.replace("\r", "\n")
    assert rows == [[f"'{shown}name", "number"], [f"'{shown}1+1", "-0.5"], ["plain", "1.0"]]


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path: Path):
    page = Page(write_report(tmp_path).read_text("utf-8"))
    assert "nothing to report" in page.text


def test_a_run_with_nothing_recorded_yet_gives_a_page(synthetic_run):
    synthetic_run.plan(synthetic_run.trial())
    page = report(synthetic_run)
    assert "1 trial: 0 done, 1 missing." in page.text
    assert "No curves were recorded." in page.text


def test_set_aside_files_are_named_on_the_page(synthetic_run):
    synthetic_run.planned_and_recorded()
    (synthetic_run.folder / "records" / "stray.txt").write_text("mine")
    assert "records/stray.txt" in report(synthetic_run).text


def test_several_protocols_have_parts_and_files_of_their_own_and_stale_files_go(synthetic_run):
    trial = synthetic_run.trial()
    synthetic_run.record(trial, 0.9)
    write_report(synthetic_run.folder)
    folder = synthetic_run.folder / "report" / "tables"
    assert (folder / "methods.csv").exists()
    (folder / "methods.tex").write_text("of an earlier version")
    (folder / "mine.csv").write_text("not ours")
    synthetic_run.record(synthetic_run.trial(protocol=trial["protocol"] | {"hash": "6" * 64}), 0.8)
    page = report(synthetic_run)
    assert "2 different protocols or datasets" in page.text
    assert not [name for name in ("methods.csv", "methods.tex") if (folder / name).exists()]
    assert len(list(folder.glob("methods-????????.csv"))) == 2
    assert (folder / "mine.csv").exists()


def test_latex_escapes_every_special_and_spells_what_its_fonts_lack():
    assert latex.escape("a_b & 5% #1 ${x}$ ~^\\") == (
        r"a\_b \& 5\% \#1 \$\{x\}\$ \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert latex.escape("top-1 a--b") == "top-1 a-{}-b"
    hostile = r"\textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{}\$\&\%\_\{\}"
    assert latex.escape(HOSTILE) == hostile
    assert latex.escape("93 ± 1 é λ \u202e") == r"93 $\pm$ 1 é {[}U+03BB{]} {[}U+202E{]}"


def test_long_words_may_be_broken_behind_what_is_no_letter_and_not_within_a_number():
    assert latex.breakable("a_word off_diagonal_weight", 20) == r"a\_word off\_diagonal\_weight"
    assert latex.breakable("from-0.996-to_1", 10).split(r"\allowbreak{}") == ["from-", "0.996-", r"to\_", "1"]
    assert latex.breakable("wwww", 5).split(r"\allowbreak{}") == list("wwww")


@pytest.mark.latex
def test_every_character_compiles_in_captions_cells_and_notes(tmp_path: Path):
    every = f"[{HOSTILE}" + "".join(map(chr, [*range(0x20, 0x180), 0x3BB, 0x202E, 0x1F600]))
    rows = [(f"[{every}",), (f"*{every}--",)]
    document = r"\documentclass{article}\usepackage{booktabs,longtable}\begin{document}"
    document += latex.table(rows, every, "tab:every", [every], {f"*{every}": 0.9}) + r"\end{document}"
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode("latin-1")[-2000:]
    assert (tmp_path / "all.pdf").exists()
