"""MTA-STS policies over real HTTPS on loopback: fetched when they are new, kept, and none where they are no good."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from smtpguard.edge import mtasts
from smtpguard.edge.connect import Address
from smtpguard.edge.mtasts import RENEW_S, RETRY_S, Memory, Policies, Remembered
from smtpguard.edge.proven import PROOF_S
from smtpguard.mailauth.dns import Answer
from smtpguard.mailauth.mtasts import MAX_POLICY, PATH, Policy
from tests.certs import ca_and_server, client_context, self_signed, server_context
from tests.edge.hopping import until
from tests.mailauth.zone import Entries, Zone

POLICY = "version: STSv1\nmode: enforce\nmx: mx.d.test\nmax_age: 604800\n"
DOMAIN = "d.test"
RECORD: Entries = [{"TXT": "v=STSv1; id=1"}]


@dataclass
class Site:
    """A web server of policies, and a client of it."""

    policies: Policies
    zone: Zone
    answer: web.Response | None
    now: float = 0.0
    failures: list[str] = field(default_factory=list)
    asked: int = 0

    def publish(self, *entries: Entries) -> None:
        """Give the TXT record another form."""
        self.zone = Zone({"_mta-sts.d.test": entries[0]} if entries else {})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext]:
    """A server's context, a client's that believes it, and a server's that nobody does."""
    folder: Callable[[str], Path] = tmp_path_factory.mktemp
    made = ca_and_server(["mta-sts.d.test"], directory=folder("good"))
    bad = self_signed(["mta-sts.d.test"], directory=folder("bad"))
    return server_context(made.cert, made.key), client_context(made.ca), server_context(*bad)


@asynccontextmanager
async def site(
    authority: tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext],
    text: str = POLICY,
    *,
    is_bad: bool = False,
    memory: Memory | None = None,
) -> AsyncIterator[Site]:
    good, client, bad = authority

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert (request.path, request.host, request.headers.get("Cookie")) == (PATH, "mta-sts.d.test", None)
        here.asked += 1
        return here.answer or web.Response(text=text)

    server = web.ServerRunner(web.Server(handler))
    await server.setup()
    listener = web.TCPSite(server, "127.0.0.1", 0, ssl_context=bad if is_bad else good)
    await listener.start()
    port = server.addresses[0][1]

    class Names:
        async def addresses(self, host: str, port_asked: int) -> list[Address]:
            assert (host, port_asked) == ("mta-sts.d.test", 443)
            return [(socket.AF_INET, ("127.0.0.1", port))]

    class Current(Zone):
        async def txt(self, name: str) -> Answer[bytes]:
            return await here.zone.txt(name)

    failures: list[str] = []
    policies = Policies(Current({}), Names(), client, clock=lambda: here.now, failed=failures.append, memory=memory)
    here = Site(policies, Zone({"_mta-sts.d.test": RECORD}), None, failures=failures)
    try:
        yield here
    finally:
        await policies.close()
        await server.cleanup()


Authority = tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext]


async def test_a_policy_is_fetched_once_and_kept(authority: Authority) -> None:
    async with site(authority) as here:
        both = await asyncio.gather(here.policies.of(DOMAIN), here.policies.of(DOMAIN))
        assert both[0] == both[1]
        assert both[0] is not None
        assert both[0].allows("mx.d.test")
        here.now = RENEW_S - 1
        assert await here.policies.of(DOMAIN) == both[0]
        assert here.asked == 1


async def test_a_domain_without_a_record_is_not_asked(authority: Authority) -> None:
    async with site(authority) as here:
        for entries in ([{"TXT": "v=spf1 -all"}], ["SERVFAIL"], [{"TXT": "v=STSv1; id=-"}]):
            here.publish(entries)
            assert await here.policies.of(DOMAIN) is None
        assert here.asked == 0


async def test_what_is_known_holds_when_the_record_is_gone_until_it_is_too_old(authority: Authority) -> None:
    async with site(authority) as here:
        known = await here.policies.of(DOMAIN)
        for entries in ([{"TXT": "nothing"}], ["TIMEOUT"]):
            here.publish(entries)
            assert await here.policies.of(DOMAIN) == known
        here.now = 604_800
        assert await here.policies.of(DOMAIN) is None


async def test_a_new_id_is_a_new_policy_and_one_that_cannot_be_had_leaves_the_old(authority: Authority) -> None:
    async with site(authority) as here:
        known = await here.policies.of(DOMAIN)
        here.publish([{"TXT": "v=STSv1; id=2"}])
        here.answer = web.Response(status=500)
        assert await here.policies.of(DOMAIN) == known
        assert here.failures == ["sts-policy-fetch-error"]
        here.answer = web.Response(text=POLICY.replace("enforce", "testing"))
        here.publish([{"TXT": "v=STSv1; id=3"}])
        changed = await here.policies.of(DOMAIN)
        assert changed is not None
        assert changed.mode == "testing"


async def test_a_day_old_it_is_fetched_behind_the_mail(authority: Authority) -> None:
    async with site(authority) as here:
        known = await here.policies.of(DOMAIN)
        here.now = RENEW_S + 1
        here.answer = web.Response(text=POLICY.replace("enforce", "none"))
        assert await here.policies.of(DOMAIN) == known
        await until(lambda: here.asked == 2 and not here.policies._fetching)
        assert await here.policies.of(DOMAIN) is None


BAD = [
    (web.Response(status=404), "sts-policy-fetch-error"),
    (web.Response(status=301, headers={"Location": f"https://mta-sts.d.test{PATH}"}), "sts-policy-fetch-error"),
    (web.Response(text=POLICY, content_type="text/html"), "sts-policy-fetch-error"),
    (web.Response(text="no policy"), "sts-policy-invalid"),
    (web.Response(text=POLICY + "x: y\n" * MAX_POLICY), "sts-policy-invalid"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
async def test_what_is_no_policy_is_none_and_is_left_alone_for_a_while(case: int, authority: Authority) -> None:
    answer, result = BAD[case]
    async with site(authority) as here:
        here.answer = web.Response(
            status=answer.status, body=answer.body, content_type=answer.content_type, headers={**_location(answer)}
        )
        assert await here.policies.of(DOMAIN) is None
        assert await here.policies.of(DOMAIN) is None
        assert (here.asked, here.failures) == (1, [result])
        here.answer, here.now = None, RETRY_S
        assert await here.policies.of(DOMAIN) is not None


def _location(answer: web.Response) -> dict[str, str]:
    return {"Location": answer.headers["Location"]} if "Location" in answer.headers else {}


async def test_a_server_without_a_good_certificate_is_not_believed(authority: Authority) -> None:
    async with site(authority, is_bad=True) as here:
        assert await here.policies.of(DOMAIN) is None
        assert (here.asked, here.failures) == (0, ["sts-webpki-invalid"])


class Notebook:
    """mtasts.Memory: a dict."""

    def __init__(self, **known: Remembered) -> None:
        self.known = {domain.replace("_", "."): each for domain, each in known.items()}

    def recall(self, domain: str) -> Remembered | None:
        return self.known.get(domain)

    def keep(self, domain: str, id: str, policy: Policy) -> None:
        self.known[domain] = Remembered(policy, id, 0.0, float(policy.max_age_s))

    def forget(self, domain: str) -> None:
        self.known.pop(domain, None)


ENFORCED = Policy("enforce", ("mx.d.test",), 604_800)


@pytest.mark.parametrize("entries", [[{"TXT": "nothing"}], ["TIMEOUT"]], ids=["no record", "no DNS"])
async def test_a_restart_does_not_forget_what_holds(authority: Authority, entries: Entries) -> None:
    notebook = Notebook()
    async with site(authority, memory=notebook) as here:
        known = await here.policies.of(DOMAIN)
        assert known == ENFORCED
    async with site(authority, memory=notebook) as after:
        after.publish(entries)
        assert await after.policies.of(DOMAIN) == known
        assert after.asked == 0
        after.now = 604_800
        notebook.known.clear()  # as its own clock has it
        assert await after.policies.of(DOMAIN) is None


async def test_a_web_server_that_is_kept_from_us_after_a_restart_changes_nothing(authority: Authority) -> None:
    async with site(authority, memory=Notebook(d_test=Remembered(ENFORCED, "1", 10.0, 604_790.0)), is_bad=True) as here:
        here.publish([{"TXT": "v=STSv1; id=2"}])
        assert await here.policies.of(DOMAIN) == ENFORCED
        assert here.failures == ["sts-webpki-invalid"]
        here.publish()
        assert await here.policies.of(DOMAIN) == ENFORCED


async def test_what_is_remembered_is_fetched_again_when_it_is_a_day_old(authority: Authority) -> None:
    notebook = Notebook(d_test=Remembered(ENFORCED, "1", RENEW_S - 5, 604_800.0 - RENEW_S + 5))
    async with site(authority, POLICY.replace("enforce", "testing"), memory=notebook) as here:
        assert await here.policies.of(DOMAIN) == ENFORCED
        assert here.asked == 0
        here.now = 6.0
        assert await here.policies.of(DOMAIN) == ENFORCED
        await until(lambda: here.asked == 1 and not here.policies._fetching)
        assert notebook.known[DOMAIN].policy.mode == "testing"


async def test_a_policy_that_ends_one_is_remembered_too(authority: Authority) -> None:
    notebook = Notebook(d_test=Remembered(ENFORCED, "1", 0.0, 604_800.0))
    async with site(authority, POLICY.replace("enforce", "none"), memory=notebook) as here:
        here.publish([{"TXT": "v=STSv1; id=2"}])
        assert await here.policies.of(DOMAIN) is None
        assert notebook.known[DOMAIN].policy.mode == "none"


async def test_too_many_names_are_not_kept(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtasts, "MAX_NAMES", 1)
    async with site(authority) as here:
        assert await here.policies.of(DOMAIN) is not None
        here.policies._keep("e.test", mtasts._Kept(ENFORCED, "1", RENEW_S, 604_800))
        assert await here.policies.of(DOMAIN) is not None
        assert here.asked == 2
        assert here.policies._kept.weight == 1


async def test_a_flood_of_other_domains_does_not_push_out_one_that_mail_goes_to(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their policies are good and newer; the one of before holds though its record is kept from us meanwhile."""
    monkeypatch.setattr(mtasts, "MAX_KEPT", 100)
    notebook = Notebook()
    async with site(authority, memory=notebook) as here:
        known = await here.policies.of(DOMAIN)
        here.now = PROOF_S
        assert await here.policies.of(DOMAIN) == known
        for number in range(1000):
            notebook.keep(f"d{number}.test", "1", ENFORCED)
            here.policies._keep(f"d{number}.test", mtasts._Kept(ENFORCED, "1", RENEW_S, 604_800))
        here.publish(["TIMEOUT"])
        assert await here.policies.of(DOMAIN) == known
        assert here.asked == 1
        assert len(here.policies._kept) == len(notebook.known) == 100
        assert DOMAIN in notebook.known


async def test_one_that_is_over_holds_no_longer_where_it_cannot_be_had_anew(authority: Authority) -> None:
    async with site(authority) as here:
        assert await here.policies.of(DOMAIN) is not None
        here.now = 604_800
        here.answer = web.Response(status=500)
        for _ in range(2):
            assert await here.policies.of(DOMAIN) is None
        assert here.asked == 2
        here.answer, here.now = None, here.now + RETRY_S
        assert await here.policies.of(DOMAIN) is not None
