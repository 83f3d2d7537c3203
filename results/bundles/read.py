"""Unpack a bundle from any source. Nothing in it is trusted, and everything unknown is refused.

Each member must have a name of a known kind (members.KINDS) and exactly the header that `write_bundle` gives a file of
that name and size. This excludes links, devices, folders, absolute paths and `..`. Names must ascend, so that none
comes twice. Sizes, counts and the ratio of decompression are checked while reading, whatever the headers say. No file
of a bundle is ever run, unpickled, or opened as a database.
"""

import hashlib
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from twinbench.results.bundles.members import BLOCK, MANIFEST, SCHEMA, kind_of, tar_header
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.file_reader import open_regular, parse_json
from twinbench.sweeps.sweep import MOST_TRIALS

DEEPEST = 50  # nesting of lists and tables in JSON
_LARGEST = 2**63
_PIECE = 2**20
_KINDS_OF_FILE = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.DIRTYPE: "a folder",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


@dataclass(frozen=True)
class Limits:
    """What a bundle may hold at most. The ratio applies after `free_bytes`, since short texts compress well.

    What its values take in memory is bounded by the process that reads them (harness/system/bounded.py).
    """

    members: int = 3 * MOST_TRIALS + 10_000  # a record, curves and outputs for each trial of the largest sweep
    total_bytes: int = 16 * 2**30
    ratio: int = 250
    free_bytes: int = 64 * 2**20


@dataclass(frozen=True)
class Unpacked:
    """An unpacked bundle: the members of the run folder are in `run_folder`, all others in `beside`.

    `found` and `stated` hold (sha256, size) of each member, as read and as stated by the manifest.
    """

    run_folder: Path
    beside: Path
    digest: str
    rendered_with: Mapping[str, str]
    stated: Mapping[str, tuple[str, int]]
    found: dict[str, tuple[str, int]] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """Return the path of a member."""
        kind = kind_of(name)
        return (self.run_folder if kind and kind.of_run_folder else self.beside) / name

    def names(self, prefix: str) -> list[str]:
        """Return the members found whose names begin with `prefix`."""
        return [name for name in self.found if name.startswith(prefix)]


class _Refused(ValueError):
    """The file is not a valid bundle; the text says why."""


def unpack(bundle: Path, folder: Path, limits: Limits = Limits()) -> Unpacked:
    """Unpack the members into the new folders `folder`/run and `folder`/beside.

    Raises InvalidInput if the file is not a bundle. The caller compares the members with the manifest.
    """
    try:
        with open_regular(bundle) as file:
            return _unpack(_Inflated(file, limits), folder, limits)
    except _Refused as error:
        problem = str(error)
    except zlib.error:
        problem = "not a bundle: not a whole gzip file"
    except OSError as error:
        problem = f"cannot be unpacked: {error.strerror}"
    raise InvalidInput([Mistake(str(bundle), "", problem)])


def _unpack(stream: "_Inflated", folder: Path, limits: Limits) -> Unpacked:
    name, size = _next_member(stream) or ("", 0)
    if name != MANIFEST:
        raise _Refused(f"not a bundle: {MANIFEST} is not its first member")
    data = stream.read(size)
    stream.pass_padding(size)
    stated, rendered_with = _manifest(data, limits)
    unpacked = Unpacked(folder / "run", folder / "beside", hashlib.sha256(data).hexdigest(), rendered_with, stated)
    for part in (unpacked.run_folder, unpacked.beside):
        part.mkdir(parents=True)
    before, spelled = MANIFEST, {MANIFEST.casefold()}
    while (member := _next_member(stream)) is not None:
        name, size = member
        if name <= before or name.casefold() in spelled:
            raise _Refused(f"{name}: appears twice, or out of order, or differs from another only in capitals")
        if len(spelled) >= limits.members:
            raise _Refused(f"holds more than {limits.members} members")
        before = name
        spelled.add(name.casefold())
        unpacked.found[name] = _store(stream, size, unpacked.file(name)), size
    return unpacked


def _next_member(stream: "_Inflated") -> tuple[str, int] | None:
    """Read the next header and return its name and size; None at the end of the archive."""
    block = stream.read(BLOCK)
    if block == bytes(BLOCK):
        if stream.read(BLOCK) != bytes(BLOCK):
            raise _Refused("not a bundle: its end is not that of an archive")
        stream.end()
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, ValueError):
        raise _Refused("not a bundle: a header is not one of a tar archive with plain names") from None
    if info.type in _KINDS_OF_FILE:
        raise _Refused(f"{info.name}: is {_KINDS_OF_FILE[info.type]}; a bundle holds plain files")
    kind = kind_of(info.name)
    if kind is None:
        raise _Refused(f"{info.name}: not a name for a member of a bundle")
    if not 0 <= info.size <= kind.most_bytes:
        raise _Refused(f"{info.name}: has {info.size} bytes by its header; allowed: at most {kind.most_bytes}")
    if block != tar_header(info.name, info.size):
        raise _Refused(f"{info.name}: its header is not one that `twinbench bundle` writes")
    return info.name, info.size


def _store(stream: "_Inflated", size: int, path: Path) -> str:
    """Write the next member's content to a new file, and return its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    total = hashlib.sha256()
    with path.open("xb") as file:
        for start in range(0, size, _PIECE):
            piece = stream.read(min(size - start, _PIECE))
            total.update(piece)
            file.write(piece)
    stream.pass_padding(size)
    return total.hexdigest()


class _Inflated:
    """The archive's bytes, decompressed piece by piece, so that a file that grows too much is refused early."""

    def __init__(self, file: IO[bytes], limits: Limits):
        self._file, self._limits = file, limits
        self._zlib = zlib.decompressobj(31)  # gzip
        self._read_bytes = self._returned_bytes = 0

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        pieces = []
        while size:
            piece = self._some(size)
            if not piece:
                raise _Refused("not a bundle, or not whole: it ends too early")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def pass_padding(self, size: int) -> None:
        """Read the rest of the last block of a member of this size, which must be zeros."""
        if self.read(-size % BLOCK).strip(b"\0"):
            raise _Refused("not a bundle: there is something between its members")

    def end(self) -> None:
        """Check that the file ends here."""
        if self._some(1) or not self._zlib.eof or self._zlib.unused_data or self._file.read(1):
            raise _Refused("not a bundle: something follows its end")

    def _some(self, most: int) -> bytes:
        """Read at most `most` bytes; empty at the end of the file."""
        while not self._zlib.eof:
            data = self._zlib.unconsumed_tail
            if not data:
                data = self._file.read(2**16)
                self._read_bytes += len(data)
            piece = self._zlib.decompress(data, most)
            if piece:
                self._count(len(piece))
                return piece
            if not data:
                break
        return b""

    def _count(self, size: int) -> None:
        limits = self._limits
        self._returned_bytes += size
        if self._returned_bytes > limits.total_bytes:
            raise _Refused(f"holds more than {limits.total_bytes} bytes")
        if self._returned_bytes > limits.free_bytes and self._returned_bytes > limits.ratio * self._read_bytes:
            raise _Refused(f"grows to more than {limits.ratio} times its size")


# --- JSON -----------------------------------------------------------------------------------------------------------


def _manifest(data: bytes, limits: Limits) -> tuple[dict[str, tuple[str, int]], dict[str, str]]:
    """Return (sha256, size) by member, and the versions that wrote the report, as the manifest states them."""
    try:
        manifest = read_json(data)
        if manifest["schema"] != SCHEMA:
            raise _Refused(f"is a bundle of schema {manifest['schema']!r}; this version reads {SCHEMA}")
        stated = {str(name): (one["sha256"], one["size"]) for name, one in manifest["members"].items()}
        versions = {str(name): version for name, version in manifest["rendered_with"].items()}
        if not all(map(_is_identity, stated.values())) or not all(isinstance(v, str) for v in versions.values()):
            raise ValueError("values of the wrong kind")
    except _Refused:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Refused(f"not a bundle: {MANIFEST} is not a manifest ({error})") from None
    if len(stated) > limits.members:
        raise _Refused(f"states more than {limits.members} members")
    return stated, versions


def _is_identity(stated: tuple[object, object]) -> bool:
    sha256, size = stated
    return isinstance(sha256, str) and bool(re.fullmatch(r"[0-9a-f]{64}", sha256)) and type(size) is int


def read_json(data: bytes) -> Any:
    """Return untrusted JSON. ValueError for numbers over 64 bits, repeated keys, or deep nesting."""
    value = parse_json(data, parse_int=_whole, object_pairs_hook=_table)
    _check_depth(value)
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or not -_LARGEST <= int(text) < _LARGEST:
        raise ValueError("a whole number is too large")
    return int(text)


def _table(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key appears twice in one table")
    return table


def _check_depth(value: object) -> None:
    level = [[value]]
    for _ in range(DEEPEST + 2):
        if not level:
            return
        inner = [item for items in level for item in items if isinstance(item, dict | list)]
        level = [list(item.values()) if isinstance(item, dict) else item for item in inner]
    raise ValueError("lists and tables are nested too deeply")
