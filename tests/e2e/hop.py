"""The sandbox next hop in a thread of its own, so that a test with a real MTA reads as a plain sequence.

It may go away and come back on the same port, with other manners; `messages` holds what it took in all its lives.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

from smtpguard.sandbox import Message, Sandbox, Script


class Hop:
    """A `Sandbox` with the given options (its keyword arguments), listening on loopback after `start`."""

    def __init__(self, **options: Any) -> None:
        self.port = 0
        self._options = options
        self._earlier: list[Message] = []
        self._sandbox: Sandbox | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="next hop", daemon=True)
        self._thread.start()

    @property
    def messages(self) -> list[Message]:
        """All it took, in order."""
        return self._earlier + (list(self._sandbox.messages) if self._sandbox else [])

    def deliveries(self) -> Counter[str]:
        """How often each recipient's mail was taken."""
        return Counter(path.decode() for message in self.messages for path, _ in message.rcpts)

    def start(self, **options: Any) -> None:
        """Listen: first on a free port, later on the same. `options` replace those given before."""
        self._options |= options
        self._sandbox = Sandbox(**self._options)
        self.port = self._run(self._sandbox.start("127.0.0.1", self.port))

    def play(self, script: Script | None) -> None:
        """Other manners from here on; connections stay, and the script counts anew."""
        self._options["script"] = script

        async def change() -> None:
            if self._sandbox is not None:
                self._sandbox.script = script

        self._run(change())

    def heard(self, verb: bytes) -> list[bytes]:
        """The command lines of this verb since the last `start`, in order (of the last 10,000 of all verbs)."""

        async def commands() -> list[bytes]:
            return self._sandbox.commands if self._sandbox is not None else []

        return [line for line in self._run(commands()) if line.upper().startswith(verb)]

    def stop(self) -> None:
        """Close the port and all connections at once."""
        if self._sandbox is not None:
            self._run(self._sandbox.stop())
            self._earlier, self._sandbox = self.messages, None

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)
