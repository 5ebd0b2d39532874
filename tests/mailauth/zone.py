"""A `Resolver` over a dict, in the YAML form of the openspf suite: `{"example.com": [{"A": "192.0.2.1"}, "TIMEOUT"]}`.

Types: A, AAAA, MX [preference, host], TXT and SPF (a string or its pieces), PTR, CNAME, TLSA [usage, selector,
matching, hex]. A name without TXT answers TXT with its SPF records, unless it has `{"TXT": "NONE"}`. Besides:

- `"TIMEOUT"`, `"SERVFAIL"`, `"REFUSED"`: so fails every type that the name has no records of;
  `{"SERVFAIL": "MX"}` one type, whatever records there are.
- `{"TTL": 60}` for the name instead of the zone's; `"STALE"`: its answers are past their TTL.
- `*.example.com` as RFC 4592 has it. PTR records stand at their `in-addr.arpa` or `ip6.arpa` name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from smtpguard.mailauth.dns import Answer, IpAddress, Mx, Status, Tlsa

Entries = Sequence[str | Mapping[str, Any]]
FAULTS: Final = {"TIMEOUT": "timeout", "SERVFAIL": "servfail", "REFUSED": "refused"}
CNAMES: Final = 8
"""A longer chain is taken for a loop, behind which there is nothing."""


class Zone:
    """Answers at once, in the order of the data. `asked` holds every question as (type, name)."""

    def __init__(self, data: Mapping[str, Entries], *, ttl: int = 300) -> None:
        self._data = {_key(name): _entries(entries) for name, entries in data.items()}
        self._inner = {parent for name in self._data for parent in _parents(name)}
        self._ttl = ttl
        self.asked: list[tuple[str, str]] = []

    async def a(self, name: str) -> Answer[IPv4Address]:
        return self._answer("A", name, IPv4Address)

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        return self._answer("AAAA", name, IPv6Address)

    async def mx(self, name: str) -> Answer[Mx]:
        answer = self._answer("MX", name, lambda pair: Mx(int(pair[0]), _key(pair[1])))
        return _with(answer, sorted(answer.records, key=lambda mx: mx.preference))

    async def txt(self, name: str) -> Answer[bytes]:
        return self._answer("TXT", name, _octets)

    async def ptr(self, address: IpAddress) -> Answer[str]:
        return self._answer("PTR", address.reverse_pointer, _key)

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        return self._answer("TLSA", name, lambda t: Tlsa(int(t[0]), int(t[1]), int(t[2]), bytes.fromhex(t[3])))

    def _answer(self, kind: str, name: str, read: Any) -> Answer[Any]:
        self.asked.append((kind, name))
        labels = name.split(".")
        if len(name) > 253 or not all(0 < len(label) < 64 for label in labels):
            return Answer(Status.NXDOMAIN, ttl=self._ttl)
        canonical = ""
        for _ in range(CNAMES):
            target = canonical or _key(name)
            found = self._of(target)
            if found is None:
                status = Status.NODATA if target in self._inner else Status.NXDOMAIN
                return Answer(status, ttl=self._ttl, canonical=canonical)
            if "CNAME" not in found:
                return self._here(kind, found, canonical, read)
            canonical = _key(found["CNAME"][0])
        return Answer(Status.NODATA, ttl=self._ttl, canonical=canonical)

    def _here(self, kind: str, found: Mapping[str, list[Any]], canonical: str, read: Any) -> Answer[Any]:
        ttl = int(found.get("TTL", [self._ttl])[0])
        values = found.get(kind, found.get("SPF", ()) if kind == "TXT" else ())
        records = tuple(read(value) for value in values if value != "NONE")
        fault = next((FAULTS[word] for word in FAULTS if kind in found.get(word, ())), "")
        if not records and not fault:
            fault = next((FAULTS[word] for word in FAULTS if "" in found.get(word, ())), "")
        if fault:
            return Answer(Status.TEMPFAIL, ttl=min(ttl, 5), fault=fault)
        status = Status.POSITIVE if records else Status.NODATA
        return Answer(status, records, ttl, canonical, is_stale="STALE" in found)

    def _of(self, name: str) -> Mapping[str, list[Any]] | None:
        """What stands at a name, or at the wildcard of its closest encloser (RFC 4592 3.3.1)."""
        if name in self._data or name in self._inner:
            return self._data.get(name)
        encloser = next((parent for parent in _parents(name) if parent in self._data or parent in self._inner), "")
        return self._data.get(f"*.{encloser}")


def _entries(entries: Entries) -> dict[str, list[Any]]:
    """By type; a word that stands alone has the one value ""."""
    found: dict[str, list[Any]] = {}
    for entry in entries:
        for kind, value in {entry: ""}.items() if isinstance(entry, str) else entry.items():
            found.setdefault(kind, []).append(value)
    return found


def _with(answer: Answer[Mx], records: Iterable[Mx]) -> Answer[Mx]:
    return Answer(answer.status, tuple(records), answer.ttl, answer.canonical, answer.fault, is_stale=answer.is_stale)


def _octets(value: str | bytes | Sequence[str]) -> bytes:
    if isinstance(value, bytes):
        return value
    return "".join(value).encode("latin-1")


def _key(name: str) -> str:
    return name.lower().removesuffix(".")


def _parents(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(1, len(labels))]
