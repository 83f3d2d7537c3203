"""Claims: an error of a Ray cluster names what gave its address, and waiting for its head has an end."""

import os
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinbench.harness.launchers import ray, ray_connection
from twinbench.harness.launchers.launcher import LaunchOptions
from twinbench.harness.launchers.ray_connection import connected, host_and_port
from twinbench.harness.launchers.site import RaySite
from twinbench.sweeps.errors import InvalidInput


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("head:6379", ("head", 6379)),
        ("[::1]:6379", ("::1", 6379)),
        ("ray://head.example:10001", ("head.example", 10001)),
        ("ray://me:secret@head:10001", ("head", 10001)),
        ("auto", None),
        ("http://head:80", None),
        ("head", None),
    ],
)
def test_host_and_port_are_read_from_every_form_that_has_them(address: str, expected: tuple[str, int] | None) -> None:
    assert host_and_port(address) == expected


def test_an_address_is_taken_as_text_whatever_it_looks_like() -> None:
    launcher = ray.from_options(LaunchOptions(address="7", ray=("gpus=1",)))
    assert (launcher.site.address, launcher.site.gpus) == ("7", 1.0)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as unused:  # bound, and not listened to
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


def failing_ray(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def init(**_: object) -> None:
        raise error

    module = types.SimpleNamespace(
        init=init,
        job_config=types.SimpleNamespace(JobConfig=types.SimpleNamespace),
        exceptions=types.SimpleNamespace(RayError=RuntimeError),
    )
    monkeypatch.setitem(sys.modules, "ray", module)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "127.0.0.1:9{}"])
def test_an_unreachable_address_is_named_with_the_variable_that_gave_it(
    monkeypatch: pytest.MonkeyPatch, closed_port: int, form: str
) -> None:
    failing_ray(monkeypatch, AssertionError("Ray itself would try for minutes"))
    address = form.format(closed_port)
    monkeypatch.setenv("RAY_ADDRESS", address)
    for place, site in (("RAY_ADDRESS", RaySite()), ("--address", RaySite(address=address))):
        with (
            pytest.raises(InvalidInput, match=f"{place}: no Ray cluster answers .*{address}"),
            connected(site),
        ):
            pass


def test_an_unreachable_address_of_a_site_file_is_named_with_the_file_and_its_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_port: int
) -> None:
    failing_ray(monkeypatch, AssertionError("Ray itself would try for minutes"))
    file, address = tmp_path / "site.toml", f"127.0.0.1:{closed_port}"
    file.write_text(f'[ray]\naddress = "{address}"\n')
    given = {
        f"{file}: address": LaunchOptions(site=file),
        "--ray: address": LaunchOptions(site=file, ray=(f"address={address}",)),
        "--address": LaunchOptions(site=file, address=address),
    }
    for place, options in given.items():
        launcher = ray.from_options(options)
        with (
            pytest.raises(InvalidInput, match=f"^{place}: no Ray cluster answers"),
            connected(launcher.site, launcher.address_from),
        ):
            pass


def test_an_error_of_ray_without_a_text_is_shown_by_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_ray(monkeypatch, ConnectionError())
    with (
        pytest.raises(InvalidInput, match="this address: ConnectionError"),
        connected(RaySite(address="auto")),
    ):
        pass


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:{}", "127.0.0.1:{}"])
def test_a_head_that_does_not_answer_ends_the_command_for_every_form_of_address(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], closed_port: int, address: str
) -> None:
    for name in ("RETRY_SECONDS", "HEAD_SECONDS", "CONNECT_SECONDS"):
        monkeypatch.setattr(ray_connection, name, 0.01)
    ended = ray_connection.threading.Event()
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", lambda code: (codes.append(code), ended.set()))
    with ray_connection._giving_up_on(address.format(closed_port), "--address"):
        assert ended.wait(10)
    assert codes[0] == 2
