"""The one error tree. Every message says what is wrong and what to do about it."""

from __future__ import annotations


class NearshotError(Exception):
    """Base of every error that a user can meet; `exit_status` is what the command line exits with."""

    exit_status = 1


class ImageError(NearshotError):
    """An image that cannot be read or decoded; its message is the reason alone."""


class StoreError(NearshotError):
    """The store cannot be opened, read or written."""


class StoreBusyError(StoreError):
    """Another process is writing to the store."""


class IndexingError(NearshotError):
    """An index run that cannot go on."""


class WeightsError(NearshotError):
    """A backbone's weights are missing or cannot be used."""

    exit_status = 2


class UsageError(NearshotError):
    """A request that makes no sense as it stands: a wrong path, name or option."""

    exit_status = 2
