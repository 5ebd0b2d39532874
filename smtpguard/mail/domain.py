"""Domain names as the DNS has them: A-labels in lower case, of whatever people type or mail bears.

RFC 5890 2.3.2.1 (A-label), RFC 1035 2.3.4 (sizes).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

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
    except UnicodeError:  # idna.IDNAError
        return ""
    if not labels[-1]:
        labels.pop()
    name = ".".join(labels)
    return name if len(name) <= MAX_NAME and all(0 < len(label) <= MAX_LABEL for label in labels) else ""


def _a_label(label: str) -> str:
    if label.isascii():
        return label.lower()
    import idna  # 18 ms that names in ASCII need not pay

    return idna.encode(label, uts46=True).decode()
