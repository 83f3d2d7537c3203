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


def test_the_code_of_a_package_without_an_init_file_is_hashed_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a namespace that several distributions share, or a package whose author forgot the file."""
    method, helper = tmp_path / "a" / "lab" / "method.py", tmp_path / "a" / "lab" / "helpers" / "helper.py"
    elsewhere = tmp_path / "b" / "lab" / "large.py"
    for file in (method, helper, elsewhere):
        file.parent.mkdir(parents=True)
        file.write_text("first = 1\n")
    metadata = tmp_path / "a" / "lab_method-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-method\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[twinbench.methods]\nlab = lab.method:Lab\n")
    for folder in ("b", "a"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    caches = (provenance.other_packages, provenance.code_hash, provenance.package_hash)

    def hashes() -> tuple[str, str]:
        for cached in caches:
            cached.cache_clear()
        return provenance.code_hash(), provenance.package_hash()

    try:
        before = hashes()
        assert method.parent in provenance.other_packages() and elsewhere.parent not in provenance.other_packages()
        helper.write_text("second = 2\n")
        assert not set(before) & set(hashes())
        assert (snapshot(tmp_path / "run") / "lab" / "helpers" / "helper.py").read_text() == "second = 2\n"
        assert (snapshot(tmp_path / "run") / "lab" / "method.py").exists()
    finally:
        for cached in caches:
            cached.cache_clear()
