"""Records as log lines: the keys of contract 4, what is masked, what is found in a 2xx."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.lint import Action, Evidence, Finding, Severity
from smtpguard.mail.reply import FailureKind, Hop, HopFailure, Reply, Verb
from smtpguard.mail.session import Recipient
from smtpguard.policy import Suppression
from smtpguard.record import (
    FIELDS,
    TEXT_LIMIT,
    Accepted,
    AddressMode,
    Event,
    Masker,
    Outcome,
    Record,
    events,
    next_hop_queue_id,
)
from tests.records import HOP, SENDER, UNKNOWN, record, refusal

KEY = b"a secret of this installation"
MASK = Masker("mask", KEY)
MODES: tuple[AddressMode, ...] = ("full", "mask", "hash", "domain")
JANE = b"jane.doe@example.org"


FINDING = Finding("SPF003", "spf-fail", Severity.ERROR, "x", "y", "z", (), Evidence(), Action.OBSERVE, None, "auth.spf")


def told(written: Record, mode: AddressMode = "mask") -> list[Event]:
    return events(written, Masker(mode, KEY))


def only(written: Record, action: str, mode: AddressMode = "mask") -> Event:
    (found,) = (event for event in told(written, mode) if event.action == action)
    return found


# --- addresses


@pytest.mark.parametrize(
    ("mode", "path", "shown"),
    [
        ("full", b"J.Doe@Example.org", "J.Doe@Example.org"),
        ("mask", b"J.Doe@Example.org", "J***@example.org"),
        ("domain", b"J.Doe@Example.org", "***@example.org"),
        ("mask", b"postmaster", "p***"),
        ("domain", b"postmaster", "***"),
        ("mask", "jürgen@bücher.example".encode(), "j***@bücher.example"),
        ("mask", b'"odd @ local"@example.org', '"***@example.org'),
        ("mask", b"@example.org", "***@example.org"),
        ("full", b"caf\xe9@example.org", r"caf\xe9@example.org"),
        ("mask", b"\xe9@example.org", "\\***@example.org"),
        ("full", b"a\x1b[31m@example.org", "a [31m@example.org"),
        ("full", "a\u202eb@example.org".encode(), "a b@example.org"),
    ],
)
def test_an_address_is_shown_as_the_mode_allows(mode: AddressMode, path: bytes, shown: str) -> None:
    assert Masker(mode, KEY).show(path) == shown


@pytest.mark.parametrize("mode", MODES)
def test_the_null_sender_is_shown_in_every_mode(mode: AddressMode) -> None:
    assert Masker(mode, KEY).show(b"") == "<>"


def test_a_hash_is_searchable_and_keyed() -> None:
    same = {MASK.id(b"jane@example.org"), MASK.id(b"jane@EXAMPLE.ORG"), Masker("full", KEY).id(b"jane@Example.org")}
    assert len(same) == 1
    assert len(same.pop()) == 16
    assert MASK.id(b"Jane@example.org") != MASK.id(b"jane@example.org")  # RFC 5321 2.4: a local part's case may matter
    assert Masker("mask", b"another").id(JANE) != MASK.id(JANE)
    assert Masker("hash", KEY).show(JANE) == MASK.id(JANE)
    assert Masker("hash", b"k" * 200).id(JANE) != Masker("hash", b"k" * 201).id(JANE)


def test_a_masker_needs_a_key() -> None:
    with pytest.raises(ValueError, match="key"):
        Masker("mask", b"")


@given(st.binary(max_size=200))
def test_any_octets_are_shown_as_printable_text(path: bytes) -> None:
    for mode in MODES:
        masker = Masker(mode, KEY)
        assert masker.show(path).isprintable()
        assert masker.show(path).encode()
        assert len(masker.id(path)) == 16


LOCAL = st.text("abcdefghijklmnopqrstuvwxyz0123456789.+-_äßéİ", min_size=6, max_size=40)


@given(LOCAL, st.text(max_size=60), st.sampled_from([str.lower, str.upper, str]))
def test_an_address_in_foreign_text_does_not_survive(local: str, around: str, case: type[str]) -> None:
    address = f"{local}@example.org"
    text = f"{around} <{case(address) if address.isascii() else address}> {around} '{local}'"
    for mode in ("mask", "hash", "domain"):
        shown = Masker(mode, KEY).text(text, (address.encode(),))
        hidden = text.replace(address, "").replace(f"'{local}'", "")
        if local.lower() not in hidden.lower():
            assert local.lower() not in shown.lower()
        assert shown.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<Jane.Doe@Example.ORG>: unknown", "<j***@example.org>: unknown"),
        ("jane.doe@example.org jane.doe@example.org", "j***@example.org j***@example.org"),
        ("mailbox 'jane.doe' is full", "mailbox 'j***' is full"),
        ("user (JANE.DOE) unknown", "user (j***) unknown"),
        ("jane.doe alone may be any word", "jane.doe alone may be any word"),
        ("größer: jane.doe@example.org", "größer: j***@example.org"),
        ("\x1b[2J\r\nred", " [2J  red"),
    ],
)
def test_own_addresses_are_masked_in_foreign_text(text: str, shown: str) -> None:
    assert MASK.text(text, (JANE, SENDER)) == shown


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("full", "forwarded to <Ann@Home.example>: full"),
        ("mask", "forwarded to <A***@home.example>: full"),
        ("hash", f"forwarded to <{MASK.id(b'Ann@home.example')}>: full"),
        ("domain", "forwarded to <***@home.example>: full"),
    ],
)
def test_addresses_of_others_are_masked_in_foreign_text(mode: AddressMode, shown: str) -> None:
    assert Masker(mode, KEY).text("forwarded to <Ann@Home.example>: full", (JANE,)) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("write to postmaster@example.org.", "write to p***@example.org."),
        (
            "(mailto:ann@example.org?) or ben+list=x@example.org, twice",
            "(mailto:a***@example.org?) or b***@example.org, twice",
        ),
        ("größe@example.org, ann@größer.example", "g***@example.org, a***@größer.example"),
        ("relay!ann%home@example.org", "r***@example.org"),
        ("ann@home@example.org", "a***@example.org"),
        ("@ann@example.org, @ann", "@***@example.org, @ann"),
        (f"{'a' * 300}@example.org", "a***@example.org"),
        ("masked before: j***@example.org", "masked before: j***@example.org"),
        ("at 10:00 @ home, 5@, @here @", "at 10:00 @ home, 5@, @here @"),
    ],
)
def test_what_looks_like_an_address_is_masked(text: str, shown: str) -> None:
    assert MASK.text(text) == shown


@given(st.text("ab@.<> ,", max_size=60))
def test_masked_twice_is_masked_once(text: str) -> None:
    assert MASK.text(MASK.text(text)) == MASK.text(text)


@pytest.mark.parametrize("before", range(2 * TEXT_LIMIT - 30, 2 * TEXT_LIMIT + 2))
def test_an_address_of_others_that_is_cut_in_half_does_not_survive(before: int) -> None:
    other = "<somebody.else.with.a.long.name@example.org>, "  # more than half of it is hidden
    shown = MASK.text((other * (before // len(other))).ljust(before) + "jane.doe@example.org" + "x" * 50)
    assert not {"jane", "somebody"} & set(re.findall("[a-z]{2,}", shown))


def test_a_refusal_that_names_somebody_else_does_not_name_them_in_the_log() -> None:
    said = refusal("550 5.2.2 <jane.doe@example.org>: forwarded to ann@home.example, which is full")
    line = only(record(said, outcome="refused"), "recipient-refused")
    assert line.fields["smtp.reply.text"] == "<j***@example.org>: forwarded to a***@home.example, which is full"


def test_full_leaves_text_but_for_its_control_characters() -> None:
    assert Masker("full", KEY).text("<jane.doe@example.org>\x00\x9b", (JANE,)) == "<jane.doe@example.org>  "


@pytest.mark.parametrize("before", range(2 * TEXT_LIMIT - 30, 2 * TEXT_LIMIT + 2))
def test_an_address_cut_in_half_does_not_survive(before: int) -> None:
    """Masking shrinks text, so what stands beyond the limit may come into sight."""
    filler = ("<jane.doe@example.org>" * 400)[:before]
    shown = MASK.text(filler + "jane.doe@example.org" + "x" * 50, (JANE,))
    assert "jane" not in shown
    assert len(shown) <= TEXT_LIMIT


def test_many_hostile_recipients_do_not_make_text_grow() -> None:
    """Recipients chosen so that what one is shown as holds the next."""
    paths = [b"*" * count + b"@x.y" for count in range(1, 500)] + [b"a", b"@x.y", b"<", b""]
    shown = MASK.text("*@x.y <a> a " * 300, paths)
    assert len(shown) <= TEXT_LIMIT
    assert MASK.text("a <a> @x.y", [b"a", b"@x.y", b""]) == "a <a***> @x.y"


# --- lines


def test_one_refused_of_two() -> None:
    written = record(refusal(), accepted=[b"ann@example.org"], outcome="partial")
    assert [event.action for event in told(written)] == ["recipient-accepted", "recipient-refused", "transaction"]
    refused = only(written, "recipient-refused")
    assert refused.level == "warning"
    assert refused.message == "rejected at RCPT by mx.example.net: 550 5.1.1 (recipient.unknown)"
    assert refused.fields == {
        "event.id": "01JD5Z8Q7KX3",
        "event.outcome": "failure",
        "source.ip": "192.0.2.1",
        "source.port": 40000,
        "server.address": "mx.example.net",
        "server.port": 25,
        "rule.id": "postfix.unknown",
        "email.message_id": "<m1@example.com>",
        "smtp.verb": "RCPT",
        "smtp.mail_from": "B***@example.com",
        "smtp.rcpt_to": "j***@example.org",
        "smtp.rcpt_id": MASK.id(JANE),
        "smtp.queue_id": "4Abc",
        "smtp.reply.code": 550,
        "smtp.reply.enhanced": "5.1.1",
        "smtp.reply.text": "User unknown",
        "tls.version": "TLSv1.3",
        "smtpguard.session": "s1",
        "smtpguard.source": "next_hop",
        "smtpguard.category": "recipient.unknown",
        "smtpguard.permanence": "permanent",
        "smtpguard.confidence": 0.95,
        "smtpguard.provider": "google",
        "smtpguard.responsible": "recipient",
        "smtpguard.cause": "no such user",
        "smtpguard.fix": "Check the spelling.",
        "smtpguard.next_hop": "default",
    }
    done = only(written, "transaction")
    assert done.message == "partial: 1 accepted, 1 refused"
    assert done.level == "info"
    assert {key: value for key, value in done.fields.items() if key not in refused.fields} == {
        "event.duration": 250_000_000,
        "smtp.size": 2048,
        "smtp.rcpt.accepted": 1,
        "smtp.rcpt.refused": 1,
        "smtpguard.ms.receive": 2.0,
        "smtpguard.ms.next_hop": 100.0,
    }
    assert done.fields["tls.version"] == "TLSv1.2"


def test_an_accepted_recipient_bears_the_next_hops_words_and_queue_id() -> None:
    taken = only(record(accepted=[JANE]), "recipient-accepted")
    assert taken.level == "info"
    assert taken.fields["event.outcome"] == "success"
    assert taken.fields["smtp.reply.code"] == 250
    assert taken.fields["smtp.reply.text"] == "Ok: queued as 4XyZ1a2b3c"
    assert taken.fields["smtp.next_hop_queue_id"] == "4XyZ1a2b3c"
    assert "smtpguard.category" not in taken.fields


def test_problems_leaves_out_accepted_recipients_alone() -> None:
    written = record(refusal(), accepted=[b"ann@example.org"])
    actions = [event.action for event in events(written, MASK, deliveries="problems")]
    assert actions == ["recipient-refused", "transaction"]


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        ("accepted", "success"),
        ("refused", "failure"),
        ("deferred", "failure"),
        ("partial", "failure"),
        ("aborted", "failure"),
        ("unknown", "unknown"),
    ],
)
def test_each_outcome_has_a_word_of_ecs(outcome: Outcome, word: str) -> None:
    done = only(record(outcome=outcome), "transaction")
    assert done.fields["event.outcome"] == word
    assert done.message.startswith(outcome)


def test_the_answer_stands_beside_what_was_said_where_they_differ() -> None:
    changed = only(record(refusal("421 4.3.2 busy", answer="451 4.3.2 busy")), "recipient-refused")
    assert (changed.fields["smtp.reply.code"], changed.fields["smtpguard.answer"]) == (421, 451)
    assert "smtpguard.answer" not in only(record(refusal()), "recipient-refused").fields


def test_a_hop_failure_is_told_without_a_reply() -> None:
    lost = HopFailure(FailureKind.DISCONNECT, Verb.DOT, "closed while <jane.doe@example.org> waited", unknown=True)
    written = record(
        refusal(None, None, verb=Verb.DOT, answer="451 4.4.2 lost", failure=lost, count=3, source="internal")
    )
    line = only(written, "recipient-refused")
    assert line.message == "deferred at DOT: 451 4.4.2 (recipient.unknown, disconnect at DOT)"
    assert line.fields["event.outcome"] == "unknown"
    assert line.fields["error.type"] == "disconnect"
    assert line.fields["smtpguard.answer"] == 451
    assert line.fields["smtp.rcpt.refused"] == 3
    assert not {"smtp.reply.code", "smtp.rcpt_to", "smtp.rcpt_id", "error.code"} & line.fields.keys()
    assert only(written, "transaction").fields["smtp.rcpt.refused"] == 3


def test_where_no_next_hop_was_asked_none_is_named() -> None:
    line = only(record(refusal(None, answer="451 4.3.0 x", source="internal", hop=None)), "recipient-refused")
    assert line.message == "deferred at RCPT: 451 4.3.0 (recipient.unknown)"
    assert not {"server.address", "server.port", "tls.version"} & line.fields.keys()


def test_a_missing_capability_names_its_keyword() -> None:
    lacks = HopFailure(FailureKind.CAPABILITY, Verb.MAIL, keyword="SMTPUTF8")
    line = only(record(refusal(None, answer="550 5.6.7 no", failure=lacks)), "recipient-refused")
    assert (line.fields["error.type"], line.fields["error.code"]) == ("capability", "SMTPUTF8")


def test_a_refused_message_names_no_recipient_of_it() -> None:
    said = "554 5.7.1 spam for ann@example.org and jane.doe@example.org from bob.sender@example.com"
    written = record(refusal(), refusal(said, None, verb=Verb.DOT, count=2), accepted=[b"ann@example.org"])
    (line,) = (event for event in told(written) if event.fields.get("smtp.verb") == "DOT" and event.level == "warning")
    assert line.fields["smtp.reply.text"] == "spam for a***@example.org and j***@example.org from B***@example.com"
    assert line.fields["smtp.rcpt.refused"] == 2


@pytest.mark.parametrize("mode", ["mask", "hash", "domain"])
def test_no_line_holds_a_local_part(mode: AddressMode) -> None:
    """A marker search: the addresses in every place that a record has for foreign text."""
    text = "<jane.doe@example.org> <bob.sender@example.com> 'Jane.Doe'"
    meaning = UNKNOWN._replace(cause=text, fix=text, reference="https://example.net/", retry_after=300.0)
    failure = HopFailure(FailureKind.TIMEOUT, Verb.RCPT, text)
    written = record(
        refusal(f"550 5.1.1 {text}", meaning=meaning),
        refusal(None, answer="451 4.4.2 late", meaning=meaning, failure=failure),
        accepted=[JANE],
        said=f"250 2.1.5 {text}",
    )
    shown = repr(told(written, mode)).lower()
    assert "jane" not in shown
    assert "bob" not in shown


def test_absent_rather_than_null() -> None:
    written = record(queue_id="", mail_from=b"", hop=Hop("default", "", 0))
    written.session.peer_ip, written.session.peer_port, written.session.tls_version = "", 0, ""
    written.message_id = written.next_hop = ""
    fields = only(written, "transaction").fields
    assert fields.keys() == {
        *("event.id", "event.outcome", "event.duration", "smtp.mail_from", "smtp.size", "smtp.rcpt.accepted"),
        *("smtp.rcpt.refused", "smtpguard.session", "smtpguard.ms.receive", "smtpguard.ms.next_hop"),
    }
    assert fields["smtp.mail_from"] == "<>"
    assert fields["smtp.rcpt.refused"] == 0


def test_a_client_that_went_away_is_mentioned() -> None:
    written = record(accepted=[JANE])
    written.client_gone = True
    assert only(written, "transaction").message == "accepted: 1 accepted, 0 refused, client gone"


def test_every_key_is_a_known_one_and_every_known_one_is_used() -> None:
    meaning = UNKNOWN._replace(reference="https://example.net/", retry_after=300.0)
    failure = HopFailure(FailureKind.CAPABILITY, Verb.MAIL, "lacks it", keyword="DSN")
    written = record(
        refusal("450 4.2.1 later", answer="451 4.2.1 later", meaning=meaning, failure=failure),
        refusal("554 5.7.1 no", None, verb=Verb.DOT),
        accepted=[JANE],
    )
    written.findings, written.lint_s = [FINDING], 0.001
    written.refusals[0] = replace(written.refusals[0], action="defer")
    seen = {key for event in told(written) for key in event.fields}
    assert seen == set(FIELDS)


def test_what_policy_did_has_a_line_of_its_own() -> None:
    written = record(refusal(rcpt=JANE), accepted=[])
    added = Suppression("k" * 16, 1.0, 2.0, "j***@example.org", 550, "5.1.1", "no", "recipient.unknown", "policy")
    written.refusals[0] = replace(written.refusals[0], action="suppress", suppressed=added)
    written.diverted = [replace(refusal(rcpt=JANE), action="reroute")]
    lines = told(written)
    assert [line.action for line in lines] == [
        "recipient-refused",
        "policy-applied",
        "suppression-added",
        "policy-applied",
        "transaction",
    ]
    assert [line.fields.get("smtpguard.action") for line in lines] == ["suppress", "suppress", None, "reroute", None]
    assert lines[2].message == "j***@example.org is suppressed (recipient.unknown)"
    assert all(line.level == "warning" for line in lines[:4])


@pytest.mark.parametrize(
    ("rcpt", "agreement"),
    [(None, "rejected"), (JANE, "rejected"), (b"ben@example.net", "accepted"), (b"nobody@example.net", "")],
)
def test_whether_the_next_hop_agreed_with_a_finding(rcpt: bytes | None, agreement: str) -> None:
    written = record(refusal(rcpt=JANE), accepted=[b"ben@example.net"])
    assert written.agreement(replace(FINDING, rcpt=rcpt)) == agreement
    ours = record(refusal(rcpt=JANE, source="lint", said=None, answer="550 5.7.1 no"))
    assert ours.agreement(FINDING) == ""


foreign = st.text(max_size=80) | st.binary(max_size=80).map(lambda octets: octets.decode("latin-1"))


@given(foreign, foreign, st.binary(max_size=40), st.binary(max_size=40), st.sampled_from(MODES))
def test_nothing_foreign_gets_a_control_character_into_a_line(
    text: str, other: str, rcpt: bytes, mail_from: bytes, mode: AddressMode
) -> None:
    hop = Hop("default", other, 25)
    said = Reply(550, (text, other), None, Verb.RCPT)
    refused = replace(refusal(rcpt=rcpt, hop=hop), said=said, answer=said)
    failed = replace(refused, said=None, failure=HopFailure(FailureKind.PROTOCOL, Verb.RCPT, text), rcpt=None)
    written = record(refused, failed, accepted=[rcpt], mail_from=mail_from, queue_id=text, hop=hop)
    written.accepted = [written.accepted[0]._replace(reply=Reply(250, (text,)))]
    written.message_id = other
    for event in told(written, mode):
        assert event.message.isprintable()
        assert all(value.isprintable() for value in event.fields.values() if isinstance(value, str))


# --- queue ids


@pytest.mark.parametrize(
    ("said", "queue_id"),
    [
        ("250 2.0.0 Ok: queued as 4XyZ1a2b3c", "4XyZ1a2b3c"),
        ("250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 9F2A1C0D", "9F2A1C0D"),
        ("250 OK id=1tEabc-0000000Dxy-2aBc", "1tEabc-0000000Dxy-2aBc"),
        ("250 2.6.0 <m1@example.com> [InternalId=8125, Hostname=mb.example.org] Queued mail for delivery", "8125"),
        (
            "250 2.0.0 OK  1732270000 af79cd13be357-7b33f1a2si84711485a.241 - gsmtp",
            "af79cd13be357-7b33f1a2si84711485a.241",
        ),
        ("250 2.0.0 4AMKfBxq012345 Message accepted for delivery", "4AMKfBxq012345"),
        ("250 ok 1732270000 qp 21345", "21345"),
        ("250 2.0.0 Message queued as ABC123.", "ABC123"),
        ("250 2.1.5 Ok", ""),
        ("250 2.0.0 queued as \x1b[31m", ""),
        ("550 5.1.1 not queued as 4XyZ1a2b3c", ""),
        ("250 valid=yes", ""),
    ],
)
def test_the_next_hops_queue_id_is_read_from_its_text(said: str, queue_id: str) -> None:
    assert next_hop_queue_id(Reply.of(said, Verb.DOT)) == queue_id


def test_two_next_hops_that_say_the_same_stay_two() -> None:
    """A known reply is one object whoever said it; each line names its own next hop, and masks its own recipient."""
    said = Reply.of("250 2.0.0 <ann@example.org> Ok: queued as 4Abc", Verb.DOT)
    other = Hop("other", "mx.example.com", 26)
    written = record(accepted=[])
    written.accepted = [Accepted(b"ann@example.org", said, HOP), Accepted(b"joe@example.com", said, other)]
    first, second, _ = events(written, Masker("mask", b"key"))
    assert (first.fields["server.address"], second.fields["server.address"]) == ("mx.example.net", "mx.example.com")
    assert (first.fields["smtpguard.next_hop"], second.fields["smtpguard.next_hop"]) == ("default", "other")
    assert (first.message, second.message) == ("accepted by mx.example.net", "accepted by mx.example.com")
    assert first.fields["smtp.reply.text"] == "<a***@example.org> Ok: queued as 4Abc"


def test_what_policy_made_of_a_refusal_of_all_shows_nobody() -> None:
    refused = refusal("550 5.7.1 <jane.doe@example.org>: blocked", rcpt=None, verb=Verb.DOT)
    written = record(replace(refused, action="defer"))
    written.envelope.rcpts.append(Recipient(JANE))
    assert only(written, "policy-applied").fields["smtp.reply.text"] == "<j***@example.org>: blocked"
