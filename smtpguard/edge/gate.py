"""What stands before aiosmtplib while a session opens (`connect.py`): whole replies that were asked for, nothing else.

aiosmtplib by itself takes any number for a code, mixed codes for one reply, and surplus lines for the next answer
(RFC 5321 4.2).
"""

from __future__ import annotations

import asyncio
from typing import cast

from aiosmtplib.protocol import SMTPProtocol

from smtpguard.edge.reader import ReplyReader
from smtpguard.mail.reply import Reply, ReplyError, Verb


class Gate(SMTPProtocol):
    """aiosmtplib's protocol behind a strict reader: one reply a command, nothing else, or the connection is aborted."""

    def __init__(self) -> None:
        super().__init__()
        self._reader = ReplyReader()
        self._due = 1  # the greeting
        self.reply: Reply | None = None
        """The last reply. Its verb is always CONNECT: the caller knows better."""
        self.fault = ""
        """What was wrong with what it sent; "" nothing."""

    def write(self, data: bytes) -> None:
        """aiosmtplib's way out: each write is a command, and is owed a reply."""
        self._due += 1
        super().write(data)

    def data_received(self, data: bytes) -> None:
        """Pass on each whole reply that is owed; abort at anything else."""
        if self.fault:
            return
        try:
            for lines in self._reader.feed(data):
                self._due -= 1
                if self._due < 0:
                    raise ReplyError(f"{lines[0][:40]!r} without a question")
                self.reply = Reply.parse(lines, Verb.CONNECT)
                super().data_received(b"\r\n".join(lines) + b"\r\n")
            if self._due <= 0 and not self._reader.is_between:
                raise ReplyError("more than was asked for")
        except ReplyError as error:
            self.fault = str(error)
            self.abort()

    @property
    def wire(self) -> asyncio.Transport | None:
        """The transport while it is open. (uvloop's do not derive from asyncio's: `isinstance` would deny them.)"""
        return cast("asyncio.Transport | None", self.transport)

    def abort(self) -> None:
        """Reset the socket."""
        if self.wire is not None:
            self.wire.abort()
