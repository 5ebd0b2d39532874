"""`smtpguard rules unmatched`: the replies that no rule explains, grouped and counted, the most frequent first.

Out of files (whatever `explain` takes), or out of the history where none is named. The rules are those of now: what an
operator's new rule explains is gone from the list. What was only read by all its words together (`likely`) has no rule
either, and is on it. Exit codes: 0; 2 and 75 for what cannot be read now.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from smtpguard.classify import Classification, Classifier, RuleError, load
from smtpguard.classify.notice import REFUSED
from smtpguard.classify.rules import LIKELY
from smtpguard.cli.options import EXIT_FINE, EXIT_USAGE
from smtpguard.cli.source import Source, Unreadable
from smtpguard.cli.store import asked, failed
from smtpguard.cli.tally import Tally, shape
from smtpguard.history import StoreError, report
from smtpguard.mail.reply import Reply, Verb, clean

MAX_SHAPES: Final = 10_000
MAX_SHOWN: Final = 200
"""Characters of an unmatched reply."""


@dataclass(slots=True)
class _Group:
    """Replies of one shape."""

    reply: str
    host: str
    count: int = 0


class _Groups:
    """What was found so far; `refused` counts all that was looked at."""

    def __init__(self) -> None:
        self.refused = 0
        self._by_shape: dict[tuple[int, str], _Group] = {}

    def add(self, reply: Reply, text: str, host: str) -> None:
        """A reply that no rule explains; `text` is how it is shown."""
        key = (reply.code, shape(reply.text))
        if key not in self._by_shape and len(self._by_shape) < MAX_SHAPES:
            self._by_shape[key] = _Group(text, host)
        if key in self._by_shape:
            self._by_shape[key].count += 1

    def in_order(self) -> list[_Group]:
        """The most frequent first."""
        return sorted(self._by_shape.values(), key=lambda group: (-group.count, group.reply))


def unmatched(own: Sequence[Path], names: Sequence[str], *, as_json: bool, store_url: str = "") -> int:
    """The replies in files (or in "-"), without any those of the history, that no rule explains."""
    try:
        classifier = load(own)
        groups = _in_files(Tally(classifier), names) if names else _in_history(classifier, store_url)
    except StoreError as error:
        return failed("rules", error)
    except (RuleError, Unreadable) as error:
        print(f"smtpguard rules: {clean(str(error), utf8=True)}", file=sys.stderr)
        return EXIT_USAGE
    found = groups.in_order()
    count = sum(group.count for group in found)
    if as_json:
        listed = [{"count": group.count, "reply": group.reply, "host": group.host} for group in found]
        print(json.dumps({"refused": groups.refused, "unmatched": count, "replies": listed}, ensure_ascii=False))
        return EXIT_FINE
    for group in found:
        text = clean(" ".join(group.reply.split()), utf8=True)
        where = f"  [{clean(group.host)}]" if group.host else ""
        print(f"{group.count:>7,}  {text[:MAX_SHOWN]}{' ...' if len(text) > MAX_SHOWN else ''}{where}")
    if names:
        said = f"{count:,} of {groups.refused:,} refusals are explained by no rule"
    elif groups.refused:
        said = f"{count:,} of {groups.refused:,} refusals that came without a rule have none now either"
    else:
        said = "every refusal in the history has a rule"
    print(said, file=sys.stderr)
    return EXIT_FINE


def _in_files(tally: Tally, names: Sequence[str]) -> _Groups:
    groups = _Groups()
    today = datetime.now().astimezone()
    for name in names:
        with Source(name, sys.stdin.buffer if name == "-" else None) as source:
            for notice in source.notices(today):
                reply = notice.reply
                if reply is None or notice.action not in REFUSED:
                    continue
                groups.refused += 1
                if _is_unexplained(tally.meaning(notice, reply)):
                    groups.add(reply, str(reply) if notice.has_code else reply.text, notice.host)
    return groups


def _in_history(classifier: Classifier, url: str) -> _Groups:
    """What no rule explained when it came, and none does now: of the newest `report.MAX_REJECTIONS`."""
    groups = _Groups()
    with asked(url) as database:
        kept = report.rejections(database, unexplained=True, limit=report.MAX_REJECTIONS)
    for rejection in kept:
        refusal = rejection.refusal
        if not refusal.code:  # the next hop said nothing
            continue
        groups.refused += 1
        text = f"{refusal.code} {refusal.enhanced} {refusal.text}".replace("  ", " ")
        reply = Reply.of(text, Verb(refusal.verb))
        if _is_unexplained(classifier.match(reply, refusal.host)):
            groups.add(reply, text, refusal.host)
    return groups


def _is_unexplained(meaning: Classification) -> bool:
    return meaning.category == "unknown" or meaning.rule == LIKELY
