"""The protocol in words, and how to cite and to make again what a page shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from twinbench.reports.page.summary import and_, plural
from twinbench.reports.tables.cells import Section
from twinbench.results.record import WITHHELD
from twinbench.sweeps.metrics import KNN, LINEAR, RIDGE
from twinbench.sweeps.protocol import RIDGE_PENALTIES


def protocol_in_words(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Heading and sentence for each part that the content has; what it lacks is left out, never assumed."""
    told = [
        ("Data", _data(content.get("dataset") or {})),
        ("Views", _views(content.get("views") or [])),
        ("Backbone", _backbone(content.get("backbone") or {})),
        ("Training", _training(content.get("training") or {})),
        ("Evaluation", _evaluation(content.get("evaluation") or {})),
        ("Selection", _selection(content)),
        ("Seeds and margin", _demands(content)),
        ("May be moved", ", ".join(sorted(content.get("movable") or {}))),
        ("Not restated", "; ".join(map(str, content.get("not_restated") or []))),
    ]
    return [(name, text) for name, text in told if text]


def _data(dataset: Mapping[str, Any]) -> str:
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


def _views(views: Sequence[Mapping[str, Any]]) -> str:
    if not views:
        return ""
    different = [view for number, view in enumerate(views) if view not in views[:number]]
    recipes = " and ".join(_recipe(view) for view in different)
    alike = "of one recipe" if len(different) == 1 else f"of {len(different)} recipes"
    return f"{len(views)} views {alike}: {recipes}."


def _recipe(view: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in sorted(view.items()) if value)


def _backbone(backbone: Mapping[str, Any]) -> str:
    if "name" not in backbone:
        return ""
    options = ", ".join(f"{name} {_plain(value)}" for name, value in sorted((backbone.get("options") or {}).items()))
    return f"{backbone['name']}{f' ({options})' if options else ''}, the same for every method."


def _training(training: Mapping[str, Any]) -> str:
    if not training:
        return ""
    known = (
        ("epochs", "{} epochs"),
        ("batch_size", "batches of {}"),
        ("optimizer", "{}"),
        ("learning_rate", "learning rate {}"),
        ("learning_rate_rule", "{} rule"),
        ("weight_decay", "weight decay {}"),
        ("warmup_epochs", "{} epochs of warm-up"),
    )
    told = [words.format(_plain(training[name])) for name, words in known if training.get(name) is not None]
    return f"{', '.join(told)}; values that a sweep moved stand with its cells." if told else ""


def _evaluation(evaluation: Mapping[str, Any]) -> str:
    metrics = evaluation.get("metrics") or {}
    told = []
    if KNN.name in metrics or evaluation.get("knn_neighbours"):
        told.append(f"weighted kNN with k out of {_plain(evaluation.get('knn_neighbours', '–'))}")
    if LINEAR.name in metrics or evaluation.get("linear_epochs"):
        told.append(f"a linear probe of {_plain(evaluation.get('linear_epochs', '–'))} epochs")
    if RIDGE.name in metrics:
        told.append(f"ridge regression with {len(evaluation.get('ridge_penalties') or RIDGE_PENALTIES)} penalties")
    return f"On frozen features: {and_(told)}." if told else ""


def _selection(content: Mapping[str, Any]) -> str:
    if "selected_on" not in content:
        return ""
    weights = {"last": "the weights after the last epoch", "best_on_test": "the weights that were best on test"}
    checkpoint = str(content.get("checkpoint", "last"))
    return (
        f"Among candidates {content['selected_on']} data selects; reported are {weights.get(checkpoint, checkpoint)}."
    )


def _demands(content: Mapping[str, Any]) -> str:
    told = []
    if "minimum_seeds" in content:
        told.append(f"at least {content['minimum_seeds']} {plural('seed', int(content['minimum_seeds']))} per cell")
    if content.get("margin") is not None:
        points = 100 * content["margin"]
        told.append(f"a difference below {points:g} {plural('point', points)} in top-1 does not matter")
    return f"{'; '.join(told)}." if told else ""


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return (" to " if len(value) == 2 else ", ").join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# --- citing and making again ----------------------------------------------------------------------------------------


def citation(run_name: str, section: Section) -> str:
    """What a paper has to name so that its reader finds these numbers."""
    return (
        f"{run_name or 'This run'} under protocol {section.protocol_id}, dataset {section.dataset_fingerprint}, "
        f"{and_([f'commit {commit}' for commit in _commits(section)]) or 'commit unknown'}, twinbench."
    )


def commands(given: Sequence[str], section: Section) -> list[tuple[str, str]]:
    """What each is for, and the command; DIR is the run folder. `given`: those that the folder was run by."""
    told = [_checkout(commit) for commit in _commits(section)]
    if any(trial["planned"] for trial in section.trials):  # else the plan, and its commands, are of another protocol
        for number, command in enumerate(given, 1):
            counted = f", {number} of {len(given)} commands" if len(given) > 1 else ""
            withheld = f"; {WITHHELD} stands for what may be a secret" if WITHHELD in command else ""
            told.append((f"The run, as it was asked for{counted}{withheld}", command))
    return [
        *told,
        ("This page and its tables from the records", "twinbench report DIR"),
        ("One archive with all that is behind it", "twinbench bundle DIR --out run.bundle.tar.gz"),
        ("The accuracies from the outputs of every example", "twinbench verify run.bundle.tar.gz --level aggregate"),
        ("Trials again, drawn by a seed of your choice", "twinbench verify run.bundle.tar.gz --level rerun --seed 1"),
    ]


def _checkout(commit: str) -> tuple[str, str]:
    """Of a checkout that differed from its commit, git knows the commit alone."""
    known = commit.removesuffix("+changes")
    told = "The code that ran" if known == commit else "The code that ran, but for changes that are in no commit"
    return told, f"git checkout {known}"


def _commits(section: Section) -> list[str]:
    return sorted({str(trial["commit"]) for trial in section.trials if trial["commit"]})
