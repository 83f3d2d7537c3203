"""Claims: outputs on other test data than the dataset's, or than another trial's, are named with both numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundling import (
    DIGITS,
    EXAMPLES,
    LABELS,
    GenuineRun,
    changed_record,
    drawn_outputs,
    genuine_run,
    verified,
    with_outputs,
)

from twinbench.sweeps.trial import Trial


@pytest.fixture
def run(tmp_path: Path) -> GenuineRun:
    return genuine_run(tmp_path / "run", seeds=1)


def chosen(places: Any) -> Callable[[dict[str, Any]], None]:
    """Keep the outputs of these test images alone."""
    return lambda arrays: arrays.update({name: values[places] for name, values in arrays.items()})


def relabelled(places: Any, labels: Any) -> Callable[[dict[str, Any]], None]:
    """Give these test images other labels, and outputs that fit them."""

    def change(arrays: dict[str, Any]) -> None:
        arrays["labels"][places] = labels
        for probe in ("knn", "linear"):
            arrays[f"{probe}_correct"] = (arrays[f"{probe}_prediction"] == arrays["labels"]).astype(np.uint8)

    return change


def fitting(run: GenuineRun, number: int, change: Callable[[dict[str, Any]], None]) -> Path:
    """The run's bundle, with the outputs of one trial changed and its accuracies computed from them."""
    arrays = drawn_outputs(run.trials[number])
    change(arrays)

    def mend(result: dict[str, Any]) -> None:
        for metric in result["metrics"]:
            if metric["split"] == "test":
                right = arrays[metric["name"].replace("top1", "correct")]
                metric |= {"value": float((right != 0).mean()), "n_examples": len(right)}

    return with_outputs(run, number, change, mend)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (chosen([*range(12)] * 4), "it was tested on 48 images; the test split of digits has 359"),
        (chosen(np.arange(1150) % EXAMPLES), "it was tested on 1,150 images; the test split of digits has 359"),
        (chosen(range(1, EXAMPLES)), "it was tested on 358 images; the test split of digits has 359"),
        (relabelled(0, 0), "37 of its test images have the label 0; the test split of digits has 36"),
        (relabelled(0, 10), "1 of its test images have the label 10; the test split of digits has 0"),
        (relabelled([0, 1], [3, 1]), "the labels of its test images are not those of digits, or in another order"),
    ],
)
def test_outputs_on_other_test_data_in_all_trials_at_once_are_named(
    run: GenuineRun, tmp_path: Path, change: Callable[[dict[str, Any]], None], fault: str
) -> None:
    for number in range(len(run.trials)):
        bundle = fitting(run, number, change)
    level = verified(bundle, tmp_path)
    assert sorted(level.faults) == sorted(f"trial {trial}: {fault}" for trial in run.ids)


def test_a_number_of_other_test_data_is_named_without_outputs(run: GenuineRun, tmp_path: Path) -> None:
    path = run.folder / "records" / f"{run.ids[0]}.json"

    def change(result: dict[str, Any]) -> None:
        result["outputs"] = None
        result["metrics"][0]["n_examples"] = 48

    path.write_bytes(changed_record(path.read_bytes(), change))
    fault = f"trial {run.ids[0]}: it was tested on 48 images; the test split of digits has 359"
    assert fault in verified(run.bundle().path, tmp_path).faults


def test_another_fingerprint_than_that_of_a_shipped_dataset_is_named(tmp_path: Path) -> None:
    run = genuine_run(tmp_path / "base", seeds=1)
    trial = Trial(**(run.trials[0].content() | {"dataset_fingerprint": "sha256:" + "2" * 64}))
    run = GenuineRun(tmp_path / "run", run.protocol, (trial,))
    run.plan()
    run.record(trial)
    (fault,) = verified(run.bundle().path, tmp_path).faults
    assert fault.startswith(f"trial {trial.trial_id}: its dataset has the fingerprint sha256:2222")
    assert fault.endswith(f"that of digits is {DIGITS}")


def of_dataset(run: GenuineRun, folder: Path, **rule: Any) -> GenuineRun:
    """The same trials on another dataset, or on another part of it."""
    protocol = replace(run.protocol, name="of my own", dataset=replace(run.protocol.dataset, **rule))
    trials = [Trial(**(trial.content() | {"protocol": protocol.carried})) for trial in run.trials]
    run = GenuineRun(folder, protocol, tuple(trials))
    run.plan()
    for trial in run.trials:
        run.record(trial)
    return run


def test_labels_of_a_dataset_that_is_not_locked_must_agree_between_trials(run: GenuineRun, tmp_path: Path) -> None:
    mine = of_dataset(run, tmp_path / "mine", name="image_folder")
    assert verified(mine.bundle().path, tmp_path).faults == ()
    (fault,) = verified(fitting(mine, 1, relabelled(0, 0)), tmp_path).faults
    first, other = sorted(mine.ids)
    assert fault == f"trial {other}: was tested on other labels than trial {first}"


def test_a_part_of_the_test_images_may_be_any_that_the_dataset_has(run: GenuineRun, tmp_path: Path) -> None:
    part = of_dataset(run, tmp_path / "part", test_examples=48)
    for number in (0, 1):
        bundle = fitting(part, number, chosen(range(48)))
    assert verified(bundle, tmp_path).faults == ()
    zeros = [place for place, label in enumerate(LABELS) if label == "0"]
    part = of_dataset(run, tmp_path / "other part", test_examples=48)
    for number in (0, 1):
        bundle = fitting(part, number, chosen([*zeros, *zeros[:12]]))
    faults = verified(bundle, tmp_path).faults
    assert len(faults) == 2
    assert all("48 of its test images have the label 0; the test split of digits has 36" in one for one in faults)
