"""The webhook: what is told, to whom, how often, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from smtpguard.edge.alerts import BACKOFF_S, MAX_WAITING, REPEAT_S, Alerts, Unreachable, Webhook
from smtpguard.mail.reply import FailureKind, HopFailure, Verb
from smtpguard.record import Masker, Record, Refusal
from tests.certs import self_signed, server_context
from tests.records import UNKNOWN, record, refusal

SECRET = b"s3cret"
URL = "https://hooks.example.org/T0/very-secret-path"
AT = 1_700_000_000


class Desk:
    """Who is told, and what the alerts are made with: a clock that stands, sleeps that are noted."""

    def __init__(self, *statuses: int | Exception) -> None:
        self.statuses = list(statuses)
        self.told: list[tuple[str, bytes, Mapping[str, str]]] = []
        self.slept: list[float] = []
        self.logged: list[str] = []
        self.dropped = 0
        self.seconds = 100.0
        self.came = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        await self.gate.wait()
        self.told.append((url, body, headers))
        self.came.set()
        status = self.statuses.pop(0) if self.statuses else 204
        if isinstance(status, Exception):
            raise status
        return status

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def log(self, action: str, message: str, **_: object) -> None:
        self.logged.append(f"{action}: {message}")

    def drop(self, count: int) -> None:
        self.dropped += count

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [orjson.loads(body) for _, body, _ in self.told]


@asynccontextmanager
async def alerting(desk: Desk, url: str = URL, secret: bytes = SECRET, **more: Any) -> AsyncIterator[Alerts]:
    """Alerts at work; all that waits is delivered at the end."""
    given = {"post": desk.post, "sleep": desk.sleep, "now": lambda: float(AT), "clock": lambda: desk.seconds, **more}
    alerts = Alerts(url, secret, masker=Masker("mask", b"k"), log=desk.log, on_drop=desk.drop, **given)
    alerts.start()
    try:
        yield alerts
    finally:
        await alerts.close(20.0)


def loud(category: str = "auth.dmarc", **fields: Any) -> Refusal:
    meaning = UNKNOWN._replace(category=category, cause="jane.doe@example.org is not aligned")
    given = refusal("550 5.7.26 <jane.doe@example.org> refused\x1b[2J", meaning=meaning, answer="451 4.7.26 held")
    return dataclasses.replace(given, alert=True, action="defer", **fields)


def of(*refusals: Refusal) -> Record:
    return record(*refusals, outcome="deferred")


async def test_what_is_told() -> None:
    desk = Desk()
    async with alerting(desk) as alerts:
        alerts.write(of(loud()))
    ((url, body, headers),) = desk.told
    assert url == URL
    assert orjson.loads(body) == {
        "action": "refusal",
        "id": "01JD5Z8Q7KX3",
        "at": "2023-11-14T22:13:20.000Z",
        "category": "auth.dmarc",
        "cause": "j***@example.org is not aligned",
        "fix": "Check the spelling.",
        "responsible": "recipient",
        "provider": "google",
        "policy": "defer",
        "verb": "RCPT",
        "answer": 451,
        "reply": {"code": 550, "enhanced": "5.7.26", "text": "<j***@example.org> refused [2J"},
        "next_hop": "default",
        "mail_from": "B***@example.com",
        "rcpt_to": "j***@example.org",
        "queue_id": "4Abc",
        "count": 1,
    }
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Smtpguard-Timestamp"] == str(AT)
    signed = hmac.new(SECRET, f"{AT}.".encode() + body, "sha256").hexdigest()
    assert headers["X-Smtpguard-Signature"] == f"sha256={signed}"
    assert (desk.dropped, desk.logged) == (0, [])


async def test_without_a_secret_there_is_no_signature() -> None:
    desk = Desk()
    async with alerting(desk, secret=b"") as alerts:
        alerts.write(of(loud()))
    assert "X-Smtpguard-Signature" not in desk.told[0][2]


async def test_only_what_is_to_be_told_is_told() -> None:
    desk = Desk()
    async with alerting(desk) as alerts:
        alerts.write(of(refusal()))
        alerts.write(record(accepted=[b"a@example.org"]))
    async with alerting(desk, url="") as alerts:
        alerts.write(of(loud()))
        alerts.listed("zen.spamhaus.org", "192.0.2.1", "spam")
    assert desk.told == []


async def test_of_a_refusal_that_another_next_hop_was_tried_for_the_mta_has_no_answer() -> None:
    desk = Desk(204)
    async with alerting(desk) as alerts:
        record = of()
        record.diverted.append(dataclasses.replace(loud(), action="reroute"))
        alerts.write(record)
        await alerts.close()
    [told] = desk.bodies
    assert (told["policy"], told["reply"]["code"]) == ("reroute", 550)
    assert "answer" not in told


async def test_a_refusal_without_a_reply_and_of_a_whole_message() -> None:
    desk = Desk()
    failure = HopFailure(FailureKind.TIMEOUT, Verb.DOT, "no answer")
    async with alerting(desk) as alerts:
        alerts.write(of(loud(said=None, rcpt=None, failure=failure, hop=None, count=0)))
    (told,) = desk.bodies
    assert told.keys().isdisjoint({"reply", "rcpt_to"})
    assert (told["next_hop"], told["count"]) == ("default", 1)


async def test_one_alert_in_ten_minutes_by_category_and_next_hop() -> None:
    desk = Desk()
    async with alerting(desk) as alerts:
        alerts.write(of(loud(), loud(count=3), loud("reputation.ip_listed")))
        for _ in range(5):
            alerts.write(of(loud()))
        desk.seconds += REPEAT_S - 0.1
        alerts.write(of(loud()))
        desk.seconds += 0.1
        alerts.write(of(loud()))
        alerts.write(of(loud()))
        alerts.listed("zen.spamhaus.org", "egress 0", "SBL", "https://check.example")
        alerts.listed("zen.spamhaus.org", "egress 0", "SBL", "https://check.example")
        alerts.listed("zen.spamhaus.org", "egress 1", "")
    told = [(each.get("category", each["action"]), each["count"]) for each in desk.bodies]
    assert told == [
        ("auth.dmarc", 4),
        ("reputation.ip_listed", 1),
        ("auth.dmarc", 7),  # six were left out
        ("blocklist-listed", 1),
        ("blocklist-listed", 1),
    ]
    assert desk.bodies[3]["cause"] == "egress 0 is on zen.spamhaus.org: SBL"
    assert "https://check.example" in desk.bodies[3]["fix"]
    assert "fix" not in desk.bodies[4]
    assert desk.dropped == 0


@pytest.mark.parametrize("first", [500, 503, 429, 408, Unreachable("refused")])
async def test_what_may_pass_is_tried_again(first: int | Exception) -> None:
    desk = Desk(first, first)
    async with alerting(desk) as alerts:
        alerts.write(of(loud()))
    assert len(desk.told) == 3
    assert len({body for _, body, _ in desk.told}) == 1
    assert desk.slept == list(BACKOFF_S[:2])
    assert desk.dropped == 0


async def test_in_the_end_it_is_dropped_counted_and_logged_without_the_address() -> None:
    tries = len(BACKOFF_S) + 1
    desk = Desk(*[Unreachable("connection refused")] * tries)
    async with alerting(desk) as alerts:
        alerts.write(of(loud()))
    assert (len(desk.told), desk.slept, desk.dropped) == (tries, list(BACKOFF_S), 1)
    assert desk.logged == ["alert-failed: an alert was dropped: the webhook cannot be reached: connection refused"]


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 410])
async def test_what_stays_wrong_is_dropped_at_once_and_the_next_one_goes_out(status: int) -> None:
    desk = Desk(status)
    async with alerting(desk) as alerts:
        alerts.write(of(loud(), loud("auth.spf")))
    assert (len(desk.told), desk.slept, desk.dropped) == (2, [], 1)
    assert desk.logged == [f"alert-failed: an alert was dropped: the webhook answers {status}"]


async def test_a_fault_of_ours_ends_nothing() -> None:
    desk = Desk(RuntimeError("inside"))
    async with alerting(desk) as alerts:
        alerts.write(of(loud(), loud("auth.spf")))
    assert (len(desk.told), desk.dropped) == (2, 1)
    assert "inside" not in desk.logged[0]


async def test_so_many_wait_and_the_rest_is_dropped_also_at_the_end() -> None:
    desk = Desk()
    desk.gate.clear()
    async with alerting(desk) as alerts:
        for number in range(MAX_WAITING + 2):
            alerts.listed("list", f"subject {number}", "")
        assert desk.dropped == 2
        await alerts.close(0.0)
        assert desk.dropped == MAX_WAITING + 2
        alerts.write(of(loud()))
        assert desk.dropped == MAX_WAITING + 3
    assert desk.told == []


async def test_one_after_the_other_as_they_come() -> None:
    desk = Desk()
    async with alerting(desk) as alerts:
        for number in range(3):
            desk.came.clear()
            alerts.listed("list", f"subject {number}", "")
            async with asyncio.timeout(20):
                await desk.came.wait()
    assert [each["subject"] for each in desk.bodies] == ["subject 0", "subject 1", "subject 2"]


async def test_new_settings_count_at_once() -> None:
    desk = Desk()
    async with alerting(desk) as alerts:
        alerts.settle("https://other.example/", b"", Masker("full", b"k"))
        alerts.write(of(loud()))
    assert desk.told[0][0] == "https://other.example/"
    assert desk.bodies[0]["rcpt_to"] == "jane.doe@example.org"


async def test_close_before_start() -> None:
    desk = Desk()
    alerts = Alerts(URL, SECRET, masker=Masker("mask", b"k"), log=desk.log, on_drop=desk.drop)
    alerts.write(of(loud()))
    await alerts.close()
    assert desk.dropped == 1


# --- over a socket -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def receiver(
    status: int = 200, *, context: ssl.SSLContext | None = None, gate: asyncio.Event | None = None, **headers: str
) -> AsyncIterator[tuple[str, list[tuple[str, bytes, str]]]]:
    """A webhook on loopback: its address, and what was posted (path, body, signature). It answers past the `gate`."""
    got: list[tuple[str, bytes, str]] = []

    async def take(request: web.Request) -> web.Response:
        got.append((request.path, await request.read(), request.headers.get("X-Smtpguard-Signature", "")))
        if gate is not None:
            await gate.wait()
        return web.Response(status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        scheme = "http" if context is None else "https"
        yield f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/hook", got
    finally:
        await runner.cleanup()


async def test_it_is_posted() -> None:
    desk = Desk()
    async with receiver() as (url, got), alerting(desk, url, post=None) as alerts:
        alerts.write(of(loud()))
        await alerts.close(20.0)
        ((path, body, signature),) = got
    assert (path, orjson.loads(body)["category"]) == ("/hook", "auth.dmarc")
    assert signature.startswith("sha256=")
    assert desk.dropped == 0


async def test_a_redirect_is_not_followed() -> None:
    desk = Desk()
    async with receiver(307, Location="/elsewhere") as (url, got), alerting(desk, url, post=None) as alerts:
        alerts.write(of(loud()))
        await alerts.close(20.0)
        assert [path for path, *_ in got] == ["/hook"]
    assert desk.dropped == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/secret", "http://[::1", "https://127.0.0.1:1/secret"])
async def test_why_it_cannot_be_reached_does_not_tell_the_address(url: str) -> None:
    webhook = Webhook()
    with pytest.raises(Unreachable) as found:
        await webhook(url, b"{}", {})
    assert "secret" not in str(found.value)
    assert str(found.value)
    await webhook.close()


async def test_a_certificate_that_nobody_signed_is_not_trusted(tmp_path: Path) -> None:
    context = server_context(*self_signed(["127.0.0.1"], directory=tmp_path))
    webhook = Webhook()
    async with receiver(context=context) as (url, got):
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            await webhook(url, b"{}", {})
    await webhook.close()
    assert got == []


async def test_who_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpguard.edge.alerts.POST_S", 0.05)
    gate = asyncio.Event()
    webhook = Webhook()
    async with receiver(gate=gate) as (url, _):
        with pytest.raises(Unreachable, match="no answer within"):
            await webhook(url, b"{}", {})
        gate.set()
        await webhook.close()
