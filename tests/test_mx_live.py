"""Straight to the receivers through the real doors: each recipient gets its own mail host's answer.

The DNS is a server in this process, the mail hosts are sandboxes on 127.0.0.1, 127.0.0.2 and so on, all at one port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from time import monotonic, time
from typing import Any

import pytest

from smtpguard.history.tables import TlsPolicyRow
from smtpguard.sandbox import Close, Hang, Sandbox, Say, Script
from tests.dns.server import Server, serving
from tests.dns.zones import Zone
from tests.edge.hopping import silent
from tests.harness import MESSAGE, PATIENT, QUICK, Client, Guard, code, relay

Entries = Sequence[str | Mapping[str, Any]]

# Each domain's mail host, what its DNS says where that is not the usual, and what its recipients get
HOSTS: Mapping[str, Script | None] = {
    "takes.test": None,
    "dead.test": Script({"CONNECT": Hang()}),
    "shut.test": Script({"CONNECT": Close()}),
    "grey.test": Script({"RCPT": Say("450 4.2.0 greylisted, come back")}),
    "never.test": Script({"DOT": Say("550 5.7.1 we do not want it")}),
    "picky.test": Script({"RCPT": [Say("250 2.1.5 fine"), Say("550 5.1.1 nobody of that name")]}, each_connection=True),
}
NAMES: Mapping[str, Entries] = {
    "null.test": [{"MX": [0, "."]}],
    "bare.test": [{"TXT": "no mail"}],
    "lost.test": ["SERVFAIL"],
    "lame.test": [{"MX": [10, "mx.lost.test"]}],
    "mx.lost.test": ["SERVFAIL"],
}
EXPECTED = {
    "takes.test": ["250 2.0.0", "250 2.0.0"],
    "dead.test": ["451 4.4.1", "451 4.4.1"],
    "shut.test": ["451 4.4.2", "451 4.4.2"],
    "grey.test": ["450 4.2.0", "450 4.2.0"],
    "never.test": ["550 5.7.1", "550 5.7.1"],
    "picky.test": ["250 2.0.0", "550 5.1.1"],
    "null.test": ["556 5.1.10", "556 5.1.10"],
    "gone.test": ["550 5.1.2", "550 5.1.2"],
    "bare.test": ["550 5.4.4", "550 5.4.4"],
    "lost.test": ["451 4.4.3", "451 4.4.3"],
    "lame.test": ["451 4.4.3", "451 4.4.3"],
}


class World:
    """A relay to everywhere, the mail hosts of everywhere, and its DNS."""

    def __init__(self, guard: Guard, dns: Server, hosts: Mapping[str, Sandbox]) -> None:
        self.guard = guard
        self.dns = dns
        self.hosts = hosts

    async def lmtp(self, rcpts: Sequence[str], message: bytes = MESSAGE) -> list[list[str]]:
        """One message through the LMTP door; the replies after the dot."""
        async with Client(self.guard.lmtp) as client:
            await client.greet("LHLO client.example")
            await client.say("MAIL FROM:<a@s.example>", *(f"RCPT TO:<{rcpt}>" for rcpt in rcpts), "DATA")
            client.send(message + b".\r\n")
            return await client.replies(len(rcpts))


@asynccontextmanager
async def world(
    hosts: Mapping[str, Script | None] = HOSTS,
    names: Mapping[str, Entries] = NAMES,
    *,
    settings: str = "",
    timeouts: str = PATIENT,
    more: str = "",
) -> AsyncIterator[World]:
    sandboxes = {domain: Sandbox(script=script) for domain, script in hosts.items()}
    first, *others = sandboxes.values()
    zone: dict[str, Entries] = {domain: [{"MX": [10, f"mx.{domain}"]}] for domain in hosts}
    zone |= {f"mx.{domain}": [{"A": f"127.0.0.{number}"}] for number, domain in enumerate(hosts, start=1)}
    next_hop = f'host = "mx"\nport = {{port}}\nallow_private = true\ntls = "opportunistic"\n{timeouts}\n{settings}\n'
    async with AsyncExitStack() as stack:
        dns = await stack.enter_async_context(serving(Zone(zone | dict(names))))
        lint = f'[lint]\nmode = "off"\n[lint.dns]\nresolvers = ["{dns.address}"]\n'
        guard = await stack.enter_async_context(relay(hop=first, next_hop=next_hop, more=lint + more))
        for number, sandbox in enumerate(others, start=2):
            await sandbox.start(f"127.0.0.{number}", first.port)
            stack.push_async_callback(sandbox.stop)
        yield World(guard, dns, sandboxes)


async def test_each_recipient_gets_the_answer_of_its_own_mail_host() -> None:
    async with world(timeouts=QUICK) as here:
        rcpts = [f"{user}@{domain}" for user in ("one", "two") for domain in EXPECTED]
        replies = await here.lmtp(rcpts)
        got: dict[str, list[str]] = {}
        for rcpt, reply in zip(rcpts, replies, strict=True):
            got.setdefault(rcpt.partition("@")[2], []).append(code(reply))
        assert got == EXPECTED
        assert [message.rcpts for message in here.hosts["takes.test"].messages] == [
            [(b"one@takes.test", ()), (b"two@takes.test", ())]
        ]
        assert [message.rcpts for message in here.hosts["picky.test"].messages] == [[(b"one@picky.test", ())]]


async def test_the_log_names_the_true_host() -> None:
    async with world() as here:
        await here.lmtp(["one@takes.test", "one@grey.test", "one@null.test"])
        [accepted] = await here.guard.events("recipient-accepted")
        assert (accepted["server.address"], accepted["smtpguard.next_hop"]) == ("mx.takes.test", "default")
        grey, null = sorted(await here.guard.events("recipient-refused", 2), key=lambda event: event["server.address"])
        assert (grey["server.address"], grey["smtp.reply.code"], grey["smtpguard.source"]) == (
            "mx.grey.test",
            450,
            "next_hop",
        )
        assert (null["server.address"], null["smtpguard.source"]) == ("null.test", "internal")
        assert null["smtpguard.category"] == "recipient.domain"


async def test_provider_host_and_verb_are_those_of_the_mail_host_that_spoke() -> None:
    hosts = {
        "takes.test": None,
        "corp.test": Script({"RCPT": Say("550 5.7.26 unauthenticated")}),
        "shut.test": Script({"CONNECT": Say("554 5.7.1 mx.shut.test: your address is on our list")}),
        "never.test": Script({"DOT": Say("550 5.7.1 we do not want it")}),
    }
    names: Mapping[str, Entries] = {
        "corp.test": [{"MX": [1, "aspmx.l.google.com"]}],
        "aspmx.l.google.com": [{"A": "127.0.0.2"}],
        "takes.test": [{"MX": [1, "takes-test.mail.protection.outlook.com"]}],
        "takes-test.mail.protection.outlook.com": [{"A": "127.0.0.1"}],
    }
    async with world(hosts, names, more='[privacy]\naddresses = "full"\n') as here:
        await here.lmtp([f"one@{domain}" for domain in hosts])
        expected = {
            ("aspmx.l.google.com", "RCPT", "google", 550),
            ("mx.shut.test", "CONNECT", "other", 554),
            ("mx.never.test", "DOT", "other", 550),
        }
        refused = await here.guard.events("recipient-refused", 3)
        names_of = ("server.address", "smtp.verb", "smtpguard.provider", "smtp.reply.code")
        assert {tuple(event.get(name, "other") for name in names_of) for event in refused} == expected
        [greeted] = [event for event in refused if event["server.address"] == "mx.shut.test"]
        assert (greeted["smtp.reply.text"], greeted["server.port"]) == (
            "mx.shut.test: your address is on our list",
            here.hosts["takes.test"].port,
        )
        [accepted] = await here.guard.events("recipient-accepted")
        assert accepted["server.address"] == "takes-test.mail.protection.outlook.com"
        assert {event["smtpguard.next_hop"] for event in (*refused, accepted)} == {"default"}
        assert here.guard.sample("provider_recipients_total", provider="microsoft", outcome="accepted") == 1
        assert here.guard.sample("provider_recipients_total", provider="google", outcome="rejected") == 1

        store = here.guard.service.store
        assert await asyncio.to_thread(store.flush, 10.0)
        with store.reading() as database:
            kept = database.query("SELECT host, verb, provider, code, next_hop, text FROM refusals")
            counted = database.query("SELECT provider, n FROM acceptances")
        assert {row[:4] for row in kept} == expected
        assert {row[4] for row in kept} == {"default"}
        assert "mx.shut.test: your address is on our list" in {row[5] for row in kept}
        assert counted == [("microsoft", 1)]


async def test_what_a_dead_domain_costs_is_paid_once() -> None:
    async with world(timeouts=QUICK) as here:
        await here.lmtp(["one@dead.test"])
        replies = await here.lmtp(["one@dead.test", "one@takes.test"])
        assert [code(reply) for reply in replies] == ["451 4.4.1", "250 2.0.0"]
        assert here.hosts["dead.test"].connections == 1


async def test_connections_are_used_again_from_message_to_message() -> None:
    domains = {f"d{number}.test": None for number in range(1, 9)}
    async with world(domains, {}) as here:
        for _ in range(3):
            replies = await here.lmtp([f"one@{domain}" for domain in domains])
            assert {code(reply) for reply in replies} == {"250 2.0.0"}
        assert [(hop.accepted, hop.connections) for hop in here.hosts.values()] == [(3, 1)] * len(domains)
        assert here.guard.sample("next_hop_connections_total", next_hop="default", result="reused") == 16
        assert sum(question.rdtype == "MX" for question in here.dns.questions) == len(domains)


async def test_messages_side_by_side_are_each_delivered_once() -> None:
    domains = {f"d{number}.test": None for number in range(1, 7)}
    async with world(domains, {}, settings="connections_per_domain = 2") as here:
        rcpts = [f"one@{domain}" for domain in domains]
        results = await asyncio.gather(
            *(here.lmtp(rcpts, MESSAGE.replace(b"<1@", b"<%d@" % number)) for number in range(10))
        )
        assert {code(reply) for replies in results for reply in replies} == {"250 2.0.0"}
        for hop in here.hosts.values():
            assert len({message.data for message in hop.messages}) == hop.accepted == 10
            assert hop.connections <= 2


async def test_a_policy_that_the_history_remembers_is_in_force() -> None:
    async with world({"takes.test": None}, {}) as here:
        row = TlsPolicyRow("takes.test", time(), time() + 600, "1", "enforce", "mx.takes.test")
        here.guard.service.store.state.tls_policies.put(row)
        [reply] = await here.lmtp(["one@takes.test"])
        assert code(reply) == "451 4.7.5"
        heard = {line.split(b" ")[0] for line in here.hosts["takes.test"].commands}
        assert (here.hosts["takes.test"].connections, heard) == (1, {b"EHLO"})
        assert here.guard.sample("tls_policies_total", policy="sts", result="starttls-not-supported") == 1


async def test_a_domain_that_drops_what_we_send_slows_no_other() -> None:
    domains = {f"d{number}.test": None for number in range(1, 5)}
    dead: Entries = [{"MX": [1, "mx.dead.test"]}]
    timeouts = 'timeout = { connect = "6s" }'
    names: Mapping[str, Entries] = {"dead.test": dead, "mx.dead.test": [{"A": "127.0.0.99"}]}
    async with world(domains, names, settings="connections_per_domain = 5", timeouts=timeouts) as here:
        with silent("127.0.0.99", here.hosts["d1.test"].port):
            waits: list[float] = []

            async def client(number: int) -> None:
                """Every third message is for the dead domain, every seventh for it and another one."""
                for turn in range(10):
                    rcpts = [f"one@d{number % 4 + 1}.test", "one@dead.test"]
                    kind = (number + turn) % 7
                    rcpts = rcpts if kind == 0 else rcpts[1:] if kind % 3 == 0 else rcpts[:1]
                    began = monotonic()
                    replies = await here.lmtp(rcpts)
                    if len(rcpts) == 1 and "dead" not in rcpts[0]:
                        waits.append(monotonic() - began)
                    said = [code(reply).partition(" ")[0] for reply in replies]
                    assert said == ["451" if "dead" in rcpt else "250" for rcpt in rcpts]

            await asyncio.gather(*(client(number) for number in range(20)))
        assert here.guard.sample("next_hop_connections_total", next_hop="default", result="failed") == 1
        assert max(waits) < 6  # none waited as long as that: timeout.connect
        assert here.guard.sample("next_hop_breaker_open", next_hop="default") == 1


async def test_the_answer_is_in_time_whatever_is_dropped() -> None:
    names: dict[str, Entries] = {
        "dead.test": [{"MX": [number, f"mx{number}.dead.test"]} for number in range(1, 6)],
        **{f"mx{number}.dead.test": [{"A": f"127.0.0.{90 + number}"}] for number in range(1, 6)},
    }
    more = '[relay]\nhostname = "guard.test"\nanswer_within = "1s"\n'
    async with world({"takes.test": None}, names, more=more) as here:
        with ExitStack() as stack:
            for number in range(1, 6):
                stack.enter_context(silent(f"127.0.0.{90 + number}", here.hosts["takes.test"].port))
            began = monotonic()
            replies = await here.lmtp(["one@dead.test", "one@takes.test"])
            assert monotonic() - began < 10  # five time-outs would be 100 s
        assert [code(reply).partition(" ")[0] for reply in replies] == ["451", "250"]


async def test_two_hundred_domains_each_message_is_delivered_once_over_few_connections() -> None:
    domains = [f"d{number}.test" for number in range(200)]
    hosts = {f"h{number}.test": None for number in range(1, 11)}
    names: Mapping[str, Entries] = {
        domain: [{"MX": [1, f"mx.h{number % 10 + 1}.test"]}] for number, domain in enumerate(domains)
    }
    async with world(hosts, names, settings="connections = 20\nmessages_per_connection = 10000", timeouts="") as here:
        ids = iter(range(1000))

        async def client() -> None:
            for number in ids:
                rcpts = [f"u{number}@{domains[(number * 7 + step) % 200]}" for step in range(3)]
                for rcpt, reply in zip(rcpts, await here.lmtp(rcpts), strict=True):
                    (taken if code(reply) == "250 2.0.0" else put_off).append(rcpt)

        taken: list[str] = []
        put_off: list[str] = []
        await asyncio.gather(*(client() for _ in range(8)))
        arrived = [
            path.decode() for hop in here.hosts.values() for message in hop.messages for path, _ in message.rcpts
        ]
        assert sorted(arrived) == sorted(taken)  # a 250 is a delivery, and a delivery a 250
        assert (len(taken), put_off) == (3000, [])
        assert sum(hop.connections for hop in here.hosts.values()) <= 30
        assert here.guard.sample("next_hop_connections_total", next_hop="default", result="reused") > 2900


async def test_on_the_smtp_door_the_first_domain_decides() -> None:
    async with world() as here, Client(here.guard.smtp) as client:
        await client.greet()
        assert code(await client.say("MAIL FROM:<a@s.example>")) == "250 2.1.0"
        said = [
            code(await client.say(f"RCPT TO:<{rcpt}>"))
            for rcpt in ("one@takes.test", "one@grey.test", "two@TAKES.test", "one@null.test")
        ]
        assert [reply.partition(" ")[0] for reply in said] == ["250", "452", "250", "452"]
        assert said[1] == said[3] == "452 4.5.3"
        await client.say("DATA")
        assert code(await client.say(MESSAGE + b".")) == "250 2.0.0"
        assert [len(message.rcpts) for message in here.hosts["takes.test"].messages] == [2]
        assert here.hosts["grey.test"].connections == 0


@pytest.mark.parametrize(
    ("domain", "reply"), [("null.test", "556 5.1.10"), ("gone.test", "550 5.1.2"), ("dead.test", "451 4.4.1")]
)
async def test_what_is_said_of_one_domain_is_said_of_no_other(domain: str, reply: str) -> None:
    async with world(timeouts=QUICK) as here, Client(here.guard.smtp) as client:
        await client.greet()
        await client.say("MAIL FROM:<a@s.example>")
        said = [
            code(await client.say(f"RCPT TO:<{rcpt}>")) for rcpt in (f"one@{domain}", "one@takes.test", f"two@{domain}")
        ]
        assert said == [reply, "452 4.5.3", reply]
        assert code(await client.say("RSET")) == "250 2.0.0"
        await client.say("MAIL FROM:<a@s.example>")
        assert code(await client.say("RCPT TO:<one@takes.test>"))[:3] == "250"


async def test_a_route_takes_a_domain_out_of_it() -> None:
    more = (
        '[next_hop.inside]\nhost = "127.0.0.2"\nport = {port}\ntls = "none"\n'
        '[[route]]\nrecipient_domain = "in.test"\nnext_hop = "inside"\n'
    )
    async with world({"takes.test": None, "other.test": None}, {}, more=more) as here:
        replies = await here.lmtp(["one@takes.test", "one@in.test", "one@nowhere.test"])
        assert [code(reply) for reply in replies] == ["250 2.0.0", "250 2.0.0", "550 5.1.2"]
        assert (here.hosts["takes.test"].accepted, here.hosts["other.test"].accepted) == (1, 1)


async def test_a_reroute_to_everywhere_goes_by_domain() -> None:
    more = (
        '[next_hop.inside]\nhost = "127.0.0.2"\nport = {port}\ntls = "none"\n'
        '[[route]]\nsender_domain = "s.example"\nnext_hop = "inside"\n'
        '[[policy]]\nclass = 5\nfrom_hop = "inside"\naction = "reroute"\nto = "default"\n'
    )
    hosts = {"takes.test": None, "refuses.test": Script({"RCPT": Say("550 5.7.1 not you")}), "also.test": None}
    async with world(hosts, {}, more=more) as here:
        replies = await here.lmtp(["one@takes.test", "one@also.test", "one@gone.test"])
        assert [code(reply) for reply in replies] == ["250 2.0.0", "250 2.0.0", "550 5.1.2"]
        assert (here.hosts["takes.test"].accepted, here.hosts["also.test"].accepted) == (1, 1)


async def test_dsn_is_not_offered_as_receivers_differ() -> None:
    async with world({"takes.test": None}, {}) as here, Client(here.guard.lmtp) as client:
        offered = await client.greet("LHLO client.example")
        assert "DSN" not in offered
        assert "8BITMIME" in offered
