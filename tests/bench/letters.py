"""The messages that are sent: of ordinary shape, from load.test to sink.test, DKIM-signed where their name says so.

    plain        text, not signed
    signed       text, signed
    newsletter   text and a page of HTML with links and pictures, one-click unsubscription, signed
    attachment   text and a PDF in Base64, signed

The lint has nothing to say of those that are signed: what they cost is what mail in order costs. The key is made anew
in each process; `KEY.public` is what stands in the DNS (`names`). Sizes are in octets, about.
"""

from __future__ import annotations

import time
from base64 import b64encode, encodebytes
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import cached_property, lru_cache
from typing import Final

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SENDER: Final = "sender@load.test"
RCPT: Final = "rcpt@sink.test"
SELECTOR: Final = "bench"
# From once more than it occurs, so that none can be added (RFC 6376 8.15)
_SIGNED: Final = [b"from", *b"from to subject date message-id mime-version content-type".split()]
_OF_LISTS: Final = (b"list-unsubscribe", b"list-unsubscribe-post")
_LINE: Final = b"The quick brown fox jumps over the lazy dog, and then it does so again and again.\r\n"
_ITEM: Final = (
    b'<tr><td style="padding:8px;font-family:Arial,sans-serif;color:#333333">\r\n'
    b'<a href="https://www.example.org/offer/%d?from=letter"><img src="https://img.example.org/%d.png" alt="Offer %d"'
    b' width="120" height="80"></a>\r\n'
    b"<p>The quick brown fox jumps over the lazy dog, and then it does so again &amp; again.</p></td></tr>\r\n"
)


class Key:
    """A pair of keys for DKIM: RSA, 2,048 bits."""

    @cached_property
    def _pair(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def public(self) -> str:
        """Its p= (RFC 6376 3.6.1)."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return b64encode(self._pair.public_key().public_bytes(serialization.Encoding.DER, form)).decode()

    def sign(self, octets: bytes) -> bytes:
        """A message with its signature in front."""
        form = serialization.PrivateFormat.TraditionalOpenSSL
        pem = self._pair.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        kind = (b"relaxed", b"relaxed")
        names = [*_SIGNED, *(name for name in _OF_LISTS if name + b":" in octets.lower())]
        field: bytes = dkim.sign(octets, SELECTOR.encode(), b"load.test", pem, None, kind, include_headers=names)
        return field + octets


KEY: Final = Key()


def _head(**fields: str) -> bytes:
    given = {
        "From": f"Sender <{SENDER}>",
        "To": RCPT,
        "Subject": "What happened this week",
        "Date": formatdate(time.time()),
        "Message-ID": "<1@load.test>",
        "MIME-Version": "1.0",
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in given.items()) + b"\r\n"


def _lines(size: int) -> bytes:
    return _LINE * max(1, size // len(_LINE))


@lru_cache(maxsize=8)
def plain(size: int) -> bytes:
    """Text without any line that begins with a dot."""
    head = _head(Content_Type="text/plain; charset=utf-8")
    return head + _lines(size - len(head))


@lru_cache(maxsize=8)
def signed(size: int) -> bytes:
    """The same with a signature."""
    return KEY.sign(plain(size - 600))


@lru_cache(maxsize=8)
def newsletter(size: int) -> bytes:
    """Text, and four times as much of HTML."""
    count = max(1, (size - 2000) * 4 // 5 // len(_ITEM))
    page = b'<!DOCTYPE html>\r\n<html lang="en"><head><title>News</title></head><body><table>\r\n'
    page += b"".join(_ITEM % (number, number, number) for number in range(count)) + b"</table>\r\n"
    page += b'<p><a href="https://www.example.org/leave">Unsubscribe</a></p></body></html>\r\n'
    kind = b'--b\r\nContent-Type: text/%s; charset="utf-8"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n%b\r\n'
    body = kind % (b"plain", _lines(size // 5)) + kind % (b"html", page) + b"--b--\r\n"
    head = _head(
        Content_Type='multipart/alternative; boundary="b"',
        List_Unsubscribe="<https://www.example.org/leave/1>",
        List_Unsubscribe_Post="List-Unsubscribe=One-Click",
    )
    return KEY.sign(head + body)


@lru_cache(maxsize=2)
def attachment(size: int) -> bytes:
    """Text, and a file of which most of the size is made."""
    octets = (b"%PDF-1.7\n" + bytes(range(256)) * (size // 256))[: (size - 1000) * 57 // 78]
    body = b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + _LINE + b"\r\n--b\r\n"
    body += b'Content-Type: application/pdf; name="report.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
    body += b'Content-Disposition: attachment; filename="report.pdf"\r\n\r\n'
    body += encodebytes(octets).replace(b"\n", b"\r\n") + b"--b--\r\n"
    return KEY.sign(_head(Content_Type='multipart/mixed; boundary="b"') + body)


KB: Final = 1024
LETTERS: Final[Mapping[str, Callable[[], bytes]]] = {
    "2 KB plain": lambda: plain(2 * KB),
    "2 KB signed": lambda: signed(2 * KB),
    "50 KB newsletter": lambda: newsletter(50 * KB),
    "1 MB attachment": lambda: attachment(1024 * KB),
}
"""Those that the cost of the lint is told for."""
