"""Claims: published tables hold what their sources print, name what those do not say, and are read whole or refused.

The numbers below were typed from the sources, in the sources' own form, not from our files.
"""

from pathlib import Path

import pytest

from twinbench.reports.tables.published import (
    PublishedTable,
    find_reported,
    published_tables,
    read_published,
    settings_text,
)
from twinbench.sweeps.errors import InvalidInput

TABLES = published_tables()

# rows of the source that the file transcribes: methods x settings x columns
ROWS = {
    "barlow-twins-asymmetry": 4 * 2,
    "barlow-twins-batch-size": 6,
    "barlow-twins-byol-heads": 6,
    "barlow-twins-imagenet": 2 + 2,
    "barlow-twins-loss": 7 * 2,
    "barlow-twins-readme": 1,
    "byol-augmentation": 14 * 2,
    "byol-batch-size": 7 * 2,
    "byol-learning-rate": 7,
    "byol-projection-width": 6,
    "byol-target-momentum": 5,
    "byol-weight-decay": 5,
    "dino-readme": 3,
    "eb-jepa-cifar10-projector": 6 + 6,
    "eb-jepa-cifar10-summary": 2 * 2,
    "eb-jepa-cifar10-weights": 4 + 4,
    "lightly-cifar10": 12 * 3,
    "lightly-imagenette": 20 * 2,
    "mae-finetune": 1 + 4,
    "moco-trials": 5 * 2,
    "moco-v3-readme": 3 + 2,
    "simclr-batch-size": 6 * 4 * 2,
    "simclr-cifar10": 1,
    "simclr-temperature": 4 + 2,
    "simsiam-batch-norm": 4,
    "simsiam-batch-size": 7,
    "simsiam-cifar10": 2,
    "simsiam-output-width": 4,
    "simsiam-readme": 2,
    "simsiam-reproductions": 8 + 7,
    "solo-learn-cifar10": 16 * 2,
    "solo-learn-cifar100": 16 * 2,
    "solo-learn-imagenet": 3 * 2 + 1,
    "solo-learn-imagenet100": 18 + 14,
    "vicreg-batch-size": 6,
    "vicreg-expander-width": 7,
    "vicreg-imagenet": 2,
    "vicreg-knn": 4 * 2,
    "vicreg-normalisation": 5,
    "vicreg-readme": 1,
    "vicreg-running-time": 5,
    "vicreg-weights": 11,
}

# table, method, metric, settings, and the percentage that the source prints
PERCENTAGES = [
    ("lightly-cifar10", "barlow_twins", "knn_top1", {"batch_size": 128, "epochs": 200}, 84.2),
    ("lightly-cifar10", "simsiam", "knn_top1", {"batch_size": 512, "epochs": 200}, 76.4),
    ("lightly-cifar10", "byol", "knn_top1", {"batch_size": 512, "epochs": 800}, 91.0),
    ("lightly-cifar10", "smog", "knn_top1", {"batch_size": 512, "epochs": 800}, 80.0),
    ("lightly-imagenette", "vicreg", "knn_top1", {"epochs": 800}, 84.5),
    ("lightly-imagenette", "simmim", "knn_top1", {"epochs": 200}, 31.5),
    ("solo-learn-cifar10", "barlow_twins", "linear_top1", {}, 92.10),
    ("solo-learn-cifar10", "vicreg", "linear_top5", {}, 99.74),
    ("solo-learn-cifar100", "w_mse", "linear_top1", {}, 61.33),
    ("solo-learn-cifar100", "all4one", "linear_top5", {}, 93.35),
    ("solo-learn-imagenet100", "simsiam", "linear_top1", {"probe": "offline"}, 78.72),
    ("solo-learn-imagenet", "moco_v2_plus", "linear_top1", {"probe": "online"}, 62.61),
    ("eb-jepa-cifar10-weights", "vicreg", "linear_top1", {"std_weight": 1, "cov_weight": 10}, 89.93),
    ("eb-jepa-cifar10-weights", "vicreg", "linear_top1", {"std_weight": 100, "cov_weight": 100}, 10.00),
    ("eb-jepa-cifar10-weights", "sigreg", "linear_top1", {"sigreg_weight": 0.1}, 27.20),
    ("eb-jepa-cifar10-projector", "vicreg", "linear_top1", {"projector": "none"}, 87.27),
    ("eb-jepa-cifar10-summary", "sigreg", "linear_top1", {"over_configurations": "mean"}, 89.22),
    ("barlow-twins-batch-size", "barlow_twins", "linear_top1", {"batch_size": 1024, "learning_rate": 0.25}, 71.7),
    ("barlow-twins-loss", "barlow_twins", "linear_top5", {"loss": "cross-entropy with temperature"}, 85.7),
    ("barlow-twins-asymmetry", "barlow_twins", "linear_top1", {"stop_gradient": True, "predictor": True}, 61.3),
    (
        "simclr-batch-size",
        "simclr",
        "linear_top1",
        {"batch_size": 256, "epochs": 100, "learning_rate_rule": "sqrt"},
        62.8,
    ),
    ("simclr-temperature", "simclr", "linear_top1", {"temperature": 1}, 58.0),
    ("byol-batch-size", "simclr", "linear_top1", {"batch_size": 256}, 64.3),
    ("byol-target-momentum", "byol", "linear_top1", {"target_momentum": 0.9}, 68.4),
    ("byol-augmentation", "byol", "linear_top1", {"augmentation": "crop only"}, 59.4),
    ("vicreg-weights", "vicreg", "linear_top1", {"invariance_weight": 25, "variance_weight": 25}, 68.6),
    ("vicreg-knn", "vicreg", "knn_top1", {"knn_neighbours": 200}, 62.8),
    ("vicreg-expander-width", "vicreg", "linear_top1", {"projector_width": 16384}, 68.8),
    ("simsiam-batch-size", "simsiam", "linear_top1", {"batch_size": 4096}, 64.0),
    ("simsiam-reproductions", "moco_v2", "linear_top1", {"epochs": 200, "run_by": "reproduction"}, 69.9),
    ("moco-trials", "moco_v2", "linear_top1", {"trial": 5}, 67.3),
    ("mae-finetune", "mae", "finetune_top1", {"trial": "published checkpoint"}, 83.664),
]


def test_every_table_has_the_rows_of_its_source() -> None:
    assert {name: len(table.values) for name, table in TABLES.items()} == ROWS


@pytest.mark.parametrize(("name", "method", "metric", "settings", "percent"), PERCENTAGES)
def test_a_value_is_what_the_source_prints(
    name: str, method: str, metric: str, settings: dict[str, object], percent: float
) -> None:
    assert find_reported(TABLES[name], method, metric, settings).value == pytest.approx(percent / 100, abs=1e-12)


def test_time_memory_the_older_table_and_the_spread_stand_beside_the_value() -> None:
    simsiam = find_reported(TABLES["lightly-cifar10"], "simsiam", "knn_top1", {"batch_size": 512, "epochs": 800})
    assert (simsiam.value, simsiam.minutes, simsiam.peak_memory_gb, simsiam.previous) == (0.904, 333.7, 5.1, 0.902)
    assert find_reported(TABLES["byol-batch-size"], "simclr", "linear_top1", {"batch_size": 64}).spread == 0.029


def test_a_run_that_gave_no_number_has_an_outcome_instead() -> None:
    collapsed = find_reported(
        TABLES["vicreg-weights"],
        "vicreg",
        "linear_top1",
        {"variance_weight": 10, "covariance_weight": 1, "invariance_weight": 1},
    )
    assert (collapsed.value, collapsed.outcome) == (None, "collapsed")
    assert (
        find_reported(TABLES["simsiam-batch-norm"], "simsiam", "linear_top1", {"batch_norm": "everywhere"}).outcome
        == "unstable"
    )


def test_lightlys_table_says_that_the_test_set_chose_the_epoch() -> None:
    known = TABLES["lightly-cifar10"].protocol
    assert (known.reported_on, known.selected_on, known.checkpoint) == ("test", "test", "best_on_test")
    assert (known.n_seeds, known.tuned) == (1, False)
    assert TABLES["lightly-cifar10"].restated_by == ("lightly-cifar10-200ep", "lightly-cifar10-800ep")


# --- reading --------------------------------------------------------------------------------------------------------

HEAD = 'name = "t"\ntitle = "T"\ndataset = "cifar10"\nmetric = "knn_top1"\nsettings = { epochs = 5 }\n'
UNKNOWN = (
    'unknown = ["stem", "optimizer", "views", "evaluation", "reported_on", "selected_on", "checkpoint", "tuned", '
    '"n_seeds", "hardware"]\n'
)
SOURCE = 'source = { arxiv = "1234.56789", where = "Table 1" }\nprotocol.backbone = "ResNet-18"\n'
ROW = 'values = [{ method = "byol", value = 0.5, settings = { batch_size = 8 } }]\n'
WHOLE = HEAD + UNKNOWN + SOURCE + ROW


def _read(tmp_path: Path, text: str, name: str = "t") -> PublishedTable:
    path = tmp_path / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return read_published(path)


def _mistakes(tmp_path: Path, text: str, name: str = "t") -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        _read(tmp_path, text, name)
    return [str(mistake).split(": ", 1)[1] for mistake in caught.value.mistakes]


def test_a_row_takes_dataset_metric_and_settings_from_its_table_and_may_say_otherwise(tmp_path: Path) -> None:
    own = 'metric = "linear_top1", dataset = "stl10", settings = { epochs = 7, batch_size = 8 }'
    row = f'{{ method = "byol", value = 0.6, {own} }}'
    first, second = _read(tmp_path, WHOLE.replace("}]", "}, " + row + "]")).values
    assert (first.dataset, first.metric, first.settings) == ("cifar10", "knn_top1", {"epochs": 5, "batch_size": 8})
    assert (second.dataset, second.metric, second.settings) == ("stl10", "linear_top1", {"epochs": 7, "batch_size": 8})


def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    text = WHOLE.replace("protocol.backbone", "protocol.backbon").replace("value = 0.5", "value = 0.5, minute = 3")
    protocol, row = _mistakes(tmp_path, text)
    assert protocol.startswith("protocol.backbon: unknown key") and protocol.endswith("did you mean 'backbone'?")
    assert row.startswith("values.0.minute: unknown key") and row.endswith("did you mean 'minutes'?")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('"stem", ', "", "protocol.stem: is neither given nor named in `unknown`"),
        ('"stem", ', '"stem", "backbone", ', "protocol.backbone: is given, and named in `unknown`"),
        ("settings = { epochs = 5 }\n", "", "settings.epochs: is neither given nor named in `unknown`"),
        ('arxiv = "1234.56789", ', "", "source: names neither a repository nor a paper; allowed: repository, arxiv"),
        ("value = 0.5, ", "", "values.0: needs a value or an outcome, and not both"),
        ("value = 0.5", 'value = 0.5, outcome = "collapsed"', "values.0: needs a value or an outcome, and not both"),
        ("value = 0.5", "value = 50.0", "values.0.value: input should be less than or equal to 1 (seen: 50.0)"),
        ('"byol"', '"BYOL"', "values.0.method: is not a lower-case name (seen: 'BYOL')"),
        (ROW, ROW.replace("}]", "}, " + ROW[10:-2] + "]"), "values: 2 rows are of one cell"),
    ],
)
def test_a_table_that_hides_or_repeats_something_is_refused(tmp_path: Path, old: str, new: str, error: str) -> None:
    assert old in WHOLE
    (mistake,) = _mistakes(tmp_path, WHOLE.replace(old, new))
    assert mistake.startswith(error)


def test_all_that_is_wrong_is_told_at_once_and_the_name_is_the_files(tmp_path: Path) -> None:
    error = _mistakes(tmp_path, WHOLE.replace('"stem", ', "").replace("value = 0.5, ", ""), "other")
    assert [mistake.split(": ")[0] for mistake in error] == ["name", "protocol.stem", "values.0"]


# --- using ----------------------------------------------------------------------------------------------------------


def test_settings_have_one_spelling() -> None:
    settings = {"stop_gradient": True, "batch_size": 128, "loss": 'no "norm"', "rate": 1e-06}
    assert settings_text(settings) == 'batch_size = 128, loss = "no \\"norm\\"", rate = 1e-06, stop_gradient = true'
    assert settings_text(dict(reversed(settings.items()))) == settings_text(settings)


def test_settings_that_were_not_asked_for_may_be_anything() -> None:
    table = TABLES["lightly-cifar10"]
    row = find_reported(table, "moco", "knn_top1", {"epochs": 800})
    assert row.settings == {"batch_size": 512, "epochs": 800, "memory_bank": 8192}


def _error_lines(*arguments: object) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        find_reported(TABLES["lightly-cifar10"], *arguments)  # type: ignore[arg-type]
    return [str(mistake) for mistake in caught.value.mistakes]


def test_several_rows_that_answer_are_listed_and_none_is_chosen() -> None:
    (error,) = _error_lines("byol", "knn_top1", {"epochs": 200})
    assert error == (
        "reported table 'lightly-cifar10': settings: 2 rows of byol, knn_top1 have these (seen: 'epochs = 200'); "
        "allowed: batch_size = 128, epochs = 200; batch_size = 512, epochs = 200"
    )


def test_settings_that_no_row_has_are_told_with_what_there_is_and_the_nearest() -> None:
    (error,) = _error_lines("byol", "knn_top1", {"batch_size": 256, "epochs": 200})
    assert "no row of byol, knn_top1 has these" in error and "batch_size = 512, epochs = 800" in error
    assert error.endswith("did you mean 'batch_size = 512, epochs = 200'?")


def test_every_name_that_is_not_in_the_table_is_told_with_the_nearest() -> None:
    method, metric, setting = _error_lines("simsaim", "knn_top5", {"batchsize": 128})
    assert method.endswith("did you mean 'simsiam'?") and "barlow_twins, byol, dcl" in method
    assert metric.endswith("did you mean 'knn_top1'?")
    assert "settings.batchsize" in setting and setting.endswith("did you mean 'batch_size'?")


def test_one_is_not_true_but_is_one_point_zero(tmp_path: Path) -> None:
    table = _read(tmp_path, WHOLE.replace("batch_size = 8", "batch_size = 8, flag = true, weight = 1"))
    assert find_reported(table, "byol", "knn_top1", {"weight": 1.0, "flag": True}).value == 0.5
    for wrong in ({"flag": 1}, {"weight": True}):
        with pytest.raises(InvalidInput):
            find_reported(table, "byol", "knn_top1", wrong)
