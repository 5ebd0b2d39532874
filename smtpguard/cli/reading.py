"""The commands that read what servers said, as they are asked for: `explain`, `rules`, `ingest`.

What they do is in the files of their names. `--help` must be instant: a command imports what it needs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smtpguard.cli.options import EXIT_USAGE, Common, Config, Json, NoColor, Quiet, common_options
from smtpguard.mail.reply import Verb

if TYPE_CHECKING:
    from smtpguard.config import Settings

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
rules_app = typer.Typer(
    help="Look at the rules, and test your own.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _own_rules(common: Common) -> tuple[Path, ...]:
    """The operator's rule files, as [classify] names them."""
    from smtpguard.config import rule_files

    return rule_files(_settings(common, "classify").classify.rules)


def _settings(common: Common, *tables: str) -> Settings:
    """These tables of the configuration; ends the command where they are bad."""
    from smtpguard.config import ConfigError, load_tables

    try:
        return load_tables(common.config, os.environ, tables).settings
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from None


@app.command()
def explain(
    context: typer.Context,
    given: Annotated[list[str] | None, typer.Argument(metavar="TEXT|FILE|ID|-", hidden=True)] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            "--jsonl",
            metavar="FILE|-",
            help='Many: one reply a line, plain or {"reply","next_hop","verb"}; one JSON answer a line, in order.',
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", metavar="NAME", help="Who said it, as mx.example.net.")] = "",
    verb: Annotated[
        str, typer.Option("--verb", metavar="VERB", help=f"What it answered: {', '.join(Verb)} (the message).")
    ] = "",
    id: Annotated[
        str,
        typer.Option("--id", metavar="ID", help="What has this event id or queue id: of the files, or of the history."),
    ] = "",
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Say what a refusal means: cause, who can act, what to do.

    TEXT is a reply as a log or a bounce shows it. FILE is a bounce (.eml), an mbox, a Maildir or folder, or a mail log
    of Postfix, Exim, sendmail, Exchange or smtpguard, plain or .gz: many refusals are summed up. - is standard input.
    ID is an event id or a queue id: what the history has of it.

    smtpguard explain 550 5.7.26 Unauthenticated email is not accepted

    smtpguard explain /var/log/mail.log
    """
    common = common_options(context, config, as_json, no_color, 0, 0)
    if (not given and not id) == (jsonl is None):
        raise typer.BadParameter("give a reply, files, an id, - or --jsonl FILE: one of them")
    settings = _settings(common, "classify", "store")
    from smtpguard.classify.notice import verb_of
    from smtpguard.cli.explain import run
    from smtpguard.config import rule_files

    known = verb_of(verb)
    if verb and known is None:
        raise typer.BadParameter(f"{verb!r} is not one of {', '.join(Verb)}", param_hint="--verb")

    raise typer.Exit(
        run(
            given or (),
            jsonl,
            rules=rule_files(settings.classify.rules),
            host=host,
            verb=known.value if known else None,
            id=id,
            store_url=settings.store.url,
            as_json=common.as_json,
            color=common.color(sys.stdout, os.environ),
        )
    )


@app.command()
def ingest(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="FILE|DIR|-", hidden=True)],
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE", help="Append the log lines to FILE, not standard output.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
    quiet: Quiet = 0,
) -> None:
    """Read bounces and complaints into the log and the history.

    A line "notice-received" for each recipient. Takes DSNs, bounces of other forms and ARF reports: a message, an
    mbox, a Maildir or folder, or - for standard input, as from a pipe in an alias:

    \b
    bounces: "|/usr/local/bin/smtpguard ingest -q --log /var/log/smtpguard/notices.log -"

    Exit codes: 0 notices were logged, 1 there was none in it (the MTA then returns the message, which is right for
    mail that went to the wrong address), 2 it cannot be read, 75 log or history cannot be written (the MTA tries
    again). The history keeps a notice once; where this user may not write it, the log is all.
    """
    common = common_options(context, config, as_json, no_color, 0, quiet)
    from smtpguard.cli.ingest import run

    raise typer.Exit(run(names, common.config, os.environ, log=log, as_json=common.as_json, quiet=common.loud < 0))


@rules_app.command("list")
def rules_list(
    context: typer.Context,
    category: Annotated[
        str, typer.Option("--category", metavar="NAME", help="Only of this category or group, as auth.spf or auth.")
    ] = "",
    provider: Annotated[str, typer.Option("--provider", metavar="NAME", help="Only of this provider.")] = "",
    family: Annotated[
        str, typer.Option("--family", metavar="NAME", help="Only the lint's of this family, as SPF.")
    ] = "",
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """List the rules: those that read refusals, then those of the lint."""
    common = common_options(context, config, as_json, no_color, 0, 0)
    own = _own_rules(common)
    from smtpguard.cli.rules import show_list

    color = common.color(sys.stdout, os.environ)
    found = show_list(own, category=category, provider=provider, family=family, as_json=common.as_json, color=color)
    raise typer.Exit(found)


@rules_app.command("show")
def rules_show(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", hidden=True)],
    config: Config = None,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Show a rule: what it looks for, why, what to do."""
    common = common_options(context, config, as_json, no_color, 0, 0)
    own = _own_rules(common)
    from smtpguard.cli.rules import show_rule

    color = common.color(sys.stdout, os.environ)
    raise typer.Exit(show_rule(own, id, as_json=common.as_json, color=color))


@rules_app.command("test")
def rules_test(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="FILE", hidden=True)],
    as_json: Json = False,
    quiet: Quiet = 0,
) -> None:
    """Test rule files of your own.

    Every rule, its examples, and what they take from the built-in rules. Exit code 1 for a fault, told with file,
    rule and remedy.
    """
    common = common_options(context, None, as_json, False, 0, quiet)
    from smtpguard.cli.rules import test

    raise typer.Exit(test(paths, as_json=common.as_json, quiet=common.loud < 0))


@rules_app.command("unmatched")
def rules_unmatched(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="FILE|-", hidden=True)] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List the replies that no rule explains, most frequent first.

    FILE is what `explain` takes, or a list of replies, one a line; without one, the history is looked at.
    """
    common = common_options(context, config, as_json, False, 0, 0)
    settings = _settings(common, "classify", "store")
    from smtpguard.cli.unmatched import unmatched
    from smtpguard.config import rule_files

    own = rule_files(settings.classify.rules)
    raise typer.Exit(unmatched(own, names or (), as_json=common.as_json, store_url=settings.store.url))
