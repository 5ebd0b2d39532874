"""A path of the API and what it does; and the table of them as an OpenAPI 3.1 document.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from aiohttp import web

from smtpguard import __version__
from smtpguard.web.query import Parameter

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

V1: Final = "/api/v1"


class Route(NamedTuple):
    """One method of one path. `takes` are the members of its JSON body by name, with what each is for."""

    method: str
    path: str
    words: str
    handler: Handler
    parameters: tuple[Parameter, ...] = ()
    takes: Mapping[str, str] = {}
    needs: tuple[str, ...] = ()
    """The members that must be there."""


_ERROR: Final = {
    "description": "anything that went wrong: 400, 401, 403, 404, 405, 413, 415, 421, 500, 503",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["code", "message"],
                        "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
                    }
                },
            }
        }
    },
}


def openapi(routes: Iterable[Route]) -> dict[str, Any]:
    """The document of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "smtpguard", "version": __version__, "description": "What was refused, and why."},
        "security": [{}, {"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


def _operation(route: Route) -> dict[str, Any]:
    within = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    operation: dict[str, Any] = {
        "summary": route.words,
        "parameters": within + [_parameter(parameter) for parameter in route.parameters],
        "responses": {"200": {"description": "as said"}, "default": _ERROR},
    }
    if route.takes:
        schema = {
            "type": "object",
            "properties": {name: {"type": "string", "description": words} for name, words in route.takes.items()},
            "required": list(route.needs),
        }
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = {"type": "string"} | ({"default": parameter.default} if parameter.default else {})
    return {"name": parameter.name, "in": "query", "description": parameter.words, "schema": schema}
