"""A password in what a next hop says: some repeat the command that they refuse, and it goes into no log and no bounce.

Hidden is what we sent as it is, and as PLAIN (RFC 4616 2), LOGIN and CRAM-MD5 (RFC 2195 2) send it, from its sixth
character on, in whatever case: what is repeated may be cut off. What CRAM-MD5 sends is no password, but lets one be
guessed without asking anybody. It is another one each time, and so known by its form: the name, then 32 hex digits.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

_TELLTALE: Final = 6  # characters that are taken for the whole
_DIGEST: Final = 32  # hex digits of an MD5
_HEX: Final = b"0123456789abcdef"
_BASE64: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class _Spelling(NamedTuple):
    """What may stand at each place of a secret, in lower case; and how many of them are taken for the whole."""

    places: Sequence[Collection[str]]
    telltale: int = _TELLTALE


def hidden(text: str, username: str, password: str) -> str:
    """The text without the password, whichever way it was sent; as it is where there is no password."""
    if password:
        for spelling in _spellings(username, password):
            text = _without(text, spelling)
    return text


def _spellings(username: str, password: str) -> Iterator[_Spelling]:
    """The longest first."""
    name, octets = username.encode(), password.encode()
    answer = [*([octet] for octet in name + b" "), *[_HEX] * _DIGEST]
    yield _Spelling(list(_in_base64(answer)), (len(name) + 1) * 4 // 3 + _TELLTALE)
    yield _Spelling([*username.lower(), " ", *[_HEX.decode()] * _DIGEST], len(username) + 1 + _TELLTALE)
    yield _Spelling([_HEX.decode()] * _DIGEST, _DIGEST)
    for sent in (b64encode(b"\0%b\0%b" % (name, octets)).decode(), b64encode(octets).decode(), password):
        yield _Spelling([letter.lower() for letter in sent])


def _in_base64(octets: Sequence[Collection[int]]) -> Iterator[str]:
    """Which letters may stand where, by what each octet may be (RFC 4648 4); what pads the end is left out."""
    for at in range(0, len(octets), 3):
        first, second, third = (*octets[at : at + 3], [0], [0])[:3]
        sextets = (
            {a >> 2 for a in first},
            {(a & 3) << 4 | b >> 4 for a in first for b in second},
            {(b & 15) << 2 | c >> 6 for b in second for c in third},
            {c & 63 for c in third},
        )
        for letters in sextets[: len(octets) - at + 1]:
            yield "".join(_BASE64[letter] for letter in letters).lower()


def _without(text: str, spelling: _Spelling) -> str:
    """Neither the secret nor the first part of it (some next hops cut off what they repeat), in whatever case."""
    places, telltale = spelling
    head = re.compile("".join(f"[{re.escape(''.join(each))}]" for each in places[:telltale]), re.IGNORECASE)
    pieces: list[str] = []
    start = 0
    while (found := head.search(text, start)) is not None:
        pieces += (text[start : found.start()], "[hidden]")
        start = found.end()
        for said, sent in zip(text[start:], places[telltale:], strict=False):
            if said.lower() not in sent:
                break
            start += 1
    return "".join((*pieces, text[start:]))
