"""The commands that ask the history and keep it, as they are asked for: `report`, `suppress`, `store`, `forget`.

What they do is in the files of their names. `--help` must be instant: a command imports what it needs.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smtpguard.cli.options import EXIT_USAGE, Common, Config, Json, NoColor, common_options

if TYPE_CHECKING:
    from smtpguard.cli.suppress import Terms
    from smtpguard.config import Settings

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
store_app = typer.Typer(
    help="Keep the history in order.", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
suppress_app = typer.Typer(
    help="Look at the recipients that get no mail, and change them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Address = Annotated[str, typer.Argument(metavar="ADDRESS", hidden=True)]
AddressOrKey = Annotated[str, typer.Argument(metavar="ADDRESS|KEY", hidden=True)]


def _settings(common: Common) -> Settings:
    """The tables that the history needs; ends the command where they are bad."""
    from smtpguard.config import ConfigError, load_tables

    try:
        return load_tables(common.config, os.environ, ("store", "privacy", "suppression")).settings
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from None


def _seconds(text: str, option: str) -> float:
    from smtpguard.config.values import duration

    try:
        return duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


@app.command()
def report(
    context: typer.Context,
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="How far back, as 30m, 24h, 7d.")] = "24h",
    by: Annotated[
        str, typer.Option("--by", metavar="WHAT", help="category, provider, sender, code; rule: how well lint foresaw.")
    ] = "category",
    would_reject: Annotated[
        bool, typer.Option("--would-reject", help="What enforcing would have refused, and what each rule as reject.")
    ] = False,
    format: Annotated[str, typer.Option("--format", metavar="FORM", help="table, json, csv or md.")] = "",
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Sum up what was refused: why, by whom, whose mail."""
    common = common_options(context, config, as_json, no_color, 0, 0)
    from smtpguard.cli.report import BYS, FORMATS, run

    what = next((each for each in BYS if each == by), None)
    form = next((each for each in FORMATS if each == (format or ("json" if common.as_json else "table"))), None)
    if what is None:
        raise typer.BadParameter(f"{by!r} is not one of {', '.join(BYS)}", param_hint="--by")
    if form is None:
        raise typer.BadParameter(f"{format!r} is not one of {', '.join(FORMATS)}", param_hint="--format")
    seconds = _seconds(since, "--since")
    raise typer.Exit(
        run(
            _settings(common).store.url,
            since_s=seconds,
            now=time.time(),
            by=what,
            would_reject=would_reject,
            format=form,
            color=common.color(sys.stdout, os.environ),
        )
    )


@app.command()
def forget(context: typer.Context, address: Address, config: Config = None, as_json: Json = False) -> None:
    """Delete all that is kept of an address, as sender or recipient.

    The store is written anew, so that no octet of it stays there. Logs, backups and the MTA are not reached. A message
    that is under way is kept after it: once more, then.
    """
    common = common_options(context, config, as_json, False, 0, 0)
    from smtpguard.cli.forget import run
    from smtpguard.config import host_key

    raise typer.Exit(run(_settings(common).store.url, address, seed=host_key(), as_json=common.as_json))


# --- store ---------------------------------------------------------------------------------------------------------


@store_app.command("migrate")
def store_migrate(context: typer.Context, config: Config = None, as_json: Json = False) -> None:
    """Make the tables, or bring them up to this version.

    `serve` does so by itself.
    """
    common = common_options(context, config, as_json, False, 0, 0)
    from smtpguard.cli.store import migrate

    raise typer.Exit(migrate(_settings(common).store.url, as_json=common.as_json))


@store_app.command("prune")
def store_prune(context: typer.Context, config: Config = None, as_json: Json = False) -> None:
    """Delete what is too old or too much.

    Older than privacy.retention, and the oldest beyond store.max_size; `serve` does so by itself.
    """
    common = common_options(context, config, as_json, False, 0, 0)
    from smtpguard.cli.store import prune

    settings = _settings(common)
    raise typer.Exit(
        prune(
            settings.store.url,
            retention_s=settings.privacy.retention,
            max_size=settings.store.max_size,
            as_json=common.as_json,
        )
    )


@store_app.command("stats")
def store_stats(context: typer.Context, config: Config = None, as_json: Json = False) -> None:
    """Say how much there is, and since when."""
    common = common_options(context, config, as_json, False, 0, 0)
    from smtpguard.cli.store import stats

    raise typer.Exit(stats(_settings(common).store.url, as_json=common.as_json))


# --- suppress ------------------------------------------------------------------------------------------------------


def _terms(common: Common) -> Terms:
    from smtpguard.cli.suppress import Terms
    from smtpguard.config import host_key

    settings = _settings(common)
    return Terms(
        url=settings.store.url,
        seed=host_key(),
        mode=settings.privacy.addresses,
        ttl_s=settings.suppression.ttl,
        never=settings.suppression.never,
        now=time.time(),
    )


@suppress_app.command("list")
def suppress_list(context: typer.Context, config: Config = None, as_json: Json = False) -> None:
    """List them, the newest first."""
    common = common_options(context, config, as_json, False, 0, 0)
    from smtpguard.cli.suppress import show_list

    raise typer.Exit(show_list(_terms(common), as_json=common.as_json))


@suppress_app.command("add")
def suppress_add(
    context: typer.Context,
    address: Address,
    ttl: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long, as 7d; else as suppression.ttl says.")
    ] = "",
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Said to whoever writes to the address.")
    ] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Put an address on the list: mail to it is refused with 550 5.1.1."""
    common = common_options(context, config, as_json, False, 0, 0)
    from smtpguard.cli.suppress import add
    from smtpguard.history.by_hand import MAX_TTL_S

    ttl_s = _seconds(ttl, "--for") if ttl else None
    if ttl_s is not None and ttl_s > MAX_TTL_S:
        raise typer.BadParameter("give at most 36500d", param_hint="--for")
    raise typer.Exit(add(_terms(common), address, ttl_s=ttl_s, reason=reason, as_json=common.as_json))


@suppress_app.command("remove")
def suppress_remove(
    context: typer.Context, address: AddressOrKey, config: Config = None, as_json: Json = False
) -> None:
    """Take an address off the list, and forget its strikes. Exit code 1 where it is not on it."""
    common = common_options(context, config, as_json, False, 0, 0)
    from smtpguard.cli.suppress import remove

    raise typer.Exit(remove(_terms(common), address, as_json=common.as_json))


@suppress_app.command("lookup")
def suppress_lookup(
    context: typer.Context, address: AddressOrKey, config: Config = None, as_json: Json = False
) -> None:
    """Say whether an address is on the list. Exit code 1 where it is not."""
    common = common_options(context, config, as_json, False, 0, 0)
    from smtpguard.cli.suppress import lookup

    raise typer.Exit(lookup(_terms(common), address, as_json=common.as_json))


@suppress_app.command("import")
def suppress_import(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FILE|-", hidden=True)],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take a list: what `export` wrote, or an address a line.

    An address may be followed by `,reason`.

    All of it or, where a line cannot be used, nothing.
    """
    common = common_options(context, config, as_json, False, 0, 0)
    from smtpguard.cli.suppress import import_

    raise typer.Exit(import_(_terms(common), path, as_json=common.as_json))


@suppress_app.command("export")
def suppress_export(context: typer.Context, config: Config = None, as_json: Json = False) -> None:
    """Write the list as JSON lines. Addresses are as privacy.addresses shows them, with their keyed hash."""
    common = common_options(context, config, as_json, False, 0, 0)
    from smtpguard.cli.suppress import export

    raise typer.Exit(export(_terms(common)))
