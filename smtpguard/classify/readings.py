"""Readings: the word sequences that a phrase of a rule stands for.

A phrase is written as words and alternatives of words; ` ... ` between two parts stands for any words of one sentence:

    {mailbox} ... (is|was)? (unknown|not found|does not exist)

`(a|b)` any of these, `x?` and `(x)?` may lack, `word*` any word that begins so, `{name}` a family of words.toml, `@` an
address, `#ip` an IP address, `#num` what begins with a digit, `#host` a host name, `#url` a page; `#list`,
`#domainlist`, `#arpa`, `#spf` and `#barelf` a host or page of a block list, of a list of domains, of reverse DNS, of
SPF, of line ends; `#virus` the name of one.
Other punctuation parts words, an apostrophe does not ("user's" is `users`), and ideographs are words each.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Final

from smtpguard.classify import words as families

GAP: Final = " ... "

MAX_PARTS: Final = 4
"""Parts of a phrase, with gaps between them, at most."""

STEM: Final = 2
"""A prefix (`word*`) has at least so many characters: it is looked up by them."""

MAX_READINGS: Final = 1000
"""Readings of one part; more is a phrase that should be two."""

IDEOGRAPHS: Final = "\u2e80"
"""From here on a character is a word."""


class PhraseError(ValueError):
    """A phrase that cannot be read; the text says why."""


# a run of letters is one lexeme, but for its last where that may lack: `user` and `s?`
_LEXEME = re.compile(r"\\.|\{[a-z_]+\}|\[[^\]]*\]|(?:[^\W_]|[#@* ])+(?!\?)|.", re.S)
_SIGN = re.compile(r"[()|]")
_RANGE = re.compile(r"\w-\w")


def parts_of(phrase: str) -> tuple[str, ...]:
    """The parts of a phrase that gaps stand between; PhraseError where there are too many."""
    parts = tuple(phrase.split(GAP))
    if len(parts) > MAX_PARTS:
        raise PhraseError(f"more than {MAX_PARTS} parts")
    return parts


def beside(phrase: str) -> list[str]:
    """The phrases that a phrase with bars outside of brackets is made of."""
    if "|" not in phrase:
        return [phrase.strip()]
    depth, start, out = 0, 0, []
    for sign in _SIGN.finditer(phrase):
        depth += (sign[0] == "(") - (sign[0] == ")")
        if sign[0] == "|" and not depth:
            out.append(phrase[start : sign.start()].strip())
            start = sign.end()
    return [*out, phrase[start:].strip()]


@lru_cache(maxsize=4096)
def readings(part: str) -> tuple[tuple[str, ...], ...]:
    """All word sequences that a part of a phrase stands for, some perhaps twice.

    PhraseError where it is none or stands for too many.
    """
    lexemes = _LEXEME.findall(part)
    texts, at = _alternatives(lexemes, 0)
    if at != len(lexemes):
        raise PhraseError("a bracket too many")
    whole = "".join(texts)
    found = tuple(map(tuple, map(str.split if whole.isascii() else _split, texts)))
    if "*" in whole and any(word[-1] == "*" and len(word) <= STEM for words in found for word in words):
        raise PhraseError(f"a word of {part!r} has less than {STEM} characters before its *")
    if () in found:
        raise PhraseError(f"{part!r} may be no word at all")
    return found


def _split(text: str) -> list[str]:
    out: list[str] = []
    for piece in text.split():
        out += [piece] if piece.isascii() else (part for part in apart(piece) if part != "*")
    return out


def _alternatives(lexemes: Sequence[str], at: int) -> tuple[Collection[str], int]:
    """The texts that lexemes stand for, up to a closing bracket, those that begin alike in a row; where that is."""
    whole: list[str] = []
    sequence = [""]
    while at < len(lexemes) and lexemes[at] != ")":
        lexeme = lexemes[at]
        at += 1
        if lexeme == "|":
            whole += sequence
            sequence = [""]
            continue
        if lexeme == "(":
            atoms, at = _alternatives(lexemes, at)
            if at >= len(lexemes):
                raise PhraseError("a bracket is not closed")
            at += 1
        else:
            atoms = _atoms(lexeme)
        if at < len(lexemes) and lexemes[at] == "?":
            atoms = {**dict.fromkeys(atoms), "": None}
            at += 1
        sequence = [left + right for left in sequence for right in atoms]
        if len(sequence) > MAX_READINGS:
            raise PhraseError(f"more than {MAX_READINGS} readings")
    return dict.fromkeys(whole + sequence), at


def _atoms(lexeme: str) -> Collection[str]:
    if lexeme[0] == "{":
        return _family(lexeme[1:-1])
    if lexeme[0] == "[" and len(lexeme) > 1:
        if _RANGE.search(lexeme):
            raise PhraseError(f"{lexeme!r} is a range: write its characters out")
        return dict.fromkeys([" " if one in "-_/" else one for one in lexeme[1:-1]])
    if lexeme == ".":
        raise PhraseError("a dot ends a sentence, and no phrase goes on: write a space, ' ... ', or #ip, #host, #url")
    if lexeme[0] == "\\" or lexeme in "+?)]^$":
        raise PhraseError(f"{lexeme!r} means nothing in a phrase")
    if lexeme == "'":
        return ("",)
    return (lexeme if len(lexeme) > 1 or lexeme.isalnum() or lexeme in "#@*" else " ",)  # punctuation parts words


@lru_cache(maxsize=256)
def _family(name: str) -> Collection[str]:
    try:
        members = families.FAMILIES[name]
    except KeyError:
        raise families.UnknownError(name) from None
    return dict.fromkeys(text for member in members for text in _alternatives(_LEXEME.findall(member), 0)[0])


def apart(word: str) -> Iterator[str]:
    """A word in pieces: each ideograph by itself, what is between them whole."""
    run = ""
    for character in word:
        if character >= IDEOGRAPHS:
            if run:
                yield run
            yield character
            run = ""
        else:
            run += character
    if run:
        yield run
