"""The commands about those that we send for, as they are asked for: `audit`.

What it does is in the file of its name. `--help` must be instant: a command imports what it needs.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from smtpguard.cli.options import Config, Json, NoColor, Quiet, common_options

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def audit(
    context: typer.Context,
    domains: Annotated[list[str] | None, typer.Argument(metavar="DOMAIN", hidden=True)] = None,
    egress: Annotated[
        list[str] | None,
        typer.Option("--egress", metavar="IP", help="Our address as receivers see it; else egress_ips of next hops."),
    ] = None,
    selector: Annotated[
        list[str] | None,
        typer.Option("--selector", metavar="NAME", help="Of DKIM; else as [sender] says, else the usual ones."),
    ] = None,
    public_resolver: Annotated[
        str, typer.Option("--public-resolver", metavar="IP", help="Ask there as well, and say where it differs.")
    ] = "",
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
    quiet: Quiet = 0,
) -> None:
    """Say what receivers find of a domain, and what to publish.

    Looked at: SPF with its look-ups counted, DKIM keys, DMARC and its reports, mail hosts, blocklists, MTA-STS, TLSRPT,
    BIMI, and of our own addresses names, HELO and blocklists. Without DOMAIN: those of [sender]. Changes nothing.

    smtpguard audit example.com --egress 203.0.113.7

    Exit codes: 0 no errors, 1 errors, 2 no domain, 75 the DNS did not answer all and no error was found.
    """
    common = common_options(context, config, as_json, no_color, 0, quiet)
    from smtpguard.cli.audit import run

    raise typer.Exit(
        run(
            domains or (),
            common.config,
            os.environ,
            egress=egress or (),
            selectors=selector or (),
            public_resolver=public_resolver,
            as_json=common.as_json,
            color=common.color(sys.stdout, os.environ),
            loud=common.loud,
        )
    )
