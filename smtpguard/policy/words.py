"""Each refusal of ours: its code, its words, and what it is about (contract 1.2 to 1.4).

All that is our fault, or the set-up's between us and the next hop, is 4xx (law B).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from smtpguard.mail.reply import EnhancedCode


class Own(StrEnum):
    """Each refusal of ours; the value is its name in logs."""

    BARE_NEWLINE = "bare_newline"
    NUL = "nul"
    HOPS = "hops"
    TOO_LARGE = "too_large"
    NO_ROOM = "no_room"
    MANY_RECIPIENTS = "many_recipients"
    OTHER_NEXT_HOP = "other_next_hop"
    CONNECT = "connect"
    DROPPED = "dropped"
    TIMEOUT = "timeout"
    LATE = "late"
    TLS = "tls"
    PROTOCOL = "protocol"
    LOOP = "loop"
    SATURATED = "saturated"
    STOPPING = "stopping"
    INTERNAL = "internal"
    LACKS_8BITMIME = "lacks_8bitmime"
    LACKS_SMTPUTF8 = "lacks_smtputf8"
    LACKS_SIZE = "lacks_size"
    LACKS_DSN = "lacks_dsn"
    LACKS_AUTH = "lacks_auth"
    NULL_MX = "null_mx"
    NO_DOMAIN = "no_domain"
    NO_MAIL_HOST = "no_mail_host"
    INWARD = "inward"
    OURSELVES = "ourselves"
    DNS = "dns"


class Words(NamedTuple):
    """A refusal of ours: code, enhanced code, text, and what it is about. `fix` "" takes the category's guidance."""

    code: int
    enhanced: EnhancedCode
    text: str
    category: str
    cause: str
    fix: str = ""


def _x(code: str) -> EnhancedCode:
    klass, subject, detail = code.split(".")
    return EnhancedCode(int(klass), int(subject), int(detail))


# Contract 1.2 to 1.4. All that is our fault, or the set-up's between us and the next hop, is 4xx (law B).
OWN: Final[dict[Own, Words]] = {
    Own.BARE_NEWLINE: Words(
        550,
        _x("5.5.2"),
        "bare CR or LF in the message",
        "message.malformed",
        "a line does not end with CRLF",
        "end every line with CR LF; relay.bare_newline = normalize mends it here",
    ),
    Own.NUL: Words(
        550,
        _x("5.6.0"),
        "NUL octet in the message",
        "message.malformed",
        "the message holds a NUL octet",
        "encode binary parts as base64",
    ),
    Own.HOPS: Words(
        554,
        _x("5.4.6"),
        "too many hops",
        "server.loop",
        "more than 50 Received: fields",
        "look for a mail loop in forwards, aliases and relay settings",
    ),
    Own.TOO_LARGE: Words(
        552,
        _x("5.3.4"),
        "message larger than this relay takes",
        "message.too_large",
        "larger than listen.max_message_size",
    ),
    Own.NO_ROOM: Words(
        452,
        _x("4.3.1"),
        "no room for the message now, try again",
        "server.error",
        "memory or spool of the relay is full",
        "retry; raise relay.memory or free space in relay.spool_dir if this goes on",
    ),
    Own.MANY_RECIPIENTS: Words(
        452, _x("4.5.3"), "too many recipients", "rate.too_many_recipients", "1,000 recipients a message"
    ),
    Own.OTHER_NEXT_HOP: Words(
        452,
        _x("4.5.3"),
        "this recipient goes by another next hop: send it in a transaction of its own",
        "rate.too_many_recipients",
        "one next hop a transaction on the SMTP door",
        "retry, as the MTA does by itself; the LMTP door serves several next hops at once",
    ),
    Own.CONNECT: Words(
        451,
        _x("4.4.1"),
        "no connection to the next hop",
        "server.network",
        "the next hop cannot be reached",
        "nothing is lost, the MTA retries; check that the next hop is up and host and port are right",
    ),
    Own.DROPPED: Words(
        451,
        _x("4.4.2"),
        "the next hop dropped the connection",
        "server.network",
        "the connection to the next hop was lost",
        "nothing is lost, the MTA retries",
    ),
    Own.TIMEOUT: Words(
        451,
        _x("4.4.2"),
        "the next hop did not answer in time",
        "server.network",
        "the next hop timed out",
        "nothing is lost, the MTA retries",
    ),
    Own.LATE: Words(
        451,
        _x("4.4.2"),
        "too late to send the message in time",
        "server.network",
        "the next hop was slower than relay.answer_within allows",
        "nothing is lost, the MTA retries",
    ),
    Own.TLS: Words(
        451,
        _x("4.7.5"),
        "no TLS with the next hop, which is required",
        "access.tls_required",
        "the next hop offers no TLS, or no valid certificate",
        "check next_hop.*.tls, tls_name and tls_ca_file, and the next hop's certificate; where the receiver asks for it"
        " (MTA-STS, DANE), it has to mend that",
    ),
    Own.PROTOCOL: Words(
        451,
        _x("4.3.0"),
        "the next hop did not speak SMTP",
        "server.error",
        "protocol error of the next hop",
        "nothing is lost, the MTA retries; look at next-hop-failed in the log",
    ),
    Own.LOOP: Words(
        451,
        _x("4.4.6"),
        "the next hop greets with our own name",
        "server.loop",
        "the next hop is this relay itself, or bears its name",
        "correct host and port of the next hop; if it is another server of this name, set relay.hostname to our own",
    ),
    Own.SATURATED: Words(
        451,
        _x("4.3.2"),
        "all connections to the next hop are busy",
        "server.error",
        "next_hop.*.connections are all in use",
        "nothing is lost, the MTA retries; raise next_hop.*.connections if the next hop allows it",
    ),
    Own.STOPPING: Words(
        451,
        _x("4.3.2"),
        "the relay is stopping",
        "server.error",
        "the relay is stopping",
        "nothing is lost, the MTA retries",
    ),
    Own.INTERNAL: Words(
        451,
        _x("4.3.0"),
        "internal fault of the relay",
        "server.error",
        "a fault of smtpguard itself",
        "nothing is lost, the MTA retries; report what the log says at this id",
    ),
    Own.LACKS_8BITMIME: Words(
        554,
        _x("5.6.3"),
        "the next hop does not take 8-bit messages",
        "protocol.error",
        "the next hop lacks 8BITMIME",
        "encode the message as quoted-printable or base64",
    ),
    Own.LACKS_SMTPUTF8: Words(
        550,
        _x("5.6.7"),
        "the next hop does not take internationalized addresses",
        "protocol.error",
        "the next hop lacks SMTPUTF8",
        "use ASCII addresses, or a next hop with SMTPUTF8",
    ),
    Own.LACKS_SIZE: Words(
        552,
        _x("5.3.4"),
        "message larger than the next hop takes",
        "message.too_large",
        "larger than the SIZE that the next hop offers",
    ),
    Own.LACKS_DSN: Words(
        451,
        _x("4.3.0"),
        "the next hop does not offer DSN any more",
        "protocol.error",
        "the next hop lacks DSN",
        "nothing is lost, the MTA retries without DSN parameters",
    ),
    Own.LACKS_AUTH: Words(
        451,
        _x("4.7.0"),
        "the next hop offers no login",
        "access.auth_required",
        "next_hop.*.username is set, but AUTH is not offered",
        "check port and tls of the next hop: most offer AUTH on 587 after STARTTLS, or on 465; or drop username",
    ),
    # RFC 7505 4.2, RFC 3463 3.2, 3.5: of `host = "mx"`, where the DNS says so for certain
    Own.NULL_MX: Words(
        556,
        _x("5.1.10"),
        "the recipient's domain takes no mail: it has a null MX",
        "recipient.domain",
        "the domain says by a null MX that it takes no mail",
    ),
    Own.NO_DOMAIN: Words(
        550,
        _x("5.1.2"),
        "the recipient's domain does not exist",
        "recipient.domain",
        "DNS has no such domain",
    ),
    Own.NO_MAIL_HOST: Words(
        550,
        _x("5.4.4"),
        "the recipient's domain has no mail host",
        "recipient.domain",
        "DNS has neither MX nor address for the domain, or none for its mail hosts",
    ),
    Own.INWARD: Words(
        451,
        _x("4.4.4"),
        "no mail host of the recipient's domain has a public address",
        "recipient.domain",
        "the domain's mail hosts have private addresses only",
        "if it is a domain of yours, give it a [[route]]; next_hop.*.allow_private is for labs",
    ),
    Own.OURSELVES: Words(
        451,
        _x("4.4.6"),
        "the mail host of the recipient's domain is this machine",
        "server.loop",
        "the domain's MX points to this machine: mail would go round in a loop",
        "let the MTA take mail for this domain, or give it a [[route]]",
    ),
    Own.DNS: Words(
        451,
        _x("4.4.3"),
        "the mail hosts of the recipient's domain cannot be looked up now",
        "server.error",
        "DNS gave no answer about the domain's mail hosts",
        "nothing is lost, the MTA retries; if other domains fail too, look at lint.dns.resolvers",
    ),
}
