"""TXT records that begin with their version and of which there may be one: `v=STSv1; ...`, `v=TLSRPTv1; ...`.

The form that MTA-STS (RFC 8461 3.1), TLSRPT (RFC 8460 3) and BIMI have in common: a tag list whose first tag is the
version, at a name of its own. Other TXT records at that name are none of ours, and two of ours void each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from smtpguard.mailauth.tags import TagError, parse_tags


class Versioned(NamedTuple):
    """What stands at a name. With a `problem`, receivers act as if there were no record, and `tags` is empty."""

    text: str
    """The record, or the records, one line each; "" without any."""
    tags: Mapping[str, str]
    problem: str = ""

    @property
    def is_there(self) -> bool:
        """Whether somebody published something, valid or not."""
        return bool(self.text)


def only(records: Iterable[bytes], version: str) -> Versioned:
    """The one record of this version among the TXT records of a name."""
    begins = re.compile(rb"v\s*=\s*%b\s*(;|\Z)" % re.escape(version.encode()))
    found = [record for record in records if begins.match(record)]
    text = "\n".join(ascii(record.decode("latin-1"))[1:-1] for record in found)
    if len(found) != 1:
        return Versioned(
            text, {}, f"{len(found)} records that begin with v={version}: all are ignored" if found else ""
        )
    try:
        tags = parse_tags(found[0])
    except TagError as error:
        return Versioned(text, {}, f"the record cannot be read: {error}")
    return Versioned(text, {name.decode(): value.decode("latin-1") for name, value in tags.items()})
