"""Claims: trials are identified by what changes their numbers, and every mistake is found before anything runs."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from twinbench.harness.data.datasets import load_dataset
from twinbench.harness.monitor.labels import trial_label
from twinbench.harness.planning import Plan, check, check_ranks, make_plan, plan
from twinbench.harness.system.devices import first_devices
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.sweep import Grid, read_protocol, read_sweep, set_keys, shipped_protocols
from twinbench.sweeps.trial import Trial

Planner = Callable[..., Plan]

PINNED = Trial(
    method="simclr",
    method_version=1,
    settings={"temperature": 0.5, "projector_width": 128},
    training={"epochs": 30, "batch_size": 128},
    seed=0,
    dataset_fingerprint="sha256:00",
    protocol={"name": "p", "version": 1, "hash": "abc", "content": {"anything": 1}},
)


def test_ids_are_pinned() -> None:
    """None of these may change: records on disk are found by them."""
    assert PINNED.trial_id == "c1fbc911d13c39f5"
    assert PINNED.cell_id == "9acbe2e46d47a59e"


@pytest.mark.parametrize(
    "change",
    [
        {"method": "byol"},
        {"method_version": 2},
        {"settings": {"temperature": 0.6, "projector_width": 128}},
        {"training": {"epochs": 31, "batch_size": 128}},
        {"dataset_fingerprint": "sha256:01"},
        {"protocol": {"name": "p", "version": 1, "hash": "abd", "content": {}}},
    ],
)
def test_whatever_changes_numbers_changes_trial_and_cell(change: dict[str, object]) -> None:
    other = replace(PINNED, **change)  # type: ignore[arg-type]
    assert other.trial_id != PINNED.trial_id and other.cell_id != PINNED.cell_id


def test_seeds_share_a_cell_and_key_order_does_not_matter() -> None:
    other = replace(PINNED, seed=1, settings={"projector_width": 128, "temperature": 0.5})
    assert other.trial_id != PINNED.trial_id and other.cell_id == PINNED.cell_id
    assert replace(other, seed=0).trial_id == PINNED.trial_id


def test_a_whole_number_and_a_decimal_of_equal_value_are_one_trial(tiny_plan: Planner) -> None:
    ids = [
        {trial.trial_id for trial in tiny_plan("methods=simclr", f"simclr.temperature={value}").trials}
        for value in ("1", "1.0")
    ]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("change", "piece"),
    [
        (
            "epoch={a=1}",
            "epoch: is not a field of any method or of training (seen: \"{'a': 1}\"); did you mean 'epochs'?",
        ),
        ("simclr.temprature=[0.1, []]", "simclr.temprature: is not a field of any method or of training (seen: '[]')"),
        ("grids=[]", "grids: is not a field of any method or of training"),
        ("epochs={a=1}", "epochs: is of the wrong kind"),
    ],
)
def test_an_axis_that_is_no_field_is_named_whatever_its_value_is(change: str, piece: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_plan("digits", (change,), None)
    (mistake,) = caught.value.mistakes
    assert str(mistake).startswith(f"--set: {piece}")


def test_an_axis_of_a_sweep_file_that_is_no_field_is_named_whatever_its_value_is(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    grid = '[[grids]]\nmethods = ["simclr"]\naxes = { typo = [], epochs = [] }\n'
    path.write_text(f'question = "q"\nprotocol = "digits-small"\nseeds = [0]\n{grid}')
    with pytest.raises(InvalidInput) as caught:
        make_plan(str(path), (), None)
    first, second = map(str, caught.value.mistakes)
    assert first.startswith(f"{path}: grids.0.axes.typo: is not a field of any method or of training (seen: '[]')")
    assert second.startswith(f"{path}: grids.0.axes.epochs: is of the wrong kind")


def test_a_plan_holds_baselines_then_cells_and_names_the_moved_axes(tiny_plan: Planner) -> None:
    planned = tiny_plan("seeds=[0, 1]")
    methods = [trial.method for trial in planned.trials]
    assert methods[:3] == ["raw_pixels", "untrained", "untrained"]
    assert planned.axes == ("off_diagonal_weight",)  # TINY fixes the others
    assert len({trial.trial_id for trial in planned.trials}) == len(planned.trials)


def _mistakes(*changes: str) -> list[str]:
    sweep, protocol, _ = read_sweep("digits", changes)
    with pytest.raises(InvalidInput) as caught:
        check(sweep, protocol, "digits.toml", set_keys(changes))
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize(
    ("change", "pieces"),
    [
        ("barlow_twins.lambda=0.1", ("lambda", "did you mean 'off_diagonal_weight'?")),
        ("vicreg.mu=1", ("did you mean 'variance_weight'?",)),
        ("simclr.tau=0.1", ("did you mean 'temperature'?",)),
        ("byol.tau=0.9", ("did you mean 'target_momentum'?",)),
        ("byol.projektor_width=64", ("did you mean 'projector_width'?",)),
        ("epochs=100000", ("epochs", "is out of range", "100000", "1 to 1000")),
        ("weight_decay=0.1", ("may not be varied", "off_diagonal_weight")),
        ("batch_size=64.5", ("batch_size", "64.5")),
        ('learning_rate_rule="lineal"', ("did you mean 'linear'?",)),
    ],
)
def test_a_mistaken_axis_is_reported_with_its_value_and_the_right_name(change: str, pieces: tuple[str, ...]) -> None:
    error_text = "\n".join(_mistakes(change))
    for piece in pieces:
        assert piece in error_text


def test_an_unknown_method_names_the_nearest_and_all() -> None:
    sweep, protocol, _ = read_sweep("digits")
    with pytest.raises(InvalidInput, match=r"unknown method.*'simclrr'.*vicreg.*did you mean 'simclr'"):
        check(replace(sweep, grids=(Grid(methods=("simclrr",)),)), protocol, "digits.toml")


def test_mistakes_of_several_axes_are_reported_at_once() -> None:
    error_text = "\n".join(_mistakes("barlow_twins.lambda=0.1", "epochs=-1", "simclr.temprature=1"))
    for piece in ("lambda", "epochs", "'temperature'"):
        assert piece in error_text


@pytest.mark.parametrize(
    ("changes", "start", "end"),
    [
        (
            ("epoch=3",),
            "--set: epoch: is not a field of barlow_twins, simclr, byol, vicreg or of training",
            "'epochs'?",
        ),
        (
            ("temperature=0.1",),
            "--set: temperature: is not a field of barlow_twins, byol, vicreg or",
            "'simclr.temperature'?",
        ),
        (("epochs=0.5",), "--set: epochs: is out of range (seen: 0.5)", "digits-small"),
        (('epochs="a"',), "--set: epochs: input should be a valid integer (seen: 'a')", ""),
        (("simclr.temperature='a'",), "--set: simclr.temperature: input should be a valid number", ""),
    ],
)
def test_one_wrong_value_of_set_is_one_mistake_that_names_set(changes: tuple[str, ...], start: str, end: str) -> None:
    (line,) = _mistakes(*changes)
    assert line.startswith(start) and line.endswith(end)


def test_a_field_of_a_file_that_several_methods_lack_is_one_mistake_in_each_grid() -> None:
    sweep, protocol, _ = read_sweep("digits")
    grid = Grid(methods=("simclr", "byol"), axes={"epoch": [1, 2]})
    with pytest.raises(InvalidInput) as caught:
        check(replace(sweep, grids=(grid, grid)), protocol, "s.toml")
    assert [str(one).partition(" or of")[0] for one in caught.value.mistakes] == [
        f"s.toml: grids.{number}: epoch: is not a field of simclr, byol" for number in range(2)
    ]


def test_an_axis_that_a_protocol_lets_vary_is_a_field_of_a_method(tmp_path: Path) -> None:
    sweep, protocol, _ = read_sweep("digits")
    with pytest.raises(InvalidInput, match=r"movable\.temprature: is not a field of any.*'temperature'"):
        check(sweep, replace(protocol, movable={**protocol.movable, "temprature": True}), "s.toml")


@pytest.mark.parametrize("key", ["methods.byol.target_momentum", "training.epochs"])
def test_a_deviation_that_no_trial_of_the_file_takes_is_a_mistake(key: str) -> None:
    change = f'deviations=[{{key = "{key}", value = 0.5, reason = "r"}}]'.replace(
        "0.5", "5" if "epochs" in key else "0.5"
    )
    sweep, protocol, _ = read_sweep("digits", (change,))
    grids = (Grid(methods=("simclr",), axes={"epochs": 1}),)
    assert check(sweep, protocol, "s.toml")
    with pytest.raises(InvalidInput, match=r"deviations\.0\.key: changes no trial of this sweep"):
        check(replace(sweep, grids=grids), protocol, "s.toml")
    assert check(replace(sweep, grids=grids), protocol, "s.toml", ["methods"])  # a part of the sweep


def test_seeds_that_confirm_need_a_choice_and_change_no_trial_of_the_grid(tiny_plan: Planner) -> None:
    sweep, protocol, _ = read_sweep("digits", ("confirm.seeds=[8, 9]", "methods=byol"))
    with pytest.raises(InvalidInput, match=r"confirm\.seeds: no method has several cells.*list these"):
        check(sweep, protocol, "s.toml")
    assert check(sweep, protocol, "s.toml", ["methods"])  # a part of the sweep
    plain, confirmed = tiny_plan("confirm.seeds=[]"), tiny_plan("confirm.seeds=[8, 9]")
    assert confirmed.trials == confirmed.grid == plain.trials
    assert confirmed.content() == plain.content() | {"confirm": {"seeds": [8, 9]}} and "confirm" not in plain.content()


def test_trials_that_differ_in_the_last_digit_have_different_labels(tiny_plan: Planner) -> None:
    planned = tiny_plan("learning_rate=[0.3, 0.30000000000000004, 0.01]")
    labels = {trial_label(trial, planned.axes) for trial in planned.trials}
    assert len(labels) == len(planned.trials)
    assert any("learning_rate=0.01 " in label for label in labels)


def test_a_protocol_of_tens_of_thousands_of_mistakes_is_told_within_seconds() -> None:
    sweep, protocol, _ = read_sweep("digits")
    wrong = {f"x{number}": True for number in range(10_000)}
    broken = replace(
        protocol, movable={**protocol.movable, **wrong}, methods={"simclr": dict(wrong), **{name: {} for name in wrong}}
    )
    began = time.process_time()
    with pytest.raises(InvalidInput, match=r"29,950 more mistakes are not listed"):
        check(sweep, broken, "digits.toml")
    assert time.process_time() - began < 3  # the nearest name of each would take ten


def test_a_protocols_backbone_and_method_defaults_are_checked(tmp_path: Path) -> None:
    sweep, protocol, _ = read_sweep("digits")
    broken = replace(
        protocol,
        backbone=replace(protocol.backbone, name="resnet81"),
        methods={"simclr": {"temprature": 1.0}, "byoll": {}},
    )
    with pytest.raises(InvalidInput) as caught:
        check(sweep, broken, "digits.toml")
    error_text = str(caught.value)
    for piece in ("did you mean 'resnet18'?", "methods.simclr.temprature", "did you mean 'temperature'?", "'byol'"):
        assert piece in error_text


@pytest.mark.parametrize("name", shipped_protocols())
def test_a_shipped_protocol_asks_for_nothing_that_is_not_there(name: str) -> None:
    sweep, _, _ = read_sweep("digits", ("confirm.seeds=[]",))
    methods = tuple(read_protocol(name).methods)
    check(replace(sweep, grids=(Grid(methods=methods),)), read_protocol(name), name)


def test_metrics_and_variants_that_this_version_lacks_are_reported_with_the_nearest() -> None:
    sweep, protocol, _ = read_sweep("digits")
    metrics = protocol.evaluation.metrics | {"rankme_backbone": "rankme/sv-centred@1", "uniformty": "uniformity@1"}
    with pytest.raises(InvalidInput) as caught:
        check(sweep, replace(protocol, evaluation=replace(protocol.evaluation, metrics=metrics)), "digits.toml")
    variant, name = map(str, caught.value.mistakes)
    for piece in (
        "evaluation.metrics.rankme_backbone",
        "'rankme/sv-centred@1'",
        "did you mean 'rankme/sv-uncentred@1'?",
    ):
        assert piece in variant
    assert "is not a metric under checkpoint 'last'" in name and "did you mean 'uniformity'?" in name


def test_a_maximum_over_epochs_has_a_variant_of_its_own() -> None:
    sweep, protocol, _ = read_sweep("digits")
    best = replace(protocol, selected_on="test", checkpoint="best_on_test")
    with pytest.raises(InvalidInput) as caught:
        check(sweep, best, "digits.toml")
    error_text = str(caught.value)
    assert "did you mean 'knn/cosine-softmax-max-over-epochs@1'?" in error_text
    assert "linear_top1: is not a metric under checkpoint 'best_on_test'" in error_text


@pytest.mark.parametrize(
    ("changes", "piece"),
    [
        ({"validation_fraction = 0.2": "validation_fraction = 0"}, 'allowed: more than 0, or selected_on = "test"'),
        (
            {"at_least = 16": "at_least = 600"},
            "movable.batch_size.at_least: is above at_most (seen: 600.0); allowed: at most",
        ),
        ({"margin =": 'checkpoint = "best_on_test"\nmargin ='}, 'allowed: selected_on = "test"'),
        ({"linear_learning_rates = [0.01, 0.1, 1.0]\n": ""}, "linear_learning_rates: needs at least one value"),
        ({'linear_top1 = "linear/sgd-standardised@1"\n': ""}, "linear_weight_decays: is not used"),
        (
            {"margin =": "collapsed_below = 0.1\nmargin =", 'feature_std = "feature-std/l2-normalised@1"\n': ""},
            "collapsed_below: needs feature_std",
        ),
    ],
)
def test_values_that_contradict_each_other_are_reported(tmp_path: Path, changes: dict[str, str], piece: str) -> None:
    text = shipped_protocols()["digits-small"].read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_protocol(str(tmp_path / "p.toml"))
    assert piece in str(caught.value)


DEVIATIONS = 'deviations=[{key = "training.warmup_epochs", value = 0, reason = "none in the paper"}]'


def test_a_deviation_changes_every_id_and_stands_in_every_trial_and_in_the_plan(tiny_plan: Planner) -> None:
    plain, deviating = tiny_plan(), tiny_plan(DEVIATIONS)
    assert not {trial.trial_id for trial in plain.trials} & {trial.trial_id for trial in deviating.trials}
    for carried in (*(trial.protocol for trial in deviating.trials), deviating.content()["protocol"]):
        assert [one["key"] for one in carried["deviations"]] == ["training.warmup_epochs"]
        assert carried["base_hash"] == plain.protocol.hash
        assert carried["content"]["training"]["warmup_epochs"] == 0.0
    assert all(trial.training["warmup_epochs"] == 0.0 for trial in deviating.trials if trial.training)


def test_a_trial_without_deviations_carries_its_protocol_and_no_more(tiny_plan: Planner) -> None:
    for trial in tiny_plan().trials:
        assert list(trial.protocol) == ["name", "version", "hash", "content"]


def test_why_a_sweep_deviates_changes_no_id(tiny_plan: Planner) -> None:
    other = DEVIATIONS.replace("none in the paper", "another reason")
    first, second = (tiny_plan(change).trials for change in (DEVIATIONS, other))
    assert [trial.trial_id for trial in first] == [trial.trial_id for trial in second]


def test_equal_sweeps_give_equal_plans() -> None:
    sweep, protocol, _ = read_sweep("digits")
    resolved = check(sweep, protocol, "digits.toml")
    plans = [
        plan("digits", sweep, protocol, resolved, "sha256:0", training_images=1150, image_size=8).content()
        for _ in range(2)
    ]
    assert plans[0] == plans[1]


BACKBONE = 'name = "vit_tiny"\noptions = { patch_size = 3 }'


def _folder_of_images(folder: Path, per_class: int) -> Path:
    for split in ("train", "test"):
        for number, name in enumerate(("dark", "light")):
            (folder / split / name).mkdir(parents=True)
            for image in range(per_class):
                Image.new("RGB", (8, 8), (40 + 160 * number, image, 0)).save(folder / split / name / f"{image}.png")
    return folder


def test_a_batch_larger_than_the_data_is_reported_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path / "cache"))
    protocol = shipped_protocols()["digits-small"].read_text().replace('name = "digits"', 'name = "image_folder"')
    (tmp_path / "p.toml").write_text(protocol.replace("digits-small", "mine"))
    images = _folder_of_images(tmp_path / "images", per_class=10)  # 16 to train on
    changes = (f"protocol={tmp_path / 'p.toml'}", "batch_size=[16, 64]", "methods=byol")
    with pytest.raises(InvalidInput) as caught:
        make_plan("digits", changes, images)
    error_text = [str(mistake) for mistake in caught.value.mistakes]
    assert len(error_text) == 2
    assert all(piece in error_text[0] for piece in ("batch_size", "64", "at most 16"))
    assert all(piece in error_text[1] for piece in ("knn_neighbours", "20", "at most 16"))


def test_patches_that_do_not_fill_the_images_are_reported_before_anything_runs(tmp_path: Path) -> None:
    protocol = shipped_protocols()["digits-small"].read_text().replace("digits-small", "mine")
    protocol = re.sub(r"(?m)^name = \"small_resnet\"\noptions = .*$", BACKBONE, protocol)
    (tmp_path / "p.toml").write_text(protocol)
    with pytest.raises(InvalidInput) as caught:
        make_plan("digits", (f"protocol={tmp_path / 'p.toml'}", "methods=byol"), None)
    (error_text,) = map(str, caught.value.mistakes)
    assert all(
        piece in error_text for piece in ("patch_size", "3", "does not divide the images' side of 8", "1, 2, 4, 8")
    )


def test_a_batch_that_ranks_cannot_share_is_reported_before_anything_runs(tiny_plan: Planner) -> None:
    planned = tiny_plan("batch_size=[96, 256]")
    check_ranks(planned, 2)
    with pytest.raises(InvalidInput, match=r"cannot be split evenly \(seen: 256\); allowed: multiples of 3"):
        check_ranks(planned, 3)


def test_ranks_take_gpus_in_whole_groups() -> None:
    gpus = [f"cuda:{number}" for number in range(5)]
    assert first_devices(gpus, 1) == gpus
    assert first_devices(gpus, 2) == ["cuda:0", "cuda:2"]  # the fifth has no partner
    assert first_devices(gpus, 2, workers_per_gpu=2) == ["cuda:0", "cuda:2", "cuda:0", "cuda:2"]
    assert first_devices(["cpu"], 4) == ["cpu"]
    with pytest.raises(InvalidInput, match="needs one GPU for each process"):
        first_devices(gpus, 6)


def test_a_plan_knows_its_images_and_the_file_does_not(tiny_plan: Planner) -> None:
    planned = tiny_plan("methods=simclr")
    images, rule = load_dataset("digits").train.images, planned.protocol.dataset
    validation = round(rule.validation_fraction * len(images))
    assert abs(planned.training_images - (len(images) - validation)) <= 10  # it is rounded class by class
    assert planned.image_size == 8
    assert planned.content().keys() == {"schema", "name", "question", "protocol", "axes", "trials"}
