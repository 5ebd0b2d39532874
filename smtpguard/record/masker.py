"""What of an address may be seen: the one place that knows (`privacy.addresses`).

Nothing here raises on foreign text; all that comes out is printable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, Literal

from smtpguard.mail.reply import clean

AddressMode = Literal["full", "mask", "hash", "domain"]
TEXT_LIMIT: Final = 2048  # characters of foreign text in one field; Postfix cuts a reply there too


class Masker:
    """Shows an address as `privacy.addresses` allows, and gives the keyed hash by which it stays searchable.

    | mode | `j.doe@Example.org` is shown as |
    | --- | --- |
    | full | `j.doe@Example.org` |
    | mask | `j***@example.org` |
    | hash | `0f7a...` (16 hex digits, the same as `id`) |
    | domain | `***@example.org` |

    The null sender is `<>` in each. `key` is a secret of the installation, at least one octet (ValueError): without it
    a hash could be looked up in a list of addresses, with another one old lines are no longer found.
    """

    def __init__(self, mode: AddressMode, key: bytes) -> None:
        if not key:
            raise ValueError("a masker needs a key")
        self.mode: Final = mode
        # blake2b takes 64 octets of key
        self._keyed = blake2b(key=key if len(key) <= 64 else blake2b(key).digest(), digest_size=8)

    def id(self, path: bytes) -> str:
        """16 hex digits: the keyed hash of a path, its domain in lower case (the local part's case may matter)."""
        local, at, domain = path.rpartition(b"@")
        keyed = self._keyed.copy()
        keyed.update(local + at + domain.lower() if at else path)
        return keyed.hexdigest()

    def show(self, path: bytes) -> str:
        r"""A path as it may be seen; octets that are not UTF-8 become `\xNN`, control characters spaces."""
        if not path:
            return "<>"
        if self.mode == "hash":
            return self.id(path)
        text = path.decode("utf-8", "backslashreplace")
        if len(text) > TEXT_LIMIT or not (text.isascii() and text.isprintable()):
            text = plain(text)
        if self.mode == "full":
            return text
        local, at, domain = text.rpartition("@")
        head = (local if at else text)[:1] if self.mode == "mask" else ""
        return f"{head}***@{domain.lower()}" if at else f"{head}***"

    def text(self, text: str, paths: Sequence[bytes] = ()) -> str:
        """Foreign text made harmless and short, each address in it shown as `show` does.

        The given ones are found in whatever case and form, and of them a local part alone too, where it stands between
        brackets or quotes: many are common words. Others by their look: a forward's target, somebody to ask.
        """
        if self.mode == "full" or not MARKS.search(text):
            return clean(text[:TEXT_LIMIT], utf8=True)
        kept = clean(text[: 2 * TEXT_LIMIT], utf8=True)
        if len(text) > len(kept):
            kept = _of_whole_words(kept)  # half an address at the cut would not be found
        for path in dict.fromkeys(paths):
            kept = self._hide(kept, path)
            if len(kept) > 2 * TEXT_LIMIT:  # what is shown may be longer than what it hides
                kept = _of_whole_words(kept[: 2 * TEXT_LIMIT])
        if "@" in kept:
            kept = _ADDRESS.sub(self._shown, kept)
        return kept[:TEXT_LIMIT]

    def _shown(self, found: re.Match[str]) -> str:
        return self.show(found[0].encode("utf-8", "replace"))

    def _hide(self, text: str, path: bytes) -> str:
        local, at, _ = path.rpartition(b"@")
        if not at:
            local = path  # no domain: `postmaster`, or any word
        if not local or (text.isascii() and local.isascii() and local.decode().lower() not in text.lower()):
            return text  # the common case, and quick
        shown = self.show(path)
        # `Reply` decodes text as UTF-8, or as Latin-1 where any octet of a line does not fit: an address may be either
        for coding in ("utf-8",) if path.isascii() else ("utf-8", "latin-1"):
            if at:
                text = _replace(text, clean(path.decode(coding, "replace"), utf8=True), shown)
            word, hidden = clean(local.decode(coding, "replace"), utf8=True), shown.partition("@")[0]
            for opening, closing in _QUOTES:
                text = _replace(text, opening + word + closing, opening + hidden + closing)
        return text


_QUOTES: Final = (("<", ">"), ("'", "'"), ('"', '"'), ("(", ")"), ("[", "]"))
MARKS: Final = re.compile(r"""[@<'"(\[]""")  # no address is found in a text that has none of these

_AROUND: Final = " <>()[]\"',;:|"  # what stands around an address in a sentence
_SEPARATE: Final = rf"\s{re.escape(_AROUND)}"
# A word with an @ in it, but for the full stop behind it. It is looked for at the beginning of each word only, and
# nothing of a local part is given back: a text of any form takes a time that grows with its length alone.
_ADDRESS: Final = re.compile(rf"(?<![^{_SEPARATE}])@*+[^{_SEPARATE}@]++@[^{_SEPARATE}]*[^{_SEPARATE}.!?]")


def _of_whole_words(text: str) -> str:
    """A text that was cut off, without its last word: it may be half an address."""
    return text[: max(map(text.rfind, _AROUND)) + 1]


def _replace(text: str, old: str, new: str) -> str:
    """`str.replace` without regard to case."""
    if not (text.isascii() and old.isascii()):  # lower() may change the length of other text
        return re.sub(re.escape(old), lambda _: new, text, flags=re.IGNORECASE)
    lowered, wanted = text.lower(), old.lower()
    found = lowered.find(wanted)
    if found < 0:
        return text
    pieces: list[str] = []
    start = 0
    while found >= 0:
        pieces += (text[start:found], new)
        start = found + len(old)
        found = lowered.find(wanted, start)
    return "".join((*pieces, text[start:]))


def plain(text: str) -> str:
    if len(text) > TEXT_LIMIT:
        text = text[:TEXT_LIMIT]
    return text if text.isascii() and text.isprintable() else clean(text, utf8=True)
