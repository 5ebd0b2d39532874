"""Which next hop a message goes by: the `[[route]]` table (contract 2), first match wins. Pure.

No pattern at all matches everything (mail/patterns.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smtpguard.config.settings import RouteSettings
from smtpguard.mail.patterns import matches

DEFAULT: Final = "default"


class Routes:
    """The table, and whether a sender's mail goes one way whoever the recipient is."""

    def __init__(self, routes: Sequence[RouteSettings] = ()) -> None:
        self._routes = tuple(routes)
        self.only: Final = None if routes else DEFAULT
        """The next hop of all mail; None where there is a table."""

    def of(self, sender_domain: str, recipient_domain: str) -> str:
        """The next hop's name for this sender and recipient; domains in lower case, "" for the null sender's."""
        for route in self._routes:
            if matches(route.sender_domain, sender_domain) and matches(route.recipient_domain, recipient_domain):
                return route.next_hop
        return DEFAULT

    def by_sender(self, sender_domain: str) -> str | None:
        """The next hop of all this sender's mail, or None where it depends on the recipient."""
        first: str | None = None
        for route in self._routes:
            if not matches(route.sender_domain, sender_domain):
                continue
            first = first or route.next_hop
            if route.next_hop != first:
                return None
            if not route.recipient_domain:
                return first
        return DEFAULT if first in (None, DEFAULT) else None
