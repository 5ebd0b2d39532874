"""What went wrong with a next hop, in words for a person. Pure.

`HopFailure.detail` keeps what the system or a library said, so that it can be told apart by its number; what is shown
to somebody goes through here. It never holds what a peer sent but where the caller put it there.
"""

from __future__ import annotations

import os
import re
from typing import Final

_ERROR: Final = re.compile(r"\[Errno (-?\d{1,9})\] (.*)")


def readable(detail: str) -> str:
    """The system's errors by their names: asyncio says "Connect call failed" for all of them.

    A negative number is of a look-up of names (getaddrinfo), whose own words are good.
    """
    return _ERROR.sub(lambda found: os.strerror(int(found[1])) if int(found[1]) > 0 else found[2], detail)
