"""The settings: every key with its type, default and doc, in the order of the sample file.

This is the one source, with `lint_settings.py` and `policy_settings.py`. The sample file, the list of keys that need a
restart and the suggestions for a mistyped key are made from it. Names are the names of the TOML file.
Sections of capabilities that do not exist yet are not here, and so are not accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, get_origin

from pydantic import BeforeValidator, Field, SecretStr
from pydantic.fields import FieldInfo

from smtpguard.config import values
from smtpguard.config.lint_settings import LintSettings, SenderSettings
from smtpguard.config.policy_settings import AlertSettings, PolicySettings, StoreSettings, SuppressionSettings
from smtpguard.config.section import (
    Count,
    Domains,
    Duration,
    File,
    Files,
    HostName,
    Hosts,
    Ips,
    KeyPath,
    Keywords,
    Line,
    Listen,
    Mode,
    Networks,
    Pause,
    Port,
    Section,
    Size,
    Tls,
    extra,
    field_in,
    internal,
    key,
    keys,
    section,
    table_of,
    tables,
)
from smtpguard.config.values import ListenAddress


class ListenSettings(Section):
    """[listen]"""

    lmtp: Listen = key("127.0.0.1:10724", 'host:port, "unix:/path", or a list; "" = off; port 0 = any free port')
    smtp: Listen = key("127.0.0.1:10725", "the same")
    socket_mode: Mode = key("0660", "permissions of Unix sockets")
    allow: Networks = key(["127.0.0.0/8", "::1/128"], "who may send without a login")
    trusted: Networks = key(["127.0.0.0/8", "::1/128"], "who may use XFORWARD and PROXY")
    users_file: File = key("", "name:hash lines (scrypt, argon2); enables AUTH; needs tls_cert")
    max_sessions: Count = key(500, "at once; beyond it new connections wait")
    max_sessions_per_client: Count = key(500, "at once from one address; beyond it 421")
    max_message_size: Size = key("50MiB", "offered as SIZE; larger mail is refused with 552")
    idle_timeout: Pause = key("300s", "a client silent for so long gets 421")
    tls_cert: File = key("", "PEM chain; enables STARTTLS")
    tls_key: File = key("", "its PEM key, not encrypted")
    proxy_protocol: bool = key(False, "expect a PROXY header in front of each session")


class RelaySettings(Section):
    """[relay]"""

    hostname: HostName = key("", "greeting, Received, EHLO to the next hop; default: this host's full name")
    received_header: bool = key(True, "put a Received field on top")
    bare_newline: Literal["reject", "normalize"] = key(
        "reject", "reject | normalize: a CR or LF that is not part of a CRLF"
    )
    answer_within: Annotated[Duration, Field(ge=1.0)] = key(
        "570s", "the longest time from the end of data to our answer"
    )
    drain: Duration = key("30s", "how long a stop waits for mail that is under way")
    memory: Size = key("256MiB", "for all messages together; beyond it 452")
    spool_dir: File = key("", "large messages; default: /var/lib/smtpguard/spool, else the temporary folder")


class TimeoutSettings(Section):
    """next_hop.NAME.timeout"""

    connect: Pause = key("30s", "connection and greeting")
    command: Pause = key("120s", "the answer to a command")
    data: Pause = key("300s", "without progress while the message is sent")
    final: Pause = key("540s", "the answer to the message")


def _default_tls(given: dict[str, Any]) -> object:
    # RFC 7435: mail hosts of the world cannot be asked for certificates that nobody promised
    return {("sandbox",): "none", ("mx",): "opportunistic"}.get(given.get("host", ()), "required")


def _default_port(given: dict[str, Any]) -> object:
    if given.get("host") == ("mx",):
        return 25  # RFC 5321 4.5.4.2
    return 465 if given.get("tls") == "implicit" else 587  # RFC 8314 7.3, RFC 6409 3.1


def _default_connections(given: dict[str, Any]) -> object:
    return 250 if given.get("host") == ("mx",) else 50


class NextHopSettings(Section):
    """[next_hop.NAME]"""

    host: Hosts = key(
        [], 'a string or a list, tried in order; "sandbox" = the embedded one; "mx" = each recipient\'s own'
    )
    tls: Tls = key("required", "none | opportunistic | required | implicit; opportunistic with mx", given=_default_tls)
    port: Port = key(587, "465 with tls = implicit, 25 with mx", given=_default_port)
    tls_name: HostName = key("", "name its certificate must bear; default: the host")
    tls_ca_file: File = key("", "PEM; default: the system's")
    tls_cert: File = key("", "PEM client certificate")
    tls_key: File = key("", "its PEM key, not encrypted")
    username: Line = key("", "log in as")
    password_file: File = key("", "or systemd credential next_hop.NAME.password, or the environment")
    bind: Annotated[str, BeforeValidator(values.source_address)] = key("", "source address")
    egress_ips: Ips = key([], "our public addresses as receivers see them; [] = unknown (a provider sends for us)")
    connections: Count = key(50, "at once, over all hosts; 250 with mx", given=_default_connections)
    connections_per_domain: Count = key(20, "with mx: of these, to the mail hosts of one domain")
    allow_private: bool = key(False, "with mx: deliver to loopback and private addresses, for tests and labs")
    messages_per_connection: Count = key(100, "then a new one is opened")
    idle: Duration = key("30s", "how long an unused connection is kept")
    queue_wait: Duration = key("5s", "how long mail waits for a free connection; then 451")
    discard_keywords: Keywords = key([], "do not use what it offers: CHUNKING, PIPELINING, ...")
    timeout: TimeoutSettings = section(
        TimeoutSettings, "to connect; for an answer; without progress in the message; for its answer", inline=True
    )
    password: SecretStr | None = internal()

    @property
    def is_mx(self) -> bool:
        """Whether mail goes to each recipient's own mail hosts."""
        return self.host == ("mx",)


class RouteSettings(Section):
    """[[route]]: both conditions must hold; an empty one always does."""

    recipient_domain: Domains = key([], "example.org, or *.example.org for all below it")
    sender_domain: Domains = key([], "the same for the reverse path")
    next_hop: str = key("", "the name of a [next_hop.NAME]")


class ClassifySettings(Section):
    """[classify]"""

    rules: Files = key([], "your own rules: files, folders or patterns; they win over the built-in ones")


class ReplySettings(Section):
    """[reply]"""

    explain: bool = key(True, "add Fix and Cause lines to a refusal")
    contact: Line = key("", "whom to ask, shown in explanations")
    greeting_5xx: Literal["defer", "bounce"] = key("defer", "defer | bounce: a next hop that greets with 5xx")


class PrivacySettings(Section):
    """[privacy]"""

    addresses: Literal["full", "mask", "hash", "domain"] = key("mask", "full | mask | hash | domain: in logs and pages")
    retention: Annotated[Duration, Field(ge=3600.0)] = key("30d", "how long the history is kept")


class HttpSettings(Section):
    """[http]"""

    listen: Annotated[ListenAddress | None, BeforeValidator(values.http_address)] = key(
        "127.0.0.1:9125", 'metrics, health, API; "" = off', restart=True
    )
    token_file: File = key("", "bearer token; required where listen is not a loopback address")
    token: SecretStr | None = internal()


class LogSettings(Section):
    """[log]"""

    format: Literal["json", "console"] = key("json", "json | console")
    level: Literal["debug", "info", "warning", "error"] = key("info", "debug | info | warning | error")
    deliveries: Literal["all", "problems"] = key(
        "all", "all | problems: with or without a line for each accepted recipient"
    )


class Settings(Section):
    """All settings. `next_hop` by name; `load` makes sure that "default" is among them."""

    listen: ListenSettings = section(
        ListenSettings, "The doors, where the MTA connects. Changes here need a restart.", restart=True
    )
    relay: RelaySettings = section(RelaySettings, "What happens to a message.")
    next_hop: dict[str, NextHopSettings] = section(dict, "Where mail goes; [next_hop.default] is required.")
    route: Annotated[tuple[RouteSettings, ...], BeforeValidator(tables)] = section(
        tuple, "Other next hops for some mail: the first match wins; without one, next_hop.default."
    )
    sender: SenderSettings = section(SenderSettings, "Whose mail this is.")
    lint: LintSettings = section(LintSettings, "What would be refused, said before it is sent.")
    classify: ClassifySettings = section(ClassifySettings, "How a refusal is understood.")
    policy: Annotated[tuple[PolicySettings, ...], BeforeValidator(tables)] = section(
        tuple, "What is done about a refusal: the first match wins; without one, it passes."
    )
    suppression: SuppressionSettings = section(
        SuppressionSettings, "Addresses that are refused here, by a policy with action suppress."
    )
    reply: ReplySettings = section(ReplySettings, "How a refusal reads.")
    privacy: PrivacySettings = section(PrivacySettings, "What is shown of addresses.")
    store: StoreSettings = section(StoreSettings, "What is remembered.")
    http: HttpSettings = section(HttpSettings, "For machines and monitors, not for mail.")
    alerts: AlertSettings = section(
        AlertSettings, "Who is notified: of refusals where a policy has alert = true, of blocklist entries."
    )
    log: LogSettings = section(LogSettings, "One line per event, on standard output.")


# --- questions about the settings themselves -------------------------------------------------------------------


def table_at(path: KeyPath) -> type[Section] | None:
    """The table at a path; None where there is none. Names of next hops and positions of routes are free."""
    table: type[Section] | None = Settings
    steps = iter(path)
    for step in steps:
        field = field_in(table, str(step)) if table else None
        if field is None:
            return None
        table = table_of(field.annotation)
        if table is not None and get_origin(field.annotation) in (dict, tuple):
            next(steps, None)  # the name of a next hop, the position of a route
    return table


def field_at(path: KeyPath) -> FieldInfo | None:
    """The field at a path, the internal ones too; None where there is none."""
    table = table_at(path[:-1]) if path else None
    return field_in(table, str(path[-1])) if table else None


def _restart_keys(table: type[Section] = Settings, above: str = "", inherited: bool = False) -> Iterator[str]:
    for name, field in keys(table).items():
        needed = inherited or bool(extra(field).get("restart"))
        inner = table_of(field.annotation)
        if inner is not None:
            yield from _restart_keys(inner, f"{above}{name}.", needed)
        elif needed:
            yield above + name


RESTART_KEYS: Final = frozenset(_restart_keys())
"""Keys, dotted, whose change needs a restart: all of `listen`, `http.listen` and `store.url`."""


def needs_restart(old: Settings, new: Settings) -> tuple[str, ...]:
    """The changed keys that a reload cannot apply, sorted."""

    def value(settings: Settings, name: str) -> object:
        table, _, last = name.partition(".")
        return getattr(getattr(settings, table), last)

    return tuple(sorted(name for name in RESTART_KEYS if value(old, name) != value(new, name)))
