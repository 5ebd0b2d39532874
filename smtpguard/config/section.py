"""What a table of the file is made of: its keys with type, default and doc, and the types that values are written in.

`settings.py`, `lint_settings.py` and `policy_settings.py` declare the tables with it. Durations are seconds, sizes
octets, lists tuples. A default stands as it would be written in the file; "" means none or off.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from smtpguard.config import values
from smtpguard.config.values import ListenAddress, Network

KeyPath = tuple[str | int, ...]  # ("next_hop", "default", "tls"), ("route", 0, "next_hop")

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Duration = Annotated[float, BeforeValidator(values.duration)]
Pause = Annotated[Duration, Field(ge=0.001)]  # a duration that 0 would make senseless
Size = Annotated[int, Field(ge=1), BeforeValidator(values.size)]
Mode = Annotated[int, BeforeValidator(values.mode)]
Listen = Annotated[tuple[ListenAddress, ...], BeforeValidator(values.listen_addresses)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(values.networks)]
Hosts = Annotated[tuple[str, ...], BeforeValidator(values.hosts)]
Ips = Annotated[tuple[IPv4Address | IPv6Address, ...], BeforeValidator(values.public_addresses)]
Names = Annotated[tuple[str, ...], BeforeValidator(values.names)]
Servers = Annotated[tuple[str, ...], BeforeValidator(values.name_servers)]
Domains = Annotated[tuple[str, ...], BeforeValidator(values.domains)]
Keywords = Annotated[tuple[str, ...], BeforeValidator(values.keywords)]
HostName = Annotated[str, BeforeValidator(values.host_name)]
Line = Annotated[str, BeforeValidator(values.line)]
File = Annotated[str, BeforeValidator(values.file)]
Files = Annotated[tuple[str, ...], BeforeValidator(values.files)]
Tls = Literal["none", "opportunistic", "required", "implicit"]


def key(
    default: object,
    doc: str,
    *,
    given: Callable[[dict[str, Any]], object] | None = None,
    restart: bool = False,
    named: str | None = None,
) -> Any:
    """A key: its default as written in TOML, and its doc (one line).

    `given` computes the default from the keys above it; `default` is then only what the sample shows.
    `restart`: a change needs a restart. `named`: its name in the file, where Python has that word.
    """
    notes: dict[str, Any] = {"shown": default, "restart": restart}
    if given is not None:
        return Field(default_factory=given, description=doc, json_schema_extra=notes, alias=named)
    return Field(default=default, description=doc, json_schema_extra=notes, alias=named)


def section(
    make: Callable[[], object], doc: str, *, restart: bool = False, inline: bool = False, named: str | None = None
) -> Any:
    """A table of keys with its doc. `restart`, `named`: as in `key`. `inline`: the sample has it on one line."""
    notes: dict[str, Any] = {"restart": restart, "inline": inline}
    return Field(default_factory=make, description=doc, json_schema_extra=notes, alias=named)


def internal() -> Any:
    """Not a key of the file: filled in by `load`."""
    return Field(default=None, exclude=True, repr=False)


class Section(BaseModel):
    """A table of the file: frozen, no unknown keys, no conversion but the written ones, no values in errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, hide_input_in_errors=True
    )


def tables(value: object) -> object:
    """TOML gives arrays of tables as lists; strict tuples take no list."""
    return tuple(value) if isinstance(value, list) else value


def keys(model: type[Section]) -> dict[str, FieldInfo]:
    """The keys that a table of the file may have, by their names there."""
    return {field.alias or name: field for name, field in model.model_fields.items() if not field.exclude}


def field_in(model: type[Section], name: str) -> FieldInfo | None:
    """The field of a name in the file, the internal ones too."""
    return keys(model).get(name) or model.model_fields.get(name)


def extra(field: FieldInfo) -> dict[str, Any]:
    """What `key` and `section` noted of a field."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def table_of(annotation: object) -> type[Section] | None:
    """The table behind a field: itself, or the one of its dict or list."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    if get_origin(annotation) in (dict, tuple):
        return next((found for found in map(table_of, get_args(annotation)) if found), None)
    return None
