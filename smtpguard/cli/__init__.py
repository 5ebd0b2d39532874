"""The command line: which commands and options there are, and the exit codes. What a command does is elsewhere.

Exit codes: 0 fine (warnings too), 1 found a problem, 2 could not do it (usage, unreadable file, bad configuration),
75 temporary. `--help` must be instant: this file imports typer and nothing heavy; a command imports what it needs.
The options that all commands have: options.py. The commands of the first hour (init, check, ...): first_hour.py; of
what would be refused (lint): presend.py; of a sender's domain (audit): sender.py; of reading what servers said
(explain, rules, ingest): reading.py; of what happened (report, suppress, store, forget): history.py.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from smtpguard import __version__
from smtpguard.cli import first_hour, history, presend, reading, sender
from smtpguard.cli.options import (
    EXIT_USAGE,
    Common,
    Config,
    Json,
    NoColor,
    Quiet,
    Verbose,
    common_options,
)

__all__ = ["Common", "app", "main"]

app = typer.Typer(
    name="smtpguard",
    help="A smarthost that says why mail is refused.\n\nTry it: smtpguard serve --sandbox",
    epilog="Exit codes: 0 fine, 1 found a problem, 2 could not do it, 75 try again later.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: no rich to import, nothing to colour
    pretty_exceptions_enable=False,  # they print local variables: passwords among them
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


# --- before the command ---------------------------------------------------------------------------------------


def _version(wanted: bool) -> None:
    if wanted:
        print(f"smtpguard {__version__}")
        raise typer.Exit


@app.callback()
def before(
    context: typer.Context,
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
    verbose: Verbose = 0,
    quiet: Quiet = 0,
    version: Annotated[  # noqa: ARG001 - acts by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = common_options(context, config, as_json, no_color, verbose, quiet)


# --- commands --------------------------------------------------------------------------------------------------


@app.command()
def serve(
    context: typer.Context,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Use the embedded next hop: needs no configuration, sends no mail.")
    ] = False,
    maildir: Annotated[
        Path | None, typer.Option("--maildir", metavar="DIR", help="Keep what the sandbox accepts in this Maildir.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
    verbose: Verbose = 0,
    quiet: Quiet = 0,
) -> None:
    """Run the relay, until SIGTERM or SIGINT. SIGHUP reads the configuration again."""
    common = common_options(context, config, as_json, no_color, verbose, quiet)
    # The log's settings are settings: laid over the file's by the environment, they outlive a reload as well.
    if common.loud:
        os.environ["SMTPGUARD__LOG__LEVEL"] = "debug" if common.loud > 0 else "warning"
    if common.as_json:
        os.environ["SMTPGUARD__LOG__FORMAT"] = "json"
    if common.no_color:
        os.environ["NO_COLOR"] = "1"
    from smtpguard.config import ConfigError, load

    try:
        loaded = load(common.config, os.environ, sandbox=sandbox)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from None
    if maildir is not None and not any(hop.host == ("sandbox",) for hop in loaded.settings.next_hop.values()):
        raise typer.BadParameter("needs --sandbox, or a next hop whose host is the sandbox", param_hint="--maildir")
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    from smtpguard.service import run

    raise typer.Exit(run(loaded, sandbox=sandbox, maildir=maildir))


# --- the commands of other files -------------------------------------------------------------------------------

app.add_typer(presend.app)
app.add_typer(sender.app)
app.add_typer(reading.app)
app.add_typer(reading.rules_app, name="rules")
app.add_typer(history.app)
app.add_typer(history.suppress_app, name="suppress")
app.add_typer(history.store_app, name="store")
app.add_typer(first_hour.app)
app.add_typer(first_hour.config_app, name="config")


def main() -> None:
    """The console script. A fault of ours is exit code 2, never 1: nothing was found, something could not be done."""
    try:
        app(prog_name="smtpguard")
    except Exception:
        traceback.print_exc()
        sys.exit(EXIT_USAGE)
