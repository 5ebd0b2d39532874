"""The commands for mail that is not sent yet, as they are asked for: `lint`.

What it does is in the file of its name. `--help` must be instant: a command imports what it needs.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from smtpguard.cli.options import Config, Json, NoColor, Quiet, Verbose, common_options

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def lint(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="FILE|-", hidden=True)],
    sender: Annotated[
        str | None,
        typer.Option("--from", metavar="ADDRESS", help="Envelope sender, <> for none; else as the message says."),
    ] = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="ADDRESS", help="A recipient; else as the message says.")
    ] = None,
    egress: Annotated[
        list[str] | None, typer.Option("--egress", metavar="IP", help="Our address as receivers see it.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no DNS.")] = False,
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
    verbose: Verbose = 0,
    quiet: Quiet = 0,
) -> None:
    """Say what would be refused in a message, before it is sent.

    FILE is one message (.eml), - is standard input. A line for each finding, as a compiler writes it, the fix below:

    letter.eml:7: CNT005 link-deceptive: a link shows bank.example and leads to evil.example [warning]

    Needs no configuration and no next hop; the DNS is asked, at the name servers of [lint.dns] if there is a
    configuration. What no fact is there for is skipped, and that is said. -v adds evidence and
    what receivers say, -q leaves only the findings. `smtpguard rules show CNT005` explains a rule.

    Exit codes: 0 no errors, 1 errors, 2 the message cannot be read, 75 the DNS could not be asked.
    """
    common = common_options(context, config, as_json, no_color, verbose, quiet)
    from smtpguard.cli.lint import run

    color = common.color(sys.stdout, os.environ)
    raise typer.Exit(
        run(
            name,
            sender=sender,
            to=to or (),
            egress=egress or (),
            as_json=common.as_json,
            color=color,
            loud=common.loud,
            config=common.config,
            offline=offline,
        )
    )
