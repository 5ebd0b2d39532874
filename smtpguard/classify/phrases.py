"""Phrases: what a postmaster means, in whatever words, found in one pass over the words of a text.

How a phrase is written, and what it may stand for, is in readings.py. All readings of its parts make one tree of words,
so that a text costs the same whatever the number of phrases, and nothing a server writes makes it slow: only so many
words are looked at, and of a part that comes again and again only so many places.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from smtpguard.classify.readings import IDEOGRAPHS, STEM, apart, parts_of, readings

MAX_WORDS: Final = 150
"""Words of a text that are looked at; replies have 15, the wordiest (Google's) 110."""

MAX_TOKEN: Final = 200
"""Characters looked at where no space is; pages have 100, what is longer is no word but in Chinese and Japanese."""


class Found(NamedTuple):
    """A phrase in a text: its number, how many characters its parts say, and its words (first, last + 1)."""

    number: int
    said: int
    start: int
    end: int


class _Node:
    """A place in the tree of words: what may follow, and what ends here, if anything does."""

    __slots__ = ("after", "parts", "said", "uses")

    def __init__(self) -> None:
        self.after: dict[str, _Node] = _NOTHING  # shared until there is something: most places are ends
        self.parts: frozenset[int] = _NONE  # the parts that end here
        self.uses = 0  # the phrases that have one of them, as bits
        self.said = 0  # characters on the way here


_NOTHING: Final[dict[str, _Node]] = {}
_NONE: Final[frozenset[int]] = frozenset()
_Word = tuple[tuple[str, ...], int, list[_Node], list[_Node]]
"""What it may stand for in the tree; the phrases that have a part of this word alone, where these parts end; what it
begins."""


class _Sentence(NamedTuple):
    candidates: int  # phrases the first parts of which are there, in whatever order, as bits
    seen: list[tuple[int, int, _Node]]  # words from, to, and where in the tree they lead


class Read(NamedTuple):
    """A text that was read: its sentences, all their candidates, and of which token of `written` each word is."""

    sentences: list[_Sentence]
    candidates: int
    tokens: list[int]
    written: list[str]

    def clauses(self) -> list[int]:
        """The clause, numbered, that each word stands in: what one says is seldom about what another does."""
        of_token: list[int] = []
        clause = 0
        lead = _lead(self.written)
        for place, token in enumerate(self.written[: self.tokens[-1] + 1] if self.tokens else ()):
            clause += token in _OPENERS or place == lead
            of_token.append(clause)
            clause += token[-1] in _STOPS
        return [of_token[token] for token in self.tokens]


class Phrasebook:
    """All phrases, ready to be found. Immutable but for a memory of words seen, which is bounded."""

    def __init__(self, phrases: Sequence[str]) -> None:
        self._root: Final = _Node()
        self._width: Final = len(phrases)
        self.all: Final = (1 << self._width) - 1
        """The bits of all phrases."""
        parted = [parts_of(phrase) for phrase in phrases]
        # which phrases have a part in a slot: bit `slot * width + phrase`; set from the start where they have none;
        # of parts without a slot nothing is known
        self._free = 0
        uses: dict[str, int] = {}
        for number, parts in enumerate(parted):
            for slot in range(_SLOTS):
                bit = 1 << (slot * self._width + number)
                if slot < len(parts):
                    uses[parts[slot]] = uses.get(parts[slot], 0) | bit
                else:
                    self._free |= bit
            for part in parts[_SLOTS:]:
                uses.setdefault(part, 0)
        numbers = {part: number for number, part in enumerate(uses)}
        self._parts: Final = [tuple(numbers[part] for part in parts) for parts in parted]
        vocabulary: set[str] = set()
        for part, use in uses.items():
            only = frozenset((numbers[part],))
            for reading in readings(part):
                node = self._root
                for word in reading:
                    try:
                        node = node.after[word]
                    except KeyError:
                        if node.after is _NOTHING:
                            node.after = {}
                        node.after[word] = node = _Node()
                        vocabulary.add(word)
                if node.parts:
                    node.parts |= only
                    node.uses |= use
                else:  # most places end one part: they share what is said of it
                    node.parts, node.uses = only, use
                    node.said = sum(map(len, reading))
        prefixes: dict[str, list[str]] = {}
        for word in sorted(vocabulary):
            if word[-1] == "*":
                prefixes.setdefault(word[:STEM], []).append(word[:-1])
        self._prefixes: Final = {stem: tuple(starts) for stem, starts in prefixes.items()}
        # the words that phrases are made of, known from the start; in a text most are such
        self._known: Final = {word: self._symbols(word) for word in vocabulary if word.isalpha() and word.isascii()}
        self._known.update((sign, self._symbols(sign)) for sign in ("@", "#ip", "#host", "#url"))
        self._token = lru_cache(maxsize=16384)(self._read_token)

    def _read_token(self, token: str) -> tuple[list[_Word], bool]:
        """What a written token stands for: its words, and whether it ends a sentence."""
        ends = token[-1] in _STOPS
        core = token.strip(_EDGES)
        if (known := self._known.get(core)) is not None:
            return [known], ends
        if core.isalpha() and core.isascii():
            return [self._symbols(core)], ends
        if "@" in core and not _PARTED.search(core):
            return [self._known["@"]], ends
        words = []
        for word in _words_of(token):
            if (known := self._known.get(word)) is not None:
                marked = _signs(token) if word in ("#host", "#url") else ()
                words.append(self._symbols(word, marked) if marked else known)
            else:
                words.append(self._symbols(word, ("#num",) if word[0].isdigit() else ()))
        return words, ends

    def _symbols(self, word: str, signs: tuple[str, ...] = ()) -> _Word:
        """A word with its prefixes that phrases have and further signs; and the branches of the tree it begins."""
        symbols = (word, *signs)
        if (prefixes := self._prefixes.get(word[:STEM])) is not None and word.startswith(prefixes):
            symbols += tuple(f"{start}*" for start in prefixes if word.startswith(start))
        first = self._root.after
        places = [first[symbol] for symbol in symbols if symbol in first]
        uses = 0
        for node in places:
            uses |= node.uses
        return symbols, uses, [node for node in places if node.parts], [node for node in places if node.after]

    def read(self, plain: str) -> Read:
        """What a text in plain form holds of the phrases' parts."""
        sentences: list[_Sentence] = []
        tokens: list[int] = []
        read_token = self._token
        active: list[tuple[_Node, int]] = []
        seen: list[tuple[int, int, _Node]] = []
        present = 0
        at = 0
        written = plain.split()
        if len(plain) > MAX_TOKEN:  # what is remembered of tokens is bounded so
            written = [token[:MAX_TOKEN] for token in written]
        lead = _lead(written)
        for place, token in enumerate(written):
            if place == lead and seen:
                sentences.append(_Sentence(self._whole(present), seen))
                seen, present, active = [], 0, []
            words, ends = read_token(token)
            for symbols, uses, alone, begun in words:
                tokens.append(place)
                if alone:
                    present |= uses
                    for node in alone:
                        seen.append((at, at + 1, node))
                going = [(node, at) for node in begun] if begun else []
                for before, start in active:
                    for symbol in symbols:
                        if (further := before.after.get(symbol)) is not None:
                            if further.parts:
                                present |= further.uses
                                seen.append((start, at + 1, further))
                            if further.after:
                                going.append((further, start))
                active = going
                at += 1
            if ends or at >= MAX_WORDS:
                if seen:
                    sentences.append(_Sentence(self._whole(present), seen))
                    seen = []
                    present = 0
                active = []
                if at >= MAX_WORDS:
                    break
        if seen:
            sentences.append(_Sentence(self._whole(present), seen))
        candidates = 0
        for sentence in sentences:
            candidates |= sentence.candidates
        return Read(sentences, candidates, tokens, written)

    def _whole(self, present: int) -> int:
        """The phrases whose first parts are among those `present`, as bits."""
        present |= self._free
        return present & (present >> self._width) & self.all

    def _standing(self, seen: Sequence[tuple[int, int, _Node]], numbers: Iterable[int]) -> dict[int, list[_Place]]:
        """Where the parts of these phrases stand, a few places each."""
        wanted = {part for number in numbers for part in self._parts[number]}
        places: dict[int, list[_Place]] = {}
        for start, end, node in seen:
            if wanted.isdisjoint(node.parts):
                continue
            for part in wanted & node.parts:
                if (known := places.get(part)) is None:
                    places[part] = [(end, node.said, start)]
                elif len(known) < _PLACES:
                    known.append((end, node.said, start))
        return places

    def find(self, read: Read, among: int) -> list[Found]:
        """The phrases `among` (bits) whose parts stand in order in one sentence, each in its longest wording."""
        found: list[Found] = []
        for candidates, seen in read.sentences:
            left = candidates & among
            if not left:
                continue
            numbers = []
            while left:
                bit = left & -left
                left ^= bit
                numbers.append(bit.bit_length() - 1)
            places = self._standing(seen, numbers)
            for number in numbers:
                first, *others = self._parts[number]
                # where the parts so far end, what they say, where they begin
                whole = places.get(first, _NOWHERE)
                for part in others:
                    whole = [
                        (end, said + before, begin)
                        for end, said, start in places.get(part, _NOWHERE)
                        for over, before, begin in whole
                        if over <= start
                    ]
                    if not whole:
                        break
                if whole:
                    end, said, start = max(whole, key=_said) if len(whole) > 1 else whole[0]
                    found.append(Found(number, said, start, end))
        return found


_Place = tuple[int, int, int]
"""Where a part ends, how many characters it says, where it begins."""
_NOWHERE: Final[list[_Place]] = []
_SLOTS: Final = 2
"""Parts of a phrase that must be there for it to be looked for: more would tell little more, and cost every word."""
_PLACES: Final = 6
"""Places of one part in a sentence that are looked at: a text that repeats itself says no more than that."""


def _said(place: _Place) -> int:
    return place[1]


# --- sentences and clauses -------------------------------------------------------------------------------------------

_STOPS: Final = ".;!?\u3002\uff1b"
"""What ends a sentence."""
_OPENERS: Final = frozenset({"please", "veuillez", "-", "--", "|", "//"})
"""What begins a clause: where a server asks or adds something."""
_SUBJECTS: Final = frozenset(
    {"your", "message", "mail", "email", "delivery", "transaction", "was", "is", "has", "been"}
)
_VERDICTS: Final = frozenset({"rejected", "refused", "denied", "failed", "deferred", "blocked", "bounced", "sorry"})


def _lead(written: Sequence[str]) -> int:
    """Where the text begins to say why, after a lead that only says that: "Message rejected: "; -1 without a lead."""
    for place, token in enumerate(written):
        if token not in _SUBJECTS:
            return place + 1 if token[:-1] in _VERDICTS and token[-1] in ":,!" else -1
    return -1


# --- words of a text -------------------------------------------------------------------------------------------------

_IP = re.compile(r"((\d{1,3}\.){3}\d{1,3}|[0-9a-f]{1,4}:[0-9a-f]*:[0-9a-f:.]*)(/\d+)?(:\d+)?")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.[a-z][a-z0-9-]{1,5}")
_PARTED = re.compile(r"[<>()\[\],;:]|\.\.")
_EDGES: Final = ".,:;!?()[]<>{}\"'*-"
_WORD = re.compile(r"[^\W_]+")
_ADDRESS = re.compile(r"[^<>()\[\]:,;\"]*@[^<>()\[\]:,;.\"]*(\.[^<>()\[\]:,;.\"]+)*")
# what the name of a host or page gives away: a list of addresses, a list of domains, the rules of SPF, of line ends; of
# a virus, whose name is written like a host's; a dot is the border of a label or of a part of a path, see `_signs`
_SIGNS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("#domainlist", (".dbl.", "surbl", "uribl", "rhsbl", "query.domain", "ivmuri")),
    (
        "#list",
        (
            *("spamhaus", "spamcop", "sorbs", "barracudacentral", "barracudanetworks.com.reputation", "abuseat"),
            *("uceprotect", "psbl", "mailspike", "cloudmark", "senderscore", "rbl.", "dnsbl", ".bl.", ".bl?"),
            *("blacklist", "black-list", "blocklist", "block-list", "denyip", "blue-shield", "ipcheck", "abusix"),
            *("mail-abuse", "spamrats", "spameatingmonkey", "njabl", "blocklist.de", "manitu.net", "mxtoolbox"),
            *("ers.trendmicro", "backscatterer", "lashback", "hostkarma", "invaluement", "spfbl", "delist"),
            *("sender.office.com",),
        ),
    ),
    ("#arpa", (".arpa.",)),
    ("#spf", ("openspf", "open-spf", "spf.pobox", ".why?s=")),
    ("#barelf", ("smtplf",)),
    ("#virus", (".trojan", ".win32.", ".w32.", ".heur", ".worm.", ".exploit.", ".eicar", ".backdoor.", ".ransom")),
)

_MARKS: Final = [(sign, mark) for sign, marks in _SIGNS for mark in marks]


def _signs(token: str) -> tuple[str, ...]:
    """The signs in a host name or page."""
    name = f".{token.strip(_EDGES).replace('/', '.')}."
    return tuple(dict.fromkeys([sign for sign, mark in _MARKS if mark in name]))


def _words_of(token: str) -> list[str]:
    """The words of one written token in plain form; an address, a page, a number of the network is one word."""
    core = token.strip(_EDGES)
    if "@" in token:
        if "@" in core and not _PARTED.search(core):
            return ["@"]
        before, _, behind = _ADDRESS.sub(" @ ", token, count=1).partition(" @ ")
        return [
            *(_words_of(before) if before else ()),
            "@",
            *(_words_of(behind) if behind and "@" not in behind else ()),
        ]
    if "://" in token or token.startswith("www."):
        return ["#url"]
    if "." in core or ":" in core:
        digits = core.replace(".", "")
        if digits.isdigit() and digits.isascii():
            return ["#ip"] if core.count(".") == 3 else [] if core.count(".") == 2 else _WORD.findall(core)
        if _IP.fullmatch(core):
            return ["#ip"]
        if _HOST.fullmatch(core):
            return ["#host"]
    words = _WORD.findall(token.replace("'", "").replace("\u2019", ""))
    if token.isascii():
        return words
    return [part for word in words for part in (apart(word) if max(word) >= IDEOGRAPHS else (word,))]
