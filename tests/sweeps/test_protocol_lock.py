"""Claims: a protocol's content cannot change under its version, for those that are shipped and for anybody's own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.protocol import Protocol
from twinbench.sweeps.protocol_lock import LOCK, lock_text, locked, read_lock, state_in_lock
from twinbench.sweeps.sweep import SHIPPED, read_protocol, read_sweep, shipped_protocols

VERSION = read_protocol("digits-small").version


def _protocols(folder: Path) -> list[Protocol]:
    return [read_protocol(str(path)) for path in sorted(folder.glob("*.toml"))]


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """The shipped protocols and their lock, for a test to change."""
    return Path(shutil.copytree(SHIPPED / "protocols", tmp_path / "protocols"))


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_every_shipped_protocol_is_locked_with_the_content_it_has() -> None:
    """If this fails: content changed under a version (give it a new one), or `twinbench protocol lock` is due."""
    lock = read_lock(SHIPPED / "protocols" / LOCK)
    assert locked(lock, _protocols(SHIPPED / "protocols"), LOCK) == lock
    assert (SHIPPED / "protocols" / LOCK).read_text() == lock_text(lock)


def test_every_shipped_protocol_says_what_its_version_changed() -> None:
    for name in shipped_protocols():
        protocol = read_protocol(name)
        assert [int(line.partition(":")[0]) for line in protocol.changelog] == list(range(1, protocol.version + 1))


def test_content_that_changes_without_a_new_version_is_refused_by_name(copies: Path) -> None:
    _change(copies / "digits-small.toml", "epochs = 12", "epochs = 13")
    _change(copies / "cifar10-small.toml", "hue = 0.1", "hue = 0.2")
    _change(copies / "cifar10-r18-200ep.toml", "CIFAR-10, ResNet-18", "CIFAR-10, a ResNet-18")  # prose
    with pytest.raises(InvalidInput) as caught:
        locked(read_lock(copies / LOCK), _protocols(copies), LOCK)
    assert [mistake.key for mistake in caught.value.mistakes] == ["cifar10-small", "digits-small"]
    assert "a change needs a new version" in str(caught.value) and f"or version {VERSION + 1}" in str(caught.value)


def test_a_new_version_is_added_and_the_old_ones_stay(copies: Path) -> None:
    before = read_lock(copies / LOCK)
    _change(copies / "digits-small.toml", "epochs = 12", "epochs = 13")
    _change(copies / "digits-small.toml", f"version = {VERSION}", f"version = {VERSION + 1}")
    after = locked(before, _protocols(copies), LOCK)
    assert after["digits-small"].items() > before["digits-small"].items()
    assert set(after["digits-small"]) == {*before["digits-small"], str(VERSION + 1)}
    assert {**after, "digits-small": 0} == {**before, "digits-small": 0}


def test_a_version_that_comes_back_with_other_content_is_refused(copies: Path) -> None:
    old = replace(read_protocol(str(copies / "digits-small.toml")), version=1)
    assert state_in_lock(read_lock(copies / LOCK), old) == "locked with other content"
    with pytest.raises(InvalidInput):
        locked(read_lock(copies / LOCK), [old], LOCK)


def test_two_contents_of_one_name_and_version_cannot_both_be_locked() -> None:
    protocol = read_protocol("digits-small")
    with pytest.raises(InvalidInput, match="other content"):
        locked({}, [protocol, replace(protocol, margin=0.02)], LOCK)


def test_a_lock_writes_versions_by_number_and_reads_back(tmp_path: Path) -> None:
    lock = {"b": {"10": "x", "9": "y"}, "a": {"1": "z"}}
    (tmp_path / LOCK).write_text(lock_text(lock))
    assert read_lock(tmp_path / LOCK) == lock
    assert list(json.loads(lock_text(lock))["b"]) == ["9", "10"]
    assert read_lock(tmp_path / "none") == {}


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[" * 9000,
        "[1]",
        '{"a": 1}',
        '{"a": {"1": 2}}',
        '{"a": {"one": "x"}}',
        f'{{"a": {{"{"1" * 5000}": "x"}}}}',
        "\xff",
    ],
)
def test_what_is_no_lock_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK).write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInput, match="is not a lock file"):
        read_lock(tmp_path / LOCK)


def test_no_sweep_runs_under_a_protocol_that_was_changed_since_it_was_locked(tmp_path: Path) -> None:
    shipped = (SHIPPED / "protocols" / "digits-small.toml").read_text()
    (tmp_path / "mine.toml").write_text(shipped.replace('name = "digits-small"', 'name = "mine"'))
    sweep = tmp_path / "sweep.toml"
    sweep.write_text('question = "q"\nprotocol = "./mine.toml"\nseeds = [0]\n[[grids]]\nmethods = ["simclr"]\n')
    (tmp_path / LOCK).write_text(lock_text(locked({}, [read_sweep(str(sweep))[1]], LOCK)))
    assert read_sweep(str(sweep))[1].name == "mine"
    for name in ("mine", "digits-small"):  # a lock beside it, and that of the shipped protocol whose name it bears
        changed = shipped.replace('name = "digits-small"', f'name = "{name}"').replace("margin = 0.01", "margin = 0.02")
        (tmp_path / "mine.toml").write_text(changed)
        with pytest.raises(InvalidInput, match="a change needs a new version"):
            read_sweep(str(sweep))
