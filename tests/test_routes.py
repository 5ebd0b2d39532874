"""The `[[route]]` table: first match wins; when does the recipient decide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.config import RouteSettings
from smtpguard.routes import DEFAULT, Routes


def route(next_hop: str, recipient: tuple[str, ...] = (), sender: tuple[str, ...] = ()) -> RouteSettings:
    return RouteSettings(next_hop=next_hop, recipient_domain=recipient, sender_domain=sender)


@pytest.mark.parametrize(
    ("pattern", "domain", "matches"),
    [
        ("example.org", "example.org", True),
        ("example.org", "a.example.org", False),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "badexample.org", False),
        ("*", "whatever.example", True),
        ("*", "", True),
        ("xn--bcher-kva.example", "bücher.example", True),
        ("*.xn--bcher-kva.example", "post.bücher.example", True),
        ("xn--bcher-kva.example", "büchlein.example", False),
        ("*.example", "\u2028.example", True),
    ],
)
def test_patterns(pattern: str, domain: str, matches: bool) -> None:
    assert (Routes([route("other", (pattern,))]).of("s.example", domain) == "other") is matches


def test_the_first_match_wins_and_none_is_the_default() -> None:
    routes = Routes([route("a", ("x.example",)), route("b", sender=("s.example",)), route("c", ("x.example",))])
    assert routes.of("s.example", "x.example") == "a"
    assert routes.of("s.example", "y.example") == "b"
    assert routes.of("t.example", "x.example") == "a"
    assert routes.of("t.example", "y.example") == DEFAULT
    assert routes.of("", "") == DEFAULT


NAMES = st.sampled_from(["a.example", "b.example"])
TABLE = st.lists(
    st.builds(
        route,
        st.sampled_from(["default", "one", "two"]),
        st.lists(NAMES, max_size=1).map(tuple),
        st.lists(NAMES, max_size=1).map(tuple),
    ),
    max_size=4,
)


@given(TABLE, NAMES)
def test_by_sender_is_what_every_recipient_gets(table: list[RouteSettings], sender: str) -> None:
    routes = Routes(table)
    all_ways = {routes.of(sender, domain) for domain in ("a.example", "b.example", "c.example")}
    one_way = routes.by_sender(sender)
    if one_way is not None:
        assert all_ways == {one_way}


def test_a_recipient_decides_only_where_a_route_asks_for_one() -> None:
    assert Routes().by_sender("a.example") == DEFAULT
    assert Routes([route("x", sender=("a.example",))]).by_sender("a.example") == "x"
    assert Routes([route("x", sender=("b.example",))]).by_sender("a.example") == DEFAULT
    assert Routes([route("x", ("c.example",))]).by_sender("a.example") is None
    assert Routes([route("x", ("c.example",), ("b.example",))]).by_sender("a.example") == DEFAULT
