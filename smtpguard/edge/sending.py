"""A message on its way to a next hop: whole where it is small, else piece by piece (RFC 5321 4.1.1.4, RFC 3030).

As fast as the transport takes it and no faster, one piece a turn of the loop, so that a fast hop does not keep the
others waiting. A message is never ended that is not what it said: its size must be right and its last line whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from smtpguard.flow import Body

AT_ONCE: Final = 64 * 1024  # a message up to this size is one write


def at_once(head: bytes, body: Body, *, chunking: bool) -> bytes:
    """All that is sent of a small message; ValueError where it is not what it said, OSError where it cannot be read."""
    if chunking:
        message = b"".join((head, *body.content()))
        _check(message, len(message) - body.size - len(head))
        return b"BDAT %d LAST\r\n%b" % (len(message), message)
    message = b"".join((head, *body.wire(), b".\r\n"))
    _check(message[-5:-3], min(0, len(message) - 3 - body.size - len(head)))
    return message


class Sending:
    """One message in pieces. `on_sent` when the kernel has it all, `on_fault` where the end cannot be sent.

    The owner of the transport tells when that is full (`is_full`) and when it is empty again (`go_on`).
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        head: bytes,
        body: Body,
        on_sent: Callable[[], None],
        on_fault: Callable[[Exception], None],
        *,
        chunking: bool,
    ) -> None:
        self.is_full = False
        self._transport = transport
        self._on_sent = on_sent
        self._on_fault = on_fault
        self._chunking = chunking
        self._piece = head  # the next one to go
        self._pieces = body.content() if chunking else body.wire()
        self._left = body.size  # octets that must follow it
        self._size = len(head) + body.size
        self._is_last = False  # the transport has it all
        self._is_over = False
        self._written = self._accepted = 0

    def begin(self) -> None:
        """The first piece."""
        if self._chunking:
            self._transport.write(b"BDAT %d LAST\r\n" % self._size)
        self.go_on()

    def stop(self) -> None:
        """Send no more."""
        self._is_over = True

    def go_on(self) -> None:
        """The transport has room, or the others have had their turn."""
        if self._is_over or self.is_full:
            return
        if self._is_last:
            self._is_over = True
            self._on_sent()
            return
        try:
            self._send_piece()
        except (OSError, ValueError) as error:
            self._on_fault(error)

    def _send_piece(self) -> None:
        """Always one behind, so that we know which is the last."""
        piece = self._piece
        following = next(filter(None, self._pieces), b"")
        self._left -= len(following)
        if following and not (self._chunking and self._left < 0):
            self._piece = following
        else:
            _check(piece, -self._left if self._chunking else min(0, -self._left))
            self._is_last = True
            piece = piece if self._chunking else piece + b".\r\n"
        self._transport.write(piece)
        self._written += len(piece)
        if not self.is_full:
            if self._is_last:
                self.go_on()
            else:
                asyncio.get_running_loop().call_soon(self.go_on)

    def has_progressed(self) -> bool:
        """Whether the kernel took something since this was asked last."""
        accepted = self._written - self._transport.get_write_buffer_size()
        progressed = accepted > self._accepted
        self._accepted = max(self._accepted, accepted)
        return progressed


def _check(end: bytes, over: int) -> None:
    """ValueError where a message is `over` octets longer than it said (or shorter), or does not end a line."""
    if over:
        raise ValueError(f"the body is {over:+} octets off its size")
    if end and not end.endswith(b"\r\n"):  # else the dot would not stand alone, and the message run on into the next
        raise ValueError("the message does not end in CRLF")
