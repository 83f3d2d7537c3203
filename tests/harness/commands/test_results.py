"""Claims: tables are printed whole and safely, and a run folder that can only be read is read."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from conftest import CLAIM, SyntheticRun

from twinbench.harness import cli
from twinbench.harness.commands import results
from twinbench.results.described_tables import described_tables
from twinbench.results.store import DATABASE, ResultStore
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.sweep import shipped_protocols

SMALL = ("--memory-limit", 1)
WITHOUT_PRIVILEGES = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")


def call(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-m", "twinbench.harness.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def read_only(filled_run: SyntheticRun) -> SyntheticRun:
    """A run folder of another user, called lock, without a database."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("giving a folder away needs root")
    folder = filled_run.folder.rename(filled_run.folder.with_name("lock"))
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 4711, 4711)
        path.chmod(0o755 if path.is_dir() else 0o644)
    filled_run.folder = folder
    return filled_run


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.slow
def test_a_run_folder_that_can_only_be_read_is_queried_shown_and_checked(read_only, tmp_path):
    folder, before = read_only.folder, files(read_only.folder)
    (tmp_path / "claims.toml").write_text(CLAIM)
    commands = {
        "query": ("query", folder, "select count(*) as n from trials"),
        "report": ("report", folder, "--out", tmp_path / "out"),
        "paper": ("paper", folder, "--out", tmp_path / "paper"),
        "check": ("check", tmp_path / "claims.toml", folder),
    }
    for name, arguments in commands.items():
        done = call(*arguments, before=WITHOUT_PRIVILEGES)
        assert done.returncode == (name == "check"), done.stderr  # the claim is not supported
        assert (
            done.stderr == f"{folder / DATABASE}: cannot be written (Permission denied); a temporary database is used\n"
        )
        assert done.stdout
        if name == "query":
            assert done.stdout.split() == ["n", "58"]
    assert files(folder) == before
    assert call("report", folder).returncode == 0
    for path in ("index.html", "tables/methods.csv"):
        assert (tmp_path / "out" / path).read_bytes() == (folder / "report" / path).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "paper"])
def test_what_is_written_into_a_folder_that_can_only_be_read_is_an_error_that_names_out(read_only, command):
    (read_only.folder / "report" / "tables").mkdir(parents=True)
    os.chown(read_only.folder / "report" / "tables", 4711, 4711)
    done = call(command, read_only.folder, before=WITHOUT_PRIVILEGES)
    assert done.returncode == 2
    place = read_only.folder / ("report/tables" if command == "report" else "paper")
    problem = "cannot be written: Permission denied"
    allowed = "a folder that this user can write"
    assert done.stderr.splitlines()[-1] == f"error: --out: {problem} (seen: {str(place)!r}); allowed: {allowed}"


@pytest.mark.slow
def test_a_file_in_place_of_the_output_folder_is_an_error_that_names_out(filled_run, tmp_path):
    (tmp_path / "out").write_text("mine")
    for command in ("report", "paper"):
        done = call(command, filled_run.folder, "--out", tmp_path / "out")
        assert (done.returncode, "error: --out: cannot be written: " in done.stderr) == (2, True), done.stderr
    assert (tmp_path / "out").read_text() == "mine"


def test_collect_fails_where_the_database_cannot_be_written(read_only):
    done = call("collect", read_only.folder, before=WITHOUT_PRIVILEGES)
    assert (done.returncode, done.stdout) == (2, "57 new, 0 replaced, 0 unchanged\n")
    assert "cannot be written (Permission denied)" in done.stderr


def test_a_current_database_of_a_folder_that_can_only_be_read_is_used(read_only):
    ResultStore(read_only.folder).ingest()
    done = call("query", read_only.folder, "select count(*) as n from trials", before=WITHOUT_PRIVILEGES)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_value_edited_in_the_database_is_in_no_table(filled_run, tmp_path):
    ResultStore(filled_run.folder).ingest()
    assert call("report", filled_run.folder, "--out", tmp_path / "before").returncode == 0
    with duckdb.connect(str(filled_run.folder / DATABASE)) as connection:
        connection.execute("UPDATE metrics SET value = 0.999")
    done = call("report", filled_run.folder, "--out", tmp_path / "after")
    assert done.returncode == 0 and "it is rebuilt from the records" in done.stderr
    page = (tmp_path / "after" / "index.html").read_bytes()
    assert page == (tmp_path / "before" / "index.html").read_bytes()


HOSTILE = "loss \x1b]0;gone\x07\x9b31m\u202e\r\nend"


def at_a_terminal(*arguments: object, codes: tuple[int, ...] = (0,)) -> str:
    """What a command prints on a terminal of 40 columns."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "twinbench.harness.cli", *map(str, arguments)]
    variables = os.environ | {"COLUMNS": "40", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        found = b""
        with contextlib.suppress(OSError):  # that the other end is closed
            while data := os.read(ours, 65536):
                found += data
    os.close(ours)
    assert process.returncode in codes, found
    return found.decode()


def test_a_table_for_a_pipe_is_as_wide_as_its_values(synthetic_run):
    long = "x" * 500
    synthetic_run.planned_and_recorded(method=long)
    done = call("query", synthetic_run.folder, "select method, seed from trials")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{'method':<500}  seed\n{long}  0\n"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_no_text_of_a_record_commands_the_terminal_in_a_query(synthetic_run, form):
    synthetic_run.planned_and_recorded(method=HOSTILE)
    printed = at_a_terminal(
        "query", synthetic_run.folder, "pivot trials on method using first(method)", "--format", form
    )
    assert "gone" in printed
    assert all(one.isprintable() for one in printed.replace("\r\n", ""))


def test_a_query_that_takes_more_memory_than_it_may_names_the_option(filled_run):
    done = call("query", filled_run.folder, "select string_agg(repeat('x', 1000), '') from range(2000000)", *SMALL)
    assert (done.returncode, done.stdout) == (2, "")
    text = "reading it takes more than 1 GiB of memory; allowed: more with --memory-limit GIB"
    assert done.stderr == f"error: {filled_run.folder}: {text}\n"


def test_csv_for_a_pipe_has_the_text_as_it_is(synthetic_run):
    synthetic_run.planned_and_recorded(method=HOSTILE)
    sql = "select method as m, 1/3 as v from trials"
    command = [
        sys.executable,
        "-m",
        "twinbench.harness.cli",
        "query",
        str(synthetic_run.folder),
        sql,
        "--format",
        "csv",
    ]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.stdout == f'm,v\n"{HOSTILE}",0.3333333333333333\n'.encode(), done.stderr


def test_a_long_table_says_how_many_rows_are_left_and_csv_has_them_all():
    numbers = [(number,) for number in range(12_002)]
    lines = results._as_table(["n"], iter(numbers)).splitlines()
    assert len(lines) == 1002 and lines[-2:] == ["999", "11,002 more rows; --format csv prints all 12,002"]
    assert results._as_csv(["n"], iter(numbers)).count("\n") == 12_003


def test_json_has_every_digit_and_a_value_for_what_json_does_not_have(synthetic_run):
    sql = (
        "select 0.1::double + 0.2 as a, 'inf'::double as b, [1.5, 'nan'::double] as c, {'x': true} as d, null as e, "
        "[date '2026-01-02'] as i, timestamp '2026-01-02 03:04:05' as f, "
        "'2f8d0f3c-6b5b-4f0a-9d4e-000000000000'::uuid as g, 'Ä' as h"
    )
    with ResultStore(synthetic_run.folder).rows(sql) as (names, rows):
        (row,) = json.loads(results._as_json(names, rows))
    assert list(row.values()) == [
        *(0.30000000000000004, None, [1.5, None], {"x": True}, None, ["2026-01-02"]),
        *("2026-01-02T03:04:05.000", "2f8d0f3c-6b5b-4f0a-9d4e-000000000000", "Ä"),
    ]


DIGITS = (
    "170141183460469231731687303715884105727::hugeint",
    "-0.00000000000000000001::decimal(38, 20)",
    "0::decimal(9, 7)",
    "12345678901234567890.123456789::decimal(38, 9)",
    "9007199254740993::bigint",
    "sum(9007199254740993)",
)


def printed_as(form: str, sql: str) -> str:
    answer = duckdb.execute(sql)
    as_text = {"table": results._as_table, "csv": results._as_csv, "json": results._as_json}[form]
    return as_text([column[0] for column in answer.description], iter(answer.fetchall()))


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_number_is_printed_with_the_digits_of_duckdbs_own_text(form):
    values, nulls = ", ".join(DIGITS), ", ".join(["null"] * len(DIGITS))
    printed = printed_as(form, f"select {values} union all select {nulls}")
    for text in duckdb.sql(f"select {', '.join(f'({one})::varchar' for one in DIGITS)}").fetchall()[0]:
        assert re.search(rf"(^|[\s:,]){re.escape(text)}($|[\s,}}])", printed), (text, printed)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("table", "a  b  c    d\n      nan  [1.50,null]\n"),
        ("csv", 'a,b,c,d\n,,nan,"[1.50,null]"\n'),
        ("json", '[\n{"a":null,"b":null,"c":null,"d":[1.50,null]}\n]\n'),
    ],
)
def test_a_missing_time_is_printed_like_any_other_missing_value(form, expected):
    sql = "select null::timestamp as a, null::varchar as b, 'nan'::double as c, [1.5::decimal(3, 2), null] as d"
    assert printed_as(form, sql) == expected


def test_an_answer_without_rows_is_an_empty_list():
    assert printed_as("json", "select 1 as a where false") == "[]\n"


def test_json_refuses_two_columns_of_one_name():
    with pytest.raises(InvalidInput, match="needs another name for each column"):
        printed_as("json", "select 1 as a, 2 as a")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((".", ""), "error: database: the query has no statement (seen: ''); allowed: one"),
        (
            (".", "select 1; select 2"),
            "error: database: the query has 2 statements (seen: 'select 1; select 2'); allowed: one",
        ),
        ((".",), "error: query: needs a run folder and SQL; allowed: DIR SQL, or --schema"),
        ((), "error: query: needs a run folder and SQL; allowed: DIR SQL, or --schema"),
    ],
)
def test_a_query_that_asks_nothing_is_an_error(synthetic_run, monkeypatch, capsys, arguments, error):
    synthetic_run.planned_and_recorded()
    monkeypatch.chdir(synthetic_run.folder)
    monkeypatch.setattr(sys, "argv", ["twinbench", "query", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (2, f"{error}\n")


def test_the_schema_is_printed_with_a_line_for_each_column(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["twinbench", "query", "--schema"])
    with pytest.raises(SystemExit):
        cli.main()
    lines = capsys.readouterr().out.splitlines()
    assert "metrics: Every number that was measured after training." in lines
    assert "  value        DOUBLE   accuracies are fractions of 1" in lines
    assert len(lines) == sum(len(table.columns) + 3 for table in described_tables())


@pytest.fixture
def hostile(synthetic_run: SyntheticRun) -> SyntheticRun:
    """A run folder whose records, logs and file names hold control characters."""
    run = synthetic_run
    run.name, run.question = HOSTILE, HOSTILE
    trial = run.trial(method=HOSTILE, settings={HOSTILE: HOSTILE})
    run.record(run.plan(trial), None, status="failed", reason=HOSTILE)
    for method in ("barlow_twins", "simclr"):
        run.planned_and_recorded(0.5, method=method)
    run.write_plan()
    (run.folder / "records" / f"{HOSTILE.replace('/', '')}.json").write_text("{}")
    attempt = run.folder / "trials" / trial["trial_id"]
    attempt.mkdir(parents=True)
    (attempt / "attempt-0001.json").write_text(json.dumps({"status": "failed", "reason": HOSTILE, "host": HOSTILE}))
    (attempt / "attempt-0001.log").write_text(HOSTILE + "\n")
    (run.folder / "table.csv").write_text(f'method,"{HOSTILE}"\n"{HOSTILE}",12.34\n')
    (run.folder / "claims.toml").write_text(CLAIM)
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("collect", "."),
        ("status", "."),
        ("watch", "."),
        ("logs", ".", "TRIAL"),
        ("merge", ".", "--out", "../merged"),
        ("bundle", "."),
        ("check", "--table", "table.csv", "."),
        ("check", "--table", "table.csv", ".", "--format", "json"),
        ("check", "claims.toml", "."),
        ("check", "claims.toml", ".", "--format", "json"),
        ("check", "claims.toml", ".", "--format", "html"),
    ],
    ids=" ".join,
)
def test_no_text_of_a_run_folder_commands_the_terminal(hostile, monkeypatch, command):
    monkeypatch.chdir(hostile.folder)
    trial_id = hostile.planned[0]["trial_id"]
    printed = at_a_terminal(*(trial_id if part == "TRIAL" else part for part in command), codes=(0, 1, 2))
    ours = re.compile(r"\r|\x1b\[[0-9;?]*[A-Zhlm]")  # movements and colours of rich itself
    assert "gone" in printed or command[0] == "bundle" or command[1] == "claims.toml"
    for line in ours.sub("", printed.replace("\r\n", "\n")).split("\n"):
        assert line.isprintable(), ascii(line)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("plan", "digits", "--out", "FOLDER"),
        ("bundle", "FOLDER"),
        ("paper", "FOLDER"),
        ("export", "FOLDER", "--to", "tensorboard"),
        ("protocol", "lock", "FOLDER/own.toml"),
        ("claim", "declare", "claims.toml", "FOLDER"),
    ],
    ids=" ".join,
)
def test_no_path_commands_the_terminal(synthetic_run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        synthetic_run.planned_and_recorded(0.5, method="byol", seed=seed)
    synthetic_run.write_plan()
    name = HOSTILE.replace("/", "")
    shutil.copytree(synthetic_run.folder, name)
    shutil.copy(shipped_protocols()["digits-small"], f"{name}/own.toml")
    Path("claims.toml").write_text(CLAIM)
    printed = at_a_terminal(*(part.replace("FOLDER", name) for part in command), codes=(0, 2))
    assert "gone" in printed
    assert all(line.isprintable() for line in printed.replace("\r\n", "\n").split("\n")), ascii(printed)
