"""The reply within a text that tells of it: a line of a log, a Diagnostic-Code, a paragraph of a bounce, a scrap.

MTAs quote a reply with words of their own around it ("host mx.example.com[192.0.2.1] said: 550 ... (in reply to RCPT TO
command)"); those words name host and verb. A text without any code still is a reply here, for its words are what a
person asks about: its code is then one of NO_CODE. Nothing here raises; time is linear in at most MAX_TEXT characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from smtpguard.mail.reply import EnhancedCode, Reply, ReplyError, Verb, parse_enhanced

MAX_TEXT: Final = 16384
"""Characters that are looked at; the classifier looks at 4,096 octets of the reply in them."""

NO_CODE: Final[Mapping[int, int]] = {4: 499, 5: 599}
"""By class: stands for the code of a text that has none; no rule asks for these numbers."""

# what people and logs write for a verb
_VERBS: Final[Mapping[str, Verb]] = {
    **{verb.value: verb for verb in Verb},
    "HELO": Verb.EHLO,
    "LHLO": Verb.EHLO,
    "MAIL FROM": Verb.MAIL,
    "RCPT TO": Verb.RCPT,
    "END OF DATA": Verb.DOT,
    "END-OF-DATA": Verb.DOT,
    "END-OF-MESSAGE": Verb.DOT,
    "SENDING DATA BLOCK": Verb.DOT,
    "EOM": Verb.DOT,
    ".": Verb.DOT,
    "BODY": Verb.DOT,
    "CONNECTION": Verb.CONNECT,
    "GREETING": Verb.CONNECT,
    "INITIAL CONNECTION": Verb.CONNECT,
    "INITIAL SERVER GREETING": Verb.CONNECT,
    "MESSAGE BODY": Verb.DOT,
}


class Said(NamedTuple):
    """A reply, and what its text tells of where it came from ("" and None: nothing).

    `id` is the event id of the smtpguard that passed the reply on. `is_relayed`: `host` is named by the reply itself,
    so it is farther away than the server that an MTA's log or DSN names.
    """

    reply: Reply
    host: str
    verb: Verb | None
    has_code: bool
    id: str = ""
    is_relayed: bool = False


def verb_of(word: str) -> Verb | None:
    """The verb that people call by this word ("rcpt to", "end of data"); None for no SMTP verb."""
    return _VERBS.get(" ".join(word.upper().split()))


def said(
    text: str, *, host: str = "", verb: Verb | None = None, status: EnhancedCode | None = None, klass: int = 5
) -> Said:
    """The reply in `text`; `host` and `verb` win over what the text says.

    `status` is the enhanced code told beside it (a DSN's Status, a log's dsn=): used where the text gives none.
    `klass`, 4 or 5, is that of a text that gives no code at all.
    """
    told_host, told_verb, text = _placed(text[:MAX_TEXT].strip())
    hop_host, id, text = _without_ours(text)
    host, verb = host or hop_host or told_host, verb or told_verb  # the MTA knows no farther than us
    start = _start(text)
    if start is not None:
        with_code = _with_code(text[start:], verb or Verb.MAIL, quoted=text[start - 1 : start] if start else "")
        if with_code is not None:
            return Said(_completed(with_code, status), host, verb, True, id, bool(hop_host))
    flat = " ".join(text.split())
    enhanced, rest = parse_enhanced(flat)
    enhanced = enhanced or status or _inner_enhanced(flat)
    if enhanced is not None and enhanced.klass == 2:
        enhanced = None
    code = NO_CODE[enhanced.klass if enhanced is not None else klass]
    return Said(Reply(code, (rest,), enhanced, verb or Verb.MAIL), host, verb, False, id, bool(hop_host))


# --- the words around a reply ----------------------------------------------------------------------------------------

# Postfix smtp_trouble.c, smtp_chat.c: "host NAME[ADDRESS] said: REPLY (in reply to VERB command)"; a bounce folds it
_SAID = re.compile(r"\bhost\s+([^\s\[]{1,255})\[[^\]]{0,80}\](?::\d+)?\s+(said|refused\s+to\s+talk\s+to\s+me):\s+")
_IN_REPLY_TO = re.compile(r"\s*\(in\s+reply\s+to\s+(?:the\s+)?([A-Za-z\s-]{1,30}?)(?:\s+command)?\)\W{0,3}$")
_TAIL: Final = 120
# Postfix ADDRESS_VERIFICATION_README: "Sender address rejected: undeliverable address: host NAME[ADDRESS] said: REPLY"
_OF_SENDER: Final = "sender address rejected:"
# Postfix, where there was no reply: "relay=none, dsn=4.4.1, status=deferred (TEXT)", and in TEXT
# "lost connection with NAME[ADDRESS] while sending RCPT TO"
_STATUS = re.compile(r"\bstatus=(?:deferred|bounced|expired|undeliverable)\s+\(")
_GONE = re.compile(r"\b(?:connect\s+to|lost\s+connection\s+with|conversation\s+with)\s+([^\s\[]{1,255})\[[^\]]{0,80}\]")
_WHILE = re.compile(
    r"\bwhile\s+(?:receiving|sending|performing)\s+(?:the\s+)?"
    r"(initial\s+server\s+greeting|EHLO|HELO|LHLO|MAIL\s+FROM|RCPT\s+TO|DATA|message\s+body|end\s+of\s+data)",
    re.I,
)
# IONOS: "SMTP error from remote server for RCPT TO command, host: NAME (ADDRESS) reason: REPLY"
_FOR = re.compile(r"\bfor\s+([A-Za-z ]{4,20})\s+command,\s+host:\s+(\S{1,255})\s")
# Exim transports/smtp.c: "... H=NAME [ADDRESS]: SMTP error from remote mail server after VERB:...: REPLY", in bounces
# with "host NAME [ADDRESS]" before it, in older versions behind it
_EXIM_MARK: Final = "SMTP error from remote mail"
_EXIM = re.compile(
    r"SMTP error from remote mail(?: server|er) after (?:pipelined )?"
    r"(initial connection|end of data|sending data block|[A-Z]+(?: FROM| TO)?)"
    r"[^\n]{0,600}?:\s{1,40}(?:host (\S{1,255}) \[[^\]]{0,80}\]:\s{0,40})?(?=[45]\d\d[ -])"
)
_EXIM_HOST = re.compile(r"(?:\bH=|\bhost )([^\s\[]{1,255}) \[")
# qmail-remote.c; its addresses are all it knows of a host
_QMAIL: Final[tuple[tuple[str, Verb], ...]] = (
    ("does not like recipient", Verb.RCPT),
    ("but sender was rejected", Verb.MAIL),
    ("but greeting failed", Verb.CONNECT),
    ("but my name was rejected", Verb.EHLO),
    ("failed on DATA command", Verb.DATA),
    ("failed after I sent the message", Verb.DOT),
)


def _placed(text: str) -> tuple[str, Verb | None, str]:
    """(host, verb, the rest) as the words around a reply tell them."""
    host, verb = "", None
    if (at := text.find(_EXIM_MARK)) >= 0 and (found := _EXIM.match(text, at)) is not None:
        before = [*_EXIM_HOST.finditer(text[:at])]
        return found[2] or (before[-1][1] if before else ""), verb_of(found[1]), text[found.end() :]
    quote = _SAID.search(text)
    if quote is not None and _OF_SENDER in text[: quote.start()].lower():
        return host, verb, text  # what was said to who verified the sender is no word about the recipient
    if (found := _IN_REPLY_TO.search(text, max(0, len(text) - _TAIL))) is not None:
        verb, text = verb_of(found[1]), text[: found.start()]
    if quote is not None:
        refused = Verb.CONNECT if quote[2].startswith("refused") else None
        return quote[1], verb or refused, text[quote.end() :]
    if (found := _STATUS.search(text)) is not None:
        text = text[found.end() :].removesuffix(")")
    if (found := _FOR.search(text)) is not None:
        return found[2], verb or verb_of(found[1]), text
    if (found := _GONE.search(text)) is not None:
        host = found[1]
        if (at_verb := _WHILE.search(text)) is not None:
            verb = verb or verb_of(at_verb[1])
    for words, qmail_verb in _QMAIL:
        if words in text:
            return host, verb or qmail_verb, text
    return host, verb, text


# What policy.explained wrote (contract 1.5), wrapped as a bounce wraps it, or with Exim's "\n" between its lines
_OUR_MARK = re.compile(r"\[smtpguard\](?=\s)")
_OUR_TAIL = re.compile(r"(?:\s|\\n){0,40}[45]\d\d[ -](?:[45]\.\d{1,3}\.\d{1,3})?\s*$")
_OUR_ID = re.compile(r"\[smtpguard\]\s{1,40}Cause:\s[^\[]{1,600}?\sId:\s{1,40}([0-9A-HJKMNP-TV-Z]{12})\b")
_OUR_HEAD = re.compile(
    r"(?<!\S)([45]\d\d[ -](?:[45]\.\d{1,3}\.\d{1,3}\s{1,40})?)([\w.:\[\]-]{1,255})\s{1,40}said:\s{1,40}"
)


def _without_ours(text: str) -> tuple[str, str, str]:
    """(the next hop's host, the event id, the next hop's reply) of a text in which smtpguard explains a refusal."""
    if (mark := _OUR_MARK.search(text)) is None:
        return "", "", text
    ids = _OUR_ID.findall(text, mark.start())
    text = _OUR_TAIL.sub("", text[: mark.start()])
    host = ""
    if (head := _OUR_HEAD.search(text)) is not None:
        host, text = head[2], text[: head.start()] + head[1] + text[head.end() :]
    return host, ids[-1] if ids else "", text  # the last is of the smtpguard that the MTA talked to


# --- the reply itself ------------------------------------------------------------------------------------------------

# "550 5.1.1 x", "550-5.1.1 x", "550: x", "#550 x", "<550 x", "550#5.1.1 x"; of 3xx those that SMTP has
_FIRST = re.compile(r"[#<(\[\"']{0,2}(?=(?:[245]\d\d|3[35]4)(?:[ :;#-]|$))")
# after words that lead in a reply; the lists are of what real notices say
_LED_IN = re.compile(
    r"(?:\bsaid:?|\breturned:?|\brepl(?:y|ied)(?: was)?:"
    r"|\brespon(?:se|ded)(?: (?:from|of) [^\n:]{0,80})?(?: was| with)?:?"
    r"|\breason:?|\bbecause:?|\berror(?: was| message)?:|\bsmtp;|<<<|<--|\bstatus(?: code)?:?|LED=|\bwas:|\bmessage:"
    r"|\bServer error:|\bresult:|\bantwort(?:ete)?:?|\br[ée]ponse:)"
    r"\s{0,40}['\"(<#«]{0,2}(?=[245]\d\d[ :-])",
    re.I,
)
# on a line of its own below other words
_OWN_LINE = re.compile(r"\n[ \t]{0,12}(?=[45]\d\d[ -][^\s\d])")
# wherever an enhanced code stands behind a code of its class
_CODED = re.compile(r"(?<![\w.])(?=(?:5\d\d[ :-]{1,2}[#(\[]{0,2}5|4\d\d[ :-]{1,2}[#(\[]{0,2}4)\.\d{1,3}\.\d{1,3}\b)")


def _start(text: str) -> int | None:
    """Where a reply begins in a text; None where none is to be seen."""
    if (found := _FIRST.match(text)) is not None:
        return found.end()
    starts = [found.end() for pattern in (_LED_IN, _OWN_LINE, _CODED) if (found := pattern.search(text)) is not None]
    return min(starts, default=None)


_ODD = re.compile(r"([245]\d\d)[:;#)\]> -]{0,4}")
_CLOSING: Final[Mapping[str, str]] = {"'": "'", '"': '"', "(": ")", "<": ">", "[": "]"}


def _with_code(text: str, verb: Verb, *, quoted: str) -> Reply | None:
    """The reply that `text` begins with; `quoted` is the character before it, whose counterpart ends it."""
    if quoted in _CLOSING:
        text = text.rstrip().removesuffix(_CLOSING[quoted])
    if text.endswith(">") and text.count(">") > text.count("<"):  # Exchange 2003: <host #5.1.1 smtp;550 5.1.1 ...>
        text = text[:-1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    try:  # as a server sent it
        return Reply.of("\n".join(lines), verb)
    except ReplyError:
        pass
    try:  # lines of different codes, or a tail that is none of the reply
        reply = Reply.of(" ".join(" ".join(lines).split()), verb)
    except ReplyError:
        found = _ODD.match(text)
        if found is None:
            return None
        try:
            reply = Reply.of(f"{found[1]} {' '.join(text[found.end() :].split())}", verb)
        except ReplyError:
            return None
    return reply


def _completed(reply: Reply, status: EnhancedCode | None) -> Reply:
    """The reply without the codes that wrapping left within its lines.

    With the enhanced code that was told beside it, if that says anything.
    """
    lines = reply.lines
    if any(f" {reply.code}" in line for line in lines):
        lead = rf"\s{reply.code}(?:-(?:{re.escape(str(reply.enhanced))} )?|[ ]{re.escape(str(reply.enhanced))} )"
        lines = tuple(re.sub(lead, " ", line) for line in lines)
    enhanced = reply.enhanced
    if enhanced is None and status is not None and status.klass == reply.klass and status[1:] != (0, 0):
        enhanced = status
    return replace(reply, lines=lines, enhanced=enhanced) if lines is not reply.lines or enhanced else reply


_INNER = re.compile(r"[(\[ #]([45])\.([0-7])\.(\d{1,3})[)\] :;,.]")


def _inner_enhanced(text: str) -> EnhancedCode | None:
    """As in "no mailbox here by that name. (#5.1.1)"."""
    found = _INNER.search(text[-4096:] + " ")
    return EnhancedCode(int(found[1]), int(found[2]), int(found[3])) if found is not None else None
