"""The HTTP server: who is let in, in which order a request is looked at, and what every answer wears (contract 6).

A request is looked at in this order: the Host header (a page of a stranger's that had its name pointed at us, DNS
rebinding, is turned away), the token, whether a page of another site sends it, the path, the method. No answer allows
another origin anything (CORS). An error is JSON, `{"error": {"code", "message"}}`, and never holds an exception's text;
only what is no HTTP at all gets aiohttp's own 400. Metrics are rendered in a thread, one at a time: the mail path
shares our event loop. Signals stay the service's; requests are not logged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from hmac import compare_digest
from http import HTTPStatus
from ipaddress import ip_address
from socket import socket
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from smtpguard.classify import Classifier
from smtpguard.config import Settings
from smtpguard.history import Store
from smtpguard.web.answers import Refused, error, json
from smtpguard.web.api import Api
from smtpguard.web.events import Events
from smtpguard.web.routes import Handler

MAX_BODY: Final = 64 << 10  # octets
KEEPALIVE_S: Final = 30.0
STOP_S: Final = 1.0  # for requests under way when we stop

HEADERS: Final[Mapping[str, str]] = {
    "Server": "smtpguard",  # no versions of what is inside
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Http:
    """The HTTP server of a process: `start`, then `stop`.

    `exposition` gives the metrics for an Accept header: octets and their Content-Type; it runs in a thread, after
    `settle` has seen to it that all is counted. `ready` names what must be true to take mail, as in
    `{"listening": True, "config": True}`. With a `token` every request must bear it; without one only a loopback
    address is listened on. `names` are further host names that a Host header may hold. `store`, `classifier` (gives the
    one in force) and `events` bring the paths of `/api/v1` that need them; None: they are not served. `settings` gives
    those in force, `clock` seconds since the epoch.
    """

    def __init__(
        self,
        *,
        exposition: Callable[[str], tuple[bytes, str]],
        ready: Callable[[], Mapping[str, bool]],
        settle: Callable[[], None] = lambda: None,
        token: str = "",
        names: Iterable[str] = (),
        store: Store | None = None,
        classifier: Callable[[], Classifier] | None = None,
        events: Events | None = None,
        settings: Callable[[], Settings] = Settings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._exposition = exposition
        self._ready = ready
        self._settle = settle
        self._token = token.encode()
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}
        self._events = events
        self._api = Api(store=store, classifier=classifier, settings=settings, clock=clock)
        self._any_address = False
        self._rendering = asyncio.Lock()
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0, *, sock: socket | None = None) -> tuple[str, int]:
        """Listen on host and port (0: any free one), or on a bound socket; the address it became.

        OSError where it cannot be had, ValueError for an address that others can reach while there is no token.
        """
        if sock is not None:
            host = str(sock.getsockname()[0])
        if not self._token and not is_loopback(host):
            raise ValueError(f"HTTP on {host}, which others can reach, needs a token")
        self._names.add(host.lower())
        self._any_address = _is_unspecified(host)
        runner = web.AppRunner(
            self._app(),
            handle_signals=False,
            access_log=None,
            logger=_logger(),
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=STOP_S,
        )
        await runner.setup()
        try:
            site = web.SockSite(runner, sock) if sock is not None else web.TCPSite(runner, host, port)
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        bound = runner.addresses[0]
        return str(bound[0]), int(bound[1])

    async def stop(self) -> None:
        """Stop listening and close what is open; nothing when not started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            if self._events is not None:
                self._events.close()
            await runner.cleanup()
            self._api.close()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._guarded], client_max_size=MAX_BODY)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        routes = (*self._api.routes(), *(self._events.routes() if self._events is not None else ()))
        for route in (*routes, self._api.document(routes)) if routes else ():
            app.router.add_route(route.method, route.path, route.handler)
        app.on_response_prepare.append(_dressed)
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._is_ours(request.headers.get("Host", "")):
            return error(HTTPStatus.MISDIRECTED_REQUEST, "this Host is not served here")
        if self._token and not self._bears_token(request.headers.get("Authorization", "")):
            return error(
                HTTPStatus.UNAUTHORIZED, "a token is needed: Authorization: Bearer", {"WWW-Authenticate": "Bearer"}
            )
        if not self._is_from_here(request.headers):
            return error(HTTPStatus.FORBIDDEN, "a page of another site may not ask here")
        try:
            return await handler(request)
        except Refused as problem:
            return problem.answer
        except web.HTTPException as problem:  # aiohttp's own: no such path, no such method, body too large
            allow = {"Allow": problem.headers["Allow"]} if "Allow" in problem.headers else {}
            return error(HTTPStatus(problem.status), HTTPStatus(problem.status).description, allow)
        except ConnectionError:  # it left while it was still asking
            return error(HTTPStatus.BAD_REQUEST, "only a part of the request came")
        except Exception:
            logging.getLogger(__name__).exception("%s %s failed", request.method, request.rel_url.path)
            return error(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of smtpguard's; its log says more")

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names us: a loopback address, the address listened on, or one of our names."""
        name = _without_port(host)
        if name in self._names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        # An address cannot be rebound: where we listen on all of ours, any may be the one that was asked
        return address.is_loopback or self._any_address

    def _is_from_here(self, headers: Mapping[str, str]) -> bool:
        """Whether a request is a program's or a page's of ours: browsers say for whom they ask.

        Origin (RFC 6454 7): on whatever may change something. Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/):
        on everything; `none` is an address that a person typed.
        """
        origin = headers.get("Origin")
        if origin is not None and not self._is_ours(origin.partition("://")[2]):
            return False
        return headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")

    def _bears_token(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        # Octets, for compare_digest takes no other text than ASCII; constant in time but for the length
        return scheme.lower() == "bearer" and compare_digest(given.strip().encode("utf-8", "replace"), self._token)

    async def _metrics(self, request: web.Request) -> web.Response:
        async with self._rendering:
            self._settle()
            body, content_type = await asyncio.to_thread(self._exposition, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _livez(self, _: web.Request) -> web.Response:
        return json({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        checks = dict(self._ready())
        if all(checks.values()):
            return json({"status": "ok", "checks": checks})
        failed = ", ".join(name for name, good in checks.items() if not good)
        return error(HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {failed}", checks=checks)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`, an address or `localhost`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_unspecified(host: str) -> bool:
    try:
        return not host or ip_address(host).is_unspecified
    except ValueError:
        return False


def _without_port(host: str) -> str:
    """The host of a Host header, lower case: `127.0.0.1:9125`, `[::1]:9125` (RFC 9110 7.2); "" where it is none."""
    host = host.strip().lower()
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        rest = port.removeprefix(":")
        return name if bracket and (not port or (port.startswith(":") and (not rest or rest.isdecimal()))) else ""
    name, colon, port = host.partition(":")
    return name.rstrip(".") if not colon or not port or port.isdecimal() else ""


async def _dressed(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _logger() -> logging.Logger:
    """aiohttp's own complaints, but for requests that are no HTTP: whoever can connect could fill the log with them."""
    logger = logging.getLogger("smtpguard.web.server")
    if _is_news not in logger.filters:
        logger.addFilter(_is_news)
    return logger


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
