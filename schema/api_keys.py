"""API keys in the database: who may ask the services over a store."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select

from nearshot.schema import tables
from nearshot.schema.catalog import Catalog
from nearshot.schema.editor import Editor

ApiKeyRow = tuple[str, str, str, str]
"""A key: its name, the SHA-256 of its secret, its scopes with spaces between them, and when it was made."""

api_keys = tables.api_keys.c


def api_key_rows(catalog: Catalog) -> list[ApiKeyRow]:
    """All keys, in the order of their names."""
    query = select(api_keys.name, api_keys.sha256, api_keys.scopes, api_keys.created).order_by(api_keys.name)
    return [(row.name, row.sha256, row.scopes, row.created) for row in catalog.connection.execute(query)]


def put_api_keys(editor: Editor, rows: Sequence[ApiKeyRow]) -> None:
    """Record these keys in the place of all that there are."""
    editor.connection.execute(delete(tables.api_keys))
    if rows:
        names = ("name", "sha256", "scopes", "created")
        editor.connection.execute(insert(tables.api_keys), [dict(zip(names, row, strict=True)) for row in rows])
