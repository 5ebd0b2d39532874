"""The two libraries as their manuals put them together: what smtpguard would be without work on its hot path.

    python -m tests.bench.libraries proxy PORT HOP_PORT     aiosmtpd.handlers.Proxy in aiosmtpd's Controller
    python -m tests.bench.libraries plain PORT HOP_PORT     an aiosmtpd handler that sends with aiosmtplib

`proxy` blocks its loop on smtplib and says 250 whatever the next hop said; `plain` is honest. Both open a connection a
message. Neither is a recommendation.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any, Final

import aiosmtplib
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Proxy
from aiosmtpd.smtp import SMTP, Envelope, Session

_SIZE: Final = 52_428_800


class Plain:
    """Sends each message on, over a connection of its own, and answers as the next hop did."""

    def __init__(self, hop_port: int) -> None:
        self._hop_port = hop_port

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """aiosmtpd's hook at the end of the message."""
        content = envelope.original_content or b""
        try:
            _, text = await aiosmtplib.send(
                content,
                sender=envelope.mail_from,
                recipients=envelope.rcpt_tos,
                hostname="127.0.0.1",
                port=self._hop_port,
                start_tls=False,
            )
        except aiosmtplib.SMTPResponseException as refused:
            return f"{refused.code} {refused.message}"
        except aiosmtplib.SMTPException as failed:
            return f"451 4.4.2 {type(failed).__name__}"
        return f"250 {text}"


async def _serve_plain(port: int, hop_port: int) -> None:
    loop = asyncio.get_running_loop()
    handler = Plain(hop_port)

    def session() -> Any:
        return SMTP(handler, hostname="plain.test", data_size_limit=_SIZE, loop=loop)

    server = await loop.create_server(session, "127.0.0.1", port, backlog=1000)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()


def _serve_proxy(port: int, hop_port: int) -> None:
    handler = Proxy("127.0.0.1", hop_port)
    controller = Controller(handler, hostname="127.0.0.1", port=port, data_size_limit=_SIZE)
    controller.start()
    signal.sigwait({signal.SIGTERM})
    controller.stop()


def main(which: str, port: int, hop_port: int) -> None:
    """Run until SIGTERM."""
    if which == "plain":
        asyncio.run(_serve_plain(port, hop_port))
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        _serve_proxy(port, hop_port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
