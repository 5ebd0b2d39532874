"""The zones that tests ask for, read from zones/*.yml, and written as each server wants them.

The form is that of the openspf test suites: a name, and a list of one-key maps from type to value.

    good.test:
      - MX: [10, mx.good.test]
      - TXT: "v=spf1 -all"                  # over 255 octets: split; a list: these strings
      - {A: 192.0.2.1, TTL: 60}
    slow.test:
      - TIMEOUT                             # a fault of the server, see server.py; real daemons leave it out

A name is absolute without a final dot. The zone is the root's: one file serves every name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final, NamedTuple

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import yaml  # type: ignore[import-untyped]

HERE: Final = Path(__file__).parent / "zones"
TTL: Final = 300
SOA: Final = "ns.test. hostmaster.test. 1 3600 600 86400 60"  # its minimum is the TTL of what is not there


class Record(NamedTuple):
    """One record of a name."""

    ttl: int
    rdata: dns.rdata.Rdata


class Zone:
    """Records and faults by name (lower case, no final dot)."""

    def __init__(self, entries: Mapping[str, Iterable[Any]]) -> None:
        self.records: dict[str, list[Record]] = {}
        self.faults: dict[str, str] = {}
        for name, said in entries.items():
            self.put(name, *said)

    def put(self, name: str, *said: str | Mapping[str, Any]) -> None:
        """Give a name these records, and no others; `put(name)` takes it away."""
        name = name.lower()
        self.records.pop(name, None)
        self.faults.pop(name, None)
        for entry in said:
            if isinstance(entry, str):
                self.faults[name] = entry
            else:
                self.records.setdefault(name, []).append(_record(entry))

    def master_file(self) -> str:
        """As the zone of the root in a master file (RFC 1035 5)."""
        lines = [f". {TTL} IN SOA {SOA}", f". {TTL} IN NS ns.test.", f"ns.test. {TTL} IN A 127.0.0.1"]
        for name, records in self.records.items():
            for ttl, rdata in records:
                lines.append(f"{name}. {ttl} IN {dns.rdatatype.to_text(rdata.rdtype)} {rdata.to_text()}")
        return "\n".join(lines) + "\n"

    def datasets(self, zone: str) -> dict[str, str]:
        """The part below a blocklist's zone as rbldnsd(8) reads it: by type of data set, its file."""
        head = f"$SOA {TTL} {SOA}\n$NS {TTL} ns.test\n"
        found: dict[str, list[str]] = {}
        for name, records in self.records.items():
            label = name.removesuffix("." + zone)
            if label == name:
                continue
            kind, key = _dataset(label)
            for ttl, rdata in records:
                found.setdefault(kind, []).append(f"{key} :{rdata.to_text()}:")
                assert ttl == TTL, "rbldnsd has one TTL for a file"
        return {kind: f"{head}$TTL {TTL}\n" + "\n".join(lines) + "\n" for kind, lines in found.items()}


def load(*names: str) -> Zone:
    """The zones of these files (`good` is zones/good.yml) as one; none named: all."""
    paths = [HERE / f"{name}.yml" for name in names] or sorted(HERE.glob("*.yml"))
    entries: dict[str, Any] = {}
    for path in paths:
        part = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert not part.keys() & entries.keys(), f"{path.name}: a name that another file has"
        entries |= part
    return Zone(entries)


def _record(entry: Mapping[str, Any]) -> Record:
    said = dict(entry)
    ttl = said.pop("TTL", TTL)
    ((rdtype, value),) = said.items()
    rdata = dns.rdata.from_text(dns.rdataclass.IN, rdtype, _text(rdtype, value), origin=dns.name.root, relativize=False)
    return Record(ttl, rdata)


def _text(rdtype: str, value: Any) -> str:
    """A value in the form of a master file."""
    if rdtype in ("TXT", "SPF"):
        strings = (
            value if isinstance(value, list) else [value[at : at + 255] for at in range(0, len(value), 255)] or [""]
        )
        return " ".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in strings)
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _dataset(label: str) -> tuple[str, str]:
    """The data set of a blocklist entry, and its key there: addresses are turned round again."""
    labels = label.split(".")[::-1]
    if len(labels) == 4 and all(text.isdigit() for text in labels):
        return "ip4set", str(IPv4Address(".".join(labels)))
    if len(labels) == 32:
        return "ip6trie", f"{IPv6Address(int(''.join(labels), 16))}/128"
    return "dnset", label
