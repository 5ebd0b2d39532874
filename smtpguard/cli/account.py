"""What `init` did and found, told to a person or as JSON: what was written, what to change in Postfix, what to know.

Commands stand on lines of their own, never folded, so that they can be copied. No secret is known here but by its file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import Final

from smtpguard.cli import straight
from smtpguard.cli.plan import Command, Plan, shell
from smtpguard.cli.postfix import Facts

USUAL_CONFIG: Final = Path("/etc/smtpguard/smtpguard.toml")
_USUAL_POSTFIX: Final = Path("/etc/postfix")
_WIDTH: Final = 100


@dataclass(slots=True)
class Done:
    """What came of it, as it is printed or given as JSON."""

    config: str = ""
    door: str = ""
    """Our LMTP door, where it is known."""
    wrote: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)
    applied: bool = False
    running: bool = False


def as_object(done: Done) -> dict[str, object]:
    """For `--json`; commands are lists of words, without `-c DIR`."""
    made = done.plan
    return {
        "config": done.config,
        "wrote": done.wrote,
        "kept": done.kept,
        "commands": [list(command) for command in made.commands],
        "back": [list(command) for command in made.back],
        "needs": list(made.needs),
        "notes": made.notes,
        "against": made.against,
        "applied": done.applied,
    }


def _item(note: str) -> str:
    """A point of a list, folded to the terminal; what stands on further lines is to be copied, and stays whole."""
    text, *commands = note.split("\n")
    width = min(_WIDTH, get_terminal_size((_WIDTH, 0)).columns)
    folded = fill(
        text, width, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join([folded, *(f"  {command}" for command in commands)])


def files(done: Done) -> Iterator[str]:
    """A line for each file that was written, or left as it is."""
    yield from (f"wrote {name}" for name in done.wrote)
    yield from (f"kept  {name}, as it is (--force writes it anew)" for name in done.kept)


def _needs(made: Plan) -> Iterator[str]:
    """What must hold before mail goes that way."""
    if made.needs:
        yield "Straight to the receivers, this must hold, or they refuse us; `smtpguard check` looks at all of it:"
        yield from map(_item, made.needs)
        yield ""


def next_steps(done: Done) -> Iterator[str]:
    """What follows an `init` that knows nothing of the MTA."""
    made = done.plan
    yield from _needs(made)
    yield from map(_item, made.notes)
    where = "" if Path(done.config) == USUAL_CONFIG else f" --config {done.config}"
    yield f"Next: smtpguard check{where}"
    if made.is_mx:
        yield f"then: smtpguard serve{where}, and the MTA's mail to the LMTP door"
        yield ""
        yield "Postfix; `smtpguard init --from-postfix --next-hop mx` reads your main.cf, and does it with --apply:"
        yield from ("  " + command for command in _commands(made.commands, _USUAL_POSTFIX))
        yield "  postfix check && postfix reload"
        yield "The way back:"
        yield from ("  " + command for command in way_back(made, _USUAL_POSTFIX))
        if lines := straight.exim(done.door):
            yield ""
            yield "Exim:"
            yield from (f"  {text}".rstrip() for text in lines)
        return
    yield f"then: smtpguard serve{where}, and send your MTA's mail to LMTP 127.0.0.1:10724 or SMTP 127.0.0.1:10725"


def _commands(commands: Iterable[Command], directory: Path) -> list[str]:
    """As they are typed, for the Postfix of this folder."""
    where = [] if directory == _USUAL_POSTFIX else ["-c", str(directory)]
    return [shell((program, *where, *arguments)) for program, *arguments in commands]


def way_back(made: Plan, directory: Path) -> list[str]:
    """The commands that undo the plan's, as they are typed."""
    *commands, reload, flush = _commands([*made.back, ("postfix", "reload"), ("postqueue", "-f")], directory)
    return [*commands, f"{reload} && {flush}"]


def account(done: Done, facts: Facts) -> Iterator[str]:
    """What was found and done, what to do, what to know, and the way back."""
    made = done.plan
    chroot = (facts.service(facts.transport) or ["?"] * 8)[4]
    yield f"Found in {facts.directory}"
    for name in (
        "relayhost",
        "default_transport",
        "smtp_tls_security_level",
        "message_size_limit",
        "myhostname",
        "mynetworks",
    ):
        yield f"  {name:<24} {facts[name] or '(empty)'}"
    yield f"  {'login':<24} {facts.login[0] if facts.login else '(none)'}"
    yield f"  {'smtp service':<24} {'not chrooted' if chroot == 'n' else 'chrooted in ' + facts['queue_directory']}"
    yield ""
    yield from files(done)
    yield ""
    yield from _needs(made)
    if done.applied:
        yield "Done in Postfix" + (", which has taken it over:" if done.running else ", which does not run:")
    else:
        yield "Next: start smtpguard, and `smtpguard check`. Then this, or let --apply do it:"
    yield from ("  " + command for command in _commands(made.commands, facts.directory))
    if not done.applied:
        check, reload = _commands([("postfix", "check"), ("postfix", "reload")], facts.directory)
        yield f"  {check} && {reload}"
    if made.against:
        yield ""
        yield "But first, or mail goes other ways than it did (--apply will not):"
        yield from map(_item, made.against)
    yield ""
    yield "Know that"
    yield from map(_item, (*made.notes, *_ALWAYS))
    yield ""
    if done.applied:
        options = "" if facts.directory == _USUAL_POSTFIX else f" --postfix-config {facts.directory}"
        yield f"The way back, octet by octet: smtpguard init --undo{options}"
        yield "or by hand:"
    else:
        yield "The way back:"
    yield from ("  " + command for command in way_back(made, facts.directory))


_ALWAYS: Final = (
    "Local delivery, transport maps and relay_transport (relay_domains) are not touched: their mail does not pass "
    "smtpguard. relayhost stays: relay_transport and probes use it.",
    "address_verify_default_transport keeps recipient probes where they were; the LMTP door would say yes to all.",
    "While smtpguard is down, mail waits in Postfix's queue. smtp_fallback_relay is no bypass here: it is the SMTP "
    "client's, and lmtp_fallback_relay wants an LMTP server. The bypass is the way back.",
    "mynetworks stays Postfix's business: smtpguard hears only whom listen.allow names, this machine by default.",
    "More at once: raise smtpguard_destination_concurrency_limit and next_hop.default.connections together.",
)
