import json

import pytest

from twinbench.reports.tables import frames, queries
from twinbench.reports.tables.cells import Section
from twinbench.reports.tables.run import read_run
from twinbench.reports.tables.sections import sections
from twinbench.results.record import write_record
from twinbench.results.store import ResultStore


def the_sections(run) -> list[Section]:
    return sections(read_run(run.folder))


def the_section(run) -> Section:
    (section,) = the_sections(run)
    return section


def cell_rows(run) -> list[dict]:
    return frames.cells_table(the_section(run)).to_dict("records")


def test_validation_selects_and_test_only_reports(synthetic_run):
    for seed in range(2):
        synthetic_run.planned_and_recorded(0.99, validation=0.80, seed=seed, settings={"projector_width": 64})
        synthetic_run.planned_and_recorded(0.90, validation=0.85, seed=seed, settings={"projector_width": 128})
    (row,) = frames.methods_table(the_section(synthetic_run)).to_dict("records")
    assert row["chosen"] == "projector_width = 128"
    assert row["linear_top1_test_mean"] == 0.90
    assert row["candidates"] == 2
    assert row["varied"] == "projector_width (2 values)"


def test_equal_validation_means_go_to_the_smaller_cell_id(synthetic_run):
    for width in (64, 128, 256):
        synthetic_run.planned_and_recorded(0.9, settings={"projector_width": width})
    section = the_section(synthetic_run)
    assert section.chosen["barlow_twins"].cell_id == min(cell.cell_id for cell in section.cells)


def test_cells_with_missing_seeds_rank_last(synthetic_run):
    synthetic_run.planned_and_recorded(0.95, seed=0, settings={"projector_width": 64})
    synthetic_run.planned_and_recorded(None, seed=1, status="diverged", settings={"projector_width": 64})
    for seed in range(2):
        synthetic_run.planned_and_recorded(0.90, seed=seed, settings={"projector_width": 128})
    (row,) = frames.methods_table(the_section(synthetic_run)).to_dict("records")
    assert row["chosen"] == "projector_width = 128"
    assert row["seeds"] == "2 of 2"


def test_a_selector_finds_numbers_by_value_and_texts_in_any_case(synthetic_run):
    for epochs, optimizer in ((1, "sgd"), (40, "lars")):
        synthetic_run.planned_and_recorded(settings={"epochs": epochs, "optimizer": optimizer})
    section = the_section(synthetic_run)

    def found(**settings: object) -> list[str]:
        return [cell.text("optimizer") for cell in section.having({"method": "barlow_twins", **settings})]

    assert (
        found(epochs=1.0) == found(epochs="1") == found(optimizer="SGD") == found(epochs=1, optimizer="sgd") == ["sgd"]
    )
    assert found(epochs=True) == found(epochs=2) == found(momentum=0.9) == found(epochs=40, optimizer="sgd") == []
    assert section.having({"method": "byol", "epochs": 1}) == []


def test_missing_and_mixed_seeds_are_shown_as_such(synthetic_run):
    width = {"projector_width": 64}
    synthetic_run.planned_and_recorded(0.90, seed=0, settings=width)
    synthetic_run.planned_and_recorded(0.92, seed=1, settings=width)
    synthetic_run.planned_and_recorded(0.10, seed=2, settings=width, status="collapsed", reason="features collapsed")
    synthetic_run.plan(synthetic_run.trial(seed=3, settings=width))
    (row,) = cell_rows(synthetic_run)
    assert row["seeds"] == "2 of 4, 1 collapsed, 1 missing"
    assert (row["seeds_done"], row["seeds_planned"]) == (2, 4)
    assert row["linear_top1_test_mean"] == pytest.approx(0.91)
    section = the_section(synthetic_run)
    assert [(r["status"], r["reason"]) for r in frames.failures(section).to_dict("records")] == [
        ("collapsed", "features collapsed")
    ]
    assert [r["seed"] for r in frames.missing(section).to_dict("records")] == [3]


def test_a_cell_without_results_has_a_row(synthetic_run):
    synthetic_run.plan(synthetic_run.trial())
    (row,) = cell_rows(synthetic_run)
    assert row["seeds"] == "0 of 1, 1 missing"
    assert row["linear_top1_test_mean"] is None
    shown = frames.display(frames.cells_table(the_section(synthetic_run)))
    assert shown.loc[0, "Linear top-1, test (%)"] == frames.NOTHING


def test_baselines_come_first(whole_sweep):
    frame = frames.methods_table(the_section(whole_sweep))
    assert list(frame["method"]) == ["raw_pixels", "untrained", "barlow_twins", "byol", "simclr", "vicreg"]
    assert list(frame["kind"]) == ["baseline"] * 2 + ["method"] * 4


def test_percent_is_printed_with_one_decimal_and_the_interval(synthetic_run):
    for seed, value in enumerate((0.90, 0.92, 0.94)):
        synthetic_run.planned_and_recorded(value, seed=seed)
    synthetic_run.planned_and_recorded(0.5, method="byol")
    shown = frames.display(frames.methods_table(the_section(synthetic_run)))
    # 4.303 * 0.02 / sqrt(3) = 0.0497
    assert list(shown["Linear top-1 (%)"]) == ["92.0 ± 5.0", "50.0 (1 seed)"]
    assert list(shown["kNN top-1 (%)"]) == ["90.0 ± 5.0", "48.0 (1 seed)"]


def test_different_protocols_never_share_a_table(synthetic_run):
    trial = synthetic_run.trial()
    other = trial["protocol"] | {"hash": "6" * 64, "version": 2}
    synthetic_run.record(trial, 0.9)
    synthetic_run.record(synthetic_run.trial(protocol=other), 0.8)
    synthetic_run.record(synthetic_run.trial(fingerprint="sha256:changed"), 0.7)
    parts = the_sections(synthetic_run)
    assert [(part.protocol_version, part.dataset_fingerprint) for part in parts] == [
        (1, "sha256:" + "1" * 64),
        (1, "sha256:changed"),
        (2, "sha256:" + "1" * 64),
    ]
    assert [len(frames.cells_table(part)) for part in parts] == [1, 1, 1]


def test_values_of_different_variants_are_not_averaged(synthetic_run):
    path = synthetic_run.record(synthetic_run.trial(seed=0), 0.9)
    synthetic_run.record(synthetic_run.trial(seed=1), 0.9)
    result = json.loads(path.read_text())["result"]
    result["metrics"][1]["variant"] = "linear/another@1"
    write_record(synthetic_run.folder, result, {})
    (row,) = cell_rows(synthetic_run)
    assert row["linear_top1_test_mean"] is None
    assert row["knn_top1_test_mean"] == pytest.approx(0.88)


def test_provenance_names_what_differs(synthetic_run):
    synthetic_run.planned_and_recorded(seed=0)
    synthetic_run.planned_and_recorded(seed=1, circumstance={"device": "cuda:H100"})
    run = read_run(synthetic_run.folder)
    frame = frames.provenance(run, sections(run)[0])
    assert set(frame[frame["differs"] == "differs"]["what"]) == {"device"}
    assert list(frame[frame["what"] == "device"]["value"]) == ["cpu", "cuda:H100"]
    assert list(frame[frame["what"] == "torch"]["value"]) == ["2.14.1"]


@pytest.mark.parametrize(("commit", "differs"), [("f" * 40, "not comparable"), ("c" * 40, "")])
def test_code_hashes_of_two_kinds_are_not_said_to_differ(synthetic_run, commit, differs):
    synthetic_run.planned_and_recorded(seed=0)
    synthetic_run.planned_and_recorded(seed=1, circumstance={"code_hash": "2:" + "e" * 64, "commit": commit})
    run = read_run(synthetic_run.folder)
    frame = frames.provenance(run, sections(run)[0])
    assert list(frame[frame["what"] == "code_hash"]["differs"]) == [differs, differs]
    assert set(frame[frame["what"] == "commit"]["differs"]) == {"differs" if differs else ""}


def test_costs_add_up_over_all_recorded_trials(synthetic_run):
    synthetic_run.planned_and_recorded(seed=0)
    synthetic_run.planned_and_recorded(None, seed=1, status="failed", reason="x")
    synthetic_run.plan(synthetic_run.trial(seed=2))
    (row,) = frames.costs(the_section(synthetic_run)).to_dict("records")
    assert (row["trials"], row["train_seconds"], row["images_seen"]) == (2, 100.0, 28740)


def test_images_per_second_are_those_of_trials_that_ran_alone(synthetic_run):
    synthetic_run.planned_and_recorded(seed=0)
    synthetic_run.planned_and_recorded(seed=1, circumstance={"train_seconds": 10.0, "pack": 4})
    (row,) = frames.costs(the_section(synthetic_run)).to_dict("records")
    assert (row["train_seconds"], row["images_per_second"]) == (60.0, 14370 / 50)


def test_a_trial_without_a_recorded_time_adds_no_seconds(synthetic_run):
    synthetic_run.planned_and_recorded(seed=0)
    unknown = {"train_seconds": None, "evaluation_seconds": None, "images_seen": None, "peak_memory_bytes": None}
    synthetic_run.planned_and_recorded(None, seed=1, status="failed", reason="x", circumstance=unknown)
    (known,) = frames.costs(the_section(synthetic_run)).to_dict("records")
    assert (known["trials"], known["train_seconds"], known["images_seen"]) == (2, 50.0, 14370)
    assert known["images_per_second"] == 14370 / 50
    assert (known["evaluation_seconds"], known["peak_memory_bytes"]) == (5.0, 2**29)


def test_training_time_is_unknown_if_a_gpu_ran_trials_side_by_side(synthetic_run):
    synthetic_run.planned_and_recorded(seed=0)
    synthetic_run.planned_and_recorded(seed=1, circumstance={"pack": 4, "device": "a GPU"})
    section = the_section(synthetic_run)
    assert frames.display_costs(frames.costs(section))["Training (min)"].tolist() == [frames.NOTHING]
    with ResultStore(synthetic_run.folder) as store:
        assert store.query(queries.costs(section))["train_seconds"].isna().all()
