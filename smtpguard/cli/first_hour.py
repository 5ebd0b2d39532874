"""The commands of the first hour, as they are asked for: `config`, `init`, `check`, `status`, `tail`.

What they do is in the files of their names. `--help` must be instant: a command imports what it needs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from smtpguard.cli.options import Config, Json, NoColor, Quiet, Verbose, common_options

config_app = typer.Typer(
    help="Look at the configuration.", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


# --- config ----------------------------------------------------------------------------------------------------


@config_app.command("sample")
def config_sample() -> None:
    """Print a file with every key, its default and what it means."""
    from smtpguard.config.sample import sample

    print(sample(), end="")


@config_app.command("show")
def config_show(
    context: typer.Context,
    written: Annotated[bool, typer.Option("--non-defaults", "-n", help="Only what somebody has set.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Print what is in force, and where each value comes from. Secrets are not shown."""
    common = common_options(context, config, as_json, False, 0, 0)
    from smtpguard.cli.config import show

    raise typer.Exit(show(common.config, os.environ, written=written, as_json=common.as_json))


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    from smtpguard.cli.config import schema

    raise typer.Exit(schema())


@config_app.command("test")
def config_test(
    context: typer.Context,
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
    verbose: Verbose = 0,
    quiet: Quiet = 0,
) -> None:
    """Say all that is wrong with the configuration.

    Where nothing is: what would be used.
    """
    common = common_options(context, config, as_json, no_color, verbose, quiet)
    from smtpguard.cli.config import test

    raise typer.Exit(
        test(
            common.config,
            os.environ,
            as_json=common.as_json,
            color=common.color(sys.stderr, os.environ),
            quiet=common.loud < 0,
        )
    )


# --- init ------------------------------------------------------------------------------------------------------


@app.command()
def init(
    context: typer.Context,
    from_postfix: Annotated[
        bool, typer.Option("--from-postfix", help="Read main.cf: its relayhost becomes our next hop; none: mx.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Change Postfix too, and undo it if anything fails; with --from-postfix.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Give Postfix its files back as they were before.")] = False,
    postfix_config: Annotated[
        Path | None, typer.Option("--postfix-config", metavar="DIR", help="Where main.cf is; else as postconf knows.")
    ] = None,
    next_hop: Annotated[
        list[str] | None,
        typer.Option(
            "--next-hop",
            metavar="HOST[:PORT]",
            help="Who takes the mail; repeated or with commas, several. mx: the receivers themselves.",
        ),
    ] = None,
    tls: Annotated[str, typer.Option("--tls", metavar="WHICH", help="none, opportunistic, required or implicit.")] = "",
    username: Annotated[str, typer.Option("--username", metavar="NAME", help="Log in there as.")] = "",
    password_file: Annotated[
        Path | None, typer.Option("--password-file", metavar="FILE", help="Which holds the password, alone.")
    ] = None,
    hostname: Annotated[str, typer.Option("--hostname", metavar="NAME", help="Our name; else this host's.")] = "",
    egress: Annotated[
        list[str] | None,
        typer.Option(
            "--egress", metavar="IP", help="Our address as receivers see it; repeated or with commas, several."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="With --apply: do not ask the next hop first whether it takes us.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write a configuration; say what to change in the MTA, or do it.

    Both come with the way back. Nothing is asked, nothing that is there is written over.

    smtpguard init --next-hop smtp.example.net:587 --username mail@example.com

    \b
    smtpguard init --next-hop mx --egress 203.0.113.7 --hostname mail.example.com

    smtpguard init --from-postfix
    """
    common = common_options(context, config, as_json, False, 0, 0)
    if apply and not from_postfix:
        raise typer.BadParameter("needs --from-postfix", param_hint="--apply")
    if undo and (from_postfix or apply or next_hop):
        raise typer.BadParameter("stands alone", param_hint="--undo")
    from smtpguard.cli.init import Options, run

    options = Options(
        config=common.config,
        from_postfix=from_postfix,
        apply=apply,
        undo=undo,
        postfix_config=postfix_config,
        next_hop=",".join(next_hop or ()),
        tls=tls,
        username=username,
        password_file=password_file,
        hostname=hostname,
        egress=tuple(address.strip() for text in egress or () for address in text.split(",")),
        force=force,
        unchecked=unchecked,
        as_json=common.as_json,
    )
    raise typer.Exit(run(options, os.environ))


# --- check, status, tail ---------------------------------------------------------------------------------------


@app.command()
def check(
    context: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Ask neither DNS nor the next hop.")] = False,
    rcpt: Annotated[
        str, typer.Option("--rcpt", metavar="ADDRESS", help="Ask the next hop for this recipient too; sends nothing.")
    ] = "",
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
    quiet: Quiet = 0,
) -> None:
    """Say whether smtpguard can work here. Sends no mail.

    Looked at: the configuration, ports, this host's name, room for messages, and whether each next hop takes our mail.
    """
    common = common_options(context, config, as_json, no_color, 0, quiet)
    from smtpguard.cli.check import run

    raise typer.Exit(
        run(
            common.config,
            os.environ,
            offline=offline,
            rcpt=rcpt,
            as_json=common.as_json,
            color=common.color(sys.stdout, os.environ),
            quiet=common.loud < 0,
        )
    )


@app.command()
def status(
    context: typer.Context,
    http: Annotated[
        str, typer.Option("--http", metavar="HOST:PORT", help="Ask there; else where the settings say.")
    ] = "",
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Say how the running relay is, and what was refused.

    Exit code 0: it runs and is well; 1: it does not run, or has a problem that is named.
    """
    common = common_options(context, config, as_json, no_color, 0, 0)
    from smtpguard.cli.status import run

    raise typer.Exit(
        run(
            common.config,
            os.environ,
            http=http,
            as_json=common.as_json,
            color=common.color(sys.stdout, os.environ),
        )
    )


@app.command()
def tail(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE|-", hidden=True)] = None,
    problems: Annotated[bool, typer.Option("--problems", help="Only refusals and faults.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, metavar="N", help="Begin with the last N.")] = 10,
    stop: Annotated[bool, typer.Option("--no-follow", help="End where the file ends.")] = False,
    no_color: NoColor = False,
) -> None:
    """Show the JSON log as lines for a person, as it grows.

    smtpguard tail --problems /var/log/smtpguard.log

    journalctl -u smtpguard -o cat -f | smtpguard tail -
    """
    common = common_options(context, None, False, no_color, 0, 0)
    if file is None:
        if sys.stdin.isatty():
            raise typer.BadParameter(
                "give a log file, or pipe one in: journalctl -u smtpguard -o cat -f | smtpguard tail"
            )
        file = Path("-")
    from smtpguard.cli.tail import run

    raise typer.Exit(
        run(
            file,
            problems=problems,
            last=lines,
            follow=not stop,
            color=common.color(sys.stdout, os.environ),
        )
    )
