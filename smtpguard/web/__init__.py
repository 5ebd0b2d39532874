"""HTTP for machines (contract 6): metrics, health, and the API of the history.

http.py      the server: Host, token, origin; /metrics, /livez, /readyz     api.py      /api/v1: refusals, suppressions
events.py    /api/v1/events: the log as it is written                       query.py    parameters and bodies
routes.py    a path of the API; the OpenAPI document                        answers.py  JSON, and errors as JSON
"""

from __future__ import annotations

from smtpguard.web.events import Events
from smtpguard.web.http import HEADERS, Http, is_loopback

__all__ = ["HEADERS", "Events", "Http", "is_loopback"]
