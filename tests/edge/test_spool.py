"""Bodies in memory and in files: what is written is what is read, and all room comes back (contract 1.3)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.edge.host import is_in_memory
from smtpguard.edge.spool import IN_MEMORY, Memory, NoRoom, SpooledBody
from smtpguard.mail.message import HEAD_OCTETS
from tests.harness import MESSAGE, Client, code, open_descriptors, relay

LIMIT = 4 * IN_MEMORY
TMPFS = Path("/dev/shm")


def is_memory(folder: Path) -> bool:
    """Whether what lies in a folder is in memory, here."""
    return folder.is_dir() and is_in_memory(folder.stat().st_dev)


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=40), st.integers(0, 3000))
def test_what_is_written_is_what_is_read(pieces: list[bytes], padding: int) -> None:
    """In memory and, with more than 256 KiB, in a file; several times at once, as several next hops read it."""
    memory = Memory(LIMIT)
    for filling in ([], [b"p" * padding] * 100):
        body = SpooledBody(memory, None)
        wanted = b"".join(whole := [piece for piece in pieces + filling if piece])
        for piece in whole:
            body.write(piece)
        body.complete(len(wanted))
        first, second = body.wire(), body.wire()
        assert next(first, b"") == next(second, b"")
        assert b"".join(body.wire()) == b"".join(body.content()) == wanted
        assert body.head == wanted[:HEAD_OCTETS]
        assert memory.used == (len(wanted) if len(wanted) <= IN_MEMORY or is_memory(Path(gettempdir())) else 0)
        body.close()
        body.close()
        assert memory.used == 0


@pytest.mark.parametrize("size", [IN_MEMORY, IN_MEMORY + 1])
def test_the_border_between_memory_and_file(size: int, tmp_path: Path) -> None:
    before = open_descriptors()
    memory = Memory(LIMIT)
    body = SpooledBody(memory, tmp_path)
    for start in range(0, size, 1000):
        body.write(b"x" * min(1000, size - start))
    assert open_descriptors() - before == (size > IN_MEMORY)
    assert memory.used == (size if size <= IN_MEMORY or is_memory(tmp_path) else 0)
    assert not list(tmp_path.iterdir())  # the file has no name
    body.complete(size)
    assert max(map(len, body.wire())) <= IN_MEMORY
    assert sum(map(len, body.wire())) == size
    body.close()
    assert open_descriptors() == before


def test_octet_by_octet_holds_what_it_says() -> None:
    """A client that sends octet by octet must not cost forty times what `relay.memory` counts."""
    body = SpooledBody(Memory(LIMIT), None)
    for _ in range(100_000):
        body.write(b"xy")
    assert sum(sys.getsizeof(chunk) for chunk in body.wire()) < 220_000
    assert b"".join(body.wire()) == b"xy" * 100_000


def test_dots_are_taken_away_from_the_content_alone() -> None:
    body = SpooledBody(Memory(LIMIT), None)
    body.write(b"a\r\n..b\r\n")
    body.complete(7)
    assert b"".join(body.wire()) == b"a\r\n..b\r\n"
    assert b"".join(body.content()) == b"a\r\n.b\r\n"


def test_memory_has_an_end() -> None:
    memory = Memory(1000)
    first, second = SpooledBody(memory, None), SpooledBody(memory, None)
    first.write(b"x" * 600)
    with pytest.raises(NoRoom, match=r"relay\.memory"):
        second.write(b"x" * 401)
    second.write(b"x" * 400)
    first.close()
    second.close()
    assert memory.used == 0


@pytest.mark.skipif(not is_memory(TMPFS), reason="no tmpfs at /dev/shm")
def test_files_in_memory_count_and_those_on_a_disk_do_not(tmp_path: Path) -> None:
    memory = Memory(2 * IN_MEMORY)
    body = SpooledBody(memory, TMPFS)
    for _ in range(8):
        body.write(b"..\r\n" * (IN_MEMORY // 16))
    assert memory.used == 2 * IN_MEMORY
    with pytest.raises(NoRoom, match=r"relay\.memory"):
        body.write(b"x")
    body.complete(2 * IN_MEMORY * 3 // 4)
    assert b"".join(body.content()) == b".\r\n" * (IN_MEMORY // 2)
    body.close()
    assert memory.used == 0
    if not is_memory(tmp_path):
        large = SpooledBody(memory, tmp_path)
        for _ in range(50):
            large.write(b"x" * IN_MEMORY)
        assert memory.used == 0
        large.close()


def test_what_no_mount_tells_of_is_no_memory() -> None:
    assert not is_in_memory(os.makedev(250, 251))


def test_a_folder_that_is_not_there_is_no_room(tmp_path: Path) -> None:
    memory = Memory(LIMIT)
    body = SpooledBody(memory, tmp_path / "gone")
    body.write(b"x" * IN_MEMORY)
    with pytest.raises(NoRoom, match="No such file"):
        body.write(b"x")
    body.close()
    assert memory.used == 0


async def test_a_spool_that_cannot_be_written_defers_the_large_and_passes_the_small(tmp_path: Path) -> None:
    more = f'[relay]\nhostname = "guard.test"\nspool_dir = "{tmp_path}/spool"\n'
    spool = tmp_path / "spool"
    spool.mkdir()
    async with relay(more=more) as guard, Client(guard.smtp) as client:
        spool.rmdir()
        await client.greet()
        for message, wanted in ((b"x" * 300_000 + b"\r\n", "452 4.3.1"), (MESSAGE, "250 2.0.0")):
            assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")) == "354"
            client.send(message + b".\r\n")
            assert code(await client.reply()) == wanted
        [event] = await guard.events("no-room")
        assert event["log.level"] == "warning"
        spool.mkdir()
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
        client.send(b"x" * 300_000 + b"\r\n.\r\n")
        assert code(await client.reply()) == "250 2.0.0"
        assert [message.size > 300_000 for message in guard.hop.messages] == [False, True]


FULL_DISK = """
import json, resource
from smtpguard.edge.spool import Memory, NoRoom, SpooledBody
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
memory = Memory(10_000_000)
body = SpooledBody(memory, None)
said = ""
try:
    for _ in range(100):
        body.write(b"x" * 10_000)
except NoRoom as error:
    said = str(error)
body.close()
body = SpooledBody(memory, None)
body.write(b"small")
print(json.dumps([said, memory.used]))
"""


def test_a_disk_that_fills_up() -> None:
    """As a limit on the size of files has it: the write fails in the middle."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == ["spool: File too large", 5]
