"""Claims: a bundle is one deterministic archive without secrets; anything else is refused and harms nothing."""

import gzip
import hashlib
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from bundling import GenuineRun, as_json, genuine_run, members_of, packed

from twinbench.results.bundles import write
from twinbench.results.bundles.members import kind_of
from twinbench.results.bundles.read import Limits, read_json, unpack
from twinbench.results.bundles.write import Bundled, rendered_with, write_bundle
from twinbench.sweeps import toml_reader
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.sweep import MOST_TRIALS

TOKEN = "ghp_" + "a1B2c3D4e5" * 4  # of the form of one, and nobody's
LINKED = ("claims-x.toml", "declarations.jsonl")
Entry = tuple[tarfile.TarInfo, bytes]


def no_report(_: Path) -> dict[str, bytes]:
    return {"report/tables/methods.csv": b"method\n"}


def bundled(run: GenuineRun, name: str = "bundle.tar.gz") -> Bundled:
    return write_bundle(run.folder, run.folder.parent / name, no_report)


@pytest.fixture
def run(tmp_path: Path) -> GenuineRun:
    return genuine_run(tmp_path / "run", seeds=1)


def state(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- writing --------------------------------------------------------------------------------------------------------


def test_a_bundle_holds_what_the_run_folder_holds_and_a_manifest_of_it(run):
    (run.folder / "claims-main.toml").write_text("# claims")
    (run.folder / "declarations.jsonl").write_text("{}\n")
    (run.folder / "results.duckdb").write_text("a database")
    (run.folder / "trials" / run.ids[0] / "attempt-0001.log").write_text("a log")
    before = state(run.folder)
    bundle = bundled(run)
    assert state(run.folder) == before
    members = members_of(bundle.path)
    kept = [name for name in before if name.startswith(("records/", "artefacts/", "claims", "declarations", "plan"))]
    assert {name: members[name] for name in kept} == {name: before[name] for name in kept}
    own = {"MANIFEST.json", "attempts.json", "environment.json", "report/tables/methods.csv"}
    assert members.keys() == own | {*kept, f"protocols/{run.protocol.hash}.json"}
    assert json.loads(members[f"protocols/{run.protocol.hash}.json"])["content"]["name"] == "digits-small"
    assert list(members) == sorted(members)
    assert bundle.members == len(members)
    assert bundle.digest == hashlib.sha256(members["MANIFEST.json"]).hexdigest()
    stated = json.loads(members.pop("MANIFEST.json"))["members"]
    assert stated == {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in members.items()
    }


def test_equal_folders_give_equal_bytes_at_any_time_and_place(run, tmp_path):
    first = bundled(run)
    os.utime(run.folder / "plan.json", (1, 1))
    again = genuine_run(tmp_path / "elsewhere" / "run", seeds=1)
    second = write_bundle(again.folder, tmp_path / "new" / "folder" / "b.tar.gz", no_report)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.digest == second.digest
    with tarfile.open(first.path) as archive:
        assert {(member.mtime, member.uid, member.uname, member.mode) for member in archive} == {(0, 0, "", 0o644)}
    assert first.path.read_bytes()[4:8] == bytes(4)  # no time in gzip's header


def test_every_attempt_is_listed_without_the_machine_that_made_it(run):
    lost = run.trials[1]
    run.attempt(lost, "failed", 2, "out of memory")
    (run.folder / "trials" / lost.trial_id / "attempt-0003.json").write_bytes(b"")  # began, and could not say more
    (run.folder / "trials" / lost.trial_id / "attempt-0001.record.json").write_bytes(b"{}")
    (run.folder / "trials" / "notes").mkdir()
    text = members_of(bundled(run).path)["attempts.json"]
    attempts = [one for one in json.loads(text) if one["trial_id"] == lost.trial_id]
    assert [(one["number"], one["status"], one["reason"]) for one in attempts] == [
        (1, "done", ""),
        (2, "failed", "out of memory"),
        (3, "", ""),
    ]
    assert b"invented" not in text


def test_no_bundle_is_made_without_an_attempt_that_cannot_be_read(run):
    attempt = run.folder / "trials" / run.ids[0] / "attempt-0002.json"
    attempt.write_text('{"status": "diverged"')
    with pytest.raises(InvalidInput, match=r"attempt-0002\.json: cannot be read: the file is not JSON"):
        bundled(run)
    attempt.unlink()
    attempt.mkdir()
    with pytest.raises(InvalidInput, match=r"attempt-0002\.json: cannot be read: Is a directory"):
        bundled(run)
    shutil.rmtree(attempt.parent)
    attempt.parent.touch()
    with pytest.raises(InvalidInput, match=rf"trials/{run.ids[0]}: cannot be read: Not a directory"):
        bundled(run)


def test_the_environment_lists_the_trials_of_each_device(run):
    run.record(run.trials[1], device="another")
    environment = json.loads(members_of(bundled(run).path)["environment.json"])
    assert {one["device"]: one["trials"] for one in environment} == {"cpu": [run.ids[0]], "another": [run.ids[1]]}
    assert {one["code_hash"] for one in environment} == {"d" * 64}


def test_every_reason_why_a_folder_cannot_be_bundled_is_reported_at_once(run, tmp_path):
    torn, broken = (run.folder / "records" / f"{trial_id}.json" for trial_id in run.ids)
    curves = json.loads(broken.read_text())["result"]["curves"]["file"]
    (run.folder / curves).unlink()
    torn.write_text("{")
    (run.folder / "claims (last).toml").write_text(f"# {TOKEN}")
    with pytest.raises(InvalidInput) as caught:
        bundled(run)
    errors = str(caught.value)
    for words in (
        torn.name,
        "not JSON",
        curves,
        "cannot be read",
        "claims (last).toml",
        "not a name for a member",
        "GitHub",
    ):
        assert words in errors
    assert TOKEN not in errors
    assert not (tmp_path / "bundle.tar.gz").exists()


def test_a_place_where_no_bundle_can_be_is_refused_before_any_work(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    reasons = dict.fromkeys(("pipe", "link"), "is there, and only a regular file is replaced")
    for name, reason in (reasons | {"folder": "Is a directory", "file/b.tar.gz": "Not a directory"}).items():
        with pytest.raises(InvalidInput, match=f"{name}: cannot be written: .*{reason}"):
            write_bundle(run.folder, tmp_path / name, lambda _: pytest.fail("made a report"))
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "link").is_symlink()


def test_texts_that_are_links_are_named_and_not_put_into_a_bundle(run, tmp_path):
    (tmp_path / "private").write_text("name = 'not for reviewers'\n")
    for name in LINKED:
        (run.folder / name).symlink_to(tmp_path / "private")
    with pytest.raises(InvalidInput) as caught:
        bundled(run)
    expected = [f"{run.folder / name}: is reached through a symbolic link, which is not followed" for name in LINKED]
    assert str(caught.value).splitlines() == expected


def deep_circumstance(run: GenuineRun) -> None:
    nested: object = 1
    for _ in range(51):
        nested = [nested]
    run.record(run.trials[0], nested=nested)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (deep_circumstance, r"records/\w+\.json: cannot be read as JSON: lists and tables are nested too deep"),
        (
            lambda run: (run.folder / "claims.toml").write_text("#" * (2**20 + 1)),
            "claims.toml: has 1048577 bytes by its header; allowed: at most 1048576",
        ),
    ],
)
def test_what_a_reader_would_refuse_is_not_written(run, tmp_path, change, problem):
    change(run)
    with pytest.raises(InvalidInput, match=f"run: cannot be bundled, since its bundle would be refused: .*{problem}"):
        bundled(run)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_largest_sweep_fits_into_a_bundle():
    name, size = f"artefacts/{'0' * 64}.safetensors", 10**9
    entry = as_json({"members": {name: {"sha256": "0" * 64, "size": size}}})
    members = Limits().members
    assert members > 3 * MOST_TRIALS and members * len(entry) < kind_of("MANIFEST.json").most_bytes
    assert kind_of("claims.toml").most_bytes == toml_reader.LARGEST


def test_claims_files_whose_names_differ_only_in_capitals_are_refused(run):
    for name in ("claims-a.toml", "claims-A.toml"):
        (run.folder / name).write_text("")
    with pytest.raises(InvalidInput, match="only in capitals"):
        bundled(run)


def test_a_folder_without_a_plan_is_not_bundled(tmp_path):
    with pytest.raises(InvalidInput, match=r"not a run folder: it has no plan\.json"):
        write_bundle(tmp_path, tmp_path / "b", no_report)
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(InvalidInput, match=r"its plan\.json is not a plan"):
        write_bundle(tmp_path, tmp_path / "b", no_report)


def test_files_in_records_that_are_not_records_are_left_out_and_named(run):
    (run.folder / "records" / "notes.txt").write_text("mine")
    assert bundled(run).left_out == ("records/notes.txt",)


def test_a_secret_is_redacted_where_no_digest_covers_it(run):
    run.record(run.trials[0], traceback=f'File "a.py"\n  login(token="{TOKEN}")')
    run.attempt(run.trials[1], "done", reason="password=hunter2hunter2")
    bundle = bundled(run)
    assert bundle.redacted == (f"records/{run.ids[0]}.json", "attempts.json")
    members = members_of(bundle.path)
    assert not [name for name, data in members.items() if TOKEN.encode() in data or b"hunter2" in data]
    record = json.loads(members[f"records/{run.ids[0]}.json"])
    assert record["circumstance"]["traceback"] == 'File "a.py"\n  login(token="[a GitHub token]")'
    before = json.loads((run.folder / "records" / f"{run.ids[0]}.json").read_text())
    assert record["result"] == before["result"] and TOKEN in before["circumstance"]["traceback"]


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "AKIA" + "A1B2C3D4E5F6G7H8",
        "hf_" + "aB3" * 11,
        "sk-proj-" + "aB3" * 11,
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "https://user:hunter2@example.org/x",
        "WANDB_API_KEY=" + "0123456789abcdef" * 2,
        "Authorization: Bearer abcdefgh12345678",
    ],
)
def test_a_secret_elsewhere_keeps_the_bundle_from_being_made(run, secret):
    (run.folder / "claims.toml").write_text(f"# first line\n# {secret}\n")
    with pytest.raises(InvalidInput) as caught:
        bundled(run)
    assert str(caught.value).startswith("claims.toml: line 2: holds what looks like")
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "harmless",
    [
        "c" * 40,
        "sha256:" + "1" * 64,
        'token = os.environ["HF_TOKEN"]',
        "tokens = tokenizer(text, max_length=128)",
        "KeyError: 'api_key'",
        "https://example.org:8080/a@b",
        "the secret: more epochs",
    ],
)
def test_digests_code_and_prose_are_not_secrets(run, harmless):
    (run.folder / "claims.toml").write_text(f"# {harmless}\n")
    assert bundled(run).redacted == ()


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return bundled(genuine_run(tmp_path_factory.mktemp("honest") / "run", seeds=1)).path.read_bytes()


@pytest.fixture
def bundle(honest, tmp_path) -> Path:
    (tmp_path / "bundle.tar.gz").write_bytes(honest)
    return tmp_path / "bundle.tar.gz"


def test_what_was_written_is_read_back_byte_for_byte(bundle, tmp_path):
    unpacked = unpack(bundle, tmp_path / "out")
    members = members_of(bundle)
    assert unpacked.digest == hashlib.sha256(members.pop("MANIFEST.json")).hexdigest()
    assert {name: unpacked.file(name).read_bytes() for name in unpacked.found} == members
    assert unpacked.found == unpacked.stated
    run_folder = {"plan.json", *(name for name in members if name.startswith(("records/", "artefacts/")))}
    assert set(state(unpacked.run_folder)) == run_folder


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **values: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in values.items():
        setattr(info, key, value)
    return info, data


def archive(path: Path, *entries: Entry) -> Path:
    """A tar.gz of Python's own making, a manifest first."""
    manifest = as_json({"schema": 1, "members": {}, "rendered_with": {}})
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as file:
        for info, data in (entry("MANIFEST.json", manifest), *entries):
            file.addfile(info, io.BytesIO(data))
    return path


WIDE = Limits()
SMALL = Limits(members=4, total_bytes=100_000, ratio=20, free_bytes=10_000)


def refused(path: Path, folder: Path, limits: Limits = WIDE) -> str:
    """Return why the archive is not a bundle. Nothing may be left beside the folder that it was unpacked to."""
    before = state(folder)
    with pytest.raises(InvalidInput) as caught:
        unpack(path, folder / "out" / secrets.token_hex(4), limits)
    after = {name: data for name, data in state(folder).items() if not name.startswith("out/")}
    assert after == {name: data for name, data in before.items() if not name.startswith("out/")}
    assert not [place for place in (folder / "out").rglob("*") if place.is_symlink()]
    return str(caught.value)


HOSTILE: dict[str, tuple[Entry, str]] = {
    "a path upwards": (entry("../plan.json", b"{}"), "not a name for a member of a bundle"),
    "a path upwards within": (entry("records/../../plan.json", b"{}"), "not a name for a member of a bundle"),
    "an absolute path": (entry("/tmp/plan.json", b"{}"), "not a name for a member of a bundle"),
    "a drive": (entry("C:plan.json", b"{}"), "not a name for a member of a bundle"),
    "a backslash": (entry("records\\..\\plan.json", b"{}"), "not a name for a member of a bundle"),
    "a symbolic link": (entry("plan.json", kind=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a symbolic link"),
    "a hard link": (entry("plan.json", kind=tarfile.LNKTYPE, linkname="/etc/passwd"), "is a hard link"),
    "a folder": (entry("records", kind=tarfile.DIRTYPE), "is a folder"),
    "a device": (entry("plan.json", kind=tarfile.CHRTYPE, devmajor=1, devminor=3), "is a device"),
    "a pipe": (entry("plan.json", kind=tarfile.FIFOTYPE), "is a pipe"),
    "a sparse file": (entry("plan.json", b"{}", kind=tarfile.GNUTYPE_SPARSE), "its header is not one"),
    "a contiguous file": (entry("plan.json", b"{}", kind=tarfile.CONTTYPE), "its header is not one"),
    "an executable": (entry("plan.json", b"{}", mode=0o755), "its header is not one"),
    "an owner": (entry("plan.json", b"{}", uid=1000, uname="me"), "its header is not one"),
    "a time": (entry("plan.json", b"{}", mtime=1700000000), "its header is not one"),
    "a foreign database": (entry("results.duckdb", b"DUCK"), "not a name for a member of a bundle"),
    "a pickle": (entry("trials/0123456789abcdef/state.pt", b"x"), "not a name for a member of a bundle"),
    "code": (entry("harness/worker.py", b"x"), "not a name for a member of a bundle"),
    "capitals in an id": (entry("records/ABCDEF0123456789.json", b"{}"), "not a name for a member of a bundle"),
    "a second manifest": (entry("MANIFEST.json", b"{}"), "appears twice"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_but_a_plain_file_of_a_known_name_is_refused(tmp_path, name):
    hostile, problem = HOSTILE[name]
    assert problem in refused(archive(tmp_path / "b.tar.gz", hostile), tmp_path)


@pytest.mark.parametrize(
    ("first", "second"),
    [("plan.json", "plan.json"), ("claims-a.toml", "claims-A.toml"), ("plan.json", "attempts.json")],
)
def test_names_that_come_twice_or_differ_only_in_capitals_or_come_out_of_order_are_refused(tmp_path, first, second):
    path = archive(tmp_path / "b.tar.gz", entry(first, b"1"), entry(second, b"2"))
    assert f"{second}: appears twice, or out of order" in refused(path, tmp_path)


def test_names_that_only_differ_in_capitals_are_refused_in_order_too(tmp_path):
    path = archive(tmp_path / "b.tar.gz", entry("claims-A.toml", b"1"), entry("claims-a.toml", b"2"))
    assert "differs from another only in capitals" in refused(path, tmp_path)


def test_long_names_and_their_headers_are_refused_unread(tmp_path):
    start = gzip.decompress(archive(tmp_path / "b.tar.gz").read_bytes())[: 2 * 512]  # the manifest
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        headers = tarfile.TarInfo("records/" + "a" * 300 + ".json").tobuf(form)
        (tmp_path / "b.tar.gz").write_bytes(gzip.compress(start + headers + bytes(1024)))
        assert "not a name for a member of a bundle" in refused(tmp_path / "b.tar.gz", tmp_path)


def test_escapes_in_names_are_printed_harmlessly(tmp_path):
    error = refused(archive(tmp_path / "b.tar.gz", entry("records/\x1b[2J<script>.json", b"{}")), tmp_path)
    assert "\x1b" not in error and "\\x1b[2J" in error


def test_a_decompression_bomb_is_refused_early(tmp_path):
    path = archive(tmp_path / "b.tar.gz", entry("plan.json", bytes(90_000)))
    assert "grows to more than 20 times" in refused(path, tmp_path, SMALL)
    taken = sum(len(data) for name, data in state(tmp_path).items() if name.startswith("out/"))
    assert taken <= 20_000


def test_no_more_is_read_than_the_limits_allow(tmp_path):
    noise = os.urandom(90_000)
    path = archive(tmp_path / "b.tar.gz", entry("plan.json", noise), entry("records/" + "a" * 16 + ".json", noise))
    assert "holds more than 100000 bytes" in refused(path, tmp_path, SMALL)
    many = [entry(f"records/{number:016x}.json", b"{}") for number in range(5)]
    assert "holds more than 4 members" in refused(archive(tmp_path / "c.tar.gz", *many), tmp_path, SMALL)


def test_a_wrong_size_in_a_header_is_refused(tmp_path):
    huge = tarfile.TarInfo("plan.json")
    huge.size = 2**40  # in the binary form that large sizes have
    for form, problem in ((tarfile.GNU_FORMAT, "at most"), (tarfile.USTAR_FORMAT, "ends too early")):
        huge.size = 2**40 if form == tarfile.GNU_FORMAT else 2**20
        block = bytes(huge.tobuf(form))
        whole = gzip.decompress(archive(tmp_path / "b.tar.gz").read_bytes())[: 2 * 512]
        (tmp_path / "b.tar.gz").write_bytes(gzip.compress(whole + block + bytes(512)))
        assert problem in refused(tmp_path / "b.tar.gz", tmp_path)


def spoilt(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.write_bytes(b""), "ends too early"),
        (lambda path: path.write_bytes(b"PK\x03\x04 a zip"), "not a whole gzip file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "ends too early"),
        (lambda path: path.write_bytes(path.read_bytes() + b"more"), "something follows"),
        (lambda path: path.write_bytes(path.read_bytes() * 2), "something follows"),
        (lambda path: path.write_bytes(path.read_bytes()[:-8] + bytes(8)), "not a whole gzip file"),
        (spoilt(lambda tar: tar[:-512]), "ends too early"),
        (spoilt(lambda tar: tar + bytes(512)), "something follows"),
        (spoilt(lambda tar: tar[:-512] + b"x" * 512), "its end is not that of an archive"),
        (spoilt(lambda tar: b"x" * 512 + tar), "a header is not one"),
        (spoilt(lambda tar: tar.replace(b"plan.json\0", b"plan.jsom\0")), "a header is not one"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file"),
    ],
)
def test_a_file_that_is_not_a_whole_archive_is_refused(bundle, tmp_path, damage, problem):
    damage(bundle)
    with pytest.raises(InvalidInput) as caught:
        unpack(bundle, tmp_path / "out")
    assert problem in str(caught.value)


def test_something_that_follows_just_where_a_piece_of_the_file_ends_is_refused_too(bundle, tmp_path):
    data = bundle.read_bytes()
    extra = bytes(2**16 - len(data) - 2)  # gzip's header may hold any, so that the archive is as long as one piece
    header = data[:3] + b"\x04" + data[4:10] + len(extra).to_bytes(2, "little") + extra
    bundle.write_bytes(header + data[10:])
    assert len(bundle.read_bytes()) == 2**16 and unpack(bundle, tmp_path / "whole").found
    bundle.write_bytes(header + data[10:] + b"more")
    assert "something follows" in refused(bundle, tmp_path)


def test_something_hidden_between_members_is_refused(bundle, tmp_path):
    tar = bytearray(gzip.decompress(bundle.read_bytes()))
    size = len(members_of(bundle)["MANIFEST.json"])
    tar[512 + size] = ord("x")
    bundle.write_bytes(gzip.compress(bytes(tar)))
    assert "there is something between" in refused(bundle, tmp_path)


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (b"{", "not a manifest"),
        (b"[]", "not a manifest"),
        (b"{}", "not a manifest"),
        (b"[" * 100_000, "not a manifest"),
        (
            b'{"schema": 1, "members": {"plan.json": {"sha256": "x", "size": 1}}, "rendered_with": {}}',
            "not a manifest",
        ),
        (b'{"schema": 1, "members": {"a": {"sha256": 1, "size": 1}}, "rendered_with": {}}', "not a manifest"),
        (b'{"schema": 1, "members": {}, "rendered_with": {"numpy": 2}}', "not a manifest"),
        (b'{"schema": 2, "members": {}, "rendered_with": {}}', "schema 2"),
        (b'{"schema": "\\u001b[2J", "members": {}, "rendered_with": {}}', "\\x1b[2J"),
    ],
)
def test_a_file_that_is_not_a_manifest_is_refused(bundle, tmp_path, manifest, problem):
    path = packed(members_of(bundle) | {"MANIFEST.json": manifest}, tmp_path / "b.tar.gz", mend=False)
    error = refused(path, tmp_path)
    assert problem in error and "\x1b" not in error


def test_a_bundle_without_its_manifest_first_is_refused(bundle, tmp_path):
    members = members_of(bundle)
    del members["MANIFEST.json"]
    assert "is not its first member" in refused(packed(members, tmp_path / "b.tar.gz", mend=False), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 51 + "]" * 51,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 51 + "1" + "}" * 51,
        "9223372036854775808",
        "-9223372036854775809",
        "1" * 5000,
        "1e999",
        "NaN",
        "-Infinity",
        '{"a": 1, "a": 2}',
        "\ufeff{}",
        "",
    ],
)
def test_json_that_could_crash_its_reader_is_refused(text):
    with pytest.raises(ValueError):
        read_json(text.encode())


def test_ordinary_json_is_read():
    text = "[" * 50 + "]" * 50
    assert read_json(text.encode()) == json.loads(text)
    assert read_json(b'{"a": [1, -2.5e300, true, null, "x"], "b": 9223372036854775807}') == {
        "a": [1, -2.5e300, True, None, "x"],
        "b": 2**63 - 1,
    }


def test_bundles_are_written_and_read_without_torch_and_without_the_report():
    modules = "twinbench.results.bundles.write, twinbench.results.bundles.read, twinbench.results.bundles.contents"
    program = f"import sys, {modules}; sys.exit(any(name in sys.modules for name in ('torch', 'plotly', 'duckdb')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_hash_of_the_code_that_renders_covers_its_three_rooms(monkeypatch):
    read, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    code = rendered_with.__wrapped__()["code"]
    package = Path(write.__file__).resolve().parents[2]
    rooms = {path.relative_to(package).parts[0] for path in read if path.is_relative_to(package)}
    assert rooms == {"reports", "results", "sweeps"} and len(read) > 50
    monkeypatch.setattr(Path, "read_bytes", lambda path: read_bytes(path) + b" " * (path.name == "cells.py"))
    assert rendered_with.__wrapped__()["code"] != code
