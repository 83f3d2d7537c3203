"""All numbers are invented; the expected values were computed by hand from the accuracies in `paper`."""

import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest
from typer.testing import CliRunner

from twinbench.harness.cli import app
from twinbench.reports.page.write import table_files
from twinbench.reports.table_check.check import CheckedNumber, all_traced, check_json, check_tables, check_text
from twinbench.reports.table_check.checker import TableChecker
from twinbench.reports.table_check.labels import Vocabulary
from twinbench.reports.table_check.latex_tokens import MOST_DEPTH
from twinbench.reports.table_check.numbers import numbers_in, roundings
from twinbench.reports.table_check.reader import MOST_BYTES, read_tables
from twinbench.reports.table_check.recorded import Recorded, RunSection
from twinbench.reports.tables.cells import Cell, Measured, Section, Value
from twinbench.reports.tables.run import read_run
from twinbench.reports.tables.sections import sections
from twinbench.results.store import ResultStore
from twinbench.sweeps.errors import InvalidInput


def check(run, text: str, name: str = "paper.tex") -> list[CheckedNumber]:
    path = run.folder.parent / name
    path.write_text(text, encoding="utf-8")
    return check_tables([path], [run.folder])


def check_rows(
    run, *rows: str, head: str = "Method & Width & $k$-NN & Linear", caption: str = ""
) -> list[CheckedNumber]:
    body = " \\\\\n".join(rows)
    table = rf"\begin{{tabular}}{{llrr}} \toprule {head} \\ \midrule {body} \\ \bottomrule \end{{tabular}}"
    return check(run, rf"\begin{{table}} \caption{{{caption}}} {table} \end{{table}}")


def verdicts(checked: list[CheckedNumber]) -> list[tuple[str, str]]:
    return [(one.printed, one.verdict) for one in checked]


def by_query(one: CheckedNumber) -> float:
    """Return the number that the evidence's SQL gives on the command line."""
    assert one.evidence is not None
    arguments = ["query", one.evidence.run_folder, one.evidence.query, "--format", "csv"]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    return float(answer.stdout.splitlines()[1])


# --- correct tables ------------------------------------------------------------------------------------------

BOOKTABS = r"""
\newcommand{\ours}[1][SimCLR]{#1 (ours)}
\def\std#1{{\scriptsize $\pm$#1}}
\begin{table}[t]
  \caption[Short.]{Accuracy after 20 epochs~\cite{z}, batch 128. % a comment with 77.7 & 88.8 \\
    Hyper-parameters were selected on validation accuracy.}
  \resizebox{\linewidth}{!}{%
  \begin{tabular}{@{}l S[table-format=3] cc c@{}}
    \toprule
    \multirow{2}{*}{Method} & {\multirow{2}{*}{Projector width}} & \multicolumn{2}{c}{Top-1 (\%)} & \# seeds \\
    \cmidrule(lr){3-4}
     & & {$k$-NN} & \makecell{Linear\\probe} & \\
    \midrule
    \rowcolor[gray]{0.9} \multicolumn{5}{l}{\emph{Decorrelation}} \\
    \multirow{2}{*}{Barlow Twins~\citep{b}} & 64 & \textbf{89.1} & $91.1 \pm 2.4$ & 3 \\
     & 256 & 86.5 & \underline{88.5}\,\% & 3 of 3 \\[2pt]
    \addlinespace
    \multicolumn{5}{l}{\emph{Others}} \\
    BYOL\textsuperscript{a} & 64 & 86.1\textsuperscript{*} & 88.13\std{0.55} & {3/3} \\
    \ours & {\num{64}} & \cellcolor{red!10} 85.2 & \SI{87.2}{\percent} (0.30) & 3 \\
    \ours[vicreg] & 64 & \phantom{0}79.3 & 81.2 (1 seed) & 1 \\
    % SimCLR & 64 & 11.1 & 22.2 & 9 \\
    \bottomrule
  \end{tabular}}
\end{table}
"""


def test_a_booktabs_table_in_many_spellings_is_traced(paper):
    checked = check(paper, BOOKTABS)
    assert [one for one in checked if one.verdict != "traced"] == []
    printed = "89.1 91.1 2.4 3 86.5 88.5 3 3 86.1 88.13 0.55 3 3 85.2 87.2 0.30 3 79.3 81.2 1 1"
    assert [one.printed for one in checked] == printed.split()
    assert all_traced(checked)
    first = checked[0]
    assert (first.line, first.row, first.column) == (15, "Barlow Twins, Projector width = 64", "Top-1 (%) k-NN")


def test_evidence_names_the_cell_the_trials_and_the_protocol(paper):
    (one, *_) = check_rows(paper, "Barlow Twins & 64 & 89.1 & 91.1")
    evidence = one.evidence
    assert evidence is not None
    assert evidence.exact == pytest.approx(0.8911666667)
    of_vicreg = "with vicreg.projector_width = 64 (protocol: 8192)"  # in all of its cells; 8192 is its default
    assert evidence.protocol == f"synthetic v1 (555555555555), {of_vicreg}"
    assert evidence.what == "mean of knn_top1 on test over 3 seeds"
    records = [json.loads((paper.folder / "records" / f"{trial}.json").read_text()) for trial in evidence.trial_ids]
    assert {record["result"]["cell_id"] for record in records} == {evidence.cell_id}
    assert [record["result_digest"] for record in records] == list(evidence.record_digests)
    assert sorted(record["result"]["trial"]["seed"] for record in records) == [0, 1, 2]


def test_the_query_of_a_number_gives_the_number(paper):
    checked = [one for one in check(paper, BOOKTABS) if one.row.startswith(("BYOL", "Barlow"))]
    printed = {(one.printed, round(by_query(one), 4)) for one in checked}
    assert {("89.1", 89.1167), ("91.1", 91.1167), ("2.4", 2.4287), ("88.13", 88.13), ("0.55", 0.5482)} <= printed


STYLES = {
    "transposed": r"\begin{tabular}{l|cc} \hline & Barlow Twins & BYOL \\ \hline kNN & .8912 & 0.861 \\"
    r" Linear top-1 & 0.911 & 0.88130 \\ \hline \end{tabular}",
    "values of one axis as columns": r"\begin{tabular}{lcc} \toprule & \multicolumn{2}{c}{Projector width} \\"
    r" Method & 64 & 256 \\ \midrule Barlow-Twins & 91.1 & 88.5 \\ sim\_clr & 87.2 & 88.3 \\ \bottomrule \end{tabular}"
    r"\captionof{table}{Linear accuracy}",
    "settings in the row": r"\begin{tabular}{lc} Row & Linear \\ \midrule BarlowTwins, width = 256 & 88.5 \\"
    r" Barlow Twins (projector\_width = 64, 20 epochs) & 91.1 [88.7, 93.5] \\ \end{tabular}",
    "several in a cell": r"\begin{tabular}{lc} Method & kNN / linear \\ \midrule BYOL & 86.1 / 88.1 \\ \end{tabular}",
    "last digits in parentheses": r"\begin{tabular}{lS} & {Linear} \\ \midrule BYOL & 88.1(5) \\ \end{tabular}",
    "a spread in its own column": r"\begin{tabular}{|*{1}{l}|S[table-format=2.1]@{$\,\pm\,$}l c} \hline"
    r" & \multicolumn{2}{c}{Linear} & 95\,\% interval, linear \\ \hline"
    r" BYOL & 88.1 & 0.5 & [87.6, 88.7] \\ \end{tabular}",
    "subscripts": r"\begin{tabular}{lc} & Linear \\ \hline BYOL & $88.1_{\pm 0.5}$ \\ \hline \end{tabular}",
    "a long table": r"\begin{longtable}{lc} \caption{kNN} \\ Method & Test \\ \midrule \endfirsthead Method & 12.3 \\"
    r" \endhead BYOL & 86.1 \\ \end{longtable}",
    "validation and spread, named": r"\begin{tabular}{lcc} & val.\ linear & std, linear \\ \hline"
    r" Barlow Twins 64 & 90.5 & 0.98 \\ \end{tabular}",
}


@pytest.fixture(scope="module")
def in_other_styles(paper):
    """Return the checked numbers by style."""
    files = {style: paper.folder.parent / f"{style}.tex" for style in STYLES}
    for style, file in files.items():
        file.write_text(STYLES[style], encoding="utf-8")
    checked = check_tables(list(files.values()), [paper.folder])
    return {style: [one for one in checked if one.file == str(file)] for style, file in files.items()}


@pytest.mark.parametrize("style", STYLES)
def test_a_table_of_another_style_is_traced(in_other_styles, style):
    checked = in_other_styles[style]
    assert checked and all_traced(checked), check_text(checked)


def test_a_csv_table_of_percent_and_of_fractions_is_traced(paper):
    csv = "# linear, in percent\nMethod;width;value;fraction\nByol;64;88,1;0,8813\n\n'barlow twins';256;88,5;.8845\n"
    assert verdicts(check(paper, csv, "paper.csv")) == [
        (printed, "traced") for printed in ("88,1", "0,8813", "88,5", ".8845")
    ]


def test_a_table_in_long_form_is_traced(paper):
    rows = ("byol,knn_top1,test,mean,0.8613", "byol,linear_top1,validation,mean,0.8713", "vicreg,linear,test,,81.25 %")
    checked = check(paper, "\n".join(["method,metric,split,statistic,value", *rows]), "long.csv")
    assert verdicts(checked) == [("0.8613", "traced"), ("0.8713", "traced"), ("81.25", "traced")]


def report_files(run, folder):
    """Write the tables of a report, without its page, which takes seconds."""
    read = read_run(run.folder)
    for number, section in enumerate(sections(read)):
        for name, text in table_files(read, section, f"-{number}").items():
            (folder / name).write_text(text, encoding="utf-8")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("run", ["whole_sweep", "paper"])
def test_the_tables_of_a_report_are_traced_whole_and_their_queries_give_their_numbers(run, request, tmp_path):
    run = request.getfixturevalue(run)
    checked = check_tables(report_files(run, tmp_path), [run.folder])
    assert all_traced(checked), check_text([one for one in checked if one.verdict != "traced"])
    files = Counter(Path(one.file).name.split("-")[0] + Path(one.file).suffix for one in checked)
    assert set(files) == {"cells.csv", "methods.csv", "costs.csv", "provenance.csv"}
    store = ResultStore(run.folder)
    for one in {(one.table, one.column, one.kind): one for one in checked}.values():
        assert one.evidence is not None
        answer = float(store.query(one.evidence.query)["value"][0])
        assert abs(answer - float(one.printed)) <= 0.5 * 10.0 ** -len(one.printed.partition(".")[2]) + 1e-9, one


# --- faults ------------------------------------------------------------------------------------------------


def test_a_wrong_rounding_differs_from_a_wrong_number(paper):
    checked = check_rows(paper, "Barlow Twins & 64 & 89.11 & 91.2", "BYOL & 64 & 86.2 & 88.7")
    assert [(one.printed, one.verdict, one.correct) for one in checked] == [
        ("89.11", "rounded wrongly", "89.12"),
        ("91.2", "rounded wrongly", "91.1"),
        ("86.2", "rounded wrongly", "86.1"),
        ("88.7", "wrong", "88.1"),
    ]
    assert checked[0].reason.startswith("is truncated: the mean of knn_top1 on test over 3 seeds is 89.116667")
    assert checked[1].reason.startswith("is off by one in its last decimal")


def test_both_roundings_of_a_tie_are_correct(paper):
    checked = check_rows(paper, "VICReg & 64 & 79.2 & 81.2", "VICReg & 64 & 79.3 & 81.3", "VICReg & 64 & 79.25 & 81.4")
    assert [one.verdict for one in checked] == ["traced"] * 5 + ["rounded wrongly"]
    assert roundings(0.9215, 100, 1) == (921, 922)  # whatever the last bits of 92.15 are
    assert roundings(-0.05, 1, 1) == (-1, 0)
    assert roundings(0.92149, 100, 1) == (921,)


FAULTS = {
    "the best seed": ("Barlow Twins & 64 & 90.0 &", "wrong", "best of 3 seeds in knn_top1", "89.1"),
    "one seed": ("Barlow Twins & 64 & & 90.10", "wrong", "linear_top1 on test of seed 0 alone", "91.12"),
    "validation": ("Barlow Twins & 64 & & 90.5", "wrong", "mean of linear_top1 on validation", "91.1"),
    "another metric": ("Barlow Twins & 64 & & 89.1", "wrong", "mean of knn_top1 on test", "91.1"),
    "another row": ("BYOL & 64 & & 91.1", "wrong", "belongs to barlow_twins, projector_width = 64", "88.1"),
    "another cell": ("Barlow Twins & 256 & & 91.1", "wrong", "belongs to barlow_twins, projector_width = 64", "88.5"),
    "the best cell on test": ("SimCLR & -- & & 88.3", "wrong", "highest of 2 cells on test", "87.2"),
    "a fraction under a percent sign": (r"BYOL & 64 & & 0.881\%", "wrong", "is a fraction", "88.130"),
    "another protocol": ("Barlow Twins & 64 & & 71.1", "from another protocol", "other-protocol v2 (7777", "91.1"),
    "a setting that was not run": ("Barlow Twins & 96 & & 91.1", "untraceable", "the records have 256, 64", ""),
    "a method that was not run": ("SwAV & -- & & 91.1", "untraceable", "no record belongs to swav", ""),
    "a version that was not run": ("BYOL v2 & 64 & & 88.1", "untraceable", "no record belongs to byol version 2", ""),
    "no method at all": ("Supervised & -- & & 95.1", "untraceable", "no method of the records", ""),
    "a variant nobody knows": ("BYOL w/o predictor & 64 & & 12.1", "untraceable", "w o predictor", ""),
    "nothing": ("BYOL & 64 & & 12.3", "wrong", "is not the mean of linear_top1 on test", "88.1"),
    "a cell without a result": ("BYOL & 256 & & 12.3", "wrong", "0 of 2, 2 diverged", ""),
    "a difference": ("BYOL & 64 & & +0.4", "untraceable", "is a difference", ""),
    "thousands as elsewhere": ("BYOL & 64 & & 1.088,1", "untraceable", "cannot be read as a value", ""),
    "a mark that is none": ("BYOL & 64 & & 88.1a", "untraceable", "cannot be read as a value", ""),
    "a sentence": ("BYOL & 64 & & about 88.1 or so", "untraceable", "cannot be read as a value", ""),
}


@pytest.fixture(scope="module")
def faulty(paper):
    """Return all faults in one table, below rows that are correct."""
    fine = ["SimCLR & 64 & 85.2 & 87.2", "BYOL & 64 & 86.1 & 88.1", "Barlow Twins & 64 & 89.1 & 91.1"]
    return check_rows(paper, *fine, *(row for row, *_ in FAULTS.values()))


def test_faults_do_not_affect_the_correct_rows(faulty):
    assert [one.verdict for one in faulty[:6]] == ["traced"] * 6
    assert len(faulty) == 6 + len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_gets_its_verdict_and_reason(faulty, fault):
    _, verdict, reason, correct = FAULTS[fault]
    planted = faulty[6 + list(FAULTS).index(fault)]
    assert (planted.verdict, planted.correct) == (verdict, correct), planted
    assert reason in planted.reason
    assert not all_traced([planted])


def test_a_spread_is_compared_with_the_half_width(paper):
    rows = [f"Barlow Twins & 64 & & 91.1 $\\pm$ {spread}" for spread in ("2.43", "2.42", "0.98", "0.56", "7.77")]
    spreads = [one for one in check_rows(paper, *rows) if one.printed != "91.1"]
    assert [one.verdict for one in spreads] == ["traced", "rounded wrongly", "wrong", "wrong", "wrong"]
    assert "standard deviation" in spreads[2].reason and "standard error" in spreads[3].reason
    (_, single) = check_rows(paper, "VICReg & 64 & & 81.25 $\\pm$ 0.1")
    assert (single.verdict, single.reason) == ("wrong", "one seed has no half width")
    (_, named) = check_rows(paper, rows[2], caption=r"Mean $\pm$ standard deviation over 3 seeds")[:2]
    assert (named.printed, named.verdict, named.kind) == ("0.98", "traced", "standard deviation")


def test_seeds_that_were_not_run_are_not_counted(paper):
    head = "Method & Width & Seeds & Linear"
    checked = check_rows(paper, "BYOL & 64 & 5 & 88.1 (n = 4)", "BYOL & 256 & 0 of 2, 2 diverged & --", head=head)
    assert [(one.printed, one.verdict, one.correct) for one in checked] == [
        ("5", "wrong", "3"),
        ("88.1", "traced", ""),
        ("4", "wrong", "3"),
        ("0", "traced", ""),
        ("2", "traced", ""),
        ("2", "traced", ""),
    ]
    for words in ("5 seeds", "five seeds", "five random seeds"):
        *_, caption = check_rows(paper, "BYOL & 64 & & 88.1", caption=f"Means over {words}.")
        assert (caption.printed, caption.verdict, caption.correct) == ("5", "wrong", "3")


def test_the_caption_selects_the_protocol_or_dataset(paper):
    row = "Barlow Twins & 64 & 89.1 & 71.1"
    by_majority = check_rows(paper, row, "BYOL & 64 & 86.1 & 88.1")
    assert [one.verdict for one in by_majority[:2]] == ["traced", "from another protocol"]
    by_size = check_rows(paper, "Barlow Twins & 64 & & 71.1", "Barlow Twins & 64 & & 91.1")
    assert [one.verdict for one in by_size] == ["from another protocol", "traced"]  # one each: more trials decide
    for caption in ("Results on CIFAR-10.", "Protocol other-protocol v2.", "Protocol 777777777777."):
        assert [one.verdict for one in check_rows(paper, row, caption=caption)] == ["from another protocol", "traced"]
    assert [one.verdict for one in check_rows(paper, row, caption="Protocol other-protocol v1.")] == [
        "from another protocol"
    ] * 2
    head = "& Width & linear, synthetic & linear, CIFAR10"
    by_column = check_rows(paper, "Barlow & 64 & 91.1 & 71.1", head=head)
    assert [one.verdict for one in by_column] == ["traced", "traced"]


def test_a_published_value_is_reported_and_not_measured(paper):
    row = "DINO & -- & 84.0 &"  # lightly's CIFAR-10 table, 200 epochs
    (one,) = check_rows(paper, row, caption="CIFAR-10")
    assert (one.verdict, one.evidence) == ("reported", None)
    assert "lightly-cifar10" in one.reason and "lightly-ai/lightly" in one.reason
    assert not all_traced([one])
    assert check_rows(paper, row, caption="ImageNet")[0].verdict == "untraceable"
    assert check_rows(paper, row, caption="CIFAR-10", head="DINO & width & kNN, 800 epochs &")[0].verdict != "traced"


def test_a_number_of_several_matching_cells_is_ambiguous(synthetic_run):
    for width, validation in ((64, 0.9), (128, 0.8), (256, 0.7), (512, 0.6)):
        accuracy = {64: 0.91, 128: 0.85, 256: 0.85, 512: 0.95}[width]
        synthetic_run.planned_and_recorded(accuracy, validation=validation, settings={"projector_width": width})
    rows = [f"barlow & & & {value}" for value in ("91.0", "85.0", "95.0")]
    chosen, several, highest = check_rows(synthetic_run, *rows)
    assert (chosen.verdict, chosen.ambiguous) == ("traced", ())
    assert "validation selects this one" in chosen.reason
    assert (several.verdict, len(several.ambiguous)) == ("traced", 1)
    assert "validation selects another" in several.reason
    assert (highest.verdict, highest.correct) == ("wrong", "91.0")


def test_a_row_with_an_id_is_compared_with_that_cell_or_trial(paper):
    text = (paper.folder / "plan.json").read_text()
    trial = json.loads(text)["trials"][1]  # barlow_twins 64, seed 1: 91.20
    rows = f"{trial['cell_id']},91.12\n{trial['trial_id']},91.20\n{trial['trial_id']},91.12\n{'0' * 16},91.12"
    checked = check(paper, f"cell_id,linear_top1_test\n{rows}", "ids.csv")
    assert [one.verdict for one in checked] == ["traced", "traced", "wrong", "untraceable"]


def test_several_run_folders_are_searched_and_evidence_names_the_right_one(paper, new_synthetic_run, tmp_path):
    other = new_synthetic_run(tmp_path / "o'ther")
    other.planned_and_recorded(0.65, method="raw_pixels")
    path = tmp_path / "paper.csv"
    path.write_text("method,linear\nraw pixels,65.0\nbyol,88.1\n")
    checked = check_tables([path], [paper.folder, other.folder])
    assert [one.verdict for one in checked] == ["traced", "traced"]
    assert [one.evidence.run_folder for one in checked if one.evidence] == [str(other.folder), str(paper.folder)]
    assert round(by_query(checked[0]), 6) == 65.0


def test_two_folders_with_the_same_records_are_not_ambiguous(paper, new_synthetic_run, tmp_path):
    copy = new_synthetic_run(tmp_path / "copy")
    for seed, accuracy in enumerate((0.8790, 0.8815, 0.8834)):
        choices = {"method": "byol", "seed": seed, "settings": {"projector_width": 64}}
        choices["training"] = {"batch_size": 128, "epochs": 20}
        copy.planned_and_recorded(accuracy, **choices)
    path = tmp_path / "paper.csv"
    path.write_text("method,width,linear\nbyol,64,88.1\n")
    (one,) = check_tables([path], [paper.folder, copy.folder])
    assert (one.verdict, one.ambiguous) == ("traced", ())


def test_names_with_quotes_and_markup_are_escaped(synthetic_run, tmp_path):
    name = "x'); drop table trials; --"
    synthetic_run.planned_and_recorded(0.7, method=name, settings={"a'b": 1})
    (folder := tmp_path / "tables").mkdir()
    checked = check_tables(report_files(synthetic_run, folder), [synthetic_run.folder])
    assert all_traced(checked), check_text(checked)
    by_kind = {one.kind: one for one in checked}
    for one in (by_kind["mean"], by_kind["candidates"]):
        assert by_query(one) == pytest.approx(float(one.printed))
    (one, *_) = check(synthetic_run, "method,linear\n\x1b[31mbyol\x1b[0m,70.0\n", "colours.csv")
    assert "\x1b" not in check_text([one])


# --- unreadable files --------------------------------------------------------------------------------------------

UNREADABLE = {
    "a brace that is not closed": (r"\begin{tabular}{l} a & {b \\ \end{tabular}", ":1: "),
    "a table that is not ended": ("\n\n" + r"\begin{tabular}{l} a & b", ":3: "),
    "an environment that ends another": (r"\begin{tabular}{l} \begin{x} \end{y} \end{tabular}", ":1: "),
    "a macro that is itself": (r"\newcommand{\a}{\a\a} \begin{tabular}{l} \a \end{tabular}", ":1: macros come to"),
    "a macro that doubles": (
        "".join(rf"\def\{b}{{\{a}\{a}\{a}\{a}}}" for a, b in zip("abcdefghij", "bcdefghijk", strict=True))
        + r"\begin{tabular}{l} \k \end{tabular}",
        ":1: macros come to",
    ),
    "deep nesting": (r"\begin{tabular}{l}" + "{" * (MOST_DEPTH + 9), ":1: is nested"),
    "a span of a billion": (r"\begin{tabular}{l} \multicolumn{999999999}{c}{x} \end{tabular}", ":1: "),
    "a caption's short form that is not closed": (
        r"\begin{table} \caption[Short.{x} \begin{tabular}{l} a \end{tabular} \end{table}",
        ":1: [ is not closed",
    ),
    "many columns": (r"\begin{tabular}{l}" + "&" * 300 + r"x \end{tabular}", ":1: has more than"),
    "verbatim to the end": (r"\begin{verbatim} \begin{tabular}", ":1: "),
    "no table": ("Some text with 92.1 and $x_{2}$.", "contains no table"),
    "only another file": (r"\input{tables/methods}", r"\input{tables/methods} is not followed"),
    "only a comment": (r"% \begin{tabular}{l} a \\ \end{tabular}", "contains no table"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_table_is_refused_with_its_line(tmp_path, case):
    text, message = UNREADABLE[case]
    path = tmp_path / "paper.tex"
    path.write_text(text)
    with pytest.raises(InvalidInput) as error:
        read_tables(path)
    assert f"{path}" in str(error.value) and message in str(error.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("paper.csv", b"a,b\n1,2\n1,2,3\n", ":3: the row has 3 fields, the head 2"),
        ("paper.csv", b'a,b\n"1,2\n', ":2: is not CSV"),
        ("paper.csv", b"a,b\n\n\xff,2\n", ":3: is not UTF-8"),
        ("paper.csv", b"a,b\n1,\x002\n", ":2: contains a zero byte"),
        ("paper.csv", b"", "contains no table"),
        ("paper.tex", b" " * (MOST_BYTES[".tex"] + 1), "cannot be read: larger than 1 MiB"),
        ("paper.pdf", b"%PDF", "is not a table file"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InvalidInput) as error:
        read_tables(path)
    assert message in str(error.value)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "paper.tex")
    with pytest.raises(InvalidInput, match="not a regular file"):
        read_tables(tmp_path / "paper.tex")


def test_repeated_columns_take_no_more_memory_than_a_table_may_have_columns(tmp_path):
    path = tmp_path / "paper.tex"
    columns = "*{200}{" * 6 + "c" + "}" * 6
    path.write_text(rf"\begin{{tabular}}{{{columns}}} a & 1 \\ b & 2 \end{{tabular}}")
    (table,) = read_tables(path).tables
    assert [row.cells for row in table.rows] == [("a", "1"), ("b", "2")]


def test_a_missing_file_and_a_folder_that_is_not_a_run_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be read"):
        check_tables([tmp_path / "absent.tex"], [tmp_path])
    (tmp_path / "a.csv").write_text("method,linear\nbyol,1\n")
    with pytest.raises(InvalidInput, match="is not a run folder"):
        check_tables([tmp_path / "a.csv"], [tmp_path])
    with pytest.raises(InvalidInput, match="none is given"):
        check_tables([tmp_path / "a.csv"], [])


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (r"[1 & 2] \\ \makecell[c & 3 \\ x] & 4", [("[1", "2]"), ("[c", "3"), ("x]", "4")]),  # not closed in the cell
        (r"\multirow{2}{*}[2pt]{x} & 1 \\ & 2", [("x", "1"), ("x", "2")]),
        (r"& 1 \\ \multirow{-2}{*}{x} & 2", [("x", "1"), ("x", "2")]),  # counts upwards
        (r"\cite[see][p.~3]{x} a & $1_{0.2}$ \\", [("a", "1 (0.2)")]),
    ],
)
def test_brackets_and_multirows_are_read_as_latex_does(tmp_path, body, rows):
    path = tmp_path / "paper.tex"
    path.write_text(rf"\begin{{tabular}}{{ll}} a & b \\ {body} \end{{tabular}}")
    (table,) = read_tables(path).tables
    assert [row.cells for row in table.rows] == rows


@pytest.mark.parametrize(
    "caption",
    [
        r"\caption {Linear}",
        "\\caption\n{Linear}",
        "\\caption[s]\n{Linear}",
        r"\captionof{table} {Linear}",
        r"\caption[One \\ two & three]{Linear}",
        rf"\caption[{'word ' * 300}]{{Linear}}",
    ],
)
def test_a_caption_is_read_however_its_braces_and_its_short_form_are_written(tmp_path, caption):
    path = tmp_path / "paper.tex"
    path.write_text(rf"\begin{{table}} {caption} \begin{{tabular}}{{l}} a \\ b \end{{tabular}} \end{{table}}")
    assert [table.caption for table in read_tables(path).tables] == ["Linear"]


def test_the_caption_nearest_to_a_table_comes_first(tmp_path):
    path = tmp_path / "paper.tex"
    table = r"\begin{subtable} \begin{tabular}{l} a \\ b \end{tabular} \caption{inner} \end{subtable}"
    path.write_text(rf"\begin{{table}} \caption{{outer}} {table} \end{{table}}")
    assert [table.caption for table in read_tables(path).tables] == ["inner outer"]


def test_a_damaged_table_is_read_or_refused_and_never_raises_anything_else(tmp_path):
    path = tmp_path / "paper.tex"
    draw = random.Random(4)
    outcomes = Counter()
    for _ in range(300):
        text = list(BOOKTABS)
        for _ in range(draw.randrange(1, 6)):
            place = draw.randrange(len(text))
            text[place : place + draw.randrange(3)] = draw.choice(["", *"{}\\&$%^_[\n"])
        path.write_text("".join(text))
        try:
            outcomes["read"] += len(read_tables(path).tables)
        except InvalidInput:
            outcomes["refused"] += 1
    assert outcomes["read"] > 30 and outcomes["refused"] > 30


def test_no_other_file_is_opened_and_commands_that_would_are_listed(paper):
    (paper.folder.parent / "more.tex").write_text(r"BYOL & 12.3 \\")
    table = r"\begin{tabular}{lc} & Linear \\ \hline BYOL & 88.1 \\ \input{more} \end{tabular}"
    outside = check(paper, table.replace(r"\input{more}", "") + r"\include{more}")
    assert verdicts(outside) == [("88.1", "traced"), (r"\include{more}", "not followed")]
    assert all_traced(outside)
    inside = check(paper, table)
    assert verdicts(inside) == [("88.1", "traced"), (r"\input{more}", "untraceable")]
    assert not all_traced(inside)


def test_a_table_in_verbatim_hidden_or_macro_text_is_not_read(tmp_path):
    path = tmp_path / "paper.tex"
    table = r"\begin{tabular}{l} a \\ b \\ \end{tabular}"
    hidden = rf"\begin{{verbatim}}{table}\end{{verbatim}} \iffalse {table} \fi \newcommand{{\t}}{{{table}}}"
    path.write_text(f"{hidden} {table} \\end{{document}} {table}")
    assert [table.number for table in read_tables(path).tables] == [1]


# --- numbers and output ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("92.1 ± 0.3", [("92.1", "value"), ("0.3", "spread")]),
        ("(92.1 ± 0.3) %", [("92.1", "value"), ("0.3", "spread")]),
        ("92.1(12)", [("92.1", "value"), ("(12)", "spread")]),
        ("92.1 (0.3)", [("92.1", "value"), ("0.3", "spread")]),
        ("92.1 (3)", [("92.1", "value"), ("3", "count")]),
        ("92.1 [91.0, 93.2]", [("92.1", "value"), ("91.0", "low"), ("93.2", "high")]),
        ("92.1 (+0.4)", [("92.1", "value"), ("0.4", "difference")]),
        ("10\u2009000", [("10\u2009000", "value")]),
        ("4.5e-05", [("4.5e-05", "value")]),
        ("± 0.3", [("0.3", "spread")]),
        ("[91.0–93.2]", [("91.0", "low"), ("93.2", "high")]),
        ("92.1† *", [("92.1", "value")]),
        ("ResNet-18", []),
        ("CIFAR-10 v2", []),
        ("–", []),
        ("92.1 or 93", [("92.1", "unclear"), ("93", "unclear")]),
    ],
)
def test_each_number_of_a_cell_has_its_role(text, numbers):
    assert [(one.text, one.role) for one in numbers_in(text)] == numbers


def test_a_spread_in_parentheses_counts_in_units_of_the_last_decimal():
    (mean, spread) = numbers_in("92.10(12)")
    assert (str(mean.value), str(spread.value)) == ("92.10", "0.12")


def test_thousands_separators_differ_from_decimal_commas():
    values = [str(numbers_in(text)[0].value) for text in ("10,000", "1,234.5", "92,1", "0,921", "10'000")]
    assert values == ["10000", "1234.5", "92.1", "0.921", "10000"]


def test_text_and_json_have_the_same_content(paper):
    checked = check_rows(paper, "BYOL & 64 & 86.1 & 99.9", "DINO & -- & 84.0 &")
    text, data = check_text(checked), check_json(checked)
    assert json.loads(json.dumps(data)) == data
    assert data["counts"] == {"traced": 1, "wrong": 1, "reported": 1} | dict.fromkeys(
        ["cited", "rounded wrongly", "from another protocol", "untraceable", "not read", "not followed"], 0
    )
    assert data["all_traced"] is False
    assert [line.split("  ")[-1] for line in text.splitlines() if not line.startswith("    ")] == [
        "wrong",
        "reported",
        "3 numbers: 1 traced, 1 wrong, 1 not traced (1 reported elsewhere), 0 not read",
        "traced",
    ]
    assert "is not the mean of linear_top1 on test over 3 seeds; 88.1 would be correct" in text
    assert data["numbers"][0]["evidence"]["query"].startswith("select 100 * avg(value) as value from metrics")


def large_section() -> Section:
    """Return a section of 10,002 trials in 3,334 cells of four methods."""
    cells, draw = [], random.Random(5)
    for number in range(3334):
        width, rate = 16 * (1 + number // 4 % 29), 0.001 * (1 + number // 116)
        values = {"projector_width": Value(str(width), float(width)), "learning_rate": Value(f"{rate:.3f}", rate)}
        measured = {
            (metric, split): tuple(Measured(seed, draw.uniform(0.7, 0.9), "v@1") for seed in range(3))
            for metric in ("knn_top1", "linear_top1")
            for split in ("test", "validation")
        }
        ids = {seed: f"{number:08x}{seed:08x}" for seed in range(3)}
        common = {"status": "done", "method_version": 1}
        trials = tuple({"trial_id": i, "result_digest": i, "seed": seed, **common} for seed, i in ids.items())
        method = ("barlow_twins", "byol", "simclr", "vicreg")[number % 4]
        cells.append(Cell(f"{number:016x}", method, method, values, trials, measured))
    return Section("synthetic", 1, "5" * 64, "", {}, ("projector_width", "learning_rate"), tuple(cells))


@pytest.mark.slow
def test_two_hundred_numbers_over_ten_thousand_trials_take_about_a_second(tmp_path):
    section = large_section()
    rows = ["method,projector width,lr,kNN (%),linear (%)"]
    for cell in section.cells[::67]:
        knn, linear = (
            100 * fmean(m.value for m in cell.measured[f"{probe}_top1", "test"]) for probe in ("knn", "linear")
        )
        settings = ",".join(value.text for value in cell.values.values())
        rows.append(f"{cell.method},{settings},{knn:.3f},{linear:.3f}")
    rows += ["byol,,,80.1,80.2", "simclr,,,79.9,80.0"] * 25  # of each method 800 cells
    (tmp_path / "paper.csv").write_text("\n".join(rows))
    (table,) = read_tables(tmp_path / "paper.csv").tables
    recorded = Recorded([RunSection(tmp_path, None, section)])
    words = Vocabulary([section], [], recorded.metrics)
    start = time.process_time()
    checked = TableChecker("paper.csv", table, recorded, {}, words).check()
    seconds = time.process_time() - start
    assert len(checked) == 200
    assert [one.verdict for one in checked[:100]] == ["traced"] * 100
    assert seconds < 4, seconds  # about one on a core of its own
