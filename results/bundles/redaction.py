"""Find and replace texts that look like keys, tokens and passwords."""

import re
from collections.abc import Iterator
from typing import Any

# What it is; texts of which it must contain one, in lower case, which is fast to check; its pattern.
_SECRETS = (
    ("a private key", ("private key-----",), r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    ("an AWS key", ("akia", "asia"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    (
        "a GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "_pat_"),
        r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    ),
    ("a GitLab token", ("glpat-",), r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("a Hugging Face token", ("hf_",), r"\bhf_[A-Za-z0-9]{30,}"),
    ("a Slack token", ("xox",), r"\bxox[a-z]-[A-Za-z0-9-]{10,}"),
    ("a Google key", ("aiza",), r"\bAIza[0-9A-Za-z_-]{35}"),
    ("an API key", ("sk-",), r"\bsk-[A-Za-z0-9_-]{20,}"),
    ("a JSON web token", ("eyj",), r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"),
    ("a password in an address", ("://",), r"\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@\"']{1,100}:[^\s/:@\"']{1,100}@"),
    (
        "a key or password",
        ("key", "secret", "token", "passw"),
        # The value must have a digit in it, since code may only name such a variable.
        r"(?i)(?:api_?key|access_?key|secret|token|passw(?:or)?d)[\"']?\s{0,3}[=:]\s{0,3}[\"']?"
        r"(?=[A-Za-z_/+.-]{0,100}\d)[A-Za-z0-9_/+.=-]{12,}",
    ),
    (
        "an authorisation",
        ("authorization",),
        r"(?i)\bauthorization[\"']?\s{0,3}[=:]\s{0,3}[\"']?(?:bearer|basic)\s+[A-Za-z0-9_/+.=-]{8,}",
    ),
)
_COMPILED = tuple((what, needles, re.compile(pattern)) for what, needles, pattern in _SECRETS)


def _patterns_for(text: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """Return the patterns that `text` may match."""
    lower = text.lower()
    return ((what, pattern) for what, needles, pattern in _COMPILED if any(needle in lower for needle in needles))


def redacted(text: str) -> str:
    """Return `text` with every secret replaced by what it looks like, such as "[an AWS key]"."""
    for what, pattern in _patterns_for(text):
        text = pattern.sub(f"[{what}]", text)
    return text


def redacted_json(value: Any) -> Any:
    """Return JSON content with the secrets in all its texts replaced."""
    if isinstance(value, dict):
        return {key: redacted_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted_json(item) for item in value]
    return redacted(value) if isinstance(value, str) else value


def find_secrets(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line of each text that looks like a secret, and what it looks like; never the secret itself."""
    for what, pattern in _patterns_for(text):
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, what
