"""Rules A1, A2, A11 and A13: whether all sides share the protocol, the data, the augmentation and the backbone."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from twinbench.reports.claims.evidence import Side
from twinbench.reports.rules.case import NO_RECORD, Case, Outcome, distinct, passed_if, some
from twinbench.reports.tables.cells import REPORTED_ON, Section, deviations_text
from twinbench.sweeps.deviations import OPEN_TABLES
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.protocol import LEFT_OUT, PROSE
from twinbench.sweeps.protocol_diff import differences

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
    claim, sections = case.evidence.claim, list(_sections(case).values())
    for other in sections[1:]:
        keys = [f"{one.key} ({one.left} and {one.right})" for one in differences(sections[0].content, other.content)]
        yield f"{sections[0].protocol_id} and {other.protocol_id} differ in {some(keys) or 'their names alone'}"
    (section, *_) = sections
    if claim.protocol and section.protocol_name != claim.protocol:
        yield f"the claim names {claim.protocol}, the trials ran under {section.protocol_id}"
    if _hash(section.content) != section.protocol_hash:
        yield f"the content of {section.protocol_id} does not have that hash"
    for trial_id, files in case.evidence.files.items():
        if files.record:
            yield f"the record of {trial_id}: {files.record}"
    yield from _lock_problems(case, section)
    yield from _variant_problems(case)
    table = case.evidence.table
    if table is not None and claim.kind == "equals" and section.protocol_name not in table.restated_by:
        restating = ", ".join(table.restated_by) or "no shipped protocol"
        yield f"{table.name} is restated by {restating}, not by {section.protocol_name}"


def _sections(case: Case) -> dict[str, Section]:
    """The protocols of the sides, by hash."""
    return {side.section.protocol_hash: side.section for side in case.evidence.measured if side.section}


def _lock_problems(case: Case, section: Section) -> Iterator[str]:
    """Differences from the shipped protocol of the same name and version that are not named deviations."""
    name, version = section.protocol_name, section.protocol_version or 0
    locked = case.evidence.locked.get((name, version))
    if locked is not None and locked not in (section.protocol_hash, section.base_hash):
        yield f"{section.protocol_id} has the name and version of the shipped protocol {locked[:12]}, not its content"
    known = sorted(number for of, number in case.evidence.locked if of == name)
    if known and version not in known:
        versions = ", ".join(map(str, known))
        yield f"{section.protocol_id} is named as a shipped protocol; twinbench here has only its versions {versions}"
    if section.base_hash and section.base_hash != _hash_without_deviations(section):
        yield f"{section.protocol_id} differs from {section.base_hash[:12]} in more than the deviations that it names"


def _hash_without_deviations(section: Section) -> str:
    """Return the hash of the content with every deviation undone."""
    content = copy.deepcopy(dict(section.content))
    for deviation in section.deviations:
        _put_back(content, deviation["key"], deviation["protocol_value"])
    return _hash(content)


def _put_back(content: dict[str, object], key: str, value: object) -> None:
    """Set the protocol's value under a dotted key.

    None removes the key where the protocol may lack it (a table that may hold any key, a field left out of the hash, a
    method's settings), and is a value elsewhere.
    """
    *path, last = key.split(".")
    tables: list[Any] = [content]
    try:
        for part in path:
            tables.append(tables[-1][int(part)] if isinstance(tables[-1], list) else tables[-1][part])
        may_lack = ".".join(path) in OPEN_TABLES or key in LEFT_OUT or path[:1] == ["methods"]
        if value is None and may_lack:
            del tables[-1][last]
            if not tables[-1] and path[0] == "methods" and len(path) > 1:
                del tables[-2][path[-1]]
        else:
            tables[-1][int(last) if isinstance(tables[-1], list) else last] = value
    except (KeyError, IndexError, ValueError, TypeError):
        return  # a deviation in a key that does not exist changes no content


def _hash(content: Mapping[str, object]) -> str:
    return digest({key: value for key, value in content.items() if key not in PROSE})


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
    datasets = [section.content.get("dataset", {}) for section in _sections(case).values()]
    for other in datasets[1:]:
        if found := differences(datasets[0], other):
            yield f"splits differ: {', '.join(f'dataset.{one.key} ({one.left} and {one.right})' for one in found)}"
    labels = {files.labels for files in case.evidence.files.values() if files.labels}
    if len(labels) > 1:
        yield "the labels of the test images differ between trials"
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
    backbones = {digest(backbone): backbone for backbone in (_backbone(side) for side in case.evidence.measured)}
    texts = [_backbone_text(backbone) for backbone in backbones.values()]
    return passed_if(len(texts) == 1, texts[0], f"backbones differ: {'; '.join(texts)}")


def _backbone(side: Side) -> Mapping[str, Any]:
    backbone: Mapping[str, Any] = side.section.content.get("backbone", {}) if side.section else {}
    return backbone


def _backbone_text(backbone: Mapping[str, Any]) -> str:
    """Return "small_resnet, width 16"."""
    options = [f"{key.replace('_', ' ')} {value}" for key, value in sorted(backbone.get("options", {}).items())]
    return ", ".join([str(backbone.get("name", "unknown")), *options])
