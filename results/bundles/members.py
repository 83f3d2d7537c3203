"""The members that a bundle may have, as `write_bundle` writes them and `unpack` demands them."""

import re
import tarfile
from dataclasses import dataclass

from twinbench.sweeps.file_reader import LARGEST
from twinbench.sweeps.toml_reader import LARGEST as LARGEST_TOML

SCHEMA = 1
MANIFEST = "MANIFEST.json"
ATTEMPTS = "attempts.json"
ENVIRONMENT = "environment.json"
TABLES, VERDICTS, PAGE_DIGEST = "report/tables", "report/verdicts", "report/index.html.sha256"
SUFFIX = ".bundle.tar.gz"
BLOCK = 512  # of a tar archive

_CLAIMS = r"claims[A-Za-z0-9_.-]{0,60}"
_MIB = 2**20


@dataclass(frozen=True)
class Kind:
    """One kind of member: the pattern of its name, its largest size, and whether it lies in the run folder."""

    name: re.Pattern[str]
    most_bytes: int
    of_run_folder: bool = True


KINDS = (
    Kind(re.compile(r"MANIFEST\.json"), LARGEST, of_run_folder=False),
    Kind(re.compile(r"artefacts/[0-9a-f]{64}\.json"), 64 * _MIB),
    Kind(re.compile(r"artefacts/[0-9a-f]{64}\.[a-z0-9]{1,16}"), 512 * _MIB),
    Kind(re.compile(r"attempts\.json"), LARGEST, of_run_folder=False),
    Kind(re.compile(_CLAIMS + r"\.toml"), LARGEST_TOML),
    Kind(re.compile(r"declarations\.jsonl"), 64 * _MIB),
    Kind(re.compile(r"environment\.json"), 64 * _MIB, of_run_folder=False),
    Kind(re.compile(r"plan\.json"), LARGEST),
    Kind(re.compile(r"protocols/[0-9a-f]{64}\.json"), 16 * _MIB, of_run_folder=False),
    Kind(re.compile(r"records/[0-9a-f]{16}\.json"), 16 * _MIB),
    Kind(re.compile(r"report/index\.html\.sha256"), 1024, of_run_folder=False),
    Kind(re.compile(r"report/tables/[a-z0-9_-]{1,64}\.(csv|tex)"), LARGEST, of_run_folder=False),
    Kind(re.compile(r"report/verdicts/" + _CLAIMS + r"\.json"), 64 * _MIB, of_run_folder=False),
)


def kind_of(name: str) -> Kind | None:
    """Return the kind of member with such a name; None if no member may have it."""
    return next((kind for kind in KINDS if kind.name.fullmatch(name)), None)


def tar_header(name: str, size: int) -> bytes:
    """Return the only header that a member of this name and size may have: a plain file without owner or time."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)
