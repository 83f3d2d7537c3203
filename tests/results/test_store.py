import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from twinbench.results import store as store_module
from twinbench.results.record import record_files
from twinbench.results.store import DATABASE, DIGEST, SCHEMA_NUMBER, ResultStore, StoreError, copy_database, mark

TABLES = ("run", "files", "trials", "protocols", "settings", "metrics", "curves", "versions", "set_aside")


def rows(store: ResultStore, sql: str, *parameters: object) -> list[tuple]:
    return list(store.query(sql, parameters).itertuples(index=False, name=None))


def everything(store: ResultStore) -> dict[str, list[str]]:
    return {name: sorted(map(repr, rows(store, f"SELECT * FROM {name}"))) for name in TABLES}


def test_a_circumstance_is_true_false_or_unknown(synthetic_run):
    for seed, value in enumerate((True, False, None, "yes")):
        synthetic_run.planned_and_recorded(0.9, seed=seed, circumstance={"cuda_graph": value})
    store = ResultStore(synthetic_run.folder)
    assert store.ingest().new == 4
    sql = "SELECT coalesce(cuda_graph::VARCHAR, 'unknown') FROM trials ORDER BY seed"
    assert rows(store, sql) == [("true",), ("false",), ("unknown",), ("unknown",)]


def test_a_record_is_read_back_as_rows(synthetic_run):
    trial_id = synthetic_run.planned_and_recorded(
        0.93,
        method="simclr",
        seed=4,
        settings={"temperature": 0.5, "symmetric": True, "layers": [64, 64], "kind": "mlp"},
        training={"batch_size": 128},
        curves={"epoch": [1, 2], "series": {"loss": [3.0, 2.5], "validation/knn_top1": [None, 0.5]}},
    )
    store = ResultStore(synthetic_run.folder)
    assert store.ingest().new == 1
    assert rows(store, 'SELECT method, seed, status, planned, device, "commit", images_seen FROM trials') == [
        ("simclr", 4, "done", True, "cpu", "c" * 40, 14370)
    ]
    assert rows(store, "SELECT started::VARCHAR FROM trials") == [("2026-01-02 03:04:05",)]
    assert rows(store, "SELECT source, name, number, text FROM settings WHERE number IS NOT NULL ORDER BY name") == [
        ("training", "batch_size", 128.0, "128"),
        ("derived", "learning_rate_scaled", 0.1, "0.1"),
        ("derived", "steps", 120.0, "120"),
        ("settings", "temperature", 0.5, "0.5"),
    ]
    assert rows(store, "SELECT name, text FROM settings WHERE number IS NULL ORDER BY name") == [
        ("kind", "mlp"),
        ("layers", "[64, 64]"),
        ("symmetric", "true"),
    ]
    assert rows(store, "SELECT value, selected FROM metrics WHERE name = 'linear_top1' AND split = 'test'") == [
        (0.93, '{"learning_rate": 0.1}')
    ]
    assert rows(store, "SELECT * FROM curves ORDER BY name, epoch") == [
        (trial_id, 1.0, "loss", 3.0),
        (trial_id, 2.0, "loss", 2.5),
        (trial_id, 2.0, "validation/knn_top1", 0.5),
    ]
    assert rows(store, "SELECT package, version FROM versions ORDER BY package") == [
        ("python", "3.11.7"),
        ("torch", "2.14.1"),
    ]


def test_ingesting_twice_keeps_one_row(filled_run):
    store = ResultStore(filled_run.folder)
    first, before = store.ingest(), everything(store)
    second = store.ingest()
    assert (first.new, first.unchanged) == (57, 0)
    assert (second.new, second.unchanged, second.replaced, second.removed) == (0, 57, 0, 0)
    assert everything(store) == before


def test_the_database_can_be_deleted_and_rebuilt(filled_run):
    store = ResultStore(filled_run.folder)
    trials = sorted((filled_run.folder / "records").iterdir())
    late = trials[0].read_bytes()
    trials[0].unlink()
    store.ingest()  # piece by piece, so that the first database comes about otherwise than the second
    trials[0].write_bytes(late)
    store.ingest()
    before = everything(store)
    store.path.unlink()
    store.ingest()
    assert everything(store) == before


def test_a_planned_trial_is_missing_until_its_record_comes(synthetic_run):
    trial = synthetic_run.plan(synthetic_run.trial(settings={"projector_width": 64}))
    store = ResultStore(synthetic_run.folder)
    store.ingest()
    sql = "SELECT status, planned, protocol_hash FROM trials"
    assert rows(store, sql) == [("missing", True, "5" * 64)]
    assert rows(store, "SELECT number FROM settings WHERE name = 'projector_width'") == [(64.0,)]
    synthetic_run.record(trial)
    store.ingest()
    assert rows(store, sql) == [("done", True, "5" * 64)]
    assert rows(store, "SELECT number FROM settings WHERE name = 'projector_width'") == [(64.0,)]
    (synthetic_run.folder / "records" / f"{trial['trial_id']}.json").unlink()
    assert store.ingest().removed == 1
    assert rows(store, sql) == [("missing", True, "5" * 64)]


def test_a_record_without_a_plan_is_kept_and_marked(synthetic_run):
    synthetic_run.record(synthetic_run.trial())
    store = ResultStore(synthetic_run.folder)
    assert store.ingest().set_aside == []
    assert rows(store, "SELECT status, planned FROM trials") == [("done", False)]


def test_a_changed_record_replaces_its_rows(synthetic_run):
    trial = synthetic_run.plan(synthetic_run.trial())
    store = ResultStore(synthetic_run.folder)
    synthetic_run.record(trial, None, status="failed", reason="disk full")
    store.ingest()
    synthetic_run.record(trial, 0.8)
    assert store.ingest().replaced == 1
    assert rows(store, "SELECT status, reason FROM trials") == [("done", "")]
    assert rows(store, "SELECT count(*) FROM metrics") == [(4,)]


def test_torn_and_foreign_files_are_named_and_left_where_they_are(synthetic_run):
    whole = synthetic_run.planned_and_recorded(seed=0)
    torn = synthetic_run.planned_and_recorded(seed=1)
    records = synthetic_run.folder / "records"
    (records / f"{torn}.json").write_text('{"schema": 1, "result"')
    (records / "notes.txt").write_text("mine")
    (records / "strange.json").write_text('{"a": [1, 2]}')
    (records / "binary.json").write_bytes(b"\xff\xfe\x00")
    large = (records / f"{whole}.json").read_text().replace('"value": 0.', '"value": 1e999, "was": 0.', 1)
    (records / "large.json").write_text(large)
    (records / ".left-over.tmp").write_text("ignored")
    (records / "folder").mkdir()
    store = ResultStore(synthetic_run.folder)
    for _ in range(2):
        ingested = store.ingest()
        names = [file for file, _ in ingested.set_aside]
        damaged = (f"{torn}.json", "binary.json", "folder", "large.json", "notes.txt", "strange.json")
        assert names == sorted(f"records/{name}" for name in damaged)
        assert all(reason for _, reason in ingested.set_aside)
        assert rows(store, "SELECT file, reason FROM set_aside ORDER BY file") == ingested.set_aside
        assert dict(rows(store, "SELECT trial_id, status FROM trials")) == {whole: "done", torn: "missing"}
    assert (records / "notes.txt").read_text() == "mine"


def test_a_record_that_is_torn_later_loses_its_rows_and_gets_them_back(synthetic_run):
    trial_id = synthetic_run.planned_and_recorded()
    path = synthetic_run.folder / "records" / f"{trial_id}.json"
    store = ResultStore(synthetic_run.folder)
    store.ingest()
    whole = path.read_text()
    path.write_text(whole[:100])
    assert [file for file, _ in store.ingest().set_aside] == [f"records/{trial_id}.json"]
    assert rows(store, "SELECT status FROM trials") == [("missing",)]
    path.write_text(whole)
    assert store.ingest().set_aside == []
    assert rows(store, "SELECT status FROM trials") == [("done",)]


def test_a_tampered_number_is_found_by_its_digest(synthetic_run):
    trial_id = synthetic_run.planned_and_recorded(0.9)
    path = synthetic_run.folder / "records" / f"{trial_id}.json"
    record = json.loads(path.read_text())
    record["result"]["metrics"][1]["value"] = 0.99
    path.write_text(json.dumps(record))
    ((file, reason),) = ResultStore(synthetic_run.folder).ingest().set_aside
    assert file == f"records/{trial_id}.json"
    assert reason.startswith("its result was changed")


@pytest.mark.parametrize(
    ("spoil", "reason_has"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_text('{"epoch": [], "series": {}}'), "its digest is"),
    ],
)
def test_a_missing_or_changed_artefact_is_named_and_the_result_kept(synthetic_run, spoil, reason_has):
    synthetic_run.planned_and_recorded(curves={"epoch": [1], "series": {"loss": [1.0]}})
    (artefact,) = (synthetic_run.folder / "artefacts").iterdir()
    content = artefact.read_bytes()
    store = ResultStore(synthetic_run.folder)
    store.ingest()
    spoil(artefact)  # after it was taken in: found all the same
    for _ in range(2):
        ((file, reason),) = store.ingest().set_aside
        assert file == f"artefacts/{artefact.name}"
        assert reason_has in reason
    assert rows(store, "SELECT count(*) FROM metrics") == [(4,)]
    assert rows(store, "SELECT count(*) FROM curves") == [(0,)]
    artefact.write_bytes(content)
    assert store.ingest().set_aside == []
    assert rows(store, "SELECT count(*) FROM curves") == [(1,)]


@pytest.mark.parametrize(
    ("epochs", "loss"), [([1, 2], 1.0), ([None], 1.0), ([1e308], 1.0), ([1], 1e308), ([1], -1.1e100)]
)
def test_an_artefact_that_holds_no_curves_is_named(synthetic_run, epochs, loss):
    synthetic_run.planned_and_recorded(curves={"epoch": epochs, "series": {"loss": [loss]}})
    ((_, reason),) = ResultStore(synthetic_run.folder).ingest().set_aside
    assert "not curves" in reason


@pytest.mark.parametrize(
    "plan",
    [
        "{",
        "[]",
        '{"schema": 1}',
        '{"schema": 1, "trials": [{"trial_id": 3}]}',
        '{"schema": 1, "trials": [], "commands": 5}',
        '{"schema": 1, "trials": [], "commands": [5]}',
    ],
)
def test_a_file_that_is_not_a_plan_is_named_and_the_records_are_kept(synthetic_run, plan):
    synthetic_run.planned_and_recorded()
    (synthetic_run.folder / "plan.json").write_text(plan)
    store = ResultStore(synthetic_run.folder)
    assert [file for file, _ in store.ingest().set_aside] == ["plan.json"]
    assert rows(store, "SELECT status, planned FROM trials") == [("done", False)]


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(range(256)) * 3)


def foreign(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE mine (x INTEGER)")


def foreign_with_its_digest(path: Path) -> None:
    foreign(path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE run AS SELECT $number AS schema_number", {"number": SCHEMA_NUMBER})
    path.with_name(DIGEST).write_text(hashlib.sha256(path.read_bytes()).hexdigest())


def edited(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE metrics SET value = 0.999")


def edited_with_its_digest(path: Path) -> None:
    edited(path)
    path.with_name(DIGEST).write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {DATABASE}\n")


def edited_with_the_earlier_mark(path: Path) -> None:
    (comment, _) = path.with_name(DIGEST).read_text().splitlines()
    edited_with_its_digest(path)
    path.with_name(DIGEST).write_text(f"{comment}\n{path.with_name(DIGEST).read_text()}")


def with_an_invented_trial(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO trials (trial_id, status) VALUES ('0123456789abcdef', 'done')")
    path.with_name(DIGEST).write_bytes(mark(path, hashlib.sha256(path.read_bytes()).hexdigest()))


def copied(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


SPOILT: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "junk": lambda path: path.write_bytes(b"junk"),
    "cut in half": half,
    "its first header overwritten": lambda path: overwritten(path, 4100),
    "a block overwritten": lambda path: overwritten(path, 12300),
    "its last bytes overwritten": lambda path: overwritten(path, path.stat().st_size - 800),
    "another database": foreign,
    "another database with its digest": foreign_with_its_digest,
    "a value edited": edited,
    "a value edited, with its digest": edited_with_its_digest,
    "a value edited, with the earlier mark": edited_with_the_earlier_mark,
    "an invented trial, with its mark": with_an_invented_trial,
    "copied": copied,
    "without its digest": lambda path: path.with_name(DIGEST).unlink(),
    "a damaged digest": lambda path: path.with_name(DIGEST).write_bytes(b"\xff"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_database_that_is_not_as_it_was_written_is_made_again_and_stderr_says_so(synthetic_run, capsys, spoil):
    synthetic_run.planned_and_recorded(0.5)
    ResultStore(synthetic_run.folder).ingest()
    store = ResultStore(synthetic_run.folder)
    assert (store.ingest().unchanged, capsys.readouterr().err) == (1, "")
    spoil(store.path)
    assert store.ingest().new == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{store.path}: ")
    assert line.endswith("; it is rebuilt from the records")
    assert rows(store, "SELECT max(value) FROM metrics WHERE split = 'test' AND name = 'linear_top1'") == [(0.5,)]
    assert (store.ingest().unchanged, capsys.readouterr().err) == (1, "")


def test_a_database_of_another_user_is_made_again(synthetic_run, capsys, monkeypatch):
    synthetic_run.planned_and_recorded(0.5)
    ResultStore(synthetic_run.folder).ingest()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert ResultStore(synthetic_run.folder).ingest().new == 1
    assert "belongs to another user; it is rebuilt from the records" in capsys.readouterr().err


def linked(path: Path) -> None:
    path.symlink_to("elsewhere")


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_text("kept")


@pytest.mark.parametrize(
    ("put", "problem"),
    [
        (linked, "a link is there, and only a regular file is replaced"),
        (os.mkfifo, "a device, pipe or socket is there, and only a regular file is replaced"),
        (a_folder, "Is a directory"),
    ],
)
def test_what_is_no_file_stays_in_place_of_the_database_and_the_records_are_read(synthetic_run, capsys, put, problem):
    synthetic_run.planned_and_recorded()
    store = ResultStore(synthetic_run.folder)
    put(store.path)
    kind = store.path.lstat().st_mode
    assert (store.ingest().new, store.is_saved) == (1, False)
    assert f"cannot be written ({problem}); a temporary database is used" in capsys.readouterr().err
    assert rows(store, "SELECT count(*) FROM trials") == [(1,)]
    assert store.path.lstat().st_mode == kind


def test_a_link_to_the_database_is_never_written_through(synthetic_run):
    synthetic_run.planned_and_recorded()
    store = ResultStore(synthetic_run.folder)
    store.ingest()
    elsewhere = store.path.with_name("elsewhere")
    store.path.rename(elsewhere)
    store.path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    synthetic_run.planned_and_recorded(seed=1)
    assert (store.ingest().new, store.is_saved) == (2, False)
    assert elsewhere.read_bytes() == before
    assert store.path.is_symlink()


def test_a_record_that_is_rewritten_with_its_size_and_times_kept_is_read_again(synthetic_run):
    trial_id = synthetic_run.planned_and_recorded(0.5)
    path = synthetic_run.folder / "records" / f"{trial_id}.json"
    store = ResultStore(synthetic_run.folder)
    store.ingest()
    state, data = path.stat(), path.read_bytes()
    path.write_bytes(data.replace(b'"done"', b'"DONE"'))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    assert [file for file, _ in store.ingest().set_aside] == [f"records/{trial_id}.json"]


def test_sha256sum_can_check_the_database(synthetic_run):
    ResultStore(synthetic_run.folder).ingest()
    command = ["sha256sum", "--check", "--strict", DIGEST]
    assert (
        subprocess.run(command, cwd=synthetic_run.folder, check=True, capture_output=True).stdout
        == b"results.duckdb: OK\n"
    )
    (synthetic_run.folder / DATABASE).write_bytes(b"another")
    assert subprocess.run(command, cwd=synthetic_run.folder, capture_output=True).returncode == 1


def test_another_folder_of_the_same_records_takes_the_database_over(synthetic_run, tmp_path):
    synthetic_run.planned_and_recorded(0.5)
    ResultStore(synthetic_run.folder).ingest()
    other = tmp_path / "other"
    other.mkdir()
    (other / "records").symlink_to(synthetic_run.folder / "records")
    copy_database(synthetic_run.folder, other)
    assert ResultStore(other).ingest().unchanged == 1
    edited(synthetic_run.folder / DATABASE)
    (other / DATABASE).unlink()
    copy_database(synthetic_run.folder, other)
    assert not (other / DATABASE).exists()


def test_the_plans_commands_are_kept_in_order_and_an_older_plan_has_none(synthetic_run):
    synthetic_run.planned_and_recorded()
    store = ResultStore(synthetic_run.folder)
    store.ingest()
    assert rows(store, "SELECT unnest(commands) FROM run") == []
    synthetic_run.commands = ["twinbench run b", "twinbench run a"]
    synthetic_run.write_plan()
    store.ingest()
    assert rows(store, "SELECT unnest(commands) FROM run") == [("twinbench run b",), ("twinbench run a",)]


def test_a_database_of_another_schema_is_made_again(synthetic_run, capsys, monkeypatch):
    synthetic_run.planned_and_recorded()
    store = ResultStore(synthetic_run.folder)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "SCHEMA_NUMBER", 0)
        store.ingest()
    assert store.ingest().new == 1
    assert "was made by another version of twinbench; it is rebuilt" in capsys.readouterr().err


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO trials (trial_id) VALUES ('x')",
        "DELETE FROM trials",
        "DROP TABLE trials",
        "CREATE TABLE mine (x INTEGER)",
        "SELECT 1; DROP TABLE trials",
        "COPY trials TO '{folder}/stolen.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "ATTACH '{folder}/other.duckdb'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM secret_frame",
        "nonsense",
    ],
)
def test_a_query_can_neither_write_nor_read_files(synthetic_run, sql):
    secret_frame = synthetic_run.planned_and_recorded()
    store = ResultStore(synthetic_run.folder)
    store.ingest()
    with pytest.raises(StoreError):
        store.query(sql.format(folder=synthetic_run.folder))
    assert rows(store, "SELECT trial_id FROM trials") == [(secret_frame,)]
    assert not (synthetic_run.folder / "stolen.csv").exists()


def test_a_query_names_what_its_tables_lack(synthetic_run, capsys):
    synthetic_run.planned_and_recorded()
    (synthetic_run.folder / "plan.json").unlink()
    (synthetic_run.folder / "plan.json").mkdir()
    for name in "abc":
        (synthetic_run.folder / "records" / f"{name}.json").touch()
    store = ResultStore(synthetic_run.folder)
    assert rows(store, "SELECT count(*) FROM trials") == [(1,)]
    (line,) = capsys.readouterr().err.splitlines()
    first = "not in its tables: plan.json: cannot be read (Is a directory); records/a.json: not JSON"
    assert line.startswith(f"{store.path}: {first}")
    assert line.endswith(" and 1 more, which `twinbench collect` lists")
    assert rows(store, "SELECT count(*) FROM trials") == [(1,)] and not capsys.readouterr().err


def test_parameters_are_bound_and_not_inserted_as_text(synthetic_run):
    name = "x' OR 1=1 --"
    synthetic_run.planned_and_recorded(method=name)
    synthetic_run.planned_and_recorded(method="byol")
    store = ResultStore(synthetic_run.folder)
    store.ingest()
    assert rows(store, "SELECT method FROM trials WHERE method = ?", name) == [(name,)]
    named = store.query("SELECT method FROM trials WHERE method = $m", {"m": "byol"})
    assert list(named["method"]) == ["byol"]


def test_a_query_before_any_ingestion_reads_the_records_first(synthetic_run):
    synthetic_run.planned_and_recorded()
    assert rows(ResultStore(synthetic_run.folder), "SELECT count(*) FROM trials") == [(1,)]


@pytest.mark.parametrize("sql", ["", " \n", "-- a comment", ";"])
def test_a_query_without_a_statement_is_an_error(synthetic_run, sql):
    with pytest.raises(StoreError, match=r"; LINE 1: selec$"):  # one line, as every error
        ResultStore(synthetic_run.folder).query("selec")
    with pytest.raises(StoreError, match="the query has no statement"):
        ResultStore(synthetic_run.folder).query(sql)


def test_a_query_of_several_statements_is_an_error_and_a_pivot_is_one(synthetic_run):
    synthetic_run.planned_and_recorded(method="byol")
    store = ResultStore(synthetic_run.folder)
    assert rows(store, "PIVOT trials ON method USING count(*) GROUP BY seed; -- a comment") == [(0, 1)]
    with pytest.raises(StoreError, match="the query has 3 statements"):
        store.query("SELECT 1; PIVOT trials ON method USING count(*); SELECT 2")


def test_an_error_that_shows_only_when_rows_are_taken_is_an_error_of_the_query(synthetic_run):
    synthetic_run.planned_and_recorded()
    sql = "SELECT CASE WHEN range > 20000 THEN error('late') ELSE 'early' END FROM range(100000)"
    with pytest.raises(StoreError, match="late"), ResultStore(synthetic_run.folder).rows(sql) as (_, found):
        list(found)


def test_the_private_copy_is_deleted_when_the_store_is_closed_or_forgotten(synthetic_run, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    store = ResultStore(synthetic_run.folder)
    for _ in range(2):
        store.ingest()
        assert len(list((tmp_path / "temporary").iterdir())) == 1
    store.close()
    assert list((tmp_path / "temporary").iterdir()) == []
    assert len(store.query("SELECT 1")) == 1
    del store
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_folder_may_have_a_quote_in_its_name(new_synthetic_run, tmp_path: Path):
    run = new_synthetic_run(tmp_path / "o'clock")
    run.planned_and_recorded()
    assert ResultStore(run.folder).ingest().new == 1


def test_the_database_is_written_for_duckdb_1_4(synthetic_run):
    store = ResultStore(synthetic_run.folder)
    for seed in range(2):  # the second time into a database that is there
        synthetic_run.planned_and_recorded(seed=seed)
        store.ingest()
    # The storage version stands after the magic bytes: 64 to 67 are those of 1.x (67: since 1.4), 2.0's own is higher.
    header = store.path.read_bytes()[8:20]
    assert header[:4] == b"DUCK"
    assert int.from_bytes(header[4:12], "little") <= 67


def test_results_are_read_without_torch():
    program = "import sys, twinbench.results.store, twinbench.reports.page.write; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_ingestion_does_not_wait_for_another_process_that_has_the_database_open(synthetic_run):
    synthetic_run.planned_and_recorded()
    store = ResultStore(synthetic_run.folder)
    store.ingest()
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        synthetic_run.planned_and_recorded(seed=1)
        assert (store.ingest().new, store.is_saved) == (1, True)
        assert rows(store, "SELECT count(*) FROM trials") == [(2,)]
        holder.communicate()
    with duckdb.connect(str(store.path), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchall() == [(2,)]


def test_ingestions_at_once_each_see_every_record_that_there_was_when_they_began(synthetic_run):
    def counts(_: int) -> list[tuple[int, int]]:
        found = []
        for _ in range(4):
            there = len(record_files(synthetic_run.folder))
            store = ResultStore(synthetic_run.folder)
            store.ingest()
            found.append((there, rows(store, "SELECT count(*) FROM trials")[0][0]))
        return found

    with ThreadPoolExecutor(3) as pool:
        answers = pool.map(counts, range(3))
        for seed in range(20):
            synthetic_run.record(synthetic_run.trial(seed=seed), 0.5)
            time.sleep(0.02)
    assert all(there <= seen for one in answers for there, seen in one)
    assert ResultStore(synthetic_run.folder).ingest().set_aside == []


def test_times_are_stored_in_utc_and_what_is_not_a_time_is_unknown(synthetic_run):
    for seed, started in enumerate(("2026-01-02T03:04:05+02:00", "2026-01-02T03:04:05", "yesterday", 5)):
        synthetic_run.planned_and_recorded(0.9, seed=seed, circumstance={"started": started})
    store = ResultStore(synthetic_run.folder)
    store.ingest()
    times = [time for (time,) in rows(store, "SELECT coalesce(started::VARCHAR, '') FROM trials ORDER BY seed")]
    assert times == ["2026-01-02 01:04:05", "2026-01-02 03:04:05", "", ""]


def test_a_number_or_time_that_no_column_holds_is_unknown_and_the_result_kept(synthetic_run):
    trial = synthetic_run.trial(settings={"width": 10**400})
    synthetic_run.record(synthetic_run.plan(trial), 0.9, circumstance={"started": "0001-01-01T00:00:00+23:59"})
    store = ResultStore(synthetic_run.folder)
    assert store.ingest().set_aside == []
    assert rows(store, "SELECT status, started IS NULL FROM trials") == [("done", True)]
