"""A session's frame: who comes in (PROXY, access, limits), commands in turn, faults, the end.

Lines become commands here and each is answered in order; what the commands do is the business of `entrance.Entrance`
and `smtpd.Door`. The next line is read when all answers to the last have been given (`_owed`), whoever gives them. Only
what waits for the client itself (PROXY, STARTTLS, AUTH) is a task, one at a time. Nothing of an exception's text ever
reaches a client; a fault of ours is 451 and the end of the session.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar, Final

from aiosmtpd.proxy_protocol import V2_CMD, get_proxy
from aiosmtpd.smtp import TLSSetupException

from smtpguard.edge.doorkeeper import Doorkeeper
from smtpguard.edge.lines import LineFault, Wire
from smtpguard.flow import Transaction
from smtpguard.mail.session import DoorName, Envelope, Session

MAX_BAD_COMMANDS: Final = 20  # contract 1.3
PROXY_WITHIN_S: Final = 5.0

CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")

# What needs no thought, by verb.
_FIXED: Final[Mapping[bytes, bytes]] = {
    b"NOOP": b"250 2.0.0 Ok\r\n",
    b"VRFY": b"252 2.5.0 send some mail, I will try to deliver it\r\n",
    b"HELP": b"214 2.0.0 see RFC 5321; smtpguard explains every refusal in its reply\r\n",
}
# A browser or proxy made to talk to us (cross-protocol requests), and BDAT, whose data would be read as commands.
_HANG_UP: Final = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS", b"BDAT"})

_STOPPING: Final = b"421 4.3.2 the relay is stopping\r\n"
_INTERNAL: Final = b"451 4.3.0 internal fault of the relay\r\n"
_LINE_FAULTS: Final[Mapping[LineFault, bytes]] = {
    LineFault.TOO_LONG: b"500 5.5.2 command line too long\r\n",
    LineFault.BARE_LF: b"500 5.5.2 a line ends with CR LF, not with LF alone\r\n",
}

Command = Callable[[Any, bytes], None]


class Frame(Wire):
    """One session, but for its commands. `keeper` is what all sessions share; `commands` are the verbs by door."""

    commands: ClassVar[Mapping[DoorName, Mapping[bytes, Command]]]

    _transaction: Transaction | None = None
    _envelope = Envelope(b"")
    _task: asyncio.Task[None] | None = None
    _owed = 0  # answers to the command at hand that are not given yet
    _in_turn = False
    _after_dot = False
    _is_over = False
    _bad_commands = 0
    _refused_mail: bytes | None = None
    _counted_in: str | None = None
    _is_allowed = False
    _is_trusted = False
    _result = "accepted"

    def __init__(
        self, door: DoorName, keeper: Doorkeeper, new_id: Callable[[], str], left: Callable[[Any], None]
    ) -> None:
        super().__init__(asyncio.get_running_loop(), idle_s=keeper.listen.idle_timeout, tls_context=keeper.tls)
        self._keeper = keeper
        self._left = left
        self._commands = self.commands[door]
        self._who = Session(new_id(), door)

    # -- the session ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Peer, PROXY, access and limits, then the greeting."""
        assert self.transport is not None
        self._keeper.metrics.sessions_in_progress.labels(self._who.door).inc()
        peer = self.transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._who.peer_ip, self._who.peer_port = str(peer[0]), int(peer[1])
        if self._keeper.listen.proxy_protocol:
            self._wait_for(self._begin_behind_proxy())
        else:
            self._welcome()

    async def _begin_behind_proxy(self) -> None:
        if await self._proxy():
            self._welcome()
        else:
            self.close()

    def _welcome(self) -> None:
        address = self._who.peer_ip
        self._is_allowed, self._is_trusted = self._keeper.is_allowed(address), self._keeper.is_trusted(address)
        if not self._is_allowed and self._keeper.users is None:
            self._refuse_session("stranger", b"554 5.7.1 access denied: this address is not in listen.allow\r\n")
            self._end()
        elif not self._keeper.enter(address):
            self._refuse_session("limited", b"421 4.7.0 too many sessions from your address\r\n")
            self._end()
        else:
            self._counted_in = address
            self.send(self._keeper.greeting(self._who.door))

    def _wait_for(self, doing: Coroutine[Any, Any, None]) -> None:
        """What has to wait for the client itself; lines are not read meanwhile."""
        self._task = self.loop.create_task(self._done(doing))

    async def _done(self, doing: Coroutine[Any, Any, None]) -> None:
        try:
            await doing
        except asyncio.CancelledError:
            return  # the session is over
        except TLSSetupException:
            self._end()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self._end("dropped")
        except Exception as error:
            self.broke(error)
        else:
            self._task = None
            self.proceed()

    def _end(self, result: str = "") -> None:
        """The only place where a session ends, whatever ended it."""
        if self._is_over:
            return
        self._is_over = True
        self._result = result or self._result
        if self._task is not None:
            self._task.cancel()
        self._sink = None
        is_midway = self._transaction is not None
        self._drop_transaction(client_gone=self.lost or self.eof)
        self._keeper.metrics.sessions_in_progress.labels(self._who.door).dec()
        if is_midway:
            self.part()
        else:
            self.parted()

    def parted(self) -> None:
        """Nothing more to say or to hear."""
        self.close()
        if self._counted_in is not None:
            self._keeper.leave(self._counted_in)
        self._keeper.metrics.sessions.labels(self._who.door, self._result).inc()
        self._left(self)

    def broke(self, error: Exception) -> None:
        """A fault of ours: 451 to what is not answered yet, and the end."""
        if self._is_over:
            return
        self.log_fault(error)
        for _ in range(self._owed):
            self.send(_INTERNAL)
        self._end("failed")

    def log_fault(self, error: BaseException) -> None:
        """What broke, where the operator sees it; the client never does."""
        fields = {"smtpguard.session": self._who.id}
        self._keeper.log.event("session-failed", "a fault of ours", level="error", fields=fields, error=error)

    async def _proxy(self) -> bool:
        """The PROXY header of a load balancer (HAProxy, versions 1 and 2), from trusted peers only."""
        if not self._keeper.is_trusted(self._who.peer_ip):
            self._refuse_session("stranger", b"554 5.7.1 PROXY header from an address not in listen.trusted\r\n")
            return False
        try:
            async with asyncio.timeout(PROXY_WITHIN_S):
                header = await get_proxy(self)
        except TimeoutError:  # a slow balancer is no reason to bounce mail
            self._refuse_session("timeout", b"421 4.4.2 no PROXY header in time\r\n")
            return False
        except asyncio.IncompleteReadError:
            header = None
        if header is None or not header.valid:
            self._refuse_session("stranger", b"554 5.5.0 no valid PROXY header\r\n")
            return False
        # LOCAL and UNKNOWN are the balancer's own connection, whatever addresses stand behind them (2.2).
        if header.src_addr is not None and header.command != V2_CMD.LOCAL:
            self._who.peer_ip, self._who.peer_port = str(header.src_addr), int(header.src_port or 0)
        return True

    def _refuse_session(self, result: str, line: bytes) -> None:
        self._result = result
        self.send(line)
        self._keeper.log.event(
            "session-refused",
            line[10:].decode().strip(),
            level="warning",
            fields={
                "source.ip": self._who.peer_ip,
                "source.port": self._who.peer_port,
                "smtp.reply.code": int(line[:3]),
                "smtpguard.session": self._who.id,
            },
        )

    # -- commands and answers --------------------------------------------------------------------------------------

    def proceed(self) -> None:
        """Command after command, until one has to be waited for or no whole line is here."""
        if self._in_turn or self._is_over:
            return
        self._in_turn = True
        try:
            while not (self._owed or self.closing or self.lost or self._full or self._sink or self._task):
                line = self.next_line() if self._buffer else None
                if line is None:
                    if self.eof:
                        self.closing = True
                    break
                self._owed = 1
                if isinstance(line, LineFault):
                    self._bad(_LINE_FAULTS[line])
                elif CONTROL.search(line):
                    self._bad(b"500 5.5.2 control character in a command\r\n")
                else:
                    verb, _, argument = line.partition(b" ")
                    command = self._commands.get(verb)  # upper case, as most write it
                    if command is not None:
                        command(self, argument.strip(b" "))
                    else:
                        self._command(verb.upper(), argument.strip(b" "))
            if (self.closing or self.lost) and not self._owed:  # whoever is gone sees no answer, and would send again
                self._end()
        except Exception as error:
            self.broke(error)
        finally:
            self._in_turn = False

    def _command(self, verb: bytes, argument: bytes) -> None:
        command = self._commands.get(verb)
        if command is not None:
            command(self, argument)
        elif verb in _FIXED:
            self.answer(_FIXED[verb])
        elif verb in _HANG_UP:
            self._result = "dropped"
            self.answer(b"502 5.5.1 not offered here, good bye\r\n")
            self.close()
        else:
            self._bad(b"500 5.5.1 command not recognized\r\n")

    def answer(self, line: bytes) -> None:
        """Answer the command at hand."""
        self._owed -= 1
        self.send(line)

    @property
    def owes(self) -> bool:
        """The next hop, or the check of a password, is waited for."""
        return self._owed > 0 and self._waiter is None

    def _bad(self, line: bytes) -> None:
        self._bad_commands += 1
        if self._bad_commands < MAX_BAD_COMMANDS:
            self.answer(line)
            return
        self._result = "limited"
        self.answer(b"421 4.7.0 too many bad commands\r\n")
        self.close()

    # -- the transaction, as far as the frame knows it ---------------------------------------------------------------

    def _drop_transaction(self, *, client_gone: bool = False) -> None:
        self._refused_mail = None
        if self._transaction is not None:
            self._transaction.abort(client_gone=client_gone)
            self._transaction = None
        self._who.client.clear()

    # -- what comes from outside of the dialogue -------------------------------------------------------------------

    def gone(self) -> None:
        """Until the next hop gets the message the session ends at once; then its answer is waited for and recorded."""
        if not (self._after_dot and self._transaction is not None and self._transaction.client_gone()):
            self._end("dropped" if self._result == "accepted" and not self.closing else "")

    def expired(self) -> None:
        """Contract 1.3: idle 421."""
        self._say_goodbye("timeout", b"421 4.4.2 idle for too long\r\n")

    def stop(self) -> bool:
        """We are going down: at once before the dot; after it True, and the session ends with its answer."""
        if self._after_dot:
            self.closing = True
            return True
        self._say_goodbye("stopped", _STOPPING)
        return False

    def cut_off(self) -> None:
        """The drain is over: end in the middle of an answer."""
        self.cut()
        self._end("stopped")

    def _say_goodbye(self, result: str, line: bytes) -> None:
        if not self._is_over:
            self.closing = True
            self.send(line)
            self._end(result)
