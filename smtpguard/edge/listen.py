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
from typing import Final

from smtpguard.config import ListenAddress, ListenSettings
from smtpguard.edge.smtpd import Door
from smtpguard.mail.session import DoorName

BACKLOG: Final = 512
_PAUSE_S: Final = 0.5
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


class Acceptor:
    """Accepts on all listeners of the doors, at most `limit` sessions at a time; `sessions` are those open now."""

    def __init__(self, limit: int) -> None:
        self.sessions: set[Door] = set()
        self._limit = limit
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners: list[socket.socket] = []

    def accept(self, listener: socket.socket, make: Callable[[Callable[[Door], None]], Door]) -> None:
        """Accept on this listener from now on; `make` gives a session, told what to call when it ended."""
        self._listeners.append(listener)
        self._tasks.append(asyncio.get_running_loop().create_task(self._accept(listener, make)))

    async def _accept(self, listener: socket.socket, make: Callable[[Callable[[Door], None]], Door]) -> None:
        loop = asyncio.get_running_loop()
        is_tcp = listener.family != socket.AF_UNIX  # asked once: it takes a microsecond
        while True:
            await self._room.wait()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                # No descriptor or memory free, or the client went already: wait, then go on.
                if error.errno not in (errno.ECONNABORTED, errno.EINTR):
                    await asyncio.sleep(_PAUSE_S)
                continue
            try:
                # Another listener may have taken the last place meanwhile: this client waits for its greeting.
                while len(self.sessions) >= self._limit:
                    await self._room.wait()  # which wakes all listeners, for one place
            except asyncio.CancelledError:
                connection.close()
                raise
            await self._begin(make(self._left), connection, is_tcp=is_tcp)
            del connection  # the transport's now; a session that ended must not be held from here

    async def _begin(self, door: Door, connection: socket.socket, *, is_tcp: bool) -> None:
        self.sessions.add(door)
        self._empty.clear()
        if len(self.sessions) >= self._limit:
            self._room.clear()
        try:
            if is_tcp:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: door, connection)
        except OSError:
            connection.close()
            self._left(door)
        except asyncio.CancelledError:  # we stop: uvloop has closed it, and tells nobody
            if door.transport is not None:
                door.connection_lost(None)
            else:
                self._left(door)
            raise

    def _left(self, door: Door) -> None:
        self.sessions.discard(door)
        if len(self.sessions) < self._limit:
            self._room.set()
        if not self.sessions:
            self._empty.set()

    async def close(self, *, unlink: Sequence[str] = ()) -> None:
        """Stop accepting; sockets of ours are closed, and the named Unix sockets removed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for listener in self._listeners:
            listener.close()
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
