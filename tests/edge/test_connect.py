"""From a name to an open session: each step refused, failing, hanging; TLS in all modes; nobody listens to rubbish."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from smtpguard.config.settings import NextHopSettings
from smtpguard.edge.connect import Connected, Names, connect, tls_context
from smtpguard.mail.reply import Answer, EnhancedCode, FailureKind, HopFailure, Reply, Verb
from smtpguard.sandbox import (
    Action,
    Close,
    CloseAfter,
    Drip,
    FalseTls,
    Flood,
    Garbage,
    Half,
    Hang,
    Mixed,
    Ok,
    Reset,
    Sandbox,
    Say,
    Script,
    StopReading,
    Surplus,
)
from tests.certs import CaAndServer, ca_and_server, server_context
from tests.edge.hopping import OURSELVES, settings, soon, until

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> CaAndServer:
    return ca_and_server(["localhost", HOST, "hop.test"], directory=tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def other_certs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CaAndServer]:
    make = tmp_path_factory.mktemp
    return {
        "expired": ca_and_server([HOST], directory=make("expired"), expired=True),
        "wrong name": ca_and_server(["other.test"], directory=make("other")),
    }


async def _dial(port: int, host: str = HOST, *, within_s: float = 5.0, **more: Any) -> Connected | Answer:
    chosen = settings(host, port=port, **more)
    return await _connect(chosen, host, within_s)


async def _connect(chosen: NextHopSettings, host: str, within_s: float) -> Connected | Answer:
    got = await connect(host, chosen, OURSELVES, soon(within_s), next_hop="test", context=tls_context(chosen))
    if isinstance(got, Connected):
        got.transport.abort()
        await asyncio.sleep(0)
    return got


def _failure(got: Connected | Answer) -> tuple[FailureKind, Verb]:
    assert isinstance(got, HopFailure), got
    assert not got.unknown
    return got.kind, got.verb


def _tls(certs: CaAndServer, **more: Any) -> Sandbox:
    return Sandbox(tls=server_context(certs.cert, certs.key), **more)


async def test_an_open_session_says_what_is_offered_and_who_it_is() -> None:
    async with Sandbox(keywords=("PIPELINING", "SIZE 1000", "chunking")) as hop:
        got = await _dial(hop.port, discard_keywords=["CHUNKING"])
        assert isinstance(got, Connected)
        assert got.keywords == {"PIPELINING": "", "SIZE": "1000"}
        assert (got.hop.next_hop, got.hop.host, got.hop.port, got.hop.tls_version) == ("test", HOST, hop.port, "")
        assert hop.commands == [b"EHLO relay.test"]


# -- names and addresses


async def test_a_name_is_looked_up_and_each_address_tried() -> None:
    async with Sandbox() as hop:  # localhost may be ::1 first, where nobody listens
        assert isinstance(await _dial(hop.port, "localhost"), Connected)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 64 + ".test"])
async def test_a_name_without_address_is_no_connection(host: str) -> None:
    got = await _connect(settings(HOST, port=9), host, 5.0)
    assert _failure(got) == (FailureKind.CONNECT, Verb.CONNECT)


async def test_a_hanging_resolver_holds_up_nobody_else_and_not_us(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = 0
    real = socket.getaddrinfo
    never = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(host: str, *rest: Any, **more: Any) -> Any:
        nonlocal entered
        if host != "slow.test" or more.get("flags"):
            return real(host, *rest, **more)
        entered += 1
        asyncio.run_coroutine_threadsafe(never.wait(), loop).result()
        raise socket.gaierror("gone")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    names = Names()
    lost = [asyncio.create_task(names.addresses("slow.test", 25)) for _ in range(20)]
    async with asyncio.timeout(2):
        assert await names.addresses(HOST, 25) == [(socket.AF_INET, (HOST, 25))]
        assert await names.addresses("localhost", 25)
    assert entered == 1  # however many ask
    never.set()
    assert all(isinstance(error, OSError) for error in await asyncio.gather(*lost, return_exceptions=True))


async def test_nobody_listening_is_no_connection() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        assert _failure(await _dial(taken.getsockname()[1])) == (FailureKind.CONNECT, Verb.CONNECT)


async def test_a_host_that_takes_no_connection_is_given_up_in_time() -> None:
    with socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            began = soon(0)
            assert _failure(await _dial(full.getsockname()[1])) == (FailureKind.CONNECT, Verb.CONNECT)
            assert soon(0) - began < 2
        finally:
            for filler in fillers:
                filler.close()


async def test_the_source_address_is_the_one_asked_for() -> None:
    peers: list[str] = []

    def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        writer.write(b"554 5.3.2 no\r\n")
        writer.close()

    server = await asyncio.start_server(greet, HOST, 0)
    async with server:
        got = await _dial(server.sockets[0].getsockname()[1], bind="127.0.0.5")
    assert isinstance(got, Reply)
    assert peers == ["127.0.0.5"]


async def test_the_callers_deadline_counts_before_all_limits() -> None:
    async with Sandbox(script=Script({"EHLO": Hang()})) as hop:
        began = soon(0)
        got = await _dial(hop.port, within_s=0.05, timeout={"command": "60s"})
        assert _failure(got) == (FailureKind.TIMEOUT, Verb.EHLO)
        assert soon(0) - began < 1


async def test_a_cancelled_attempt_leaves_no_connection() -> None:
    async with Sandbox(script=Script({"EHLO": Hang()})) as hop:
        task = asyncio.create_task(_dial(hop.port, timeout={"command": "60s"}))
        await until(lambda: hop.commands)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not hop.open_connections)


# -- what each step may answer

REFUSALS: list[tuple[str, Verb]] = [
    ("CONNECT", Verb.CONNECT),
    ("EHLO", Verb.EHLO),
    ("STARTTLS", Verb.STARTTLS),
    ("AUTH", Verb.AUTH),
]
LOGIN: dict[str, Any] = {"username": "u", "password": SecretStr("secret-word")}


def _asked(verb: str, certs: CaAndServer) -> dict[str, Any]:
    """The settings under which the step is taken."""
    more: dict[str, Any] = {"tls": "required", "tls_ca_file": str(certs.ca)} if verb == "STARTTLS" else {}
    return more | (LOGIN if verb == "AUTH" else {})


def _answering(verb: str, action: Action, certs: CaAndServer) -> Sandbox:
    script = Script({verb: action})
    if verb == "STARTTLS":
        return _tls(certs, script=script)
    return Sandbox(script=script, users={"u": "secret-word"} if verb == "AUTH" else None)


@pytest.mark.parametrize(("verb", "at"), REFUSALS)
@pytest.mark.parametrize("code", [421, 454, 550, 554])
async def test_a_refusal_is_a_reply_with_its_verb_and_all_its_lines(
    verb: str, at: Verb, code: int, certs: CaAndServer
) -> None:
    text = f"{code}-{code // 100}.7.1 not you\n{code} {code // 100}.7.1 see https://x.test/"
    async with _answering(verb, Say(text), certs) as hop:
        got = await _dial(hop.port, **_asked(verb, certs))
    assert got == Reply(code, ("not you", "see https://x.test/"), EnhancedCode(code // 100, 7, 1), at)


FAULTS: list[tuple[Action, FailureKind]] = [
    (Close(), FailureKind.DISCONNECT),
    (Reset(), FailureKind.DISCONNECT),
    (Hang(), FailureKind.TIMEOUT),
    (StopReading(), FailureKind.TIMEOUT),
    (Half(), FailureKind.TIMEOUT),
    (Half(then="close"), FailureKind.DISCONNECT),
    (Garbage(), FailureKind.PROTOCOL),
    (Mixed("220-yes\n250-yes\n235 yes"), FailureKind.PROTOCOL),
    (Mixed("554-no\n220 yes"), FailureKind.PROTOCOL),
    (Say("-1 yes"), FailureKind.PROTOCOL),
    (Say("0 yes"), FailureKind.PROTOCOL),
    (Say("999 yes"), FailureKind.PROTOCOL),
    (Say("299 yes"), FailureKind.PROTOCOL),
    (Say("399 go on"), FailureKind.PROTOCOL),
    (Flood(), FailureKind.PROTOCOL),
    (Drip(over_s=30, text="554 5.3.2 no"), FailureKind.TIMEOUT),
]


@pytest.mark.parametrize(("verb", "at"), REFUSALS)
@pytest.mark.parametrize(("action", "kind"), FAULTS, ids=lambda value: str(value)[:40])
async def test_what_is_no_answer_is_a_failure_in_time(
    verb: str, at: Verb, action: Action, kind: FailureKind, certs: CaAndServer
) -> None:
    async with _answering(verb, action, certs) as hop:
        began = soon(0)
        got = await _dial(hop.port, **_asked(verb, certs))
        assert soon(0) - began < 0.4 + 2
        assert _failure(got) == (kind, at)
        if not isinstance(action, (StopReading, Drip)):  # the sandbox does not look while it plays these
            await until(lambda: not hop.open_connections)


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "AUTH"])
async def test_a_surplus_reply_is_never_taken_for_the_next_answer(verb: str, certs: CaAndServer) -> None:
    async with _answering(verb, Surplus("250-x\n250 CHUNKING"), certs) as hop:
        got = await _dial(hop.port, **_asked(verb, certs))
    assert _failure(got)[0] is FailureKind.PROTOCOL


async def test_a_greeting_with_our_own_name_is_a_loop() -> None:
    async with Sandbox(hostname=OURSELVES.upper()) as hop:
        got = await _dial(hop.port)
        assert _failure(got) == (FailureKind.LOOP, Verb.CONNECT)
        assert hop.commands == []


# -- TLS


@pytest.mark.parametrize("mode", ["required", "implicit"])
async def test_verified_tls_is_spoken_where_demanded(mode: str, certs: CaAndServer) -> None:
    async with _tls(certs, implicit_tls=mode == "implicit", keywords=("PIPELINING",)) as hop:
        got = await _dial(hop.port, tls=mode, tls_ca_file=str(certs.ca))
        assert isinstance(got, Connected)
        assert got.hop.tls_version in {"TLSv1.2", "TLSv1.3"}
        assert "STARTTLS" not in got.keywords  # asked again inside: what was said in clear is forgotten
        named = await _dial(hop.port, tls=mode, tls_ca_file=str(certs.ca), tls_name="hop.test")
        assert isinstance(named, Connected)
        wrong = await _dial(hop.port, tls=mode, tls_ca_file=str(certs.ca), tls_name="else.test")
        assert _failure(wrong)[0] is FailureKind.TLS


@pytest.mark.parametrize("mode", ["required", "implicit"])
@pytest.mark.parametrize("fault", ["expired", "wrong name", "unknown authority"])
async def test_a_certificate_that_does_not_hold_is_refused_where_tls_is_demanded(
    mode: str, fault: str, certs: CaAndServer, other_certs: dict[str, CaAndServer]
) -> None:
    bad = other_certs.get(fault, certs)
    authority = bad.ca if fault in other_certs else other_certs["expired"].ca
    async with _tls(bad, implicit_tls=mode == "implicit") as hop:
        got = await _dial(hop.port, tls=mode, tls_ca_file=str(authority), **LOGIN)
        assert _failure(got)[0] is FailureKind.TLS
        assert {line.split()[0] for line in hop.commands} <= {b"EHLO", b"STARTTLS"}


@pytest.mark.parametrize(
    "action", [FalseTls(), FalseTls(b"HTTP/1.0 400 no\r\n"), Say("454 4.7.0 no"), CloseAfter("220 go"), Hang()], ids=str
)
async def test_nothing_goes_out_in_clear_where_tls_is_required_and_fails(action: Action, certs: CaAndServer) -> None:
    async with _tls(certs, script=Script({"STARTTLS": action})) as hop:
        got = await _dial(hop.port, tls="required", tls_ca_file=str(certs.ca), **LOGIN)
        assert not isinstance(got, Connected)
        assert hop.connections == 1
        assert hop.commands == [b"EHLO relay.test", b"STARTTLS"]


async def test_a_stripped_starttls_is_a_tls_failure_and_nothing_is_sent() -> None:
    async with Sandbox() as hop:
        got = await _dial(hop.port, tls="required", **LOGIN)
        assert _failure(got) == (FailureKind.TLS, Verb.STARTTLS)
        assert hop.commands == [b"EHLO relay.test"]


async def test_tls_older_than_1_2_is_not_spoken(certs: CaAndServer) -> None:
    old = server_context(certs.cert, certs.key)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    async with Sandbox(tls=old) as hop:
        got = await _dial(hop.port, tls="required", tls_ca_file=str(certs.ca))
        assert _failure(got)[0] is FailureKind.TLS


@asynccontextmanager
async def _injecting() -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hop.test\r\n")
        await reader.readline()
        writer.write(b"250-hop.test\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 go\r\n250-hop.test\r\n250 AUTH PLAIN\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("mode", ["required", "opportunistic"])
async def test_what_is_injected_behind_the_answer_to_starttls_ends_the_connection(mode: str) -> None:
    async with _injecting() as port:
        assert _failure(await _dial(port, tls=mode)) == (FailureKind.PROTOCOL, Verb.STARTTLS)


async def test_opportunistic_tls_takes_any_certificate_and_goes_in_clear_where_none_is_offered(
    other_certs: dict[str, CaAndServer],
) -> None:
    async with _tls(other_certs["wrong name"]) as hop:
        got = await _dial(hop.port, tls="opportunistic")
        assert isinstance(got, Connected)
        assert got.hop.tls_version
    async with Sandbox() as hop:
        got = await _dial(hop.port, tls="opportunistic")
        assert isinstance(got, Connected)
        assert not got.hop.tls_version


@pytest.mark.parametrize(
    ("action", "connections"), [(Say("454 4.7.0 no"), 1), (FalseTls(), 2), (CloseAfter("220 go"), 2)]
)
async def test_opportunistic_tls_that_fails_is_followed_by_one_try_in_clear(
    action: Action, connections: int, certs: CaAndServer
) -> None:
    async with _tls(certs, script=Script({"STARTTLS": action})) as hop:
        got = await _dial(hop.port, tls="opportunistic")
        assert isinstance(got, Connected)
        assert not got.hop.tls_version
        assert hop.connections == connections


async def test_a_client_certificate_is_shown(certs: CaAndServer, other_certs: dict[str, CaAndServer]) -> None:
    strict = server_context(certs.cert, certs.key)
    strict.load_verify_locations(certs.ca)
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.maximum_version = ssl.TLSVersion.TLSv1_2  # there the handshake itself says no
    asked: dict[str, Any] = {"tls": "required", "tls_ca_file": str(certs.ca)}
    async with Sandbox(tls=strict) as hop:
        shown = await _dial(hop.port, **asked, tls_cert=str(certs.cert), tls_key=str(certs.key))
        assert isinstance(shown, Connected)
        assert _failure(await _dial(hop.port, **asked))[0] is FailureKind.TLS


def test_a_tls_file_that_is_no_good_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        tls_context(settings(tls="required", tls_ca_file=str(tmp_path / "ca.pem")))
    with pytest.raises(OSError, match="No such file"):
        tls_context(settings(tls="required", tls_ca_file=str(tmp_path / "none.pem")))


# -- AUTH


async def test_login_inside_tls(certs: CaAndServer) -> None:
    async with _tls(certs, users={"u": "secret-word"}) as hop:
        got = await _dial(hop.port, tls="required", tls_ca_file=str(certs.ca), **LOGIN)
        assert isinstance(got, Connected)
        before = len([line for line in hop.commands if line.startswith(b"AUTH")])
        bad = await _dial(
            hop.port, tls="required", tls_ca_file=str(certs.ca), username="u", password=SecretStr("other-word")
        )
        assert isinstance(bad, Reply)
        assert (bad.code, bad.verb) == (535, Verb.AUTH)
        # One failed login, not one a mechanism: accounts are locked for less
        assert len([line for line in hop.commands if line.startswith(b"AUTH")]) == before + 1


async def test_auth_not_offered_is_a_lack_and_no_password_is_sent() -> None:
    async with Sandbox() as hop:
        got = await _dial(hop.port, **LOGIN)
        assert _failure(got) == (FailureKind.CAPABILITY, Verb.AUTH)
        assert hop.commands == [b"EHLO relay.test"]


async def test_no_password_in_clear_beyond_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpguard.edge.connect._is_loopback", lambda peer: peer is None)
    async with Sandbox(users={"u": "secret-word"}) as hop:
        for mode in ("none", "opportunistic"):
            assert _failure(await _dial(hop.port, tls=mode, **LOGIN)) == (FailureKind.TLS, Verb.AUTH)
        assert not [line for line in hop.commands if line.startswith(b"AUTH")]


async def test_no_secret_is_in_a_failure() -> None:
    for action in (Close(), Garbage(), Hang(), Say("535 5.7.8 no")):
        async with Sandbox(users={"u": "secret-word"}, script=Script({"AUTH": action})) as hop:
            got = await _dial(hop.port, **LOGIN)
            assert "secret-word" not in repr(got)


@pytest.mark.parametrize(
    "echo",
    [
        "AUTH PLAIN AHUAc2VjcmV0LXdvcmQ=",
        "AUTH PLAIN AHUAc2VjcmV0LX",  # cut off, as some do
        "auth plain ahuac2vjcmv0lxdvcmq=",
        "c2VjcmV0LXdv",  # of LOGIN
        "u SECRET-WORD",
    ],
)
async def test_a_login_that_is_repeated_is_hidden_however_it_is_written(echo: str) -> None:
    script = Script({"AUTH": Say(f"535 5.7.8 who is {echo}?")})
    async with Sandbox(users={"u": "secret-word"}, script=script) as hop:
        got = await _dial(hop.port, **LOGIN)
        assert isinstance(got, Reply)
        assert got.text.startswith("who is ")
        assert "[hidden]" in got.text
        assert not any(part in got.text.lower() for part in ("secret", "c2vjcm", "ahuac2"))


async def test_a_refused_mechanism_is_followed_by_the_next_one() -> None:
    async with Sandbox(users={"u": "secret-word"}, script=Script({"AUTH": [Say("504 5.5.4 not that"), Ok()]})) as hop:
        assert isinstance(await _dial(hop.port, **LOGIN), Connected)
