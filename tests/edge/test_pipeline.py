"""What a connection makes of the same octets, however they are cut and however often they came before."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from smtpguard.config.settings import TimeoutSettings
from smtpguard.edge import burst
from smtpguard.edge.connect import Connected
from smtpguard.edge.pipeline import Connection
from smtpguard.mail.reply import Answer, Hop, Verb
from tests.edge.hopping import MESSAGE, HeldBody, soon


class Line(asyncio.Transport):
    """A transport that leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_cut = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def is_closing(self) -> bool:
        return self.is_cut

    def abort(self) -> None:
        self.is_cut = True


class Ear:
    """Hears the answers of a transaction."""

    def __init__(self) -> None:
        self.answers: list[tuple[Verb, Answer]] = []

    def heard(self, verb: Verb, answer: Answer) -> None:
        self.answers.append((verb, answer))


async def _dialogue(replies: list[bytes], *, at_once: bool) -> tuple[list[tuple[Verb, Answer]], list[bytes], bool]:
    """MAIL, RCPT and the message, each sent when the one before is answered; what was heard and written, and the end.

    `at_once`: each reply comes in one read; else octet by octet.
    """
    line, ear, over = Line(), Ear(), [False]
    settings = TimeoutSettings()
    connected = Connected(line, {"PIPELINING": ""}, Hop("default", "mx.example.org", 25))
    connection = Connection(connected, settings, lambda _: None, lambda _c, _f: over.__setitem__(0, True))
    asked = iter(
        (
            lambda: connection.begin([b"MAIL FROM:<a@x.test>\r\n"], soon(), ear),
            lambda: connection.more([b"RCPT TO:<b@y.test>\r\n"]),
            lambda: connection.message(b"", HeldBody(MESSAGE), soon()),
        )
    )
    for reply in replies:
        heard = len(ear.answers)
        if not connection.is_alive:
            break
        if heard == 0 or ear.answers[-1][0] is not Verb.DOT:
            next(asked, lambda: None)()
        burst.of(asyncio.get_running_loop()).flush()
        for octets in [reply] if at_once else [reply[at : at + 1] for at in range(len(reply))]:
            connection.data_received(octets)
    burst.of(asyncio.get_running_loop()).flush()
    written = line.written.copy()
    connection.abort()
    return ear.answers, written, over[0]


YES = [b"250 2.1.0 Ok\r\n", b"250 ok\r\n", b"250-first\r\n250 ok\r\n", b"251 will forward\r\n", b"250 ok\n"]
GO = [b"354 go on\r\n", b"354 End data with <CR><LF>.<CR><LF>\r\n", b"354-go\r\n354 on\r\n"]
NO = [
    b"550 5.1.1 no\r\n",
    b"450 later\r\n",
    b"421 good bye\r\n",
    b"250 ok\r\n250 ok\r\n",
    b"354 go on\r\n",
    b"nonsense\r\n",
]
replies = st.sampled_from([*YES, *GO, *NO])


@given(st.lists(replies, min_size=1, max_size=5))
@example([YES[0], YES[1], GO[0], YES[0]])
@example([YES[1], YES[2], GO[0], YES[1]])
@example([YES[1], YES[1], GO[0], YES[1] + YES[1]])
@example([YES[1], GO[0], GO[0], YES[1]])
async def test_octets_mean_the_same_however_cut_and_however_often(said: list[bytes]) -> None:
    cut = await _dialogue(said, at_once=False)
    first = await _dialogue(said, at_once=True)
    again = await _dialogue(said, at_once=True)
    assert first == again
    if all(reply.count(b"\n") == 1 or reply in (YES[2], GO[2]) for reply in said):
        assert cut == first


async def test_the_end_of_a_long_reply_is_not_taken_for_one_of_its_own() -> None:
    """`250 ok` alone was a yes before; as the last line of a reply of two, in a read of its own, it is half of one."""
    await _dialogue([b"250 ok\r\n"], at_once=True)
    line, ear = Line(), Ear()
    connected = Connected(line, {"PIPELINING": ""}, Hop("default", "mx.example.org", 25))
    connection = Connection(connected, TimeoutSettings(), lambda _: None, lambda _c, _f: None)
    connection.begin([b"MAIL FROM:<a@x.test>\r\n"], soon(), ear)
    connection.data_received(b"250-first\r\n")
    assert ear.answers == []
    connection.data_received(b"250 ok\r\n")
    ((verb, answer),) = ear.answers
    assert verb is Verb.MAIL
    assert str(answer) == "250 first ok"
    connection.abort()
