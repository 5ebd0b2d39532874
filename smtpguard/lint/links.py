"""The links of a message, judged each by itself, and the domains that they lead to, for the blocklists.

What a browser makes of a URL and which hosts deceive is `mail/links.py`; here is what of it is worth a word to the
sender, and how much. Pure: nothing is looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from smtpguard.lint import leftovers
from smtpguard.lint.finding import Severity
from smtpguard.mail.domain import to_ascii
from smtpguard.mail.links import Url, ip_literal, is_link_filter, is_shortener, mixed_scripts, shown_host
from smtpguard.mail.message import Message
from smtpguard.mail.reply import clean
from smtpguard.mailauth.domains import organizational

Judged = tuple[str, Severity | None]
"""What is wrong, and how severe it is where that is not the rule's own severity."""
_WEB: Final = ("https", "http")


def is_harmless(url: Url) -> bool:
    """Whether `judged_url` has nothing to say, told quickly."""
    return url.scheme in _WEB and not url.userinfo and _judged_host(url.host) is None


def judged_url(url: Url) -> Iterator[Judged]:
    """What is wrong with a link by itself."""
    if url.scheme in ("javascript", "vbscript", "data"):
        yield f"a link runs {url.scheme}: and leads nowhere", None
    if not url.host:
        return
    if "." in url.userinfo or "%" in url.userinfo:
        name = clean(url.userinfo, utf8=True)[:60]
        yield f"a link shows {name!r} before an @ and leads to {clean(url.host, utf8=True)}", None
    if (found := _judged_host(url.host)) is not None:
        yield found


@lru_cache(maxsize=4096)
def _judged_host(host: str) -> Judged | None:
    shown = clean(host, utf8=True)
    if (address := ip_literal(host)) is not None:
        if address.is_global:
            return f"a link leads to the address {address}, not to a name", None
        if leftovers.is_private(host):
            return f"a link leads to {address}, which only your network reaches", Severity.INFO
    elif label := mixed_scripts(host):
        return f"the name {shown} has look-alike letters of several scripts in {label!r}", None
    elif is_shortener(host):
        return f"a link hides where it leads behind {shown}", None
    return None


def judged_text(message: Message, url: Url, text: str) -> Judged | None:
    """Whether the text of a link is a host, and another one than it leads to.

    The sender's own trackers are mild: the text names the sender's domain. So is a bare name, which may be a brand's.
    What a mail filter has rewritten is in order.
    """
    shown = shown_host(text) if "." in text else None
    if shown is None:
        return None
    host = url.host
    if not host or is_link_filter(host) or _organization(host) == _organization(shown.host):
        return None
    own = {_organization(box.domain) for box in message.mailboxes(b"from") if box.domain}
    words = f"a link shows {clean(shown.host, utf8=True)} and leads to {clean(host, utf8=True)}"
    is_mild = not shown.is_url or _organization(shown.host) in own
    return words, Severity.INFO if is_mild else None


@lru_cache(maxsize=4096)
def _organization(host: str) -> str:
    return organizational(to_ascii(host) or host)


# --- for the blocklists ----------------------------------------------------------------------------------------------

MAX_DOMAINS: Final = 20
"""Hosts of one message that are asked for."""
# Where so much of all mail leads that no list has them.
_EVERYBODYS: Final = """
adobe.com amazon.com android.com apple.com bing.com cloudflare.com facebook.com fb.com github.com gmail.com google.com
googleapis.com gstatic.com icloud.com instagram.com linkedin.com live.com microsoft.com microsoftonline.com mozilla.org
office.com outlook.com paypal.com pinterest.com schema.org spotify.com tiktok.com twitter.com vimeo.com w3.org
whatsapp.com wikipedia.org windows.com x.com yahoo.com youtu.be youtube.com zoom.us
"""
_SKIPPED: Final = frozenset(_EVERYBODYS.split())


def link_domains(message: Message) -> tuple[str, ...]:
    """The hosts that links of a message lead to (A-labels), each once, in order; without addresses and everybody's."""
    if message.words is not None:
        return ()
    texts, pages = message.bodies
    hosts = dict.fromkeys([link.to.host for text in texts for link in text.links])
    hosts |= dict.fromkeys([link.to.host for page in pages for link in page.links])
    found: dict[str, None] = {}
    for each in hosts:
        host = _public_host(each)
        if host:
            found[host] = None
            if len(found) == MAX_DOMAINS:
                break
    return tuple(found)


@lru_cache(maxsize=4096)
def _public_host(host: str) -> str:
    """A host by the name that lists have it under; "" for one that is not worth asking for."""
    if "." not in host or ip_literal(host) is not None:
        return ""
    name = to_ascii(host)
    return "" if organizational(name) in _SKIPPED else name
