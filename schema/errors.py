"""The one error tree. Every message says what is wrong and what to do about it.

    NearshotError
      ImageError         an image that cannot be read or decoded
      AwayError          a store of objects does not answer, or lets nobody in
      StoreError         the store cannot be opened, read or written
        StoreBusyError   another process is writing to it
        UnreachableError its database does not answer, for now
        OutdatedError    it has changed since what is asked was opened
      IndexingError      an index run that cannot go on
      WeightsError       a backbone's weights are missing or cannot be used
      UsageError         a request that makes no sense: a wrong path, name or option
      ServiceError       a service that does not answer, or cannot
      FullError          a service that has no room for more just now

Messages name options by `option`, and whoever shows them says what these are called there: `told`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_MARK = "\x1f"
_OPTION = re.compile(f"{_MARK}(\\w+){_MARK}")


def option(name: str) -> str:
    """An option within a message, by its name in the library: `max_pixels` becomes `--max-pixels` on the command line."""
    return f"{_MARK}{name}{_MARK}"


class NearshotError(Exception):
    """Base of every error that a user can meet; `exit_status` is what the command line exits with."""

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        """Take a message, in which options stand as `option` writes them; as text they have their library's names."""
        self._message = message
        super().__init__(self.told(str))

    def told(self, call: Callable[[str], str]) -> str:
        """The message with each option called what `call` makes of its name."""
        return _OPTION.sub(lambda match: call(match[1]), self._message)


class ImageError(NearshotError):
    """An image that cannot be read or decoded; its message is the reason alone."""


class AwayError(NearshotError, OSError):
    """A store of objects does not answer, for now, or does not let us in: nothing is known of what it has.

    It is an OSError, too: what cannot be read for it is passed over as any file is that cannot.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} cannot be reached: {reason}")
        self.strerror = reason


class StoreError(NearshotError):
    """The store cannot be opened, read or written."""


class StoreBusyError(StoreError):
    """Another process is writing to the store."""


class UnreachableError(StoreError):
    """The store's database does not answer, for now."""


class OutdatedError(StoreError):
    """The store has changed since what is asked was opened; whoever opened it opens it anew."""


class IndexingError(NearshotError):
    """An index run that cannot go on."""


class WeightsError(NearshotError):
    """A backbone's weights are missing or cannot be used."""

    exit_status = 2


class UsageError(NearshotError):
    """A request that makes no sense as it stands: a wrong path, name or option."""

    exit_status = 2


class DecidedError(UsageError):
    """Something was said of an image that has been decided already: made a shot, or rejected."""


class ServiceError(NearshotError):
    """A service that does not answer, or cannot."""


class FullError(NearshotError):
    """A service that has no room for more just now, or is about to end."""
