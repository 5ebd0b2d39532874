"""`/api/v1`: the history and the suppression list, asked and changed; a reply explained (contract 6).

What is asked of the store runs in threads of this file's own, a few at once: mail shares the event loop, and the names
of next hops are resolved in the loop's threads. A store that is away, slow or asked too much is 503 with Retry-After.
Suppressions are read from the memory that mail is judged by, and changed there first; a change is answered when it is
written. Nothing here is rendered into a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar

from aiohttp import web

from smtpguard.classify import Classifier
from smtpguard.classify.notice.asked import EVENT_ID, accepted, asked, described
from smtpguard.config import Settings
from smtpguard.config.values import duration
from smtpguard.history import Database, Store, StoreError, by_hand, report, schema, told
from smtpguard.history.account import accounts
from smtpguard.mail.reply import clean
from smtpguard.policy.standing import may_suppress
from smtpguard.record import Masker
from smtpguard.web import query
from smtpguard.web.answers import Refused, away, bad, json
from smtpguard.web.routes import V1, Route, openapi

THREADS: Final = 2
MAX_QUESTIONS: Final = 8  # in hand or waiting for a thread; further ones are told to come again
ASK_S: Final = 10.0
WRITE_S: Final = 5.0

_AWAY: Final = "the history cannot be had at the moment; the log says why"
_BUSY: Final = "the history is being asked too much at once"
_JSON: Final = "application/json"

_REJECTIONS: Final = (
    query.SINCE,
    query.CATEGORY,
    query.PROVIDER,
    query.ID,
    query.QUEUE_ID,
    query.RCPT_ID,
    query.LIMIT,
)
_SUMMARY: Final = (query.SINCE, query.BY)
_LISTED: Final = (query.ADDRESS, query.KEY, query.LIMIT)
_RELEASED: Final = (query.ADDRESS, query.KEY)

T = TypeVar("T")


class Api:
    """The handlers. `store`, `classifier`: None where there is none; its paths are then not served.

    `settings` gives those in force; `clock` seconds since the epoch.
    """

    def __init__(
        self,
        *,
        store: Store | None,
        classifier: Callable[[], Classifier] | None,
        settings: Callable[[], Settings],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._classifier = classifier
        self._settings = settings
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, "smtpguard-web")
        self._in_hand = 0

    def routes(self) -> tuple[Route, ...]:
        """What is served."""
        asking = (
            (
                Route(
                    "GET",
                    f"{V1}/rejections",
                    "Refusals, 4xx and 5xx, the newest first.",
                    self._rejections,
                    _REJECTIONS,
                ),
                Route("GET", f"{V1}/rejections/{{id}}", "What happened to a transaction, and why.", self._rejection),
                Route("GET", f"{V1}/summary", "A period summed up.", self._summary, _SUMMARY),
                Route(
                    "GET",
                    f"{V1}/suppressions",
                    "The recipients that get no mail for now, the newest first; or one of them.",
                    self._suppressions,
                    _LISTED,
                ),
                Route(
                    "PUT",
                    f"{V1}/suppressions",
                    "Refuse mail to a recipient.",
                    self._suppress,
                    takes={
                        "address": "the recipient",
                        "for": "how long, as 7d; else as suppression.ttl says",
                        "reason": "said to whoever writes to the address",
                    },
                    needs=("address",),
                ),
                Route(
                    "DELETE",
                    f"{V1}/suppressions",
                    "Let a recipient have mail again, its strikes forgotten.",
                    self._release,
                    _RELEASED,
                ),
            )
            if self._store is not None
            else ()
        )
        if self._classifier is None:
            return asking
        explain = Route(
            "POST",
            f"{V1}/explain",
            "What a reply means; it may be text/plain as well.",
            self._explain,
            takes={"reply": "code and text", "next_hop": "who said it", "verb": "what it answered: RCPT, DOT, ..."},
            needs=("reply",),
        )
        return (*asking, explain)

    def document(self, routes: tuple[Route, ...]) -> Route:
        """The route that describes `routes`."""
        content = openapi(routes)

        async def describe(_: web.Request) -> web.Response:
            return json(content)

        return Route("GET", f"{V1}/openapi.json", "This document.", describe)

    def close(self) -> None:
        """Take no more questions; does not wait for those in hand."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # -- refusals -----------------------------------------------------------------------------------------------

    async def _rejections(self, request: web.Request) -> web.Response:
        given = query.asked(request, _REJECTIONS, self._clock())
        return json(await self._ask(partial(_rejections, given)))

    async def _rejection(self, request: web.Request) -> web.Response:
        id, now = request.match_info["id"], self._clock()
        query.asked(request, (), now)
        if not EVENT_ID.fullmatch(id):
            raise Refused(
                HTTPStatus.NOT_FOUND, "an event id has twelve letters and digits; ?queue_id= takes a queue id"
            )
        found = await self._ask(partial(_account, id, now - query.DAY_S))
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "no such event in the history: accepted, too old, or of another store")
        return json(found)

    async def _summary(self, request: web.Request) -> web.Response:
        now = self._clock()
        given = query.asked(request, _SUMMARY, now)
        return json(await self._ask(partial(_summary, given, now)))

    # -- suppressions -------------------------------------------------------------------------------------------

    async def _suppressions(self, request: web.Request) -> web.Response:
        now = self._clock()
        given = query.asked(request, _LISTED, now)
        shelf = self._kept.state.suppressions
        key = self._key(given)
        if key is not None:
            row = shelf.get(key)
            rows = [row] if row is not None and row.until > now else []
        else:
            rows = await self._threaded(  # there may be half a million
                lambda: sorted((row for row in shelf if row.until > now), key=lambda row: (-row.since, row.key))
            )
        shown = [told.suppression(row) for row in rows[: given["limit"]]]
        return json({"suppressions": shown, "total": len(rows)})

    async def _suppress(self, request: web.Request) -> web.Response:
        octets = await query.body(request, _JSON)
        query.asked(request, (), self._clock())
        given = query.members(octets, ("address", "for", "reason"))
        self._must_be_there()
        settings = self._settings()
        try:
            path = by_hand.path_of(given.get("address", ""))
            ttl_s = duration(given["for"]) if "for" in given else settings.suppression.ttl
        except ValueError as error:  # of our own words, for a person
            raise bad(clean(str(error), utf8=True)) from None
        if ttl_s > by_hand.MAX_TTL_S:
            raise bad("for: give at most 36500d")
        if not may_suppress(path, settings.suppression):
            raise bad("this address is one of suppression.never")
        masker = Masker(settings.privacy.addresses, self._kept.key)
        row = by_hand.suppression(path, masker, self._clock(), ttl_s, reason=given.get("reason", ""))
        shelf = self._kept.state.suppressions
        is_new = shelf.get(row.key) is None
        shelf.put(row)
        await self._written()
        return json(told.suppression(row), HTTPStatus.CREATED if is_new else HTTPStatus.OK)

    async def _release(self, request: web.Request) -> web.Response:
        given = query.asked(request, _RELEASED, self._clock())
        key = self._key(given)
        if key is None:
            raise bad("name the recipient: ?address=name@domain, or ?key= and its hash")
        self._must_be_there()
        state = self._kept.state
        found = state.suppressions.get(key)
        state.suppressions.drop(key)
        state.strikes.clear(key)
        await self._written()
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "it is not on the list")
        return json(told.suppression(found))

    def _key(self, given: Mapping[str, Any]) -> str | None:
        address, key = given["address"], given["key"]
        if address is not None and key is not None:
            raise bad("address and key say the same: give one of them")
        if address is None:
            return key if key is None else str(key)
        return Masker(self._settings().privacy.addresses, self._kept.key).id(address)

    def _must_be_there(self) -> None:
        """A change that is not written would be forgotten by a restart, so none is begun while the store is away."""
        if self._kept.standing.away:
            raise away(_AWAY)

    async def _written(self) -> None:
        if not await self._threaded(partial(self._kept.flush, WRITE_S)):
            raise away("it counts from now on but is not written yet; send it again")

    # -- a reply ------------------------------------------------------------------------------------------------

    async def _explain(self, request: web.Request) -> web.Response:
        assert self._classifier is not None
        octets = await query.body(request, _JSON, "text/plain")
        query.asked(request, (), self._clock())
        text = octets.decode("utf-8", "replace").strip()
        if request.content_type == _JSON and not text.startswith("{"):
            raise bad('send {"reply": "550 5.7.26 ...", "next_hop": "...", "verb": "..."}, or text/plain')
        if not text:
            raise bad("there is no reply in the body")
        return json(await self._threaded(partial(_explained, self._classifier(), text)))

    # -- threads ------------------------------------------------------------------------------------------------

    @property
    def _kept(self) -> Store:
        assert self._store is not None  # its routes are there with it only
        return self._store

    async def _ask(self, question: Callable[[Database], T]) -> T:
        """What the history says; 503 where it cannot be had."""

        def answer() -> T:
            with self._kept.reading() as database:
                schema.check(database)
                return question(database)

        try:
            return await self._threaded(answer)
        except StoreError:
            raise away(_AWAY) from None

    async def _threaded(self, work: Callable[[], T]) -> T:
        if self._in_hand >= MAX_QUESTIONS:
            raise away(_BUSY)
        self._in_hand += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(self._done)
        # neither a client that is gone nor our impatience ends a thread: it is in hand until it ends
        done, _ = await asyncio.wait({future}, timeout=ASK_S)
        if not done:
            raise away(_AWAY)
        return future.result()

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._in_hand -= 1
        if not future.cancelled():
            future.exception()  # seen, also where nobody waits any more


def _rejections(given: Mapping[str, Any], database: Database) -> dict[str, Any]:
    return {"rejections": list(map(told.rejection, _found(given, database)))}


def _found(given: Mapping[str, Any], database: Database) -> list[report.Rejection]:
    category, provider, rcpt_id = (given[name] or "" for name in ("category", "provider", "rcpt_id"))
    if given["id"] is None and given["queue_id"] is None:
        return report.rejections(
            database, given["since"], category=category, provider=provider, rcpt_id=rcpt_id, limit=given["limit"]
        )
    if given["id"] is not None:
        event = report.event(database, given["id"])
        events = [event] if event is not None and given["queue_id"] in (None, event.transaction.queue_id) else []
    else:
        events = report.by_queue_id(database, given["queue_id"])
    found = [
        report.Rejection(
            refusal,
            event.transaction.queue_id,
            event.transaction.message_id,
            event.transaction.sender,
            event.transaction.sender_domain,
        )
        for event in events
        for refusal in event.refusals
        if category in ("", refusal.category, refusal.category.partition(".")[0])
        and provider in ("", refusal.provider)
        and rcpt_id in ("", refusal.rcpt_id)
    ]
    return found[: given["limit"]]


def _account(id: str, since: float, database: Database) -> dict[str, Any] | None:
    found = accounts(database, id, since)
    return next((told.account(account) for account in found if account.event.transaction.id == id), None)


def _summary(given: Mapping[str, Any], now: float, database: Database) -> dict[str, Any]:
    since, by = given["since"], given["by"]
    if by == "rule":
        return told.rules(report.rules(database, since, now), since, now)
    return told.summary(report.summary(database, since, now, by))


def _explained(classifier: Classifier, text: str) -> dict[str, Any]:
    try:
        question = asked(text)
    except ValueError as error:  # notice.asked's own words
        raise bad(str(error)) from None
    if question.reply.klass < 4:
        return accepted(question)
    return described(question, classifier.match(question.reply, question.host, verb_known=question.verb is not None))
