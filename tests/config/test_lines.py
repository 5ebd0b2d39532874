"""Lines of keys: the scanner must find every key that tomllib finds, and where it stands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.config.lines import key_lines
from smtpguard.config.section import KeyPath

TEXT = '''\
# a comment with [brackets] and "quotes"
top = 1

[listen]
smtp = "127.0.0.1:1"   # lmtp = "no"
many = [
  "a",  # one ] two
  "b", { x = 1 },
]
[next_hop.default]
timeout.connect = "1s"
"quoted.key" = \'\'\'
[not]
a = "header"
\'\'\'
inline = { a = 1, "b c".d = [1,
  2] }
basic = """x\\"""y""""
[[route]]
next_hop = "a"
  [route.inner]
  z = 1979-05-27 07:32:00
[[route]]
'next_hop' = 'b'
[[route.deep]]
k = -1_000
[ spaced . "out" ]
'''

EXPECTED: list[tuple[KeyPath, int]] = [
    (("top",), 2),
    (("listen",), 4),
    (("listen", "smtp"), 5),
    (("listen", "many"), 6),
    (("listen", "many", 0), 7),
    (("listen", "many", 2, "x"), 8),
    (("next_hop", "default"), 10),
    (("next_hop", "default", "timeout", "connect"), 11),
    (("next_hop", "default", "quoted.key"), 12),
    (("next_hop", "default", "inline", "a"), 16),
    (("next_hop", "default", "inline", "b c", "d", 1), 17),
    (("next_hop", "default", "basic"), 18),
    (("route",), 19),
    (("route", 0, "next_hop"), 20),
    (("route", 0, "inner", "z"), 22),
    (("route", 1), 23),
    (("route", 1, "next_hop"), 24),
    (("route", 1, "deep", 0, "k"), 26),
    (("spaced", "out"), 27),
]


@pytest.mark.parametrize(("path", "line"), EXPECTED)
def test_where_a_key_stands(path: KeyPath, line: int) -> None:
    assert key_lines(TEXT)[path] == line


def paths(value: object, above: KeyPath = ()) -> Iterator[KeyPath]:
    steps: Iterator[tuple[str | int, object]]
    if isinstance(value, dict):
        steps = iter(value.items())
    elif isinstance(value, list):
        steps = iter(enumerate(value))
    else:
        return
    for step, inner in steps:
        yield (*above, step)
        yield from paths(inner, (*above, step))


def test_every_key_has_a_line_and_no_other() -> None:
    assert set(key_lines(TEXT)) == set(paths(tomllib.loads(TEXT)))


# Texts made of pieces that look alike: headers in arrays, brackets in strings, keys in every spelling.
key = st.sampled_from(["a", "b", '"a b"', "'c.d'", "a.b", 'x . "y"', '"\\u00e9"', "1"])
string = st.text(st.sampled_from("ab[]{}=#,'\\. ")).map(json.dumps)
multi = st.sampled_from(['"""\n[a]\nb = 1"""', "'''\n]]'''", '"""a\\"""b"""""', "''''x'''''"])
scalar = st.sampled_from(["1", "-2.5e3", "true", "1979-05-27 07:32:00Z", "0xff"]) | string | multi
value = st.recursive(
    scalar,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: "[ " + " , # x ]\n".join(each) + "\n]")
        | st.lists(
            st.tuples(st.sampled_from(["k", '"l"', "m.n"]), inner), max_size=2, unique_by=lambda pair: pair[0]
        ).map(lambda pairs: "{ " + ", ".join(f"{k} = {v}" for k, v in pairs) + " }")
    ),
    max_leaves=5,
)
statement = (
    st.tuples(key, value).map(" = ".join) | key.map("[{}]".format) | key.map("[[ {} ]] # x".format) | st.just("# [a]")
)


@given(st.lists(statement, max_size=8).map("\n".join))
def test_the_scanner_sees_what_tomllib_sees(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = key_lines(text)
    assert set(found) == set(paths(data))
    lines = text.split("\n")
    for path, line in found.items():
        if isinstance(path[-1], str):
            assert any(part in lines[line - 1] for part in (path[-1], json.dumps(path[-1])))
