"""How a value is written, and what it becomes: durations, sizes, addresses, networks, patterns.

Every function here takes what TOML (or the environment) gave and returns the one type that the program uses,
or raises ValueError with a sentence that names the value and shows how to write it. Nothing is read or
looked up here: whether a file exists or a host answers is not this file's question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeVar

from smtpguard.mail.domain import to_ascii
from smtpguard.mail.reply import Verb, clean

Network = IPv4Network | IPv6Network
T = TypeVar("T")


def shown(value: object) -> str:
    """A value as its writer knows it, for a message: one line, printable, at most 60 characters."""
    try:
        text = f"'{value}'" if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    except (ValueError, RecursionError):  # an endless number, endless brackets
        return "this"
    text = clean(text, utf8=True)
    return text if len(text) <= 60 else text[:56] + " ..."


# --- numbers with a unit ---------------------------------------------------------------------------------------

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
# SI, and IEC 80000-13
_OCTETS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_DURATION: Final = re.compile(r"([0-9]{1,9})(ms|[smhd])", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]{1,16}) ?([A-Za-z]{0,3})", re.ASCII)
MAX_SIZE: Final = 2**50  # 1 PiB: no message or memory is larger, and sums of it stay within 64 bits


def duration(value: object) -> float:
    """`"30s"` in seconds. Units: ms, s, m, h, d; a whole number before it."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found:
        return int(found[1]) * _SECONDS[found[2]]
    if re.fullmatch("[0-9]{1,9}", str(value), re.ASCII):
        raise ValueError(f'{shown(value)} has no unit: write "{value}s"')
    raise ValueError(f'{shown(value)} is not a duration such as "500ms", "30s", "5m", "2h" or "30d"')


def size(value: object) -> int:
    """`"25MiB"` in octets. Units: B, KB, MB, GB (powers of 1,000), KiB, MiB, GiB; a plain number is octets."""
    octets = -1
    if isinstance(value, int) and not isinstance(value, bool):
        octets = value
    elif isinstance(value, str) and (found := _SIZE.fullmatch(value)) and found[2].upper() in _OCTETS:
        octets = int(found[1]) * _OCTETS[found[2].upper()]
    if 0 <= octets <= MAX_SIZE:
        return octets
    raise ValueError(f'{shown(value)} is not a size such as "512KiB", "25MiB", "10MB" or 1048576')


def mode(value: object) -> int:
    """The permission bits of a socket, `"0660"`; in quotes, as TOML has no plain octal numbers."""
    if isinstance(value, str) and re.fullmatch("0?[0-7]{3}", value, re.ASCII):
        return int(value, 8)
    raise ValueError(f'{shown(value)} is not a mode such as "0660" (octal, in quotes)')


# --- addresses -------------------------------------------------------------------------------------------------


class ListenAddress(NamedTuple):
    """Where to listen: a host and port (0: any free port), or the path of a Unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.path) or is_loopback(self.host)


# RFC 1123 2.1: labels of letters, digits and inner hyphens, 63 at most each, 253 in all. The underscore is let
# through as container networks name hosts with it.
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
# As above, with U-labels (RFC 6531 lets them into addresses) and a leading "*." for all subdomains.
_DOMAIN: Final = re.compile(r"(?=.{1,253}$)(?:\*\.)?[\w](?:[\w-]*\w)?(?:\.\w(?:[\w-]*\w)?)*")
# RFC 5321 4.1.1.1: ehlo-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
_KEYWORD: Final = re.compile(r"[A-Z0-9][A-Z0-9-]*", re.ASCII)
_LISTEN: Final = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_SUN_PATH: Final = 107  # unix(7): sun_path holds 108 octets with the closing NUL


def is_ip(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host, by its name alone, is this machine."""
    return ip_address(host).is_loopback if is_ip(host) else host.rstrip(".").lower() == "localhost"


def host_name(value: object) -> str:
    """A host name, or "" for none."""
    if value == "" or (isinstance(value, str) and _HOST.fullmatch(value) and not is_ip(value)):
        return str(value)
    raise ValueError(f"{shown(value)} is not a host name")


def source_address(value: object) -> str:
    """An IP address, or "" for none."""
    if value == "" or (isinstance(value, str) and is_ip(value)):
        return str(value)
    raise ValueError(f"{shown(value)} is not an IP address")


def listen_address(text: str) -> ListenAddress:
    """One address to listen at: `host:port`, `[v6]:port` or `unix:/path`."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or not path.isprintable():
            raise ValueError(f"{shown(text)} needs an absolute path, as in unix:/run/smtpguard/lmtp.sock")
        if len(path.encode(errors="replace")) > _SUN_PATH:
            raise ValueError(f"{shown(text)} is too long for a Unix socket: {_SUN_PATH} octets at most")
        return ListenAddress("", 0, path)
    if not (found := _LISTEN.fullmatch(text)):
        raise ValueError(f"{shown(text)} is not host:port, [address]:port or unix:/path")
    host, port = found["host"] or found["v6"] or "", int(found["port"])
    if host in ("", "*"):
        raise ValueError(f"{shown(text)} has no host: write 0.0.0.0:{port} or [::]:{port} for all addresses")
    if port > 65_535:
        raise ValueError(f"{shown(text)} has a port above 65535")
    if not (is_ip(host) and ":" in host if found["v6"] is not None else is_ip(host) or _HOST.fullmatch(host)):
        raise ValueError(f"{shown(text)} is not host:port, [address]:port or unix:/path")
    return ListenAddress(host, port)


def http_address(value: object) -> ListenAddress | None:
    """The one address of the HTTP listener; "" is None: off."""
    if value == "":
        return None
    address = listen_address(value) if isinstance(value, str) else None
    if address is None or address.path:
        raise ValueError(f"{shown(value)} is not host:port")
    return address


_MAPPED: Final = IPv6Network("::ffff:0:0/96")  # RFC 4291 2.5.5.2: IPv4 seen through an IPv6 socket


def network(text: str) -> Network:
    """`10.0.0.0/8` or one address. An IPv4-mapped network is the IPv4 network that it stands for."""
    try:
        found = ip_network(text)
    except ValueError:
        try:
            meant = ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"{shown(text)} is not a network such as 10.0.0.0/8 or an address") from None
        raise ValueError(f"{shown(text)} has bits set beyond its prefix: write {meant}") from None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        mapped = found.network_address.ipv4_mapped
        return IPv4Network(f"{mapped}/{found.prefixlen - 96}")
    return found


def is_open(net: Network) -> bool:
    """Whether a network takes in strangers: all of the internet, or a part no one organization has.

    Shorter than /8 (IPv4) or /16 (IPv6) and not private; the largest blocks IANA ever gave to one user are /8.
    """
    if isinstance(net, IPv6Network) and net.supernet_of(_MAPPED):
        return True
    return net.prefixlen < (8 if net.version == 4 else 16) and not net.is_private


# --- one or many -----------------------------------------------------------------------------------------------


def _each(value: object, convert: Callable[[str], T]) -> tuple[T, ...]:
    """A string or a list of strings, each converted; "" alone is none."""
    if value == "":
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{shown(value)} is neither a string nor a list of strings")
    return tuple(convert(text) for text in texts)


def listen_addresses(value: object) -> tuple[ListenAddress, ...]:
    """A string or a list of them; "" is (): off."""
    return _each(value, listen_address)


def networks(value: object) -> tuple[Network, ...]:
    """A string or a list of them."""
    return _each(value, network)


def hosts(value: object) -> tuple[str, ...]:
    """The hosts of a next hop: names and addresses, or "sandbox" or "mx" alone."""

    def host(text: str) -> str:
        if not is_ip(text) and not _HOST.fullmatch(text):
            bare, colon, port = text.rpartition(":")
            if colon and port.isdecimal():
                raise ValueError(f"{shown(text)} is not a host: the port has its own key, write host = {shown(bare)}")
            bare = text.removeprefix("[").removesuffix("]")  # as Postfix writes a host whose MX is not asked for
            if is_ip(bare) or _HOST.fullmatch(bare):
                raise ValueError(f"{shown(text)} is not a host: write {shown(bare)}, without brackets")
            raise ValueError(f"{shown(text)} is not a host name or an address")
        return text

    found = _each(value, host)
    for word in ("sandbox", "mx"):
        if word in found and len(found) > 1:
            raise ValueError(f"'{word}' stands alone: no other host beside it")
    return found


def domains(value: object) -> tuple[str, ...]:
    """Domain patterns in lower case and A-labels: `example.org`, `*.example.org` for all below it, `*` for any."""

    def domain(text: str) -> str:
        if text == "*":
            return text
        name = to_ascii(text.removeprefix("*.")) if _DOMAIN.fullmatch(text) else ""
        if not name:
            raise ValueError(f"{shown(text)} is not a domain such as example.org or *.example.org")
        return f"*.{name}" if text.startswith("*.") else name

    return _each(value, domain)


_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", re.ASCII)


def names(value: object) -> tuple[str, ...]:
    """Words of letters, digits, dots and hyphens: rules, selectors, zones of blocklists."""

    def name(text: str) -> str:
        if not _NAME.fullmatch(text):
            raise ValueError(f"{shown(text)} is not a name of letters, digits, dots and hyphens")
        return text

    return _each(value, name)


def public_addresses(value: object) -> tuple[IPv4Address | IPv6Address, ...]:
    """IP addresses as receivers see them. Private ones are let through: a lab has no others."""

    def address(text: str) -> IPv4Address | IPv6Address:
        try:
            return ip_address(text)
        except ValueError:
            raise ValueError(f"{shown(text)} is not an IP address") from None

    return _each(value, address)


def name_servers(value: object) -> tuple[str, ...]:
    """Name servers: `127.0.0.1`, `127.0.0.1:5353`, `[::1]:5353`."""

    def server(text: str) -> str:
        if not is_ip(text):
            found = _LISTEN.fullmatch(text)
            if not found or not is_ip(found["v6"] or found["host"] or "") or not 0 < int(found["port"]) < 65_536:
                raise ValueError(f"{shown(text)} is not the address of a name server such as 127.0.0.1:5353")
        return text

    return _each(value, server)


_CATEGORY: Final = re.compile(r"[a-z_]+(\.([a-z_]+|\*))?|\*", re.ASCII)
_ADDRESS: Final = re.compile(r"[^\s@]+@[^\s@]+")


def categories(value: object) -> tuple[str, ...]:
    """Categories of refusals: `auth.spf`, `auth.*`, `*`."""

    def category(text: str) -> str:
        if not _CATEGORY.fullmatch(text):
            raise ValueError(f"{shown(text)} is not a category such as auth.spf or reputation.*")
        return text

    return _each(value, category)


_PERMANENCES: Final = ("permanent", "until_fixed", "transient", "message", "unknown")


def permanences(value: object) -> tuple[str, ...]:
    """How long a cause lasts (classify/categories.toml)."""

    def permanence(text: str) -> str:
        if text not in _PERMANENCES:
            raise ValueError(f"{shown(text)} is not one of {', '.join(_PERMANENCES)}")
        return text

    return _each(value, permanence)


def verbs(value: object) -> tuple[Verb, ...]:
    """SMTP verbs, as the log names them."""

    def verb(text: str) -> Verb:
        try:
            return Verb(text.upper())
        except ValueError:
            raise ValueError(f"{shown(text)} is not one of {', '.join(Verb)}") from None

    return _each(value, verb)


def address_patterns(value: object) -> tuple[str, ...]:
    """Addresses in lower case; `*` stands for any text, as in `postmaster@*`."""

    def pattern(text: str) -> str:
        if not _ADDRESS.fullmatch(text):
            raise ValueError(f"{shown(text)} is not an address such as postmaster@example.org or abuse@*")
        return text.lower()

    return _each(value, pattern)


_STORE: Final = re.compile(r"sqlite:///.+|postgres(ql)?://\S+")


def store_url(value: object) -> str:
    """Where the history is kept: `sqlite:////path`, `postgresql://...`, or "" for memory. It may hold a password."""
    if value == "" or (isinstance(value, str) and _STORE.fullmatch(value)):
        return str(value)
    raise ValueError('is not "", "sqlite:////path/of/file" or "postgresql://host/database"')


def web_address(value: object) -> str:
    """An http or https address, or "" for none. It may hold a secret, so it is not repeated."""
    if value == "" or (isinstance(value, str) and re.fullmatch(r"https?://[^\s/]+\S*", value, re.ASCII)):
        return str(value)
    raise ValueError("is not an address that begins with https://")


def keywords(value: object) -> tuple[str, ...]:
    """EHLO keywords in upper case."""

    def keyword(text: str) -> str:
        if not _KEYWORD.fullmatch(text.upper()):
            raise ValueError(f"{shown(text)} is not an EHLO keyword such as CHUNKING")
        return text.upper()

    return _each(value, keyword)


def files(value: object) -> tuple[str, ...]:
    """Paths of files or folders, or patterns of them."""
    return tuple(path for path in _each(value, file) if path)


# --- text ------------------------------------------------------------------------------------------------------


def line(value: object) -> str:
    """One line of printable text, at most 200 characters."""
    if isinstance(value, str) and value.isprintable() and len(value) <= 200:
        return value
    raise ValueError(f"{shown(value)} is not one line of printable text, 200 characters at most")


def file(value: object) -> str:
    """The path of a file or folder, or "" for none. What was written is not repeated: it may be a secret misplaced."""
    if isinstance(value, str) and value.isprintable():
        return value
    raise ValueError("is not the path of a file, in quotes")
