"""Claim: the report opens from a disk in a real browser, draws its figures, and asks nothing of anyone."""

import shutil
from pathlib import Path

import pytest

from twinbench.harness.execute import Surroundings
from twinbench.harness.run_folder import write_plan
from twinbench.harness.running import make_plan, run_locally
from twinbench.harness.watching import Watch
from twinbench.reports.page import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.mark.browser
def test_the_page_opens_from_disk_without_an_error_or_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import sync_playwright
    from rich.console import Console

    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path / "cache"))
    changes = ("seeds=[0, 1]", "epochs=2", "batch_size=256", "methods=barlow_twins", "projector_width=[16, 32]")
    planned = make_plan("digits", changes, None)
    folder = tmp_path / "run"
    write_plan(folder, planned)
    watch = Watch(folder, planned.axes, planned.trials, Console(quiet=True))
    run_locally(planned, Surroundings(folder), ["cpu"], 2, watch)
    page_file = write_report(folder)

    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert browser_path, f"none of {', '.join(BROWSERS)} is installed"
    requests: list[str] = []
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for width in (1200, 400):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(page_file.resolve().as_uri())
            page.wait_for_selector(".main-svg")
            assert page.locator("svg .point, svg .points path").count() > 4
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # tables scroll inside
        browser.close()
    assert errors == []
    assert requests and all(url.startswith(("file:", "data:", "blob:")) for url in requests)
