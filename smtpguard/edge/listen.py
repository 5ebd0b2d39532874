"""Listening sockets: bound or handed over (`LISTEN_FDS`), and the loop that accepts on them (contract 1.3, 1.6).

Accepting is ours, so that it can pause: beyond `max_sessions` new clients wait in the kernel's backlog, and without a
free descriptor they wait until there is one. A refused connection would make Postfix throttle the destination, which is
all of its mail.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from smtpguard.config import ListenAddress, ListenSettings
from smtpguard.edge.smtpd import Door
from smtpguard.mail.session import DoorName

BACKLOG: Final = 512
_PAUSE_S: Final = 0.5
_AT_ONCE: Final = 16  # clients of one listener let in before others have their turn
_FIRST_FD: Final = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START


def bind(address: ListenAddress, *, mode: int = 0o660) -> socket.socket:
    """A listening socket, not blocking; OSError says why not. A stale Unix socket is removed, a live one is not."""
    if address.path:
        return _bind_unix(address.path, mode)
    family, kind, _, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(where)
        return _listening(listener)
    except BaseException:
        listener.close()
        raise


def _bind_unix(path: str, mode: int) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.setblocking(False)
                # Nobody listens there: only ECONNREFUSED says so. A busy server is EAGAIN, a foreign one EACCES.
                if probe.connect_ex(path) != errno.ECONNREFUSED:
                    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        return _listening(listener)
    except BaseException:
        listener.close()
        raise


def _listening(listener: socket.socket) -> socket.socket:
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def handed_over(environ: Mapping[str, str]) -> list[tuple[str, socket.socket]]:
    """The sockets that systemd passed to us (sd_listen_fds(3)), with their names (`FileDescriptorName=`), or []."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    try:
        count = int(environ.get("LISTEN_FDS", "0"))
    except ValueError:
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    sockets: list[tuple[str, socket.socket]] = []
    for index in range(count):
        given = socket.socket(fileno=_FIRST_FD + index)
        given.setblocking(False)
        os.set_inheritable(given.fileno(), False)
        sockets.append((names[index] if index < len(names) else "", given))
    return sockets


class CannotListen(Exception):
    """An address of the configuration cannot be listened on; the text says which, why, and what may help."""


def why_not(key: str, where: str, error: OSError) -> str:
    """That text, for the key `listen.smtp` and its like."""
    remedy = "; is another smtpguard running, or the port taken?" if error.errno == errno.EADDRINUSE else ""
    return f"{key}: cannot listen on {where}: {error.strerror or error}{remedy}"


def open_doors(
    settings: ListenSettings, environ: Mapping[str, str]
) -> tuple[list[tuple[DoorName, socket.socket]], list[str]]:
    """The doors' sockets, handed over by systemd or else bound here, and the Unix paths that are ours to remove.

    A socket handed over belongs to the door it is named after, else to the one whose configuration has its address.
    """
    given = handed_over(environ)
    opened: list[tuple[DoorName, socket.socket]] = []
    ours: list[str] = []
    doors: dict[DoorName, tuple[ListenAddress, ...]] = {"lmtp": settings.lmtp, "smtp": settings.smtp}
    for door, addresses in doors.items():
        mine = [one for name, one in given if name == door]
        mine += [one for name, one in given if name not in doors and any(is_at(one, a) for a in addresses)]
        opened += [(door, one) for one in mine]
        if mine:
            continue
        for address in addresses:
            try:
                opened.append((door, bind(address, mode=settings.socket_mode)))
            except OSError as error:
                for _, listener in opened:
                    listener.close()
                where = f"unix:{address.path}" if address.path else f"{address.host}:{address.port}"
                raise CannotListen(why_not(f"listen.{door}", where, error)) from error
            ours += [address.path] if address.path else []
    return opened, ours


def is_at(listener: socket.socket, address: ListenAddress) -> bool:
    """Whether a socket listens where the configuration says."""
    name = listener.getsockname()
    if isinstance(name, str | bytes):
        return bool(address.path) and os.fsdecode(name) == address.path
    return not address.path and (name[0], name[1]) == (address.host, address.port)


def shown(listener: socket.socket) -> str:
    """`127.0.0.1:10724`, `[::1]:10724` or `unix:/path`."""
    name = listener.getsockname()
    if isinstance(name, str | bytes):
        return f"unix:{os.fsdecode(name)}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


Make = Callable[[Callable[[Door], None]], Door]
"""A new session, told what to call when it has ended."""


class Acceptor:
    """Accepts on all listeners of the doors, at most `limit` sessions at a time; `sessions` are those open now.

    uvloop's own servers close clients for whom no descriptor is free; its `sock_accept` takes six calls of the kernel
    and two turns of the loop more for each.
    """

    def __init__(self, limit: int) -> None:
        self.sessions: set[Door] = set()
        self._limit = limit
        self._empty = asyncio.Event()
        self._empty.set()
        # ... and whether it is TCP: to ask takes a microsecond
        self._listeners: dict[socket.socket, tuple[Make, bool]] = {}
        self._beginning: set[asyncio.Task[None]] = set()
        self._is_pausing = False
        self._again: asyncio.TimerHandle | None = None

    def accept(self, listener: socket.socket, make: Make) -> None:
        """Accept on this listener from now on."""
        self._listeners[listener] = make, listener.family != socket.AF_UNIX
        asyncio.get_running_loop().add_reader(listener, self._let_in, listener)

    def _let_in(self, listener: socket.socket) -> None:
        """Clients wait at this listener: those that are there, as long as there is room."""
        loop = asyncio.get_running_loop()
        make, is_tcp = self._listeners[listener]
        for _ in range(_AT_ONCE):
            if len(self.sessions) >= self._limit:
                self._pause()
                return
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ECONNABORTED, errno.EINTR):  # the client went already
                    continue
                self._pause()  # no descriptor or memory is free: wait, then go on
                self._again = loop.call_later(_PAUSE_S, self._go_on)
                return
            connection.setblocking(False)
            self._begin(make(self._left), connection, is_tcp=is_tcp)

    def _begin(self, door: Door, connection: socket.socket, *, is_tcp: bool) -> asyncio.Task[None]:
        self.sessions.add(door)
        self._empty.clear()
        task = asyncio.get_running_loop().create_task(_hand_over(door, connection, is_tcp=is_tcp))
        self._beginning.add(task)
        task.add_done_callback(partial(self._begun, door, connection))
        return task

    def _begun(self, door: Door, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._beginning.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            return
        if error is not None and not isinstance(error, OSError):
            door.log_fault(error)
        if door.transport is not None:  # we stop: uvloop has closed it, and tells nobody
            door.connection_lost(None)
        else:
            connection.close()
            self._left(door)

    def _left(self, door: Door) -> None:
        self.sessions.discard(door)
        if self._is_pausing and self._again is None:
            self._go_on()
        if not self.sessions:
            self._empty.set()

    def _pause(self) -> None:
        """Clients wait in the kernel's backlog."""
        self._is_pausing = True
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)

    def _go_on(self) -> None:
        self._again = None
        self._is_pausing = False
        for listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._let_in, listener)

    async def close(self, *, unlink: Sequence[str] = ()) -> None:
        """Stop accepting; sockets of ours are closed, and the named Unix sockets removed."""
        self._pause()
        if self._again is not None:
            self._again.cancel()
        listeners, self._listeners = self._listeners, {}
        for listener in listeners:
            listener.close()
        beginning = list(self._beginning)
        for task in beginning:
            task.cancel()
        await asyncio.gather(*beginning, return_exceptions=True)
        for path in unlink:
            with contextlib.suppress(OSError):
                os.unlink(path)

    async def drain(self, seconds: float) -> int:
        """End all sessions (contract 1.6); how many had to be cut off in the middle of an answer."""
        for session in list(self.sessions):
            session.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        left = list(self.sessions)
        for session in left:
            session.cut_off()
        if left:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self._empty.wait()
        return len(left)


async def _hand_over(door: Door, connection: socket.socket, *, is_tcp: bool) -> None:
    """The client is the session's from now on; OSError where it went already."""
    if is_tcp:  # uvloop would by itself, asyncio not
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: door, connection)
