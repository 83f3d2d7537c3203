"""Claims: the live page follows a real sweep from start to end, makes no outside requests, and is accessible."""

import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import SyntheticRun, invented_curves
from launching import Twinbench, end_well, wait_until
from serving import running_attempt

from twinbench.harness.run_folder.live_curves import LiveCurves
from twinbench.results.attempts import trial_folder

pytestmark = pytest.mark.browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWEEP = ("methods=byol", "seeds=[0, 1]", "epochs=12", "byol.projector_width=32")
NAMES = ("<img src=x onerror=alert(1)>", "\"quoted' & \\textbf{x}_$^", "\u202eright-to-left", "x" * 120)
SERIOUS = ("serious", "critical")


@contextmanager
def serving(twinbench: Twinbench, folder: object, browser: Any) -> Iterator[Callable[..., Any]]:
    """Yield a function that opens pages of the live view of `folder`. Ctrl-C ends the server without output.

    Holds at the end that no page had an error, a warning, a dialog, or a request to anywhere else.
    """
    server = twinbench.start("serve", folder, "--port", 0)
    assert server.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
    assert found, server.communicate(timeout=5)
    address, problems, pages = found[0], [], []

    def open_page(path: str = "", **options: Any) -> Any:
        page = browser.new_page(**options)
        pages.append(page)
        page.on("request", lambda one: None if one.url.startswith((address, "blob:")) else problems.append(one.url))
        page.on("console", lambda line: problems.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.goto(address + path)
        return page

    try:
        yield open_page
    finally:
        for page in pages:  # before the server ends, which would be an error on them
            page.close()
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=30)
    assert problems == []
    assert server.returncode == 0 and errors == ""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, f"none of {', '.join(BROWSERS)} is installed"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


def wait_for(page: Any, expression: str) -> None:
    """Wait until the expression is true on the page. The page's policy forbids Playwright's own way."""
    wait_until(lambda: page.evaluate(expression), f"never true: {expression}")


def accessibility_faults(page: Any) -> list[str]:
    """Return the faults that axe-core calls serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:120]}"
        for fault in violations
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]


def test_the_page_follows_a_sweep_that_is_killed_and_resumed(tmp_path: Path, dataset_cache: Path, browser: Any) -> None:
    twinbench = Twinbench(tmp_path, dataset_cache)
    (tmp_path / "run").mkdir()
    with serving(twinbench, "run", browser) as opened:
        page = opened(color_scheme="dark")
        page.get_by_text("Waiting for twinbench run").wait_for()
        page.get_by_text("run: not a run folder: it has no plan.json").wait_for()
        assert accessibility_faults(page) == []
        run = twinbench.start_run("run", SWEEP, "--workers", 1)
        page.locator("#running .chart path").first.wait_for(timeout=120_000)  # a growing curve
        drawn = page.locator("#running .chart path").first.get_attribute("d")
        wait_for(page, f"document.querySelector('#running .chart path')?.getAttribute('d') !== '{drawn}'")
        assert page.locator("#running progress").first.get_attribute("max") == "96"
        assert accessibility_faults(page) == []
        run.send_signal(signal.SIGKILL)
        run.communicate()
        page.get_by_text("Stopped: no worker is running").wait_for(timeout=60_000)
        run = twinbench.start_run("run", SWEEP)
        page.get_by_text("Finished").wait_for(timeout=240_000)
        end_well(run)
        assert page.locator("#cells .mark.done").count() == 5 and page.locator("#running li").count() == 0
        assert re.fullmatch(r"\d+\.\d ± \d+\.\d", page.locator("#cells tr").last.locator("td").last.inner_text())
        page.get_by_text("the report").wait_for()
        report = opened("report/index.html")
        report.wait_for_selector(".main-svg")
        assert page.locator("#problem").inner_text() == ""


def test_a_cell_can_be_found_opened_and_closed_by_keyboard(
    filled_run: SyntheticRun, tmp_path: Path, dataset_cache: Path, browser: Any
) -> None:
    with serving(Twinbench(tmp_path, dataset_cache), filled_run.folder, browser) as opened:
        for scheme in ("light", "dark"):
            page = opened(viewport={"width": 400, "height": 800}, color_scheme=scheme)
            page.locator("#cells tr").first.wait_for()
            page.get_by_label("Filter").focus()
            page.keyboard.type("byol failed")
            assert page.locator("#cells tr:visible").count() == 1
            assert page.locator("#filtered").inner_text() == "1 of 20 cells"
            page.keyboard.press("Tab")  # the scrollable region
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            page.locator("dialog .chart path").first.wait_for()
            assert page.locator("dialog details").count() == 3
            page.locator("dialog summary", has_text="failed").focus()
            page.keyboard.press("Enter")
            page.get_by_text("RuntimeError: invented", exact=False).last.wait_for()
            assert accessibility_faults(page) == []
            page.keyboard.press("Escape")
            assert not page.locator("dialog").is_visible()
            assert page.evaluate("document.activeElement.innerText") == "byol"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_new_failure_is_announced_and_an_old_one_is_not(
    synthetic_run: SyntheticRun, tmp_path: Path, dataset_cache: Path, browser: Any
) -> None:
    synthetic_run.later = True
    synthetic_run.planned_and_recorded(None, seed=0, status="failed", reason="the old one")
    new = synthetic_run.plan(synthetic_run.trial(seed=1))
    with serving(Twinbench(tmp_path, dataset_cache), synthetic_run.folder, browser) as opened:
        page = opened()
        page.get_by_text("Waiting for twinbench run").wait_for()  # the first state if the first poll takes long
        synthetic_run.write_plan()
        page.locator("#failures").get_by_text("the old one").wait_for()
        assert page.locator("[aria-live=polite]").inner_text() == ""
        synthetic_run.record(new, None, status="diverged", reason="the new one")
        wait_for(page, "document.querySelector('[aria-live=polite]').textContent.includes('the new one')")
        assert "the old one" not in page.locator("[aria-live=polite]").text_content()


def test_odd_names_change_only_their_own_label(
    synthetic_run: SyntheticRun, tmp_path: Path, dataset_cache: Path, browser: Any
) -> None:
    for name in NAMES:
        synthetic_run.planned_and_recorded(None, method=name, status="failed", reason=name)
        trial_id = synthetic_run.plan(synthetic_run.trial(name, 1))["trial_id"]
        running_attempt(synthetic_run.folder, trial_id, step=1, steps=2)
    with serving(Twinbench(tmp_path, dataset_cache), synthetic_run.folder, browser) as opened:
        for width in (400, 1200):
            page = opened(viewport={"width": width, "height": 900})
            page.locator("#cells tr").first.wait_for()
            assert page.locator("#cells button").all_text_contents() == list(NAMES)
            assert sorted(page.locator("#failures .reason").all_text_contents()) == sorted(NAMES)
            assert page.locator("img").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            places = page.locator("#cells tr .seeds").evaluate_all(
                "all => all.map(one => one.getBoundingClientRect().x)"
            )
            assert len(set(places)) == 1


def test_the_page_stays_responsive_with_a_thousand_cells(
    synthetic_run: SyntheticRun, tmp_path: Path, dataset_cache: Path, browser: Any
) -> None:
    synthetic_run.later = True
    trials = [synthetic_run.plan(synthetic_run.trial("byol", 0, {"projector_width": width})) for width in range(1000)]
    synthetic_run.write_plan()
    for trial in trials[:400]:
        synthetic_run.record(trial)
    for trial in trials[400:440]:
        running_attempt(synthetic_run.folder, trial["trial_id"], step=1, steps=2)
        shown = LiveCurves(trial_folder(synthetic_run.folder, trial["trial_id"]))
        shown.write(lambda: invented_curves("byol", 0))
    with serving(Twinbench(tmp_path, dataset_cache), synthetic_run.folder, browser) as opened:
        page = opened()
        wait_for(page, "document.querySelectorAll('#cells tr').length === 1000")
        page.evaluate(
            "() => { window.frames_ = []; let last = performance.now(); (function next(now) {"
            " frames_.push(now - last); last = now; requestAnimationFrame(next); })(last); }"
        )
        for trial in trials[440:600]:
            synthetic_run.record(trial)
            time.sleep(0.02)
        wait_for(page, "document.querySelectorAll('#cells .mark.done').length === 560")
        frames = sorted(page.evaluate("frames_"))
        assert frames[-1] < 500, frames[-5:]  # milliseconds between frames, with the browser's start
