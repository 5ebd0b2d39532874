"""Phrases: what a postmaster means, in whatever words, found in one pass over the words of a text.

A phrase is written as words and alternatives of words; ` ... ` between two parts stands for any words of one sentence:

    {mailbox} ... (is|was)? (unknown|not found|does not exist)

`(a|b)` any of these, `x?` and `(x)?` may lack, `word*` any word that begins so, `{name}` a family of words.toml, `@` an
address, `#ip` an IP address, `#num` what begins with a digit, `#host` a host name, `#url` a page; `#list`,
`#domainlist`, `#arpa` and `#spf` a host or page of a block list, of a list of domains, of reverse DNS, of SPF.
Punctuation is nothing but the end of a sentence, and ideographs are words each. All readings of a part are written out
into one tree of words, so that a text costs the same whatever the number of phrases, and nothing a server writes makes
it slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from smtpguard.classify import words as families

GAP: Final = " ... "

MAX_WORDS: Final = 400
"""Words of a text that are looked at; replies have 15, the wordiest (Google's) 80."""

MAX_READINGS: Final = 1000
"""Readings of one part; more is a phrase that should be two."""

_SLOTS: Final = 4
"""Parts of a phrase at most."""


class PhraseError(ValueError):
    """A phrase that cannot be read; the text says why."""


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
        self.parts = 0  # the parts that end here, as bits
        self.uses = 0  # the phrases that have one of them, as bits
        self.said = 0  # characters on the way here


_NOTHING: Final[dict[str, _Node]] = {}
_Word = tuple[tuple[str, ...], list[_Node]]


class _Sentence(NamedTuple):
    candidates: int  # phrases all parts of which are there, in whatever order, as bits
    seen: list[tuple[int, int, _Node]]  # words from, to, and where in the tree they lead


class Read(NamedTuple):
    """A text that was read: its sentences, all their candidates, and of which token of `written` each word is."""

    sentences: list[_Sentence]
    candidates: int
    tokens: list[int]
    written: list[str]


class Phrasebook:
    """All phrases, ready to be found. Immutable but for a memory of words seen, which is bounded."""

    def __init__(self, phrases: Sequence[str]) -> None:
        self._root: Final = _Node()
        self._prefixes: Final[dict[str, set[str]]] = {}
        self._width: Final = len(phrases)
        self.all: Final = (1 << self._width) - 1
        """The bits of all phrases."""
        # which phrases have a part in a slot: bit `slot * width + phrase`; set from the start where they have none
        self._free = 0
        uses: dict[str, int] = {}
        parts_of: list[tuple[str, ...]] = []
        for number, phrase in enumerate(phrases):
            parts = tuple(phrase.split(GAP))
            if len(parts) > _SLOTS:
                raise PhraseError(f"more than {_SLOTS} parts")
            parts_of.append(parts)
            for slot in range(_SLOTS):
                bit = 1 << (slot * self._width + number)
                if slot < len(parts):
                    uses[parts[slot]] = uses.get(parts[slot], 0) | bit
                else:
                    self._free |= bit
        bits = {part: 1 << number for number, part in enumerate(uses)}
        self._parts: Final = [tuple(bits[part] for part in parts) for parts in parts_of]
        for part, use in uses.items():
            for reading in readings(part):
                self._plant(reading, bits[part], use)
        # the words that phrases are made of, known from the start; in a text most are such
        vocabulary = {word for part in uses for reading in readings(part) for word in reading}
        self._known: Final = {word: self._symbols(word) for word in vocabulary if word.isalpha() and word.isascii()}
        self._known.update((sign, self._symbols(sign)) for sign in ("@", "#ip", "#host", "#url"))
        self._token = lru_cache(maxsize=16384)(self._read_token)

    def _plant(self, reading: tuple[str, ...], part: int, use: int) -> None:
        node = self._root
        for word in reading:
            if word[-1] == "*":
                self._prefixes.setdefault(word[:_STEM], set()).add(word[:-1])
            after = node.after.get(word)
            if after is None:
                if node.after is _NOTHING:
                    node.after = {}
                after = node.after[word] = _Node()
            node = after
        node.parts |= part
        node.uses |= use
        node.said = sum(map(len, reading))

    def _read_token(self, token: str) -> tuple[list[_Word], bool]:
        """What a written token stands for.

        Its words, each with the prefixes it has and the branches of the tree that begin with it; and whether it ends a
        sentence.
        """
        ends = token[-1] in _STOPS
        core = token.strip(_EDGES)
        if (known := self._known.get(core)) is not None:
            return [known], ends
        words = []
        for word in _words_of(token):
            if word in ("#host", "#url") and _ANY_SIGN.search(token):
                words.append(self._symbols(word, tuple(sign for sign, known in _SIGNS if known.search(token))))
            else:
                words.append(self._known.get(word) or self._symbols(word, ("#num",) if word[0].isdigit() else ()))
        return words, ends

    def _symbols(self, word: str, signs: tuple[str, ...] = ()) -> _Word:
        """A word with its prefixes that phrases have and further signs; and the branches of the tree it begins."""
        starts = (f"{start}*" for start in self._prefixes.get(word[:_STEM], ()) if word.startswith(start))
        symbols = (word, *signs, *starts)
        return symbols, [self._root.after[s] for s in symbols if s in self._root.after]

    def read(self, plain: str) -> Read:
        """What a text in plain form holds of the phrases' parts."""
        sentences: list[_Sentence] = []
        tokens: list[int] = []
        read_token, width = self._token, self._width
        active: list[tuple[_Node, int]] = []
        seen: list[tuple[int, int, _Node]] = []
        present = self._free
        at = 0
        written = plain.split()
        for place, token in enumerate(written):
            words, ends = read_token(token)
            for symbols, roots in words:
                tokens.append(place)
                going = []
                for node in roots:
                    if node.parts:
                        present |= node.uses
                        seen.append((at, at + 1, node))
                    if node.after:
                        going.append((node, at))
                for before, start in active:
                    for symbol in symbols:
                        if (node := before.after.get(symbol)) is not None:  # type: ignore[assignment]
                            if node.parts:
                                present |= node.uses
                                seen.append((start, at + 1, node))
                            if node.after:
                                going.append((node, start))
                active = going
                at += 1
            if ends or at > MAX_WORDS:
                if seen:
                    both = present & (present >> 2 * width)
                    sentences.append(_Sentence(both & (both >> width) & self.all, seen))
                    seen = []
                    present = self._free
                active = []
                if at > MAX_WORDS:
                    break
        if seen:
            both = present & (present >> 2 * width)
            sentences.append(_Sentence(both & (both >> width) & self.all, seen))
        candidates = 0
        for sentence in sentences:
            candidates |= sentence.candidates
        return Read(sentences, candidates, tokens, written)

    def find(self, read: Read, among: int) -> list[Found]:
        """The phrases `among` (bits) whose parts stand in order in one sentence, each in its longest wording."""
        found: list[Found] = []
        for candidates, seen in read.sentences:
            left = candidates & among
            while left:
                lowest = left & -left
                left ^= lowest
                number = lowest.bit_length() - 1
                # where the parts so far end, what they say, where they begin
                whole: list[tuple[int, int, int]] | None = None
                for part in self._parts[number]:
                    places = [(end, node.said, start) for start, end, node in seen if node.parts & part][:_PLACES]
                    if whole is None:
                        whole = places
                    else:
                        whole = [
                            (end, said + before, begin)
                            for end, said, start in places
                            for over, before, begin in whole
                            if over <= start
                        ]
                    if not whole:
                        break
                if whole:
                    end, said, start = max(whole, key=_said) if len(whole) > 1 else whole[0]
                    found.append(Found(number, said, start, end))
        return found


_STOPS: Final = ".;!?\u3002\uff1b"
_STEM: Final = 2
"""A prefix (`word*`) has at least so many characters: it is looked up by them."""
_PLACES: Final = 6
"""Places of one part in a sentence that are looked at: a text that repeats itself says no more than that."""


def _said(place: tuple[int, int, int]) -> int:
    return place[1]


# --- words of a text -------------------------------------------------------------------------------------------------

_IDEOGRAPHS: Final = "\u2e80"
_IP = re.compile(r"((\d{1,3}\.){3}\d{1,3}|[0-9a-f]{1,4}:[0-9a-f]*:[0-9a-f:.]*)(/\d+)?(:\d+)?")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.[a-z][a-z0-9-]{1,5}")
_PARTED = re.compile(r"[<>()\[\],;:]|\.\.")
_EDGES: Final = ".,:;!?()[]<>{}\"'*-"
_WORD = re.compile(r"[^\W_]+")
_ADDRESS = re.compile(r"[^<>()\[\]:,;\"]*@[^<>()\[\]:,;.\"]*(\.[^<>()\[\]:,;.\"]+)*")
# what the name of a host or page gives away: a list of addresses, a list of domains, the rules of SPF
_SIGNS: Final = (
    ("#domainlist", re.compile(r"\bdbl\b|surbl|uribl|rhsbl|query/domain|ivmuri")),
    (
        "#list",
        re.compile(
            r"spamhaus|spamcop|sorbs|barracudacentral|barracudanetworks\.com/reputation|abuseat|uceprotect|psbl|mailspike"
            r"|cloudmark|senderscore|rbl\b|dnsbl|\bbl\.|black-?list|block-?list|denyip|blue-shield|ipcheck|ers\.trendmicro"
            r"|dnsrbl|backscatterer|lashback|hostkarma|invaluement|spfbl|abusix|delist|/bl\?|sender\.office\.com"
        ),
    ),
    ("#arpa", re.compile(r"\.arpa\b")),
    ("#spf", re.compile(r"openspf|spf\.pobox|/why\?s=")),
)


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
    return [part for word in words for part in _apart(word)]


def _apart(word: str) -> Iterator[str]:
    """A word in pieces: each ideograph by itself, what is between them whole."""
    run = ""
    for character in word:
        if character >= _IDEOGRAPHS:
            if run:
                yield run
            yield character
            run = ""
        else:
            run += character
    if run:
        yield run


_ANY_SIGN: Final = re.compile("|".join(pattern.pattern for _, pattern in _SIGNS))


# --- readings of a phrase --------------------------------------------------------------------------------------------

_LEXEME = re.compile(r"\\.|\{[a-z_]+\}|\[[^\]]*\]|.", re.S)


def beside(phrase: str) -> list[str]:
    """The phrases that a phrase with bars outside of brackets is made of."""
    depth, out = 0, [""]
    for character in phrase:
        depth += (character == "(") - (character == ")")
        if character == "|" and not depth:
            out.append("")
        else:
            out[-1] += character
    return [one.strip() for one in out]


@lru_cache(maxsize=4096)
def readings(part: str) -> frozenset[tuple[str, ...]]:
    """All word sequences that a part of a phrase stands for; PhraseError where it is none or stands for too many."""
    lexemes = _LEXEME.findall(part)
    texts, at = _alternatives(lexemes, 0)
    if at != len(lexemes):
        raise PhraseError("a bracket too many")
    found = frozenset(tuple(text.split()) if text.isascii() else _split(text) for text in texts)
    if any(word[-1] == "*" and len(word) <= _STEM for words in found for word in words):
        raise PhraseError(f"a word of {part!r} has less than {_STEM} characters before its *")
    if () in found:
        raise PhraseError(f"{part!r} may be no word at all")
    return found


def _split(text: str) -> tuple[str, ...]:
    out: list[str] = []
    for piece in text.split():
        out += [piece] if piece.isascii() else (part for part in _apart(piece) if part != "*")
    return tuple(out)


def _alternatives(lexemes: Sequence[str], at: int) -> tuple[set[str], int]:
    whole: set[str] = set()
    sequence = {""}
    while at < len(lexemes) and lexemes[at] != ")":
        lexeme = lexemes[at]
        at += 1
        if lexeme == "|":
            whole |= sequence
            sequence = {""}
            continue
        if lexeme == "(":
            atoms, at = _alternatives(lexemes, at)
            if at >= len(lexemes):
                raise PhraseError("a bracket is not closed")
            at += 1
        else:
            atoms = _atoms(lexeme)
        if at < len(lexemes) and lexemes[at] == "?":
            atoms = {*atoms, ""}
            at += 1
        sequence = {left + right for left in sequence for right in atoms}
        if len(sequence) > MAX_READINGS:
            raise PhraseError(f"more than {MAX_READINGS} readings")
    return whole | sequence, at


def _atoms(lexeme: str) -> set[str]:
    if lexeme[0] == "{":
        return set(_family(lexeme[1:-1]))
    if lexeme[0] == "[" and len(lexeme) > 1:
        return {" " if one in "-_/" else one for one in lexeme[1:-1]}
    if lexeme[0] == "\\" or lexeme in "+?)]":
        raise PhraseError(f"{lexeme!r} means nothing in a phrase")
    if lexeme.isalnum() or lexeme in "#@*":
        return {lexeme}
    return {"" if lexeme == "'" else " "}  # punctuation parts words, as in a text


@lru_cache(maxsize=256)
def _family(name: str) -> frozenset[str]:
    try:
        members = families.FAMILIES[name]
    except KeyError:
        raise families.UnknownError(name) from None
    return frozenset(text for member in members for text in _alternatives(_LEXEME.findall(member), 0)[0])
