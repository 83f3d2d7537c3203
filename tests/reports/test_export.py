import math
import struct
from collections.abc import Iterator

import pytest

from twinbench.reports.export import check_tracker, export, read_exported
from twinbench.sweeps.errors import InvalidInput

CURVES = {"epoch": [1, 2, 3], "series": {"loss": [3.0, 2.0, 1.5], "loss/view_1": [1.0, 1.0, 1.0]}}


@pytest.fixture
def small_run(synthetic_run):
    for seed in range(2):
        synthetic_run.planned_and_recorded(0.9 + seed / 100, seed=seed, curves=CURVES, settings={"projector_width": 64})
    synthetic_run.planned_and_recorded(
        None, seed=2, status="diverged", reason="nan", curves={"epoch": [1], "series": {"loss": [9.0]}}
    )
    synthetic_run.plan(synthetic_run.trial(seed=3))  # without a record
    return synthetic_run


def export_folder(folder, to, out):
    name, trials = read_exported(folder)
    return len(trials), export(name, trials, to, out)


def test_a_tracker_that_nobody_knows_is_a_mistake():
    with pytest.raises(InvalidInput, match="tensorboard, mlflow, wandb"):
        check_tracker("mlfow")


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("twinbench.reports.export.find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"pip install 'twinbench\[wandb\]'"):
        check_tracker("wandb")


def test_what_differs_from_the_protocol_goes_with_the_trial(synthetic_run):
    synthetic_run.planned_and_recorded(0.9, method="simclr", settings={"temperature": 0.2})
    _, (one,) = read_exported(synthetic_run.folder)
    assert one.trial["differs_from_protocol"] == "temperature = 0.2 (protocol: 0.1)"


@pytest.mark.filterwarnings("default")  # theirs are not ours
def test_tensorboard_reads_curves_and_results_and_a_second_export_repeats_nothing(small_run, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):
        count, command = export_folder(small_run.folder, "tensorboard", tmp_path)
    assert count == 3
    assert command == f"tensorboard --logdir {tmp_path}"
    (folder,) = tmp_path.glob("barlow_twins-seed1-*")
    (_file,) = folder.iterdir()
    read = EventAccumulator(str(folder)).Reload()
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(1, 3.0), (2, 2.0), (3, 1.5)]
    assert [e.value for e in read.Scalars("result/test/linear_top1")] == pytest.approx([0.91])
    (about,) = read.Tensors("trial")
    assert b"differs_from_protocol: projector_width = 64 (protocol: " in about.tensor_proto.string_val[0]


@pytest.mark.filterwarnings("default")
def test_mlflow_reads_curves_results_and_settings_and_a_second_export_repeats_nothing(small_run, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for _ in range(2):
        export_folder(small_run.folder, "mlflow", tmp_path)
    client = MlflowClient(tmp_path.as_uri())
    (experiment,) = [one for one in client.search_experiments() if one.name == "synthetic"]
    runs = {run.data.tags["twinbench.seed"]: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["0", "1", "2"]
    assert [run.info.status for _, run in sorted(runs.items())] == ["FINISHED", "FINISHED", "FAILED"]
    one = runs["1"]
    assert one.data.params["settings.projector_width"] == "64"
    assert math.isclose(one.data.metrics["result.test.linear_top1"], 0.91)
    history = client.get_metric_history(one.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0), (3, 1.5)]


def of_the_log(data: bytes) -> Iterator[bytes]:
    """The messages of an offline run: a LevelDB log, in blocks of 32 KiB, behind a header of seven bytes."""
    at, message = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a header: the block's end is empty
            at += 32768 - at % 32768
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        message += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield message
            message = b""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_wandb_keeps_a_run_per_trial_on_this_machine(small_run, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.delenv("WANDB_MODE", raising=False)
    count, command = export_folder(small_run.folder, "wandb", tmp_path)
    assert (count, command) == (3, f"wandb sync {tmp_path}/wandb/offline-run-*")
    losses, results = {}, {}
    for path in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb")):
        for data in of_the_log(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            for item in record.history.item:
                key = item.key or "/".join(item.nested_key)
                if key == "loss":
                    losses.setdefault(path.stem, []).append(float(item.value_json))
            for item in record.summary.update:
                key = item.key or "/".join(item.nested_key)
                if key == "result/test/linear_top1":
                    results[path.stem] = float(item.value_json)
    assert sorted(losses.values()) == [[3.0, 2.0, 1.5], [3.0, 2.0, 1.5], [9.0]]
    assert sorted(results.values()) == pytest.approx([0.90, 0.91])
