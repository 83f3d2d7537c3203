"""The levels render and aggregate of `verify`, which need no torch.

render     makes tables, page and verdicts again from the shipped records and compares them byte by byte
aggregate  computes every accuracy on test again from the per-example outputs and compares it exactly

integrity.py says what neither can reveal.
"""

import hashlib
import io
from collections import Counter
from itertools import zip_longest
from pathlib import Path

from twinbench.reports.claims.copied_seeds import Outputs
from twinbench.reports.claims.trial_files import accuracy_problem, lacking, read_outputs
from twinbench.reports.verification.level import LONGEST_NAME, Level, judged
from twinbench.results.bundles.contents import Contents
from twinbench.results.bundles.members import PAGE_DIGEST, TABLES, VERDICTS
from twinbench.results.bundles.read import Unpacked, read_json
from twinbench.results.bundles.summaries import place_attempts
from twinbench.results.bundles.write import rendered_with
from twinbench.results.plain_files import claims_files
from twinbench.results.record import Result
from twinbench.sweeps.errors import counted, shortened
from twinbench.sweeps.metrics import MetricValue, metric_names

# --- render ---------------------------------------------------------------------------------------------------------


def rendered(run_folder: Path) -> dict[str, bytes]:
    """Make what a bundle ships of a report: tables, the page's digest, and verdicts on each claims file, by path."""
    from twinbench.reports.page.write import write_report

    page = write_report(run_folder, logs=False)  # a bundle has no logs
    files = {f"{TABLES}/{path.name}": path.read_bytes() for path in sorted((run_folder / TABLES).iterdir())}
    files[PAGE_DIGEST] = f"{hashlib.sha256(page.read_bytes()).hexdigest()}\n".encode()
    for claims in claims_files(run_folder):
        from twinbench.reports.verdicts.check import check_claims
        from twinbench.reports.verdicts.formats.json import json_text

        files[f"{VERDICTS}/{claims.stem}.json"] = json_text(check_claims(claims, run_folder)).encode()
    return files


def render(contents: Contents) -> Level:
    """Run level render on a bundle that passed integrity. Writes into its folder."""
    unpacked = contents.unpacked
    place_attempts(unpacked.run_folder, contents.all_attempts)
    try:
        made = rendered(unpacked.run_folder)
    except MemoryError:
        raise
    except Exception as error:  # well-formed records may still make no report, which is a fault of theirs
        return judged("render", [f"no report can be made of these records: {type(error).__name__}: {error}"], [])
    shipped = {name: unpacked.file(name).read_bytes() for name in unpacked.names("report/")}
    faults: list[str] = []
    notes = [f"{counted(len(made), 'file')} made again and compared"]
    here, there = rendered_with(), unpacked.rendered_with
    versions = {name: there.get(name, "unknown") for name in here}
    others = [f"{name} {versions[name]} (here {here[name]})" for name in here if versions[name] != here[name]]
    for name in sorted(made.keys() | shipped.keys()):
        if made.get(name) == shipped.get(name):
            continue
        difference = f"{name}: {_difference(shipped.get(name), made.get(name))}"
        # The page includes plotly, and only its digest is shipped: another version of plotly changes no result.
        (notes if name == PAGE_DIGEST and others else faults).append(difference)
    if others and (faults or len(notes) > 1):
        notes.append(f"made with other versions than here, which may explain it: {', '.join(others)}")
    return judged("render", faults, notes)


def _difference(shipped: bytes | None, made: bytes | None) -> str:
    """Return the first line in which two files differ, and how many do."""
    if shipped is None or made is None:
        return "is shipped but not made from these records" if made is None else "is made but not shipped"
    pairs = enumerate(zip_longest(io.BytesIO(shipped), io.BytesIO(made), fillvalue=b""), 1)  # line by line
    differing = ((number, *pair) for number, pair in pairs if pair[0] != pair[1])
    number, *first = next(differing)
    one, other = (shortened(line.decode("utf-8", "replace").removesuffix("\n"), LONGEST_NAME) for line in first)
    more = sum(1 for _ in differing)
    many = f" (and {more} more lines)" if more else ""
    return f"line {number} is {one!r}, but the records give {other!r}{many}"


# --- aggregate ------------------------------------------------------------------------------------------------------


def aggregate(contents: Contents) -> Level:
    """Run level aggregate on a bundle that passed integrity."""
    faults: list[str] = []
    counts: Counter[str] = Counter()
    for trial_id, record in contents.records.items():
        result = record["result"]
        outputs = _outputs(contents.unpacked, result, faults)
        for metric in result["metrics"]:
            if metric["split"] != "test":
                counts["on other splits, which have no per-example outputs"] += 1
                continue
            how, problem = _recomputed(contents.unpacked, result, metric, outputs)
            counts[how] += 1
            if problem:
                faults.append(f"trial {trial_id}: {metric['name']} on test: {problem}")
    return judged("aggregate", faults, [f"{counted(count, 'number')} {how}" for how, count in sorted(counts.items())])


def _outputs(unpacked: Unpacked, result: Result, faults: list[str]) -> Outputs:
    """Return the trial's per-example arrays by name; empty where it has none."""
    reference = result.get("outputs")
    if not reference:
        return {}
    try:
        return read_outputs(unpacked.file(reference["file"]).read_bytes())
    except ValueError as error:
        faults.append(f"trial {result['trial_id']}: {reference['file']} cannot be read as outputs: {error}")
        return {}


def _recomputed(unpacked: Unpacked, result: Result, metric: MetricValue, outputs: Outputs) -> tuple[str, str]:
    """Return how one number was computed again, and what is wrong with it; empty without a problem."""
    if metric["name"] not in metric_names("probe"):
        return "of other metrics, which have no per-example outputs", ""
    if result["trial"]["protocol"]["content"].get("checkpoint") == "best_on_test":
        return _maximum(unpacked, result, metric)
    if problem := lacking(metric, outputs):
        return "on test without outputs to compute them from", problem
    return "on test computed again from per-example outputs", accuracy_problem(metric, outputs)


def _maximum(unpacked: Unpacked, result: Result, metric: MetricValue) -> tuple[str, str]:
    """Check a maximum over epochs against its curves; it has no per-example outputs."""
    reference = result.get("curves")
    try:
        series = read_json(unpacked.file(reference["file"]).read_bytes())["series"] if reference else {}
        named = [values for name, values in series.items() if name.partition(" ")[0] == f"test/{metric['name']}"]
        measured = [value for values in named for value in values if value is not None]
        if not measured:
            return "as a maximum over epochs, of a baseline without curves", ""
        best = max(measured)
    except (KeyError, TypeError, AttributeError) as error:
        return "as a maximum over epochs", f"its curves cannot be read ({type(error).__name__})"
    problem = "" if best == metric["value"] else f"the record says {metric['value']}, the curves' maximum is {best}"
    return "as a maximum over epochs, taken again from the curves", problem
