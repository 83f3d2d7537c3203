"""Claims: `protocol show` prints every value, `diff` those that differ, and `lock` keeps content to its version."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from twinbench.harness.commands.protocol import method_defaults, protocol_app
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.protocol_diff import protocol_values
from twinbench.sweeps.protocol_lock import LOCK, read_lock
from twinbench.sweeps.sweep import read_protocol, shipped_protocols

VERSION = read_protocol("digits-small").version


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(protocol_app, [str(argument) for argument in arguments])


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A protocol of somebody's own."""
    return Path(shutil.copy(shipped_protocols()["digits-small"], tmp_path / "mine.toml"))


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def _row(printed: str, key: str) -> list[str]:
    (line,) = [line for line in printed.splitlines() if line.split("  ")[0] == key]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


@pytest.mark.parametrize("name", shipped_protocols())
def test_show_prints_name_version_hash_state_and_every_value(name: str) -> None:
    printed = _call("show", name)
    protocol = read_protocol(name)
    assert printed.exit_code == 0
    first, second, *rest = printed.output.splitlines()
    assert (first, second) == (f"{name} v{protocol.version} (locked)", protocol.hash)
    for line in (*protocol.changelog, *protocol.not_restated):
        assert f"  {line}" in rest
    keys = [line.split()[0] for line in rest if line]
    for value in protocol_values(protocol, method_defaults()):
        assert keys.count(value.key) == 1


def test_show_prints_what_a_sweep_may_vary_and_who_set_the_value() -> None:
    printed = _call("show", "digits-small").output
    assert _row(printed, "training.momentum")[1:] == ["0.9", "fixed", "protocol"]
    assert _row(printed, "training.clip_gradient_norm")[1:] == ["none", "fixed", "protocol"]
    off_diagonal = _row(printed, "methods.barlow_twins.off_diagonal_weight")
    assert off_diagonal[1:] == ["0.0051", "may be varied, 1e-05 to 1", "protocol"]
    assert _row(printed, "methods.vicreg.covariance_weight")[1:] == ["1.0", "may be varied, 0 to 1000", "method"]


def test_the_methods_defaults_are_those_of_their_configs() -> None:
    assert method_defaults()["vicreg"]["covariance_weight"] == 1.0
    assert set(read_protocol("digits-small").methods) <= set(method_defaults())


def test_diff_exits_with_0_where_only_prose_differs(own: Path) -> None:
    _change(own, "1,797 scanned digits", "Scanned digits")
    equal = _call("diff", "digits-small", own)
    assert (equal.exit_code, equal.output) == (0, "")


def test_show_and_diff_escape_control_characters(own: Path) -> None:
    _change(own, "1,797 scanned", "\\u001b[31m1,797 scanned")
    _change(own, 'name = "small_resnet"', 'name = "\\u0007small"')
    for done in (_call("show", own), _call("diff", "digits-small", own)):
        assert "\\x07small" in done.output and all(c.isprintable() or c == "\n" for c in done.output)


def test_diff_prints_the_keys_that_differ_with_both_values_and_exits_with_1(own: Path) -> None:
    _change(own, "epochs = 12", "epochs = 13")
    _change(own, "[methods.vicreg]\nprojector_width = 256", "[methods.vicreg]")
    different = _call("diff", "digits-small", own)
    assert different.exit_code == 1
    head, *rows = different.output.splitlines()
    assert head.split() == ["key", "digits-small", str(own)]
    assert [row.split() for row in rows] == [
        ["methods.vicreg.projector_width", "256", "(absent)"],
        ["training.epochs", "12", "13"],
    ]


def test_lock_writes_a_lock_next_to_ones_own_protocol_once(own: Path) -> None:
    assert f"digits-small v{VERSION}" in _call("lock", own).output
    written = own.with_name(LOCK).stat().st_mtime_ns
    assert read_lock(own.with_name(LOCK)) == {"digits-small": {str(VERSION): read_protocol("digits-small").hash}}
    assert _call("show", own).output.splitlines()[0] == f"digits-small v{VERSION} (locked)"
    assert "nothing new" in _call("lock", own).output
    assert own.with_name(LOCK).stat().st_mtime_ns == written


def test_lock_refuses_content_that_changed_under_its_version_and_writes_nothing(own: Path) -> None:
    _call("lock", own)
    before = own.with_name(LOCK).read_bytes()
    other = Path(shutil.copy(shipped_protocols()["cifar10-small"], own.with_name("other.toml")))
    _change(own, "epochs = 12", "epochs = 13")
    refused = _call("lock", own, other)
    assert isinstance(refused.exception, InvalidInput)  # for which the command line ends with exit code 2
    assert f"digits-small: version {VERSION} is locked with other content" in str(refused.exception)
    assert own.with_name(LOCK).read_bytes() == before
    assert "(locked with other content)" in _call("show", own).output
    _change(own, f"version = {VERSION}", f"version = {VERSION + 1}")
    added = f"cifar10-small v4, digits-small v{VERSION + 1}"
    assert _call("lock", own, other).output == f"{own.with_name(LOCK)}: {added}\n"


def test_lock_reports_the_mistakes_of_all_folders_at_once_and_writes_none(own: Path, tmp_path: Path) -> None:
    (tmp_path / "fine").mkdir()
    fine = Path(shutil.copy(own, tmp_path / "fine" / "p.toml"))
    (tmp_path / "broken").mkdir()
    broken = Path(shutil.copy(own, tmp_path / "broken" / "p.toml"))
    _change(broken, "epochs = 12", "epochs = -1")
    _call("lock", own)
    _change(own, "epochs = 12", "epochs = 13")
    refused = _call("lock", fine, broken, own)
    assert isinstance(refused.exception, InvalidInput)
    assert len(refused.exception.mistakes) == 2
    assert not fine.with_name(LOCK).exists()
