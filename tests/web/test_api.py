"""`/api/v1`: what the history says, the suppression list, a reply explained; and who is told no, in words."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpguard.classify import load
from smtpguard.config import Settings, SuppressionSettings
from smtpguard.history import Away, Database, Engine, Store, engine_of
from smtpguard.mail.reply import Hop
from smtpguard.policy import Strike
from smtpguard.record import Masker
from smtpguard.web.api import MAX_QUESTIONS
from tests.history.stores import AT, PATIENCE_S, SEED, Found, delivered, hold, numbered, started, suppression
from tests.records import refusal
from tests.web.served import Client, error, served

JANE = "jane.doe@example.org"
KEY = Masker("mask", SEED).id(JANE.encode())
DMARC = "auth.dmarc"


@pytest.fixture(scope="module")
def classifier() -> Any:
    return load()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with started(f"sqlite:///{tmp_path}/h.db") as store:
        yield store


@asynccontextmanager
async def api(store: Store, **more: Any) -> AsyncIterator[Client]:
    async with served(store=store, clock=lambda: AT + 60, **more) as client:
        yield client


def filled(store: Store) -> None:
    store.write(numbered(1), [Found(), Found("DMA001", "warning", "reject", "no record", None)])
    store.write(numbered(2, refusal("451 4.7.1 Greylisted"), at=AT + 30, queue_id="4Def"))
    store.write(numbered(3, at=AT - 10 * 86_400, queue_id="4Old"))
    store.write(delivered(4))
    assert store.flush(PATIENCE_S)


# --- refusals ----------------------------------------------------------------------------------------------------


async def test_refusals_newest_first(store: Store) -> None:
    filled(store)
    async with api(store) as ask:
        status, found = await ask.json("/api/v1/rejections")
    assert status == 200
    newest, older = found["rejections"]
    assert (newest["id"], older["id"]) == ("000000000002", "000000000001")
    assert older == {
        "id": "000000000001",
        "at": "2023-11-14T22:13:20.000Z",
        "queue_id": "4Abc",
        "message_id": "<m1@example.com>",
        "sender": "B***@example.com",
        "verb": "RCPT",
        "reply": {"code": 550, "enhanced": "5.1.1", "text": "User unknown"},
        "answer": 550,
        "source": "next_hop",
        "category": "recipient.unknown",
        "confidence": 0.95,
        "cause": "no such user",
        "fix": "Check the spelling.",
        "rule": "postfix.unknown",
        "provider": "google",
        "rcpt": "j***@example.org",
        "rcpt_id": KEY,
        "rcpts": 1,
        "host": "mx.example.net",
        "next_hop": "default",
    }


async def test_what_policy_did_stands_in_a_refusal(store: Store) -> None:
    held = refusal("554 5.7.1 listed", answer="451 4.7.1 held", action="defer")
    tried = dataclasses.replace(delivered(2, hop=Hop("second", "mx2.example.net", 25)), at=AT - 1)
    tried.diverted.append(refusal("554 5.7.1 listed", None, action="reroute"))
    store.write(numbered(1, held))
    store.write(tried)
    store.state.holds.put(hold("egress default google", category="recipient.unknown"))
    assert store.flush(PATIENCE_S)
    async with api(store) as ask:
        _, found = await ask.json("/api/v1/rejections")
        deferred, rerouted = found["rejections"]
        assert (deferred["action"], deferred["answer"], deferred["reply"]["code"]) == ("defer", 451, 554)
        assert (rerouted["action"], rerouted["detour"]) == ("reroute", "second")
        assert {"answer", "standing"}.isdisjoint(rerouted)  # the MTA was told of none
        assert "detour" not in deferred
        _, found = await ask.json("/api/v1/rejections/000000000001")
        assert found["refusals"][0]["standing"]["until"] == "2023-11-15T22:13:20.000Z"


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("since=30d", [2, 1, 3]),
        ("since=2023-11-14T22:13:40Z", [2]),
        ("since=2023-11-14T22:13:40", [2]),
        ("category=recipient.unknown", [2, 1]),
        ("category=recipient", [2, 1]),
        ("category=auth", []),
        ("provider=google&limit=1", [2]),
        ("provider=yahoo", []),
        ("id=000000000003", [3]),  # an id needs no since
        ("id=000000000003&category=auth", []),
        ("id=000000000003&queue_id=4Abc", []),
        ("queue_id=4Def", [2]),
        ("queue_id=4Def&provider=yahoo", []),
        ("queue_id=nobody", []),
        (f"rcpt_id={KEY}", [2, 1]),
        ("rcpt_id=0000000000000000", []),
        ("since=", [2, 1]),
        ("since=99999999d", [2, 1, 3]),
        ("since=0001-01-01", [2, 1, 3]),
        ("since=9999-12-31", []),
    ],
)
async def test_refusals_of_a_kind(store: Store, query: str, ids: list[int]) -> None:
    filled(store)
    async with api(store) as ask:
        status, found = await ask.json(f"/api/v1/rejections?{query}")
    assert status == 200
    assert [int(row["id"]) for row in found["rejections"]] == ids


@pytest.mark.parametrize(
    ("path", "parameter", "remedy"),
    [
        ("rejections?since=yesterday", "since", "give a duration such as 24h"),
        ("rejections?since=99999999999d", "since", "give a duration"),
        ("rejections?category=auth.dmark", "category", "did you mean auth.dmarc?"),
        ("rejections?provider=gogle", "provider", "did you mean google?"),
        ("rejections?limit=0", "limit", "a whole number from 1 to 1000"),
        ("rejections?limit=1e3", "limit", "a whole number from 1 to 1000"),
        ("rejections?id=x", "id", "twelve letters and digits"),
        ("rejections?queue_id=%00", "queue_id", "printable"),
        ("rejections?queue_id=" + "x" * 400, "queue_id", "longer than 320"),
        ("rejections?rcpt_id=me", "rcpt_id", "16 hex digits"),
        ("rejections?limit=1&limit=2", "limit", "give it once"),
        ("rejections?categroy=auth", "categroy", "it takes since, category"),
        ("rejections/000000000001?x=1", "x", "it takes none"),
        ("summary?by=host", "by", "one of category, provider"),
        ("suppressions?address=jane", "address", "give name@domain"),
        ("suppressions?key=k", "key", "16 hex digits"),
    ],
)
async def test_a_bad_value_names_the_parameter_and_the_remedy(
    store: Store, path: str, parameter: str, remedy: str
) -> None:
    async with api(store) as ask:
        status, found = await ask.json(f"/api/v1/{path}")
    assert (status, error(found)["code"], error(found)["parameter"]) == (400, "bad_request", parameter)
    assert remedy in error(found)["message"]
    assert parameter in error(found)["message"]


@given(
    values=st.lists(
        st.tuples(
            st.sampled_from(
                ["since", "limit", "id", "queue_id", "category", "provider", "rcpt_id", "key", "address", "by"]
            ),
            st.text(max_size=40) | st.from_regex(r"-?\d{1,25}[smhd]?", fullmatch=True),
        ),
        max_size=3,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_gets_an_answer(values: list[tuple[str, str]]) -> None:
    text = urlencode(values)

    async def ask() -> set[int]:
        with started("") as store:
            async with api(store) as client:
                paths = ("rejections", "summary", "suppressions", "rejections/000000000001")
                return {(await client.json(f"/api/v1/{path}?{text}"))[0] for path in paths}

    assert asyncio.run(ask()) <= {200, 400, 404}


async def test_one_event_with_all_that_is_known(store: Store) -> None:
    filled(store)
    async with api(store) as ask:
        status, found = await ask.json("/api/v1/rejections/000000000001")
        assert status == 200
        assert (found["id"], found["outcome"], found["queue_id"]) == ("000000000001", "refused", "4Abc")
        assert found["ms"] == {"total": 250.0, "receive": 2.0, "next_hop": 100.0}
        (refused,) = found["refusals"]
        assert (refused["reply"]["code"], refused["lately"]) == (550, 2)
        assert found["findings"] == [
            {
                "rule": "SPF003",
                "severity": "error",
                "action": "observe",
                "answer": 550,
                "message": "hard fail",
                "outcome": "rejected",
            },
            {
                "rule": "DMA001",
                "severity": "warning",
                "action": "reject",
                "message": "no record",
                "outcome": "rejected",
            },
        ]
        for id, remedy in (("000000000009", "no such event"), ("4Abc", "queue_id"), ("00000000000u", "twelve")):
            status, found = await ask.json(f"/api/v1/rejections/{id}")
            assert (status, error(found)["code"]) == (404, "not_found")
            assert remedy in error(found)["message"]


async def test_a_period_summed_up(store: Store) -> None:
    filled(store)
    async with api(store) as ask:
        _, found = await ask.json("/api/v1/summary")
        assert (found["by"], found["accepted"], found["rejected"], found["deferred"]) == ("category", 1, 1, 1)
        assert found["lines"] == [{"name": "recipient.unknown", "rejected": 1, "deferred": 1}]
        _, found = await ask.json("/api/v1/summary?by=sender&since=99999999d")
        assert found["lines"][0]["accepted"] == 1
        _, found = await ask.json("/api/v1/summary?by=rule")
        assert [(line["rule"], line["precision"]) for line in found["lines"]] == [("DMA001", 1.0), ("SPF003", 1.0)]


# --- suppressions ------------------------------------------------------------------------------------------------


async def test_suppressed_looked_up_and_released(store: Store) -> None:
    store.state.strikes.add(Strike(KEY, "m1", AT))
    async with api(store) as ask:
        given = {"address": f"<{JANE}>", "for": "1d", "reason": f"{JANE} left\r\n250 ok"}
        status, row = await ask.json("/api/v1/suppressions", "PUT", given)
        assert status == 201
        assert row == {
            "key": KEY,
            "since": "2023-11-14T22:14:20.000Z",
            "until": "2023-11-15T22:14:20.000Z",
            "address": "j***@example.org",
            "code": 550,
            "enhanced": "5.1.1",
            "text": "j***@example.org left  250 ok",
            "category": "recipient.disabled",
            "source": "manual",
        }
        assert store.state.suppressions.get(KEY) is not None
        with store.reading() as database:
            assert database.query("SELECT key FROM suppressions") == [(KEY,)]
        status, _ = await ask.json("/api/v1/suppressions", "PUT", {"address": JANE})
        assert status == 200
        for query in ("", f"?address={JANE}", f"?key={KEY}"):
            _, found = await ask.json(f"/api/v1/suppressions{query}")
            assert (found["total"], found["suppressions"][0]["key"]) == (1, KEY)
        status, gone = await ask.json(f"/api/v1/suppressions?address={JANE}", "DELETE")
        assert (status, gone["key"]) == (200, KEY)
        assert store.state.suppressions.get(KEY) is None
        assert store.state.strikes.of(KEY) == ()
        with store.reading() as database:
            assert database.query("SELECT key FROM suppressions UNION SELECT key FROM strikes") == []
        status, found = await ask.json(f"/api/v1/suppressions?key={KEY}", "DELETE")
        assert (status, error(found)["message"]) == (404, "it is not on the list")


async def test_the_list_is_in_force_newest_first_and_bounded(store: Store) -> None:
    shelf = store.state.suppressions
    for key, since, until in (("a", AT, AT + 1), ("b", AT, AT + 100), ("c", AT + 5, AT + 100)):
        shelf.put(suppression(key, until, since=since))
    async with api(store) as ask:
        _, found = await ask.json("/api/v1/suppressions?limit=1")
    assert ([row["key"] for row in found["suppressions"]], found["total"]) == (["c"], 2)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"address": "jane"}, "give name@domain"),
        ({"address": "a@b>c@d"}, ""),
        ({"address": "postmaster@example.org"}, "suppression.never"),
        ({"address": JANE, "for": "a week"}, "is not a duration"),
        ({"address": JANE, "for": "999999d"}, "at most 36500d"),
        ({"address": JANE, "ttl": "7d"}, "it takes address, for, reason"),
        ({"address": 7}, "not a string"),
        ({}, "give name@domain"),
        ([JANE], "no JSON object"),
        ("", "no JSON object"),
    ],
)
async def test_what_cannot_be_suppressed(store: Store, given: object, remedy: str) -> None:
    options = Settings(suppression=SuppressionSettings())
    async with api(store, settings=lambda: options) as ask:
        status, found = await ask.json("/api/v1/suppressions", "PUT", given)
        assert (status, error(found)["code"]) == (400, "bad_request")
        assert remedy in error(found)["message"]
        for query in ("", f"?address={JANE}&key={KEY}"):
            status, _ = await ask.json(f"/api/v1/suppressions{query}", "DELETE")
            assert status == 400
    assert not len(store.state.suppressions)


# --- who may ask -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""]
)
async def test_what_a_form_can_send_writes_nothing(store: Store, kind: str) -> None:
    async with api(store) as ask:
        body = orjson.dumps({"address": JANE})
        for method in ("PUT", "POST"):
            status, _, answer = await ask("/api/v1/suppressions", method, body, **{"Content-Type": kind})
            assert (status, error(answer)["code"]) in (
                (415, "unsupported_media_type"),
                (405, "method_not_allowed"),
            )
            assert (status == 415) is (method == "PUT")
    assert not len(store.state.suppressions)


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "http://localhost:9125", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "http://127.0.0.1:9125"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
    ],
)
async def test_a_page_of_another_site_is_turned_away(store: Store, headers: dict[str, str], ours: bool) -> None:
    async with api(store) as ask:
        for method, given in (("PUT", {"address": JANE}), ("GET", None)):
            status, found = await ask.json("/api/v1/suppressions", method, given, **headers)
            assert (status < 300) is ours
            assert ours or error(found)["code"] == "forbidden"
        _, got, _ = await ask("/api/v1/suppressions", "OPTIONS", **headers)
        assert not [name for name in got if name.lower().startswith("access-control")]
    assert bool(len(store.state.suppressions)) is ours


async def test_everything_needs_the_token_and_our_host(store: Store, classifier: Any) -> None:
    async with api(store, token="s3cret", classifier=lambda: classifier) as ask:
        for path, method in (
            ("rejections", "GET"),
            ("rejections/000000000001", "GET"),
            ("suppressions", "PUT"),
            ("suppressions", "DELETE"),
            ("explain", "POST"),
            ("openapi.json", "GET"),
        ):
            assert (await ask.json(f"/api/v1/{path}", method))[0] == 401
            bearer = {"Authorization": "Bearer s3cret"}
            assert (await ask.json(f"/api/v1/{path}", method, Host="evil.example", **bearer))[0] == 421
            assert (await ask.json(f"/api/v1/{path}", method, **bearer))[0] not in (401, 421)


async def test_errors_are_json_whatever_is_wrong(store: Store) -> None:
    async with api(store) as ask:
        for path, method, body, status in (
            ("nothing", "GET", None, 404),
            ("", "GET", None, 404),
            ("rejections", "DELETE", None, 405),
            ("suppressions", "PUT", b"x" * 100_000, 413),
            ("explain", "POST", b"550", 404),  # no classifier was given
            ("events", "GET", None, 404),
        ):
            got, headers, answer = await ask(f"/api/v1/{path}", method, body, **{"Content-Type": "application/json"})
            assert (got, headers["Content-Type"]) == (status, "application/json")
            assert error(answer)["message"]


async def test_without_a_store_there_is_no_history() -> None:
    async with served() as ask:
        for path in ("rejections", "summary", "suppressions", "openapi.json", "explain"):
            assert (await ask.json(f"/api/v1/{path}"))[0] == 404


# --- when the store is away --------------------------------------------------------------------------------------


class Gone:
    """An engine whose database cannot be had; `gate` holds who asks until it is set."""

    name = "gone"
    where = "nowhere"

    def __init__(self, gate: threading.Event | None = None) -> None:
        self._gate = gate
        self.asked = 0

    def connect(self, *, create: bool = True) -> Database:
        raise Away("the inside of an error")

    def reading(self) -> AbstractContextManager[Database]:
        self.asked += 1
        if self._gate is not None:
            self._gate.wait(PATIENCE_S)
        raise Away("the inside of an error")

    def close(self) -> None:
        pass


def unstarted(engine: Engine) -> Store:
    return Store(engine, seed=SEED, mode="mask", retention_s=1.0)


async def test_a_store_that_is_away_is_503_with_retry_after() -> None:
    away = threading.Event()
    store = Store(Gone(), seed=SEED, mode="mask", retention_s=1.0, on_away=lambda _: away.set())
    store.start()
    assert await asyncio.to_thread(away.wait, PATIENCE_S)
    async with api(store) as ask:
        for path, method, given in (
            ("rejections", "GET", None),
            ("rejections/000000000001", "GET", None),
            ("summary", "GET", None),
            (f"suppressions?key={KEY}", "DELETE", None),
            ("suppressions", "PUT", {"address": JANE}),
        ):
            body = orjson.dumps(given) if given else None
            kind = {"Content-Type": "application/json"} if given else {}
            status, headers, answer = await ask(f"/api/v1/{path}", method, body, **kind)
            assert (status, headers["Retry-After"]) == (503, "5")
            assert error(answer)["code"] == "service_unavailable"
            assert b"inside" not in answer
        assert (await ask.json("/api/v1/suppressions"))[0] == 200  # from memory
        assert (await ask("/livez"))[0] == 200
    assert not len(store.state.suppressions)
    store.close()


async def test_a_change_that_is_not_written_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpguard.web.api.WRITE_S", 0.01)
    store = unstarted(engine_of(""))
    async with api(store) as ask:
        status, found = await ask.json("/api/v1/suppressions", "PUT", {"address": JANE})
        assert status == 503
        assert "send it again" in error(found)["message"]
        assert (await ask.json(f"/api/v1/suppressions?address={JANE}", "DELETE"))[0] == 503
    store.close()


async def test_too_many_questions_are_told_to_come_again_and_the_loop_goes_on() -> None:
    gate = threading.Event()
    engine = Gone(gate)
    store = unstarted(engine)
    async with api(store) as ask:
        asking = [asyncio.ensure_future(ask("/api/v1/summary")) for _ in range(MAX_QUESTIONS + 1)]
        try:
            done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
            assert [task.result()[0] for task in done] == [503]
            assert "too much" in error(done.pop().result()[2])["message"]
            assert (await ask("/livez"))[0] == 200
            assert engine.asked <= 2
        finally:
            gate.set()
            await asyncio.gather(*asking)
        assert (await ask("/api/v1/summary"))[0] == 503
        assert engine.asked == MAX_QUESTIONS + 1  # none is held for ever


async def test_a_newer_schema_is_not_read(tmp_path: Path, store: Store) -> None:
    database = engine_of(f"sqlite:///{tmp_path}/h.db").connect()
    database.run("INSERT INTO migrations (number, name, at) VALUES (99, 'later', 0)")
    database.close()
    async with api(store) as ask:
        assert (await ask.json("/api/v1/rejections"))[0] == 503


# --- a reply -----------------------------------------------------------------------------------------------------


async def test_a_reply_is_explained_as_text_and_as_json(store: Store, classifier: Any) -> None:
    listed = "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org"
    async with api(store, classifier=lambda: classifier) as ask:
        status, _, answer = await ask(
            "/api/v1/explain", "POST", listed.encode(), **{"Content-Type": "text/plain; charset=utf-8"}
        )
        assert (status, orjson.loads(answer)["category"]) == (200, "reputation.ip_listed")
        given = {"reply": listed, "next_hop": "mx.example.net", "verb": "MAIL"}
        status, found = await ask.json("/api/v1/explain", "POST", given)
        assert (status, found["category"], found["reply"]["verb"]) == (200, "reputation.ip_listed", "MAIL")
        status, found = await ask.json("/api/v1/explain", "POST", {"reply": "250 2.0.0 ok"})
        assert (status, found["accepted"]) == (200, True)
        for bad, remedy in (({}, "no reply"), ({"reply": 1}, "not a string"), ([], "send {"), ({"reply": " "}, "no")):
            status, found = await ask.json("/api/v1/explain", "POST", bad)
            assert status == 400
            assert remedy in error(found)["message"]
        status, _, _ = await ask("/api/v1/explain", "POST", b"", **{"Content-Type": "text/plain"})
        assert status == 400
        status, _, _ = await ask("/api/v1/explain", "POST", b"a=b", **{"Content-Type": "image/png"})
        assert status == 415


@given(body=st.binary(max_size=200), as_json=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_body_gets_an_answer(classifier: Any, body: bytes, as_json: bool) -> None:
    kind = "application/json" if as_json else "text/plain"

    async def ask() -> int:
        async with served(classifier=lambda: classifier) as client:
            halved = body + b' {"reply": "550 \\ud800", "next_hop": "\\udfff"}' if not body.strip() else body
            status, _, answer = await client("/api/v1/explain", "POST", halved, **{"Content-Type": kind})
            assert orjson.loads(answer)
            return status

    assert asyncio.run(ask()) in (200, 400)


async def test_the_document_tells_of_every_path(store: Store, classifier: Any) -> None:
    async with api(store, classifier=lambda: classifier) as ask:
        _, found = await ask.json("/api/v1/openapi.json")
        assert {path: sorted(methods) for path, methods in found["paths"].items()} == {
            "/api/v1/rejections": ["get"],
            "/api/v1/rejections/{id}": ["get"],
            "/api/v1/summary": ["get"],
            "/api/v1/suppressions": ["delete", "get", "put"],
            "/api/v1/explain": ["post"],
        }
        for path, methods in found["paths"].items():
            for method in methods:  # what it tells of is there
                assert (await ask.json(path.replace("{id}", "000000000001"), method.upper()))[0] != 405
        names = [parameter["name"] for parameter in found["paths"]["/api/v1/rejections"]["get"]["parameters"]]
        assert names == ["since", "category", "provider", "id", "queue_id", "rcpt_id", "limit"]
