"""The commands that carry no mail: EHLO, HELO and LHLO, RSET, QUIT, STARTTLS, AUTH, XFORWARD (contract 1.2).

What carries mail (MAIL, RCPT, DATA) is `smtpd.Door`'s; how commands come and are answered is `frame.Frame`'s.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final

from smtpguard.edge import auth
from smtpguard.edge.auth import Users
from smtpguard.edge.frame import Frame
from smtpguard.mail.address import parse_xforward

_HELO = re.compile(rb"[!-~]{1,255}")  # a printable token; whether it is a good name is nobody's business here
_BAD_SEQUENCE: Final = b"503 5.5.1 bad sequence of commands\r\n"


class Entrance(Frame):
    """One session, but for its mail."""

    _offered: frozenset[str] = frozenset()
    _failed_logins = 0

    def _hello(self, argument: bytes, *, extended: bool) -> None:
        if not _HELO.fullmatch(argument):
            self._bad(b"501 5.5.4 syntax: EHLO, HELO or LHLO with a host name\r\n")
            return
        self._drop_transaction()
        self._who.helo = argument.decode()
        self._who.esmtp = extended
        if not extended:
            self._offered = frozenset()
            self.answer(f"250 {self._keeper.relay.hostname}\r\n".encode())
            return
        reply, self._offered = self._keeper.hello(trusted=self._is_trusted, in_tls=bool(self._who.tls_version))
        self.answer(reply)

    def smtp_HELO(self, argument: bytes) -> None:
        """RFC 5321 4.1.1.1."""
        self._hello(argument, extended=False)

    def smtp_EHLO(self, argument: bytes) -> None:
        """RFC 5321 4.1.1.1; LHLO of RFC 2033 4.1."""
        self._hello(argument, extended=True)

    def smtp_RSET(self, _argument: bytes) -> None:
        """RFC 5321 4.1.1.5."""
        self._drop_transaction()
        self.answer(b"250 2.0.0 Ok\r\n")

    def smtp_QUIT(self, _argument: bytes) -> None:
        """RFC 5321 4.1.1.10."""
        self._drop_transaction()
        self.answer(b"221 2.0.0 Bye\r\n")
        self.close()

    def smtp_STARTTLS(self, argument: bytes) -> None:
        """RFC 3207; the handshake is aiosmtpd's."""
        if argument:
            self._bad(b"501 5.5.4 STARTTLS takes no argument\r\n")
        elif self.tls_context is None or self._who.tls_version:
            self._bad(_BAD_SEQUENCE)
        else:
            self._drop_transaction()
            self._owed = 0
            self._wait_for(self._secure())

    async def _secure(self) -> None:
        self._result = "tls_failed"  # until it is not
        self._who.tls_version = await self.start_tls()
        self._result = "accepted"
        self._who.helo = ""  # RFC 3207 4.2: begin anew

    def smtp_AUTH(self, argument: bytes) -> None:
        """RFC 4954; the dialogue and the check are `auth`'s, the check off the loop."""
        users = self._keeper.users
        if users is None:
            self._bad(b"503 5.5.1 AUTH is not offered\r\n")
        elif not self._who.tls_version:
            self.answer(b"538 5.7.11 AUTH only under TLS\r\n")
        elif not self._who.esmtp or not self._who.helo or self._who.login or self._transaction is not None:
            self._bad(_BAD_SEQUENCE)
        else:
            self._wait_for(self._log_in(users, argument))

    async def _log_in(self, users: Users, argument: bytes) -> None:
        try:
            name, password = await auth.dialogue(argument, self._challenge)
        except auth.AuthRefused as refused:
            self._bad(refused.line)
            return
        if await users.check(name, password, self._who.peer_ip):
            self._who.login = name
            self.answer(b"235 2.7.0 Authentication successful\r\n")
            return
        self._failed_logins += 1
        if self._failed_logins < auth.TRIES:
            self.answer(b"535 5.7.8 Authentication credentials invalid\r\n")
            return
        self._owed = 0
        self._refuse_session("limited", b"421 4.7.0 too many failed logins\r\n")
        self.close()

    async def _challenge(self, challenge: bytes) -> bytes | None:
        """The line that answers this challenge; None for one that is no line."""
        self.send(b"334 " + b64encode(challenge) + b"\r\n")
        while (line := self.next_line()) is None:
            if not await self.more():
                raise ConnectionResetError("the client went during AUTH")
        return line if isinstance(line, bytes) else None

    def smtp_XFORWARD(self, argument: bytes) -> None:
        """Postfix XFORWARD_README: whom the MTA got the mail from, and its queue id."""
        if not self._is_trusted:
            self._bad(b"550 5.7.1 XFORWARD is for listen.trusted\r\n")
            return
        if self._transaction is not None:
            self._bad(_BAD_SEQUENCE)
            return
        try:
            self._who.client.update(parse_xforward(argument))
        except ValueError as error:
            self._bad(f"501 5.5.4 {error}\r\n".encode("ascii", "replace"))
            return
        self.answer(b"250 2.0.0 Ok\r\n")
