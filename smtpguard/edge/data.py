"""From 354 to the answer to the message: framing, limits, spool, trace field, relay (contract 1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from smtpguard.edge.doorkeeper import Doorkeeper
from smtpguard.edge.spool import NoRoom, SpooledBody
from smtpguard.flow import Transaction
from smtpguard.mail.framing import DataScanner, FramingFault
from smtpguard.mail.message import header_fields, queue_id_in, received_field
from smtpguard.mail.session import Envelope, Session
from smtpguard.policy import Own

MAX_RECEIVED: Final = 50  # contract 1.3; RFC 5321 6.3 asks for at least 100 where nothing else detects loops

_FAULTS: Final[Mapping[FramingFault, Own]] = {
    FramingFault.BARE_NEWLINE: Own.BARE_NEWLINE,
    FramingFault.NUL: Own.NUL,
}


class Receipt:
    """One message being received. `take` is fed from the wire; then `relay` or, on failure, just `close`."""

    def __init__(self, keeper: Doorkeeper, who: Session, envelope: Envelope, *, is_trusted: bool) -> None:
        self._keeper = keeper
        self._who = who
        self._envelope = envelope
        self._is_trusted = is_trusted  # the queue id that it writes into the message is the MTA's
        self._scanner = DataScanner(normalize=keeper.normalize)
        self._body = SpooledBody(keeper.memory, keeper.spool_dir)
        self._refusal: Own | None = None

    def take(self, data: bytes) -> bytes | None:
        """Octets from the wire; what stood behind the end of data once that was seen, else None.

        After a fault the octets are no longer kept, but the end is still looked for: the answer belongs there.
        """
        chunk, rest = self._scanner.feed(data)
        if chunk and self._refusal is None:
            self._refusal = self._fault()
            if self._refusal is None:
                try:
                    self._body.write(chunk)
                except NoRoom as full:
                    self._refusal = Own.NO_ROOM
                    self._keeper.log.event("no-room", f"no room for a message: {full}", level="warning")
            if self._refusal is not None:
                self._body.close()
        return rest

    def _fault(self) -> Own | None:
        if self._scanner.fault is not None:
            return _FAULTS[self._scanner.fault]
        if self._scanner.size > self._keeper.listen.max_message_size:
            return Own.TOO_LARGE
        return Own.HOPS if self._scanner.received > MAX_RECEIVED else None

    def relay(self, transaction: Transaction) -> None:
        """After the dot: hand the message to the next hop, or refuse it for its octets."""
        if self._refusal is not None:
            transaction.refuse_message(self._refusal, size=self._scanner.size)
            return
        self._body.complete(self._scanner.size)
        message_id, received = header_fields(self._body.head, b"message-id", b"received")
        if not self._envelope.queue_id and self._is_trusted:
            self._envelope.queue_id = queue_id_in(received)
        transaction.body(self._body, self._trace_field(transaction.id), message_id)

    def _trace_field(self, id: str) -> bytes:
        relay = self._keeper.relay
        if not relay.received_header:
            return b""
        utf8 = self._envelope.smtputf8
        return received_field(self._who, hostname=relay.hostname, id=id, date=self._keeper.date(), utf8=utf8)

    def close(self) -> None:
        """Give memory and file back."""
        self._body.close()
