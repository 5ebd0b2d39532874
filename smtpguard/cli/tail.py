"""`smtpguard tail`: the JSON log (contract 4) as lines for a person, as it grows.

A file is followed by its name, through rotation (another file of that name) and truncation; standard input to its end.
A line that is no JSON object is shown as it is, made harmless: the traceback of a crash must not be hidden.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from smtpguard.cli.width import columns, folded
from smtpguard.edge.log import console_line
from smtpguard.mail.reply import clean

POLL_S: Final = 0.25
_MAX_LINE: Final = 1 << 20  # octets; the log's own are shorter
_HEAD: Final = frozenset(("@timestamp", "log.level", "message", "event.action"))
# The lines of a transaction, or of a notice about one, have some thirty fields. Those that a person asks for: beside
# the message, and below it.
_OF_MAIL: Final = frozenset(
    (
        "recipient-refused",
        "recipient-accepted",
        "policy-applied",
        "suppression-added",
        "transaction",
        "notice-received",
    )
)
_BESIDE: Final = {
    "smtp.mail_from": "from",
    "smtp.rcpt_to": "to",
    "smtp.queue_id": "queue",
    "smtp.next_hop_queue_id": "next",
    "smtp.size": "size",
    "event.id": "id",
    "smtpguard.notice.at": "at",
    "smtpguard.findings": "findings",
}
_BELOW: Final = {
    "error.message": "error",
    "smtp.reply.text": "said",
    "smtpguard.cause": "cause",
    "smtpguard.fix": "fix",
}
_PROBLEMS: Final = frozenset(("warning", "error"))
_BAD_ENDS: Final = frozenset(("failure", "unknown"))


def run(file: Path, *, problems: bool, last: int, follow: bool, color: bool) -> int:
    """Print until the end, or for ever; the exit code. `last`: how many lines of what is there already."""
    try:
        lines = sys.stdin.buffer if str(file) == "-" else _followed(file, last, follow=follow)
        for line in lines:
            if shown := render(line, problems=problems, color=color, width=columns()):
                sys.stdout.buffer.write(shown)
                sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # the reader has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"smtpguard tail: {file}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def render(line: bytes, *, problems: bool = False, color: bool = False, width: int = 0) -> bytes:
    """A line of the log, as `log.format = "console"` has it but shorter; b"" where it is not wanted or empty.

    Of a transaction or a notice that is who, to whom, by which ids, and what lint found; of a refusal what was said,
    why, what to do, folded at `width` columns; 0 folds nothing.
    """
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    event = _event(text)
    if event is None:
        harmless = clean(text, utf8=True)
        return f"{harmless}\n".encode("utf-8", "replace") if harmless else b""
    if problems and not _is_problem(event):
        return b""
    fields = {str(key): value for key, value in event.items() if key not in _HEAD}
    level, action, message = (str(event.get(key, "")) for key in ("log.level", "event.action", "message"))
    below = b""
    if action in _OF_MAIL:
        told = [(label, event[key]) for key, label in _BELOW.items() if event.get(key)]
        below = b"".join(_below(label, str(value), width) for label, value in told)
        fields = {label: _joined(event[key]) for key, label in _BESIDE.items() if key in event}
        action = ""  # the message says it
    return console_line(_seconds(event), level, action, message, fields, color=color) + below


def _joined(value: object) -> object:
    """`DKM001,SPF003` for a list."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _below(label: str, value: str, width: int) -> bytes:
    line = folded(f"{'':13}{label:<6} {clean(value, utf8=True)}", width, indent=20)
    return f"{line}\n".encode("utf-8", "replace")


def _event(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_problem(event: dict[str, Any]) -> bool:
    if event.get("log.level") in _PROBLEMS:
        return True
    # The end of a transaction repeats its refusals, but one that broke off has none
    return event.get("event.outcome") in _BAD_ENDS and not event.get("smtp.rcpt.refused")


def _seconds(event: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(event.get("@timestamp"))).timestamp()
    except ValueError:
        return 0.0


# --- following a file ------------------------------------------------------------------------------------------


def _followed(path: Path, last: int, *, follow: bool) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from deque(_whole(file), maxlen=last)
        if not follow:
            rest = file.read(_MAX_LINE)
            yield from [rest] if rest else []
            return
        position = file.tell()
    yield from followed(path, position)


def followed(path: Path, position: int, wait: Callable[[], object] = lambda: time.sleep(POLL_S)) -> Iterator[bytes]:
    """The lines written to the file of this name from `position` on, as they come, whatever file bears the name then.

    `wait` is called whenever there is nothing new; the rest of a file that was renamed is read before the next one's.
    """
    file: IO[bytes] | None = None
    try:
        while True:
            if file is None:
                try:
                    file = path.open("rb")
                except FileNotFoundError:  # between two files
                    wait()
                    continue
                file.seek(position)
                position = 0
            yield from _whole(file)
            if _is_shorter(file):
                file.seek(0)
            elif _is_another(file, path):
                yield from _whole(file)  # written between our last look and the renaming
                file.close()
                file = None
            else:
                wait()
    finally:
        if file is not None:
            file.close()


def _whole(file: IO[bytes]) -> Iterable[bytes]:
    """The lines up to the last whole one; what is behind it is read again later."""
    while line := file.readline(_MAX_LINE):
        if not line.endswith(b"\n") and len(line) < _MAX_LINE:
            file.seek(-len(line), os.SEEK_CUR)
            return
        yield line


def _is_shorter(file: IO[bytes]) -> bool:
    return os.fstat(file.fileno()).st_size < file.tell()


def _is_another(file: IO[bytes], path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False  # renamed, and the new one is not there yet: whoever writes may still have the old one
    here = os.fstat(file.fileno())
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)
