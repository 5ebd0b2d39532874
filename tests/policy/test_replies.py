"""What the MTA gets: which codes pass, which become 451, what we say ourselves, how a refusal reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard import policy
from smtpguard.classify import CATEGORIES, Classification, load
from smtpguard.mail.reply import EnhancedCode, FailureKind, HopFailure, Reply, Verb
from smtpguard.policy import Own

RULES = load()
FIX, CAUSE = "sign with d=example.com or add the sending IP to its SPF record", "no aligned SPF or DKIM"
DMARC = Classification("auth.dmarc", cause=CAUSE, fix=FIX)

# (what the next hop said, at which verb) -> what the MTA gets; contract 1.4
PASSED = [
    ("550 5.1.1 no such user", Verb.RCPT),
    ("452 4.2.2 full", Verb.RCPT),
    ("552 5.2.2 full", Verb.RCPT),
    ("554 5.7.1 spam", Verb.DOT),
    ("500 5.5.2 line too long", Verb.DOT),
    ("550 5.7.1 go away", Verb.MAIL),
    ("553 5.1.3 malformed", Verb.RCPT),
    ("501 5.1.3 bad address syntax", Verb.RCPT),
    ("451 4.7.1 greylisted", Verb.DATA),
    ("450 4.7.1 later", Verb.CONNECT),
    ("571 refused", Verb.MAIL),
]
CHANGED = [
    ("421 4.3.2 closing", Verb.MAIL, "451 4.3.2 closing"),
    ("421 closing", Verb.RCPT, "451 closing"),
    ("421 4.7.0 slow down", Verb.DOT, "451 4.7.0 slow down"),
    ("554 5.7.1 bad reputation", Verb.CONNECT, "451 4.7.1 bad reputation"),
    ("550 5.7.1 no", Verb.EHLO, "451 4.7.1 no"),
    ("452 4.3.1 busy", Verb.EHLO, "451 4.3.1 busy"),
    ("454 4.7.0 no TLS now", Verb.STARTTLS, "451 4.7.0 no TLS now"),
    ("501 5.5.4 what", Verb.STARTTLS, "451 4.5.4 what"),
    ("535 5.7.8 bad credentials", Verb.AUTH, "451 4.7.8 bad credentials"),
    ("454 4.7.0 try again", Verb.AUTH, "451 4.7.0 try again"),
    ("530 5.7.0 log in", Verb.MAIL, "451 4.7.0 log in"),
    ("538 5.7.11 encrypt", Verb.MAIL, "451 4.7.11 encrypt"),
    ("503 5.5.1 sequence", Verb.RCPT, "451 4.5.1 sequence"),
    ("500 what", Verb.DATA, "451 what"),
    ("502 5.5.1 what", Verb.BDAT, "451 4.5.1 what"),
    ("555 5.5.4 parameter", Verb.MAIL, "451 4.5.4 parameter"),
    ("504 5.5.4 parameter", Verb.RCPT, "451 4.5.4 parameter"),
    ("501 5.5.4 syntax", Verb.RCPT, "451 4.5.4 syntax"),
]


@pytest.mark.parametrize(("said", "verb"), PASSED)
def test_refusals_of_the_mail_pass_as_they_are(said: str, verb: Verb) -> None:
    reply = Reply.of(said, verb)
    assert policy.after(reply) is reply


@pytest.mark.parametrize(("said", "verb", "given_"), CHANGED)
def test_faults_of_the_setup_become_451(said: str, verb: Verb, given_: str) -> None:
    assert str(policy.after(Reply.of(said, verb))) == given_


@pytest.mark.parametrize("code", [501, 504, 555])
def test_a_complaint_about_the_clients_own_parameter_passes(code: int) -> None:
    reply = Reply(code, ("parameter",), EnhancedCode(5, 5, 4), Verb.MAIL)
    assert policy.after(reply, own_parameters=True) is reply
    assert policy.after(reply).code == 451


def test_a_sequence_complaint_is_never_the_clients_parameter() -> None:
    assert policy.after(Reply.of("503 5.5.1 x", Verb.MAIL), own_parameters=True).code == 451


def test_a_5xx_greeting_may_bounce() -> None:
    reply = Reply.of("554 5.7.1 no", Verb.CONNECT)
    assert policy.after(reply, greeting_5xx="bounce") is reply


def test_the_readme_example_reads_as_the_contract_shows() -> None:
    said = Reply.of("550 5.7.26 Unauthenticated email from example.com is not accepted", Verb.DOT)
    told = policy.explained(said, DMARC, id="01JD5Z8Q7KX3", host="mx.example.net")
    assert told.wire().decode().splitlines() == [
        "550-5.7.26 mx.example.net said: Unauthenticated email from example.com is not accepted",
        f"550-5.7.26 [smtpguard] Fix: {FIX}",
        f"550 5.7.26 [smtpguard] Cause: auth.dmarc ({CAUSE}) Id: 01JD5Z8Q7KX3",
    ]


def test_without_explanation_only_their_words_are_left() -> None:
    told = policy.explained(Reply.of("550 no"), DMARC, id="X", host="mx.example.net", explain=False)
    assert told.wire() == b"550 5.0.0 mx.example.net said: no\r\n"


def test_contact_stands_behind_the_fix() -> None:
    told = policy.explained(Reply.of("550 5.7.1 no"), DMARC, id="X", contact="postmaster@example.com")
    assert told.lines[-2].endswith("Contact: postmaster@example.com")


@given(
    st.lists(st.text(max_size=900), min_size=1, max_size=9),
    st.text(max_size=400),
    st.text(max_size=400),
    st.text(max_size=200),
    st.booleans(),
    st.booleans(),
)
def test_every_refusal_keeps_the_limits(
    lines: list[str], cause: str, fix: str, contact: str, explain: bool, utf8: bool
) -> None:
    said = Reply(550, tuple(lines), None, Verb.DOT)
    meaning = Classification("unknown", cause=cause, fix=fix)
    told = policy.explained(said, meaning, id="01JD5Z8Q7KX3", host="mx.example.net", explain=explain, contact=contact)
    wire = told.wire(utf8=utf8)
    sent = wire.split(b"\r\n")[:-1]
    assert len(sent) <= 6
    assert len(wire) <= 1200
    assert all(len(line) <= 510 and line.startswith((b"550-5.0.0 ", b"550 5.0.0 ")) for line in sent)
    assert b"mx.example.net said:" in sent[0]
    if explain:
        assert sent[-1].endswith(b"Id: 01JD5Z8Q7KX3")


def test_a_long_text_is_cut_in_the_middle_and_our_last_line_stays() -> None:
    told = policy.explained(Reply(550, ("word " * 400,)), DMARC, id="X", host="mx")
    assert told.lines[-3].endswith(" ...")
    assert told.lines[-1].endswith("Id: X")


@pytest.mark.parametrize("reason", list(Own))
def test_each_refusal_of_ours_is_a_known_category_with_a_remedy(reason: Own) -> None:
    reply, meaning = policy.own(reason, Verb.RCPT)
    assert reply.enhanced is not None
    assert reply.klass == reply.enhanced.klass
    assert meaning.category in CATEGORIES
    assert meaning.cause
    assert meaning.fix
    assert len(policy.explained(reply, meaning, id="X").wire()) <= 1200


@pytest.mark.parametrize("reason", list(Own))
def test_our_own_words_are_understood_when_they_are_met_again(reason: Own) -> None:
    """In an MTA's log, or in the bounce, `explain` says of them what we said."""
    reply, meaning = policy.own(reason, Verb.RCPT, "mx.example.net")
    assert RULES.match(reply).category == meaning.category


# Law B: no 5xx without a refusal of the next hop, a fault of the input or a missing capability.
DESERVED = {
    *(Own.NULL_MX, Own.NO_DOMAIN, Own.NO_MAIL_HOST, Own.BARE_NEWLINE, Own.NUL, Own.HOPS, Own.TOO_LARGE),
    *(Own.LACKS_8BITMIME, Own.LACKS_SMTPUTF8, Own.LACKS_SIZE),
}


@pytest.mark.parametrize("reason", list(Own))
def test_faults_of_ours_never_bounce(reason: Own) -> None:
    assert (policy.own(reason, Verb.RCPT).reply.klass == 5) == (reason in DESERVED)


FAILURES = [
    (HopFailure(FailureKind.CONNECT, Verb.CONNECT), "451 4.4.1"),
    (HopFailure(FailureKind.TIMEOUT, Verb.CONNECT), "451 4.4.1"),
    (HopFailure(FailureKind.TIMEOUT, Verb.RCPT), "451 4.4.2"),
    (HopFailure(FailureKind.DISCONNECT, Verb.DOT, unknown=True), "451 4.4.2"),
    (HopFailure(FailureKind.TLS, Verb.STARTTLS), "451 4.7.5"),
    (HopFailure(FailureKind.PROTOCOL, Verb.MAIL), "451 4.3.0"),
    (HopFailure(FailureKind.INTERNAL, Verb.MAIL), "451 4.3.0"),
    (HopFailure(FailureKind.LOOP, Verb.CONNECT), "451 4.4.6"),
    (HopFailure(FailureKind.SATURATED, Verb.CONNECT), "451 4.3.2"),
    (HopFailure(FailureKind.STOPPING, Verb.CONNECT), "451 4.3.2"),
    (HopFailure(FailureKind.CAPABILITY, Verb.MAIL, keyword="8BITMIME"), "554 5.6.3"),
    (HopFailure(FailureKind.CAPABILITY, Verb.MAIL, keyword="SMTPUTF8"), "550 5.6.7"),
    (HopFailure(FailureKind.CAPABILITY, Verb.MAIL, keyword="SIZE"), "552 5.3.4"),
    (HopFailure(FailureKind.CAPABILITY, Verb.MAIL, keyword="DSN"), "451 4.3.0"),
    (HopFailure(FailureKind.CAPABILITY, Verb.AUTH, keyword="AUTH"), "451 4.7.0"),
]


@pytest.mark.parametrize(("failure", "said"), FAILURES, ids=[f"{f.kind}-{f.verb}-{f.keyword}" for f, _ in FAILURES])
def test_no_reply_of_the_next_hop(failure: HopFailure, said: str) -> None:
    reply, _ = policy.of_failure(failure, Verb.MAIL, "mx.example.net")
    assert str(reply).startswith(said)
    assert "mx.example.net" in reply.text


def test_every_kind_of_failure_has_words() -> None:
    kinds = {failure.kind for failure, _ in FAILURES}
    assert kinds == set(FailureKind)
