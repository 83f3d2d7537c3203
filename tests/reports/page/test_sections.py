"""The parts of the page: summary, groups, grids, costs, correlations, trials, queries, commands."""

import csv
import io
import itertools
import json
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from report_pages import HOSTILE, Page, report, tree
from scipy import stats

from twinbench.reports.figures.cost import LEAST_TRIALS, Point, correlations, cost_panels, front, spearman
from twinbench.reports.figures.grids import heat_maps, importance, largest_grid
from twinbench.reports.page.prose import protocol_in_words
from twinbench.reports.page.published import reported
from twinbench.reports.page.sections import section_part
from twinbench.reports.page.summary import from_seeds, grouping, selection_words, shared_seeds
from twinbench.reports.page.trials import CURVE_POINTS, column, read_log_tails, trials_data
from twinbench.reports.page.write import read_shown, write_report, write_reports
from twinbench.reports.paper.tables import paper_tables
from twinbench.reports.paper.write import read_sources
from twinbench.reports.tables.frames import methods_table
from twinbench.reports.tables.published import published_tables
from twinbench.reports.tables.queries import against_axis, against_cost
from twinbench.reports.tables.run import read_run
from twinbench.reports.tables.sections import sections
from twinbench.results.store import ResultStore
from twinbench.sweeps.sweep import read_protocol

FAR = {"barlow_twins": 0.80, "simclr": 0.92, "vicreg": 0.921}


def only_section(run):
    read = read_run(run.folder)
    (section,) = sections(read)
    return read, section


def fill_methods(run, seeds: int, levels=FAR) -> None:
    for method, level in levels.items():
        for seed in range(seeds):
            wiggle = 0.002 * math.sin(seed + 2 * list(levels).index(method))
            run.planned_and_recorded(level + 0.003 * seed + wiggle, method=method, seed=seed)


# --- the summary ----------------------------------------------------------------------------------------------------


def test_without_claims_the_summary_says_so_and_names_groups_but_no_winner(synthetic_run):
    fill_methods(synthetic_run, 6)
    _, section = only_section(synthetic_run)
    text = " ".join(from_seeds(section))
    assert text.startswith("Exploratory: no claims were declared.")
    assert "Not significantly different: vicreg and simclr." in text
    assert "vicreg and simclr are significantly above barlow_twins." in text
    assert "best" not in text and "better" not in text


def test_with_few_seeds_the_summary_says_that_a_claim_would_not_be_supported(synthetic_run):
    fill_methods(synthetic_run, 4)
    _, section = only_section(synthetic_run)
    assert "would not be supported: fewer than 6 pairs" in " ".join(from_seeds(section))


def test_the_notes_give_the_correlation_of_two_methods_over_seeds(synthetic_run):
    accuracies = {"byol": (0.80, 0.83, 0.81, 0.86), "simclr": (0.70, 0.74, 0.70, 0.75), "vicreg": (0.6, 0.6, 0.6, 0.6)}
    for method, values in accuracies.items():
        for seed, value in enumerate(values):
            synthetic_run.planned_and_recorded(value, method=method, seed=seed)
    _, section = only_section(synthetic_run)
    (note,) = shared_seeds(section)
    r = np.corrcoef(accuracies["byol"], accuracies["simclr"])[0, 1]  # the third does not vary
    assert f"of two methods has a correlation of {r:.2f}." in note
    assert note in report(synthetic_run).text


def test_in_a_sweep_of_one_method_the_correlation_is_between_its_cells(synthetic_run):
    accuracies = {0.1: (0.80, 0.83, 0.81, 0.86), 0.2: (0.70, 0.74, 0.70, 0.75), 0.5: (0.61, 0.60, 0.64, 0.66)}
    for temperature, values in accuracies.items():
        for seed, value in enumerate(values):
            synthetic_run.planned_and_recorded(value, method="simclr", seed=seed, settings={"temperature": temperature})
    _, section = only_section(synthetic_run)
    assert "share a letter" not in report(synthetic_run).text  # with no other method
    (note,) = shared_seeds(section)
    r = np.corrcoef(list(accuracies.values()))[0, 1:]  # the first is selected
    assert f"of the chosen cell of simclr and another cell has a correlation of {np.median(r):.2f} (median of 2" in note
    assert f"pairs; {r.min():.2f} to {r.max():.2f})" in note


def test_two_seeds_give_no_correlation(synthetic_run):
    fill_methods(synthetic_run, 2)
    _, section = only_section(synthetic_run)
    assert shared_seeds(section) == []


def test_with_one_seed_no_methods_are_significantly_different(synthetic_run):
    fill_methods(synthetic_run, 1)
    _, section = only_section(synthetic_run)
    assert "barlow_twins cannot be compared by a test (methods with one seed" in " ".join(from_seeds(section))


def test_methods_tuned_unequally_are_named(synthetic_run):
    fill_methods(synthetic_run, 3)
    synthetic_run.planned_and_recorded(0.9, method="simclr", settings={"temperature": 0.1})
    _, section = only_section(synthetic_run)
    assert "tuned unequally" in " ".join(from_seeds(section))


def test_only_a_value_significantly_different_from_every_other_is_bold(synthetic_run, new_synthetic_run, tmp_path):
    fill_methods(synthetic_run, 6)
    tags = [tag for tag, _ in report(synthetic_run).tags]
    assert "strong" not in tags
    clear = new_synthetic_run(tmp_path / "clear")
    fill_methods(clear, 6, FAR | {"vicreg": 0.98})
    assert [tag for tag, _ in report(clear).tags].count("strong") == 2  # of kNN and of linear accuracy


def test_a_choice_is_described_only_where_a_method_has_several_cells(synthetic_run):
    synthetic_run.planned_and_recorded(method="simclr")
    _, section = only_section(synthetic_run)
    assert selection_words(section) == (
        "Each method has one cell, so none was chosen. No test data was used for selection."
    )
    assert "was chosen" not in paper_tables(read_sources([synthetic_run.folder]))[0].caption
    synthetic_run.planned_and_recorded(method="simclr", settings={"temperature": 0.2})
    _, section = only_section(synthetic_run)
    assert selection_words(section).startswith("For each method, the cell with the highest mean validation")
    (table, *_) = paper_tables(read_sources([synthetic_run.folder]))
    assert "by method. The cell with the highest mean linear top-1 on validation was chosen." in table.caption


def test_baselines_are_not_in_the_groups(synthetic_run):
    fill_methods(synthetic_run, 3, {"simclr": 0.9, "untrained": 0.1})
    _, section = only_section(synthetic_run)
    assert grouping(section, "linear_top1").order == ("simclr",)


def test_with_claims_the_summary_says_what_the_verdicts_say_and_nothing_else(synthetic_run):
    fill_methods(synthetic_run, 6)
    (synthetic_run.folder / "claims.toml").write_text(
        'protocol = "synthetic"\n[[claims]]\nname = "ahead"\nsentence = "On invented data SimCLR is better."\n'
        'kind = "better"\na = { method = "simclr" }\nb = { method = "barlow_twins" }\n'
    )
    page = report(synthetic_run)
    assert "Of 1 claim, none is supported." in page.text
    assert "no claims were declared" not in page.text and "significantly above" not in page.text
    (verdict,) = csv.DictReader(io.StringIO(page.data("verdicts-csv")))
    assert verdict["name"] == "ahead" and verdict["verdict"] in page.text


def test_an_unreadable_claims_file_is_named_and_the_page_is_written(synthetic_run):
    fill_methods(synthetic_run, 3)
    (synthetic_run.folder / "claims.toml").write_text("nonsense")
    page = report(synthetic_run)
    assert "claims.toml" in page.text and "no claims were declared" in page.text
    assert str(synthetic_run.folder) not in page.text


# --- grids ----------------------------------------------------------------------------------------------------------


def crossed(run, values, seeds: int = 2) -> None:
    for (width, depth), value in values.items():
        for seed in range(seeds):
            settings = {"projector_width": width, "projector_depth": depth}
            run.planned_and_recorded(value + 0.001 * (seed - 0.5), method="simclr", seed=seed, settings=settings)


def test_shares_of_variance_equal_a_two_way_analysis_of_variance(synthetic_run):
    table = np.array([[0.70, 0.72, 0.75], [0.80, 0.86, 0.84]])
    crossed(
        synthetic_run, {(w, d): float(table[i, j]) for i, w in enumerate((64, 128)) for j, d in enumerate((1, 2, 3))}
    )
    _, section = only_section(synthetic_run)
    found = importance(section, "linear_top1").set_index("axis")
    total = table.var()
    assert found.loc["projector_width", "share"] == pytest.approx(table.mean(axis=1).var() / total)
    assert found.loc["projector_depth", "share"] == pytest.approx(table.mean(axis=0).var() / total)
    rest = 1 - (table.mean(axis=1).var() + table.mean(axis=0).var()) / total
    assert found.loc["projector_width", "interactions"] == pytest.approx(rest)
    assert found.loc["projector_width", "noise"] == pytest.approx((0.001**2 / 2) / 2 / total)


def test_axes_that_were_not_crossed_have_no_share_and_no_heat_map(synthetic_run):
    crossed(synthetic_run, {(64, 1): 0.7, (128, 1): 0.8, (64, 2): 0.75, (64, 3): 0.72})
    _, section = only_section(synthetic_run)
    found = importance(section, "linear_top1")
    assert list(found["share"]) == [None, None] and set(found["grid"]) == {"not crossed with another axis"}
    assert heat_maps(section, "linear_top1") == []


def test_the_query_of_the_importance_gives_the_values_of_every_method_in_it(synthetic_run):
    for method, name in (("barlow_twins", "off_diagonal_weight"), ("simclr", "projector_width"), ("untrained", "")):
        for value in (1, 2) if name else (0,):
            synthetic_run.planned_and_recorded(0.8, method=method, settings={name: value} if name else {})
    _, section = only_section(synthetic_run)
    assert section.varied_axes == ["off_diagonal_weight", "projector_width"]
    with ResultStore(synthetic_run.folder) as store:
        found = store.query(against_axis(section, section.varied_axes, "linear_top1"))
    assert sorted(found["method"]) == ["barlow_twins"] * 2 + ["simclr"] * 2


def test_shares_are_computed_on_the_largest_complete_grid(synthetic_run):
    values = {(w, d): 0.7 + 0.01 * d + 0.001 * w for w, d in itertools.product((1, 2, 3), (1, 2))}
    crossed(synthetic_run, values | {(4, 1): 0.9})
    _, section = only_section(synthetic_run)
    grid = largest_grid(section, "simclr", "projector_depth", "linear_top1")
    assert grid is not None and len(grid.cells) == 6
    assert {cell.values["projector_width"].text for cell in grid.cells} == {"1", "2", "3"}


def test_a_heat_map_is_blank_where_a_cell_was_not_run(synthetic_run):
    crossed(synthetic_run, {(64, 1): 0.7, (128, 1): 0.8, (64, 2): 0.75, (128, 2): 0.7, (256, 1): 0.8})
    _, section = only_section(synthetic_run)
    (panel,) = heat_maps(section, "linear_top1")
    (trace,) = panel.figure.data
    blank = [z for row in trace.z for z in row if z is None]
    assert len(blank) == 1 and sum(len(row) for row in trace.z) == 6


# --- costs and diagnostics ------------------------------------------------------------------------------------------


def test_the_front_holds_points_that_no_other_beats_in_both_cost_and_accuracy(whole_sweep):
    _, section = only_section(whole_sweep)
    cells = section.cells
    points = [
        Point(cells[n], cost, accuracy) for n, (cost, accuracy) in enumerate([(1, 5), (2, 4), (3, 7), (3, 6), (4, 7)])
    ]
    assert [(point.cost, point.accuracy) for point in front(points)] == [(1, 5), (3, 7)]


def test_cost_is_of_completed_trials_and_the_chosen_cell_has_an_interval(synthetic_run):
    for width, minutes in ((64, (1, 3)), (128, (4, 6))):
        for seed, amount in enumerate(minutes):
            synthetic_run.planned_and_recorded(
                0.9 - 0.001 * width - 0.01 * seed,
                seed=seed,
                settings={"projector_width": width},
                circumstance={"train_seconds": 60.0 * amount},
            )
    synthetic_run.planned_and_recorded(
        None,
        seed=2,
        status="failed",
        reason="x",
        settings={"projector_width": 64},
        circumstance={"train_seconds": 3000.0},
    )
    _, section = only_section(synthetic_run)
    (panel,) = cost_panels(section, "linear_top1")
    front, other, chosen = panel.figure.data
    assert panel.title == "Minutes of training per trial"
    assert list(front.x) == [2.0] and sorted([*other.x, *chosen.x]) == [2.0, 5.0]
    assert (other.marker.symbol, chosen.marker.symbol) == ("circle-open", "circle")
    interval = section.chosen["barlow_twins"].interval("linear_top1", "test")
    assert list(chosen.error_y.array) == [pytest.approx(100 * interval.half_width, abs=1e-5)]
    assert other.error_y.array is None


def test_seconds_of_packed_trials_are_in_no_panel_of_costs(synthetic_run):
    for width, seconds in ((64, 60.0), (128, 240.0)):
        for seed, pack in ((0, 1), (1, 4)):
            circumstance = {"train_seconds": seconds * pack, "pack": pack}
            settings = {"projector_width": width}
            synthetic_run.planned_and_recorded(seed=seed, settings=settings, circumstance=circumstance)
    _, section = only_section(synthetic_run)
    (panel,) = cost_panels(section, "linear_top1")
    assert panel.title == "Minutes of training per trial"
    assert sorted(x for trace in panel.figure.data[1:] for x in trace.x) == [1.0, 4.0]


def test_a_packed_trial_has_no_minutes_but_the_time_of_one_update_alone(synthetic_run):
    for seed, pack in ((0, 1), (1, 4)):
        circumstance = {"train_seconds": 60.0 * pack, "pack": pack, "solo_step_seconds": 0.01 + seed / 1000}
        synthetic_run.planned_and_recorded(seed=seed, circumstance=circumstance)
    synthetic_run.planned_and_recorded(seed=2)  # before there were packs
    run, section = only_section(synthetic_run)
    shown = trials_data(run, section, {})
    columns = {one["name"]: one for one in (*shown["main"], *shown["details"]["Cost"])}
    assert columns["Training (min)"]["each"] == [1.0, None, 0.8]
    assert columns["one update alone (ms)"]["each"] == [10.0, 11.0, None]
    query = against_cost(section, "linear_top1")
    with ResultStore(synthetic_run.folder) as store:
        assert list(store.query(query).train_seconds) == [(60.0 + 50.0) / 2]


def test_the_details_of_a_trial_give_the_settings_that_differ_from_the_protocol(synthetic_run):
    synthetic_run.planned_and_recorded(0.9, method="simclr", settings={"temperature": 0.2})
    first, *_ = trials_data(*only_section(synthetic_run), {})["details"]["Settings"]
    assert first == {"name": "differs from the protocol", "all": "temperature = 0.2 (protocol: 0.1)"}


def test_the_rank_correlation_equals_scipys_and_needs_four_trials_and_some_spread():
    pairs = [(1.0, 3.0), (2.0, 1.0), (2.0, 4.0), (5.0, 9.0), (3.0, 4.0)]
    assert spearman(pairs) == pytest.approx(stats.spearmanr(pairs).statistic)
    assert spearman(pairs[:LEAST_TRIALS]) is not None
    assert spearman(pairs[: LEAST_TRIALS - 1]) is None
    assert spearman([(1.0, y) for _, y in pairs]) is None


def test_correlations_use_the_last_value_of_each_trial_of_a_method(whole_sweep):
    run, section = only_section(whole_sweep)
    found = correlations(run, section, "linear_top1").set_index(["method", "diagnostic"])
    with ResultStore(whole_sweep.folder) as store:
        rows = store.query(
            "SELECT arg_max(curves.value, epoch) AS last, any_value(metrics.value) AS value FROM curves "
            "JOIN trials USING (trial_id) JOIN metrics USING (trial_id) WHERE method = 'barlow_twins' AND "
            "status = 'done' AND curves.name = 'diagnostics/alignment' AND metrics.name = 'linear_top1' "
            "AND split = 'test' GROUP BY trial_id"
        )
    expected = stats.spearmanr(rows["last"], rows["value"]).statistic
    assert found.loc[("barlow_twins", "alignment"), "spearman"] == pytest.approx(expected)
    assert found.loc[("barlow_twins", "alignment"), "trials"] == 26


def test_a_protocol_in_words_states_what_it_has_and_guesses_nothing():
    words = dict(protocol_in_words(read_protocol("digits-small").content, {}))
    assert words["Data"].startswith("digits; 20 % of the training images are held out for validation")
    assert "at least 3 seeds per cell; a difference below 1 point in top-1" in words["Seeds and margin"]
    assert "linear probe of 50 epochs" in words["Evaluation"]
    assert words["Selection"] == (
        "Candidates are selected on validation data; results are of the weights after the last epoch."
    )
    assert protocol_in_words({}, {}) == []


def test_published_numbers_are_of_the_same_dataset_and_apart_from_measured_ones(synthetic_run):
    content = synthetic_run.trial()["protocol"]["content"] | {"dataset": {"name": "cifar10"}}
    protocol = synthetic_run.trial()["protocol"] | {"content": content}
    synthetic_run.planned_and_recorded(0.9, method="simclr", protocol=protocol)
    _, section = only_section(synthetic_run)
    known = [v for t in published_tables().values() for v in t.values if v.dataset == "cifar10"]
    found = reported(section)
    assert len(found) == sum(value.metric in ("knn_top1", "linear_top1") for value in known) > 20
    text = write_report(synthetic_run.folder).read_text("utf-8")
    methods = text[text.index('id="s1-methods-table"') : text.index('id="s1-methods-table-csv"')]
    assert "lightly" not in methods and "lightly" in text[text.index('class="apart"') :]


# --- trials ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[1, 1, 1], [1, 2, 1, 2, 1], [1, 2, 3], ["a", None, "a", None]])
def test_a_column_can_be_decoded_to_its_values(values):
    one = column("x", values)
    back = [
        one["all"] if "all" in one else one["each"][n] if "each" in one else one["of"][one["at"][n]]
        for n in range(len(values))
    ]
    assert back == values


def test_curves_are_thinned_to_fit_and_keep_both_ends(whole_sweep):
    run, section = only_section(whole_sweep)
    whole = trials_data(run, section, {})["curves"]
    thin = trials_data(run, section, {}, share=3000 / CURVE_POINTS)["curves"]
    assert not whole["thinned"] and thin["thinned"]
    for name in whole["names"]:
        for (_, grid, _), (_, few_grid, _) in zip(whole["series"][name], thin["series"][name], strict=True):
            x, few = whole["epochs"][grid], thin["epochs"][few_grid]
            assert len(few) <= len(x) and (few[0], few[-1]) == (x[0], x[-1])
    assert trials_data(run, section, {}, share=0.0)["curves"]["left_out"]


def test_a_log_tail_is_the_end_of_the_last_attempts_log_without_secrets(tmp_path: Path):
    folder = tmp_path / "trials" / "abc"
    folder.mkdir(parents=True)
    (folder / "attempt-0001.log").write_text("first")
    lines = [f"line {n}" for n in range(100)] + ["token ghp_" + "a1B2" * 9]
    (folder / "attempt-0002.log").write_text("\n".join(lines))
    tail = read_log_tails(tmp_path, ["abc", "none"])
    assert set(tail) == {"abc"}
    assert "line 99" in tail["abc"] and "line 10\n" not in tail["abc"] and "ghp_" not in tail["abc"]


@pytest.mark.parametrize("linked", ["the log", "the trial's folder"])
def test_a_log_outside_the_run_folder_is_not_on_the_page(tmp_path: Path, linked: str):
    run, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (outside / "attempt-0001.log").write_text("not of this run")
    trial = run / "trials" / "abc"
    trial.mkdir(parents=True)
    if linked == "the log":
        (trial / "attempt-0001.log").symlink_to(outside / "attempt-0001.log")
    else:
        trial.rmdir()
        trial.symlink_to(outside)
    assert read_log_tails(run, ["abc"]) == {}


# --- queries, and the page as a whole -------------------------------------------------------------------------------


def test_every_query_on_the_page_runs_and_the_methods_query_gives_their_numbers(whole_sweep):
    text = write_report(whole_sweep.folder).read_text("utf-8")
    page = Page(text)
    queries = re.findall("twinbench query DIR .*", page.text)
    assert len(queries) >= 14
    with ResultStore(whole_sweep.folder) as store:
        answers = [store.query(shlex.split(line)[3]) for line in dict.fromkeys(queries)]
        (methods,) = [store.query(shlex.split(line)[3]) for line in queries[:1]]
    assert all(len(answer.columns) for answer in answers)
    _, section = only_section(whole_sweep)
    exact = methods_table(section).set_index("cell_id")
    for row in methods.itertuples():
        prefix = f"{row.name}_test"
        assert row.mean == pytest.approx(exact.loc[row.cell_id, f"{prefix}_mean"])
        if row.n > 1:
            half = stats.t.ppf(0.975, row.n - 1) * row.sd / math.sqrt(row.n)
            assert half == pytest.approx(exact.loc[row.cell_id, f"{prefix}_half_width"])


def with_tools(page: Page) -> set[str]:
    """Return the ids of all figures and tables, after checking that each has a link, a download and a source."""
    tags = [
        (tag, a) for tag, a in page.tags if tag in ("table", "a", "button", "details") or a.get("class") == "panels"
    ]
    linked = set()
    for (tag, link), (second, button), (third, _) in zip(tags, tags[1:], tags[2:], strict=False):
        if tag == "a" and (link.get("aria-label") or "").startswith("Link to"):
            assert (second, button["data-csv"], third) == ("button", str(link["href"])[1:], "details"), link
            linked.add(button["data-csv"])
    shown = {a["id"] for tag, a in tags if tag == "table" or a.get("class") == "panels"}
    assert shown <= linked
    return shown


def test_every_figure_and_table_has_a_link_a_download_and_its_query(whole_sweep, synthetic_run):
    assert len(with_tools(report(whole_sweep))) >= 14
    deviations = [
        {"key": "training.epochs", "value": 20, "protocol_value": 40, "reason": "It's <late>"},
        {"key": "training.optimizer", "value": "sgd", "protocol_value": 0.5, "reason": ""},
    ]
    content = synthetic_run.trial()["protocol"]["content"] | {"dataset": {"name": "cifar10"}}
    deviating = synthetic_run.trial()["protocol"] | {"hash": "d" * 64, "deviations": deviations, "content": content}
    synthetic_run.planned_and_recorded(0.9, protocol=deviating)
    (synthetic_run.folder / "records" / "stray.txt").write_text("mine")
    page = report(synthetic_run)
    assert {"set-aside-table", "s1-deviations-table", "s1-reported-table"} <= with_tools(page)
    page_queries = [shlex.split(line)[3] for line in re.findall("twinbench query DIR .*", page.text)]
    with ResultStore(synthetic_run.folder) as store:
        (found,) = [store.query(sql) for sql in page_queries if "from_json" in sql]
        (aside,) = [store.query(sql) for sql in page_queries if "set_aside" in sql]
    (rows,) = [list(csv.DictReader(io.StringIO(page.data("s1-deviations-table-csv"))))]
    assert [{name: str(value) for name, value in row.items()} for row in rows] == [
        {name: str(value) for name, value in one.items()} for one in deviations
    ]
    assert [
        (row.key, json.loads(row.value), json.loads(row.protocol_value), row.reason) for row in found.itertuples()
    ] == [tuple(one.values()) for one in deviations]
    assert list(aside["file"]) == ["records/stray.txt"]


def test_published_numbers_name_their_files(synthetic_run):
    content = synthetic_run.trial()["protocol"]["content"] | {"dataset": {"name": "cifar10"}}
    synthetic_run.planned_and_recorded(0.9, protocol=synthetic_run.trial()["protocol"] | {"content": content})
    page = report(synthetic_run)
    rows = list(csv.DictReader(io.StringIO(page.data("s1-reported-table-csv"))))
    named = re.findall(r"twinbench/reports/reported/([a-z0-9-]+\.toml)", page.text)
    assert named and set(named) == {row["File"] for row in rows}
    for row in rows[:1] + rows[-1:]:
        table = published_tables()[row["File"].removesuffix(".toml")]
        assert row["Source"] == str(table.source) and row["Method"] in {value.method for value in table.values}


def short_and_long(run) -> dict:
    """Return a protocol of 12 epochs."""
    content = run.trial()["protocol"]["content"] | {"training": {"epochs": 12, "batch_size": 128}}
    return run.trial()["protocol"] | {"content": content, "hash": "f" * 64}


def test_the_page_says_what_is_not_as_in_the_protocol_whether_fixed_or_varied(synthetic_run):
    protocol = short_and_long(synthetic_run)
    for method, batch_sizes in (("simclr", (64, 128)), ("byol", (128,))):
        for size in batch_sizes:
            training = {"epochs": 1, "batch_size": size}
            synthetic_run.planned_and_recorded(0.9, method=method, training=training, protocol=protocol)
    page = report(synthetic_run)
    words = " ".join(page.text.split())
    assert "1 epoch (protocol: 12), batches of 128; values varied" in words
    assert "to choose from: byol 1, simclr 2. Not as in the protocol: epochs = 1 (protocol: 12)." in words
    assert "varied: batch_size (protocol: 128)." in words and "No value differs" not in words
    read = read_shown(synthetic_run.folder, logs=False)
    shown = [row[-1]["text"] for row in section_part(read, read.sections[0], "s1")["cells"]["methods"]]
    assert shown == ["", "batch_size = 64 (protocol: 128)", ""]  # captions state the epochs
    with (synthetic_run.folder / "report/tables/cells.csv").open() as file:
        differing = {(row["method"], row["batch_size"]): row["differs_from_protocol"] for row in csv.DictReader(file)}
    assert differing == {
        ("byol", "128"): "epochs = 1 (protocol: 12)",
        ("simclr", "64"): "batch_size = 64 (protocol: 128), epochs = 1 (protocol: 12)",
        ("simclr", "128"): "epochs = 1 (protocol: 12)",
    }
    assert [row[:2] + row[4:] for row in csv.reader(io.StringIO(page.data("s1-changed-table-csv")))][1:] == [
        ["byol", "epochs", "1 of 1"],
        ["simclr", "batch_size", "1 of 2"],
        ["simclr", "epochs", "2 of 2"],
    ]


def test_two_runs_of_unequal_epochs_are_not_equals_side_by_side(new_synthetic_run, tmp_path: Path):
    runs = [new_synthetic_run(tmp_path / name) for name in ("long", "short")]
    for run, epochs in zip(runs, (12, 2), strict=True):
        training = {"epochs": epochs, "batch_size": 128}
        run.planned_and_recorded(0.9, method="byol", training=training, protocol=short_and_long(run))
    page = Page(write_reports([run.folder for run in runs], tmp_path / "both").read_text("utf-8"))
    assert "1. synthetic, seed 0: linear top-1 (%)" in page.text
    assert "2. synthetic with epochs = 2 (protocol: 12), seed 0: linear top-1 (%)" in page.text


def test_the_queries_of_runs_side_by_side_give_each_runs_numbers(new_synthetic_run, tmp_path: Path):
    folders = []
    for number in range(2):
        run = new_synthetic_run(tmp_path / f"run{number}")
        run.planned_and_recorded(0.9 - 0.1 * number, method="simclr")
        folders.append(run.folder)
    page = Page(write_reports(folders, tmp_path / "both").read_text("utf-8"))
    assert "together-1" in with_tools(page)
    for number, folder in enumerate(folders, 1):
        (line,) = re.findall(f"twinbench query DIR{number} .*", page.text)
        with ResultStore(folder) as store:
            found = store.query(shlex.split(line)[3]).set_index("name")
        assert found.loc["linear_top1", "mean"] == pytest.approx(1.0 - 0.1 * number)


def test_a_printed_query_runs_for_names_with_quotes(synthetic_run):
    name = 'it\'s "$x" `y` \\'
    for value in ("one", "two"):
        synthetic_run.planned_and_recorded(0.9, method=name, settings={name: value})
    _, section = only_section(synthetic_run)
    sql = against_axis(section, [name], "linear_top1")
    printed = [shlex.split(line) for line in re.findall("twinbench query DIR .*", report(synthetic_run).text)]
    assert ["twinbench", "query", "DIR", sql] in printed
    with ResultStore(synthetic_run.folder) as store:
        for *_, query in printed:
            store.query(query)
        found = store.query(sql)
    assert sorted(found["axis_1"]) == ["one", "two"] and set(found["method"]) == {name}


def test_a_hostile_name_changes_nothing_but_its_own_label(synthetic_run, new_synthetic_run, tmp_path: Path):
    """The page of a plain name and that of a hostile one are made of the same elements."""
    hostile = f"{HOSTILE}\u202e\u2067\"'"
    shapes = []
    for name, run in (("plain", synthetic_run), (hostile, new_synthetic_run(tmp_path / "hostile"))):
        for seed in range(2):
            run.planned_and_recorded(0.9 + 0.01 * seed, method=name, seed=seed, circumstance={"host": name})
        page = report(run)
        shapes.append([(tag, sorted(attributes)) for tag, attributes in page.tags if tag not in ("td", "th")])
    assert shapes[0] == shapes[1]


@pytest.mark.slow
def test_five_hundred_trials_with_curves_stay_under_eight_megabytes(synthetic_run):
    synthetic_run.later = True
    series = {f"diagnostics/{name}": [0.123456 + 0.001 * n for n in range(100)] for name in "abcdef"}
    for number in range(500):
        curves = {"epoch": list(range(100)), "series": series | {"loss": [number + 1 / (n + 1) for n in range(100)]}}
        settings = {"projector_width": number // 5}
        synthetic_run.planned_and_recorded(0.9, seed=number % 5, settings=settings, curves=curves)
    synthetic_run.write_plan()
    assert write_report(synthetic_run.folder).stat().st_size < 8e6


def test_a_page_of_several_runs_is_the_same_bytes_again_and_leaves_their_folders(new_synthetic_run, tmp_path: Path):
    folders = []
    for number in range(2):
        run = new_synthetic_run(tmp_path / f"run{number}")
        run.planned_and_recorded(0.9 - 0.1 * number, method="simclr")
        folders.append(run.folder)
    first = write_reports(folders, tmp_path / "both").read_bytes()
    assert write_reports(folders, tmp_path / "again").read_bytes() == first
    assert all("report" not in name for folder in folders for name in tree(folder))
    page = Page(first.decode())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.data("r1s1-trials-data")["ids"]


# --- how to reproduce -----------------------------------------------------------------------------------------------


def run_commands(page: Page) -> list[str]:
    """Return the lines on reproducing that give the commands the run was made with."""
    return [line for line in page.text.splitlines() if line.startswith("Run the sweep")]


def test_the_page_gives_the_commands_that_made_the_run_unchanged(synthetic_run):
    synthetic_run.commands = ["twinbench run 'a  b.toml' --set 'x=<b>&'", "twinbench run c --slurm setup=WITHHELD"]
    fill_methods(synthetic_run, 1)
    assert run_commands(report(synthetic_run)) == [
        "Run the sweep, 1 of 2 commandstwinbench run 'a  b.toml' --set 'x=<b>&'",
        "Run the sweep, 2 of 2 commands; WITHHELD replaces what may be a secrettwinbench run c --slurm setup=WITHHELD",
    ]


def test_uncommitted_changes_are_named_beside_the_commit(synthetic_run):
    synthetic_run.planned_and_recorded(0.9, seed=0)
    synthetic_run.planned_and_recorded(0.9, seed=1, circumstance={"commit": "b" * 40 + "+changes"})
    lines = [line for line in report(synthetic_run).text.splitlines() if "git checkout" in line]
    assert lines == [
        f"Check out the code, without its uncommitted changesgit checkout {'b' * 40}",
        f"Check out the codegit checkout {'c' * 40}",
    ]


def test_a_folder_without_recorded_commands_shows_only_the_other_commands(synthetic_run):
    fill_methods(synthetic_run, 1)
    page = report(synthetic_run)
    assert run_commands(page) == [] and "twinbench report DIR" in page.text


def test_the_plans_commands_are_not_shown_for_records_of_another_protocol(synthetic_run):
    synthetic_run.commands = ["twinbench run a"]
    fill_methods(synthetic_run, 1)
    other = synthetic_run.trial()["protocol"] | {"hash": "6" * 64}
    synthetic_run.record(synthetic_run.trial(protocol=other), 0.8)
    page = report(synthetic_run)
    assert "2 different protocols" in page.text and len(run_commands(page)) == 1
