"""Claims: the snapshot of the code holds the package and the packages that add methods to it."""

from pathlib import Path

import pytest
from launching import PLUGINS

from twinbench.harness.launchers.code_snapshot import snapshot
from twinbench.harness.system import provenance


def test_the_snapshot_holds_the_code_of_other_packages_methods_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "misbehaving.py"
    module.write_bytes((PLUGINS / "misbehaving.py").read_bytes())
    monkeypatch.setattr(provenance, "other_packages", lambda: (module,))
    hashes = []
    for content in ("first = 1\n", "second = 2\n"):
        module.write_text(content)
        provenance.code_hash.cache_clear()
        provenance.package_hash.cache_clear()
        hashes.append(provenance.code_hash())
        code = snapshot(tmp_path / "run")
        assert code.name == provenance.package_hash()[:16]
        assert (code / "misbehaving.py").read_text() == content
        assert (code / "twinbench" / "methods" / "byol.py").exists()
    provenance.code_hash.cache_clear()
    provenance.package_hash.cache_clear()
    assert hashes[0] != hashes[1]


def test_the_package_of_an_entry_point_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGINS))
    assert provenance.other_packages.__wrapped__() == (PLUGINS / "misbehaving.py",)
