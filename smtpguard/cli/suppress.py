"""`smtpguard suppress ...`: the recipients that get no mail for now.

list    all of them                    add     one by hand                 remove  let one have mail again
lookup  whether one is on the list     export  for another store           import  from there, or a list of addresses
A running service hears of a change within a second. What is kept of an address is what `privacy.addresses` shows and
its keyed hash: a list can be exported, but its addresses cannot be read out of it. Exit codes: 0; 1 not on the list;
2 what cannot be used; 75 the store is away.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, TextIO

from smtpguard.cli.options import EXIT_FINE, EXIT_FOUND, EXIT_USAGE
from smtpguard.cli.store import asked, failed, opened
from smtpguard.cli.tally import many, rfc3339
from smtpguard.history import Database, StoreError, by_hand, schema, state
from smtpguard.history.state import Change
from smtpguard.history.tables import STRIKES, SUPPRESSIONS
from smtpguard.mail.reply import clean
from smtpguard.policy import Suppression
from smtpguard.record import AddressMode, Masker

_LATEST: Final = 1e14  # seconds: the longest duration that can be written ends before


@dataclass(frozen=True, slots=True)
class Terms:
    """Where the list is, and on what terms: the store, how addresses are shown, how long, and who never."""

    url: str
    seed: bytes
    """This host's key of hashed addresses, for a store that has none yet."""
    mode: AddressMode
    ttl_s: float
    never: Sequence[str]
    """Patterns of addresses, as `postmaster@*`."""
    now: float


class Unusable(Exception):
    """What was given cannot be used; the text says why."""


def add(terms: Terms, address: str, *, ttl_s: float | None, reason: str, as_json: bool) -> int:
    """Put an address on the list, for `ttl_s` seconds or as long as `suppression.ttl` says."""
    try:
        path = _path(address, terms.never)
        with opened(terms.url, create=True) as database:
            masker = _masker(database, terms)
            row = _row(masker, path, terms, reason, "manual", ttl_s)
            _write(database, [Change(SUPPRESSIONS, "put", row.key, row)])
    except (Unusable, StoreError) as error:
        return _failed("add", error)
    _show([row], as_json=as_json)
    return EXIT_FINE


def remove(terms: Terms, address: str, *, as_json: bool = False) -> int:
    """Take an address, or the key that `list` shows, off the list, and its strikes too. `as_json`: {"removed": 1}."""
    try:
        with opened(terms.url) as database:
            key = _key(database, terms, address)
            found = _rows(database, key)
            _write(database, [Change(SUPPRESSIONS, "drop", key), Change(STRIKES, "drop", key)])
    except (Unusable, StoreError) as error:
        return _failed("remove", error)
    if not found:
        return _absent("remove", address)
    if as_json:
        print(json.dumps({"removed": len(found)}))
    return EXIT_FINE


def lookup(terms: Terms, address: str, *, as_json: bool) -> int:
    """Whether an address, or a key, is on the list."""
    try:
        with asked(terms.url) as database:
            rows = _rows(database, _key(database, terms, address))
    except (Unusable, StoreError) as error:
        return _failed("lookup", error)
    in_force = [row for row in rows if row.until > terms.now]
    if not in_force:
        return _absent("lookup", address)
    _show(in_force, as_json=as_json)
    return EXIT_FINE


def show_list(terms: Terms, *, as_json: bool) -> int:
    """The list, the newest first."""
    try:
        with asked(terms.url) as database:
            rows = _in_force(database, terms.now)
    except StoreError as error:
        return _failed("list", error)
    _show(rows, as_json=as_json)
    if not rows and not as_json:
        print("nobody is suppressed", file=sys.stderr)
    return EXIT_FINE


def export(terms: Terms) -> int:
    """The list as JSON lines. Each says of which store's key its hash is."""
    try:
        with asked(terms.url) as database:
            mark = _mark(_masker(database, terms))
            for row in _in_force(database, terms.now):
                print(json.dumps({**_described(row), "of": mark}, ensure_ascii=False))
    except StoreError as error:
        return _failed("export", error)
    return EXIT_FINE


def import_(terms: Terms, path: Path, *, as_json: bool) -> int:
    """Take lines of `export`, or addresses, one a line, each with a reason behind a comma if there is one.

    All of them, or none: what is wrong is told with its line. `path` "-" is standard input.
    """
    try:
        with opened(terms.url, create=True) as database:
            masker = _masker(database, terms)
            if str(path) == "-":
                rows = _read(sys.stdin, "standard input", masker, terms)
            else:
                with path.open(encoding="utf-8", errors="replace") as file:
                    rows = _read(file, str(path), masker, terms)
            _write(database, [Change(SUPPRESSIONS, "put", row.key, row) for row in rows])
    except (Unusable, StoreError) as error:
        return _failed("import", error)
    except OSError as error:
        return _failed("import", Unusable(f"{path}: {error.strerror or error}"))
    print(json.dumps({"imported": len(rows)}) if as_json else f"{many(len(rows), 'recipient')} suppressed")
    return EXIT_FINE


# --- rows ----------------------------------------------------------------------------------------------------------


def _masker(database: Database, terms: Terms) -> Masker:
    return Masker(terms.mode, schema.address_key(database, terms.seed))


def _mark(masker: Masker) -> str:
    """Tells one key of hashed addresses from another, and nothing else of it."""
    return masker.id(b"smtpguard")


def _path(address: str, never: Sequence[str] = ()) -> bytes:
    try:
        path = by_hand.path_of(address)
    except ValueError as error:
        raise Unusable(str(error)) from None
    text = path.decode("utf-8", "replace")
    for pattern in never:
        if fnmatchcase(text.lower(), pattern.lower()):
            raise Unusable(f"{text} is one of suppression.never ({pattern})")
    return path


def _row(
    masker: Masker, path: bytes, terms: Terms, reason: str, source: str, ttl_s: float | None = None
) -> Suppression:
    seconds = terms.ttl_s if ttl_s is None else ttl_s
    return by_hand.suppression(path, masker, terms.now, seconds, reason=reason, source=source)


def _key(database: Database, terms: Terms, given: str) -> str:
    """The key that was given, or of the address that was."""
    if by_hand.is_key(given):
        return given
    return _masker(database, terms).id(_path(given))


def _rows(database: Database, key: str) -> list[Suppression]:
    return [Suppression(*row) for row in database.query(SUPPRESSIONS.select("WHERE key = ?"), (key,))]


def _in_force(database: Database, now: float) -> list[Suppression]:
    rows = database.query(SUPPRESSIONS.select("WHERE until > ? ORDER BY since DESC, key"), (now,))
    return [Suppression(*row) for row in rows]


def _write(database: Database, changes: Sequence[Change]) -> None:
    with database.transaction():
        state.write(database, changes)


# --- lines in ------------------------------------------------------------------------------------------------------


def _read(lines: TextIO, name: str, masker: Masker, terms: Terms) -> list[Suppression]:
    """The rows; Unusable with all that is wrong, each with its line, the first twenty of it."""
    rows: dict[str, Suppression] = {}
    wrong: list[str] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            row = _given(text, masker, terms) if text.startswith("{") else _listed(text, masker, terms)
            rows[row.key] = row
        except Unusable as error:
            wrong.append(f"{name}:{number}: {error}")
    if wrong:
        more = [f"and {len(wrong) - 20} more lines"] if len(wrong) > 20 else []
        raise Unusable("\n".join([*wrong[:20], *more, "nothing was imported"]))
    return list(rows.values())


def _listed(text: str, masker: Masker, terms: Terms) -> Suppression:
    address, _, reason = text.partition(",")
    return _row(masker, _path(address, terms.never), terms, reason.strip().strip('"'), "import")


def _given(text: str, masker: Masker, terms: Terms) -> Suppression:
    """A line of `export`, or an object with an `address` in clear."""
    try:
        given: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"not JSON: {error}") from None
    if "key" not in given:
        return _row(masker, _path(_text(given, "address"), terms.never), terms, _text(given, "text"), "import")
    if given.get("of") != _mark(masker):
        raise Unusable("its key is of another store, where addresses are hashed otherwise: import the addresses")
    key, (code, since, until) = _text(given, "key"), (given.get(name) for name in ("code", "since_s", "until_s"))
    times = [at for at in (since, until) if type(at) in (int, float) and 0 < at < _LATEST]
    if not by_hand.is_key(key) or type(code) is not int or not 400 <= code < 600 or len(times) != 2:
        raise Unusable("not a line of `suppress export`")
    until = until if until > terms.now else terms.now + terms.ttl_s
    words = {name: clean(_text(given, name)[: by_hand.MAX_REASON], utf8=True) for name in _WORDS}
    return Suppression(key=key, since=since, until=until, code=code, **words)


_WORDS: Final = ("address", "enhanced", "text", "category", "source")


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name) or ""
    if not isinstance(value, str):
        raise Unusable(f"{name} is not a string")
    return value


# --- lines out -----------------------------------------------------------------------------------------------------


def _described(row: Suppression) -> dict[str, object]:
    whole = {**row._asdict(), "since": rfc3339(row.since), "until": rfc3339(row.until)}
    return {**whole, "since_s": row.since, "until_s": row.until}


def _show(rows: Sequence[Suppression], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_described(row) for row in rows], ensure_ascii=False))
        return
    print("\n".join(_lines(rows)), end="\n" if rows else "")


def _lines(rows: Sequence[Suppression]) -> Iterator[str]:
    width = max((len(row.address) for row in rows), default=0)
    for row in rows:
        said = f"{row.code} {row.enhanced} {row.text}".strip()
        yield (
            f"{row.key}  {clean(row.address, utf8=True):<{width}}  until {rfc3339(row.until) or 'for ever':<20}  "
            f"{row.source:<9}  {row.category}: {clean(said, utf8=True)}"
        )


def _absent(command: str, address: str) -> int:
    print(f"smtpguard suppress {command}: {clean(address, utf8=True)} is not on the list", file=sys.stderr)
    return EXIT_FOUND


def _failed(command: str, error: Unusable | StoreError) -> int:
    if isinstance(error, StoreError):
        return failed(f"suppress {command}", error)
    for line in str(error).splitlines():
        print(f"smtpguard suppress {command}: {clean(line, utf8=True)}", file=sys.stderr)
    return EXIT_USAGE
