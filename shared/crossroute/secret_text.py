"""Telling texts that look like a key or a password, which no file may hold and nothing may show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from unicodedata import category

SECRET_NAME = re.compile(
    r"(?:api|access|subscription)[_-]?key|secret|passw(?:or)?d|private[_-]?key|credential|authorization|cookie"
    r"|token(?!s|iz)",
    re.IGNORECASE,
)
"""Names of fields whose values are secrets."""

# Repetitions are bounded: a hostile text must not take quadratic time.
_SECRET = re.compile(
    r"""
      (?<![A-Za-z0-9])sk-(?!learn)(?: [\w-]{10,} | (?=[\w-]{0,10}\d)[\w-]{6,} )  # OpenAI and others
    | \b(?: xai- | gsk_ | hf_ | fw_ | r8_ | pplx- | csk- | nvapi- | dapi | tgp_v1_ | lsv2_[a-z]{2}_
          | gh[pousr]_ | github_pat_ | glpat- | npm_ | xox[abeoprs]- )[\w-]{16,}
    | \b[sr]k_(?:live|test)_\w{10,}
    | \bAIza[\w-]{20,} | \bya29\.[\w-]{16,}                  # Google
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b                          # AWS
    | \bSG\.[\w-]{16,64}\.[\w-]{16,}                          # SendGrid
    | (?i:\baccountkey=)[\w+/]{16,}                          # Azure
    | \bhooks\.slack\.com/services/\w
    | \beyJ[\w-]{10,200}\.eyJ[\w-]                           # JSON web tokens
    | -----BEGIN\ [A-Z ]{0,20}PRIVATE\ KEY
    | (?i:\b(?:bearer|basic)\s{1,5})(?: (?=\S{0,20}\d)\S{6,} | [\w.~+/=-]{20,} | [\w+/]{8,}= )
    | (?i:authorization["']?\s{0,5}[:=]\s{0,5}["']?(?:bearer|basic|token)\s)
    | (?i:passw(?:or)?d["']?\s{0,5}[:=]\s{0,5}["']?)[^\s"']{6,}
    | (?i:(?:secret\w{0,20}|api[\ _-]?key)["']?\s{0,5}[:=]\s{0,5}["']?)(?:
          (?=\S{0,40}\d)[^\s"']{8,} | [\w/+=-]{16,} )
    | (?i:(?: token | authorization | [?&](?:key|sig|code) )
          ["']?\s{0,5}[:=]\s{0,5}["']?) (?! [\d.,]{0,20}(?:\s|$) )(?=\S{0,40}\d)[^\s"']{8,}
    | (?i:\b[a-z][a-z\d+.-]{1,15}://)[^\s/@:]{0,100}:[^\s/@]{1,200}@     # user:password@host
    """,
    re.VERBOSE,
)

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY.{0,20000}?(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
# The patterns find where a secret begins; it goes on to the next space or quote.
_WHOLE_SECRET = re.compile(rf"(?:{_SECRET.pattern})[^\s\"']*", re.VERBOSE)


def mask_secrets(text: str) -> str:
    """A text in which what looks like a key, a token or a password is `***`."""
    if not looks_like_secret(text):
        return text
    masked = _WHOLE_SECRET.sub("***", _PRIVATE_KEY.sub("***", text))
    if looks_like_secret(masked):
        # It is parted by characters that nobody sees.
        masked = _WHOLE_SECRET.sub("***", "".join(c for c in masked if category(c) != "Cf"))
    return masked


def looks_like_secret(text: str) -> bool:
    """Whether a text holds what looks like a key, a token or a password."""
    # Without characters that nobody sees, which would part a key.
    seen = text if text.isascii() else "".join(c for c in text if category(c) != "Cf")
    return _SECRET.search(seen) is not None


def find_secret(value: object, place: str = "") -> str | None:
    """Where in nested mappings and lists a text looks like a secret, as `a.b.2`; None if nowhere.

    A secret that is a name in a mapping is found at that mapping.
    """
    if isinstance(value, str):
        return place if looks_like_secret(value) else None
    if isinstance(value, Mapping):
        if any(isinstance(name, str) and looks_like_secret(name) for name in value):
            return place
        pairs = [(str(name), inner) for name, inner in value.items()]
    elif isinstance(value, (list, tuple)):
        pairs = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        return None
    for name, inner in pairs:
        found = find_secret(inner, f"{place}.{name}" if place else name)
        if found is not None:
            return found
    return None
