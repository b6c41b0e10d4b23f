"""Alembic's entry: upgrades the connection that the database handed over, inside the transaction it opened."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
