"""A DKIM signer for tests: RFC 6376 3.4 and 5 told line by line, slow and plain, and keys to sign with.

It shares nothing with smtpguard/mailauth but the standard, so that the two can be held against each other.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    generate_private_key,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

FIELDS = (
    b"Received: from a.example by b.example\r\n\twith ESMTP; Mon, 1 Jan 2024 00:00:00 +0000",
    b"From: Joe <joe@example.com>",
    b"To: Ann <ann@example.net>",
    b"Subject:  Lunch \t on\r\n Monday ",
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000",
    b"Message-ID: <1@example.com>",
)
BODY = b"Hello \t Ann,\r\n\r\nshall we?  \r\n\r\n\r\n"
NAMES = b"from:to:subject:date:message-id"


@cache
def rsa_key(bits: int = 2048) -> RSAPrivateKey:
    """A key of that size; the program makes none below 1,024 bits, so that one stands here."""
    if bits != 768:
        return generate_private_key(65537, bits)
    p = int("eaf3dda799c72446f6e86dc3dfec0173c0f389fa7448c619d28dd34cb3af03826e1ba074d793f372bdf0c601d6469b51", 16)
    q = int("d74373fcd8f4c56f6c6b88da28d13996030708357f1fb11dd7e30d2b7e5d16d25c308ab1a01de8baa40cdba6b0d30a03", 16)
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = RSAPublicNumbers(65537, p * q)
    return RSAPrivateNumbers(p, q, d, rsa_crt_dmp1(d, p), rsa_crt_dmq1(d, q), rsa_crt_iqmp(p, q), public).private_key()


@cache
def ed25519_key() -> Ed25519PrivateKey:
    """RFC 8463 A.1."""
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))


def pem(key: RSAPrivateKey) -> bytes:
    """The form that dkimpy signs with."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def record(
    key: PrivateKey, tags: bytes = b"v=DKIM1; ", form: PublicFormat = PublicFormat.SubjectPublicKeyInfo
) -> bytes:
    """The TXT record of a key."""
    if isinstance(key, Ed25519PrivateKey):
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return tags + b"k=ed25519; p=" + base64.b64encode(raw)
    return tags + b"p=" + base64.b64encode(key.public_key().public_bytes(Encoding.DER, form))


def relaxed_body(body: bytes) -> bytes:
    """RFC 6376 3.4.4, line by line."""
    if not body.endswith(b"\r\n"):
        body += b"\r\n"
    lines = [re.sub(rb"[ \t]+", b" ", line).removesuffix(b" ") for line in body.split(b"\r\n")[:-1]]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def simple_body(body: bytes) -> bytes:
    """RFC 6376 3.4.3."""
    while body.endswith(b"\r\n"):
        body = body[:-2]
    return body + b"\r\n"


def relaxed_field(text: bytes) -> bytes:
    """RFC 6376 3.4.2, its steps in order; `text` without the last CRLF."""
    name, _, value = text.partition(b":")
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b""))
    return name.lower().strip(b" \t") + b":" + value.strip(b" \t")


def signature_field(
    key: PrivateKey,
    fields: tuple[bytes, ...] = FIELDS,
    body: bytes = BODY,
    *,
    canonical: str = "relaxed/relaxed",
    names: bytes = NAMES,
    algorithm: str = "",
    length: int | None = None,
    more: bytes = b"",
    domain: bytes = b"example.com",
    template: bytes = b"DKIM-Signature: v=1; a=%s; c=%s; d=%s; s=sel; %sh=%s; bh=%s; b=",
    pad: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """A DKIM-Signature field for that message, without the last CRLF.

    `template` goes as far as `b=`; `pad` are blanks around its value, which are not signed, `tail` is what follows.
    """
    header_form, _, body_form = canonical.partition("/")
    algorithm = algorithm or ("ed25519-sha256" if isinstance(key, Ed25519PrivateKey) else "rsa-sha256")
    hash_name = algorithm.rpartition("-")[2]
    canonical_body = (relaxed_body if body_form == "relaxed" else simple_body)(body)[:length]
    if length is not None:
        more += b"l=%d; " % length
    body_hash = base64.b64encode(hashlib.new(hash_name, canonical_body).digest())
    text = template % (algorithm.encode(), canonical.encode(), domain, more, names, body_hash)
    left = list(fields)
    chosen = []
    for name in names.split(b":"):
        for field in reversed(left):
            if field.partition(b":")[0].strip().lower() == name.strip().lower():
                left.remove(field)
                chosen.append(field)
                break
    form = relaxed_field if header_form == "relaxed" else bytes
    data = b"".join(form(field) + b"\r\n" for field in chosen) + form(text + tail)
    if isinstance(key, Ed25519PrivateKey):
        signed = key.sign(hashlib.sha256(data).digest())
    else:
        signed = key.sign(data, PKCS1v15(), hashes.SHA1() if hash_name == "sha1" else hashes.SHA256())
    return text + pad + base64.b64encode(signed) + pad + tail


def message(*fields: bytes, body: bytes = BODY) -> bytes:
    """The octets of a message."""
    return b"\r\n".join(fields) + b"\r\n\r\n" + body
