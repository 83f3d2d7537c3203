"""The declarations of a bundle, compared with its protocols and its files of claims."""

from collections import defaultdict
from collections.abc import Iterator

from twinbench.reports.claims.claim import claims_on_file
from twinbench.reports.claims.declarations import read_log
from twinbench.results.bundles.contents import Contents
from twinbench.results.bundles.read import Unpacked


def declaration_faults(contents: Contents) -> Iterator[str]:
    """Yield a broken chain of declarations, and protocols that were changed since claims under them were declared."""
    log = read_log(contents.unpacked.run_folder)
    if log.problem:
        yield log.problem
    ran: dict[str, set[str]] = defaultdict(set)  # by name, hashes with and without deviations
    for record in contents.records.values():
        protocol = record["result"]["trial"]["protocol"]
        ran[str(protocol["name"])] |= {str(protocol["hash"]), str(protocol.get("base_hash", protocol["hash"]))}
    claims, _ = claims_on_file(map(contents.unpacked.file, contents.unpacked.names("claims")))
    for claim in claims:
        hashes, entry = ran.get(claim.protocol), log.of(claim)
        if hashes and entry and not log.of(claim, [hashes]):
            now = ", ".join(one[:12] for one in sorted(hashes))
            declared = f"declared as {entry.name} under protocol {claim.protocol} with the hash {entry.protocol[:12]}"
            yield f"{declared}, but the records have {now}: the protocol was changed since"


def withdrawn(unpacked: Unpacked) -> Iterator[str]:
    """Yield files that cannot be read as claims, and declared claims that no file holds in that form."""
    claims, unreadable = claims_on_file(map(unpacked.file, unpacked.names("claims")))
    held = {claim.hash for claim in claims}
    for path in unreadable:
        yield f"{path.name}: cannot be read as claims"
    for entry in read_log(unpacked.run_folder).entries:
        if entry.claim not in held:
            yield f"declared on {entry.time} as {entry.name}, but in no claims file of the bundle in that form"
