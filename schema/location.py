"""A store's location: its directory, or the address of a PostgreSQL database. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

Location: TypeAlias = Path | str
"""A directory; or an address, as libpq has it: `postgresql://USER@HOST/DATABASE`."""

ADDRESSES = ("postgresql://", "postgres://")

SECRETS = ("password=", "sslpassword=")
"""Parameters of an address that are shown to nobody."""


def is_address(location: object) -> bool:
    """Tell whether a location is the address of a PostgreSQL database, and no directory."""
    return isinstance(location, str) and location.startswith(ADDRESSES)


def location_of(named: str | os.PathLike[str]) -> Location:
    """The location that somebody named."""
    return named if isinstance(named, str) and is_address(named) else Path(named)


def place(location: Location) -> str:
    """A location as people are told it: an address without its password."""
    if not is_address(location):
        return str(location)
    parts = urlsplit(str(location))
    who, at, where = parts.netloc.rpartition("@")
    shown = "&".join(part for part in parts.query.split("&") if part and not part.startswith(SECRETS))
    return urlunsplit(parts._replace(netloc=f"{who.partition(':')[0]}{at}{where}", query=shown))
