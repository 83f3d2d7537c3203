"""Merge the records of one trial after another, with their artefacts and attempts."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twinbench.results.atomic_files import write_bytes_atomically
from twinbench.results.attempts import TRIALS
from twinbench.results.merge_differences import differences, hints
from twinbench.results.plain_files import (
    LINK,
    is_behind_link,
    plain_files,
    read_plain,
    read_plain_artefact,
    read_problem,
)
from twinbench.results.record import (
    RECORDS,
    BrokenArtefact,
    Record,
    TornRecord,
    parse_record,
    references,
)

DISAGREEMENTS = "disagreements"


@dataclass(frozen=True)
class Disagreement:
    """A trial whose result differs between sites, with sentences on what differs and on what may explain it."""

    trial_id: str
    sources: tuple[int, ...]
    differences: tuple[str, ...]
    hints: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """One source's record of a trial."""

    number: int
    source: Path
    path: Path
    data: bytes
    record: Record

    @property
    def trial_id(self) -> str:
        return self.record["result"]["trial_id"]

    @property
    def failed(self) -> bool:
        return self.record["result"]["status"] == "failed"


@dataclass
class RecordMerger:
    """Merges one trial at a time, so that only its records are in memory, and counts what happens."""

    folder: Path
    sources: Sequence[Path]
    protocol_hash: str
    kept: set[str] = field(default_factory=set)
    duplicates: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)
    set_aside: list[tuple[str, str]] = field(default_factory=list)
    failures_superseded: int = 0

    def settle(self, file_name: str) -> None:
        """Keep one of the records with this file name, or put all aside where their results differ."""
        found = list(self._find(file_name))
        results = [one for one in found if not one.failed]
        failures = [one for one in found if one.failed]
        if len({one.record["result_digest"] for one in results}) > 1:
            self._disagree(results)
        elif not self._keep_first_whole(results):
            self._keep_first_whole(failures)
            return
        # A failure says something about the machine, not about the trial, so any site's result takes its place.
        self.failures_superseded += len(failures)

    def _find(self, file_name: str) -> Iterator[_Found]:
        """Yield the record of each source that has one under the plan's protocol; set other files aside."""
        for number, source in enumerate(self.sources, start=1):
            path = source / RECORDS / file_name
            if not os.path.lexists(path):
                continue
            try:
                data = read_plain(source, path)
                record = parse_record(file_name, data)
            except (OSError, TornRecord) as error:
                self.set_aside.append((str(path), read_problem(error, file_name)))
                continue
            protocol = record["result"]["trial"]["protocol"]
            if protocol["hash"] == self.protocol_hash:
                yield _Found(number, source, path, data, record)
            else:
                reason = f"has another protocol than the plan: {protocol['name']}, {protocol['hash'][:12]}"
                self.set_aside.append((str(path), reason))

    def _keep_first_whole(self, found: Sequence[_Found]) -> bool:
        """Keep the first record with whole artefacts, and count the others. Return False if there is none."""
        kept: _Found | None = None
        broken: list[tuple[_Found, str]] = []
        for one in found:
            try:
                self._copy_artefacts(one)
            except BrokenArtefact as error:
                broken.append((one, str(error)))
            else:
                kept = one
                break
        # A broken record that equals the kept one is not lost: it counts as a duplicate.
        digest = kept.record["result_digest"] if kept else ""
        lost = [(one, reason) for one, reason in broken if one.record["result_digest"] != digest]
        self.set_aside += [(str(one.path), f"an artefact that it names is broken: {reason}") for one, reason in lost]
        if kept is None:
            return False
        self._keep(kept)
        equal = sum(one.record["result_digest"] == digest for one in found) - 1
        self.duplicates += equal
        self.failures_superseded += len(found) - 1 - equal - len(lost)  # only failures can differ here
        return True

    def _keep(self, one: _Found) -> None:
        write_bytes_atomically(self.folder / RECORDS / one.path.name, one.data)
        self.kept.add(one.trial_id)
        self._copy_trial_folder(one)

    def _disagree(self, found: Sequence[_Found]) -> None:
        for one in found:
            write_bytes_atomically(self.folder / DISAGREEMENTS / f"{one.trial_id}.{one.number}.json", one.data)
            try:
                self._copy_artefacts(one)
            except BrokenArtefact as error:
                # The record is still evidence: its numbers do not depend on the artefact.
                self.set_aside.append((str(one.path), f"an artefact of this disagreeing record is broken: {error}"))
        records = {one.number: one.record for one in found}
        self.disagreements.append(Disagreement(found[0].trial_id, tuple(records), differences(records), hints(records)))

    def _copy_artefacts(self, one: _Found) -> None:
        """Copy all artefacts of the record, or none. Raises BrokenArtefact."""
        contents = {ref["file"]: read_plain_artefact(one.source, ref) for ref in references(one.record["result"])}
        for file, data in contents.items():
            if not (self.folder / file).exists():
                write_bytes_atomically(self.folder / file, data)

    def _copy_trial_folder(self, one: _Found) -> None:
        """Copy the trial's attempts and logs. One that cannot be read is set aside; its record is kept."""
        folder = one.source / TRIALS / one.trial_id
        if is_behind_link(one.source, folder):
            self.set_aside.append((str(folder), LINK))
            return
        for path in plain_files(folder, self.set_aside):
            try:
                data = read_plain(one.source, path)
            except OSError as error:
                self.set_aside.append((str(path), read_problem(error)))
                continue
            write_bytes_atomically(self.folder / path.relative_to(one.source), data, durable=False)
