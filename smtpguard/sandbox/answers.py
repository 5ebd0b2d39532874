"""Answers by address (contract 7): what a local part asks the sandbox to say.

    550-5.1.1@...          refused that way: any NNN-x.y.z of class 4 or 5; after 421 we close (RFC 5321 3.8)
    close reset slow timeout garbage
    google.dmarc ...       as that provider refuses; `lifelike` lists them
    data-...               any of these, but after the message
    ...+text  ....7.12     any of these with a suffix, so that many distinct addresses exist

At RCPT it is the recipient's local part, at MAIL the sender's. Case does not matter. Any other address is taken.
The providers' texts are short facts about how their servers talk, with our own names, addresses and ids filled in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from smtpguard.sandbox.script import Action, Close, CloseAfter, Drip, Garbage, Hang, Reset, Say

# local-part = ["data-"] (code "-" enhanced / word) *("." 1*DIGIT) ["+" anything]
_LOCAL_PART: Final = re.compile(
    rb"(?P<data>data-)?"
    rb"(?:(?P<code>[45]\d\d)-(?P<enhanced>[45]\.\d{1,3}\.\d{1,3})|(?P<word>[a-z]+(?:\.[a-z_]+)?))"
    rb"(?:\.\d+)*(?:\+.*)?",
    re.IGNORECASE | re.DOTALL,
)

# RFC 3463 and the IANA registry of enhanced status codes, by subject and detail.
_TEXTS: Final[Mapping[str, str]] = {
    "1.1": "there is no such user here",
    "1.2": "there is no such domain",
    "1.3": "the address is not well formed",
    "1.6": "the mailbox has moved",
    "1.7": "the sender's address is not well formed",
    "1.8": "the sender's domain does not exist",
    "1.10": "the domain has a null MX",
    "2.0": "the mailbox cannot be had now",
    "2.1": "the mailbox is disabled",
    "2.2": "the mailbox is full",
    "2.3": "the message is too large for this mailbox",
    "3.0": "the system has a problem",
    "3.2": "the system takes no mail now",
    "3.4": "the message is too large",
    "4.1": "no answer from the host",
    "4.2": "the connection was dropped",
    "4.6": "too many hops: this looks like a loop",
    "5.1": "bad sequence of commands",
    "5.2": "syntax error",
    "5.3": "too many recipients",
    "6.0": "the message is malformed",
    "7.0": "refused by policy",
    "7.1": "refused by policy",
    "7.8": "the login is not valid",
    "7.20": "no DKIM signature passed",
    "7.23": "the SPF check failed",
    "7.25": "the sending address has no reverse DNS",
    "7.26": "the message is not authenticated",
    "7.28": "too much mail from you",
}


@dataclass(frozen=True, slots=True)
class Lifelike:
    """How a provider refuses. `verb` is where it does so; `text` is one line a reply line, codes included.

    `means` is the category (docs: categories) of what it says. In the text `{domain}` becomes the sender's domain and
    `{rcpt}` the recipient.
    """

    name: str
    verb: Literal["RCPT", "DOT"]
    means: str
    text: str


def _google(name: str, verb: Literal["RCPT", "DOT"], means: str, text: str) -> Lifelike:
    return Lifelike(f"google.{name}", verb, means, f"{text} d75a77b69052e-4b5f0a1c2d3si15428761cf.312 - gsmtp")


def _microsoft(name: str, verb: Literal["RCPT", "DOT"], means: str, text: str) -> Lifelike:
    host = "AM4PEPF00027A5F.eurprd04.prod.outlook.com 2026-01-12T09:30:00.000Z 08DE4B1A2C3D4E5F"
    return Lifelike(f"microsoft.{name}", verb, means, f"{text} [{host}]")


_LIFELIKE: Final = (
    _google(
        "dmarc",
        "DOT",
        "auth.dmarc",
        "550-5.7.26 Unauthenticated email from {domain} is not accepted due to domain's\n"
        "550-5.7.26 DMARC policy. Please contact the administrator of {domain} domain\n"
        "550-5.7.26 if this was a legitimate mail. To learn about the DMARC initiative,\n"
        "550-5.7.26 go to\n"
        "550 5.7.26  https://support.google.com/mail/?p=DmarcRejection",
    ),
    _google(
        "unauthenticated",
        "DOT",
        "auth.unauthenticated",
        "550-5.7.26 Your email has been blocked because the sender is unauthenticated.\n"
        "550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.\n"
        "550-5.7.26\n"
        "550-5.7.26  Authentication results:\n"
        "550-5.7.26  DKIM = did not pass\n"
        "550-5.7.26  SPF [{domain}] with ip: [192.0.2.25] = did not pass\n"
        "550-5.7.26\n"
        "550-5.7.26  For instructions on setting up authentication, go to\n"
        "550 5.7.26  https://support.google.com/mail/answer/81126#authentication",
    ),
    _google(
        "spam",
        "DOT",
        "content.spam",
        "550-5.7.1 [192.0.2.25      12] Gmail has detected that this message is\n"
        "550-5.7.1 likely unsolicited mail. To reduce the amount of spam sent to Gmail,\n"
        "550-5.7.1 this message has been blocked. For more information, go to\n"
        "550 5.7.1  https://support.google.com/mail/?p=UnsolicitedMessageError",
    ),
    _google(
        "unknown",
        "RCPT",
        "recipient.unknown",
        "550-5.1.1 The email account that you tried to reach does not exist. Please try\n"
        "550-5.1.1 double-checking the recipient's email address for typos or\n"
        "550-5.1.1 unnecessary spaces. For more information, go to\n"
        "550 5.1.1  https://support.google.com/mail/?p=NoSuchUser",
    ),
    _google(
        "full",
        "RCPT",
        "recipient.full",
        "452-4.2.2 The recipient's inbox is out of storage space. Please direct the\n"
        "452-4.2.2 recipient to\n"
        "452 4.2.2  https://support.google.com/mail/?p=OverQuotaTemp",
    ),
    _google(
        "rate",
        "RCPT",
        "rate.limited",
        "450-4.2.1 The user you are trying to contact is receiving mail at a rate that\n"
        "450-4.2.1 prevents additional messages from being delivered. Please resend your\n"
        "450-4.2.1 message at a later time. For more information, go to\n"
        "450 4.2.1  https://support.google.com/mail/?p=ReceivingRate",
    ),
    _google(
        "no_rdns",
        "DOT",
        "identity.no_rdns",
        "550-5.7.25 [192.0.2.25] The IP address sending this message does not have a PTR\n"
        "550-5.7.25 record setup, or the corresponding forward DNS entry does not match\n"
        "550-5.7.25 the sending IP. As a policy, Gmail does not accept messages from IPs\n"
        "550-5.7.25 with missing PTR records. For more information, go to\n"
        "550 5.7.25  https://support.google.com/mail/answer/81126#ip-practices",
    ),
    _microsoft(
        "ip_listed",
        "RCPT",
        "reputation.ip_listed",
        "550 5.7.606 Access denied, banned sending IP [192.0.2.25]. To request removal from this list please visit "
        "https://sender.office.com/ and follow the directions. For more information please go to "
        "http://go.microsoft.com/fwlink/?LinkID=526655 AS(1430)",
    ),
    _microsoft(
        "unknown",
        "RCPT",
        "recipient.unknown",
        "550 5.4.1 Recipient address rejected: Access denied. For more information see "
        "https://aka.ms/EXOSmtpErrors AS(201806281)",
    ),
    _microsoft(
        "auth",
        "DOT",
        "auth.unauthenticated",
        "550 5.7.515 Access denied, sending domain {domain} doesn't meet the required authentication level. The "
        "sender's domain in the 5322.From address doesn't meet the authentication requirements defined for the sender. "
        "To learn how to fix this see: https://go.microsoft.com/fwlink/p/?linkid=2319303 "
        "Spf= Fail , Dkim= Fail , DMARC= Fail",
    ),
    _microsoft(
        "dmarc",
        "DOT",
        "auth.dmarc",
        "550 5.7.509 Access denied, sending domain {domain} does not pass DMARC verification and has a DMARC policy "
        "of reject.",
    ),
    _microsoft(
        "rate",
        "RCPT",
        "reputation.poor",
        "451 4.7.650 The mail server [192.0.2.25] has been temporarily rate limited due to IP reputation. For e-mail "
        "delivery information, see https://postmaster.live.com (S775)",
    ),
    Lifelike(
        "yahoo.dmarc",
        "DOT",
        "auth.dmarc",
        "554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes",
    ),
    Lifelike(
        "yahoo.rate",
        "RCPT",
        "reputation.poor",
        "421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred due to unexpected volume or user complaints - "
        "4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
    ),
    Lifelike("yahoo.unknown", "RCPT", "recipient.unknown", "552 1 Requested mail action aborted, mailbox not found"),
    Lifelike(
        "apple.policy",
        "DOT",
        "policy.unspecified",
        "550 5.7.1 [CS01] Message rejected due to local policy. Please visit https://support.apple.com/en-us/HT204137",
    ),
    Lifelike("apple.full", "RCPT", "recipient.full", "552 5.2.2 <{rcpt}>: user is over quota"),
    Lifelike(
        "proofpoint.ip_listed",
        "RCPT",
        "reputation.ip_listed",
        "554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.25",
    ),
    Lifelike(
        "spamhaus.ip_listed",
        "RCPT",
        "reputation.ip_listed",
        "554 5.7.1 Service unavailable; Client host [192.0.2.25] blocked using zen.spamhaus.org; "
        "https://www.spamhaus.org/query/ip/192.0.2.25",
    ),
    Lifelike(
        "postgrey.greylisted",
        "RCPT",
        "rate.greylisted",
        "450 4.2.0 <{rcpt}>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/",
    ),
)
_BY_NAME: Final = {refusal.name: refusal for refusal in _LIFELIKE}


def lifelike() -> dict[str, Lifelike]:
    """All lifelike refusals by name; a name is the local part that asks for it."""
    return dict(_BY_NAME)


class Wish(NamedTuple):
    """What an address asks for: at MAIL or RCPT, or after the message; None: what is usual."""

    at_once: Action | None = None
    after_message: Action | None = None


def wish_of(path: bytes, *, domain: bytes, slow_s: float) -> Wish:
    """What a path (between the angle brackets) asks for. `domain` is the sender's; `slow` drips over `slow_s`."""
    found = _LOCAL_PART.fullmatch(path.rpartition(b"@")[0])
    if found is None:
        return _NO_WISH
    late = found["data"] is not None
    shown = path.decode() if path.isascii() and path.decode().isprintable() else "?"
    action: Action
    if found["code"]:
        code, enhanced = found["code"].decode(), found["enhanced"].decode()
        if code[0] != enhanced[0]:
            return _NO_WISH
        action = _refusal(f"{code} {enhanced} <{shown}>: {_TEXTS.get(enhanced[2:], 'refused, as the address asks')}")
    else:
        word = found["word"].decode().lower()
        if word in _BY_NAME:
            refusal = _BY_NAME[word]
            late = late or refusal.verb == "DOT"
            host = domain.decode() if _HOST.fullmatch(domain) else "example.com"
            action = _refusal(refusal.text.replace("{domain}", host).replace("{rcpt}", shown))
        elif word in _WORDS:
            action = Drip(over_s=slow_s) if word == "slow" else _WORDS[word]
        else:
            return _NO_WISH
    return Wish(after_message=action) if late else Wish(at_once=action)


_NO_WISH: Final = Wish()
_HOST: Final = re.compile(rb"[A-Za-z0-9.-]+")
_WORDS: Final[Mapping[str, Action]] = {
    "close": Close(),
    "reset": Reset(),
    "slow": Drip(),
    "timeout": Hang(),
    "garbage": Garbage(),
}


def _refusal(text: str) -> Action:
    return CloseAfter(text) if text.startswith("421") else Say(text)
