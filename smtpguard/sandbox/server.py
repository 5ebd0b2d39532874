"""The sandbox itself: a listener on loopback, what it heard, and what it was handed."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from smtpguard.sandbox.dialogue import Dialogue
from smtpguard.sandbox.message import Message, make_maildir
from smtpguard.sandbox.script import Action, Script
from smtpguard.sandbox.wire import Settings, Wire

DEFAULT_KEYWORDS: Final = (
    "PIPELINING",
    "SIZE 52428800",
    "8BITMIME",
    "SMTPUTF8",
    "DSN",
    "ENHANCEDSTATUSCODES",
    "CHUNKING",
)

_MAX_COMMANDS: Final = 10_000


class Sandbox:
    """A next hop of our own, for trying things out, for tests and for the benchmark. Loopback only.

    - `maildir`: a folder (made where missing) for accepted mail, one file a message with exactly the octets received.
    - `keywords`: what EHLO offers, one each; the number after SIZE is the limit. STARTTLS is added with `tls`, AUTH
      with `users` (where there is `tls`, only under it).
    - `script`: faults to play; may be set at any time, which starts its counting anew.
    - `tls`: a server's SSLContext; `implicit_tls`: TLS comes first (RFC 8314), not by STARTTLS.
    - `users`: passwords by name; MAIL then needs a login.
    - `latency_s`: how long each flight of replies is under way; replies to one packet travel together.
    - `slow_s`: how long the answer to the address `slow@` drips.
    - `keep`: hold accepted messages in `messages` (their octets too, unless there is a maildir).

    Counters begin at 0 and are the caller's to read: `connections` accepted; `accepted` messages; `flights` of replies;
    `round_trips`, the times that the client spoke after it was answered (the EHLO after the greeting is the first).

        async with Sandbox(script=Script({"RCPT": [Say("452 4.2.2 full"), Ok()]})) as hop:
            ...  # talk to 127.0.0.1, hop.port
            [message] = await hop.wait(1)
    """

    def __init__(
        self,
        *,
        maildir: Path | None = None,
        keywords: Sequence[str] = DEFAULT_KEYWORDS,
        script: Script | None = None,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        users: Mapping[str, str] | None = None,
        latency_s: float = 0,
        slow_s: float = 3,
        hostname: str = "sandbox.smtpguard.test",
        keep: bool = True,
    ) -> None:
        if implicit_tls and tls is None:
            raise ValueError("implicit_tls needs tls")
        sizes = [word.split()[1] for word in keywords if word.upper().startswith("SIZE ")]
        self.settings = Settings(
            hostname=hostname,
            keywords=tuple(keywords),
            size_limit=int(sizes[0]) if sizes else 0,
            tls=tls,
            implicit_tls=implicit_tls,
            users=users,
            latency_s=latency_s,
            slow_s=slow_s,
            maildir=maildir,
            keep=keep,
        )
        self.host = ""
        self.port = 0
        self.messages: list[Message] = []
        self.accepted = 0
        self.connections = 0
        self.flights = 0
        self.round_trips = 0
        self._commands: deque[bytes] = deque(maxlen=_MAX_COMMANDS)
        self._script = script
        self._occurrences: dict[str, int] = {}
        self._ids = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._open: set[Wire] = set()
        self._server: asyncio.Server | None = None

    @property
    def commands(self) -> list[bytes]:
        """The last 10,000 lines heard, without CRLF, of all connections; AUTH's too, messages not."""
        return list(self._commands)

    @property
    def open_connections(self) -> int:
        """How many connections stand."""
        return len(self._open)

    @property
    def script(self) -> Script | None:
        """The script in force; setting one starts its counting anew."""
        return self._script

    @script.setter
    def script(self, script: Script | None) -> None:
        self._script = script
        self._occurrences.clear()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port (0 asks for any free one).

        ValueError for an address that is not loopback, OSError as `bind` has it.
        """
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        if not address.is_loopback:
            raise ValueError(f"the sandbox listens on loopback only, not on {host}")
        if self._server is not None:
            raise RuntimeError("the sandbox is listening already")
        if self.settings.maildir is not None:
            make_maildir(self.settings.maildir)
        server = await asyncio.get_running_loop().create_server(self._connected, str(address), port, backlog=1024)
        self._server = server
        self.host, self.port = server.sockets[0].getsockname()[:2]
        return self.port

    async def stop(self) -> None:
        """Close listener and connections at once. What was accepted stays to be read; `start` may follow."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for wire in self._open.copy():
            await wire.end()
        await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def wait(self, n_messages: int, timeout: float = 5.0) -> list[Message]:  # noqa: ASYNC109 - asked for so
        """`messages`, as soon as `n_messages` were accepted in all. TimeoutError after `timeout` seconds."""
        if self.accepted < n_messages:
            arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (n_messages, arrived)
            self._waiting.append(entry)
            try:
                async with asyncio.timeout(timeout):
                    await arrived
            except TimeoutError:
                raise TimeoutError(f"{self.accepted} of {n_messages} messages after {timeout} s") from None
            finally:
                self._waiting.remove(entry)
        return self.messages

    # -- what connections tell and ask

    def _connected(self) -> Dialogue:
        self.connections += 1
        dialogue = Dialogue(self, self.connections)
        self._open.add(dialogue)
        return dialogue

    def hear(self, line: bytes) -> None:
        """A connection heard a command line."""
        self._commands.append(line)

    def cue(self, verb: str, connection: int, own: dict[str, int]) -> Action | None:
        """The script's action for this occurrence of a verb."""
        script = self._script
        if script is None or not script.applies(connection):
            return None
        counts = own if script.each_connection else self._occurrences
        occurrence = counts.get(verb, 0)
        counts[verb] = occurrence + 1
        return script.action(verb, occurrence)

    def queue_id(self) -> str:
        """A new id for a message."""
        self._ids += 1
        return f"SBX{self._ids:06d}"

    def accept(self, message: Message) -> None:
        """A connection took a message."""
        self.accepted += 1
        if self.settings.keep:
            self.messages.append(message)
        for wanted, arrived in self._waiting:
            if self.accepted >= wanted and not arrived.done():
                arrived.set_result(None)

    def left(self, wire: Wire) -> None:
        """A connection is gone."""
        self._open.discard(wire)
