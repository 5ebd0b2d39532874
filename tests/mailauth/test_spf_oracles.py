"""SPF against the openspf suite, pyspf and Mail::SPF, each where it is to be had.

The made-up zones leave out what the two libraries do in their own way: pyspf counts a redirect= that it never follows
and asks for %{p} of terms that it never meets, both look up all that a `ptr` or an `mx` could want where we stop at the
match; Mail::SPF lets ip6:::/0 match IPv4, as RFC 4408 had it. So limits are tried without redirect=, and hosts behind
MX and PTR have addresses of both kinds. pyspf reads no macro in a modifier that it does not know (`x=%{`), Mail::SPF a
macro only when it comes to the term: where RFC 7208 4.6 has a syntax error anywhere end the check, it may pass before.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from smtpguard.mailauth.dns import Answer, Mx, Status
from smtpguard.mailauth.spf import Result, check
from tests.mailauth.zone import Entries, Zone

_SUITE: Final = Path(__file__).resolve().parents[3] / "shared" / "data" / "spf" / "rfc7208-tests.yml"


def suite() -> list[Any]:
    if not _SUITE.exists():
        return []
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    cases = []
    for part in yaml.safe_load_all(_SUITE.read_text(encoding="utf-8")):
        cases += [pytest.param(case, part["zonedata"], id=name) for name, case in part["tests"].items()]
    return cases


@pytest.mark.skipif(not _SUITE.exists(), reason="the openspf suite is not here")
@pytest.mark.parametrize(("case", "zone"), suite())
async def test_the_openspf_suite(case: dict[str, Any], zone: dict[str, Entries]) -> None:
    local, _, domain = case["mailfrom"].rpartition("@")
    found = await ours(Zone(zone), case["host"], domain or case["helo"], local, case["helo"])
    allowed = [case["result"]] if isinstance(case["result"], str) else case["result"]
    assert found.status in allowed
    if "explanation" in case:  # RFC 7208 7.4 writes %{i} of IPv6 in lower case, the suite in upper
        said = "" if case["explanation"] == "DEFAULT" else case["explanation"]
        assert found.explanation.casefold() == said.casefold()


async def ours(zone: Zone, ip: str, domain: str, local: str, helo: str) -> Result:
    address = ip_address(ip)
    return (await check(zone, [address], domain=domain, local=local, helo=helo))[address]


# --- made-up zones ---------------------------------------------------------------------------------------------------

DOMAINS: Final = [f"d{number}.example.com" for number in range(5)]
HOSTS: Final = ["h0.example.com", "h1.example.com", "mail.d0.example.com"]
NAMES: Final = [*HOSTS, *DOMAINS, "late.example.com", "no.example.com", "v4.example.com"]
MACROS: Final = [
    *("%{i}.list.example.com", "%{ir}.%{v}.list.%{o}", "%{l}.example.com", "%{l1r-}.%{d2}", "%{lr+-}.example.com"),
    *("%{o}", "%{d}", "%{d2r}.example.com", "%{h}", "%{H}.example.com", "h%{d4}", "%{s}", "h0%%.example.com"),
]
BROKEN_MACROS: Final = ["a:%{x}.example.com", "a:%i.example.com"]
BROKEN: Final = [
    *("what", "a:", "a:example", "a/33", "a//129", *BROKEN_MACROS, "include", "exists"),
    *("ip4:192.0.2", "ip4:192.0.2.1/33", "ip4:192.0.2.1/024", "ip6:192.0.2.1", "ip6:2001:db8::/129", "ptr/24"),
    *("all:x", "all.", "redirect:d1.example.com", "exp=", "a:h0.example.com:25", "1x=y", "mx:h0.example.-com"),
]
IPS: Final = ["192.0.2.1", "192.0.2.9", "198.51.100.1", "2001:db8::1", "2001:db8::9", "::ffff:192.0.2.1"]
POOL: Final = st.sampled_from
PREFIXES: Final = ["", "", "", "/24", "//32", "/24//32", "/0", "//0", "/32//128"]


def mechanisms(targets: list[str]) -> st.SearchStrategy[str]:
    """A directive; `targets` are the domains that an include may name."""
    address = st.builds(
        "{}{}{}".format, POOL(["a", "mx"]), POOL(["", *(f":{n}" for n in NAMES + MACROS)]), POOL(PREFIXES)
    )
    kinds = [
        address,
        st.builds("exists:{}".format, POOL(NAMES + MACROS)),
        st.builds("ptr{}".format, POOL(["", ":example.com", ":h0.example.com", ":example.org"])),
        st.builds("ip4:192.0.2.{}{}".format, POOL([0, 1, 9, 128]), POOL(["", "/24", "/31", "/0", "/32"])),
        st.builds("ip6:2001:db8::{}{}".format, POOL(["", "1", "9"]), POOL(["", "/32", "/127", "/16", "/128"])),
        st.just("all"),
    ]
    if targets:
        kinds += [st.builds("include:{}".format, POOL([*targets, *targets, "late.example.com", "no.example.com"]))] * 2
    return st.builds("{}{}".format, POOL(["", "+", "-", "~", "?"]), st.one_of(kinds))


@st.composite
def zones(draw: st.DrawFn) -> dict[str, Entries]:
    """Records of five domains: with includes in any direction, or with redirects and everything downwards."""
    has_redirects = draw(st.booleans())
    data: dict[str, Entries] = {
        "h0.example.com": [{"A": "192.0.2.1"}, {"A": "192.0.2.77"}, {"AAAA": "2001:db8::1"}],
        "h1.example.com": [{"A": "198.51.100.1"}, {"AAAA": "2001:db8:1::1"}],
        "mail.d0.example.com": [{"A": "192.0.2.9"}, {"AAAA": "2001:db8::9"}],
        "v4.example.com": [{"A": "192.0.2.9"}],
        "late.example.com": ["TIMEOUT"],
        "192.0.2.1.list.example.com": [{"A": "127.0.0.2"}],
        "user.example.com": [{"A": "192.0.2.1"}],
        "9.2.0.192.in-addr.arpa": [{"PTR": "h1.example.com"}, {"PTR": "mail.d0.example.com"}],
        "1.2.0.192.in-addr.arpa": [{"PTR": "h0.example.com"}],
    }
    for number, domain in enumerate(DOMAINS):
        above = DOMAINS[number + 1 :]
        targets = above if has_redirects else [other for other in DOMAINS if other != domain]
        terms = draw(st.lists(mechanisms(targets), max_size=3 if has_redirects else 7))
        if draw(st.integers(0, 19)) == 0:
            terms.append(draw(POOL(BROKEN)))
        if has_redirects and above and draw(st.booleans()):
            terms.append(f"redirect={draw(POOL(above))}")
        record: list[dict[str, Any]] = [{"TXT": " ".join(["v=spf1", *draw(st.permutations(terms))])}]
        copies = draw(POOL([0, 1, 1, 1, 1, 1, 1, 1, 1, 2])) if number else 1
        data[domain] = [
            *record * copies,
            {"A": draw(POOL(IPS[:3]))},
            *({"MX": [n, h]} for n, h in enumerate(HOSTS[:number])),
        ]
    return data


Oracle = Callable[[dict[str, Entries], str], str]
SENDER: Final = ("user", "d0.example.com", "h0.example.com")
"""Local part, domain, HELO."""


@pytest.fixture(scope="module")
def pyspf() -> Oracle:
    spf = pytest.importorskip("spf", reason="pyspf is not installed")

    def ask(data: dict[str, Entries], ip: str) -> str:
        zone = Zone(data)

        def look_up(name: str, kind: str, *_: Any, **__: Any) -> list[tuple[tuple[str, str], Any]]:
            answer = zone_answer(zone, kind, name)
            if not answer.is_known:
                raise spf.TempError("DNS")
            return [((name, kind), record) for record in map(text_of, answer.records)]

        spf.DNSLookup = look_up
        local, domain, helo = SENDER
        said: str = spf.query(i=ip, s=f"{local}@{domain}", h=helo).check()[0]
        return said

    return ask


def zone_answer(zone: Zone, kind: str, name: str) -> Answer[Any]:
    """The same answers for libraries that do not wait."""
    if kind not in ("A", "AAAA", "MX", "TXT", "PTR"):
        return Answer(Status.NODATA)
    asked: Any = ip_address(_address(name)) if kind == "PTR" else name
    try:
        getattr(zone, kind.lower())(asked).send(None)
    except StopIteration as stop:
        answer: Answer[Any] = stop.value
        return answer
    raise AssertionError("a zone never waits")


def _address(name: str) -> str:
    labels = name.lower().split(".")[:-2]
    if len(labels) == 4:
        return ".".join(reversed(labels))
    nibbles = "".join(reversed(labels))
    return ":".join(nibbles[at : at + 4] for at in range(0, 32, 4))


def text_of(record: Any) -> Any:
    """An answer's record as pyspf wants it."""
    if isinstance(record, bytes):
        return (record,)
    return record if isinstance(record, tuple | str) else str(record)


PERL: Final = r"""
use strict; use warnings; use JSON::PP; use Mail::SPF; use Net::DNS;
package Zone;
sub new { bless {error => ''}, shift }
sub errorstring { $_[0]{error} }
sub send {
    my ($self, $name, $type) = @_;
    $| = 1;
    print JSON::PP::encode_json({ask => [$type, $name]}), "\n";
    my $answer = JSON::PP::decode_json(scalar <STDIN>);
    $self->{error} = $answer->{fault} ? 'query timed out' : '';
    return undef if $answer->{fault};
    my $packet = Net::DNS::Packet->new($name, $type);
    $packet->header->rcode('NOERROR');
    $packet->push(answer => Net::DNS::RR->new(
        $type eq 'TXT' ? (name => 'x.example', type => 'TXT', txtdata => $_) : "x.example. 60 IN $type $_"
    )) for @{$answer->{records}};
    return $packet;
}
package main;
while (my $line = <STDIN>) {
    my $case = JSON::PP::decode_json($line);
    my $server = Mail::SPF::Server->new(
        dns_resolver => Zone->new, query_rr_types => Mail::SPF::Server->query_rr_type_txt,
    );
    my $request = Mail::SPF::Request->new(
        versions => [1], scope => 'mfrom', identity => $case->{sender}, ip_address => $case->{ip},
        helo_identity => $case->{helo},
    );
    $| = 1;
    print JSON::PP::encode_json({result => $server->process($request)->code}), "\n";
}
"""


@pytest.fixture(scope="module")
def mail_spf() -> Iterator[Oracle]:
    """Mail::SPF in a process of its own, which asks us over its pipes for whatever it looks up."""
    try:
        subprocess.run(["perl", "-MMail::SPF", "-MJSON::PP", "-e1"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("Mail::SPF is not installed")
    perl = subprocess.Popen(["perl", "-e", PERL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert perl.stdin is not None
    assert perl.stdout is not None
    write, read = perl.stdin.write, perl.stdout.readline

    def ask(data: dict[str, Entries], ip: str) -> str:
        zone = Zone(data)
        local, domain, helo = SENDER
        write(json.dumps({"sender": f"{local}@{domain}", "ip": ip, "helo": helo}) + "\n")
        while "ask" in (said := json.loads(read())):
            answer = zone_answer(zone, *said["ask"])
            records = [wire_of(record) for record in answer.records]
            write(json.dumps({"fault": answer.fault, "records": records}) + "\n")
        result: str = said["result"]
        return result

    yield ask
    perl.stdin.close()
    assert perl.wait() == 0
    perl.stdout.close()


def wire_of(record: Any) -> str:
    """An answer's record as a zone file has it; TXT as bare text."""
    if isinstance(record, bytes):
        return record.decode()
    return f"{record.preference} {record.host}." if isinstance(record, Mx) else f"{record}"


@settings(max_examples=150)
@given(zones(), POOL(IPS))
def test_made_up_zones_as_pyspf_has_them(pyspf: Oracle, data: dict[str, Entries], ip: str) -> None:
    assert synchronous(data, ip) == pyspf(data, ip)


@settings(max_examples=60)
@given(zones(), POOL(IPS))
def test_made_up_zones_as_mail_spf_has_them(mail_spf: Oracle, data: dict[str, Entries], ip: str) -> None:
    assume(not any(term in str(data[domain]) for domain in DOMAINS for term in BROKEN_MACROS))
    assert synchronous(data, ip) == mail_spf(data, ip)


def synchronous(data: dict[str, Entries], ip: str) -> str:
    local, domain, helo = SENDER
    try:
        ours(Zone(data), ip, domain, local, helo).send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result.status.value
    raise AssertionError("a zone never waits")
