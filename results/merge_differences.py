"""Say in sentences how the results of one trial differ between sites, and what may explain it."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from twinbench.results.code_hash import is_same_code
from twinbench.results.record import Record, Result
from twinbench.sweeps.metrics import MetricValue

_MAY_EXPLAIN = {
    "device": "The device",
    "precision": "The precision",
    "mode": "The mode of kernels",
    "threads": "The number of threads",
    "ranks": "The number of ranks",
}
_SHOWN = 120  # characters of a value in a sentence


def differences(records: Mapping[int, Record]) -> tuple[str, ...]:
    """Return a sentence on each value that differs between the results of one trial; `records` is by source number."""
    results = {number: record["result"] for number, record in records.items()}
    measured = [{_metric_name(metric) for metric in result["metrics"]} for result in results.values()]
    everywhere = set.intersection(*measured)
    sentences = _contrasts({number: dict(_facts(result, everywhere)) for number, result in results.items()})
    # Other differences have no name here, such as the order of the metrics.
    return sentences or _contrasts(
        {number: {"The digest of the result": record["result_digest"]} for number, record in records.items()}
    )


def hints(records: Mapping[int, Record]) -> tuple[str, ...]:
    """Return a sentence on each circumstance that differs and may explain the differences."""
    circumstances = {number: record["circumstance"] for number, record in records.items()}
    sentences = _contrasts({number: dict(_circumstances(one)) for number, one in circumstances.items()})
    hashed = [one for one in circumstances.values() if one.get("code_hash")]
    if is_same_code((str(one["code_hash"]), str(one.get("commit") or "")) for one in hashed) is None:
        sentences += (
            "The code's hashes are of two kinds, which cannot be compared: whether the code differs is not known.",
        )
    return sentences


def _metric_name(metric: MetricValue) -> str:
    return f"{metric['name']} ({metric['variant']}, {metric['split']})"


def _facts(result: Result, measured_everywhere: set[str]) -> Iterator[tuple[str, object]]:
    """Yield every value of a result with the words that a sentence about it begins with."""
    yield "The status", result["status"]
    yield "The reason", result["reason"]
    for metric in result["metrics"]:
        name = _metric_name(metric)
        yield name, metric["value"]
        # If a source lacks a metric, one sentence says so; its details would only repeat it.
        details = dict(metric) if name in measured_everywhere else {}
        yield from (
            (f"{key} of {name}", value)
            for key, value in sorted(details.items())
            if key not in ("name", "variant", "split", "value")
        )
    for key, reference in (("curves", result.get("curves")), ("outputs", result.get("outputs"))):
        if reference:
            yield f"The digest of the {key}", reference["sha256"][:12]
    for key, value in sorted(result.items()):
        if key in ("status", "reason", "metrics", "curves", "outputs"):
            continue
        inner = value.items() if isinstance(value, Mapping) else ()
        yield from ((f"{key}.{name}", part) for name, part in inner)
        if not isinstance(value, Mapping):
            yield key, value


def _circumstances(circumstance: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, subject in _MAY_EXPLAIN.items():
        if key in circumstance:
            yield subject, circumstance[key]
    versions = circumstance.get("versions")
    for name, version in sorted(versions.items()) if isinstance(versions, Mapping) else ():
        yield f"The version of {name}", version
    if "code_hash" in circumstance:
        yield "The code's hash", str(circumstance["code_hash"])[:12]


def _contrasts(facts_by_source: Mapping[int, Mapping[str, object]]) -> tuple[str, ...]:
    """Return a sentence on each subject whose value differs between the sources."""
    subjects = dict.fromkeys(subject for facts in facts_by_source.values() for subject in facts)
    sentences = []
    for subject in subjects:
        values: dict[str, list[int]] = {}
        for number, facts in facts_by_source.items():
            # Compared as texts with sorted keys, as digests do: 1 and 1.0 differ, the order of keys does not matter.
            text = repr(json.loads(json.dumps(facts[subject], sort_keys=True))) if subject in facts else "absent"
            values.setdefault(text, []).append(number)
        if len(values) > 1:
            sides = [f"{_short(text)} in {_sources(numbers)}" for text, numbers in values.items()]
            # The name is from another site's file: no control character in it may reach a terminal.
            name = subject if subject.isprintable() else repr(subject)
            sentences.append(f"{name} is {_listed(sides)}.")
    return tuple(sentences)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _sources(numbers: Iterable[int]) -> str:
    names = [str(number) for number in numbers]
    return f"source{'s' if len(names) > 1 else ''} {_listed(names)}"


def _listed(words: Sequence[str]) -> str:
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last
