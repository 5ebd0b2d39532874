"""Asking a next hop whether it would take our mail, without sending any: each of its hosts by itself, side by side.

Connection, greeting, EHLO, STARTTLS and AUTH are those of the relay itself (edge.connect), so what passes here passes
there. Then MAIL FROM:<>, the RCPT that was asked for, RSET and QUIT. A host has PROBE_S for all of it.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from cryptography import x509

from smtpguard.cli.finding import Finding, State
from smtpguard.config import NextHopSettings
from smtpguard.config.values import is_loopback
from smtpguard.edge.connect import Connected, Names, connect, tls_context
from smtpguard.edge.exchange import rcpt_lines
from smtpguard.edge.pipeline import Connection, size_of
from smtpguard.mail.reply import Answer, FailureKind, HopFailure, Reply, Verb
from smtpguard.mail.session import Recipient
from smtpguard.mail.trouble import readable

PROBE_S: Final = 20.0
_GOODBYE_S: Final = 3.0
_SOON: Final = datetime.timedelta(days=14)

# What it costs where a next hop does not offer a keyword; the doors then do not offer it either, or do without.
_WORTH: Final = {
    "8BITMIME": "8-bit mail is re-coded by your MTA, which breaks DKIM signatures made before",
    "SMTPUTF8": "mail to and from non-ASCII addresses is refused",
    "DSN": "delivery reports asked for by senders are made by your MTA, at the hand-over",
    "PIPELINING": "each recipient costs a round trip",
    "CHUNKING": "each message costs one round trip more",
}
_FINE: Final[tuple[State, str]] = ("ok", "")
_NEEDED: Final[Mapping[str, tuple[State, str]]] = {"8BITMIME": ("warn", "ask who runs it, or sign behind smtpguard")}


async def probe(
    name: str, hop: NextHopSettings, hostname: str, *, rcpt: Recipient | None = None, max_size: int = 0
) -> list[Finding]:
    """What is found of the next hop `name`, host by host. `max_size`: what our doors take, in octets. Never raises."""
    if hop.host == ("sandbox",):
        return [Finding(f"next_hop.{name}", "ok", "the sandbox: no mail leaves this machine")]
    try:
        context = tls_context(hop)
    except (OSError, ssl.SSLError) as error:
        return [Finding(f"next_hop.{name}.tls", "fail", f"its TLS files: {error}", "name files that can be read")]
    names = Names()
    each = (_Host(name, host, hop, hostname).ask(names, context, rcpt, max_size) for host in hop.host)
    return [finding for found in await asyncio.gather(*each) for finding in found]


class _Host:
    """One host of a next hop."""

    def __init__(self, name: str, host: str, hop: NextHopSettings, hostname: str) -> None:
        self._name = f"next_hop.{name}"
        self._host = host
        self._where = f"[{host}]:{hop.port}" if ":" in host else f"{host}:{hop.port}"
        self._hop = hop
        self._hostname = hostname

    def _found(self, of: str, state: State, message: str, remedy: str = "", *, is_temporary: bool = False) -> Finding:
        name = f"{self._name}.{of}" if of else self._name
        return Finding(name, state, f"{self._where} {message}", remedy, is_temporary)

    async def ask(
        self, names: Names, context: ssl.SSLContext | None, rcpt: Recipient | None, max_size: int
    ) -> list[Finding]:
        """All that is found, in the order of a session."""
        deadline = asyncio.get_running_loop().time() + PROBE_S
        got = await connect(self._host, self._hop, self._hostname, deadline, names=names, context=context)
        if not isinstance(got, Connected):
            return [self._cannot(got)]
        found = [self._found("", "ok", "answers"), self._tls(got)]
        if self._hop.username:
            found.append(self._found("login", "ok", f"knows {self._hop.username}"))
        elif "AUTH" in got.keywords:
            found.append(self._found("login", "ok", "offers a login, none is configured"))
        found += [*self._keywords(got.keywords), self._size(got.keywords, max_size)]
        answers = await self._try(got, [rcpt] if rcpt else [], deadline)
        found.append(self._mail(answers[0]))
        if rcpt is not None and isinstance(answers[0], Reply) and answers[0].klass == 2:
            found.append(self._rcpt(rcpt, answers[1]))
        return found

    async def _try(self, connected: Connected, rcpts: Sequence[Recipient], deadline: float) -> list[Answer]:
        gone = asyncio.Event()

        def leave(_: Connection) -> None:
            connected.transport.write(b"QUIT\r\n")  # its 221 ends the connection, as all that nobody asked for

        connection = Connection(connected, self._hop.timeout, leave, lambda *_: gone.set())
        ear = _Ear(1 + len(rcpts))
        connection.begin([b"MAIL FROM:<>\r\n", *rcpt_lines(rcpts)], deadline, ear)
        await ear.done.wait()
        connection.finish()
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await gone.wait()
        except TimeoutError:
            connection.abort()
        return ear.answers

    # -- what it says of itself ----------------------------------------------------------------------------------

    def _tls(self, got: Connected) -> Finding:
        tls = got.transport.get_extra_info("ssl_object")
        if tls is None:
            if is_loopback(self._host):
                return self._found("tls", "ok", "speaks no TLS, and is this machine")
            why = "tls = none" if self._hop.tls == "none" else "it offers no TLS"
            return self._found("tls", "warn", f"gets mail in clear: {why}", "set tls = required if it can")
        certificate = x509.load_der_x509_certificate(tls.getpeercert(True))
        until = certificate.not_valid_after_utc
        checked = "" if self._hop.tls in ("required", "implicit") else ", not checked"
        said = f"{tls.version()}, certificate for {_names(certificate)} until {until:%Y-%m-%d}{checked}"
        if until - datetime.datetime.now(datetime.UTC) < _SOON:
            remedy = "tell who runs it: once it is expired, all mail waits" if not checked else ""
            return self._found("tls", "warn", said, remedy)
        return self._found("tls", "ok", said)

    def _keywords(self, offered: dict[str, str]) -> Iterator[Finding]:
        yield self._found(
            "ehlo", "ok", "offers " + (", ".join(word for word in _WORTH if word in offered) or "nothing")
        )
        lacking = [word for word in _WORTH if word not in offered]
        for word in lacking:
            whose = "discard_keywords hides" if word in self._hop.discard_keywords else "lacks"
            state, remedy = _NEEDED.get(word, _FINE)
            yield self._found("ehlo", state, f"{whose} {word}: {_WORTH[word]}", remedy)

    def _size(self, offered: dict[str, str], max_size: int) -> Finding:
        limit = size_of(offered)
        if not limit:
            return self._found("size", "ok", "names no largest size")
        if limit >= max_size:
            return self._found("size", "ok", f"takes {_mib(limit)}")
        return self._found("size", "ok", f"takes {_mib(limit)}: the doors offer that, not {_mib(max_size)}")

    # -- what it answers -----------------------------------------------------------------------------------------

    def _mail(self, answer: Answer) -> Finding:
        if isinstance(answer, HopFailure):
            return self._found("mail", "fail", f"MAIL FROM:<>: {_failure(answer)}", "see its log", is_temporary=True)
        if answer.klass == 2:
            return self._found("mail", "ok", "takes MAIL FROM:<>, the sender of bounces")
        remedy = "your users' mail may pass, bounces and vacation notices of this machine do not: ask who runs it"
        state: State = "warn" if answer.klass == 5 else "fail"
        if answer.code == _LOGIN_WANTED:
            state, remedy = "fail", "it takes no mail without a login: set username and password_file"
        return self._found("mail", state, f"MAIL FROM:<>: {answer}", remedy, is_temporary=answer.klass == 4)

    def _rcpt(self, rcpt: Recipient, answer: Answer) -> Finding:
        path = rcpt.path.decode("utf-8", "replace")
        if isinstance(answer, HopFailure):
            return self._found(
                "rcpt", "fail", f"RCPT TO:<{path}>: {_failure(answer)}", "see its log", is_temporary=True
            )
        if answer.klass == 2:
            return self._found("rcpt", "ok", f"takes RCPT TO:<{path}>")
        return self._found(
            "rcpt", "fail", f"RCPT TO:<{path}>: {answer}", meaning(answer, self._host), is_temporary=answer.klass == 4
        )

    def _cannot(self, answer: Answer) -> Finding:
        if isinstance(answer, HopFailure):
            is_temporary = answer.kind is FailureKind.CONNECT and _TRY_AGAIN in answer.detail
            of = _STEPS.get(answer.verb, "") if answer.kind is not FailureKind.TLS else "tls"
            return self._found(of, "fail", _failure(answer), self._remedy(answer), is_temporary=is_temporary)
        remedy = _REFUSED.get(answer.verb) or meaning(answer, self._host)
        is_temporary = answer.klass == 4 and answer.verb is not Verb.AUTH
        of = _STEPS.get(answer.verb, "")
        return self._found(of, "fail", f"refuses {answer.verb}: {answer}", remedy, is_temporary=is_temporary)

    def _remedy(self, failure: HopFailure) -> str:
        for kind, words, remedy in _REMEDIES:
            if failure.kind is kind and words in failure.detail:
                return remedy.format(host=self._host, port=self._hop.port)
        return "see the next hop's log, or ask who runs it"


class _Ear:
    """pipeline.Hears: so many answers, or fewer where MAIL is not taken."""

    def __init__(self, count: int) -> None:
        self.answers: list[Answer] = []
        self.done = asyncio.Event()
        self._count = count

    def heard(self, verb: Verb, answer: Answer) -> None:
        """Keep it; see whether it was the last."""
        self.answers.append(answer)
        is_refused = verb is Verb.MAIL and not (isinstance(answer, Reply) and answer.klass == 2)
        if is_refused or len(self.answers) == self._count:
            self.done.set()


def _of(number: int) -> str:
    """How a system error of this number begins."""
    return f"[Errno {number}]"


_LOGIN_WANTED: Final = 530  # RFC 4954 6
_TRY_AGAIN: Final = _of(socket.EAI_AGAIN)  # no name server answers
_STEPS: Final = {Verb.STARTTLS: "tls", Verb.AUTH: "login", Verb.EHLO: "ehlo"}
_REFUSED: Final = {
    Verb.AUTH: "it does not know this username and password: ask the provider, and see what is in password_file",
    Verb.EHLO: "it dislikes our name: set relay.hostname to a full name that DNS knows",
    Verb.STARTTLS: "its TLS is out of order: try again, or ask who runs it",
}
# The first that fits: kind, words of the detail, remedy.
_REMEDIES: Final = (
    (FailureKind.CONNECT, _TRY_AGAIN, "no name server answers: see /etc/resolv.conf, and try again"),
    (FailureKind.CONNECT, "[Errno -", "this name has no address: correct next_hop host"),
    (
        FailureKind.CONNECT,
        _of(errno.ECONNREFUSED),
        "nothing listens there: correct host or port (587, with tls = implicit 465, or 25)",
    ),
    (FailureKind.CONNECT, _of(errno.ENETUNREACH), "no route: is this machine on the network, has it IPv6?"),
    (FailureKind.CONNECT, "", "a firewall drops port {port}, or {host} is down; many networks close port 25: try 587"),
    (FailureKind.TLS, "Hostname mismatch", "set tls_name to a name in its certificate, if that is whom you mean"),
    (FailureKind.TLS, "IP address mismatch", "write the host's name, or set tls_name to one in its certificate"),
    (FailureKind.TLS, "self-signed", "set tls_ca_file to the certificate of its authority, if you trust it"),
    (FailureKind.TLS, "unable to get local issuer", "set tls_ca_file to the certificate of its authority"),
    (
        FailureKind.TLS,
        "expired",
        "its certificate is past its date: tell who runs it (or is this machine's clock wrong?)",
    ),
    (FailureKind.TLS, "not yet valid", "is this machine's clock right?"),
    (FailureKind.TLS, "WRONG_VERSION_NUMBER", "it speaks no TLS at once on port {port}: tls = required, or port 465"),
    (FailureKind.TLS, "not offered", "it offers no STARTTLS on port {port}: try 587, or 465 with tls = implicit"),
    (FailureKind.TLS, "", "ask who runs it which TLS it speaks; 1.2 is the least here"),
    (FailureKind.CAPABILITY, "AUTH", "it offers no login on port {port}: take username out, or use 587"),
    (
        FailureKind.PROTOCOL,
        "our own name",
        "host names this machine: name who shall take the mail, or set relay.hostname",
    ),
    (FailureKind.PROTOCOL, "", "it does not speak SMTP on port {port}, or wants tls = implicit: try 587, or 465"),
    (FailureKind.TIMEOUT, "", "it is silent on port {port}: 465 wants tls = implicit; else ask who runs it"),
    (
        FailureKind.DISCONNECT,
        "",
        "it hangs up on us: it may not know our address, or want tls = implicit on port {port}",
    ),
)


def meaning(reply: Reply, host: str) -> str:
    """What a refusal means and wants, by the relay's own rules."""
    from smtpguard.classify import load  # 0.2 s, and most checks need none

    found = load().match(reply, host)
    return f"{found.fix} ({found.category})" if found.fix else found.category


def _failure(failure: HopFailure) -> str:
    at = f" at {failure.verb}" if failure.verb is not Verb.CONNECT else ""
    return f"{failure.kind}{at}: {readable(failure.detail) or 'no more is known'}"


def _names(certificate: x509.Certificate) -> str:
    """Three of the names at most."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return "no name"
    names = [str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _mib(octets: int) -> str:
    return f"{octets / 2**20:.4g} MiB"
