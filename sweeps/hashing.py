"""Canonical JSON and its hash: equal content has equal ids, in whatever form it was written."""

import hashlib
import json

ID_LENGTH = 16  # hex digits of a trial's or cell's id: 64 bits, ample for millions of trials

to_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode  # json.dumps makes a new encoder for each value


def canonical_json(content: object) -> bytes:
    """Return `content` as canonical JSON: sorted keys, no spaces, UTF-8. NaN and infinity raise ValueError."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return to_utf8(text)


def to_utf8(text: str) -> bytes:
    r"""Encode text as UTF-8, with a lone surrogate as \udcxx, which is also JSON's way to write it.

    Lone surrogates come from undecodable file names in tracebacks. With "strict", such a failure could not be recorded.
    """
    return text.encode("utf-8", "backslashreplace")


def digest(content: object) -> str:
    """Return the sha256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(content)).hexdigest()
