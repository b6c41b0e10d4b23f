"""A store's location: its directory, or the address of a PostgreSQL database. Imports nothing heavy."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypeAlias

Location: TypeAlias = Path | str
"""A directory; or an address, as libpq has it: `postgresql://USER@HOST/DATABASE`."""

ADDRESSES = ("postgresql://", "postgres://")

SHOWN = {"host", "port", "dbname", "user", "service", "sslmode", "target_session_attrs", "connect_timeout", "options"}
"""Parameters of an address that people are told; of the others some are secrets."""


def is_address(location: object) -> bool:
    """Tell whether a location is the address of a PostgreSQL database, and no directory."""
    return isinstance(location, str) and location.startswith(ADDRESSES)


def location_of(named: str | os.PathLike[str]) -> Location:
    """The location that somebody named."""
    return named if isinstance(named, str) and is_address(named) else Path(named)


def shown_location(location: Location) -> str:
    """A location as people are told it: an address without its password, whatever is odd about it."""
    if not is_address(location):
        return str(location)
    scheme, _, rest = str(location).partition("://")
    authority, after = re.match(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    if "@" in after:  # which may end a password that is not percent-encoded
        return f"{scheme}://..."
    who, at, where = authority.rpartition("@")
    path, question, parameters = after.partition("?")
    shown = "&".join(each for each in parameters.split("&") if each.partition("=")[0] in SHOWN)
    return f"{scheme}://{who.partition(':')[0]}{at}{where}{path}{question if shown else ''}{shown}"
