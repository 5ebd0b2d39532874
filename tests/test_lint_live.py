"""The lint in the mail path: observed, enforced, with a DNS that works and with each fault of one that does not.

A name server of the test's own answers; what it serves is `dns/zones/good.yml`, and a bad sender beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from smtpguard.sandbox import Say, Script
from tests.dns.server import Server, serving
from tests.dns.zones import Zone, load
from tests.edge.test_doors import reset
from tests.edge.waiting import until
from tests.harness import PATIENCE_S, Client, Guard, code, relay

EGRESS = 'egress_ips = ["192.0.2.25"]'
TO = "ben@good.test"


def zone() -> Zone:
    """A sender with all in order, `good.test`, and one who forbids our address."""
    served = load("good")
    served.put("bad.test", {"MX": [10, "mx1.good.test."]}, {"TXT": "v=spf1 -all"})
    served.put("_dmarc.bad.test", {"TXT": "v=DMARC1; p=reject"})
    return served


@asynccontextmanager
async def linted(
    lint: str = "", *, script: Script | None = None, budget: str = "5s"
) -> AsyncIterator[tuple[Guard, Server]]:
    async with serving(zone()) as server:
        section = (
            f'[lint]\nbudget = "{budget}"\n{lint}\n[lint.dns]\nresolvers = ["{server.address}"]\n'
            f"[lint.blocklists]\nip = []\ndomain = []\n"
        )
        async with relay(script=script, next_hop=EGRESS, more=section) as guard:
            yield guard, server


def message(
    sender: str = "ann@good.test", body: bytes = b"Hello,\r\n\r\nhow are you?\r\n", extra: bytes = b""
) -> bytes:
    lines = (
        f"From: Ann <{sender}>",
        f"To: {TO}",
        "Subject: Hello",
        "Date: Sun, 22 Nov 2026 13:00:00 +0000",
        f"Message-ID: <1@{sender.partition('@')[2]}>",
    )
    return b"".join(f"{line}\r\n".encode() for line in lines) + extra + b"\r\n" + body


async def send(
    guard: Guard, octets: bytes, *rcpts: str, sender: str = "ann@good.test", lmtp: bool = False
) -> list[str]:
    """The codes of MAIL, the RCPTs and the message (each recipient's, on the LMTP door)."""
    rcpts = rcpts or (TO,)
    async with Client(guard.lmtp if lmtp else guard.smtp) as client:
        await client.greet("LHLO x.example" if lmtp else "EHLO x.example")
        commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{rcpt}>" for rcpt in rcpts)]
        codes = [code(await client.say(command)) for command in commands]
        taken = sum(each.startswith("250") for each in codes[1:])
        if codes[0].startswith("250") and taken:
            await client.say("DATA")
            client.send(octets.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            codes += [code(each) for each in await client.replies(taken if lmtp else 1)]
        return codes


async def findings(guard: Guard, number: int = 1) -> list[str]:
    """What the log says of the last of so many transactions."""
    found: Any = (await guard.events("transaction", number))[-1].get("smtpguard.findings", [])
    return list(found)


# --- observed ----------------------------------------------------------------------------------------------------


async def test_mail_in_order_has_no_finding_of_weight() -> None:
    async with linted() as (guard, server):
        assert (await send(guard, message()))[-1].startswith("250")
        assert await findings(guard) == ["DKM001", "DMA005"]  # it is not signed: a warning, and a note
        assert server.asked("good.test", "TXT") == 1


async def test_what_would_be_refused_is_said_and_passes() -> None:
    async with linted() as (guard, _):
        assert (await send(guard, message("ann@bad.test"), sender="ann@bad.test"))[-1].startswith("250")
        found = await findings(guard)
        assert {"SPF003", "DMA001"} <= set(found)
        assert guard.sample("lint_findings_total", rule="SPF003", action="observe") == 1
        assert guard.sample("lint_confirmed_total", rule="SPF003", outcome="accepted") == 1


async def test_a_finding_is_joined_with_the_next_hops_refusal() -> None:
    script = Script({"RCPT": Say("550 5.7.23 SPF check failed")})
    async with linted(script=script) as (guard, _):
        assert (await send(guard, message("ann@bad.test"), sender="ann@bad.test"))[1] == "550 5.7.23"
        assert "SPF003" in await findings(guard)  # of MAIL: there was no message to look at
        assert guard.sample("lint_confirmed_total", rule="SPF003", outcome="rejected") == 1


async def test_warm_messages_ask_no_dns() -> None:
    async with linted() as (guard, server):
        for number in range(1, 4):
            assert (await send(guard, message()))[-1].startswith("250")
            await guard.events("transaction", number)
            if number == 1:
                asked = len(server.questions)
        assert len(server.questions) == asked
        assert guard.sample("dns_lookups_total", purpose="spf", result="answer") > 0


async def test_the_next_hop_gets_the_octets_of_a_large_message_and_it_is_read() -> None:
    body = b"".join(b"..dots and more %06d\r\n" % number for number in range(30_000))  # 650 KB: in a file, stuffed
    octets = message(body=body + b"x" * 1200 + b"\r\n")
    async with linted() as (guard, _):
        assert (await send(guard, octets))[-1].startswith("250")
        assert "MIM001" in await findings(guard)
        assert guard.hop.messages[0].data.endswith(octets)


async def test_each_recipient_of_the_lmtp_door_has_its_own_finding() -> None:
    async with linted() as (guard, _):
        codes = await send(guard, message(), TO, "cat@nowhere.test", lmtp=True)
        assert [each[:3] for each in codes[-2:]] == ["250", "250"]
        assert "RCP002" in await findings(guard)


# --- enforced ----------------------------------------------------------------------------------------------------


async def test_enforcing_refuses_what_is_certain_with_the_fix_in_the_reply() -> None:
    octets = message(extra=b"From: Somebody Else <else@good.test>\r\n")
    async with linted('mode = "enforce"') as (guard, _):
        assert (await send(guard, octets))[-1] == "550 5.6.0"
        assert guard.hop.messages == []
        [event] = await guard.events("recipient-refused")
        assert (event["smtpguard.source"], event["rule.id"]) == ("lint", "HDR001")
        assert "From" in event["smtpguard.cause"]
        assert event["smtpguard.fix"]
        assert guard.sample("refusals_by_source_total", source="lint", **{"class": "5"}) == 1


@pytest.mark.parametrize(("action", "answer"), [("reject", "550 5.7.23"), ("defer", "451 4.7.23")])
@pytest.mark.parametrize("lmtp", [False, True])
async def test_a_rule_that_is_set_to_act_acts_at_its_stage(action: str, answer: str, lmtp: bool) -> None:
    async with linted(f'[lint.rules]\nSPF003 = "{action}"') as (guard, _):
        codes = await send(guard, message("ann@bad.test"), sender="ann@bad.test", lmtp=lmtp)
        assert codes[0] == answer
        assert codes[1][:3] in ("503", "451")
        assert guard.hop.messages == []
        assert (await send(guard, message(), lmtp=lmtp))[-1].startswith("250")


@pytest.mark.parametrize("lmtp", [False, True])
async def test_a_recipient_alone_is_refused_at_rcpt(lmtp: bool) -> None:
    async with linted('[lint.rules]\nRCP002 = "reject"') as (guard, _):
        codes = await send(guard, message(), TO, "cat@nowhere.test", lmtp=lmtp)
        assert codes[1].startswith("250")
        assert codes[2] == "550 5.1.2"
        assert codes[3].startswith("250")
        assert [path for path, _ in guard.hop.messages[0].rcpts] == [TO.encode()]


async def test_a_refusal_after_the_dot_is_each_recipients_on_the_lmtp_door() -> None:
    async with linted('[lint.rules]\nMIM001 = "defer"') as (guard, _):
        codes = await send(guard, message(body=b"x" * 2000 + b"\r\n"), TO, "cat@good.test", lmtp=True)
        assert codes[-2:] == ["451 4.6.0", "451 4.6.0"]
        assert guard.hop.messages == []


async def test_an_exception_takes_rules_off_some_mail() -> None:
    rules = '[lint.rules]\nSPF003 = "reject"\n[[lint.except]]\nrules = ["SPF"]\nsender_domain = ["bad.test"]'
    async with linted(rules) as (guard, _):
        assert (await send(guard, message("ann@bad.test"), sender="ann@bad.test"))[-1].startswith("250")
        assert not any(found.startswith("SPF") for found in await findings(guard))


async def test_off_is_off() -> None:
    async with linted('mode = "off"') as (guard, server):
        assert (await send(guard, message("ann@bad.test"), sender="ann@bad.test"))[-1].startswith("250")
        assert await findings(guard) == []
        assert server.questions == []


# --- a DNS that does not work ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "LAME", "GARBAGE", "WRONGID", "TIMEOUT", "CUT"])
@pytest.mark.parametrize("lmtp", [False, True])
async def test_with_dns_dead_mail_flows_whatever_the_rules_say(fault: str, lmtp: bool) -> None:
    rules = 'SPF = "reject"\nRCP = "reject"\nENV = "reject"\nDMA = "reject"\nRBL = "reject"'
    async with linted(f"[lint.rules]\n{rules}") as (guard, server):
        server.fault = fault
        codes = await send(guard, message(), lmtp=lmtp)
        assert codes[-1].startswith("250")
        [event] = await guard.events("transaction")
        assert event["event.outcome"] == "success"
        assert guard.sample("lint_skipped_total", rule="SPF003") == 1
        assert guard.sample("lint_findings_total", rule="DNS001", action="observe") == 1


async def test_a_dns_that_is_late_is_not_waited_for_beyond_the_budget_and_is_known_next_time() -> None:
    async with linted('[lint.rules]\nSPF003 = "reject"', budget="50ms") as (guard, server):
        server.hold()
        assert (await send(guard, message("ann@bad.test"), sender="ann@bad.test"))[-1].startswith("250")
        assert guard.sample("lint_skipped_total", rule="SPF003") == 1
        server.release()
        async with asyncio.timeout(PATIENCE_S):
            while (await send(guard, message("ann@bad.test"), sender="ann@bad.test"))[0] != "550 5.7.23":
                pass


async def test_an_exception_for_some_recipients_holds_for_them_alone() -> None:
    rules = '[lint.rules]\nSPF003 = "reject"\n[[lint.except]]\nrules = ["SPF"]\nrecipient_domain = ["good.test"]'
    async with linted(rules) as (guard, _):
        assert (await send(guard, message("ann@bad.test"), sender="ann@bad.test"))[-1].startswith("250")
        assert (await send(guard, message("ann@bad.test"), "c@else.test", sender="ann@bad.test"))[-1] == "550 5.7.23"


async def test_a_family_that_is_set_to_refuse_refuses_for_what_has_an_answer_alone() -> None:
    octets = message().replace(b"Message-ID: <1@good.test>\r\n", b"Message-ID: not one\r\n")
    async with linted('[lint.rules]\nBLK = "reject"\nALL = "reject"\nDKM = "observe"\nHDR = "observe"') as (guard, _):
        assert (await send(guard, octets))[-1].startswith("250")


# --- while the lint has the message ------------------------------------------------------------------------------

LARGE = b"".join(b"line %06d\r\n" % number for number in range(30_000))


async def sent_while_dns_is_silent(guard: Guard, server: Server, client: Client, octets: bytes) -> None:
    """A message whose dot was seen, and whose answer waits for DNS."""
    server.hold()
    await client.greet()
    await client.say("MAIL FROM:<ann@good.test>", f"RCPT TO:<{TO}>", "DATA")
    client.send(octets + b".\r\n")
    await until(lambda: server.asked("_dmarc.good.test", "TXT") > 0)


@pytest.mark.parametrize("octets", [message(), message(body=LARGE)], ids=["small", "large"])
async def test_a_client_that_goes_meanwhile_has_its_message_sent_once_by_its_retry(octets: bytes) -> None:
    async with linted(budget="20s") as (guard, server):
        async with Client(guard.smtp) as client:
            await sent_while_dns_is_silent(guard, server, client, octets)
            reset(client)
        [event] = await guard.events("transaction")
        assert event["message"].startswith("aborted")
        assert "client gone" in event["message"]
        server.release()
        assert (await send(guard, octets))[-1].startswith("250")
        assert len(guard.hop.messages) == 1


@pytest.mark.parametrize("octets", [message(), message(body=LARGE)], ids=["small", "large"])
async def test_a_reload_with_another_lint_leaves_the_message_its_answer(octets: bytes) -> None:
    async with linted(budget="20s") as (guard, server), Client(guard.smtp) as client:
        await sent_while_dns_is_silent(guard, server, client, octets)
        guard.config.write_text(guard.config.read_text().replace('budget = "20s"', 'mode = "off"'))
        assert await guard.service.reload()
        server.release()
        assert code(await client.reply()).startswith("250")
        [event] = await guard.events("transaction")
        assert event["smtpguard.ms.lint"] + event["smtpguard.ms.next_hop"] < event["event.duration"] / 1e6
        assert "DMA005" in await findings(guard)  # by the lint that it began with
        assert (await send(guard, octets))[-1].startswith("250")
        assert await findings(guard, 2) == []


async def test_a_stop_waits_for_the_message() -> None:
    async with linted(budget="20s") as (guard, server), Client(guard.smtp) as client:
        await sent_while_dns_is_silent(guard, server, client, message())
        stopping = asyncio.create_task(guard.service.stop())
        await guard.events("service-stopping")
        server.release()
        assert code(await client.reply()).startswith("250")
        await stopping


# --- in the background -----------------------------------------------------------------------------------------------


async def test_an_address_and_a_domain_of_ours_on_a_blocklist_are_told_of() -> None:
    more = (
        '[lint]\n[sender]\ndomains = ["*.phish.example"]\n[lint.dns]\nresolvers = ["{}"]\n'
        '[lint.blocklists]\nip = ["zen.spamhaus.org"]\ndomain = ["dbl.spamhaus.org"]\n'
    )
    async with serving(load("lists")) as server:
        next_hop = 'egress_ips = ["5.18.0.30", "5.18.0.25"]'
        async with relay(next_hop=next_hop, more=more.format(server.address)) as guard:
            told = await guard.events("blocklist-listed", 2)
            assert {event["message"].partition(":")[0] for event in told} == {
                "zen.spamhaus.org lists 5.18.0.25",
                "dbl.spamhaus.org lists phish.example",
            }
            assert guard.sample("blocklist_listed", list="zen.spamhaus.org", subject="1") == 1
