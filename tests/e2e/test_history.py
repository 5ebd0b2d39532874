"""The history beside real processes: shared by two relays, taken away under load, kept across restarts, forgotten.

Mail must not notice: whatever becomes of the store, the answers are those of the next hop and of what is remembered.
Clients speak to the doors here, and a real Postfix where mail is queued and returned while the store is away.
"""

from __future__ import annotations

import json
import resource
import smtplib
import socket
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from smtpguard.history.store import MAX_ROWS
from smtpguard.sandbox import Say, Script
from tests.e2e import postfix
from tests.e2e.hop import Hop
from tests.e2e.line import HEALED, SENDER, letter
from tests.e2e.mta import until
from tests.e2e.relay import Event, Relay
from tests.history.cluster import Cluster, missing

FRESH_S: Final = 1.0  # within which one node hears of another
FLOW_S: Final = 60.0
AWAY_S: Final = 5.0  # the store is stopped for so long
MANY: Final = 40

ANN: Final = "ann@rcpt.example"
OTHER_SENDER: Final = "news@other.example"
NOBODY: Final = Say("550 5.1.1 there is no such user here")
LISTED: Final = Say("554 5.7.1 Service unavailable; client host [192.0.2.25] blocked using zen.spamhaus.org")
SLOW: Final = Say("451 4.7.0 Too many messages from your address, slow down")

SUPPRESS: Final = '[[policy]]\nclass = 5\ncategory = "recipient.unknown"\naction = "suppress"\n'
DEFER: Final = '[[policy]]\nclass = 5\ncategory = ["reputation.*", "auth.*"]\naction = "defer"\nhold = "10m"\n'
THROTTLE: Final = '[[policy]]\ncategory = ["rate.limited", "reputation.poor"]\naction = "throttle"\ninitial = "1m"\n'


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL of this file's own: its tests stop it."""
    if why := missing():
        pytest.skip(why)
    cluster = Cluster()
    yield cluster
    cluster.close()


@contextmanager
def nodes(directory: Path, hop: Hop, *names: str, store: str, policy: str = "") -> Iterator[list[Relay]]:
    """Relays before one next hop and on one store, started; they end well and without a fault of ours."""
    relays = [Relay(directory, next_hop_port=hop.port, store=store, more=policy, name=name) for name in names]
    try:
        for relay in relays:
            relay.start()
        yield relays
    finally:
        codes = [relay.stop() for relay in relays]
        sys.stderr.write("".join(relay.transcript() for relay in relays))  # shown if the test failed
    assert codes == [0] * len(relays)
    assert not [fault for relay in relays for fault in relay.faults()]


def asked(relay: Relay, rcpt: str = "", *, mail_from: str = SENDER) -> str:
    """What the SMTP door says to MAIL, or to a recipient; there is no message, and so nothing changes by it."""
    with smtplib.SMTP("127.0.0.1", relay.ports["smtp"], local_hostname="client.test", timeout=30) as client:
        client.ehlo()
        code, text = client.mail(mail_from)
        if rcpt and code == 250:
            code, text = client.rcpt(rcpt)
        client.rset()
    return f"{code} {text.decode()}"


def told(relay: Relay, rcpt: str, *, mail_from: str = SENDER, message: str = "m") -> str:
    """What the SMTP door says in the end of a message: the first refusal, or the answer after the dot."""
    with smtplib.SMTP("127.0.0.1", relay.ports["smtp"], local_hostname="client.test", timeout=30) as client:
        client.ehlo()
        steps: list[Callable[[], tuple[int, bytes]]] = [
            lambda: client.mail(mail_from),
            lambda: client.rcpt(rcpt),
            lambda: client.data(letter(message)),
        ]
        for step in steps:
            code, text = step()
            if code >= 400:
                break
    return f"{code} {text.decode()}"


def reported(relay: Relay) -> dict[str, Any]:
    """`smtpguard report`, as a machine reads it."""
    report: dict[str, Any] = json.loads(relay.run("report", "--since", "1h", "--format", "json"))
    return report


def rows(relay: Relay) -> dict[str, int]:
    """`smtpguard store stats`: rows by table."""
    counted: dict[str, int] = json.loads(relay.run("store", "stats", "--json"))["rows"]
    return counted


def lost(relay: Relay) -> float:
    """Events that the history will not hear of."""
    return relay.metric('smtpguard_events_dropped_total{sink="history"}')


def away(relay: Relay) -> list[Event]:
    """Where the log says that the store is away."""
    return relay.events("history", event_outcome="failure")


def back(relay: Relay) -> list[Event]:
    """Where it says that the store is there again."""
    return relay.events("history", event_outcome="success")


# --- two nodes on one PostgreSQL ---------------------------------------------------------------------------------


def test_suppressed_at_one_is_refused_at_the_other(directory: Path, hop: Hop, cluster: Cluster) -> None:
    hop.play(Script({"RCPT": [NOBODY, Say("250 2.1.5 Ok")]}))
    policy = f"{SUPPRESS}[suppression]\nstrikes = 1\n"
    with nodes(directory, hop, "one", "two", store=cluster.database(), policy=policy) as (one, two):
        assert told(one, ANN).startswith("550 5.1.1")
        until(lambda: "suppressed since" in asked(two, ANN), FRESH_S, two.transcript)
        assert asked(two, "bob@rcpt.example").startswith("250")
        one.run("suppress", "remove", ANN)
        until(lambda: asked(one, ANN)[:3] == asked(two, ANN)[:3] == "250", FRESH_S, two.transcript)


def test_a_hold_and_its_end_are_shared(directory: Path, hop: Hop, cluster: Cluster) -> None:
    """Only one of the two asks the next hop while it is held, once an interval."""
    hop.play(Script({"RCPT": LISTED}))
    policy = f'{DEFER}probe = "4s"\n'
    with nodes(directory, hop, "one", "two", store=cluster.database(), policy=policy) as (one, two):
        assert told(one, ANN).startswith("450 4.7.1")
        until(lambda: "held until" in asked(two), FRESH_S, two.transcript)
        assert len(hop.heard(b"RCPT")) == 1

        until(lambda: told(two, ANN) and len(hop.heard(b"RCPT")) == 2, FLOW_S, two.transcript)  # refused again
        attempt = time.monotonic()
        until(lambda: time.monotonic() > attempt + FRESH_S, FLOW_S)  # a question to `one` may be an attempt itself
        assert "held until" in told(one, ANN)
        assert "held until" in told(two, ANN)
        assert len(hop.heard(b"RCPT")) == 2

        hop.play(HEALED)
        until(lambda: told(two, ANN).startswith("250"), FLOW_S, two.transcript)
        until(lambda: asked(one).startswith("250"), FRESH_S, one.transcript)


def test_a_throttle_is_shared(directory: Path, hop: Hop, cluster: Cluster) -> None:
    hop.play(Script({"RCPT": SLOW}))
    with nodes(directory, hop, "one", "two", store=cluster.database(), policy=THROTTLE) as (one, two):
        assert told(one, ANN).startswith("451 4.7.0")
        until(lambda: "slowed down until" in asked(two), FRESH_S, two.transcript)
        assert len(hop.heard(b"RCPT")) == 1


# --- the store is away -------------------------------------------------------------------------------------------


@pytest.mark.postfix
@pytest.mark.skipif(bool(postfix.missing()), reason=postfix.missing())
def test_a_database_that_stops_under_load_is_missed_by_nobody(directory: Path, hop: Hop, cluster: Cluster) -> None:
    """Postfix at one node and clients at the other go on as if nothing were; in the end the history has it all."""
    given: list[str] = []
    done = threading.Event()

    def load(give: Callable[[int], str]) -> None:
        number = 0
        while not done.is_set():
            number += 1
            given.append(give(number))

    def rcpt(name: str, number: int) -> str:
        """Every other one is refused."""
        return f"550-5.1.1+{name}{number}@rcpt.example" if number % 2 else f"{name}{number}@rcpt.example"

    with nodes(directory, hop, "one", "two", store=cluster.database()) as (one, two):
        mta = postfix.Postfix(directory, door="lmtp", next_hop_port=one.ports["lmtp"])
        mta.start()

        def by_postfix(number: int) -> str:
            mta.send(SENDER, [rcpt("ann", number)], letter(f"p{number}"))
            return "550 5.1.1" if number % 2 else "250 2.0.0"

        def by_client(number: int) -> str:
            return told(two, rcpt("bob", number), message=f"c{number}")[:9]

        threads = [threading.Thread(target=load, args=(give,)) for give in (by_postfix, by_client)]
        try:
            for thread in threads:
                thread.start()
            until(lambda: len(given) > MANY, FLOW_S, mta.log)
            cluster.stop()
            try:
                stopped, before = time.monotonic(), len(given)
                until(lambda: away(one) and away(two), FLOW_S, one.transcript)
                until(lambda: time.monotonic() > stopped + AWAY_S and len(given) > before + MANY, FLOW_S + AWAY_S)
            finally:
                cluster.start()
            until(lambda: back(one) and back(two), FLOW_S, one.transcript)
            before = len(given)
            until(lambda: len(given) > before + MANY, FLOW_S, mta.log)
        finally:
            done.set()
            for thread in threads:
                thread.join()
            until(lambda: not mta.queue(), FLOW_S, mta.log)
            mta.stop()

        answers = Counter(given)
        assert set(answers) == {"250 2.0.0", "550 5.1.1"}, answers
        assert "deferred" not in mta.log()
        assert set(hop.deliveries().values()) == {1}
        assert len(hop.deliveries()) == answers["250 2.0.0"]
        until(lambda: reported(one)["rejected"] == answers["550 5.1.1"], FLOW_S, lambda: (reported(one), answers))
        assert reported(one)["accepted"] == answers["250 2.0.0"]
        assert lost(one) == lost(two) == 0


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process writes, and does not end."""
    connection = sqlite3.connect(file, isolation_level=None, timeout=10)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


@contextmanager
def full(relay: Relay) -> Iterator[None]:
    """No file of the relay's can grow: EFBIG, which to SQLite is a disk that is full."""
    before = resource.prlimit(relay.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("fault", ["locked", "full"])
def test_a_file_that_cannot_be_written_is_written_later(directory: Path, hop: Hop, fault: str) -> None:
    file = directory / "history.db"
    with nodes(directory, hop, "smtpguard", store=f"sqlite:///{file}") as (relay,):
        assert told(relay, "550-5.1.1@rcpt.example").startswith("550")
        until(lambda: reported(relay)["rejected"] == 1, FLOW_S, relay.transcript)
        with locked(file) if fault == "locked" else full(relay):
            for number in range(MANY):
                assert told(relay, f"550-5.1.1+{number}@rcpt.example").startswith("550 5.1.1")
                assert told(relay, f"ann{number}@rcpt.example", message=f"m{number}").startswith("250")
            until(lambda: away(relay), FLOW_S, relay.transcript)
            assert told(relay, ANN).startswith("250")
        until(lambda: back(relay), FLOW_S, relay.transcript)
        until(lambda: reported(relay)["rejected"] == 1 + MANY, FLOW_S, lambda: reported(relay))
        assert reported(relay)["accepted"] == MANY + 1
        assert lost(relay) == 0
        assert len(hop.messages) == MANY + 1


def refused_at_once(relay: Relay, rcpts: int) -> None:
    """One transaction with so many recipients, in one packet, all refused."""
    commands = [f"MAIL FROM:<{SENDER}>", *(f"RCPT TO:<r{number}@rcpt.example>" for number in range(rcpts)), "RSET"]
    with socket.create_connection(("127.0.0.1", relay.ports["smtp"]), 30) as client, client.makefile("rb") as replies:

        def codes(count: int) -> Iterator[bytes]:
            while count and (line := replies.readline()):
                if line[3:4] == b" ":
                    count -= 1
                    yield line[:3]

        assert [*codes(1)] == [b"220"]
        client.sendall(b"EHLO client.test\r\n")
        assert [*codes(1)] == [b"250"]
        writing = threading.Thread(target=client.sendall, args=("".join(f"{c}\r\n" for c in commands).encode(),))
        writing.start()
        assert [*codes(len(commands))] == [b"250", *[b"550"] * rcpts, b"250"]
        writing.join()


def test_what_is_beyond_the_bound_is_dropped_and_counted(directory: Path, hop: Hop) -> None:
    """Of a store that is locked for long, the first MAX_ROWS rows wait, and whole events beyond them are counted."""
    rcpts = 1000
    kept = MAX_ROWS // (rcpts + 1)  # each a row, and their transaction one
    transactions = kept + 5
    file = directory / "history.db"
    hop.play(Script({"RCPT": NOBODY}))
    with nodes(directory, hop, "smtpguard", store=f"sqlite:///{file}") as (relay,):
        until(lambda: file.exists() and reported(relay)["rejected"] == 0, FLOW_S, relay.transcript)
        with locked(file):
            for _ in range(transactions):
                refused_at_once(relay, rcpts)
            until(lambda: lost(relay) == transactions - kept, FLOW_S, lambda: lost(relay))
            assert told(relay, ANN).startswith("550 5.1.1")  # of one recipient: there is room for it
        until(lambda: reported(relay)["rejected"] == kept * rcpts + 1, FLOW_S, lambda: reported(relay))
        assert lost(relay) == transactions - kept


# --- what is kept, and what is forgotten -------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("kind", ["file", "postgres"])
def test_a_restart_loses_nothing_that_is_remembered(
    directory: Path, hop: Hop, kind: str, end: str, request: pytest.FixtureRequest
) -> None:
    """A hold of one sender's mail, a first strike, a suppression."""
    url = f"sqlite:///{directory}/history.db" if kind == "file" else request.getfixturevalue("cluster").database()
    policy = f'{DEFER}probe = "10m"\n{SUPPRESS}[suppression]\nstrike_gap = "1s"\n'
    once, twice = "550-5.1.1+once@rcpt.example", "550-5.1.1+twice@rcpt.example"

    def strike(rcpt: str) -> float:
        assert told(relay, rcpt, mail_from=OTHER_SENDER).startswith("550 5.1.1")
        return time.time()

    with nodes(directory, hop, "smtpguard", store=url, policy=policy) as (relay,):
        assert told(relay, "google.dmarc@rcpt.example").startswith("451 4.7.26")
        first = strike(twice)
        until(lambda: time.time() > first + 1, FLOW_S)
        strike(twice)
        last = strike(once)
        relay.wait_for("suppression-added")
        if end == "SIGKILL":  # what was written may be lost by nothing; the moment before it is the disk's affair
            kept = {"suppressions": 1, "strikes": 1, "holds": 1}
            until(lambda: kept.items() <= rows(relay).items(), FLOW_S, lambda: rows(relay))
            relay.kill()
        else:
            assert relay.stop() == 0
        heard = len(hop.heard(b"RCPT"))
        relay.start()

        assert "held until" in asked(relay)
        assert "suppressed since" in asked(relay, twice, mail_from=OTHER_SENDER)
        assert len(hop.heard(b"RCPT")) == heard
        until(lambda: time.time() > last + 1, FLOW_S)
        strike(once)
        assert "suppressed since" in asked(relay, once, mail_from=OTHER_SENDER)
        assert len(hop.heard(b"RCPT")) == heard + 1


def test_what_is_forgotten_is_in_no_octet_of_the_files(directory: Path, hop: Hop) -> None:
    """By name and by keyed hash, of a recipient who was suppressed and a sender who was refused; mail goes on."""
    hop.play(Script({"RCPT": NOBODY}))
    jane = "jane.roe.7@rcpt.example"
    policy = f"{SUPPRESS}[suppression]\nstrikes = 1\n"

    def octets() -> bytes:
        return b"".join(file.read_bytes() for file in sorted(directory.glob("history.db*")))

    with nodes(directory, hop, "smtpguard", store=f"sqlite:///{directory}/history.db", policy=policy) as (relay,):
        assert told(relay, jane).startswith("550 5.1.1")
        assert "suppressed since" in told(relay, jane)
        assert told(relay, "bob@rcpt.example", mail_from=jane, message="hers").startswith("550 5.1.1")
        assert told(relay, ANN).startswith("550 5.1.1")
        id = relay.wait_for("recipient-refused", smtp_rcpt__to=jane)["smtp.rcpt_id"].encode()
        until(lambda: reported(relay)["rejected"] == 4, FLOW_S, relay.transcript)
        assert jane.encode() in octets()
        assert id in octets()

        assert "deleted" in relay.run("forget", jane)
        assert jane.encode() not in octets()
        assert id not in octets()
        assert ANN.encode() in octets()  # what was refused to others is kept
        until(lambda: "suppressed" not in asked(relay, jane), FRESH_S, relay.transcript)
