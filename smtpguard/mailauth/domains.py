"""Domain names as mail authentication compares them: A-labels in lower case, and the organizational domain by list.

RFC 5890 2.3.2.1 (A-label), RFC 1035 2.3.4 (sizes), RFC 7489 3.2 (organizational domain by public suffix list). The list
is the one that the publicsuffixlist package brings, its private section included, as receivers of DMARC read it; it is
loaded when first asked for and never fetched. RFC 9989 finds the same domain without a list: `dmarc.org`.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Final

import idna
from publicsuffixlist import PublicSuffixList

MAX_LABEL: Final = 63
MAX_NAME: Final = 253
"""Octets of a name as text, without the final dot (RFC 1035 2.3.4 counts 255 on the wire)."""

# RFC 3490 3.1: what people type as a dot
_DOTS = re.compile("[.\u3002\uff0e\uff61]")


@lru_cache(maxsize=8192)
def to_ascii(domain: str) -> str:
    """The name in A-labels and lower case without the final dot; "" where it is no name that the DNS could hold.

    What stands in an ASCII label is not judged: underscores and blanks may be published, and asked for.
    """
    if len(domain) > MAX_NAME + 1:  # an A-label is no shorter than what it stands for
        return ""
    try:
        labels = [_a_label(label) for label in _DOTS.split(domain)]
    except idna.IDNAError:
        return ""
    if not labels[-1]:
        labels.pop()
    name = ".".join(labels)
    return name if len(name) <= MAX_NAME and all(0 < len(label) <= MAX_LABEL for label in labels) else ""


def _a_label(label: str) -> str:
    return label.lower() if label.isascii() else idna.encode(label, uts46=True).decode()


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@lru_cache(maxsize=8192)
def organizational(domain: str) -> str:
    """The public suffix of a domain (A-labels) and one label more; a public suffix is its own (RFC 7489 3.2)."""
    return _suffixes().privatesuffix(domain) or domain.lower().removesuffix(".")
