"""Claims: the page opens from a disk in a real browser, makes no network request, and its controls work."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinbench.harness.launchers.launcher import LaunchOptions
from twinbench.harness.launchers.local import LocalLauncher
from twinbench.harness.monitor.progress_bars import ProgressBars
from twinbench.harness.planning import make_plan
from twinbench.harness.run_folder.layout import write_plan
from twinbench.harness.trial.execute import Surroundings
from twinbench.reports.page.write import write_report, write_reports

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "<b>x</b>&amp;\"'$\\%_{}\u202e=HYPERLINK(1)"
FAULTS = ("moderate", "serious", "critical")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, f"none of {', '.join(BROWSERS)} is installed"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(whole_sweep) -> Path:
    """Of a synthetic sweep of 58 trials, one of which left a log."""
    log = next((whole_sweep.folder / "records").glob("*.json")).stem
    folder = whole_sweep.folder / "trials" / log
    folder.mkdir(parents=True)
    (folder / "attempt-0001.log").write_text("epoch 1 of 20\nthe last line of the log\n")
    path = write_report(whole_sweep.folder)
    shutil.rmtree(whole_sweep.folder / "trials")
    return path


class Opened:
    """A page, with what it requested for and what went wrong on it."""

    def __init__(self, browser, path: Path, width: int = 1200, scheme: str = "light"):
        self.requested: list[str] = []
        self.errors: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(path.resolve().as_uri())

    def wait_for_figures(self) -> None:
        """All are drawn while nothing else is done. (The page's own policy forbids playwright's wait_for_function.)"""
        for _ in range(150):
            if self.page.locator(".plot:not(.js-plotly-plot)").count() == 0:
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("the figures are not drawn after 15 seconds")

    def close(self) -> None:
        assert self.errors == []
        assert self.requested and all(url.startswith(("file:", "data:", "blob:")) for url in self.requested)
        self.page.close()


@pytest.fixture
def opened(browser, page_file: Path) -> Iterator[Opened]:
    found = Opened(browser, page_file)
    yield found
    found.close()


def trial_ids(page) -> list[str]:
    return page.locator(".trials tbody button").all_inner_texts()


def texts(page, column: int) -> list[str]:
    return page.locator(f".trials tbody tr td:nth-child({column})").all_inner_texts()


def test_a_real_run_opens_from_disk_without_an_error_or_a_request(
    browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path / "cache"))
    changes = (
        "seeds=[0, 1]",
        "confirm.seeds=[]",
        "epochs=2",
        "batch_size=256",
        "methods=barlow_twins",
        "projector_width=[16, 32]",
    )
    planned = make_plan("digits", changes, None)
    folder = tmp_path / "run"
    write_plan(folder, planned)
    watch = ProgressBars(folder, planned.axes, planned.trials, Console(quiet=True))
    LocalLauncher(("cpu",), LaunchOptions(workers=2)).run(planned, Surroundings(folder), watch)
    page_file = write_report(folder)
    for width in (1200, 400):
        opened = Opened(browser, page_file, width)
        opened.wait_for_figures()
        assert opened.page.locator("svg .point, svg .points path").count() > 4
        assert opened.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # tables scroll inside
        opened.close()


def test_a_heading_sorts_up_and_down_and_says_so(opened: Opened) -> None:
    page = opened.page
    heading = page.locator(".trials thead th", has_text="Linear top-1")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    place = page.locator(".trials thead th").all_inner_texts().index(heading.inner_text()) + 1
    values = [float(text) for text in texts(page, place) if text != "–"]
    assert values == sorted(values) and len(values) == 55
    assert texts(page, place)[-3:] == ["–"] * 3  # what has no value stands last, either way
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in texts(page, place) if text != "–"] == values[::-1]
    assert page.locator(".trials th[aria-sort]").count() == 1


def test_numbers_sort_by_size_and_not_by_spelling(opened: Opened) -> None:
    heading = opened.page.locator(".trials thead th", has_text="projector_width")
    heading.get_by_role("button").click()
    place = opened.page.locator(".trials thead th").all_inner_texts().index(heading.inner_text()) + 1
    widths = [int(text) for text in texts(opened.page, place) if text != "–"]
    assert widths == sorted(widths) and {64, 128, 256} == set(widths)


def test_filters_and_the_search_leave_what_they_name(opened: Opened) -> None:
    page = opened.page
    status = page.locator(".trials [role=status]")
    assert status.inner_text() == "58 of 58 trials"
    page.get_by_label("Status", exact=True).select_option(label="diverged")
    assert status.inner_text() == "1 of 58 trials" and len(trial_ids(page)) == 1
    page.get_by_label("Status", exact=True).select_option(label="all")
    page.get_by_label("Search all fields of a trial").fill("vicreg projector_width=128")
    assert set(texts(page, 2)) == {"vicreg"} and len(trial_ids(page)) == 3
    page.get_by_label("Search all fields of a trial").fill("no such thing")
    assert status.inner_text() == "0 of 58 trials" and trial_ids(page) == []


def test_a_trial_opens_by_keyboard_with_settings_curves_and_provenance_and_gives_the_focus_back(opened: Opened) -> None:
    page = opened.page
    page.get_by_label("Method", exact=True).select_option(label="simclr")
    button = page.locator(".trials tbody button").first
    trial = button.inner_text()
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=f"Trial {trial}")
    assert dialog.is_visible()
    dialog.locator(".main-svg").first.wait_for()
    help_text = dialog.inner_text()
    for part in ("projector_width", "learning_rate_scaled (derived)", "loss", "code_hash", "peak memory", "0.5", trial):
        assert part in help_text
    assert page.evaluate("document.getElementById('trial').contains(document.activeElement)")
    assert page.url.endswith(f"#trial-{trial}")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.textContent") == trial


def test_a_link_to_a_trial_opens_it_with_the_end_of_its_log(browser, page_file: Path, whole_sweep) -> None:
    trial = next((whole_sweep.folder / "records").glob("*.json")).stem
    opened = Opened(browser, page_file)
    opened.page.goto(f"{page_file.resolve().as_uri()}#trial-{trial}")
    dialog = opened.page.get_by_role("dialog")
    dialog.wait_for()
    assert "the last line of the log" in dialog.inner_text()
    opened.close()


def downloaded(page, name: str) -> list[list[str]]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=f"Download {name}").first.click()
    with open(waiting.value.path(), encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_tables_and_figures_are_downloaded_as_csv(opened: Opened, whole_sweep) -> None:
    page = opened.page
    on_disk = (whole_sweep.folder / "report" / "tables" / "methods.csv").read_text("utf-8")
    assert downloaded(page, "Accuracy on test") == list(csv.reader(on_disk.splitlines()))
    rows = downloaded(page, "sensitivity to projector_width")
    assert rows[0] == ["panel", "series", "x", "y", "value"] and {row[0] for row in rows[1:]} == {
        "barlow_twins",
        "byol",
        "simclr",
        "vicreg",
    }
    page.get_by_label("Status", exact=True).select_option(label="done")
    trials = downloaded(page, "every trial")
    assert len(trials) == 1 + 55 and "projector_depth" in trials[0]


def test_in_the_dark_texts_are_light_on_dark_in_page_and_figures(browser, page_file: Path) -> None:
    opened = Opened(browser, page_file, scheme="dark")
    opened.wait_for_figures()
    ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, ground.removeprefix("rgb(").removesuffix(")").split(","))) < 60
    label = opened.page.locator(".plot .xtick text").first.evaluate("e => getComputedStyle(e).fill")
    assert min(map(int, label.removeprefix("rgb(").removesuffix(")").split(","))) > 150
    opened.page.emulate_media(color_scheme="light")
    opened.page.wait_for_timeout(300)
    label = opened.page.locator(".plot .xtick text").first.evaluate("e => getComputedStyle(e).fill")
    assert max(map(int, label.removeprefix("rgb(").removesuffix(")").split(","))) < 100
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_but_minor_ones(browser, page_file: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    opened = Opened(browser, page_file, scheme=scheme)
    opened.wait_for_figures()
    found = Axe().run(opened.page).response["violations"]
    opened.page.locator(".trials tbody button").nth(5).click()
    found += Axe().run(opened.page).response["violations"]
    faults = [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found if one["impact"] in FAULTS]
    assert faults == []
    opened.close()


def test_a_hostile_name_is_a_label_and_nothing_else(browser, synthetic_run) -> None:
    for width in (64, 128):
        for seed in range(2):
            synthetic_run.planned_and_recorded(
                0.9 + 0.01 * seed,
                method=HOSTILE,
                seed=seed,
                settings={"projector_width": width, HOSTILE: HOSTILE},
                curves={"epoch": [1, 2], "series": {"loss": [1.0, 0.5], f"diagnostics/{HOSTILE}": [1.0, 2.0]}},
                circumstance={"host": HOSTILE},
            )
    opened = Opened(browser, write_report(synthetic_run.folder))
    opened.wait_for_figures()
    page = opened.page
    page.locator(".trials tbody button").first.click()
    assert page.locator("b").count() == 0
    assert HOSTILE in page.get_by_role("dialog").inner_text()
    page.get_by_role("button", name="Close").click()
    assert page.locator("#s1-methods-table tbody th").last.inner_text().endswith(HOSTILE)
    rows = downloaded(page, "learning curves")
    assert any(HOSTILE in row[1] for row in rows)
    opened.close()


def test_two_runs_stand_side_by_side_and_other_protocols_apart(browser, new_synthetic_run, tmp_path: Path) -> None:
    one, two = new_synthetic_run(tmp_path / "one"), new_synthetic_run(tmp_path / "two")
    trial = one.trial(method="simclr")
    one.record(trial, 0.9)
    two.record(trial, 0.8)
    two.record(two.trial(method="byol", protocol=trial["protocol"] | {"hash": "6" * 64}), 0.7)
    opened = Opened(browser, write_reports([one.folder, two.folder], tmp_path / "both"), width=800)
    rows = opened.page.locator("#together-1 tbody tr")
    assert rows.count() == 1 and "90.0" in rows.inner_text() and "80.0" in rows.inner_text()
    assert opened.page.locator("#together-2 tbody tr").inner_text().startswith("byol")
    opened.close()
