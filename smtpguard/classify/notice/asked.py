"""A question about a reply and its answer, as programs write and read them: `explain --jsonl`, `/api/v1/explain`.

question = asked('{"reply": "550 5.7.26 ...", "next_hop": "mx.example.net", "verb": "DOT"}')
described(question, classifier.match(question.reply, question.host, verb_known=question.verb is not None))
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from smtpguard.classify import Classification
from smtpguard.classify.notice.said import Said, said, verb_of
from smtpguard.mail.reply import Verb, clean

EVENT_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{12}")
"""How the id at the end of a reply of ours reads (edge.host.Ids); some queue ids read so too."""


def asked(text: str, host: str = "", verb: Verb | None = None) -> Said:
    """The reply that `text` asks about: as a server sent it, in the words of a log, or {"reply", "next_hop", "verb"}.

    `host` and `verb` are taken where it does not say its own. ValueError says what is wrong with it.
    """
    if not text.startswith("{"):
        return said(text, host=host, verb=verb)
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    for key in ("reply", "next_hop", "verb"):
        if not isinstance(given.get(key) or "", str):
            raise ValueError(f"{key} is not a string")
    if not (given.get("reply") or "").strip():
        raise ValueError("no reply in it")
    reply = given["reply"].encode("utf-8", "replace").decode()  # JSON may spell half a character
    # a verb that is none of SMTP's (QUIT in a log) is as good as none
    return said(reply, host=clean(given.get("next_hop") or host), verb=verb_of(given.get("verb") or "") or verb)


def described(question: Said, answer: Classification) -> dict[str, Any]:
    """All that is known, as one JSON object; what is unknown is left out."""
    reply = question.reply
    whole: dict[str, Any] = {
        "category": answer.category,
        "group": answer.group,
        "confidence": answer.confidence,
        "cause": answer.cause,
        "fix": answer.fix,
        "responsible": answer.responsible,
        "permanence": answer.permanence,
        "class": reply.klass,
        "retry": answer.permanence == "transient",
        "retry_after": answer.retry_after,
        "scope": answer.scope,
        "provider": answer.provider,
        "blocklist": answer.blocklist,
        "delisting": answer.delisting,
        "ip": answer.ip,
        "domain": answer.domain,
        "limit": answer.limit,
        "auth_results": answer.auth_results,
        "provider_code": answer.provider_code,
        "url": answer.url,
        "alternatives": list(answer.alternatives),
        "rule": answer.rule,
        "matched": answer.matched,
        "reference": answer.reference,
        "reply": _reply(question),
        "id": question.id,
        "note": note(question),
    }
    return {key: value for key, value in whole.items() if value not in (None, "", [])}


def accepted(question: Said) -> dict[str, Any]:
    """An acceptance (2xx, 3xx), which needs no explanation, as one JSON object."""
    return {"accepted": True, "class": question.reply.klass, "reply": _reply(question)}


def note(question: Said) -> str:
    """What a reader should know of how the text was read; "" where it was read as it stands."""
    if question.has_code:
        return ""
    read_as = "4xx, by its enhanced code" if question.reply.klass == 4 else "5xx"
    return f"the text has no reply code; it was read as a {read_as}"


def _reply(question: Said) -> dict[str, Any]:
    reply = question.reply
    return {
        "code": reply.code if question.has_code else None,
        "enhanced": str(reply.enhanced) if reply.enhanced else None,
        "text": reply.text,
        "verb": question.verb,
    }
