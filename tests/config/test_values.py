"""How values are written: tables of good and bad ones, and properties over random ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.config import values
from smtpguard.config.values import ListenAddress

Convert = Callable[[object], object]

GOOD: list[tuple[Convert, object, object]] = [
    (values.duration, "30s", 30.0),
    (values.duration, "500ms", 0.5),
    (values.duration, "5m", 300.0),
    (values.duration, "2h", 7_200.0),
    (values.duration, "30d", 2_592_000.0),
    (values.duration, "0s", 0.0),
    (values.size, 1_048_576, 1_048_576),
    (values.size, "1048576", 1_048_576),
    (values.size, "25MiB", 25 * 2**20),
    (values.size, "10MB", 10_000_000),
    (values.size, "512 kib", 512 * 2**10),
    (values.mode, "0660", 0o660),
    (values.mode, "600", 0o600),
    (values.listen_addresses, "", ()),
    (values.listen_addresses, "127.0.0.1:0", (ListenAddress("127.0.0.1", 0),)),
    (values.listen_addresses, "[::1]:10724", (ListenAddress("::1", 10724),)),
    (values.listen_addresses, "localhost:25", (ListenAddress("localhost", 25),)),
    (values.listen_addresses, ["unix:/run/x", "[::]:25"], (ListenAddress("", 0, "/run/x"), ListenAddress("::", 25))),
    (values.http_address, "", None),
    (values.http_address, "127.0.0.1:9125", ListenAddress("127.0.0.1", 9125)),
    (values.networks, "10.0.0.0/8", (ip_network("10.0.0.0/8"),)),
    (values.networks, ["192.0.2.1", "::1/128"], (ip_network("192.0.2.1/32"), ip_network("::1/128"))),
    (values.networks, "::ffff:10.0.0.0/104", (ip_network("10.0.0.0/8"),)),
    (values.networks, "::ffff:0:0/96", (ip_network("0.0.0.0/0"),)),
    (values.hosts, "smtp.example.net", ("smtp.example.net",)),
    (values.hosts, ["mx_1", "192.0.2.1", "2001:db8::1"], ("mx_1", "192.0.2.1", "2001:db8::1")),
    (values.hosts, "sandbox", ("sandbox",)),
    (values.domains, ["*.Example.org", "bücher.example"], ("*.example.org", "xn--bcher-kva.example")),
    (values.domains, "*.BÜCHER.example", ("*.xn--bcher-kva.example",)),
    (values.domains, "*", ("*",)),
    (values.keywords, "chunking", ("CHUNKING",)),
    (values.host_name, "", ""),
    (values.source_address, "2001:db8::1", "2001:db8::1"),
]


@pytest.mark.parametrize(("convert", "written", "meant"), GOOD)
def test_a_value_as_it_may_be_written(convert: Convert, written: object, meant: object) -> None:
    assert convert(written) == meant


BAD: list[tuple[Convert, object, str]] = [
    (values.duration, 30, '30 has no unit: write "30s"'),
    (values.duration, "30", "'30' has no unit: write \"30s\""),
    (values.duration, "1.5h", "'1.5h' is not a duration such as"),
    (values.duration, "-1s", "'-1s' is not a duration"),
    (values.duration, True, "true is not a duration"),
    (values.duration, "٣s", "is not a duration"),
    (values.size, "5 parsec", "'5 parsec' is not a size such as"),
    (values.size, -1, "-1 is not a size"),
    (values.size, True, "true is not a size"),
    (values.size, "9999999999999999GiB", "is not a size"),
    (values.size, 2**20_000, "this is not a size"),  # more digits than Python prints
    (values.mode, 660, '660 is not a mode such as "0660"'),
    (values.mode, "0999", "'0999' is not a mode"),
    (values.listen_addresses, ":25", "':25' has no host: write 0.0.0.0:25 or [::]:25 for all addresses"),
    (values.listen_addresses, "::1:25", "'::1:25' is not host:port"),
    (values.listen_addresses, "[127.0.0.1]:25", "is not host:port"),
    (values.listen_addresses, "127.0.0.1", "is not host:port"),
    (values.listen_addresses, "127.0.0.1:65536", "has a port above 65535"),
    (values.listen_addresses, "unix:run/x", "needs an absolute path"),
    (values.listen_addresses, "unix:/" + "x" * 107, "too long for a Unix socket"),
    (values.listen_addresses, "unix:/a\x00b", "needs an absolute path"),
    (values.listen_addresses, ["127.0.0.1:1", ""], "'' is not host:port"),
    (values.listen_addresses, "*:25", "write 0.0.0.0:25 or [::]:25 for all addresses"),
    (values.listen_addresses, 25, "25 is neither a string nor a list of strings"),
    (values.listen_addresses, [25], "[25] is neither a string nor a list of strings"),
    (values.http_address, "unix:/run/x", "'unix:/run/x' is not host:port"),
    (values.http_address, ["127.0.0.1:1"], "is not host:port"),
    (values.networks, "10.0.0.1/8", "'10.0.0.1/8' has bits set beyond its prefix: write 10.0.0.0/8"),
    (values.networks, "example.org", "'example.org' is not a network"),
    (values.hosts, ["sandbox", "a.example"], "'sandbox' stands alone"),
    (values.hosts, "a.example:25", "the port has its own key, write host = 'a.example'"),
    (values.hosts, "[192.0.2.1]", "write '192.0.2.1', without brackets"),
    (values.hosts, "[a.example]", "write 'a.example', without brackets"),
    (values.hosts, "a b", "'a b' is not a host name or an address"),
    (values.hosts, ["a.example", ""], "'' is not a host name"),
    (values.host_name, "-a.example", "is not a host name"),
    (values.host_name, "a" * 64 + ".example", "is not a host name"),
    (values.host_name, "192.0.2.1", "is not a host name"),
    (values.source_address, "eth0", "'eth0' is not an IP address"),
    (values.domains, "*example.org", "'*example.org' is not a domain"),
    (values.domains, "user@example.org", "is not a domain"),
    (values.keywords, "SIZE 5", "is not an EHLO keyword"),
    (values.line, "a\nb", "'a b' is not one line of printable text"),
    (values.file, ["x"], "is not the path of a file"),
]


@pytest.mark.parametrize(("convert", "written", "said"), BAD, ids=[str(index) for index in range(len(BAD))])
def test_a_value_that_will_not_do(convert: Convert, written: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        convert(written)


OPEN = ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "192.0.0.0/2", "2000::/3", "::/64", "10.0.0.0/7"]
CLOSED = ["127.0.0.0/8", "10.0.0.0/8", "192.0.2.0/24", "8.0.0.0/8", "::1/128", "fc00::/7", "2001:db8::/32", "fe80::/10"]


@pytest.mark.parametrize("text", OPEN)
def test_a_network_of_strangers(text: str) -> None:
    assert values.is_open(values.network(text))


@pytest.mark.parametrize("text", CLOSED)
def test_a_network_of_ones_own(text: str) -> None:
    assert not values.is_open(values.network(text))


@given(st.integers(0, 10**9 - 1), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_durations_grow_with_their_number(number: int, unit: str) -> None:
    assert values.duration(f"{number}{unit}") == pytest.approx(number * values.duration(f"1{unit}"))


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_an_address_reads_back_as_it_prints(host: object, port: int) -> None:
    address = ListenAddress(str(host), port)
    assert values.listen_address(str(address)) == address


NAMES = ["duration", "size", "mode", "listen_addresses", "http_address", "networks", "hosts", "domains"]
CONVERTS: list[Convert] = [
    getattr(values, name) for name in [*NAMES, "keywords", "host_name", "source_address", "line"]
]
ODD = st.text() | st.integers() | st.floats() | st.booleans() | st.dates() | st.none()


@given(st.sampled_from(CONVERTS), ODD | st.lists(ODD) | st.dictionaries(st.text(), ODD))
def test_nothing_but_value_error_on_one_clean_line(convert: Convert, written: object) -> None:
    said = ""
    try:
        convert(written)
    except ValueError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 300
