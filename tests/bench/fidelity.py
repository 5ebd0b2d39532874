"""Before anything is timed: do the messages arrive octet for octet?

Awkward messages go through each peer into a sandbox that keeps what it got. What SMTP lets a relay add (trace fields,
RFC 5321 4.4) is taken off the top of both; what is left must be the same octets. The yardstick and smtpguard must pass,
else nothing is timed: a relay that changes mail, or answers before it is handed on, is not cheap but wrong. For other
peers the row says what they did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from tests.bench.client import connect, envelope, run
from tests.bench.letters import plain, signed
from tests.bench.peers import Peer
from tests.bench.processes import wait_until
from tests.e2e.hop import Hop

_HEAD: Final = (
    b"From: <sender@load.test>\r\nTo: <rcpt@sink.test>\r\nMessage-ID: <f@load.test>\r\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
)

# What a relay may put in front: RFC 5321 4.4; X-Peer is aiosmtpd's own.
_TRACE: Final = (b"received", b"return-path", b"x-peer")

MESSAGES: Final[Mapping[str, bytes]] = {
    "plain": plain(2048),
    "signed": signed(2048),
    "dots": _HEAD + b"Subject: dots\r\n\r\n.\r\n..\r\n.leading\r\n\r\n.\r\nend\r\n",
    "blank ends": _HEAD + b"Subject: blanks  \r\n\r\nline with blanks   \r\n\t\r\n\r\n\r\n",
    "folded and odd fields": _HEAD + b"Subject: a\r\n folded\r\n\tfield\r\nx-ODD:no blank\r\nX-Empty:\r\n\r\nbody\r\n",
    "8 bits": _HEAD + b"Subject: \xc3\xa4\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
    "line of 990": _HEAD + b"Subject: long\r\n\r\n" + b"x" * 990 + b"\r\n",
    "300 KB": signed(300_000),
}


def untraced(octets: bytes) -> bytes:
    """A message without its trace fields, wherever in the header section they stand."""
    head, blank, body = octets.partition(b"\r\n\r\n")
    kept: list[bytes] = []
    dropping = False
    for line in head.split(b"\r\n"):
        if not line.startswith((b" ", b"\t")):
            dropping = line.partition(b":")[0].strip().lower() in _TRACE
        if not dropping:
            kept.append(line)
    return b"\r\n".join(kept) + blank + body


def check(peer: Peer) -> list[str]:
    """What this peer does to messages; [] if they pass as they are. It is started and stopped."""
    hop = Hop()
    hop.start()
    found: list[str] = []
    try:
        peer.start(hop.port)
        for name, octets in MESSAGES.items():
            if wrong := _fault(peer, hop, octets):
                found.append(f"{name}: {wrong}")
        hop.stop()
        if not _truthful(peer):
            found.append("says 250 before the next hop does")
    finally:
        peer.stop()
        hop.close()
    return found


def _fault(peer: Peer, hop: Hop, octets: bytes) -> str:
    known = len(hop.messages)
    try:
        codes = run(_send(peer.port, octets))
        if codes[-1] != 250:
            return f"refused with {codes[-1]}"
        wait_until(lambda: len(hop.messages) > known, "the message", 10.0)
    except (OSError, RuntimeError) as error:
        return type(error).__name__
    arrived = hop.messages[-1].data
    return "" if untraced(arrived) == untraced(octets) else "changed"


async def _send(port: int, octets: bytes, patience_s: float = 20.0) -> list[int]:
    [connection] = await connect(port)
    stuffed = octets.replace(b"\r\n.", b"\r\n..")
    try:
        async with asyncio.timeout(patience_s):
            return await connection.hand_over(envelope(["rcpt@sink.test"]), 1, stuffed + b".\r\n")
    finally:
        connection.close()


def _truthful(peer: Peer) -> bool:
    """Whether mail is refused while there is no next hop: the peer has no queue, or says what is not so."""
    try:
        return run(_send(peer.port, MESSAGES["plain"], 5.0))[-1] // 100 != 2
    except (OSError, RuntimeError):  # gone, silent, or MAIL was refused
        return True
