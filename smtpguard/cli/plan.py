"""From what a Postfix is set to, to what smtpguard and it shall be set to. Pure: facts in, plan out, nothing is done.

smtpguard takes the place of Postfix's own SMTP client, so whatever main.cf told that client must be told to smtpguard,
or to the LMTP client that takes its place in Postfix. Each parameter that may matter is looked at here:
- carried into our configuration: host, port, TLS, login, names, size, concurrency;
- carried over to a service of our own in master.cf, as `lmtp_*`: rewriting and checks (_CARRIED);
- neither: then it is a note, or, where mail would go elsewhere than it did, a reason not to apply (`against`).
The parameters are those of postconf(5). A Postfix without a relayhost: straight.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pydantic import SecretStr

from smtpguard.cli.postfix import Facts, host_and_port
from smtpguard.config.values import host_name, is_ip, is_loopback

SERVICE: Final = "smtpguard"
_DOORS: Final = (10724, 10725)
_MIB: Final = 2**20
_OUR_SIZE: Final = 50 * _MIB  # listen.max_message_size
_UNLIMITED: Final = "1GiB"  # what stands for message_size_limit = 0
MX_CONCURRENCY: Final = 250
"""Deliveries at once to our door with mx: its `connections`. All domains share them; slow ones keep some for long."""

Command = tuple[str, ...]


class CannotPlan(Exception):
    """Postfix is set so that there is nothing to take over; the text says why and what to do."""


class Key(NamedTuple):
    """A line of our configuration, and the reason for it."""

    table: str
    name: str
    value: object
    why: str


@dataclass(slots=True)
class Plan:
    """What to write, what to run, how to run it back, what to know.

    `hosts` are the next hop's; `keys` is for smtpguard.toml; `commands` and `back` are for Postfix; `notes` are to be
    read; `against` are reasons why `--apply` will not. `is_mx`: mail goes straight to the receivers, for which `needs`
    must hold.
    """

    is_mx: bool = False
    needs: tuple[str, ...] = ()
    hosts: list[str] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    password: SecretStr | None = None
    commands: list[Command] = field(default_factory=list)
    back: list[Command] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    against: list[str] = field(default_factory=list)


def shell(command: Command) -> str:
    """A command as it is typed."""
    return shlex.join(command)


# --- our side --------------------------------------------------------------------------------------------------


def plan(facts: Facts, *, next_hop: str = "") -> Plan:
    """Our side, and what to know. `next_hop` takes the place of relayhost.

    CannotPlan where nobody is named who takes the mail, or where smtpguard already is.
    """
    made = Plan()
    _next_hop(made, facts, next_hop)
    _login_and_tls(made, facts, is_new=bool(next_hop))
    limits(made, facts)
    if is_ip(facts["smtp_bind_address"]):
        made.keys.append(Key("next_hop.default", "bind", facts["smtp_bind_address"], "smtp_bind_address"))
    why = "as many as Postfix had: the next hop bears them"
    made.keys.append(Key("next_hop.default", "connections", concurrency(facts), why))
    return made


def refuse_twice(facts: Facts) -> None:
    """CannotPlan where smtpguard has the mail already."""
    if facts.transport == SERVICE:
        raise CannotPlan("default_transport is smtpguard already: `smtpguard init --undo` leads back")


def _next_hop(made: Plan, facts: Facts, next_hop: str) -> None:
    refuse_twice(facts)
    source = "--next-hop" if next_hop else "default_transport" if facts.destination else "relayhost"
    wanted = next_hop or facts.destination or facts["relayhost"]
    default = "submission" if next_hop else facts["smtp_tcp_port"] or "smtp"
    try:
        found = [host_and_port(text, default) for text in wanted.replace(",", " ").split()]
    except ValueError as error:
        raise CannotPlan(f"{source}: {error}") from None
    port = found[0][1]
    made.hosts = [host for host, its_port, _ in found if its_port == port]
    if port in _DOORS and any(map(is_loopback, made.hosts)):
        raise CannotPlan(f"{source} is smtpguard already; name what it was before: --next-hop HOST[:PORT]")
    if left := [f"{host}:{its_port}" for host, its_port, _ in found if its_port != port]:
        made.notes.append(f"A next hop has one port: {', '.join(left)} of {source} is left out.")
    for host, _, is_exact in found:
        if not is_exact and not is_ip(host) and not next_hop:
            made.notes.append(
                f"{source} names {host} without brackets: Postfix asked for its MX records, smtpguard takes the name "
                f"as it stands. Should `smtpguard check` not reach it, write the hosts that `dig MX {host}` names."
            )
    written = made.hosts[0] if len(made.hosts) == 1 else made.hosts
    made.keys.append(Key("next_hop.default", "host", written, f"{source} was {wanted}" if not next_hop else source))
    made.keys.append(Key("next_hop.default", "port", port, ""))


# smtp_tls_security_level (postconf(5)) -> our `tls`, and what is different
LEVELS: Final = {
    "": ("none", ""),
    "none": ("none", ""),
    "may": ("opportunistic", ""),
    "encrypt": (
        "required",
        "Postfix checked no certificate ({level}); smtpguard does, and mail waits where it is wrong.",
    ),
    "dane": ("required", "DANE ({level}) becomes a certificate checked against the system's authorities."),
    "dane-only": ("required", "DANE ({level}) becomes a certificate checked against the system's authorities."),
    "fingerprint": ("required", "Fingerprints become a certificate checked by name: a private one needs tls_ca_file."),
    "verify": ("required", ""),
    "secure": ("required", ""),
}


def level_of(facts: Facts) -> str:
    """The TLS security level that holds, however old its parameter."""
    if facts.tls_policy:
        return facts.tls_policy.split()[0].lower()
    if facts["smtp_tls_security_level"]:
        return facts["smtp_tls_security_level"].lower()
    return "encrypt" if facts.says_yes("smtp_enforce_tls") else "may" if facts.says_yes("smtp_use_tls") else "none"


def _login_and_tls(made: Plan, facts: Facts, *, is_new: bool) -> None:
    """`is_new`: the next hop is not the one that Postfix had, so that no TLS there says nothing of TLS here."""
    level = level_of(facts)
    tls, note = LEVELS.get(level, ("required", "It is not known here what {level} means."))
    why = f"smtp_tls_policy_maps: {level}" if facts.tls_policy else f"smtp_tls_security_level: {level or 'none'}"
    if facts.says_yes("smtp_tls_wrappermode"):
        tls, why = "implicit", "smtp_tls_wrappermode = yes"
    elif facts.login and tls in ("none", "opportunistic") and not all(map(is_loopback, made.hosts)):
        tls = "required"
        note = f"With {level} Postfix may have sent the password in clear; smtpguard wants TLS and a good certificate."
    elif is_new and tls == "none":
        tls, why = "required", "smtpguard's default"
    made.keys.append(Key("next_hop.default", "tls", tls, why))
    if note:
        made.notes.append(note.format(level=f"smtp_tls_security_level = {level}"))
    if tls in ("required", "implicit") and facts["smtp_tls_CAfile"]:
        made.keys.append(Key("next_hop.default", "tls_ca_file", facts["smtp_tls_CAfile"], "smtp_tls_CAfile"))
    if tls != "none" and facts["smtp_tls_cert_file"]:
        key = facts["smtp_tls_key_file"] or facts["smtp_tls_cert_file"]
        made.keys.append(Key("next_hop.default", "tls_cert", facts["smtp_tls_cert_file"], "smtp_tls_cert_file"))
        made.keys.append(Key("next_hop.default", "tls_key", key, "smtp_tls_key_file"))
    if tls != "none" and facts["smtp_tls_chain_files"]:
        made.notes.append(
            "smtp_tls_chain_files is not taken over: if the next hop wants our certificate, set tls_cert."
        )
    if facts.login:
        name, made.password = facts.login
        made.keys.append(Key("next_hop.default", "username", name, "smtp_sasl_password_maps"))
    elif facts.says_yes("smtp_sasl_auth_enable"):
        made.notes.append("smtp_sasl_password_maps has no entry for the next hop: Postfix did not log in, nor do we.")


def limits(made: Plan, facts: Facts) -> None:
    """Largest message, our name, what is not to be used of what is offered."""
    limit = int(facts["message_size_limit"] or 0)
    octets = limit + limit // 8  # Postfix counts line ends as one octet
    if not limit:
        made.keys.append(Key("listen", "max_message_size", _UNLIMITED, "message_size_limit is 0: none"))
    elif octets > _OUR_SIZE:
        made.keys.append(
            Key("listen", "max_message_size", f"{-(-octets // _MIB)}MiB", f"message_size_limit is {limit}")
        )
    name = facts["smtp_helo_name"] or facts["myhostname"]
    try:
        if "." in host_name(name):
            made.keys.append(Key("relay", "hostname", name, "smtp_helo_name: what the next hop knows us by"))
    except ValueError:
        made.notes.append(f"smtp_helo_name = {name} is no host name: smtpguard says this host's own.")
    discarded = [word.upper() for word in facts["smtp_discard_ehlo_keywords"].replace(",", " ").split()]
    if kept := [word for word in discarded if word != "SILENT-DISCARD"]:
        made.keys.append(Key("next_hop.default", "discard_keywords", kept, "smtp_discard_ehlo_keywords"))


def _of_transport(facts: Facts, name: str) -> str:
    """A parameter that each transport has, or else the default of all (postconf(5), default_destination_...)."""
    return facts[f"{facts.transport}_{name}"] or facts[f"default_{name}"]


def concurrency(facts: Facts) -> int:
    """Deliveries at once to one destination."""
    limit = _of_transport(facts, "destination_concurrency_limit")
    return int(limit) if limit.isdecimal() and int(limit) else 50  # 0: no limit


# --- Postfix's side --------------------------------------------------------------------------------------------

# What the SMTP client does to mail and replies on its way; the LMTP client is told to do the same.
_CARRIED: Final = (
    *("generic_maps", "header_checks", "mime_header_checks", "nested_header_checks", "body_checks"),
    *("reply_filter", "delivery_status_filter"),
)


def _options(facts: Facts, door: str) -> Iterator[tuple[str, str]]:
    """The `-o` of our service, in order."""
    yield "lmtp_send_xforward_command", "yes"
    # What is set, or will be, for another LMTP server (Dovecot's, say) would hold for ours too
    yield "lmtp_tls_security_level", "none"
    yield "lmtp_sasl_auth_enable", "no"
    if facts["lmtp_tls_policy_maps"]:
        yield "lmtp_tls_policy_maps", ""
    for name in _CARRIED:
        value = facts[f"smtp_{name}"]
        if value and value != facts[f"lmtp_{name}"]:
            yield f"lmtp_{name}", value if f"smtp_{name}" in facts.options else f"$smtp_{name}"
    # smtp(8) binds to a single inet_interfaces address, and would then come to us from no loopback address
    interfaces = facts["inet_interfaces"]
    is_loopback_door = door.startswith("127.")
    if is_loopback_door and (facts["lmtp_bind_address"] or interfaces not in ("all", "loopback-only", "")):
        yield "lmtp_bind_address", "127.0.0.1"


def hand_over(made: Plan, facts: Facts, door: str, *, by_sender: bool = False) -> None:
    """Postfix's side: the commands, and back; and what speaks against it.

    `door` is our LMTP door, as `host:port` or `unix:/path`. `by_sender`: our routes look at the sender.
    """
    _differences(made, facts, by_sender=by_sender)
    host, _, port = door.rpartition(":")
    address = door if door.startswith("unix:") else f"inet:[{host.strip('[]')}]:{port}"
    at_once = MX_CONCURRENCY if made.is_mx else concurrency(facts)
    # default_process_limit, 100 as Postfix comes, would be the lower bound
    words = [SERVICE, "unix", "-", "-", "n", "-", str(at_once) if made.is_mx else "-", "lmtp"]
    for name, value in _options(facts, door):
        words += ["-o", f"{name}={value}" if not set(" \t{}").intersection(value) else f"{{ {name} = {value} }}"]
    made.commands.append(("postconf", "-M", f"{SERVICE}/unix={' '.join(words)}"))
    old = facts.explicit.get("default_transport", "smtp")
    new = {
        "default_transport": f"{SERVICE}:{address}",
        f"{SERVICE}_destination_concurrency_limit": str(at_once),
        # With the default of 1, one refused connection suspends the destination for minutes: that is all mail now
        f"{SERVICE}_destination_concurrency_failed_cohort_limit": "10",
        f"{SERVICE}_destination_recipient_limit": _of_transport(facts, "destination_recipient_limit") or "50",
    }
    if (delay := _of_transport(facts, "destination_rate_delay")) not in ("", "0", "0s"):
        if made.is_mx:
            made.notes.append(
                f"A destination_rate_delay of {delay} is left out: it would hold for all domains together."
            )
        else:
            new[f"{SERVICE}_destination_rate_delay"] = delay
    if facts.explicit.get("address_verify_default_transport", "$default_transport") == "$default_transport":
        new["address_verify_default_transport"] = old
    made.commands += [("postconf", "-e", f"{name}={value}") for name, value in new.items()]
    made.back.append(("postconf", "-MX", f"{SERVICE}/unix"))
    added = [name for name in new if name not in facts.explicit]
    made.back += [("postconf", "-e", f"{name}={facts.explicit[name]}") for name in new if name in facts.explicit]
    if added:
        made.back.append(("postconf", "-X", *added))
    if facts.service(SERVICE):
        made.against.append(f"master.cf has a service {SERVICE} already: `postconf -MX {SERVICE}/unix` removes it.")
    if door.startswith("unix:"):
        made.notes.append(f"Postfix's user must be able to open {address}: see listen.socket_mode.")
    if facts["inet_protocols"] == "ipv6" and not door.startswith(("unix:", "[")):
        made.against.append(f"inet_protocols = ipv6: Postfix cannot reach {door}; add ipv4, or use a door at [::1].")


def _differences(made: Plan, facts: Facts, *, by_sender: bool) -> None:
    """What mail would notice."""
    service = facts.service(facts.transport)
    if service is None or service[7] != "smtp":
        what = "is not in master.cf" if service is None else f"runs {service[7]}"
        made.against.append(
            f"default_transport is {facts.transport}, which {what}: smtpguard can stand in for smtp only."
        )
    if by_sender:
        made.notes.append("Your [[route]]s with sender_domain take the place of what Postfix looks up by sender.")
    if facts["sender_dependent_relayhost_maps"] and not by_sender:
        made.against.append(
            "sender_dependent_relayhost_maps would have no effect any more: write a [next_hop.NAME] and a [[route]] "
            "with sender_domain for each of its entries."
        )
    if facts.says_yes("smtp_sender_dependent_authentication") and not by_sender:
        made.against.append(
            "smtp_sender_dependent_authentication: smtpguard logs in as one user a next hop; write a [next_hop.NAME] "
            "and a [[route]] for each sender domain that needs its own."
        )
    if facts.catch_all:
        made.against.append(
            f"transport_maps sends '*' to {facts.catch_all}, whatever default_transport says: take that entry out, and "
            "give its host as --next-hop."
        )
    if facts["sender_dependent_default_transport_maps"]:
        made.notes.append(
            "sender_dependent_default_transport_maps stays in force: its senders' mail does not pass smtpguard."
        )
    if facts["smtp_fallback_relay"] and not made.is_mx:
        made.notes.append(
            f"smtp_fallback_relay = {facts['smtp_fallback_relay']} has no effect on LMTP: name those hosts in "
            "next_hop.default.host, behind the first, if they take the same port and login."
        )
