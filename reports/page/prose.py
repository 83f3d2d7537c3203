"""The protocol in words, the citation, and the commands that reproduce what a page shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from twinbench.reports.page.summary import and_, plural
from twinbench.reports.tables.cells import Section
from twinbench.results.record import WITHHELD
from twinbench.sweeps.errors import counted
from twinbench.sweeps.metrics import KNN, LINEAR, RIDGE
from twinbench.sweeps.own_values import ChangedSetting, fixed_text
from twinbench.sweeps.protocol import RIDGE_PENALTIES

Content = Mapping[str, Any]  # a protocol's content, or a table of it, as read from JSON


def protocol_in_words(content: Content, fixed: Mapping[str, Sequence[ChangedSetting]]) -> list[tuple[str, str]]:
    """Return heading and sentence for each part that the content has. Missing parts are left out, never assumed.

    `fixed`: settings that differ from the protocol in every cell, as `in_every_cell` gives them. The training is given
    as it was, with the protocol's values behind those that differ for all methods.
    """
    parts = [
        ("Data", _data(content.get("dataset") or {})),
        ("Views", _views(content.get("views") or [])),
        ("Backbone", _backbone(content.get("backbone") or {})),
        ("Training", _training(content.get("training") or {}, fixed.get("", ()))),
        ("Not as in the protocol", fixed_text(fixed)),
        ("Evaluation", _evaluation(content.get("evaluation") or {})),
        ("Selection", _selection(content)),
        ("Seeds and margin", _demands(content)),
        ("May be varied", ", ".join(sorted(content.get("movable") or {}))),
        ("Not restated", "; ".join(map(str, content.get("not_restated") or []))),
    ]
    return [(name, text) for name, text in parts if text]


def left_out_in_words(left_out: Sequence[str], section: Section) -> list[tuple[str, str]]:
    """Return heading and sentence about what the plan says was left out of the dataset's folder, if anything was."""
    return [("Left out of the data", f"{'; '.join(left_out)}.")] if left_out and _is_of_the_plan(section) else []


def _is_of_the_plan(section: Section) -> bool:
    """Return whether the plan has trials of the section; if not, it belongs to another protocol."""
    return any(trial["planned"] for trial in section.trials)


def _data(dataset: Content) -> str:
    if "name" not in dataset:
        return ""
    parts = [str(dataset["name"])]
    if dataset.get("train_examples"):
        parts.append(f"{dataset['train_examples']:,} of its training images")
    if dataset.get("test_examples"):
        parts.append(f"{dataset['test_examples']:,} of its test images")
    if dataset.get("validation_fraction"):
        share = f"{100 * dataset['validation_fraction']:g} % of the training images are held out for validation"
        parts.append(f"{share} (split seed {dataset.get('split_seed', 0)})")
    if dataset.get("image_size"):
        parts.append(f"resized to {dataset['image_size']} pixels")
    return f"{'; '.join(parts)}."


def _views(views: Sequence[Content]) -> str:
    if not views:
        return ""
    different = [view for number, view in enumerate(views) if view not in views[:number]]
    recipes = " and ".join(_recipe(view) for view in different)
    alike = "of one recipe" if len(different) == 1 else f"of {len(different)} recipes"
    return f"{len(views)} views {alike}: {recipes}."


def _recipe(view: Content) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in sorted(view.items()) if value)


def _backbone(backbone: Content) -> str:
    if "name" not in backbone:
        return ""
    options = ", ".join(f"{name} {_plain(value)}" for name, value in sorted((backbone.get("options") or {}).items()))
    return f"{backbone['name']}{f' ({options})' if options else ''}, the same for every method."


def _training(training: Content, fixed: Sequence[ChangedSetting]) -> str:
    known = (
        ("epochs", "{} epochs"),
        ("batch_size", "batches of {}"),
        ("optimizer", "{}"),
        ("learning_rate", "learning rate {}"),
        ("learning_rate_rule", "{} rule"),
        ("weight_decay", "weight decay {}"),
        ("warmup_epochs", "{} epochs of warm-up"),
    )
    changed = {one.name: one for one in fixed}
    parts = [
        f"{_of(words, changed[name].value)} (protocol: {changed[name].protocol_value})"
        if name in changed
        else _of(words, _plain(training[name]))
        for name, words in known
        if training.get(name) is not None
    ]
    return f"{', '.join(parts)}; values varied by the sweep are given with its cells." if parts else ""


def _of(words: str, value: object) -> str:
    return words.format(value).replace("epochs", "epoch" if str(value) == "1" else "epochs")


def _evaluation(evaluation: Content) -> str:
    metrics = evaluation.get("metrics") or {}
    probes = []
    if KNN.name in metrics or evaluation.get("knn_neighbours"):
        probes.append(f"weighted kNN with k from {_plain(evaluation.get('knn_neighbours', '–'))}")
    if LINEAR.name in metrics or evaluation.get("linear_epochs"):
        probes.append(_of("a linear probe of {} epochs", _plain(evaluation.get("linear_epochs", "–"))))
    if RIDGE.name in metrics:
        probes.append(f"ridge regression with {len(evaluation.get('ridge_penalties') or RIDGE_PENALTIES)} penalties")
    return f"On frozen features: {and_(probes)}." if probes else ""


def _selection(content: Content) -> str:
    if "selected_on" not in content:
        return ""
    weights = {"last": "after the last epoch", "best_on_test": "that are best on test"}
    checkpoint = str(content.get("checkpoint", "last"))
    return (
        f"Candidates are selected on {content['selected_on']} data; results are of the weights "
        f"{weights.get(checkpoint, checkpoint)}."
    )


def _demands(content: Content) -> str:
    demands = []
    if "minimum_seeds" in content:
        demands.append(f"at least {counted(int(content['minimum_seeds']), 'seed')} per cell")
    if content.get("margin") is not None:
        points = 100 * content["margin"]
        demands.append(f"a difference below {points:g} {plural('point', points)} in top-1 does not matter")
    return f"{'; '.join(demands)}." if demands else ""


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return (" to " if len(value) == 2 else ", ").join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# --- citing and reproducing -------------------------------------------------------------------------------------------


def citation(run_name: str, section: Section) -> str:
    """Return what a paper must name so that its readers can find these numbers."""
    return (
        f"{run_name or 'This run'} under protocol {section.ran_as}, dataset {section.dataset_fingerprint}, "
        f"{and_([f'commit {commit}' for commit in _commits(section)]) or 'commit unknown'}, twinbench."
    )


def commands(given: Sequence[str], section: Section) -> list[tuple[str, str]]:
    """Return purpose and command, with DIR for the run folder. `given`: the commands that made the run folder."""
    made = [_checkout(commit) for commit in _commits(section)]
    for number, command in enumerate(given if _is_of_the_plan(section) else (), 1):
        counted = f", {number} of {len(given)} commands" if len(given) > 1 else ""
        withheld = f"; {WITHHELD} replaces what may be a secret" if WITHHELD in command else ""
        made.append((f"Run the sweep{counted}{withheld}", command))
    verify = "twinbench verify run.bundle.tar.gz --level"
    return [
        *made,
        ("Make this page and its tables from the records", "twinbench report DIR"),
        ("Pack everything behind it into one archive", "twinbench bundle DIR --out run.bundle.tar.gz"),
        ("Recompute the accuracies from the per-example outputs", f"{verify} aggregate"),
        ("Run trials again, drawn with a seed of your choice", f"{verify} rerun --seed 1"),
    ]


def _checkout(commit: str) -> tuple[str, str]:
    """Return purpose and command for one commit; uncommitted changes cannot be checked out."""
    known = commit.removesuffix("+changes")
    purpose = "Check out the code" if known == commit else "Check out the code, without its uncommitted changes"
    return purpose, f"git checkout {known}"


def _commits(section: Section) -> list[str]:
    return sorted({str(trial["commit"]) for trial in section.trials if trial["commit"]})
