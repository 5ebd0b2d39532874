"""Address lists: names and addresses out of any form, and entries without one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.mail.mailbox import VALUE_LIMIT, mailboxes


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        (b" ann@example.org", [("", "ann@example.org")]),
        (b" Ann Lee <ann@Example.ORG>", [("Ann Lee", "ann@example.org")]),
        (b' "Lee, Ann" <ann@example.org>', [("Lee, Ann", "ann@example.org")]),
        (b' "Ann \\"A\\" Lee"\r\n\t<ann@example.org>', [('Ann "A" Lee', "ann@example.org")]),
        (b" =?utf-8?q?Ren=C3=A9?= <r@example.org>", [("René", "r@example.org")]),
        (b" Ren\xc3\xa9 <r@example.org>", [("René", "r@example.org")]),
        (b" <ann@example.org>", [("", "ann@example.org")]),
        (b" ann@[192.0.2.1]", [("", "ann@[192.0.2.1]")]),
        (b' "a b"@example.org', [("", '"a b"@example.org')]),
        (b" a..b.@example.org", [("", "a..b.@example.org")]),
        # RFC 5322 appendix A.5, A.6: comments, blanks, routes
        (b" root@host.example (Cron Daemon)", [("Cron Daemon", "root@host.example")]),
        (b" Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", [("Pete", "pete@silly.test")]),
        (b" Joe Q. Public <john . q . public @ example . com>", [("Joe Q. Public", "john.q.public@example.com")]),
        (b" <@a.example,@b.example:ann@example.org>", [("", "ann@example.org")]),
        # lists, groups (RFC 6854), empty entries
        (
            b" a@x.example, B <b@y.example>,\r\n c@z.example",
            [("", "a@x.example"), ("B", "b@y.example"), ("", "c@z.example")],
        ),
        (
            b" Team: a@x.example, b@y.example; , c@z.example",
            [("", "a@x.example"), ("", "b@y.example"), ("", "c@z.example")],
        ),
        (b" undisclosed-recipients:;", []),
        (b" , ,(only a comment),", []),
        (b"", []),
        # no address
        (b" Ann", [("Ann", "")]),
        (b" Ann <>", [("Ann", "")]),
        (b" Ann <mailto:ann@example.org>", [("Ann", "")]),
        (b" Ann <ann>", [("Ann", "")]),
        (b" Ann <ann@example.org", [("Ann", "")]),
        (b" <<ann@example.org>>", [("", "")]),
        (b" <ann@example.org> Lee", [("", "")]),
        (b" Ann ann@example.org", [("Ann ann@example.org", "")]),
        (b" Lee, Ann <ann@example.org>", [("Lee", ""), ("Ann", "ann@example.org")]),
        (b' "open <ann@example.org>', [("", "")]),
        (b" ann@exa mple.org", [("ann@exa mple.org", "")]),
        (b" ann@example..org", [("ann@example..org", "")]),
        (b" @example.org", [("@example.org", "")]),
    ],
)
def test_entries(value: bytes, entries: list[tuple[str, str]]) -> None:
    assert [(box.name, box.address) for box in mailboxes(value)] == entries


def test_each_entry_tells_where_it_stands() -> None:
    value = b"  a@x.example,\r\n\tB <b@y.example> ,junk"
    found = mailboxes(value)
    assert [box.text for box in found] == [b"a@x.example", b"B <b@y.example>", b"junk"]
    assert [value[box.offset :][: len(box.text)] for box in found] == [box.text for box in found]


def test_a_list_is_read_to_its_limit() -> None:
    found = mailboxes(b"a@b.example," * VALUE_LIMIT)
    assert len(found) == VALUE_LIMIT // 12 + 1


PIECES = st.sampled_from(
    [b'"', b"\\", b"(", b")", b"<", b">", b",", b";", b":", b"@", b".", b" ", b"\r\n ", b"[", b"]", b"a", b"\xff"]
)


@settings(max_examples=200)
@given(st.lists(PIECES, max_size=25).map(b"".join))
def test_any_octets_are_entries_that_stand_where_they_say(value: bytes) -> None:
    for box in mailboxes(value):
        assert value[box.offset :].startswith(box.text)
        assert bool(box.address) == bool(box.domain)


@settings(max_examples=100)
@given(
    st.from_regex(r"[a-z0-9.+_-]{1,20}", fullmatch=True),
    st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9}){1,3}", fullmatch=True),
)
def test_the_plain_and_the_full_way_agree(local: str, domain: str) -> None:
    address = f"{local}@{domain}".encode()
    [plain] = mailboxes(b" Ann Lee <" + address + b">")
    [full] = mailboxes(b" Ann Lee <" + address + b"> (x)")
    assert plain[:3] == full[:3] == ("Ann Lee", local, domain)
