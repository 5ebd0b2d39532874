"""What is wrong with settings that are well-formed one by one: contradictions, missing files, open doors.

A check is a generator over finished `Settings`; it yields (key, sentence) for each thing found. `MISTAKES` forbid
a start; with `WARNINGS` the settings are used all the same. Files are opened to see that they can be; of what is in
them, nothing is ever said. No name is looked up and no host is connected to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from smtpguard.config.policy_settings import ACTION_KEYS
from smtpguard.config.rule_files import own_rules
from smtpguard.config.secrets import FileError, load_users, probe
from smtpguard.config.section import KeyPath
from smtpguard.config.settings import ListenSettings, NextHopSettings, Settings
from smtpguard.config.values import ListenAddress, is_ip, is_loopback, is_open

Remark = tuple[KeyPath, str]
Check = Callable[[Settings], Iterator[Remark]]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)  # a metric label and a file name
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound
_MTA_PATIENCE_S: Final = 600.0  # Postfix lmtp_data_done_timeout, smtp_data_done_timeout; RFC 5321 4.5.3.2.6


def _doors(settings: Settings) -> Iterator[tuple[KeyPath, ListenAddress]]:
    for name in ("lmtp", "smtp"):
        for address in getattr(settings.listen, name):
            yield ("listen", name), address
    if settings.http.listen is not None:
        yield ("http", "listen"), settings.http.listen


def _hops(settings: Settings) -> Iterator[tuple[KeyPath, NextHopSettings]]:
    for name, hop in settings.next_hop.items():
        yield ("next_hop", name), hop


# --- mistakes --------------------------------------------------------------------------------------------------


def no_door(settings: Settings) -> Iterator[Remark]:
    """Without a door nobody can hand mail over."""
    if not settings.listen.lmtp and not settings.listen.smtp:
        yield ("listen",), "both doors are off: set lmtp or smtp"


def same_address(settings: Settings) -> Iterator[Remark]:
    """The same port of the same host, or of all hosts; port 0 never clashes."""
    seen: list[tuple[KeyPath, ListenAddress]] = []
    for path, address in _doors(settings):
        for other_path, other in seen:
            if _clash(address, other):
                yield path, f"{address} is taken by {'.'.join(map(str, other_path))} ({other})"
                break
        seen.append((path, address))


def _clash(one: ListenAddress, other: ListenAddress) -> bool:
    if one.path or other.path:
        return one.path == other.path
    hosts = {one.host.lower(), other.host.lower()}
    return one.port == other.port != 0 and (len(hosts) == 1 or not hosts.isdisjoint(_WILDCARDS))


def open_to_the_world(settings: Settings) -> Iterator[Remark]:
    """An open relay is found and abused within hours; a forged PROXY header or XFORWARD is no better."""
    harm = {"allow": "send mail through this relay", "trusted": "pretend to be any client"}
    for name, what in harm.items():
        for net in getattr(settings.listen, name):
            if is_open(net):
                yield ("listen", name), f"{net} would let strangers {what}: list your own networks"


def proxy_without_trust(settings: Settings) -> Iterator[Remark]:
    """With the header expected and nobody allowed to send it, every session is refused."""
    if settings.listen.proxy_protocol and not settings.listen.trusted:
        yield ("listen", "proxy_protocol"), "listen.trusted is empty: nobody may send a PROXY header"


def certificates(settings: Settings) -> Iterator[Remark]:
    """Certificate and key come together, can be read and belong together."""
    tables: list[tuple[KeyPath, ListenSettings | NextHopSettings]] = [(("listen",), settings.listen)]
    for path, table in [*tables, *_hops(settings)]:
        if bool(table.tls_cert) != bool(table.tls_key):
            missing, given = ("tls_key", "tls_cert") if table.tls_cert else ("tls_cert", "tls_key")
            yield (*path, missing), f"is missing: {given} needs it"
        elif table.tls_cert:
            yield from _pair(path, table.tls_cert, table.tls_key)


def _pair(path: KeyPath, cert: str, private: str) -> Iterator[Remark]:
    unreadable = False
    for name, file in (("tls_cert", cert), ("tls_key", private)):
        try:
            probe(file)
        except FileError as error:
            unreadable = True
            yield (*path, name), f"'{file}' {error}"
    if unreadable:
        return
    import ssl  # 10 ms that a configuration without TLS files need not pay

    try:
        # an encrypted key would ask for its passphrase on the terminal: "" fails instead
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, private, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        why = getattr(error, "reason", None) or "not PEM, or an encrypted key"
        yield (*path, "tls_cert"), f"'{cert}' and tls_key cannot be used: {str(why).lower().replace('_', ' ')}"


def authorities(settings: Settings) -> Iterator[Remark]:
    """The file can be read and holds a certificate."""
    for path, hop in _hops(settings):
        if not hop.tls_ca_file:
            continue
        try:
            probe(hop.tls_ca_file)
        except FileError as error:
            yield (*path, "tls_ca_file"), f"'{hop.tls_ca_file}' {error}"
            continue
        import ssl

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(hop.tls_ca_file)
        except (ssl.SSLError, OSError):
            yield (*path, "tls_ca_file"), f"'{hop.tls_ca_file}' holds no PEM certificate"


def users(settings: Settings) -> Iterator[Remark]:
    """Logins only inside TLS (RFC 4954 4), with a file that can be used."""
    if not settings.listen.users_file:
        return
    if not settings.listen.tls_cert:
        yield ("listen", "tls_cert"), "is missing: users_file needs it, as a login is taken inside TLS only"
    try:
        load_users(Path(settings.listen.users_file))
    except FileError as error:
        for reason in error.reasons:
            yield ("listen", "users_file"), reason


def spool(settings: Settings) -> Iterator[Remark]:
    """Large messages need a folder that can be written to."""
    folder = settings.relay.spool_dir
    if folder and not os.path.isdir(folder):
        yield ("relay", "spool_dir"), f"'{folder}' is not a folder"
    elif folder and not os.access(folder, os.W_OK | os.X_OK):
        yield ("relay", "spool_dir"), f"'{folder}' is not writable"


def next_hops(settings: Settings) -> Iterator[Remark]:
    """There is one named default, and each has what its kind of host needs."""
    if not settings.next_hop:
        yield ("next_hop", "default"), "no next hop: write [next_hop.default] with host, or use serve --sandbox"
    elif "default" not in settings.next_hop:
        yield ("next_hop", "default"), "is missing: one of the next hops must bear this name"
    for path, hop in _hops(settings):
        if not _NAME.fullmatch(str(path[-1])):
            yield path, "a next hop's name is of letters, digits, '-', '_' and '.', 63 at most"
        if not hop.host:
            yield (*path, "host"), "is missing"
        if hop.host == ("sandbox",) and hop.tls != "none":
            yield (*path, "tls"), "the sandbox has no certificate: leave tls out"
        if hop.is_mx:
            yield from _mx(settings, path, hop)
        yield from _circle(settings, path, hop)


def _mx(settings: Settings, path: KeyPath, hop: NextHopSettings) -> Iterator[Remark]:
    """What `host = "mx"` needs, and what it cannot have."""
    if not settings.listen.lmtp:
        yield ("listen", "lmtp"), f"is off: {path[-1]} delivers to mx, where each recipient has an answer of its own"
    if hop.tls == "implicit":
        yield (*path, "tls"), "mail hosts have no port with implicit TLS: write opportunistic or required"
    if hop.username:
        yield (*path, "username"), "is not for mx: nobody logs in at the recipients' mail hosts"
    if hop.tls_name:
        yield (*path, "tls_name"), "is not for mx: each mail host bears a name of its own"
    if settings.relay.hostname and "." not in settings.relay.hostname:
        yield ("relay", "hostname"), "is not a full name: mail hosts refuse an EHLO without one (RFC 5321 4.1.1.1)"


def _circle(settings: Settings, path: KeyPath, hop: NextHopSettings) -> Iterator[Remark]:
    doors = {address.port for _, address in _doors(settings) if address.port}
    for host in hop.host:
        if is_loopback(host) and hop.port in doors:
            yield (*path, "port"), f"{host} port {hop.port} is smtpguard itself: mail would go in circles"


def logins(settings: Settings) -> Iterator[Remark]:
    """A password leaves this machine inside TLS only."""
    for path, hop in _hops(settings):
        if hop.username and hop.password is None and not (hop.password_file or hop.is_mx):
            yield (*path, "password_file"), "is missing: username needs a password; the sample shows other ways"
        if hop.username and hop.tls == "none" and not all(map(is_loopback, hop.host)):
            yield (*path, "username"), "a login needs TLS: set tls = required or implicit"


def routes(settings: Settings) -> Iterator[Remark]:
    """Each leads to a next hop that exists."""
    for index, route in enumerate(settings.route):
        path = ("route", index, "next_hop")
        if not route.next_hop:
            yield path, "is missing"
        elif route.next_hop not in settings.next_hop:
            known = ", ".join(settings.next_hop) or "none"
            yield path, f"'{route.next_hop}' is not one of the next hops: {known}"


def http(settings: Settings) -> Iterator[Remark]:
    """Beyond this machine only with a token."""
    address = settings.http.listen
    if address is not None and not address.is_loopback and not settings.http.token_file and not settings.http.token:
        yield ("http", "token_file"), f"is missing: {address} can be reached from other machines"


def alerts(settings: Settings) -> Iterator[Remark]:
    """Whoever is told must be able to tell that it was us."""
    if settings.alerts.webhook and settings.alerts.secret is None:
        yield ("alerts", "secret_file"), "is missing: webhook needs the key that signs what it is sent"
    if any(rule.alert for rule in settings.policy) and not settings.alerts.webhook:
        yield ("alerts", "webhook"), "is missing: a policy has alert = true"


def lint_rules(settings: Settings) -> Iterator[Remark]:
    """Rules by names that exist; what cannot be refused for is not to be."""
    named: list[tuple[KeyPath, str]] = [(("lint", "rules", selector), selector) for selector in settings.lint.rules]
    for index, exemption in enumerate(settings.lint.exempt):
        named += [(("lint", "except", index, "rules"), selector) for selector in exemption.rules]
        if not exemption.rules:
            yield ("lint", "except", index, "rules"), "is missing: name the rules, or ALL"
    if not named:
        return
    from smtpguard.lint import can_refuse, known_selectors  # 0.1 s that a configuration without rules need not pay

    known = known_selectors()
    for path, selector in named:
        if selector not in known:
            yield path, "is no rule, family or rule's name" + _near(selector, known, ": see `smtpguard rules list`")
        elif path[1] == "rules" and settings.lint.rules[selector] in ("defer", "reject") and not can_refuse(selector):
            yield path, "mail cannot be refused for it: write observe or off"


def _near(word: str, known: Iterable[str], otherwise: str) -> str:
    """What may have been meant."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else otherwise


def blocklists(settings: Settings) -> Iterator[Remark]:
    """Lists that are known and alive: a dead one may list the world."""
    written = settings.lint.blocklists.model_fields_set & {"ip", "domain"}
    if not written:
        return
    from smtpguard.lint.lists import mistake

    for kind in ("ip", "domain"):
        for zone in getattr(settings.lint.blocklists, kind):
            if wrong := mistake(zone, kind):
                yield ("lint", "blocklists", kind), wrong


def policies(settings: Settings) -> Iterator[Remark]:
    """Categories and next hops that exist, and the keys that an action needs."""
    if not settings.policy:
        return
    from smtpguard.classify import PROVIDERS, provider_of
    from smtpguard.classify.categories import CATEGORIES, GROUPS

    known = {*CATEGORIES, *(f"{group}.*" for group in GROUPS), "*"}
    for index, rule in enumerate(settings.policy):
        path = ("policy", index)
        for category in rule.category:
            if category not in known:
                hint = _near(category, known, ": `smtpguard rules list` has all")
                yield (*path, "category"), f"'{category}' is not a category{hint}"
        for provider in rule.provider:
            if provider not in PROVIDERS:
                known_as = provider_of(f"{provider}.com")  # gmail, outlook
                near = _near(provider, PROVIDERS, ": write google, microsoft, yahoo, ... or other")
                hint = near if known_as == "other" else f"; did you mean '{known_as}'?"
                yield (*path, "provider"), f"'{provider}' is not a known provider{hint}"
        for name in rule.from_hop:
            if name not in settings.next_hop:
                yield (*path, "from_hop"), f"'{name}' is not one of the next hops: {', '.join(settings.next_hop)}"
        if rule.action == "reroute":
            if not rule.to:
                yield (*path, "to"), "is missing: name the next hop that is tried instead"
            elif rule.to not in settings.next_hop:
                yield (*path, "to"), f"'{rule.to}' is not one of the next hops: {', '.join(settings.next_hop)}"
            elif rule.to in rule.from_hop:
                yield (*path, "to"), f"'{rule.to}' is in from_hop, too: name the next hop that is tried instead"
        if rule.action == "throttle" and rule.initial > rule.max:
            yield (*path, "initial"), "is longer than max"
        if rule.action == "defer" and rule.probe > rule.hold:
            yield (*path, "probe"), "is longer than hold: there would be no attempt"


MISTAKES: Final[tuple[Check, ...]] = (
    *(no_door, same_address, open_to_the_world, proxy_without_trust, certificates, authorities, users, spool),
    *(next_hops, logins, routes, http, own_rules, lint_rules, blocklists, policies, alerts),
)


# --- warnings --------------------------------------------------------------------------------------------------


def unused(settings: Settings) -> Iterator[Remark]:
    """Keys that have no effect as the others are."""
    for path, hop in _hops(settings):
        if hop.tls == "none":
            for name in ("tls_name", "tls_ca_file", "tls_cert"):
                if getattr(hop, name):
                    yield (*path, name), "has no effect with tls = none"
        elif hop.tls == "opportunistic":
            for name in ("tls_name", "tls_ca_file"):
                if getattr(hop, name):
                    yield (*path, name), "has no effect with tls = opportunistic, which checks no certificate"
        if hop.allow_private and not hop.is_mx:
            yield (*path, "allow_private"), "has no effect without host = mx"
        if hop.password_file and not hop.username:
            yield (*path, "password_file"), "has no effect without username"
    for index, route in enumerate(settings.route[:-1]):
        if not route.recipient_domain and not route.sender_domain:
            yield ("route", index), "has no condition and takes all mail: the routes below it have no effect"


def unheeded(settings: Settings) -> Iterator[Remark]:
    """Keys of a policy that its action does not look at, policies that no refusal comes to, rules that are all off."""
    for index, rule in enumerate(settings.policy[:-1]):
        conditions = (rule.klass, rule.category, rule.permanence, rule.provider, rule.from_hop, rule.verb)
        if not any(conditions) and not rule.sender_domain:
            yield ("policy", index), "has no condition and takes all refusals: the policies below it have no effect"
    if settings.lint.mode == "off" and settings.lint.rules:
        yield ("lint", "rules"), "has no effect with mode = off"
    for index, rule in enumerate(settings.policy):
        for action, names in ACTION_KEYS.items():
            for name in names if action != rule.action else ():
                if name in rule.model_fields_set:
                    yield ("policy", index, name), f"has no effect with action = {rule.action}"
        if rule.klass == 4 and rule.action in ("defer", "suppress"):
            yield ("policy", index, "action"), "has no effect with class = 4: the MTA tries again by itself"


def exposed_logins(settings: Settings) -> Iterator[Remark]:
    """Passwords that somebody else could read, or be given."""
    for path, hop in _hops(settings):
        if hop.username and hop.tls == "none":
            yield (*path, "tls"), "the password is sent in clear, if only within this machine"
        elif hop.username and hop.tls == "opportunistic":
            yield (*path, "tls"), "checks no certificate: the password goes to whoever answers; set required"


def patience(settings: Settings) -> Iterator[Remark]:
    """An MTA that gives up before our answer sends the message twice (RFC 1047)."""
    if settings.relay.answer_within >= _MTA_PATIENCE_S:
        yield ("relay", "answer_within"), f"an MTA gives up after {_MTA_PATIENCE_S:g}s and sends the message again"


def unverifiable_addresses(settings: Settings) -> Iterator[Remark]:
    """Certificates name hosts, hardly ever addresses."""
    for path, hop in _hops(settings):
        if hop.tls in ("required", "implicit") and not hop.tls_name and any(map(is_ip, hop.host)):
            yield (*path, "host"), "few certificates name an IP address: set tls_name, or write the host's name"


WARNINGS: Final[tuple[Check, ...]] = (unused, unheeded, exposed_logins, patience, unverifiable_addresses)
