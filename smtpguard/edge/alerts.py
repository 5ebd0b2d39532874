"""The webhook of `[alerts]`: an operator is told of refusals whose policy says `alert = true`, and of being listed.

    alerts = Alerts(url, secret, masker=masker, log=log.event, on_drop=...)
    alerts.start(); alerts.write(record); await alerts.close()

A POST of one JSON object. `X-Smtpguard-Timestamp` is the time of sending in seconds since the epoch, and where there is
a secret `X-Smtpguard-Signature` is `sha256=` and the hex HMAC-SHA256 (RFC 2104) of timestamp, a dot and the body: who
checks both can be told nothing by others, nor the same again later. One alert each REPEAT_S for a category at a next
hop; it says how many refusals it stands for, the silent ones before it counted.

Never on the answer's path: `write` queues and returns. Whatever cannot be delivered in the end is dropped and counted.
Redirects are not followed, certificates are checked; the address is a secret with many services and stays out of logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

from smtpguard.edge.health import Log
from smtpguard.edge.log import timestamp
from smtpguard.record import Masker, Record, Refusal

REPEAT_S: Final = 600.0
MAX_WAITING: Final = 100  # alerts
POST_S: Final = 10.0
CLOSE_S: Final = 2.0
BACKOFF_S: Final = (1.0, 5.0, 30.0, 120.0, 300.0)
"""Between attempts; after the last one an alert is old news."""
_AGAIN: Final = frozenset((408, 425, 429))  # RFC 9110 15.5.9, RFC 8470 5.2, RFC 6585 4; and every 5xx

Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]
"""(address, body, headers) -> the status of the answer; Unreachable where there was none."""


class Unreachable(Exception):
    """The webhook gave no answer; the text says why, and nothing of its address."""


class Webhook:
    """Posts by aiohttp. To be closed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=POST_S)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status  # what else it says is not read
        except TimeoutError:
            raise Unreachable(f"no answer within {POST_S:g} s") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise Unreachable(f"its certificate is not trusted: {error.certificate_error}") from None
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(error.os_error.strerror or type(error.os_error).__name__) from None
        except (aiohttp.ClientError, ValueError) as error:  # ValueError: no address at all; its text has it
            raise Unreachable(type(error).__name__) from None

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class _Key(NamedTuple):
    """What alerts are counted by: a category, or an action of its own, and a next hop, or a list."""

    what: str
    where: str


class _Quiet:
    """A key that was told of: until when it is quiet, and how many were left out since. Clock: monotonic."""

    __slots__ = ("left_out", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.left_out = 0


class Alerts:
    """The webhook at work, from `start` to `close`; `url` "": nobody is told.

    `secret` b"": no signature. `post` delivers, by default a Webhook. `log` is told of what could not be delivered,
    `on_drop` how many alerts that were. `clock` is monotonic, `now` in seconds since the epoch.
    """

    def __init__(
        self,
        url: str,
        secret: bytes,
        *,
        masker: Masker,
        log: Log,
        on_drop: Callable[[int], None] = lambda _: None,
        post: Post | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._webhook = Webhook()
        self._post: Post = post or self._webhook
        self._log = log
        self._on_drop = on_drop
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._quiet: dict[_Key, _Quiet] = {}  # as many as categories by next hops: a closed set
        self._waiting: deque[bytes] = deque()
        self._in_hand = False
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.settle(url, secret, masker)

    def settle(self, url: str, secret: bytes, masker: Masker) -> None:
        """Take new settings, now and after a reload; what waits goes to the new address."""
        self._url, self._secret, self._masker = url, secret, masker

    def start(self) -> None:
        """Begin to deliver, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def write(self, record: Record) -> None:
        """Tell of the refusals of a finished transaction that are to be told of, also where a detour was taken."""
        if not self._url:
            return
        counts: dict[_Key, int] = {}
        first: dict[_Key, Refusal] = {}
        for refusal in (*record.diverted, *record.refusals):
            if refusal.alert:
                key = _Key(refusal.classification.category, refusal.hop.next_hop if refusal.hop else record.next_hop)
                counts[key] = counts.get(key, 0) + max(1, refusal.count)
                first.setdefault(key, refusal)
        for key, refusal in first.items():
            if count := self._due(key, counts[key]):
                self._put({**self._told(record, refusal, key.where), "count": count})

    def listed(self, list: str, subject: str, meaning: str, url: str = "") -> None:
        """Tell that one of our addresses or domains is on a blocklist. `url`: where to be taken off it."""
        count = self._due(_Key("blocklist-listed", f"{list} {subject}"), 1) if self._url else 0
        if count:
            cause = f"{subject} is on {list}" + (f": {meaning}" if meaning else "")
            self._put(
                {
                    "action": "blocklist-listed",
                    "at": timestamp(self._now()),
                    "cause": cause,
                    "fix": f"find out why, mend it, and ask to be taken off: {url}" if url else "",
                    "list": list,
                    "subject": subject,
                    "count": count,
                }
            )

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Deliver what waits, for at most `timeout_s`; the rest is dropped and counted."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            done, _ = await asyncio.wait({self._task}, timeout=timeout_s)
            if not done:
                self._task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._task
        if lost := len(self._waiting) + self._in_hand:
            self._waiting.clear()
            self._in_hand = False
            self._on_drop(lost)
        await self._webhook.close()

    def _due(self, key: _Key, count: int) -> int:
        """How many an alert now stands for; 0: it is quiet about that for a while yet."""
        now = self._clock()
        quiet = self._quiet.get(key)
        if quiet is not None and now < quiet.until:
            quiet.left_out += count
            return 0
        self._quiet[key] = _Quiet(now + REPEAT_S)
        return count + (quiet.left_out if quiet is not None else 0)

    def _told(self, record: Record, refusal: Refusal, next_hop: str) -> dict[str, Any]:
        masker, meaning, said, rcpt = self._masker, refusal.classification, refusal.said, refusal.rcpt
        rcpts = (rcpt,) if rcpt is not None else tuple(each.path for each in record.envelope.rcpts)
        paths = (*rcpts, record.envelope.mail_from)
        reply = None
        if said is not None:
            reply = {"code": said.code, "enhanced": str(said.enhanced or ""), "text": masker.text(said.text, paths)}
        return {
            "action": "refusal",
            "id": record.id,
            "at": timestamp(record.at),
            "category": meaning.category,
            "cause": masker.text(meaning.cause, paths),
            "fix": masker.text(meaning.fix, paths),
            "reference": masker.text(meaning.reference),
            "responsible": meaning.responsible,
            "provider": meaning.provider,
            "policy": refusal.action,
            "verb": refusal.verb.value,
            "answer": None if any(refusal is each for each in record.diverted) else refusal.answer.code,
            "reply": reply,
            "next_hop": next_hop,
            "mail_from": masker.show(record.envelope.mail_from),
            "rcpt_to": masker.show(rcpt) if rcpt is not None else "",
            "queue_id": masker.text(record.envelope.queue_id),
        }

    def _put(self, alert: dict[str, Any]) -> None:
        if self._closing or len(self._waiting) >= MAX_WAITING:
            self._on_drop(1)
            return
        self._waiting.append(orjson.dumps({key: value for key, value in alert.items() if value not in ("", None)}))
        self._wake.set()

    # -- delivery -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            body = self._waiting.popleft()
            self._in_hand = True
            why = await self._delivered(body)
            self._in_hand = False
            if why:
                self._on_drop(1)
                self._log("alert-failed", f"an alert was dropped: {why}", level="warning")

    async def _delivered(self, body: bytes) -> str:
        """Why it could not be delivered; "" if it was. Never raises, whatever `post` does."""
        why = ""
        for pause_s in (*BACKOFF_S, None):
            try:
                status = await self._post(self._url, body, self._headers(body))
            except Unreachable as error:
                why = f"the webhook cannot be reached: {error}"
            except Exception as error:  # a fault of ours: the next alert may fare better
                return f"{type(error).__name__} in the delivery"
            else:
                if 200 <= status < 300:
                    return ""
                why = f"the webhook answers {status}"
                if status < 500 and status not in _AGAIN:
                    return why
            if pause_s is not None:
                await self._sleep(pause_s)
        return why

    def _headers(self, body: bytes) -> dict[str, str]:
        at = str(int(self._now()))
        headers = {"Content-Type": "application/json", "User-Agent": "smtpguard", "X-Smtpguard-Timestamp": at}
        if self._secret:
            signature = hmac.digest(self._secret, at.encode() + b"." + body, "sha256").hex()
            headers["X-Smtpguard-Signature"] = f"sha256={signature}"
        return headers
