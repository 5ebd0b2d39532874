"""What Google, Yahoo, Microsoft and Apple publish of their replies is read as they mean it, and leads to their page.

published.txt has a line a reply, cut to what tells, and the category it stands for, under the provider's name. The
pages: support.google.com/a/answer/3726730 (2026-02-15) and 81126 (2026-03-21), senders.yahooinc.com/smtp-error-codes
(2026-02-15), the Outlook.com postmaster pages (2026-06) with its requirements of 2025-08, support.apple.com/102322
(2025-02). Yahoo publishes groups of codes and Apple no texts: those lines are what their servers say of these causes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from smtpguard.classify import load
from smtpguard.mail.reply import Reply

CLASSIFIER = load()

# the host that answers, and where its page is
_PROVIDERS = {
    "google": ("aspmx.l.google.com", "https://support.google.com/"),
    "yahoo": ("mta5.am0.yahoodns.net", "https://senders.yahooinc.com/"),
    "microsoft": ("mx.mail.protection.outlook.com", "https://sendersupport.olc.protection.outlook.com/"),
    "apple": ("mx01.mail.icloud.com", "https://support.apple.com/"),
}


def published() -> Iterator[tuple[str, str, str]]:
    """(provider, reply, category), line by line."""
    provider = ""
    for line in Path(__file__).with_name("published.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            provider = line.strip("[]")
        elif line:
            reply, _, category = line.rpartition(" | ")
            yield provider, reply, category


@pytest.mark.parametrize(("provider", "text", "category"), list(published()))
def test_a_published_reply_is_read_and_has_its_page(provider: str, text: str, category: str) -> None:
    host, page = _PROVIDERS[provider]
    found = CLASSIFIER.match(Reply.of(text), host, verb_known=False)
    assert (found.category, found.provider) == (category, provider)
    assert found.reference.startswith(page)
