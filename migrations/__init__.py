"""Alembic migrations, the only authority on the schema. They import no live code."""
