"""Rules A1, A2, A11 and A13: whether what a protocol holds fixed is the same on all sides, and what it is called."""

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
    """One content hash on all sides, that of the protocol the claim names, whole, and as that version is locked."""
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
        yield f"{sections[0].protocol_id} and {other.protocol_id} differ: {some(keys) or 'in name alone'}"
    (section, *_) = sections
    if claim.protocol and section.protocol_name != claim.protocol:
        yield f"the claim names {claim.protocol}, the trials ran under {section.protocol_id}"
    if _hash(section.content) != section.protocol_hash:
        yield f"the content of {section.protocol_id} is not what its hash stands for"
    for trial_id, trace in case.evidence.traces.items():
        if trace.record:
            yield f"the record of {trial_id}: {trace.record}"
    yield from _lock_problems(case, section)
    yield from _variant_problems(case)
    table = case.evidence.table
    if table is not None and claim.kind == "equals" and section.protocol_name not in table.restated_by:
        restating = ", ".join(table.restated_by) or "no protocol of ours"
        yield f"{table.name} is restated by {restating}, not by {section.protocol_name}"


def _sections(case: Case) -> dict[str, Section]:
    """The protocols of the sides, by hash."""
    return {side.section.protocol_hash: side.section for side in case.evidence.measured if side.section}


def _lock_problems(case: Case, section: Section) -> Iterator[str]:
    """A shipped name and version stand for one content; whatever differs from it is a named deviation."""
    name, version = section.protocol_name, section.protocol_version or 0
    locked = case.evidence.locked.get((name, version))
    if locked is not None and locked not in (section.protocol_hash, section.base_hash):
        yield f"{section.protocol_id} bears the name and version of {locked[:12]}"
    known = sorted(number for of, number in case.evidence.locked if of == name)
    if known and version not in known:
        versions = ", ".join(map(str, known))
        yield f"{section.protocol_id} bears a shipped name, of which versions {versions} are known here"
    if section.base_hash and section.base_hash != _hash_without_deviations(section):
        yield f"{section.protocol_id} differs from {section.base_hash[:12]} in more than the deviations that it names"


def _hash_without_deviations(section: Section) -> str:
    """Of the content with every deviation taken back."""
    content = copy.deepcopy(section.content)
    for deviation in section.deviations:
        _put_back(content, str(deviation["key"]), deviation["protocol_value"])
    return _hash(content)


def _put_back(content: dict[str, Any], key: str, value: Any) -> None:
    """The protocol's value under a dotted key. None stands for no key in a table that may hold any, else for None."""
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
        return  # a deviation in what is not there explains nothing


def _hash(content: Mapping[str, Any]) -> str:
    return digest({key: value for key, value in content.items() if key not in PROSE})


def _variant_problems(case: Case) -> Iterator[str]:
    """One variant of the metric on all sides, that of the protocol, and one value of it a trial."""
    # Each row once: one cell may stand on several sides.
    rows = list({id(row): row for side in case.evidence.measured for row in side.measurements}.values())
    variants = {str(row["variant"]) for row in rows}
    if len(variants) > 1:
        yield f"{case.evidence.claim.metric} was measured as {' and as '.join(sorted(variants))}"
    if len({row["trial_id"] for row in rows}) < len(rows):
        yield f"a trial has two values of {case.evidence.claim.metric} on {REPORTED_ON}"
    named = case.evidence.content.get("evaluation", {}).get("metrics", {}).get(case.evidence.claim.metric)
    if rows and named not in (None, *variants):
        yield f"{case.evidence.claim.metric} was measured as {', '.join(variants)}, and the protocol says {named}"


# --- A2, A11, A13 -----------------------------------------------------------------------------------------------------


def same_split(case: Case) -> Outcome:
    """The same decoded images and labels, and the same division of them, on all sides."""
    if case.has_no_record:
        return NO_RECORD
    problem = next(_split_problems(case), "")
    prints = distinct(trial["dataset_fingerprint"] for trial in case.evidence.trials)
    return passed_if(not problem, f"dataset {prints[0][:19]}", problem)


def _split_problems(case: Case) -> Iterator[str]:
    prints = distinct(trial["dataset_fingerprint"] for trial in case.evidence.trials)
    if len(prints) > 1:
        yield f"datasets differ: {', '.join(prints)}"
    rules = [section.content.get("dataset", {}) for section in _sections(case).values()]
    for other in rules[1:]:
        if found := differences(rules[0], other):
            yield f"splits differ: {', '.join(f'dataset.{one.key} ({one.left} and {one.right})' for one in found)}"
    labels = {trace.labels for trace in case.evidence.traces.values() if trace.labels}
    if len(labels) > 1:
        yield "the labels of the test images differ between trials"
    counts = distinct(row["n_examples"] for side in case.evidence.measured for row in side.measurements)
    if len(counts) > 1:
        yield f"measured on unequal numbers of test images: {', '.join(counts)}"


def same_augmentation(case: Case) -> Outcome:
    """One recipe of views for all."""
    if case.has_no_record:
        return NO_RECORD
    recipes = distinct(digest(side.section.content.get("views")) for side in case.evidence.measured if side.section)
    return passed_if(len(recipes) == 1, f"recipe {recipes[0][:12]}", f"recipes differ: {', '.join(recipes)}")


def same_backbone(case: Case) -> Outcome:
    """The same architecture and stem under every method."""
    if case.has_no_record:
        return NO_RECORD
    backbones = {digest(told): told for told in (_backbone(side) for side in case.evidence.measured)}
    words = [_backbone_text(told) for told in backbones.values()]
    return passed_if(len(words) == 1, words[0], f"backbones differ: {'; '.join(words)}")


def _backbone(side: Side) -> Mapping[str, Any]:
    told: Mapping[str, Any] = side.section.content.get("backbone", {}) if side.section else {}
    return told


def _backbone_text(told: Mapping[str, Any]) -> str:
    """ "small_resnet, width 16"."""
    options = [f"{key.replace('_', ' ')} {value}" for key, value in sorted(told.get("options", {}).items())]
    return ", ".join([str(told.get("name", "unknown")), *options])
