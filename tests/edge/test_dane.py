"""DANE: which records ask something, what a certificate must have, what a host must be reached by."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smtpguard.edge import dane
from smtpguard.edge.destination import MailHost
from smtpguard.mailauth.dns import Answer, Mx, Status, Tlsa
from tests.certs import CaAndServer, ca_and_server, self_signed, server_context
from tests.mailauth.zone import Entries, Zone

HOST = "mx.test"


class Signed(Zone):
    """A zone whose answers are validated, but for the names in `unsigned`."""

    def __init__(self, data: Mapping[str, Entries], *unsigned: str) -> None:
        super().__init__(data)
        self.unsigned = unsigned

    async def mx(self, name: str) -> Answer[Mx]:
        return replace(await super().mx(name), is_secure=name not in self.unsigned)

    def _answer(self, kind: str, name: str, read: Any) -> Answer[Any]:
        return replace(super()._answer(kind, name, read), is_secure=name not in self.unsigned)


def tlsa(certificate: Path, usage: int, selector: int = 0, matching: int = 1) -> Tlsa:
    """The record for a certificate."""
    cert = x509.load_pem_x509_certificate(certificate.read_bytes())
    octets = cert.public_bytes(Encoding.DER)
    if selector:
        octets = cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    hashed = {0: octets, 1: hashlib.sha256(octets).digest(), 2: hashlib.sha512(octets).digest()}
    return Tlsa(usage, selector, matching, hashed[matching])


def written(record: Tlsa) -> Mapping[str, Any]:
    """As a zone has it."""
    return {"TLSA": [record.usage, record.selector, record.matching, record.data.hex()]}


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> CaAndServer:
    """By an authority that nobody knows; the server sends its chain."""
    made = ca_and_server([HOST], directory=tmp_path_factory.mktemp("issued"))
    made.cert.write_bytes(made.cert.read_bytes() + made.ca.read_bytes())
    return made


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> CaAndServer:
    return ca_and_server([HOST], directory=tmp_path_factory.mktemp("other"))


async def handshake(cert: Path, key: Path) -> ssl.SSLObject:
    """A client's side of a finished handshake with this server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    server = server_context(cert, key)
    one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(one, two, server_hostname=HOST)
    peer = server.wrap_bio(two, one, server_side=True)
    for side in (client, peer, client, peer):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    await asyncio.sleep(0)
    return client


FITTING = [(3, 0, 0), (3, 0, 1), (3, 0, 2), (3, 1, 0), (3, 1, 1), (3, 1, 2), (2, 0, 0), (2, 0, 1), (2, 1, 1), (2, 1, 2)]


@pytest.mark.parametrize(("usage", "selector", "matching"), FITTING)
async def test_a_certificate_that_is_named_fits_and_another_does_not(
    usage: int, selector: int, matching: int, issued: CaAndServer, other: CaAndServer
) -> None:
    tls = await handshake(issued.cert, issued.key)
    named = {3: (issued.cert, other.cert), 2: (issued.ca, other.ca)}[usage]
    mine, foreign = (tlsa(path, usage, selector, matching) for path in named)
    assert dane.check([mine], [HOST])(tls) == ""
    assert "none of its TLSA" in dane.check([foreign], [HOST])(tls)
    assert dane.check([foreign, mine], [HOST])(tls) == ""


async def test_an_authority_vouches_for_the_name_and_the_time(issued: CaAndServer, tmp_path: Path) -> None:
    tls = await handshake(issued.cert, issued.key)
    assert dane.check([tlsa(issued.ca, 2)], ["other.test"])(tls)
    assert not dane.check([tlsa(issued.ca, 2)], ["other.test", HOST])(tls)
    old = ca_and_server([HOST], directory=tmp_path, expired=True)
    old.cert.write_bytes(old.cert.read_bytes() + old.ca.read_bytes())
    tls = await handshake(old.cert, old.key)
    assert dane.check([tlsa(old.ca, 2)], [HOST])(tls)
    assert not dane.check([tlsa(old.cert, 3)], [HOST])(tls)  # RFC 7672 3.1.1


async def test_an_authority_in_the_chain_that_did_not_issue_it_vouches_for_nothing(
    issued: CaAndServer, other: CaAndServer, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed.pem"
    mixed.write_bytes(issued.cert.read_bytes() + other.ca.read_bytes())
    tls = await handshake(mixed, issued.key)
    assert dane.check([tlsa(other.ca, 2)], [HOST])(tls)


async def test_a_certificate_signed_by_itself_is_as_good_as_any(tmp_path: Path) -> None:
    cert, key = self_signed(["whatever.test"], directory=tmp_path)
    assert dane.check([tlsa(cert, 3, 1)], [HOST])(await handshake(cert, key)) == ""


UNUSABLE = [
    Tlsa(0, 0, 1, bytes(32)),
    Tlsa(1, 1, 1, bytes(32)),
    Tlsa(3, 2, 1, bytes(32)),
    Tlsa(3, 1, 3, bytes(32)),
    Tlsa(3, 1, 1, bytes(31)),
    Tlsa(3, 0, 0, b""),
]


@pytest.mark.parametrize("record", UNUSABLE, ids=str)
async def test_a_record_that_cannot_be_used_is_met_by_any_certificate(record: Tlsa, issued: CaAndServer) -> None:
    assert not dane.is_usable(record)
    tls = await handshake(issued.cert, issued.key)
    assert dane.check([record], [HOST])(tls) == ""
    assert dane.check([record, Tlsa(3, 1, 1, bytes(32))], [HOST])(tls)


async def test_a_record_that_is_no_certificate_fits_nothing(issued: CaAndServer) -> None:
    tls = await handshake(issued.cert, issued.key)
    assert "cannot be read" in dane.check([Tlsa(2, 0, 0, b"no certificate")], [HOST])(tls)


RECORD = Tlsa(3, 1, 1, bytes(32))


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ({"_25._tcp.mx.test": [written(RECORD)]}, (RECORD,)),
        ({}, ()),
        ({"_25._tcp.mx.test": [{"TXT": "x"}]}, ()),
        ({"_25._tcp.real.test": [written(RECORD)]}, (RECORD,)),
        ({"_25._tcp.real.test": [written(RECORD)], "_25._tcp.mx.test": [written(Tlsa(3, 0, 1, bytes(32)))]}, (RECORD,)),
    ],
    ids=["there", "no name", "no such type", "behind a CNAME", "the name behind comes first"],
)
async def test_records_are_asked_for(zone: Mapping[str, Entries], expected: tuple[Tlsa, ...]) -> None:
    assert await dane.records(Signed(zone), MailHost(HOST, "real.test")) == expected


async def test_records_that_are_not_signed_ask_nothing() -> None:
    zone = {"_25._tcp.mx.test": [written(RECORD)]}
    assert await dane.records(Signed(zone, "_25._tcp.mx.test"), MailHost(HOST, HOST)) == ()


async def test_records_that_cannot_be_looked_up_are_not_taken_for_none() -> None:
    with pytest.raises(dane.Unknown, match="servfail"):
        await dane.records(Signed({"_25._tcp.mx.test": ["SERVFAIL"]}), MailHost(HOST, HOST))
    assert Status.TEMPFAIL is (await Signed({"_25._tcp.mx.test": ["SERVFAIL"]}).tlsa("_25._tcp.mx.test")).status
