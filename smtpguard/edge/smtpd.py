"""The doors: the mail of LMTP and SMTP sessions (contract 1.1, 1.3; RFC 5321, RFC 2033, RFC 2920).

A command is parsed here, judged in `flow.Transaction`, answered in order. Commands that came in one packet are handed
on together, so that they leave for the next hop in one packet. Nothing here waits, and nothing decides what a refusal
means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from smtpguard import policy
from smtpguard.edge.data import Receipt
from smtpguard.edge.entrance import Entrance
from smtpguard.edge.frame import CONTROL, Command
from smtpguard.flow import Asked, Declined, begin
from smtpguard.mail.address import SyntaxRefused, parse_mail, parse_rcpt
from smtpguard.mail.reply import EnhancedCode, Reply, Verb
from smtpguard.policy import Own

MAX_RECIPIENTS: Final = 1000  # contract 1.3; RCPT commands of a transaction, refused ones too: each is remembered

_NEED_MAIL: Final = b"503 5.5.1 MAIL was refused\r\n"
_NO_MORE: Final = policy.own(Own.MANY_RECIPIENTS, Verb.RCPT)
_NO_LINE: Final = Reply(500, ("bad line end or control character",), EnhancedCode(5, 5, 2), Verb.RCPT)


class Door(Entrance):
    """One session with its transactions; flow.Client."""

    _receipt: Receipt | None = None
    _tried = 0  # RCPT commands of the transaction

    def smtp_MAIL(self, argument: bytes) -> None:
        """RFC 5321 4.1.1.2."""
        if not self._who.helo:
            self._bad(b"503 5.5.1 say EHLO, HELO or LHLO first\r\n")
            return
        if self._transaction is not None:
            dead = self._transaction.dead(Verb.MAIL)
            if dead is not None:
                self.serve(dead)
            else:
                self._bad(b"503 5.5.1 nested MAIL\r\n")
            return
        if not self._who.login and not self._is_allowed:
            self._refused_mail = _NEED_MAIL
            self.answer(b"530 5.7.0 log in first\r\n")
            return
        self._refused_mail = None
        self._tried = 0
        try:
            envelope = parse_mail(argument, offered=self._offered)
        except SyntaxRefused as refused:
            self.serve(refused.reply)
            return
        envelope.queue_id = self._who.client.get("IDENT", "")
        self._envelope = envelope
        self._transaction = transaction = begin(self._keeper.relay, self._who, envelope, self)
        if envelope.size is not None and envelope.size > self._keeper.listen.max_message_size:
            transaction.refuse_mail(policy.own(Own.TOO_LARGE, Verb.MAIL))
            return
        asked = self._gather() if self._buffer else ()
        self._owed = 1 + len(asked)
        transaction.mail(asked)

    def serve(self, reply: Reply) -> None:
        """flow.Client: an answer to the command at hand; with the last one owed, go on.

        A refusal of MAIL also answers what was pipelined behind it.
        """
        if reply.code >= 400 and self._refused_mail is None and self._receipt is None:
            transaction = self._transaction
            if transaction is None or transaction.over:
                self._refused_mail = reply.wire() if reply.klass == 4 else _NEED_MAIL
        self._owed -= 1
        if self.transport is not None:
            self._burst.write(self.transport, reply.wire(utf8=self._envelope.smtputf8))
        if self._owed:
            return
        if self._transaction is not None and self._transaction.over:
            self._settle()
        if not self._in_turn and (self._buffer or self.eof or self.lost or self.closing):
            self.proceed()

    def smtp_RCPT(self, argument: bytes) -> None:
        """RFC 5321 4.1.1.3."""
        if self._transaction is None:
            if self._refused_mail is not None:  # pipelined behind a MAIL that was refused: no bad command
                self.answer(self._refused_mail)
            else:
                self._bad(b"503 5.5.1 need MAIL before RCPT\r\n")
            return
        if self._tried > MAX_RECIPIENTS:  # one refusal of that kind is told; the others cost nothing
            self.answer(_NO_MORE.reply.wire())
            return
        asked = [self._rcpt(argument)]
        if self._buffer:
            asked += self._gather()
            self._owed = len(asked)
        self._transaction.rcpts(asked)

    def _gather(self) -> list[Asked]:
        """The RCPT commands that are at hand already: they leave together, not more than one message may have."""
        asked: list[Asked] = []
        while self._tried <= MAX_RECIPIENTS and self.peek(b"RCPT "):
            line = self.next_line()
            if not isinstance(line, bytes) or CONTROL.search(line):
                self._tried += 1
                asked.append(Declined(b"", policy.Said(_NO_LINE, policy.stated("protocol.error"))))
                continue
            asked.append(self._rcpt(line[5:].strip(b" ")))
        return asked

    def _rcpt(self, argument: bytes) -> Asked:
        self._tried += 1
        try:
            rcpt = parse_rcpt(argument, smtputf8=self._envelope.smtputf8, offered=self._offered)
        except SyntaxRefused as refused:
            return Declined(argument[:256], policy.Said(refused.reply, policy.stated(refused.category)))
        if self._tried > MAX_RECIPIENTS:
            return Declined(rcpt.path, _NO_MORE)
        return rcpt

    def smtp_DATA(self, argument: bytes) -> None:
        """RFC 5321 4.1.1.4."""
        transaction = self._transaction
        if argument:
            self._bad(b"501 5.5.4 DATA takes no argument\r\n")
            return
        if transaction is None:
            if self._refused_mail is not None:
                self.answer(self._refused_mail)
            else:
                self._bad(b"503 5.5.1 need MAIL and RCPT before DATA\r\n")
            return
        dead = transaction.dead(Verb.DATA)
        if dead is not None:
            self.serve(dead)
            return
        if not self._envelope.rcpts:
            self.answer(
                b"451 4.5.1 no recipient was taken\r\n"
                if transaction.is_deferred
                else b"503 5.5.1 no valid recipients\r\n"  # RFC 2033 4.2
                if self._who.door == "lmtp"
                else b"554 5.5.1 no valid recipients\r\n"
            )
            return
        transaction.receiving()
        self.answer(b"354 end data with <CR><LF>.<CR><LF>\r\n")
        self._receipt = receipt = Receipt(self._keeper, self._who, self._envelope, is_trusted=self._is_trusted)
        self.receive(receipt.take)

    def received(self) -> None:
        """The dot was seen."""
        assert self._transaction is not None
        assert self._receipt is not None
        self._after_dot = True
        self._owed = self._transaction.answers_due
        self._receipt.relay(self._transaction)

    def _settle(self) -> None:
        """The transaction is over: MAIL was refused, or the message answered."""
        self._transaction = None
        if self._receipt is not None:
            self._put_away(self._receipt)
            self._after_dot = False
            self._who.client.clear()
            self._bad_commands = 0

    def _drop_transaction(self, *, client_gone: bool = False) -> None:
        super()._drop_transaction(client_gone=client_gone)
        if self._receipt is not None:
            self._put_away(self._receipt)

    def _put_away(self, receipt: Receipt) -> None:
        self._receipt = None
        receipt.close()


_BOTH: Final[Mapping[bytes, Command]] = {
    b"MAIL": Door.smtp_MAIL,
    b"RCPT": Door.smtp_RCPT,
    b"DATA": Door.smtp_DATA,
    b"RSET": Door.smtp_RSET,
    b"QUIT": Door.smtp_QUIT,
    b"STARTTLS": Door.smtp_STARTTLS,
    b"AUTH": Door.smtp_AUTH,
    b"XFORWARD": Door.smtp_XFORWARD,
}
Door.commands = {
    "smtp": {**_BOTH, b"EHLO": Door.smtp_EHLO, b"HELO": Door.smtp_HELO},
    "lmtp": {**_BOTH, b"LHLO": Door.smtp_EHLO},
}
