"""API keys in the database: who may ask the services over a store."""

from __future__ import annotations

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


def put_api_key(editor: Editor, row: ApiKeyRow) -> None:
    """Record a key, whose name is not taken."""
    editor.connection.execute(
        insert(tables.api_keys).values(dict(zip(("name", "sha256", "scopes", "created"), row, strict=True)))
    )


def drop_api_key(editor: Editor, name: str) -> bool:
    """Forget a key; False where there is none of the name."""
    return editor.connection.execute(delete(tables.api_keys).where(api_keys.name == name)).rowcount > 0
