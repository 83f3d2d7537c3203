"""Claims: every view of a run shows its two stages, and a run is not finished before the second."""

from pathlib import Path

from confirm_study import CONFIRM_SEEDS, confirm_study, of_simclr
from rich.console import Console

from twinbench.harness.monitor.snapshot import RunView
from twinbench.harness.monitor.terminal import status_text
from twinbench.results.record import record_path


def test_a_recorded_grid_is_not_finished_before_its_confirm_stage(tmp_path: Path) -> None:
    confirm_study(tmp_path, is_confirmed=False)
    snapshot = RunView(tmp_path, has_tables=False).read()
    assert (snapshot.state, snapshot.stages) == ("unconfirmed", "grid 16 of 16, then the confirm stage")
    console = Console(width=200)
    with console.capture() as shown:
        console.print(status_text(tmp_path))
    assert "the same `run` command starts the confirm stage" in shown.get()


def test_the_stages_are_counted_and_a_confirmed_cell_has_a_row_of_its_own(tmp_path: Path) -> None:
    study = confirm_study(tmp_path)
    record_path(tmp_path, of_simclr(study, 0.2, CONFIRM_SEEDS[0]).trial_id).unlink()
    snapshot = RunView(tmp_path).read()
    assert snapshot.stages == "grid 16 of 16, confirm stage 11 of 12" and snapshot.state != "finished"
    rows = [row for row in snapshot.cells if row.method == "byol"]
    assert [(row.confirms, len(row.trials)) for row in rows] == [(False, 3), (True, len(CONFIRM_SEEDS))]
    assert len({row.cell_id for row in snapshot.cells}) == len(snapshot.cells) == 9
