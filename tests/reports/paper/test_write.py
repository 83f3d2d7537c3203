import html
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROTOCOL, SyntheticRun

from twinbench.reports.figures.paper_style import STYLES, read_style
from twinbench.reports.page.write import write_report
from twinbench.reports.paper.latex import latex
from twinbench.reports.paper.parts import PaperTable, frame
from twinbench.reports.paper.tables import paper_tables
from twinbench.reports.paper.write import markdown, preview, read_sources, table_files, write_paper
from twinbench.reports.table_check.check import check_tables
from twinbench.results.store import ResultStore
from twinbench.sweeps.errors import InvalidInput

HOSTILE = "<script>$&%_#{}~^\\ | `x` \"q\" 'q' **b** \u202eevil\u202c [y](z) $x$"
NEURIPS = STYLES["neurips"]
WIDE = read_style("20x5")


def tables_of(*folders: Path) -> dict[str, PaperTable]:
    return {table.key: table for table in paper_tables(read_sources(folders))}


@pytest.fixture(scope="module")
def whole_tables(whole_sweep) -> dict[str, PaperTable]:
    return tables_of(whole_sweep.folder)


@pytest.fixture
def epochs_run(synthetic_run) -> SyntheticRun:
    """Two methods by epochs, which differ significantly at 200, where simclr leads, and not at 100."""
    for epochs, barlow, simclr, wobbles in ((100, 0.84, 0.81, 0.02), (200, 0.85, 0.95, 0.001)):
        for seed in range(3):
            for method, level in (("barlow_twins", barlow), ("simclr", simclr)):
                value = level + wobbles * (seed - 1) * (1 if method == "simclr" else -1)
                synthetic_run.planned_and_recorded(value, method=method, seed=seed, training={"epochs": epochs})
    return synthetic_run


def test_all_kinds_of_tables_are_made(whole_tables):
    assert set(whole_tables) == {
        "methods",
        "by-projector_width-knn_top1",
        "by-projector_width-linear_top1",
        "ablation-barlow_twins",
        "ablation-byol",
        "ablation-simclr",
        "ablation-vicreg",
        "grid-barlow_twins-off_diagonal_weight-projector_width",
    }
    for key, table in whole_tables.items():
        assert "synthetic v1 (555555555555)" in table.caption
        assert ("Other settings of barlow_twins" if key.startswith("by-") else "was chosen") in table.caption
        assert any("95% t interval" in note for note in table.notes)


def test_methods_by_epochs_share_letters_unless_significantly_different_and_only_leaders_are_bold(epochs_run):
    table = tables_of(epochs_run.folder)["by-epochs-linear_top1"]
    assert table.columns == ("100", "200")
    assert [[(n.group, n.leads) for n in row.numbers] for row in table.rows] == [
        [("a", False), ("b", False)],
        [("a", False), ("a", True)],
    ]
    text = latex(table, NEURIPS)
    assert re.findall(r"\\bfseries ([0-9.]+)", text) == ["95.0"]
    assert markdown(table).count("**") == 2


def test_methods_that_are_not_above_the_baselines_are_named_as_on_the_page(new_synthetic_run, tmp_path):
    levels = {"raw_pixels": 0.7, "untrained": 0.6, "byol": 0.65, "simclr": 0.8}
    folders = []
    for dataset in ("cifar10", "stl10"):
        run = new_synthetic_run(tmp_path / dataset)
        for method, value in levels.items():
            protocol = dataset_protocol(dataset)
            run.record(run.trial(method, protocol=protocol, fingerprint=f"sha256:{dataset}"), value)
        folders.append(run.folder)
    sentence = "In mean linear top-1 on test, byol is not above raw_pixels (70.0 %, one seed)."
    tables = tables_of(folders[0])
    assert sentence in tables["methods"].notes
    assert sentence in html.unescape(write_report(folders[0]).read_text("utf-8"))
    shared = tables_of(*folders)["datasets-linear_top1"].notes
    assert [note for note in shared if "not above" in note] == [f"cifar10: {sentence}", f"stl10: {sentence}"]


def test_a_table_without_a_cell_is_traced_in_its_csv_and_has_no_n_there(epochs_run, tmp_path):
    for seed in range(3):
        epochs_run.planned_and_recorded(0.9, method="simclr", seed=seed, training={"epochs": 400})
    table = tables_of(epochs_run.folder)["by-epochs-linear_top1"]
    of_row = {(row["Method"], row["column"]): row for row in frame(table).to_dict("records")}
    assert (of_row["barlow_twins", "400"]["n"], of_row["simclr", "400"]["n"]) == (None, 3)
    assert (of_row["barlow_twins", "400"]["reported_seeds"], of_row["simclr", "400"]["reported_seeds"]) == (
        "",
        "0, 1, 2",
    )
    (tmp_path / "table.csv").write_text(table_files(table, NEURIPS)[f"{table.key}.csv"], "utf-8")
    traced = check_tables([tmp_path / "table.csv"], [epochs_run.folder])
    assert {(one.printed, one.reason) for one in traced if one.verdict != "traced"} == set() and len(traced) >= 15


def test_an_ablation_marks_cells_not_significantly_different_from_the_chosen_one(epochs_run):
    rows = tables_of(epochs_run.folder)["ablation-simclr"].rows
    assert [(row.labels, row.tail[1], row.numbers[1].group) for row in rows] == [
        (("100",), "", ""),
        (("200",), "chosen", ""),
    ]
    marks = [row.numbers[1].group for row in tables_of(epochs_run.folder)["ablation-barlow_twins"].rows]
    assert marks == ["†", ""]


def dataset_protocol(name: str, **changes: object) -> dict[str, object]:
    content = PROTOCOL["content"] | {"dataset": {"name": name}} | changes
    return {"name": f"on-{name}", "version": 1, "hash": f"{len(str(content)):064d}"[:56] + name[-8:].rjust(8, "0")} | {
        "content": content
    }


def test_methods_by_datasets_stand_in_one_table_where_protocols_differ_in_the_dataset_alone(
    new_synthetic_run, tmp_path
):
    folders = []
    for name, changes in (("cifar10", {}), ("svhn", {"views": [{"flip": 0.0}] * 2}), ("stl10", {})):
        run = new_synthetic_run(tmp_path / name)
        protocol = dataset_protocol(name, **changes)
        for method, seed in (("simclr", 0), ("simclr", 1), ("byol", 0), ("byol", 1)):
            run.record(run.trial(method, seed, protocol=protocol, fingerprint=f"sha256:{name}"), 0.8 + 0.01 * seed)
        folders.append(run.folder)
    tables = tables_of(*folders)
    shared = tables["datasets-linear_top1"]
    assert shared.columns == ("cifar10", "stl10")
    assert [number.source.number for number in shared.rows[0].numbers] == [1, 3]
    assert any("stl10: protocol on-stl10 v1" in note for note in shared.notes)
    assert not [table for table in tables.values() if {"svhn", "cifar10"} <= set(table.columns)]
    text = latex(shared, NEURIPS)
    assert set(re.findall(r'query "\$(\w+)"', text)) == {"DIR1", "DIR3"} == set(re.findall(r"^%   (\w+)=", text, re.M))
    assert set(frame(shared)["protocol"]) == {number.source.section.protocol_id for number in shared.rows[0].numbers}


def test_a_grid_is_shaded_by_its_means_and_marks_the_chosen_cell(whole_tables):
    table = whole_tables["grid-barlow_twins-off_diagonal_weight-projector_width"]
    shades = {n.shade: n.interval.mean for row in table.rows for n in row.numbers if n.interval}
    assert min(shades) == 0.0
    assert max(shades) == 1.0
    assert shades[1.0] == max(shades.values())
    assert [n.group for row in table.rows for n in row.numbers].count("*") == 1
    assert any("0.05 at 256: 2 of 3, 1 diverged" in note for note in table.notes)


def queries(text: str) -> list[tuple[str, list[str]]]:
    """Each query of a table, with the numbers that the row below its comments prints for it."""
    found, waiting = [], []
    for line in text.splitlines():
        if match := re.search(r'^% .*: twinbench query "\$DIR" "([^"]*)"$', line):
            waiting.append(match[1])
        elif waiting:
            printed = re.findall(
                r"(?:& |\}|\\bfseries )(\d+\.\d)(?: ?\{(?:\\,\$\\pm\$\\,(\d+\.\d))?[^&]*)?(?= &| \\\\)", line
            )
            assert len(printed) == len(waiting), line
            found += zip(waiting, map(list, printed), strict=True)
            waiting = []
    return found


def test_the_query_above_each_number_gives_that_number(whole_sweep, whole_tables):
    store, query_count = ResultStore(whole_sweep.folder), 0
    for table in whole_tables.values():
        found = queries(latex(table, NEURIPS))
        assert len(found) == sum(n.interval is not None for row in table.rows for n in row.numbers)
        for query, printed in found:
            (answer,) = store.query(query).to_dict("records")
            assert [answer["mean"], answer["half_width"]] == printed
        query_count += len(found)
    assert query_count > 60


def test_the_query_runs_unchanged_in_a_shell(epochs_run):
    text = latex(tables_of(epochs_run.folder)["methods"], NEURIPS)
    command = re.search(r'twinbench (query "\$DIR" "[^"]*")', text)[1]
    line = f'"{sys.executable}" -m twinbench.harness.cli {command} --format csv'
    done = subprocess.run(["sh", "-c", line], env=os.environ | {"DIR": str(epochs_run.folder)}, capture_output=True)
    assert re.fullmatch(rb"mean,half_width,n\n\d+\.\d,\d+\.\d,3\n", done.stdout), done


def test_ties_are_rounded_by_the_query_as_in_the_table(synthetic_run):
    for seed, value in enumerate((0.9025, 0.9025, 0.8125, 0.8625)):
        synthetic_run.planned_and_recorded(value, seed=seed % 2, method="simclr" if seed < 2 else "byol")
    store = ResultStore(synthetic_run.folder)
    for query, printed in queries(latex(tables_of(synthetic_run.folder)["methods"], NEURIPS)):
        assert store.query(query)["mean"][0] == printed[0]


def test_the_tables_are_traced_whole_by_the_check_of_a_papers_numbers(whole_sweep, whole_tables, tmp_path):
    for table in whole_tables.values():
        (tmp_path / f"{table.key}.tex").write_text(latex(table, NEURIPS), "utf-8")
    traced = check_tables(sorted(tmp_path.glob("*.tex")), [whole_sweep.folder])
    assert len(traced) > 100
    assert {(one.printed, one.reason) for one in traced if one.verdict != "traced"} == set()


def test_captions_state_what_a_sweep_fixes_or_varies_against_the_protocol_and_are_traced(synthetic_run, tmp_path):
    content = PROTOCOL["content"] | {"training": {"epochs": 12, "batch_size": 128}}
    protocol = PROTOCOL | {"content": content, "hash": "f" * 64}
    synthetic_run.planned_and_recorded(0.5, method="untrained", protocol=protocol)
    for method, weight in (("simclr", {}), ("byol", {"projector_depth": 3})):
        for seed, size in ((0, 64), (1, 64), (0, 128), (1, 128)):
            training = {"epochs": 2, "batch_size": size}
            choices = {"method": method, "settings": weight, "training": training, "protocol": protocol}
            synthetic_run.planned_and_recorded(0.9 + 0.01 * seed - size / 1e4, seed=seed, **choices)
    tables = tables_of(synthetic_run.folder)
    fixed = "with epochs = 2 (protocol: 12), byol.projector_depth = 3 (protocol: 2)."
    assert all(table.caption.endswith(f"Protocol synthetic v1 (ffffffffffff), {fixed}") for table in tables.values())
    assert "methods by batch_size (protocol: 128)." in tables["by-batch_size-linear_top1"].caption
    assert "Varied: batch_size (protocol: 128)." in tables["ablation-simclr"].caption
    assert "Chosen: byol: batch_size = 64 (protocol: 128); simclr:" in tables["methods"].notes[0]
    assert set(frame(tables["ablation-simclr"])["differs_from_protocol"]) == {
        "batch_size = 64 (protocol: 128), epochs = 2 (protocol: 12)",
        "epochs = 2 (protocol: 12)",
    }
    for name, text in itertools.chain.from_iterable(table_files(one, NEURIPS).items() for one in tables.values()):
        (tmp_path / name).write_text(text, "utf-8")
    traced = check_tables([*tmp_path.glob("*.tex"), *tmp_path.glob("*.csv")], [synthetic_run.folder])
    assert {(one.printed, one.reason) for one in traced if one.verdict != "traced"} == set() and len(traced) > 60


def test_the_frame_is_exact_and_the_markdown_is_a_table(whole_tables):
    table = whole_tables["methods"]
    rows = frame(table).to_dict("records")
    assert [row["Method"] for row in rows[::2]] == [
        "raw_pixels",
        "untrained",
        "barlow_twins",
        "byol",
        "simclr",
        "vicreg",
    ]
    assert rows[0]["half_width"] is None
    lines = [line for line in markdown(table).splitlines() if line.startswith("|")]
    assert len({line.count(" | ") for line in lines}) == 1
    assert "barlow\\_twins" in lines[4]


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory) -> SyntheticRun:
    run = SyntheticRun(tmp_path_factory.mktemp("hostile") / "run", axes=("projector_width", HOSTILE))
    run.question = HOSTILE
    for method in (f"_{HOSTILE}", f"%{HOSTILE}"):
        for width in (64, 128, 256):
            for other in (1, 2):
                settings = {"projector_width": width, HOSTILE: f"{HOSTILE}{other}"}
                for seed in range(2):
                    value = 0.8 + 0.01 * seed + width / 1e4
                    curves = {"epoch": [1, 2], "series": {"loss": [2.0, 1.0], f"diagnostics/{HOSTILE}": [1.0, 2.0]}}
                    run.planned_and_recorded(value, method=method, seed=seed, settings=settings, curves=curves)
    return run


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_hostile_name_changes_nothing_but_its_own_label(hostile_run, tmp_path):
    files = tree(write_paper([hostile_run.folder], tmp_path, NEURIPS).parent)
    assert all(re.fullmatch(r"[A-Za-z0-9/_.-]+", name) for name in files)
    for name, data in files.items():
        if name.endswith((".tex", ".md", ".svg")):
            text = data.decode("utf-8")
            assert "<script" not in text, name
            assert "\u202e" not in text, name
    for name, data in files.items():
        if name.endswith(".md"):
            rows = [line for line in data.decode().splitlines() if line.startswith("| ")]
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1, name


@pytest.fixture(scope="module")
def whole_paper(whole_sweep, tmp_path_factory) -> Path:
    """The paper of the whole sweep in NeurIPS' style."""
    return write_paper([whole_sweep.folder], tmp_path_factory.mktemp("paper"), NEURIPS)


@pytest.fixture(scope="module")
def whole_files(whole_paper) -> dict[str, bytes]:
    """Its files, before LaTeX leaves any beside them."""
    return tree(whole_paper.parent)


@pytest.mark.slow
def test_equal_records_give_equal_bytes_whatever_the_hash_seed_the_locale_and_the_time_zone(
    filled_run, whole_files, elsewhere, tmp_path
):
    moved = filled_run.folder.rename(tmp_path / "moved")  # without a database
    program = (
        "import os, sys, locale; locale.setlocale(locale.LC_ALL, ''); assert f'{0.5:n}' == os.environ['HALF']\n"
        "from twinbench.reports.paper.write import write_paper\n"
        "from twinbench.reports.figures.paper_style import STYLES\n"
        "write_paper([sys.argv[1]], sys.argv[2], STYLES['neurips'])"
    )
    strange = elsewhere | {"SOURCE_DATE_EPOCH": "7"}
    command = [sys.executable, "-c", program, str(moved), str(tmp_path / "two")]
    subprocess.run(command, env=os.environ | strange, check=True)
    assert tree(tmp_path / "two") == whole_files
    assert len(whole_files) > 40


def test_stale_tables_are_deleted_and_other_files_are_kept(synthetic_run, tmp_path):
    out = tmp_path / "paper"
    trials = [synthetic_run.trial("simclr", settings={"projector_width": width}) for width in (64, 128)]
    for trial in trials:
        synthetic_run.record(trial, 0.9)
    write_paper([synthetic_run.folder], out, NEURIPS)
    (out / "tables" / "mine.tex").write_text("not ours")
    assert (out / "tables" / "ablation-simclr.tex").exists()
    (synthetic_run.folder / "records" / f"{trials[1]['trial_id']}.json").unlink()
    write_paper([synthetic_run.folder], out, NEURIPS)
    assert {path.name for path in (out / "tables").glob("*.tex")} == {"methods.tex", "mine.tex"}


def test_a_list_of_files_that_never_ends_or_has_odd_names_is_not_waited_for_or_followed(synthetic_run, tmp_path):
    synthetic_run.planned_and_recorded(0.9)
    out = write_paper([synthetic_run.folder], tmp_path / "paper", NEURIPS).parent
    (tmp_path / "x.tex").write_text("not ours")
    (out / "files.txt").write_bytes(b"tables/../../x.tex\n\xff\xfe\n")
    write_paper([synthetic_run.folder], out, NEURIPS)
    assert (tmp_path / "x.tex").exists()
    (out / "files.txt").unlink()
    os.mkfifo(out / "files.txt")
    with pytest.raises(OSError, match="not a regular file"):
        write_paper([synthetic_run.folder], out, NEURIPS)


@pytest.mark.parametrize("text", ["neurps", "5", "0x3", "5x3:No Such Font", "5x3:STIXGeneral:99"])
def test_an_invalid_style_is_an_error_that_lists_the_valid_ones(text):
    with pytest.raises(InvalidInput, match="style"):
        read_style(text)


def test_a_custom_style_has_the_given_measures():
    style = read_style("3.3x2.2:DejaVu Sans:7.5")
    assert (style.width, style.height, style.font, style.size) == (3.3, 2.2, "DejaVu Sans", 7.5)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory) -> SyntheticRun:
    """Names and values longer than a column, with places to break and without, as settings and as methods."""
    axis, words = "WEIGHT" * 12, "weight_of_the_off_diagonal_terms_of_the_cross_correlation_matrix_after_whitening"
    run = SyntheticRun(tmp_path_factory.mktemp("long") / "run", axes=(words, axis))
    for method in ("two_views_and_a_projector_of_three_layers_and_no_batch_normalisation", "Mm" * 40, "byol"):
        for one in ("momentum-0.996-to-1.0-by-a-cosine-of-the-whole-training", "plain"):
            for other in ("W" * 50, "cosine"):
                settings = {words: one, axis: other}
                for seed in range(2):
                    run.planned_and_recorded(
                        0.8 + len(one) / 1e3 + seed / 1e2, method=method, seed=seed, settings=settings
                    )
    return run


def test_names_longer_than_a_column_are_broken_which_changes_no_number_and_no_trace(long_run, tmp_path):
    traced = []
    for style in (STYLES["icml"], WIDE):
        for key, table in tables_of(long_run.folder).items():
            text = latex(table, style)
            assert (r"\arraybackslash}p{" in text) == (style is not WIDE), key
            (tmp_path / f"{key}.tex").write_text(text, "utf-8")
        found = check_tables(sorted(tmp_path.glob("*.tex")), [long_run.folder])
        traced.append({(Path(one.file).name, one.printed, one.verdict, one.reason) for one in found})
    assert traced[0] == traced[1] and len(traced[0]) > 20


@pytest.mark.latex
@pytest.mark.parametrize("style", ["neurips", "icml", "thesis"])
@pytest.mark.parametrize("which", ["hostile_run", "long_run"])
def test_no_table_runs_over_the_column_whatever_its_names(which, style, request, tmp_path):
    tables = tables_of(request.getfixturevalue(which).folder)
    (tmp_path / "tables").mkdir()
    for key, table in tables.items():
        (tmp_path / "tables" / f"{key}.tex").write_text(latex(table, STYLES[style]), "utf-8")
    (tmp_path / "tables.tex").write_text(preview(list(tables), [], STYLES[style]), "utf-8")
    assert not re.search(r"Overfull \\hbox", compiled(tmp_path / "tables.tex"))


def compiled(path: Path) -> str:
    """Return what pdflatex prints about the document, which must compile."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, check=False)
    printed = done.stdout.decode("latin-1")
    assert done.returncode == 0, printed[-2000:]
    return printed


@pytest.mark.latex
@pytest.mark.parametrize("style", ["neurips", "icml", "thesis"])
@pytest.mark.parametrize("which", ["whole_sweep", "hostile_run"])
def test_all_of_it_compiles_and_no_table_runs_over_the_column(which, style, request, tmp_path):
    if (which, style) == ("whole_sweep", "neurips"):
        request.getfixturevalue("whole_files")
        paper = request.getfixturevalue("whole_paper")
    else:
        paper = write_paper([request.getfixturevalue(which).folder], tmp_path, STYLES[style])
    printed = compiled(paper)
    if which == "whole_sweep":  # the captions of figures name what a hostile run measured
        assert not re.search(r"Overfull \\hbox", printed), printed
