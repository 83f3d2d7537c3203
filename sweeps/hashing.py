"""Canonical content and its hash: equal things have equal ids, whatever wrote them down."""

import hashlib
import json

ID_LENGTH = 16  # hex digits of a trial's or cell's id: 64 bits, ample for millions of trials


def canonical_json(content: object) -> bytes:
    """The one JSON text of `content`: sorted keys, no spaces, UTF-8; NaN and infinity raise ValueError."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return to_utf8(text)


def to_utf8(text: str) -> bytes:
    r"""A lone surrogate (an undecodable file name in a traceback) becomes \udcxx, which is JSON's way to write it too.

    With "strict" a failure with such a name in it could not be recorded at all.
    """
    return text.encode("utf-8", "backslashreplace")


def digest(content: object) -> str:
    """sha256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(content)).hexdigest()
