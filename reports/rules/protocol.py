"""Rules A1, A2 and A11 to A13: whether all sides share protocol, data, augmentation, compute and backbone."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.consistency import COMPLETE, Seen, image_problems, namesake, validation_problems
from twinbench.reports.claims.evidence import Side
from twinbench.reports.rules.case import (
    NO_RECORD,
    Case,
    Outcome,
    distinct,
    epochs_of,
    failed,
    not_applicable,
    passed,
    passed_if,
    some,
    trained_pairs,
    trial_text,
)
from twinbench.reports.tables.cells import REPORTED_ON, Section
from twinbench.sweeps.deviations import deviations_text, undone
from twinbench.sweeps.errors import counted
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.protocol import content_hash
from twinbench.sweeps.protocol_diff import differences

COMPUTE_TOLERANCE = 0.1  # two sides that differ by a larger share of epochs or images had unequal compute

# --- A1 -------------------------------------------------------------------------------------------------------------


def same_protocol(case: Case) -> Outcome:
    """A1: all sides ran under one protocol, the one that the claim names, with the content its version stands for."""
    if case.has_no_record:
        return NO_RECORD
    problem = next(_protocol_problems(case), "")
    section = case.evidence.measured[0].section
    assert section is not None
    deviations = f", with deviations: {deviations_text(section.deviations)}" if section.deviations else ""
    return passed_if(not problem, f"{section.protocol_id}{deviations}", problem)


def _protocol_problems(case: Case) -> Iterator[str]:
    claim, sections = case.evidence.claim, _sections(case)
    for other in sections[1:]:
        keys = [f"{one.key} ({one.left} and {one.right})" for one in differences(sections[0].content, other.content)]
        yield f"{sections[0].protocol_id} and {other.protocol_id} differ in {some(keys) or 'their names alone'}"
    (section, *_) = sections
    if claim.protocol and section.protocol_name != claim.protocol:
        yield f"the claim names {claim.protocol}, the trials ran under {section.protocol_id}"
    if content_hash(section.content) != section.protocol_hash:
        yield f"the content of {section.protocol_id} does not have that hash"
    yield from _lock_problems(case, section)
    for trial_id, files in case.evidence.files.items():
        if files.record:
            yield f"the record of {trial_id}: {files.record}"
    yield from _variant_problems(case)
    table = case.evidence.table
    if table is not None and claim.kind == "equals" and section.protocol_name not in table.restated_by:
        restating = ", ".join(table.restated_by) or "no shipped protocol"
        yield f"{table.name} is restated by {restating}, not by {section.protocol_name}"


def _sections(case: Case) -> list[Section]:
    """The protocols of the sides, each once."""
    return list({side.section.protocol_hash: side.section for side in case.evidence.measured if side.section}.values())


def _lock_problems(case: Case, section: Section) -> Iterator[str]:
    """Differences from the shipped protocol of the same name and version that are not named deviations."""
    name, version = section.protocol_name, section.protocol_version or 0
    locked = case.evidence.locked.get((name, version))
    if locked is not None and locked not in (section.protocol_hash, section.base_hash):
        yield f"{section.protocol_id} has the name and version of the shipped protocol {locked[:12]}, not its content"
    if other := namesake(name, {of for of, _ in case.evidence.locked}):
        yield f"{section.protocol_id} is not the shipped protocol {other}, whose name it reads as"
    known = sorted(number for of, number in case.evidence.locked if of == name)
    if known and version not in known:
        versions = ", ".join(map(str, known))
        yield f"{section.protocol_id} is named as a shipped protocol; twinbench here has only its versions {versions}"
    if section.base_hash and section.base_hash != content_hash(undone(section.content, section.deviations)):
        yield f"{section.protocol_id} differs from {section.base_hash[:12]} in more than the deviations that it names"


def _variant_problems(case: Case) -> Iterator[str]:
    """Metrics that were measured in several variants, in another than the protocol's, or twice for one trial."""
    # Each row once: one cell may stand on several sides.
    rows = list({id(row): row for side in case.evidence.measured for row in side.measurements}.values())
    variants = {str(row["variant"]) for row in rows}
    if len(variants) > 1:
        yield f"{case.evidence.claim.metric} was measured in several variants: {', '.join(sorted(variants))}"
    if len({row["trial_id"] for row in rows}) < len(rows):
        yield f"a trial has two values of {case.evidence.claim.metric} on {REPORTED_ON}"
    named = case.evidence.content.get("evaluation", {}).get("metrics", {}).get(case.evidence.claim.metric)
    if rows and named not in (None, *variants):
        yield f"{case.evidence.claim.metric} was measured as {', '.join(variants)}, but the protocol says {named}"


# --- A2 -------------------------------------------------------------------------------------------------------------


def same_split(case: Case) -> Outcome:
    """A2: all sides used the same decoded images and labels, divided into the same splits."""
    if case.has_no_record:
        return NO_RECORD
    problem = next(_split_problems(case), "")
    fingerprints = distinct(trial["dataset_fingerprint"] for trial in case.evidence.trials)
    return passed_if(not problem, f"dataset {fingerprints[0][:19]}", problem)


def _split_problems(case: Case) -> Iterator[str]:
    fingerprints = distinct(trial["dataset_fingerprint"] for trial in case.evidence.trials)
    if len(fingerprints) > 1:
        yield f"datasets differ: {', '.join(fingerprints)}"
    datasets = [section.content.get("dataset", {}) for section in _sections(case)]
    for other in datasets[1:]:
        if found := differences(datasets[0], other):
            yield f"splits differ: {', '.join(f'dataset.{one.key} ({one.left} and {one.right})' for one in found)}"
    labels = {files.labels for files in case.evidence.files.values() if files.labels}
    if len(labels) > 1:
        yield "the labels of the test images differ between trials"
    for trial_id, files in case.evidence.files.items():
        if files.test_data:
            yield f"trial {trial_id}: {files.test_data}"
    validation = {trial_id: files.validation for trial_id, files in case.evidence.files.items()}
    for trial_id, problem in validation_problems(validation).items():
        yield f"trial {trial_id} {problem}"
    counts = distinct(row["n_examples"] for side in case.evidence.measured for row in side.measurements)
    if len(counts) > 1:
        yield f"measured on unequal numbers of test images: {', '.join(counts)}"


# --- A11, A13 -------------------------------------------------------------------------------------------------------


def same_augmentation(case: Case) -> Outcome:
    """A11: all sides used one augmentation recipe."""
    if case.has_no_record:
        return NO_RECORD
    recipes = distinct(digest(side.section.content.get("views")) for side in case.evidence.measured if side.section)
    return passed_if(len(recipes) == 1, f"recipe {recipes[0][:12]}", f"recipes differ: {', '.join(recipes)}")


def same_backbone(case: Case) -> Outcome:
    """A13: all sides used the same backbone with the same options."""
    if case.has_no_record:
        return NO_RECORD
    found = [side.section.content.get("backbone", {}) for side in case.evidence.measured if side.section]
    texts = [_backbone_text(backbone) for backbone in {digest(one): one for one in found}.values()]
    return passed_if(len(texts) == 1, texts[0], f"backbones differ: {'; '.join(texts)}")


def _backbone_text(backbone: Mapping[str, Any]) -> str:
    """Return "small_resnet, width 16"."""
    options = [f"{key.replace('_', ' ')} {value}" for key, value in sorted(backbone.get("options", {}).items())]
    return ", ".join([str(backbone.get("name", "unknown")), *options])


# --- A12 ------------------------------------------------------------------------------------------------------------


def same_compute(case: Case) -> Outcome:
    """A12: all sides have the same epochs and images seen, within a tenth, unless the claim itself sets them.

    Each trial must also have run as many epochs as it was set.
    """
    if problem := next(itertools.chain(_wrong_epochs(case), _wrong_images(case)), ""):
        return failed(problem)
    pairs = trained_pairs(case)
    if not pairs:
        return not_applicable("compute is not compared")
    sides = {side.label: side for pair in pairs for side in pair}
    text = ", ".join(
        f"{label}: {counted(epochs_of(side) or 0, 'epoch')}, {_images_seen(side):,.0f} images"
        for label, side in sides.items()
    )
    if all(_compute_is_equal(a, b) for a, b in pairs):
        return passed(text)
    if all(_compute_is_equal(a, b) or _sets_compute(case.evidence.claim, a, b) for a, b in pairs):
        return passed(f"unequal as the claim says: {text}")
    return failed(f"unequal compute: {text}")


def _wrong_epochs(case: Case) -> Iterator[str]:
    for side in case.evidence.measured:
        epochs = epochs_of(side) or 0.0
        for trial in side.trials:
            last = case.evidence.context.last_epoch.get(str(trial["trial_id"]))
            if epochs and last is not None and (last > epochs or (trial["status"] == "done" and last < epochs)):
                yield f"{trial_text(trial)} was set to {counted(epochs, 'epoch')}, but its curves have {last:g}"


def _wrong_images(case: Case) -> Iterator[str]:
    seen = {}
    for side in case.evidence.measured:
        values = side.cell.values if side.cell else {}
        epochs, batch = (int(values[key].number or 0) if key in values else 0 for key in ("epochs", "batch_size"))
        for trial in side.trials if epochs > 0 and batch > 0 else ():
            if trial["status"] in COMPLETE and trial["images_seen"] is not None:
                seen[trial["trial_id"]] = Seen(trial_text(trial), int(trial["images_seen"]), epochs, batch)
    for name, problem in image_problems([*seen.values()]).items():
        yield f"{name} {problem}"


def _images_seen(side: Side) -> float:
    counts = [float(trial["images_seen"]) for trial in side.trials if trial["images_seen"]]
    return sum(counts) / len(counts) if counts else 0.0


def _compute_is_equal(a: Side, b: Side) -> bool:
    """Epochs are part of the trial's identity; images seen are counted while it trains and covered by no digest."""
    return _are_close(epochs_of(a), epochs_of(b)) and _are_close(_images_seen(a), _images_seen(b))


def _are_close(a: float | None, b: float | None) -> bool:
    """Whether the two numbers agree within the tolerance; an unknown number, None or 0, agrees with any."""
    return not a or not b or max(a, b) <= min(a, b) * (1 + COMPUTE_TOLERANCE)


def _sets_compute(claim: Claim, a: Side, b: Side) -> bool:
    """Whether the claim sets on both sides what makes them unequal: the epochs or, if those agree, the batch size."""
    keys = ("batch_size", "epochs") if _are_close(epochs_of(a), epochs_of(b)) else ("epochs",)
    return claim.axis in keys or any(key in a.selector and key in b.selector for key in keys)
