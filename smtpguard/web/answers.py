"""What a request gets: JSON, and of every error `{"error": {"code", "message", ...}}` with what to do about it.

`Refused` ends a request from wherever it is found that it cannot be served. A message never holds an exception's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web

RETRY_AFTER_S: Final = 5


class Refused(Exception):
    """A request that cannot be served: status, what to do for a person, further members of the error."""

    def __init__(
        self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None, **more: object
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers
        self.more = more

    @property
    def answer(self) -> web.Response:
        return error(self.status, self.message, self.headers, **self.more)


def bad(message: str, parameter: str = "") -> Refused:
    """400: the request is not well formed; the parameter that is wrong, if it is one."""
    more = {"parameter": parameter} if parameter else {}
    return Refused(HTTPStatus.BAD_REQUEST, message, None, **more)


def away(message: str) -> Refused:
    """503: again in RETRY_AFTER_S seconds."""
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, message, {"Retry-After": str(RETRY_AFTER_S)})


def json(content: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """An answer with a JSON object."""
    body = orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, content_type="application/json")


def error(status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None, **more: object) -> web.Response:
    """An error as JSON; its code is the status's name in lower case."""
    answer = json({"error": {"code": status.name.lower(), "message": message, **more}}, status)
    answer.headers.update(headers or {})
    return answer
