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

from smtpguard.edge.connect import Address
from smtpguard.edge.mtasts import RENEW_S, RETRY_S, Policies
from smtpguard.mailauth.dns import Answer
from smtpguard.mailauth.mtasts import MAX_POLICY, PATH
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
    authority: tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext], text: str = POLICY, *, is_bad: bool = False
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
    policies = Policies(Current({}), Names(), client, clock=lambda: here.now, failed=failures.append)
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
