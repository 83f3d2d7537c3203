"""Each format of verdicts has the same content, escapes names and sentences, and is equal byte for byte."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from claim_evidence import B, claim_of, evidence_of, judged
from claim_study import CLAIM, honest_study
from scipy.stats import wilcoxon

from twinbench.reports.rules.registry import RULES
from twinbench.reports.table_check.reader import read_tables
from twinbench.reports.verdicts.check import check_claims
from twinbench.reports.verdicts.formats import FORMATS
from twinbench.reports.verdicts.formats.text import outcomes, remarks, summary
from twinbench.reports.verdicts.verdict import Checked, Verdict
from twinbench.sweeps.errors import plain

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(2)> {{ 7 * 7 }} {% raw %} | `x` [a](javascript:b) ![i](http://h)"
    " \\input{/etc/passwd} $x$ % # & ~ ^ _ -- \x1b[2J\x07 \u202e \r\n# heading\n| a | b |\n"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def made(*claims, margin=0.01, declared=True, file="claims.toml", run="run") -> Checked:
    values = [[0.62, 0.632, 0.624, 0.638, 0.617, 0.631], [0.60, 0.61, 0.605, 0.615, 0.595, 0.61]]
    evidence = []
    for claim in claims:
        sides = 2 if claim.b or claim.axis else 1 + len(claim.among)
        evidence.append(evidence_of(claim, [*values, values[1], values[1]][:sides], margin, declared))
    return Checked(file, run, tuple(judged(*evidence)))


SUPPORTED = claim_of(name="good")
REFUTED = claim_of(name="bad", at_least=0.05)
ABSENT = claim_of("best_of", "absent")
MANY = claim_of("best_of", "many", among=(B, {"method": "vicreg"}, {"method": "moco"}))


@pytest.fixture(scope="module")
def hostile() -> Checked:
    """Claims whose names and sentences contain markup, commands and control characters."""
    claims = [replace(claim, name=f"{claim.name} {HOSTILE}", sentence=HOSTILE) for claim in (SUPPORTED, REFUTED, MANY)]
    claims.append(claim_of(name="setting", a={"method": HOSTILE}, b={"method": f"not {HOSTILE}"}))
    return made(*claims, file=HOSTILE, run=HOSTILE)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two claims of which one is supported."""
    false = CLAIM.replace("simclr-beats-byol", "by-six").replace("one point", "six points").replace("0.01", "0.06")
    folder = tmp_path_factory.mktemp("forms") / "run"
    honest_study(folder, f'protocol = "cifar10-small"\n{CLAIM}{false}')
    return folder


# --- all formats ------------------------------------------------------------------------------------------------------


def test_a_summary_counts_the_verdicts():
    assert summary(made(SUPPORTED)) == "1 claim: 1 supported"
    assert summary(made(SUPPORTED, REFUTED, ABSENT, claim_of(name="too"))) == (
        "4 claims: 1 direction only, 2 supported, 1 unverifiable"
    )


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_has_every_rule_of_every_claim_as_passed_failed_or_not_applicable(form, tmp_path, study):
    for checked in (
        check_claims(study / "claims.toml", study),
        check_claims(EXAMPLES / "lightly_claims.toml", tmp_path),
    ):
        assert checked.verdicts
        text = FORMATS[form](checked)
        for place, verdict in enumerate(checked.verdicts):
            expected = outcomes(verdict)
            assert sorted(rule for rules in expected.values() for rule in rules) == sorted(rule.id for rule in RULES)
            assert rules_in(form, text, place, verdict) == expected
        if form == "in-toto":
            tests = json.loads(text)["predicate"]["configuration"]
            assert [one["annotations"]["verdict"] for one in tests] == [one.label for one in checked.verdicts]


def rules_in(form: str, text: str, place: int, verdict: Verdict) -> dict[str, list[str]]:
    """The ids of the rules of one claim by outcome, read from the text."""
    if form == "in-toto":
        return json.loads(text)["predicate"]["configuration"][place]["annotations"]["rules"]
    if form == "json":
        findings = json.loads(text)["verdicts"][place]["findings"]
        pairs = [(one["rule"], one["outcome"]) for one in findings]
    elif form == "html":
        article = text.split("<article>")[1 + place]
        pairs = re.findall(r'<th scope="row">(A\d+) [^<]*</th><td>([a-z ]+)</td>', article)
        pairs.sort(key=lambda pair: int(pair[0][1:]))
    else:
        section = text.replace("\\", "").split(verdict.claim.name)[2 if form == "markdown" else 1]
        listed = re.search(
            r"(?:failed ((?:A\d+ ?)+); )?passed ((?:A\d+ ?)+)(?:; not applicable ((?:A\d+ ?)+))?\n", section
        )
        assert listed, section
        failed = listed[1] or " ".join(dict.fromkeys(re.findall(r"\bA\d+\b", section[: listed.start()])))
        ids = [("failed", failed), ("passed", listed[2]), ("not applicable", listed[3] or "")]
        pairs = [(rule, outcome) for outcome, rules in ids for rule in rules.split()]
    return {
        outcome: [rule for rule, found in pairs if found == outcome]
        for outcome in ("failed", "passed", "not applicable")
    }


@pytest.mark.parametrize("form", ["terminal", "markdown", "html"])
def test_each_format_for_people_has_every_claim_with_its_verdict_and_what_is_supported(form):
    checked = made(SUPPORTED, REFUTED, ABSENT)
    text = FORMATS[form](checked).replace("\\", "")
    for verdict in checked.verdicts:
        assert verdict.claim.name in text and verdict.label in text and verdict.claim.sentence in text
    assert "simclr exceeds byol by 2.12 points" in text
    assert "there is no other method to compare with" in text
    assert summary(checked) in text


def test_a_supported_claim_has_its_numbers_and_another_the_sentence_that_is_supported():
    good, bad, absent, many = made(SUPPORTED, REFUTED, ABSENT, MANY).verdicts
    assert [name for name, _ in remarks(good)][:2] == ["because", "numbers"]
    assert [name for name, _ in remarks(bad)][:2] == ["because", "supported"]
    assert [name for name, _ in remarks(absent)][:2] == ["because", "settled by"]
    assert [name for name, _ in remarks(many)].count("numbers") == 3


def test_a_rule_that_stops_a_claim_is_shown_in_full_and_the_others_by_id(tmp_path):
    (first, *_) = check_claims(EXAMPLES / "lightly_claims.toml", tmp_path).verdicts
    shown = remarks(first)
    assert [name for name, _ in shown] == ["A5", "A6", "also fails"]
    others = [finding.rule for finding in first.findings if finding.outcome == "failed"][2:]
    assert shown[-1][1] == ", ".join(others)


def test_a_long_text_of_a_rule_is_cut_where_people_read_it():
    (verdict,) = made(SUPPORTED).verdicts
    long = replace(verdict.findings[0], outcome="failed", text="x" * 1000)
    ((_, text),) = [one for one in remarks(replace(verdict, findings=(long,))) if one[0] == long.rule]
    assert len(text) < 350 and text.endswith("…")


def test_nothing_that_moves_a_cursor_or_turns_text_around_reaches_a_terminal(hostile):
    text = FORMATS["terminal"](hostile)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert plain("a\x1b[2J\tb\u202e\n") == "a\\u001b[2J b\\u202e"
    assert len(text.split("\n\n")) == len(hostile.verdicts) + 1


def test_equal_input_gives_equal_bytes_whatever_the_hash_seed_the_locale_and_the_folder(study, tmp_path):
    code = (
        "import sys; from pathlib import Path; from twinbench.reports.verdicts.check import check_claims;"
        "from twinbench.reports.verdicts.formats import FORMATS;"
        "f = Path(sys.argv[1]); c = check_claims(f / 'claims.toml', f);"
        "sys.stdout.buffer.write(b'\\0'.join(form(c).encode() for form in FORMATS.values()))"
    )
    found = []
    for hash_seed, locale, zone, cwd in (("1", "C", "UTC", Path.cwd()), ("2", "C.UTF-8", "Asia/Tokyo", tmp_path)):
        where = os.environ | {"PYTHONHASHSEED": hash_seed, "LC_ALL": locale, "TZ": zone}
        command = [sys.executable, "-c", code, str(study)]
        found.append(subprocess.run(command, env=where, cwd=cwd, capture_output=True, check=True).stdout)
    assert found[0] == found[1]
    here = check_claims(study / "claims.toml", study)
    assert found[0].split(b"\0") == [form(here).encode() for form in FORMATS.values()]


# --- for programs -----------------------------------------------------------------------------------------------------


def test_json_holds_every_verdict_with_its_numbers_and_all_rules(study):
    checked = check_claims(study / "claims.toml", study)
    read = json.loads(FORMATS["json"](checked))
    assert (read["claims_file"], read["run"], read["all_supported"]) == ("claims.toml", "run", False)
    good, bad = read["verdicts"]
    assert [good["verdict"], bad["verdict"]] == ["SUPPORTED_AS_STATED", "DIRECTION_ONLY"]
    assert good["claim"]["hash"] == checked.verdicts[0].claim.hash and good["claim"]["b"] == {"method": "byol"}
    assert [finding["rule"] for finding in good["findings"]] == [f"A{number}" for number in range(1, 25)]
    assert all(finding["source"] and finding["outcome"] for finding in good["findings"])
    (numbers,) = bad["comparisons"]
    byol, simclr = numbers["values"]["byol"], numbers["values"]["simclr"]
    assert sorted(byol) == sorted(simclr) == [str(seed) for seed in range(6)]
    mean = sum(simclr[seed] - byol[seed] for seed in byol) / 6
    assert numbers["difference"]["mean"] == pytest.approx(mean)
    assert numbers["bound"] == 0.06 and numbers["examples"]["n"] == 10_000
    assert len(good["trials"]) == 12 and good["missing_trials"] == []
    differences = [simclr[seed] - byol[seed] for seed in sorted(byol)]
    assert numbers["wilcoxon"]["p"] == pytest.approx(wilcoxon(differences, method="exact").pvalue)
    only_one = [numbers["mcnemar"][seed]["b"] - numbers["mcnemar"][seed]["c"] for seed in sorted(byol)]
    assert only_one == [round(10_000 * difference) for difference in differences]  # b - c of 10,000 examples


def test_json_shows_no_statistics_of_what_is_inadmissible(tmp_path):
    checked = check_claims(EXAMPLES / "lightly_claims.toml", tmp_path)
    assert len(checked.verdicts) == 20 and sum(bool(verdict.contrasts) for verdict in checked.verdicts) == 19
    for verdict in json.loads(FORMATS["json"](checked))["verdicts"]:
        assert verdict["verdict"] in ("INADMISSIBLE", "UNVERIFIABLE") and verdict["comparisons"] == []


def test_a_statement_has_the_shape_of_a_test_result_of_in_toto(study):
    checked = check_claims(study / "claims.toml", study)
    statement = json.loads(FORMATS["in-toto"](checked))
    assert statement.keys() == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    records = {path.stem: json.loads(path.read_text()) for path in (study / "records").iterdir()}
    compared = {record["result"]["trial"]["method"] for record in records.values()} - {"raw_pixels", "untrained"}
    assert compared == {"simclr", "byol"} and len(statement["subject"]) == 12
    for subject in statement["subject"]:
        assert subject["digest"] == {"sha256": records[subject["name"]]["result_digest"]}
    predicate = statement["predicate"]
    assert predicate.keys() == {"result", "configuration", "passedTests", "warnedTests", "failedTests"}
    assert (predicate["result"], predicate["passedTests"], predicate["failedTests"]) == (
        "FAILED",
        ["simclr-beats-byol"],
        ["by-six"],
    )
    assert [one["digest"]["sha256"] for one in predicate["configuration"]] == [
        verdict.claim.hash for verdict in checked.verdicts
    ]


@pytest.mark.parametrize(
    ("checked", "result", "lists"),
    [
        (made(SUPPORTED), "PASSED", (1, 0, 0)),
        (made(SUPPORTED, declared=False), "WARNED", (0, 1, 0)),
        (made(SUPPORTED, REFUTED), "FAILED", (1, 0, 1)),
        (made(ABSENT, declared=False), "FAILED", (0, 0, 1)),
    ],
)
def test_supported_claims_pass_exploratory_ones_warn_and_all_others_fail(checked, result, lists):
    statement = json.loads(FORMATS["in-toto"](checked))
    predicate = statement["predicate"]
    assert predicate["result"] == result
    assert tuple(len(predicate[f"{name}Tests"]) for name in ("passed", "warned", "failed")) == lists
    # these have no records: the claims are the subjects, each with its digest
    assert [subject["digest"]["sha256"] for subject in statement["subject"]] == [
        verdict.claim.hash for verdict in checked.verdicts
    ]


# --- for papers and pages ---------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_no_script_and_no_address_and_shows_names_as_they_are(hostile):
    page = _Page(FORMATS["html"](hostile))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "iframe", "link", "object", "form", "base"}
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert all(a.get("href", "#").startswith("#") for _, a in page.tags) and not any("src" in a for _, a in page.tags)
    policies = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies and "default-src 'none'" in policies[0] and "script-src" not in policies[0]
    assert page.text.count("<script>alert(1)</script>") > 4 and "{{ 7 * 7 }}" in page.text


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    from markdown_it import MarkdownIt

    for token in MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(text):
        for one in [token, *(token.children or ())]:
            yield one.type, one.content


def test_markdown_holds_no_markup_but_its_own(hostile):
    tokens = list(_tokens(FORMATS["markdown"](hostile)))
    kinds = {kind for kind, _ in tokens}
    assert not kinds & {
        "html_block",
        "html_inline",
        "link_open",
        "image",
        "code_inline",
        "fence",
        "code_block",
        "s_open",
    }
    headings = [kind for kind, _ in tokens].count("heading_open")
    assert headings == 1 + len(hostile.verdicts)  # none of the names made one
    rows = [kind for kind, _ in tokens].count("tr_open")
    assert rows == 1 + len(hostile.verdicts)
    assert any("<script>alert(1)</script>" in content for kind, content in tokens if kind == "text")


def cells_of(table: str) -> list[list[str]]:
    body = table.split("\\endlastfoot\n")[1].split("\\end{longtable}")[0]
    rows = body.split(" \\tabularnewline\\addlinespace[0.4em]\n")[:-1]
    return [[cell.removeprefix("\\raggedright ") for cell in row.split(" & ")] for row in rows]


def test_latex_has_a_row_of_each_claim_and_the_weakest_of_many_comparisons():
    text = FORMATS["latex"](made(SUPPORTED, REFUTED, ABSENT, MANY))
    assert [cells[1] for cells in cells_of(text)] == ["SUPPORTED", "DIRECTION ONLY", "UNVERIFIABLE", "SUPPORTED"]
    numbers = [cells[2] for cells in cells_of(text)]
    assert numbers[0].startswith("+2.12 points (") and numbers[2] == "--"
    assert numbers[3].endswith(", the weakest of 3: simclr against byol")


def sixty() -> Checked:
    claims = [replace(claim_of(name=str(n), family=str(n)), sentence=f"Claim {n} holds. " * 12) for n in range(60)]
    return made(*claims)


def test_latex_has_all_claims_in_one_table_that_may_break_over_pages():
    text = FORMATS["latex"](sixty())
    assert text.count("\\begin{longtable}") == 1 and len(cells_of(text)) == 60
    assert text.count("Claim & Verdict & Difference") == 2  # of the first page and of those after it
    assert text.count("60 claims: 60 supported") == 1 and text.count("\\label{tab:claims}") == 1


def test_a_claims_table_is_read_back_row_by_row(tmp_path):
    (tmp_path / "claims.tex").write_text(FORMATS["latex"](sixty()), encoding="utf-8")
    (table,) = read_tables(tmp_path / "claims.tex").tables
    assert table.heads == ("Claim", "Verdict", "Difference") and len(table.rows) == 60  # the repeated head is no row


@pytest.mark.latex
def test_the_tables_compile_and_have_their_head_on_every_page(hostile, tmp_path):
    document = r"\documentclass{article}\usepackage{booktabs,longtable}\begin{document}"
    document += "".join(FORMATS["latex"](checked) for checked in (hostile, sixty())) + r"\end{document}"
    (tmp_path / "claims.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "claims.tex"]
    for _ in range(2):  # longtable has its widths from the run before
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode("latin-1")[-2000:]
    assert b"Overfull" not in done.stdout
    read = subprocess.run(["pdftotext", "-layout", "claims.pdf", "-"], cwd=tmp_path, capture_output=True, check=True)
    pages = read.stdout.decode().split("\f")[:-1]
    assert len(pages) > 4 and all(re.search("Claim +Verdict +Difference", page) for page in pages)
    assert all(f"Claim {n} holds" in read.stdout.decode() for n in range(60))


@pytest.mark.browser
def test_the_page_fits_wide_and_narrow_windows_and_requests_nothing(hostile, tmp_path):
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert browser_path, f"none of {', '.join(BROWSERS)} is installed"
    pages = {"hostile.html": hostile, "many.html": made(SUPPORTED, REFUTED, ABSENT, MANY)}
    requested: list[str] = []
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for name, checked in pages.items():
            (tmp_path / name).write_text(FORMATS["html"](checked), encoding="utf-8")
            for width in (1200, 400):
                page = browser.new_page(viewport={"width": width, "height": 900})
                page.on("request", lambda request: requested.append(request.url))
                page.on("console", lambda message: errors.append(message.text))
                page.on("pageerror", lambda error: errors.append(str(error)))
                page.goto((tmp_path / name).as_uri())
                for details in page.locator("summary").all():
                    details.click()
                assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        browser.close()
    assert errors == [] and {url.split(":")[0] for url in requested} == {"file"}
