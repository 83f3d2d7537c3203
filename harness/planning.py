"""Turns a sweep into its trials. Everything is checked before a processor or a queue slot is requested."""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from twinbench.harness.data.dataset_cache import LeftOut
from twinbench.harness.data.datasets import count_training_images, load_dataset
from twinbench.harness.schemas import Schema, method_names, method_schema, shipped
from twinbench.methods.names import UnknownMethod
from twinbench.sweeps.errors import MOST_MISTAKES, InvalidInput, Mistake, first_ones, nearest, number_text
from twinbench.sweeps.metrics import metric_mistakes
from twinbench.sweeps.protocol import CarriedProtocol, Protocol, Range, Scalar, Training
from twinbench.sweeps.sweep import SET, Cell, Sweep, axes_of, expand, from_set, read_sweep, set_keys
from twinbench.sweeps.toml_reader import WRONG_KIND, parse
from twinbench.sweeps.trial import WITHOUT_SEEDS, Trial

NO_FIELD = "is not a field of any method or of training"
TRAINING_FIELDS = tuple(field.name for field in dataclasses.fields(Training))


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep made ready to run: its name and question, its protocol, the axes that it varies, and every trial.

    `training_images` is how many images each trial trains on, `image_size` their side in pixels. Both follow from the
    dataset and are not written to `plan.json`; they stand here so that nothing loads the dataset again to know them.
    `left_out` is what of the dataset's source was left out. `confirm_seeds` are those of the confirm stage, whose
    trials are part of `trials` once its cells are chosen (run_folder/confirm_stage.py).
    """

    name: str
    question: str
    protocol: Protocol
    axes: tuple[str, ...]
    trials: tuple[Trial, ...]
    training_images: int
    image_size: int
    left_out: tuple[LeftOut, ...] = ()
    confirm_seeds: tuple[int, ...] = ()

    def content(self) -> dict[str, Any]:
        """Return the content of `plan.json`, with the protocol once and not in every trial."""
        trials = [
            {"trial_id": trial.trial_id, "cell_id": trial.cell_id}
            | {key: value for key, value in trial.content().items() if key != "protocol"}
            for trial in self.trials
        ]
        return {
            "schema": 1,
            "name": self.name,
            "question": self.question,
            "protocol": self.protocol.carried,
            "axes": list(self.axes),
            "trials": trials,
            # without the examples: names of files may say more than a published plan should
            **({"left_out": [f"{one.reason}: {one.number}" for one in self.left_out]} if self.left_out else {}),
            **({"confirm": {"seeds": list(self.confirm_seeds)}} if self.confirm_seeds else {}),
        }

    @property
    def grid(self) -> tuple[Trial, ...]:
        """The trials that validation chooses from."""
        return tuple(trial for trial in self.trials if trial.seed not in self.confirm_seeds)

    def batch_sizes(self) -> list[int]:
        """Return the batch sizes of the trials, ascending."""
        return sorted({trial.training["batch_size"] for trial in self.trials if trial.training})


Resolved = tuple[Cell, dict[str, Any], dict[str, Any]]


def check(sweep: Sweep, protocol: Protocol, where: str, changed: Collection[str] = ()) -> list[Resolved]:
    """Return each cell with its resolved method settings and training settings. InvalidInput lists every mistake.

    `changed` are the keys that `--set` has given.
    """
    in_axes, wrong = _axis_mistakes(sweep, protocol, where, changed)
    mistakes = [*_protocol_mistakes(protocol), *in_axes]
    resolved = []
    for cell in expand(sweep):
        if (cell.grid, cell.method) in wrong:
            continue
        try:
            resolved.append((cell, *_resolve(cell, protocol, f"{where}: grids.{cell.grid}")))
        except InvalidInput as error:
            mistakes.extend(from_set(mistake, changed, cell.method) for mistake in error.mistakes)
    if not mistakes and not changed:  # --set may keep the part of a sweep that a deviation does not concern
        mistakes += [*_idle_deviations(sweep, protocol, resolved, where), *_idle_confirm(sweep, where)]
    if mistakes:
        raise InvalidInput(dict.fromkeys(mistakes))
    return resolved


def plan(
    name: str,
    sweep: Sweep,
    protocol: Protocol,
    resolved: list[Resolved],
    fingerprint: str,
    training_images: int,
    image_size: int,
) -> Plan:
    """Return the plan of `sweep`, as `check` resolved it, on the dataset with that fingerprint."""
    trials = trials_of_sweep(sweep, protocol, resolved, fingerprint)
    axes, confirm = _varied(resolved), sweep.confirm.seeds
    return Plan(name, sweep.question, protocol, axes, trials, training_images, image_size, confirm_seeds=confirm)


def trials_of_sweep(sweep: Sweep, protocol: Protocol, resolved: list[Resolved], fingerprint: str) -> tuple[Trial, ...]:
    """Return each trial once: baselines first, then cell by cell, seed by seed."""
    carried = protocol.carried
    trials = _baseline_trials(sweep, carried, fingerprint) if sweep.baselines else []
    for cell, settings, training in resolved:
        version = method_schema(cell.method).version
        trials += [Trial(cell.method, version, settings, training, s, fingerprint, carried) for s in sweep.seeds]
    return tuple({trial.trial_id: trial for trial in trials}.values())


def _baseline_trials(sweep: Sweep, protocol: CarriedProtocol, fingerprint: str) -> list[Trial]:
    """Return raw pixels once, as nothing in them is random, and the untrained backbone once per seed."""
    seeds = {WITHOUT_SEEDS: sweep.seeds[:1], "untrained": sweep.seeds}
    baselines = shipped().baselines
    return [
        Trial(name, baselines[name].version, {}, {}, seed, fingerprint, protocol)
        for name in sorted(baselines)
        for seed in seeds[name]
    ]


def _varied(resolved: list[Resolved]) -> tuple[str, ...]:
    """Return the fields that take more than one value within one method: the axes of this sweep."""
    found: dict[str, dict[str, set[str]]] = {key: {} for cell, _, _ in resolved for key in cell.values}
    for cell, settings, training in resolved:
        for key, value in (settings | training).items():
            if key in found:
                found[key].setdefault(cell.method, set()).add(repr(value))
    return tuple(key for key, methods in found.items() if any(len(values) > 1 for values in methods.values()))


def _resolve(cell: Cell, protocol: Protocol, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return settings and training of a cell: the sweep's values over the protocol's over the config's defaults."""
    method = method_schema(cell.method)
    values = protocol.methods.get(cell.method, {}) | dict(cell.values)
    training_values = {key: value for key, value in values.items() if key in TRAINING_FIELDS}
    training = parse(Training, dataclasses.asdict(protocol.training) | training_values, place)
    settings: Any = parse(method.config_class, {key: values[key] for key in values if key in method.settings}, place)
    return dataclasses.asdict(settings), dataclasses.asdict(training)


def _axis_mistakes(
    sweep: Sweep, protocol: Protocol, where: str, changed: Collection[str]
) -> tuple[list[Mistake], set[tuple[int, str]]]:
    """Return unknown methods and fields, and values that the protocol does not allow, and the grids and methods in
    which they are. A field that several methods lack is one mistake.
    """
    mistakes: list[Mistake] = []
    known = method_names()
    usable = {*known, *shipped().baselines}
    wrong: set[tuple[int, str]] = set()
    lacking: dict[Mistake, dict[str, Schema]] = {}  # methods by the mistake as far as it is the same for all of them
    for number, name in [(number, name) for number, grid in enumerate(sweep.grids) for name in grid.methods]:
        place = f"{where}: grids.{number}"
        if name not in usable:
            one = _unknown(place, "methods", "method", name, known, mistakes)
            mistakes.append(from_set(one, changed))
            wrong.add((number, name))
            continue
        method = method_schema(name)
        for key, values in axes_of(sweep.grids[number], name).items():
            found: list[Mistake] = []
            if key in (*method.settings, *TRAINING_FIELDS):
                found = _value_mistakes(key, values, protocol, place)
                mistakes += [from_set(mistake, changed, name) for mistake in found]
            else:
                found = [Mistake(place, key, "", values[0] if len(values) == 1 else str(values))]
                lacking.setdefault(from_set(found[0], changed, name), {})[name] = method
            if found:
                wrong.add((number, name))
    first = [_unknown_field(*one, sweep) for one in itertools.islice(lacking.items(), MOST_MISTAKES)]
    return [*(first and first_ones(first, more=len(lacking) - len(first))), *mistakes], wrong


def _idle_deviations(sweep: Sweep, protocol: Protocol, resolved: list[Resolved], where: str) -> list[Mistake]:
    """Return a mistake for each deviation in a setting that no cell has with the deviation's value."""
    mistakes = []
    for number, key in enumerate(deviation.key for deviation in sweep.deviations):
        section, _, name = key.rpartition(".")
        _, _, method = section.partition("methods.")
        if section == "training" or method:
            value = protocol.methods[method][name] if method else getattr(protocol.training, name)
            cells = [
                (settings | training).get(name) for cell, settings, training in resolved if method in ("", cell.method)
            ]
            if value not in cells:
                mistakes.append(Mistake(where, f"deviations.{number}.key", "changes no trial of this sweep", key))
    return mistakes


def _idle_confirm(sweep: Sweep, where: str) -> list[Mistake]:
    """Return a mistake if the sweep confirms a choice although no method has several cells to choose from."""
    cells = Counter(cell.method for cell in expand(sweep))
    if not sweep.confirm.seeds or max(cells.values()) > 1:
        return []
    problem = "no method has several cells, so nothing is chosen that could be confirmed"
    return [Mistake(where, "confirm.seeds", problem, str([*sweep.confirm.seeds]), "list these seeds under seeds")]


def _unknown_field(mistake: Mistake, lacking: Mapping[str, Schema], sweep: Sweep) -> Mistake:
    """Return the whole mistake of a field that the methods in `lacking` do not have."""
    key = mistake.key.rpartition(".")[2]
    known = list(dict.fromkeys(name for method in lacking.values() for name in (*method.settings, *TRAINING_FIELDS)))
    having = [one for grid in sweep.grids for one in grid.methods if one in method_names()]
    owner = next((f"{name}.{key}" for name in having if key in method_schema(name).settings), "")
    literature = next((one.literature_names[key] for one in lacking.values() if key in one.literature_names), "")
    problem = f"is not a field of {', '.join(lacking)} or of training"
    right = literature or owner or nearest(key, known)
    return dataclasses.replace(mistake, problem=problem, allowed=", ".join(known), nearest=right)


def _value_mistakes(key: str, values: Sequence[Scalar], protocol: Protocol, place: str) -> list[Mistake]:
    movable = protocol.movable.get(key, False)
    if movable is False:
        allowed = ", ".join(name for name, rule in protocol.movable.items() if rule is not False)
        problem = f"may not be varied under protocol {protocol.name}"
        return [Mistake(place, key, problem, value, allowed) for value in values]
    if not isinstance(movable, Range):
        return []
    allowed = f"{number_text(movable.at_least)} to {number_text(movable.at_most)} under protocol {protocol.name}"
    return [
        Mistake(place, key, "is out of range", value, allowed)
        for value in values
        if isinstance(value, int | float) and not movable.at_least <= value <= movable.at_most
    ]


def _protocol_mistakes(protocol: Protocol) -> list[Mistake]:
    """Return the mistakes that only the registries show: in metrics, backbone options and method settings."""
    where = f"protocol {protocol.name}"
    mistakes = metric_mistakes(protocol.evaluation.metrics, protocol.checkpoint, where)
    name, backbones = protocol.backbone.name, shipped().backbones
    if name not in backbones:
        mistakes.append(_unknown(where, "backbone.name", "backbone", name, backbones))
    else:
        mistakes += _option_mistakes(backbones[name].config_class, protocol.backbone.options, where)
    mistakes += _movable_mistakes(protocol, where)
    for method_name, values in protocol.methods.items():
        try:
            method = method_schema(method_name)
        except UnknownMethod:
            mistakes.append(_unknown(where, "methods", "method", method_name, method_names(), mistakes))
            continue
        known = (*method.settings, *TRAINING_FIELDS)
        for key in sorted(set(values) - set(known)):
            right = method.literature_names.get(key, "") or nearest(key, known, mistakes)
            mistakes.append(Mistake(where, f"methods.{method_name}.{key}", "unknown key", values[key], nearest=right))
    return mistakes


def _movable_mistakes(protocol: Protocol, where: str) -> list[Mistake]:
    """Return a mistake for each axis that may be varied and that is a field of no method."""
    known = _known_fields(protocol.movable)
    mistakes: list[Mistake] = []
    for key in protocol.movable:
        if key not in known:
            mistakes.append(Mistake(where, f"movable.{key}", NO_FIELD, nearest=nearest(key, known, mistakes)))
    return mistakes


def _known_fields(used: Collection[str]) -> set[str]:
    """Return the fields of training and of every method; those of other packages only if one `used` may be of them."""
    known = {*TRAINING_FIELDS, *(name for method in shipped().methods.values() for name in method.settings)}
    if set(used) - known:  # methods of other packages, which are imported for it
        known |= {field for name in method_names() for field in method_schema(name).settings}
    return known


def _unknown_first(mistake: Mistake) -> Mistake:
    """Return the mistake; of a value on an axis that is no field of any method, that it is none."""
    if mistake.problem != WRONG_KIND or not (mistake.where == SET or mistake.key.startswith("grids.")):
        return mistake
    key = re.sub(r"\.\d+$", "", mistake.key)  # of an item of the value
    field = key.rpartition(".")[2]
    known = _known_fields([field])
    if field in known:
        return mistake
    return dataclasses.replace(mistake, key=key, problem=NO_FIELD, allowed="", nearest=nearest(field, known))


def _unknown(
    where: str, key: str, kind: str, name: str, known: Collection[str], before: Sequence[Mistake] = ()
) -> Mistake:
    return Mistake(where, key, f"unknown {kind}", name, ", ".join(known), nearest(name, known, before))


def _option_mistakes(options_class: type, options: Mapping[str, Scalar], where: str) -> list[Mistake]:
    known = list(get_type_hints(options_class))
    place, allowed = "backbone.options", ", ".join(known)
    unknown: list[Mistake] = []
    for key in [key for key in options if key not in known]:
        close = nearest(key, known, unknown)
        unknown.append(Mistake(where, f"{place}.{key}", "unknown key", options[key], allowed, close))
    if unknown:
        return unknown
    try:
        parse(options_class, dict(options), f"{where}: {place}")
    except InvalidInput as error:
        return list(error.mistakes)
    return []


def make_plan(name: str, changes: tuple[str, ...], data: Path | None) -> Plan:
    """Read and check the sweep, load its dataset (decoded once and cached), and return the plan.

    InvalidInput lists every mistake found.
    """
    try:
        sweep, protocol, path = read_sweep(name, changes)
    except InvalidInput as error:
        raise InvalidInput(map(_unknown_first, error.mistakes)) from None
    where = str(path)
    resolved = check(sweep, protocol, where, set_keys(changes))
    dataset = load_dataset(protocol.dataset.name, data, protocol.dataset.image_size)
    image_size = int(dataset.train.images.shape[-1])
    training_images = count_training_images(dataset, protocol.dataset.validation_fraction)
    training_images = min(training_images, protocol.dataset.train_examples or training_images)
    planned = plan(path.stem, sweep, protocol, resolved, dataset.fingerprint, training_images, image_size)
    _check_sizes(planned, where)
    return dataclasses.replace(planned, left_out=dataset.left_out)


def _check_sizes(planned: Plan, where: str) -> None:
    """Raise InvalidInput if a batch or neighbourhood exceeds the training set, or patches do not tile an image."""
    count = planned.training_images
    allowed = f"at most {count}, the training images of {planned.protocol.dataset.name}"
    sizes = [size for size in planned.batch_sizes() if size > count]
    mistakes = [Mistake(where, "batch_size", "is too large", size, allowed) for size in sizes]
    neighbours = planned.protocol.evaluation.knn_neighbours
    place = f"protocol {planned.protocol.name}"
    mistakes += [
        Mistake(place, "evaluation.knn_neighbours", "is too many", k, allowed) for k in neighbours if k > count
    ]
    size, backbone = planned.image_size, planned.protocol.backbone
    options = shipped().backbones[backbone.name].config_class(**backbone.options)
    side = getattr(options, "patch_size", 1)  # of the patches, if the backbone divides images into patches
    if size % side:
        divisors = ", ".join(str(divisor) for divisor in range(1, size + 1) if size % divisor == 0)
        what = f"does not divide the images' side of {size}"
        mistakes.append(Mistake(place, "backbone.options.patch_size", what, side, divisors))
    if mistakes:
        raise InvalidInput(mistakes)


def check_ranks(planned: Plan, processes: int) -> None:
    """Raise InvalidInput if a batch size is not a multiple of the ranks, which take equal shares of each batch."""
    allowed = f"multiples of {processes}, the processes per trial"
    mistakes = [
        Mistake("--processes-per-trial", "batch_size", "cannot be split evenly", size, allowed)
        for size in planned.batch_sizes()
        if size % processes
    ]
    if mistakes:
        raise InvalidInput(mistakes)
