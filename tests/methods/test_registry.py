"""Names lead to methods; an unknown name gives an error with the nearest and all names; another package can add one."""

import importlib.metadata
import pickle
from collections.abc import Callable, Iterator

import pytest

from twinbench.methods import names
from twinbench.methods.method import Method
from twinbench.methods.names import UnknownMethod, UnusableMethod
from twinbench.methods.registry import BASELINES, METHODS, get_method


class Outsider(Method):
    """Stands for a method of another package."""

    name = "outsider"
    version = 3


class Mislabelled(Method):
    name = "another"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`install(name="Class")` makes this module's class look like an installed package's method."""

    def install(**methods: str) -> None:
        points = [
            importlib.metadata.EntryPoint(name, f"{__name__}:{target}", names.ENTRY_POINTS)
            for name, target in methods.items()
        ]
        monkeypatch.setattr(names, "entry_points", lambda group: points if group == "twinbench.methods" else [])
        monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda point: globals()[point.attr])
        names.outside_methods.cache_clear()

    yield install
    names.outside_methods.cache_clear()


def test_every_name_leads_to_the_method_that_bears_it() -> None:
    assert list(METHODS) == ["barlow_twins", "byol", "simclr", "vicreg"]
    assert list(BASELINES) == ["raw_pixels", "untrained"]
    for name, method in (METHODS | BASELINES).items():
        assert method.name == name
        assert get_method(name) is method
        assert method.version >= 1


def test_an_unknown_name_is_told_the_nearest_and_all() -> None:
    with pytest.raises(UnknownMethod) as caught:
        get_method("barlow_twin")
    text = str(caught.value)
    assert "unknown method 'barlow_twin'; did you mean 'barlow_twins'?" in text
    assert all(name in text for name in METHODS | BASELINES)
    assert isinstance(caught.value, ValueError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == text  # workers send errors to their parent


def test_a_name_like_no_other_is_told_all_and_no_nearest() -> None:
    with pytest.raises(UnknownMethod, match=r"^unknown method 'zzz'; Known: barlow_twins, "):
        get_method("zzz")


def test_a_method_of_another_package_is_found_by_its_entry_point(install: Callable[..., None]) -> None:
    install(outsider="Outsider")
    assert get_method("outsider") is Outsider
    with pytest.raises(UnknownMethod, match=r"did you mean 'outsider'\? Known: .*vicreg.*outsider"):
        get_method("outsiders")


def test_an_entry_point_that_leads_to_no_method_of_its_name_is_named(install: Callable[..., None]) -> None:
    install(outsider="Mislabelled", function="test_every_name_leads_to_the_method_that_bears_it")
    for name in ("outsider", "function"):
        with pytest.raises(UnusableMethod, match=f"is not a Method named '{name}'"):
            get_method(name)


def test_an_entry_point_cannot_stand_in_for_one_of_ours(install: Callable[..., None]) -> None:
    install(byol="Outsider")
    assert get_method("byol") is METHODS["byol"]
    with pytest.raises(UnusableMethod, match="'byol' is registered twice"):
        get_method("outsider")
