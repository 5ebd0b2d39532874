"""From a host's name to an open session with it: addresses, TCP, TLS, EHLO, AUTH. Nothing of a message passes here.

aiosmtplib speaks EHLO (RFC 5321 4.1.1.1), STARTTLS (RFC 3207) and AUTH (RFC 4954), behind a `Gate`. Every way to fail
becomes a value here, once: a refusal is a `Reply` with its verb, all else a `HopFailure`. Every step has its own limit,
all together the caller's deadline; what fails is aborted. Where TLS is required nothing but EHLO and STARTTLS goes out
in clear; a password never does, but to this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeGuard

import aiosmtplib

from smtpguard.config.settings import NextHopSettings
from smtpguard.edge.gate import Gate
from smtpguard.edge.secret import hidden
from smtpguard.mail.reply import Answer, FailureKind, Hop, HopFailure, Verb

Address = tuple[int, Any]  # family, and the socket address of that family


@dataclass(frozen=True, slots=True)
class Connected:
    """An open, greeted, logged-in session: its transport, whose protocol is to be set at once by the caller.

    `keywords`: what EHLO offered, upper case, with its parameters; those of `discard_keywords` left out.
    """

    transport: asyncio.Transport
    keywords: dict[str, str]
    hop: Hop


def _trust(_: ssl.SSLObject) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of one host's TLS, whatever the next hop's settings ask: by MTA-STS or DANE (`mx.py`).

    `check` judges the certificate after the handshake: "", or what is wrong with it. `told` hears how TLS went: None is
    well. Where it is not required, what fails by it is tried once more as the settings have it.
    """

    context: ssl.SSLContext
    told: Callable[[HopFailure | None], object]
    check: Callable[[ssl.SSLObject], str] = _trust
    is_required: bool = True
    server_name: str = ""
    """The name to ask for (SNI); "": the host's."""


class Look(Protocol):
    """Where addresses come from."""

    async def addresses(self, host: str, port: int) -> list[Address]:
        """In the order in which they are tried; OSError where there are none."""


class Names:
    """Host names to addresses, by the system's resolver, one look-up a name at a time.

    Each runs on a thread of its own that nobody waits for at exit: a resolver that hangs then holds up neither other
    names (the loop's own pool has six threads for all) nor the end of the program.
    """

    def __init__(self) -> None:
        self._asked: dict[tuple[str, int], asyncio.Future[list[Address] | OSError]] = {}

    async def addresses(self, host: str, port: int) -> list[Address]:
        """In the order of the system's preference; OSError where there are none. A literal costs no thread."""
        with contextlib.suppress(OSError, UnicodeError):
            return _look_up(host, port, socket.AI_NUMERICHOST)
        asked = self._asked.get((host, port))
        if asked is None:
            asked = self._asked[host, port] = asyncio.get_running_loop().create_future()
            threading.Thread(target=self._ask, args=(asked, host, port), name=f"resolve {host}", daemon=True).start()
        found = await asyncio.shield(asked)
        if isinstance(found, OSError):
            raise found
        return found

    def _ask(self, asked: asyncio.Future[list[Address] | OSError], host: str, port: int) -> None:
        found: list[Address] | OSError
        try:
            found = _look_up(host, port, 0)
        except OSError as error:
            found = error
        except UnicodeError as error:  # a label that IDNA cannot hold
            found = OSError(str(error))
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            asked.get_loop().call_soon_threadsafe(self._learn, asked, host, port, found)

    def _learn(
        self, asked: asyncio.Future[list[Address] | OSError], host: str, port: int, found: list[Address] | OSError
    ) -> None:
        self._asked.pop((host, port), None)
        if not asked.done():
            asked.set_result(found)


def _look_up(host: str, port: int, flags: int) -> list[Address]:
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=flags)
    return [(int(family), address) for family, _, _, _, address in found]


def tls_context(settings: NextHopSettings) -> ssl.SSLContext | None:
    """The TLS rules of a next hop; None where TLS is not wanted. OSError or ssl.SSLError if a file is no good.

    Certificates are verified where TLS is demanded. Opportunistic TLS (RFC 7435) takes any: its other choice is none.
    """
    if settings.tls == "none":
        return None
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=settings.tls_ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.tls == "opportunistic":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.tls_cert:
        context.load_cert_chain(settings.tls_cert, settings.tls_key or None)
    return context


_NO_SUCH_MECHANISM = frozenset({500, 501, 502, 504, 534, 538})
"""Of the mechanism, not of the password: another may do (RFC 4954 4, 6)."""


async def connect(
    host: str,
    settings: NextHopSettings,
    hostname: str,
    deadline: float,
    *,
    next_hop: str = "",
    names: Look | None = None,
    context: ssl.SSLContext | None = None,
    demand: Demand | None = None,
) -> Connected | Answer:
    """Open a session with `host`, by `deadline` (loop time); else its refusal, or how it failed, at which verb.

    `hostname` is who we say we are. `context` is `tls_context(settings)`, made once by the caller: None is no TLS.
    `demand` stands in for it, and for `settings.tls`, where the host has one of its own.
    """
    hop = Hop(next_hop, host, settings.port)
    names = names or Names()
    got: Connected | Answer | None = None
    if demand is not None:
        got = await _Attempt(hop, settings, hostname, deadline, demand).run(names, demand.context)
        if isinstance(got, Connected) and got.hop.tls_version:
            demand.told(None)
        elif isinstance(got, Connected):
            demand.told(_NOT_OFFERED)
        elif _lacks_tls(got):
            demand.told(got)
            got = got if demand.is_required else None
    if got is None:
        got = await _Attempt(hop, settings, hostname, deadline, None).run(names, context)
        if settings.tls == "opportunistic" and _lacks_tls(got):
            # RFC 7435 3: no worse than without. The old connection is past use: one more, in clear.
            in_clear = await _Attempt(hop, settings, hostname, deadline, None).run(names, None)
            got = got if isinstance(in_clear, HopFailure) else in_clear
    return got


_NOT_OFFERED: Final = HopFailure(FailureKind.TLS, Verb.STARTTLS, "STARTTLS is not offered")


def _lacks_tls(got: Connected | Answer) -> TypeGuard[HopFailure]:
    return isinstance(got, HopFailure) and got.kind is FailureKind.TLS


class _Attempt:
    """One try at one host. `_verb` is the step under way: what fails, fails there."""

    def __init__(
        self, hop: Hop, settings: NextHopSettings, hostname: str, deadline: float, demand: Demand | None
    ) -> None:
        self._hop = hop
        self._demand = demand
        self._settings = settings
        self._hostname = hostname
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._verb = Verb.CONNECT
        self._dialled = False
        self._handshake = False
        self._gate = Gate()

    async def run(self, names: Look, context: ssl.SSLContext | None) -> Connected | Answer:
        """The only place where exceptions of the system and of aiosmtplib are seen."""
        done: Connected | Answer | None = None
        try:
            async with asyncio.timeout_at(self._deadline):
                done = await self._open(names, context)
        except aiosmtplib.SMTPResponseException:
            done = self._refusal()
        except TimeoutError as error:
            done = self._failure(FailureKind.TIMEOUT, str(error) or "no time left")
        except ssl.SSLError as error:
            done = self._failure(FailureKind.TLS, str(error))
        except OSError as error:  # SMTPServerDisconnected is one
            reply = self._gate.reply
            if self._verb is Verb.AUTH and reply is not None and reply.klass > 3:
                done = self._refusal()  # 421: aiosmtplib closes, and trips over that at the next mechanism
            else:
                done = self._failure(FailureKind.DISCONNECT, str(error))
        except Exception as error:  # whatever it is, it is not the mail's fault; its text might hold a secret
            done = self._failure(FailureKind.INTERNAL, type(error).__name__)
        finally:
            if not isinstance(done, Connected):
                self._gate.abort()
        return done

    def _failure(self, kind: FailureKind, detail: str, keyword: str = "") -> HopFailure:
        if self._gate.fault:  # at AUTH it may hold a part of what we sent
            fault = "no reply to a login" if self._verb is Verb.AUTH else self._gate.fault
            return HopFailure(FailureKind.PROTOCOL, self._verb, fault)
        reply = self._gate.reply
        if kind is not FailureKind.INTERNAL:
            if not self._dialled:
                kind = FailureKind.CONNECT
            elif self._handshake or (self._verb is Verb.STARTTLS and reply is not None and reply.code == 220):
                kind = FailureKind.TLS
        return HopFailure(kind, self._verb, detail, keyword)

    def _refusal(self) -> Answer:
        reply = self._gate.reply
        if reply is not None and self._verb is Verb.AUTH:
            reply = replace(reply, lines=tuple(map(self._hidden, reply.lines)))
        if reply is None or reply.klass < 4:
            return self._failure(FailureKind.PROTOCOL, f"{reply} is no answer to {self._verb}")
        return replace(reply, verb=self._verb)

    def _hidden(self, text: str) -> str:
        password = self._settings.password
        return hidden(text, self._settings.username, password.get_secret_value()) if password is not None else text

    def _within(self, limit_s: float) -> float:
        return max(0.001, min(limit_s, self._deadline - self._loop.time()))

    async def _open(self, names: Look, context: ssl.SSLContext | None) -> Connected | Answer:
        settings, gate, timeout = self._settings, self._gate, self._settings.timeout
        server_name = (settings.tls_name or self._hop.host).strip("[]").rstrip(".")
        demand, is_required = self._demand, settings.tls != "opportunistic"
        if demand is not None:
            is_required, server_name = demand.is_required, demand.server_name or server_name
        until = self._loop.time() + self._within(timeout.connect)
        sock = await self._dial(names, until)
        self._dialled = True
        implicit = context is not None and settings.tls == "implicit"
        try:
            if implicit:
                self._handshake = True
                await self._loop.create_connection(
                    lambda: gate,
                    sock=sock,
                    ssl=context,
                    server_hostname=server_name,
                    ssl_handshake_timeout=self._within(until - self._loop.time()),
                )
                self._handshake = False
            else:
                await self._loop.create_connection(lambda: gate, sock=sock)
        except BaseException:
            sock.close()
            raise
        await gate.read_response(timeout=self._within(until - self._loop.time()))
        greeting = gate.reply
        if greeting is None or greeting.code != 220:
            return self._refusal()
        if greeting.text.partition(" ")[0].lower() == self._hostname.lower():
            return HopFailure(
                FailureKind.LOOP, Verb.CONNECT, "it greets with our own name: mail would go round in a loop"
            )

        # aiosmtplib's own `connect` would make a protocol that we could not guard.
        client = aiosmtplib.SMTP(local_hostname=self._hostname, timeout=None)
        client.protocol, client.transport = gate, gate.transport
        keywords = await self._greet(client)
        if context is not None and not implicit:
            if "STARTTLS" in keywords:
                self._verb = Verb.STARTTLS
                try:
                    await client.starttls(
                        server_hostname=server_name, tls_context=context, timeout=self._within(timeout.command)
                    )
                except aiosmtplib.SMTPResponseException:
                    if is_required or not client.is_connected:
                        raise
                else:
                    keywords = await self._greet(client)
            elif is_required:
                self._verb = Verb.STARTTLS
                return _NOT_OFFERED
        transport = gate.wire
        if transport is None:
            return self._failure(FailureKind.DISCONNECT, "closed")
        tls = transport.get_extra_info("ssl_object")
        if demand is not None and tls is not None and (wrong := demand.check(tls)):
            return HopFailure(FailureKind.TLS, Verb.STARTTLS, wrong)
        if settings.username:
            self._verb = Verb.AUTH
            if tls is None and not _is_loopback(transport.get_extra_info("peername")):
                return self._failure(FailureKind.TLS, "a password is only sent inside TLS")
            if "AUTH" not in keywords or not client.supported_auth_methods:
                return self._failure(FailureKind.CAPABILITY, "no AUTH mechanism that we know is offered", "AUTH")
            password = settings.password.get_secret_value() if settings.password is not None else ""
            await self._log_in(client, settings.username, password)
        if gate.fault or transport.is_closing():
            return self._failure(FailureKind.DISCONNECT, "closed")
        return Connected(transport, keywords, self._hop._replace(tls_version=tls.version() or "" if tls else ""))

    async def _log_in(self, client: aiosmtplib.SMTP, username: str, password: str) -> None:
        """By the first mechanism that both sides know; the next one only where that is not to be had (RFC 4954 4).

        aiosmtplib's own `login` goes on after 535 too: two failed logins a connection, and the account is locked soon.
        """
        mechanisms: dict[str, Callable[..., Awaitable[object]]] = {
            "cram-md5": client.auth_crammd5,
            "plain": client.auth_plain,
            "login": client.auth_login,
        }
        known = [mechanisms[name] for name in client.supported_auth_methods]
        for attempt, mechanism in enumerate(known, start=1):
            try:
                await mechanism(username, password, timeout=self._within(self._settings.timeout.command))
                return
            except aiosmtplib.SMTPAuthenticationError as refused:
                if refused.code not in _NO_SUCH_MECHANISM or attempt == len(known):
                    raise

    async def _greet(self, client: aiosmtplib.SMTP) -> dict[str, str]:
        self._verb = Verb.EHLO  # no HELO after a refused EHLO: without ESMTP we could not keep our promises
        await client.ehlo(timeout=self._within(self._settings.timeout.command))
        offered = {keyword.upper(): parameters for keyword, parameters in client.esmtp_extensions.items()}
        for keyword in self._settings.discard_keywords:
            offered.pop(keyword.upper(), None)
        return offered

    async def _dial(self, names: Look, until: float) -> socket.socket:
        """A connected socket, from the first address that answers; each gets its share of the time left."""
        async with asyncio.timeout_at(until):
            found = await names.addresses(self._hop.host, self._hop.port)
        problem = OSError("no address")
        for index, (family, address) in enumerate(found):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._settings.bind:
                    sock.bind((self._settings.bind, 0))
                async with asyncio.timeout((until - self._loop.time()) / (len(found) - index)):
                    await self._loop.sock_connect(sock, address)
                return sock
            except OSError as error:  # TimeoutError is one
                sock.close()
                problem = OSError(f"{address[0]}: {str(error) or 'no answer'}")
            except BaseException:
                sock.close()
                raise
        raise problem


def _is_loopback(peer: Sequence[Any] | None) -> bool:
    return peer is not None and ipaddress.ip_address(str(peer[0]).partition("%")[0]).is_loopback
