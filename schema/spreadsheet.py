"""Spreadsheets: CSV that a spreadsheet program shows and does not run."""

from __future__ import annotations

from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(value: Any) -> Any:
    """A value as a cell: a text that a spreadsheet would take for a formula is quoted by an apostrophe, as they do it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
