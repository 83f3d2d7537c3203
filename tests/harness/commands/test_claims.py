"""Claims: `claim declare`, `claim log` and `check` end with the documented codes, and name all mistakes at once."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from claim_study import CLAIM, CLAIMS, LEVELS, honest_study

from twinbench.harness import cli
from twinbench.harness.commands import claims as claim_commands
from twinbench.results.record import DECLARATIONS
from twinbench.results.store import DATABASE
from twinbench.sweeps.sweep import protocol_path, read_protocol

FALSE = CLAIM.replace("simclr-beats-byol", "by-six").replace("one point", "six points").replace("0.01", "0.06")
ABSENT = CLAIM.replace("simclr-beats-byol", "absent").replace('"byol"', '"vicreg"').replace("BYOL", "VICReg")
FORMS = ("terminal", "json", "markdown", "latex", "html", "in-toto")
HOSTILE = r"<script>$x_1$ \\input{a} & 100 % # | `b` \u001b[2J\u202e\r\nsecond line"  # as TOML writes it


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """What it says is wrong, a mistake a line: nothing was printed, and no traceback."""
        assert self.code == 2 and not self.out
        lines = self.err.splitlines()
        assert lines and all(line.startswith("error: ") for line in lines), self.err
        return [line.removeprefix("error: ") for line in lines]


Call = Callable[..., Done]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """The console command, in the test's own folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["twinbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capfd.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder in which one of two methods is better; a claim that is true stood before."""
    folder = tmp_path_factory.mktemp("commands") / "run"
    honest_study(folder)
    return folder


def write(name: str, text: str | bytes) -> Path:
    """A file in the test's own folder."""
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def claims(*tables: str) -> Path:
    """A file of claims under the study's protocol."""
    return write("claims.toml", CLAIMS.replace(CLAIM, "") + "".join(tables))


def table_of(level: float) -> Path:
    """A paper's table with SimCLR's mean accuracy."""
    return write("paper.csv", f"method,linear_top1\nsimclr,{100 * level:.1f}\n")


# --- declare, log -----------------------------------------------------------------------------------------------------


def test_declare_says_what_is_new_and_where_the_log_ends_and_log_prints_it(call: Call) -> None:
    first = call("claim", "declare", claims(CLAIM), "new/run")
    copied, shown, last = first.out.splitlines()
    assert copied == "copied to new/run/claims.toml, which reports judge and bundles include"
    assert (first.code, first.err) == (0, "")
    assert shown.startswith("declared simclr-beats-byol (") and shown.endswith("0 trials recorded")
    assert last.startswith(f"new/run/{DECLARATIONS} ends with ")
    second = call("claim", "declare", claims(CLAIM, FALSE), "new/run").out.splitlines()
    assert second[0] == copied and second[1].startswith("declared by-six (")
    assert second[2] == "1 were in the log already"
    head = json.loads(Path("new/run", DECLARATIONS).read_text().splitlines()[-1])["digest"]
    assert second[3] == f"new/run/{DECLARATIONS} ends with {head}; keep a copy of this digest elsewhere"
    log = call("claim", "log", "new/run")
    assert (log.code, log.err) == (0, "")
    assert [line.split()[1] for line in log.out.splitlines()] == ["simclr-beats-byol", "by-six"]


def test_declare_puts_the_protocol_on_record_and_says_where_it_cannot(call: Call) -> None:
    shipped = read_protocol("cifar10-small")
    shown = call("claim", "declare", claims(CLAIM), "run").out.splitlines()[1]
    assert f" under protocol {shipped.hash[:12]} at " in shown
    assert f"(under protocol {shipped.hash[:12]}, 0 trials recorded)" in call("claim", "log", "run").out
    mine = write("claims.toml", CLAIMS.replace('protocol = "cifar10-small"', 'protocol = "mine"'))
    shown = call("claim", "declare", mine, "own").out
    assert "the content of mine is not recorded; pass its file with --protocol\n" in shown
    text = protocol_path("cifar10-small").read_text().replace('name = "cifar10-small"', 'name = "mine"')
    shown = call("claim", "declare", mine, "known", "--protocol", write("mine.toml", text)).out
    assert f" under protocol {read_protocol('mine.toml').hash[:12]} at " in shown and "is not recorded" not in shown
    (error,) = call("claim", "declare", claims(CLAIM), "new", "--protocol", "mine.toml").errors
    assert error == "--protocol: mine.toml: is not named by any claim (seen: 'mine'); allowed: cifar10-small"


def test_a_declared_file_stands_in_the_folder_once_and_none_of_its_claims_twice(call: Call) -> None:
    call("claim", "declare", claims(CLAIM), "run")
    assert "copied" not in call("claim", "declare", claims(CLAIM), "run").out
    wider = claims(CLAIM, FALSE)
    call("claim", "declare", wider, "run")
    assert [file.read_text() for file in Path("run").glob("claims*.toml")] == [Path(wider).read_text()]
    other = claims(ABSENT)
    call("claim", "declare", other, "run")
    kept = {file.read_text() for file in Path("run").glob("claims*.toml")}
    assert len(kept) == 2 and Path(other).read_text() in kept


def test_a_changed_log_is_printed_as_far_as_it_holds_and_ends_with_2(call: Call) -> None:
    call("claim", "declare", claims(CLAIM, FALSE), "run")
    file = Path("run", DECLARATIONS)
    file.write_text(file.read_text().replace("by-six", "by-ten"))
    log = call("claim", "log", "run")
    assert (log.code, len(log.out.splitlines())) == (2, 1)
    assert log.err == f"error: run: {DECLARATIONS}: line 2 was changed, or a line before it was removed\n"
    (error,) = call("claim", "declare", claims(CLAIM, ABSENT), "run").errors
    assert "cannot take declarations" in error


def test_an_empty_folder_has_no_declarations_and_a_missing_one_is_named(call: Call) -> None:
    Path("empty").mkdir()
    log = call("claim", "log", "empty")
    assert (log.code, log.out, log.err) == (0, "no claims were declared in empty\n", "")
    assert call("claim", "log", "nowhere").errors == ["nowhere: is not a folder"]
    assert call("claim", "log", claims(CLAIM)).errors == ["claims.toml: is not a folder"]


def test_declare_refuses_a_file_in_place_of_a_folder_and_writes_nothing_for_a_wrong_claim(call: Call) -> None:
    file = claims(CLAIM)
    assert call("claim", "declare", file, file).errors == ["claims.toml: is not a folder"]
    (error,) = call("claim", "declare", file, "claims.toml/run").errors
    assert "cannot be written: Not a directory" in error
    call("claim", "declare", claims(CLAIM, FALSE.replace('"better"', '"beter"')), "run")
    assert not Path("run").exists()


# --- check: codes and forms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tables", "code"), [((CLAIM,), 0), ((CLAIM, FALSE), 1), ((ABSENT,), 1)])
def test_check_ends_with_0_only_where_all_claims_are_supported(
    call: Call, run: Path, tables: tuple[str, ...], code: int
) -> None:
    done = call("check", claims(*tables), run)
    assert (done.code, done.err) == (code, "")
    assert done.out.splitlines()[-1].startswith(f"{len(tables)} claim")


def test_a_supported_claim_that_nobody_declared_ends_with_0_is_labelled_and_warns_in_a_statement(
    call: Call, run: Path
) -> None:
    undeclared = claims(CLAIM.replace("simclr-beats-byol", "undeclared").replace("at least one point", "one point"))
    done = call("check", undeclared, run)
    assert (done.code, done.out.splitlines()[0]) == (0, "SUPPORTED_AS_STATED, EXPLORATORY  undeclared")
    assert done.out.splitlines()[-1].endswith("; 1 not declared before the results")
    shown = json.loads(call("check", undeclared, run, "--format", "in-toto").out)["predicate"]
    assert (shown["result"], shown["warnedTests"]) == ("WARNED", ["undeclared"])


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_printed_alone_and_written_as_it_is_printed(call: Call, run: Path, form: str) -> None:
    printed = call("check", claims(CLAIM, FALSE), run, "--format", form)
    assert (printed.code, printed.err) == (1, "")
    written = call("check", "claims.toml", run, "--format", form, "--out", "deep/er/verdicts")
    assert (written.code, written.out, written.err) == (1, "", "")
    assert Path("deep/er/verdicts").read_bytes() == printed.out.encode()
    if form in ("json", "in-toto"):
        assert json.loads(printed.out)
    else:
        assert "one point better" in printed.out


def test_a_terminal_gets_lines_that_fit_and_break_between_words(
    call: Call, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = call("check", claims(CLAIM, FALSE), run).out
    assert max(map(len, whole.splitlines())) > 100
    for width in (80, 200):
        monkeypatch.setattr(claim_commands, "_width", lambda width=width: width)
        narrow = call("check", "claims.toml", run).out
        assert max(map(len, narrow.splitlines())) <= width and narrow.split() == whole.split()
        assert call("check", "claims.toml", run, "--format", "markdown").out.startswith("# Claims of")


def test_a_name_with_markup_and_control_characters_is_printed_on_one_line(call: Call, run: Path) -> None:
    file = claims(CLAIM.replace("simclr-beats-byol", HOSTILE))
    shown = "\\u001b[2J\\u202e second line"
    for done in (call("check", file, run), call("claim", "declare", file, "new"), call("claim", "log", "new")):
        assert done.code == 0 and shown in done.out
        assert all(c.isprintable() or c == "\n" for c in done.out)
    wrong = claims(CLAIM.replace("simclr-beats-byol", HOSTILE).replace('"byol" }', '"byol", epoch = 4 }'))
    (error,) = call("check", wrong, run).errors
    assert error.isprintable() and "\\r\\nsecond line" in error


def test_a_run_without_records_is_unverifiable_and_a_folder_that_is_no_run_stays_empty(call: Call) -> None:
    file = claims(CLAIM)
    call("claim", "declare", file, "declared")
    done = call("check", file, "declared")
    assert (done.code, done.out.split()[0]) == (1, "UNVERIFIABLE")
    Path("empty").mkdir()
    (error,) = call("check", file, "empty").errors
    assert error == f"empty: is not a run folder: it has none of plan.json, records, {DECLARATIONS}"
    assert not Path("empty", DATABASE).exists()


# --- check: mistakes --------------------------------------------------------------------------------------------------


def test_all_unknown_names_are_reported_at_once_with_place_value_and_the_nearest(call: Call, run: Path) -> None:
    wrong = CLAIM.replace("simclr-beats-byol", "wrong").replace('"byol"', '"biol"')
    wrong += 'metric = "linear_top"\nprotocol = "cifar10-smal"\n'
    setting = CLAIM.replace("simclr-beats-byol", "setting").replace('"simclr" }', '"simclr", epoch = 4 }')
    errors = call("check", claims(CLAIM, wrong, setting), run).errors
    shown = [(error.split(": ")[:3], error.rpartition("did you mean ")[2]) for error in errors]
    assert shown == [
        (["claims.toml", "claims.wrong", "protocol"], "'cifar10-small'?"),
        (["claims.toml", "claims.wrong", "metric"], "'linear_top1'?"),
        (["claims.toml", "claims.wrong", "method"], "'byol'?"),
        (["claims.toml", "claims.setting", "epoch"], "'epochs'?"),
    ]
    assert "(seen: 'linear_top'); allowed: " in errors[1] and "knn_top1" in errors[1]
    for command in (("check", "claims.toml", run), ("claim", "declare", "claims.toml", "new")):
        claims(CLAIM.replace('"better"', '"beter"'), setting.replace("at_least", "at_lest"))
        kind, key = call(*command).errors
        assert "claims.0.kind" in kind and kind.endswith("did you mean 'better'?")
        assert "claims.1.at_lest: unknown key" in key and key.endswith("did you mean 'at_least'?")


def test_methods_that_are_shipped_and_did_not_run_are_no_mistake(call: Call, run: Path) -> None:
    done = call("check", claims(ABSENT), run)
    assert (done.code, done.out.split()[0]) == (1, "UNVERIFIABLE")


RUBBISH = {
    "nowhere.toml": None,
    "empty.toml": b"",
    "broken.toml": b'protocol = "x\n',
    "latin.toml": 'name = "é"\n'.encode("latin-1"),
    "binary.toml": bytes(range(256)) * 8,
    "zero.toml": b"\0\0",
    "other.toml": b'question = "a sweep"\n',
    "number.toml": b"claims = 3\n",
}


@pytest.mark.parametrize("name", RUBBISH)
def test_what_is_no_file_of_claims_is_named(call: Call, run: Path, name: str) -> None:
    if (content := RUBBISH[name]) is not None:
        write(name, content)
    for command in (("check", name, run), ("claim", "declare", name, "new")):
        (error,) = call(*command).errors
        assert error.startswith(f"{name}: ")
    assert not Path("new").exists()


def test_file_and_folder_in_each_others_place_are_both_named(call: Call, run: Path) -> None:
    file = claims(CLAIM)
    assert [error.split(": ")[0] for error in call("check", run, file).errors] == [str(run), "claims.toml"]
    assert call("check", "nowhere.toml", "nowhere").errors == [
        "nowhere.toml: cannot be read: No such file or directory",
        "nowhere: is not a folder",
    ]


@pytest.mark.parametrize("paths", [1, 3])
def test_check_takes_one_file_and_one_folder(call: Call, run: Path, paths: int) -> None:
    (error,) = call("check", *[claims(CLAIM), run, run][:paths]).errors
    assert "needs a file of claims and one run folder" in error and error.endswith("allowed: CLAIMS DIR")


def test_an_unknown_format_is_reported_with_the_nearest(call: Call, run: Path) -> None:
    (error,) = call("check", claims(CLAIM), run, "--format", "jsn").errors
    assert error == f"--format: no such format (seen: 'jsn'); allowed: {', '.join(FORMS)}; did you mean 'json'?"
    (error,) = call("check", "--table", table_of(0.64), run, "--format", "latex").errors
    assert error == "--format: no such format (seen: 'latex'); allowed: terminal, json"


@pytest.mark.parametrize("out", ["folder", "claims.toml/verdicts", "/proc/verdicts"])
def test_an_output_that_cannot_be_written_is_named(call: Call, run: Path, out: str) -> None:
    Path("folder").mkdir()
    (error,) = call("check", claims(CLAIM), run, "--out", out).errors
    assert error.startswith("--out: cannot be written: ") and error.endswith(f"(seen: '{out}')")


# --- check --table ----------------------------------------------------------------------------------------------------


def test_a_table_ends_with_0_where_all_numbers_are_traced(call: Call, run: Path) -> None:
    level = sum(_linear(run)) / len(_linear(run))
    right = call("check", "--table", table_of(level), run)
    assert (right.code, right.err) == (0, "")
    assert right.out.startswith("1 number: 1 traced, 0 wrong, 0 not traced, 0 not read\n")
    shown = json.loads(call("check", "--table", "paper.csv", run, "--format", "json").out)
    assert shown["all_traced"] and shown["counts"]["traced"] == 1
    wrong = call("check", "--table", table_of(level + 0.03), run, "--out", "traced.txt")
    assert (wrong.code, wrong.out, wrong.err) == (1, "", "")
    assert Path("traced.txt").read_text().endswith("1 number: 0 traced, 1 wrong, 0 not traced, 0 not read\n")


def _linear(run: Path) -> list[float]:
    results = [json.loads(file.read_bytes())["result"] for file in (run / "records").iterdir()]
    of_simclr = [result["metrics"] for result in results if result["trial"]["method"] == next(iter(LEVELS))]
    return [m["value"] for metrics in of_simclr for m in metrics if (m["name"], m["split"]) == ("linear_top1", "test")]


TABLES: dict[str, bytes] = {
    "words.csv": b"a,b\nx,y\n",
    "words.tex": rb"\begin{tabular}{ll}a & b \\ \hline x & y \end{tabular}",
    "empty.csv": b"",
    "binary.csv": b"\xff\xfe" + bytes(range(256)) * 8,
    "latin.csv": "méthode,x\na,1\n".encode("latin-1"),
    "table.txt": b"a,b\nx,1\n",
    "table": b"a,b\nx,1\n",
}


def test_all_tables_and_folders_that_are_none_are_named_at_once(call: Call, run: Path) -> None:
    options: list[object] = []
    for name, content in TABLES.items():
        options += ["--table", write(name, content)]
    errors = call("check", *options, "--table", "nowhere.tex", run, write("file", b""), "nowhere").errors
    assert [error.split(":")[0] for error in errors] == [*list(TABLES)[2:], "nowhere.tex", "file", "nowhere"]
    assert "is not a table file by its suffix (seen: '.txt'); allowed: .tex, .csv, .tsv" in errors[3]


def test_tables_without_any_number_are_no_success(call: Call, run: Path) -> None:
    options = [argument for name in ("words.csv", "words.tex") for argument in ("--table", write(name, TABLES[name]))]
    assert call("check", *options, run).errors == ["words.csv: has no numbers", "words.tex: has no numbers"]
    right = table_of(sum(_linear(run)) / len(_linear(run)))
    assert call("check", *options, "--table", right, run).code == 0
