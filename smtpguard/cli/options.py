"""The options that every command has, and what they come to. They stand before the command or after it; after it wins.

    @app.command()
    def serve(context: typer.Context, config: Config = None, as_json: Json = False) -> None:
        common = common_options(context, config, as_json, False, 0, 0)

`--help` must be instant: this file imports typer and nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Annotated, Final

import typer

EXIT_FINE: Final = 0
EXIT_FOUND: Final = 1
EXIT_USAGE: Final = 2
EXIT_TEMPORARY: Final = 75


@dataclass(frozen=True, slots=True)
class Common:
    """What the common options say. `loud`: 1 and more for -v, -1 and less for -q."""

    config: Path | None = None
    as_json: bool = False
    no_color: bool = False
    loud: int = 0

    def color(self, stream: IO[str], environ: Mapping[str, str]) -> bool:
        """Whether to colour a stream: a terminal that can, and nobody said no (https://no-color.org)."""
        refused = self.no_color or bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
        return stream.isatty() and not refused


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Settings; else $SMTPGUARD_CONFIG, ./smtpguard.toml, /etc/smtpguard/smtpguard.toml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="Never colour; $NO_COLOR says the same.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Say more.")]
Quiet = Annotated[int, typer.Option("--quiet", "-q", count=True, show_default=False, help="Say less.")]


def common_options(
    context: typer.Context, config: Path | None, as_json: bool, no_color: bool, verbose: int, quiet: int
) -> Common:
    """What stood before the command, with what stands after it laid over."""
    before = context.obj if isinstance(context.obj, Common) else Common()
    return replace(
        before,
        config=config or before.config,
        as_json=as_json or before.as_json,
        no_color=no_color or before.no_color,
        loud=before.loud + verbose - quiet,
    )
