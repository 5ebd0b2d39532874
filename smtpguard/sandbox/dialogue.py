"""The sandbox's SMTP: its commands and their order.

RFC 5321; extensions by RFC 2920 (PIPELINING), 3030 (CHUNKING), 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8),
3461 (DSN), 3207 (STARTTLS), 4954 (AUTH). Nothing is mended and nothing rewritten: only CRLF ends a line, and paths and
parameters are kept as sent. A parameter of an extension that was not offered is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Final

from smtpguard.sandbox.answers import wish_of
from smtpguard.sandbox.login import MECHANISMS, Verdict, exchange
from smtpguard.sandbox.message import Spool
from smtpguard.sandbox.script import Action
from smtpguard.sandbox.transaction import NO_ORDER, Receiver, Transaction
from smtpguard.sandbox.wire import House

MAX_LINE_OCTETS: Final = 12_288  # RFC 4954 4: the longest of any extension's lines

# RFC 5321 4.1.2: Path = "<" [A-d-l ":"] Mailbox ">"; a quoted string may hold any bracket. No stricter here: what a
# client sends is to be seen, not judged.
_PATH: Final = rb':\s*<((?:"(?:[^"\\]|\\.)*"|[^"<>])*)>(?: +(.*))?'
_FROM: Final = re.compile(rb"FROM" + _PATH, re.IGNORECASE | re.DOTALL)
_TO: Final = re.compile(rb"TO" + _PATH, re.IGNORECASE | re.DOTALL)

# The extension that a parameter belongs to, where it is not its namesake.
_PARAMETERS_OF: Final[Mapping[bytes, bytes]] = {
    b"BODY=BINARYMIME": b"BINARYMIME",
    b"BODY": b"8BITMIME",
    b"RET": b"DSN",
    b"ENVID": b"DSN",
    b"NOTIFY": b"DSN",
    b"ORCPT": b"DSN",
}


class Dialogue(Receiver):
    """One connection's SMTP."""

    def __init__(self, house: House, number: int) -> None:
        super().__init__(house, number)
        self._offered: frozenset[bytes] = frozenset()
        self._exchange: Generator[bytes, bytes, Verdict] | None = None

    def begin(self) -> None:
        settings = self.house.settings
        if settings.implicit_tls and not self.tls:
            self.answer("STARTTLS", b"", self.start_tls)
        elif settings.implicit_tls or not self.tls:
            self.answer("CONNECT", f"220 {settings.hostname} ESMTP sandbox\r\n".encode())
        else:
            # RFC 3207 4.2: what was said in clear is forgotten.
            self.forget()
            self.helo, self._offered, self.login = b"", frozenset(), ""

    # -- commands

    def _read_line(self) -> bytes | None:
        end = self.inbox.find(b"\r\n")
        if end < 0 and len(self.inbox) <= MAX_LINE_OCTETS:
            return None
        if end < 0 or end > MAX_LINE_OCTETS:
            self.say(b"500 5.5.2 Error: line too long\r\n")
            self.close()
            return None
        line = bytes(self.inbox[:end])
        del self.inbox[: end + 2]
        self.house.hear(line)
        return line

    def read_command(self) -> bool:
        line = self._read_line()
        if line is None:
            return False
        verb, _, argument = line.partition(b" ")
        if b"\0" in line or b"\r" in line or b"\n" in line:
            self.say(b"500 5.5.2 Error: NUL, bare CR or bare LF in a command\r\n")
        else:
            _HANDLERS.get(verb.upper(), Dialogue._unknown)(self, argument)
        return True

    def _unknown(self, _argument: bytes) -> None:
        self.say(b"500 5.5.2 Error: command not recognized\r\n")

    def _ehlo(self, argument: bytes) -> None:
        if not argument.strip():
            return self.answer("EHLO", b"501 5.5.4 Syntax: EHLO hostname\r\n")
        settings = self.house.settings
        keywords = [word.encode() for word in settings.keywords]
        if settings.tls is not None and not self.tls:
            keywords.append(b"STARTTLS")
        elif settings.users is not None:
            keywords.append(b"AUTH PLAIN LOGIN")
        lines = [settings.hostname.encode(), *keywords]
        reply = b"".join(b"250-%s\r\n" % line for line in lines[:-1]) + b"250 %s\r\n" % lines[-1]
        offered = frozenset(word.split(b" ")[0].upper() for word in keywords)
        return self.answer("EHLO", reply, partial(self._greeted, argument, offered))

    def _helo_(self, argument: bytes) -> None:
        if not argument.strip():
            return self.answer("EHLO", b"501 5.5.4 Syntax: HELO hostname\r\n")
        reply = f"250 {self.house.settings.hostname}\r\n".encode()
        return self.answer("EHLO", reply, partial(self._greeted, argument, frozenset()))

    def _greeted(self, name: bytes, offered: frozenset[bytes]) -> None:
        self.forget()
        self.helo, self._offered = name, offered

    def _starttls(self, argument: bytes) -> None:
        if self.tls:
            reply = b"503 5.5.1 Error: TLS already active\r\n"
        elif argument:
            reply = b"501 5.5.4 Syntax: STARTTLS\r\n"
        elif self.house.settings.tls is None:
            reply = b"454 4.7.0 TLS not available\r\n"
        else:
            return self.answer("STARTTLS", b"220 2.0.0 Ready to start TLS\r\n", self.start_tls)
        return self.answer("STARTTLS", reply)

    def _rset(self, argument: bytes) -> None:
        if argument:
            return self.answer("RSET", b"501 5.5.4 Syntax: RSET\r\n")
        return self.answer("RSET", b"250 2.0.0 Ok\r\n", self.forget)

    def _noop(self, _argument: bytes) -> None:
        self.answer("NOOP", b"250 2.0.0 Ok\r\n")

    def _quit(self, argument: bytes) -> None:
        if argument:
            return self.answer("QUIT", b"501 5.5.4 Syntax: QUIT\r\n")
        return self.answer("QUIT", b"221 2.0.0 Bye\r\n", self.close)

    def _vrfy(self, argument: bytes) -> None:
        self.say(b"252 2.5.2 Cannot tell; send and see\r\n" if argument else b"501 5.5.4 Syntax: VRFY address\r\n")

    # -- AUTH (RFC 4954)

    def _auth(self, argument: bytes) -> None:
        mechanism, _, initial = argument.partition(b" ")
        users = self.house.settings.users
        if users is None:
            return self.answer("AUTH", b"502 5.5.1 Error: AUTH is not offered\r\n")
        if not self.helo or self.login or self.transaction is not None:
            return self.answer("AUTH", NO_ORDER)
        if mechanism.upper() not in MECHANISMS:
            return self.answer("AUTH", b"504 5.5.4 Error: mechanism not known\r\n")
        self._exchange = exchange(mechanism.upper(), initial, users)
        try:
            return self.answer("AUTH", next(self._exchange), partial(setattr, self, "mode", self._read_login))
        except StopIteration as end:
            return self.answer("AUTH", end.value.reply, partial(setattr, self, "login", end.value.login))

    def _read_login(self) -> bool:
        line = self._read_line()
        if line is None or self._exchange is None:
            return False
        try:
            self.say(self._exchange.send(line))
        except StopIteration as end:
            self.mode = self.read_command
            self.login = end.value.login
            self.say(end.value.reply)
        return True

    # -- the envelope

    def _mail(self, argument: bytes) -> None:
        found = _FROM.fullmatch(argument)
        if not self.helo or self.transaction is not None:
            return self.answer("MAIL", NO_ORDER)
        if found is None:
            return self.answer("MAIL", b"501 5.1.7 Error: bad sender address syntax\r\n")
        path, params = found[1], tuple((found[2] or b"").split())
        fault = self._fault(path, params, utf8=_has_utf8(params))
        if self.house.settings.users is not None and not self.login:
            fault = b"530 5.7.0 Authentication required\r\n"
        if fault:
            return self.answer("MAIL", fault)
        wish = wish_of(path, domain=path.rpartition(b"@")[2], slow_s=self.house.settings.slow_s)
        take = partial(self._open, path, params, wish.after_message)
        return self.answer("MAIL", b"250 2.1.0 Ok\r\n", take, wish.at_once)

    def _open(self, path: bytes, params: tuple[bytes, ...], last_word: Action | None) -> None:
        settings = self.house.settings
        spool = Spool(settings.maildir, keep=settings.keep, limit=settings.size_limit)
        self.transaction = Transaction(path, params, spool, last_word=last_word)

    def _fault(self, path: bytes, params: tuple[bytes, ...], *, utf8: bool) -> bytes:
        if not path.isascii() and not utf8:
            return b"553 5.6.7 Error: non-ASCII address without SMTPUTF8\r\n"
        limit = self.house.settings.size_limit
        for param in params:
            name, _, value = param.partition(b"=")
            namesake = _PARAMETERS_OF.get(name.upper(), name.upper())
            if _PARAMETERS_OF.get(param.upper(), namesake) not in self._offered:
                return b"555 5.5.4 Error: parameter not recognized\r\n"
            if name.upper() == b"SIZE" and not value.isdigit():
                return b"501 5.5.4 Error: bad SIZE\r\n"
            if name.upper() == b"SIZE" and limit and int(value) > limit:
                return b"552 5.3.4 Message size exceeds fixed limit\r\n"
        return b""

    def _rcpt(self, argument: bytes) -> None:
        transaction = self.transaction
        if transaction is None or transaction.begun:
            return self.answer("RCPT", NO_ORDER)
        found = _TO.fullmatch(argument)
        if found is None or not found[1]:
            return self.answer("RCPT", b"501 5.1.3 Error: bad recipient address syntax\r\n")
        path, params = found[1], tuple((found[2] or b"").split())
        fault = self._fault(path, params, utf8=_has_utf8(transaction.params))
        if fault:
            return self.answer("RCPT", fault)
        domain = transaction.mail_from.rpartition(b"@")[2]
        wish = wish_of(path, domain=domain, slow_s=self.house.settings.slow_s)

        def take() -> None:
            transaction.rcpts.append((path, params))
            transaction.last_word = transaction.last_word or wish.after_message

        return self.answer("RCPT", b"250 2.1.5 Ok\r\n", take, wish.at_once)

    # -- the message

    def _data(self, argument: bytes) -> None:
        transaction = self.transaction
        if transaction is None or not transaction.rcpts or transaction.begun:
            return self.answer("DATA", NO_ORDER)
        if argument:
            return self.answer("DATA", b"501 5.5.4 Syntax: DATA\r\n")
        return self.answer("DATA", b"354 End data with <CR><LF>.<CR><LF>\r\n", self.begin_data)

    def _bdat(self, argument: bytes) -> None:
        words = argument.upper().split()
        if not words or not words[0].isdigit() or words[1:] not in ([], [b"LAST"]):
            # How many octets follow cannot be known: what comes is no command, so the connection ends.
            self.say(b"501 5.5.4 Syntax: BDAT octets [LAST]\r\n")
            return self.close()
        transaction = self.transaction
        refusal = b""
        if b"CHUNKING" not in self._offered:
            refusal = b"502 5.5.1 Error: CHUNKING is not offered\r\n"
        elif transaction is None or not transaction.rcpts or transaction.failed:
            refusal = NO_ORDER
        return self.begin_chunk(int(words[0]), refusal, last=len(words) == 2)


def _has_utf8(params: tuple[bytes, ...]) -> bool:
    return any(param.upper() == b"SMTPUTF8" for param in params)


_HANDLERS: Final[Mapping[bytes, Callable[[Dialogue, bytes], None]]] = {
    b"EHLO": Dialogue._ehlo,
    b"HELO": Dialogue._helo_,
    b"STARTTLS": Dialogue._starttls,
    b"AUTH": Dialogue._auth,
    b"MAIL": Dialogue._mail,
    b"RCPT": Dialogue._rcpt,
    b"DATA": Dialogue._data,
    b"BDAT": Dialogue._bdat,
    b"RSET": Dialogue._rset,
    b"NOOP": Dialogue._noop,
    b"QUIT": Dialogue._quit,
    b"VRFY": Dialogue._vrfy,
}
