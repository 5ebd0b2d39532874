"""`smtpguard forget ADDRESS`: all that is kept of an address goes, as sender and as recipient, octets included.

Found by its keyed hash, in the usual spellings of its local part, and by its text wherever texts are kept. The store is
written anew then, so that no deleted octet stays in its files: that takes as long as the store is large. It does not
reach what is elsewhere: the log, the MTA's queue and log, backups, and of PostgreSQL its write-ahead log until that is
recycled. Exit codes: 0, also where nothing was kept; 2 and 75 as with `store`.
"""

from __future__ import annotations

import json
import sys

from smtpguard.cli.options import EXIT_FINE, EXIT_USAGE
from smtpguard.cli.store import failed, opened
from smtpguard.cli.tally import many
from smtpguard.history import StoreError, schema, upkeep
from smtpguard.mail.reply import clean
from smtpguard.record import Masker


def run(url: str, address: str, *, seed: bytes, as_json: bool) -> int:
    """Forget it. `seed` is this host's key, for a store that has none yet. `as_json`: {"deleted": {table: rows}}."""
    address = address.strip().removeprefix("<").removesuffix(">")
    if not address or "@" not in address:
        print(f"smtpguard forget: {clean(address, utf8=True)!r} is not an address: give name@domain", file=sys.stderr)
        return EXIT_USAGE
    try:
        with opened(url) as database:
            masker = Masker("full", schema.address_key(database, seed))
            forgotten = upkeep.forget(database, address, masker)
    except StoreError as error:
        return failed("forget", error)
    told = {name: count for name, count in forgotten.rows.items() if count}
    if as_json:
        print(json.dumps({"deleted": told}))
    elif told:
        print(
            f"{many(forgotten.total, 'row')} deleted: " + ", ".join(f"{name} {count:,}" for name, count in told.items())
        )
    else:
        print("nothing was kept of it")
    return EXIT_FINE
