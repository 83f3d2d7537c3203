"""Claims: the live page shows what the folder holds, damaged or not, to browsers on this machine only."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SyntheticRun, invented_curves
from serving import Client, running_attempt
from trial_runs import run_trial

from twinbench.harness.monitor import server
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder import live_curves, progress
from twinbench.harness.run_folder.layout import write_plan
from twinbench.harness.run_folder.live_curves import LiveCurves
from twinbench.harness.trial.execute import Surroundings
from twinbench.reports.tables.frames import cells_table, display
from twinbench.reports.tables.run import read_run, records
from twinbench.reports.tables.sections import sections
from twinbench.results.attempts import attempt_file, trial_folder
from twinbench.results.record import record_path
from twinbench.sweeps.errors import InvalidInput

NAMES = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "\"quoted' & \\textbf{x}_$^%",
    "\u202eright-to-left",
    "\x1b[31mred\x07",
]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Client]]:
    """Return a function that makes a client of an application that polls its folder at every request."""
    monkeypatch.setattr(server, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LEAST_TIMES_ITS_COST", 0.0)
    monkeypatch.setattr(server, "PATIENCE_SECONDS", 60.0)
    made: list[Client] = []

    def make(folder: Path) -> Client:
        made.append(Client(folder))
        return made[-1]

    yield make
    for one in made:
        one.runner.close()


# --- requests that are refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hosts",
    [
        (),
        ("",),
        ("example.org",),
        ("example.org:8642",),
        ("127.0.0.1",),
        ("127.0.0.1:80",),
        ("127.0.0.1:8642.example.org",),
        ("localhost.example.org:8642",),
        ("0.0.0.0:8642",),
        ("[::1]:8642",),
        ("127.0.0.1:8642", "example.org"),
        ("127.0.0.1:8642\xe9",),
    ],
)
def test_requests_for_other_hosts_are_refused(
    hosts: tuple[str, ...], tmp_path: Path, connect: Callable[[Path], Client]
) -> None:
    client = connect(tmp_path)
    for path in ("/", "/state.json", "/live.js", "/report/index.html"):
        assert client(path, hosts).status == 421
    for own in ("127.0.0.1:8642", "localhost:8642", "LOCALHOST:8642"):
        assert client("/", (own,)).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", "get"])
def test_methods_other_than_get_are_refused(method: str, tmp_path: Path, connect: Callable[[Path], Client]) -> None:
    answer = connect(tmp_path)("/state.json", method=method)
    assert answer.status == 405 and answer.headers["allow"] == "GET"


def test_websockets_are_closed(tmp_path: Path, connect: Callable[[Path], Client]) -> None:
    assert connect(tmp_path)("/state.json", kind="websocket").headers == {"type": "websocket.close"}


def test_every_answer_has_the_security_headers(filled_run: SyntheticRun, connect: Callable[[Path], Client]) -> None:
    (filled_run.folder / "report").mkdir()
    (filled_run.folder / "report" / "index.html").write_text("<p>the report</p>")
    client = connect(filled_run.folder)
    trial_id = filled_run.planned[0]["trial_id"]
    paths = ("/", "/live.js", "/live.css", "/icon.svg", "/state.json", f"/trials/{trial_id}.json", "/nowhere")
    for answer in [
        *map(client, paths),
        client("/", ("evil",)),
        client("/", method="POST"),
        client("/report/index.html"),
    ]:
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
    for path in paths:
        assert "unsafe" not in client(path).headers["content-security-policy"]


def test_a_port_in_use_is_an_error_and_the_default_port_in_use_gives_a_free_one() -> None:
    with server.listen(0) as first:
        assert first.getsockname()[0] == "127.0.0.1"
        first.listen()
        with pytest.raises(InvalidInput, match="--port: cannot be used"):
            server.listen(first.getsockname()[1])
    with socket.socket() as other, server.listen(None) as usual:
        other.close()
        with server.listen(None) as second:
            usual.listen()
            assert second.getsockname()[1] != 0


# --- files that are served ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "../secret.json",
        "..%2fsecret.json",
        "%2e%2e/secret.json",
        "%252e%252e/secret.json",
        "x/../../secret.json",
        "....//secret.json",
        "link.json",
        "linked/secret.json",
        "circle.json",
        "%00.json",
        "x" * 5000 + ".json",
        "..%5csecret.json",
    ],
)
def test_no_path_leads_out_of_the_report(path: str, tmp_path: Path, connect: Callable[[Path], Client]) -> None:
    folder = tmp_path / "run"
    (folder / "report").mkdir(parents=True)
    for secret in (tmp_path / "secret.json", folder / "secret.json"):
        secret.write_text("secret")
    (folder / "report" / "link.json").symlink_to(tmp_path / "secret.json")
    (folder / "report" / "linked").symlink_to(tmp_path)
    (folder / "report" / "circle.json").symlink_to("circle.json")
    (folder / "report" / "index.html").write_text("<p>the report</p>")
    client = connect(folder)
    for begun in ("/report/", "/report//", "/", "/trials/"):
        answer = client(begun + path)
        assert answer.status == 404 and b"secret" not in answer.body
    assert client(f"/report/{tmp_path}/secret.json").status == 404
    assert b"the report" in client("/report/index.html").body and b"the report" in client("/report/").body


def test_a_report_that_links_out_of_the_folder_is_not_served(tmp_path: Path, connect: Callable[[Path], Client]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "index.html").write_text("secret")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report").symlink_to(tmp_path / "elsewhere")
    assert connect(tmp_path / "run")("/report/index.html").status == 404


def test_a_log_that_links_out_of_the_folder_is_not_shown(
    synthetic_run: SyntheticRun, tmp_path: Path, connect: Callable[[Path], Client]
) -> None:
    trial_id = synthetic_run.plan(synthetic_run.trial())["trial_id"]
    running_attempt(synthetic_run.folder, trial_id)
    log = attempt_file(synthetic_run.folder, trial_id, 1, ".log")
    client = connect(synthetic_run.folder)
    client()
    log.write_text("epoch 1")
    assert client(f"/trials/{trial_id}.json").json()["log"] == "epoch 1"
    log.unlink()
    (tmp_path / "secret").write_text("secret")
    log.symlink_to(tmp_path / "secret")
    assert client(f"/trials/{trial_id}.json").json()["log"] == ""


def test_only_planned_trials_have_details(filled_run: SyntheticRun, connect: Callable[[Path], Client]) -> None:
    client = connect(filled_run.folder)
    client()
    for trial_id in ("0" * 16, "..%2f..%2fplan", "%2e%2e", "*"):
        assert client(f"/trials/{trial_id}.json").status == 404


def test_the_page_escapes_the_folder_and_its_script_sets_no_html(
    tmp_path: Path, connect: Callable[[Path], Client]
) -> None:
    page = connect(tmp_path / "<script>alert(1)<")("/").body.decode()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;" in page
    script = connect(tmp_path)("/live.js").body.decode()
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert sink not in script


# --- what is shown --------------------------------------------------------------------------------------------------


def test_the_table_equals_that_of_the_report(filled_run: SyntheticRun, connect: Callable[[Path], Client]) -> None:
    state = connect(filled_run.folder)().json()
    (section,) = sections(read_run(filled_run.folder))
    frame = cells_table(section)
    shown = {cell["cell_id"]: cell for cell in state["cells"]}
    assert shown.keys() == set(frame["cell_id"])
    for exact, displayed in zip(records(frame), records(display(frame)), strict=True):
        cell = shown[exact["cell_id"]]
        assert [value or "–" for value in cell["estimates"]] == [
            str(displayed[f"{metric} top-1, {split} (%)"])
            for split in ("validation", "test")
            for metric in ("kNN", "Linear")
        ]
        assert sum(kind == "done" for _, _, kind in cell["trials"]) == exact["seeds_done"]
        assert len(cell["trials"]) == exact["seeds_planned"]
    assert state["state"] == "stopped" and state["planned"] == len(filled_run.planned)
    assert state["counts"] == {"diverged": 1, "done": 55, "failed": 1, "planned": 1}
    assert {one["status"]: one["reason"] for one in state["failures"]} == {
        "diverged": "loss was nan at epoch 7, step 63",
        "failed": "RuntimeError: invented",
    }


@pytest.mark.parametrize("name", NAMES)
def test_method_names_reach_the_page_unchanged(
    name: str, synthetic_run: SyntheticRun, connect: Callable[[Path], Client]
) -> None:
    trial_id = synthetic_run.planned_and_recorded(None, method=name, status="failed", reason=name)
    client = connect(synthetic_run.folder)
    state = client().json()
    assert state["cells"][0]["method"] == name
    assert state["failures"][0]["reason"] == name
    assert client(f"/trials/{trial_id}.json").json()["reason"] == name


def test_a_running_trial_is_shown_with_its_speed_and_loss_curve(
    synthetic_run: SyntheticRun, connect: Callable[[Path], Client]
) -> None:
    trial = synthetic_run.plan(synthetic_run.trial())
    attempt = running_attempt(synthetic_run.folder, trial["trial_id"], step=0, steps=40)
    attempt.report(step=10, steps=40, epoch=2, images_per_second=812.25)
    attempt.beat()
    finished = invented_curves("barlow_twins", 0, epochs=300)
    LiveCurves(trial_folder(synthetic_run.folder, trial["trial_id"])).write(lambda: finished)
    client = connect(synthetic_run.folder)
    state = client().json()
    assert state["state"] == "running" and state["counts"] == {"running": 1}
    (one,) = state["running"]
    assert (one["step"], one["steps"], one["epoch"], one["images_per_second"]) == (10, 40, 2, 812.2)
    assert (one["state"], one["where"], one["attempt"]) == ("running", "slurm 7", 1)
    loss = finished["series"]["loss"]
    assert one["loss"][0] == loss[0] and one["loss"][-1] == loss[-1] and len(one["loss"]) == 60
    assert client(f"/trials/{trial['trial_id']}.json").json()["curves"] == finished
    attempt.end("interrupted")
    assert client.state()["counts"] == {"interrupted": 1} and client.state()["state"] == "stopped"


def test_an_unchanged_folder_gives_304_and_a_new_record_gives_200(
    synthetic_run: SyntheticRun, connect: Callable[[Path], Client]
) -> None:
    synthetic_run.plan(synthetic_run.trial(seed=1))
    synthetic_run.planned_and_recorded(seed=0)
    client = connect(synthetic_run.folder)
    etag = client().headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        again = client(if_none_match=known)
        assert again.status == 304 and again.body == b"" and again.headers["etag"] == etag
    assert client(if_none_match='"other"').status == 200
    synthetic_run.record(synthetic_run.trial(seed=1))
    changed = client(if_none_match=etag)
    assert changed.status == 200 and changed.json()["counts"] == {"done": 2}
    assert changed.json()["state"] == "finished"


def test_readers_share_one_poll_and_do_not_wait_for_it(
    synthetic_run: SyntheticRun, connect: Callable[[Path], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(synthetic_run.folder)
    polls = []

    def slow_poll(self: Any) -> Any:
        polls.append(1)
        time.sleep(0.5)
        return server.Snapshot("waiting")

    monkeypatch.setattr(server.RunView, "poll", slow_poll)
    monkeypatch.setattr(server, "PATIENCE_SECONDS", 0.02)
    feed = server.Feed(server.RunView(synthetic_run.folder))

    async def ten() -> float:
        began = time.monotonic()
        await asyncio.gather(*(feed.current() for _ in range(10)))
        return time.monotonic() - began

    assert client.runner.run(ten()) < 0.4
    assert len(polls) == 1


# --- damaged and changing folders -----------------------------------------------------------------------------------


def test_a_folder_may_appear_disappear_and_return(filled_run: SyntheticRun, connect: Callable[[Path], Client]) -> None:
    aside = filled_run.folder.with_name("aside")
    filled_run.folder.rename(aside)
    client = connect(filled_run.folder)
    assert client.state()["state"] == "waiting"
    assert client.state()["problem"] == f"{filled_run.folder}: not a run folder: it has no plan.json"
    aside.rename(filled_run.folder)
    assert client.state()["counts"]["done"] == 55
    filled_run.folder.rename(aside)
    assert client.state()["state"] == "waiting" and client.state()["cells"] == []
    shutil.rmtree(aside / "records")
    aside.rename(filled_run.folder)
    assert client.state()["counts"] == {"planned": 58} and client.state()["state"] == "idle"


def test_a_plan_that_has_grown_is_read_again(synthetic_run: SyntheticRun, connect: Callable[[Path], Client]) -> None:
    synthetic_run.planned_and_recorded()
    client = connect(synthetic_run.folder)
    assert client.state()["state"] == "finished"
    synthetic_run.plan(synthetic_run.trial(seed=5))
    assert client.state()["state"] == "stopped" and client.state()["planned"] == 2


def test_a_torn_record_is_listed_and_read_once_it_is_whole(
    synthetic_run: SyntheticRun, connect: Callable[[Path], Client]
) -> None:
    trial_id = synthetic_run.planned_and_recorded()
    file = record_path(synthetic_run.folder, trial_id)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    client = connect(synthetic_run.folder)
    (failure,) = client.state()["failures"]
    assert failure["status"] == "unreadable" and failure["label"] == file.name
    assert client.state()["counts"] == {"planned": 1}
    file.write_bytes(whole)
    assert client.state()["failures"] == [] and client.state()["counts"] == {"done": 1}


def test_a_failure_that_is_retried_is_no_longer_listed(
    synthetic_run: SyntheticRun, connect: Callable[[Path], Client]
) -> None:
    trial_id = synthetic_run.planned_and_recorded(None, status="failed", reason="RuntimeError: invented")
    client = connect(synthetic_run.folder)
    assert client.state()["counts"] == {"failed": 1}
    record_path(synthetic_run.folder, trial_id).unlink()
    assert client.state()["failures"] == [] and client.state()["counts"] == {"planned": 1}
    synthetic_run.record(synthetic_run.trial())
    assert client.state()["counts"] == {"done": 1}


def test_a_failure_replaced_between_two_polls_is_no_longer_listed(
    synthetic_run: SyntheticRun, connect: Callable[[Path], Client]
) -> None:
    synthetic_run.planned_and_recorded(None, status="failed", reason="RuntimeError: invented")
    client = connect(synthetic_run.folder)
    assert client.state()["counts"] == {"failed": 1}
    synthetic_run.record(synthetic_run.trial())
    assert client.state()["counts"] == {"done": 1} and client.state()["failures"] == []


def test_a_folder_that_replaces_the_first_is_read_as_new(
    synthetic_run: SyntheticRun, connect: Callable[[Path], Client]
) -> None:
    synthetic_run.planned_and_recorded(0.9)
    client = connect(synthetic_run.folder)
    before = client.state()["cells"][0]["estimates"]
    shutil.rmtree(synthetic_run.folder)
    assert client.state()["state"] == "waiting"
    synthetic_run.planned_and_recorded(0.5)
    assert client.state()["cells"][0]["estimates"] != before


@pytest.mark.parametrize(
    "plan",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"axes": [], "protocol": {"hash": "x"}, "trials": [{"trial_id": 1}]}',
        b'{"axes": 3, "protocol": {"hash": []}, "trials": []}',
        b"\xff\xfe\x00",
    ],
)
def test_an_unreadable_plan_is_shown_as_a_problem(
    plan: bytes, tmp_path: Path, connect: Callable[[Path], Client]
) -> None:
    (tmp_path / "plan.json").write_bytes(plan)
    state = connect(tmp_path)().json()
    assert state["state"] == "waiting" and "plan" in state["problem"]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"null",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"status": "running"}',
        b'{"status": "running", "started": 5, "step": "a", "steps": NaN, "host": {"a": 1}, "number": []}',
        b'{"status": "running", "started": "2026-01-01T00:00:00", "step": 1e999, "steps": -3, "machine": 7}',
        b'{"status": "running", "started": "2026-01-01T00:00:00+00:00", "updated": "2999-01-01T00:00:00+00:00",'
        b' "step": 1' + b"0" * 400 + b', "steps": 9, "images_per_second": true, "epoch": -1}',
        b'{"epoch": {"a": 1}, "series": []}',
        b'{"epoch": [1, "x", null], "series": {"loss": ["x", 1e999, null, 3], "y": 5}}',
    ],
)
def test_a_damaged_attempt_or_curves_file_affects_only_its_trial(
    damage: bytes, synthetic_run: SyntheticRun, connect: Callable[[Path], Client]
) -> None:
    synthetic_run.planned_and_recorded(seed=0)
    trial_id = synthetic_run.plan(synthetic_run.trial(seed=1))["trial_id"]
    file = attempt_file(synthetic_run.folder, trial_id, 1)
    file.parent.mkdir(parents=True)
    file.write_bytes(damage)
    client = connect(synthetic_run.folder)
    state = client().json()
    assert state["problem"] == "" and state["counts"]["done"] == 1 and sum(state["counts"].values()) == 2
    running_attempt(synthetic_run.folder, trial_id)
    (file.parent / live_curves.FILE_NAME).write_bytes(damage)
    assert client.state()["counts"] == {"done": 1, "running": 1}
    assert client(f"/trials/{trial_id}.json").status == 200


def test_the_page_changes_no_file_and_opens_no_database(
    filled_run: SyntheticRun, connect: Callable[[Path], Client]
) -> None:
    (filled_run.folder / "results.duckdb").write_bytes(b"no database")
    os.chmod(filled_run.folder / "results.duckdb", 0)
    before = {path: path.stat().st_mtime_ns for path in filled_run.folder.rglob("*")}
    client = connect(filled_run.folder)
    for path in ("/", "/state.json", f"/trials/{filled_run.planned[5]['trial_id']}.json", "/report/index.html"):
        client(path)
    assert {path: path.stat().st_mtime_ns for path in filled_run.folder.rglob("*")} == before


def test_showing_a_run_imports_no_torch() -> None:
    modules = "twinbench.harness.monitor.server, twinbench.harness.monitor.terminal"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


# --- live curves ----------------------------------------------------------------------------------------------------


def test_curves_take_at_most_a_hundredth_of_the_time_and_their_errors_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(live_curves.time, "monotonic", lambda: clock[0])
    curves, calls = LiveCurves(tmp_path / "trial"), []

    def finished() -> dict[str, Any]:
        calls.append(clock[0])
        clock[0] += 0.05  # the cost of a call
        return {"epoch": [len(calls)], "series": {"loss": [1.0]}}

    for _ in range(100):
        curves.write(finished)
        clock[0] += 0.1
    assert len(calls) == 2  # 0.1 s of 10 s
    assert json.loads((tmp_path / "trial" / "curves.json").read_text())["epoch"] == [2]
    (tmp_path / "file").write_text("in the way of the folder")
    LiveCurves(tmp_path / "file").write(dict)
    LiveCurves(tmp_path / "nan").write(lambda: {"loss": float("nan")})
    assert not (tmp_path / "nan" / "curves.json").exists()


def test_a_recorded_trial_leaves_no_live_curves(
    tiny_plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(live_curves, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(live_curves, "LEAST_TIMES_ITS_COST", 0)
    write = LiveCurves.write

    def and_read(self: LiveCurves, finished: Any) -> None:
        write(self, finished)
        shown.append(json.loads(self._file.read_text()))

    monkeypatch.setattr(LiveCurves, "write", and_read)
    planned = tiny_plan("methods=simclr", "baselines=false")
    write_plan(tmp_path, planned)
    trial = planned.trials[0]
    assert run_trial(trial, Surroundings(tmp_path)) == "done"
    assert [one["epoch"] for one in shown] == [[], [1]] and len(shown[1]["series"]["loss"]) == 1
    assert not (trial_folder(tmp_path, trial.trial_id) / "curves.json").exists()
