"""Texts: many of them in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, cast, overload

Text = TypeVar("Text", bound="str | None")

NONE = b"\xff"
"""What stands for None: no text is encoded so."""


class Texts(Sequence[Text], Generic[Text]):
    """A sequence of texts (or None) that holds their UTF-8, one after the other: a million SHA-256 take 72 MB, where Python's
    own take 121. What is read from it is made anew each time.
    """

    def __init__(self) -> None:
        self._encoded, self._ends = bytearray(), array("q", [0])

    def append(self, text: Text) -> None:
        """Put a text at the end."""
        self._encoded += NONE if text is None else text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._encoded))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Text: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Text]: ...

    def __getitem__(self, index: int | slice) -> Text | Sequence[Text]:
        if isinstance(index, slice):
            return tuple(self[position] for position in range(*index.indices(len(self))))
        position = range(len(self))[index]
        return self._decoded(self._ends[position], self._ends[position + 1])

    def __iter__(self) -> Iterator[Text]:
        start = 0
        for end in self._ends[1:]:
            yield self._decoded(start, end)
            start = end

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return self._ends == other._ends and self._encoded == other._encoded
        return (
            isinstance(other, tuple)
            and len(self) == len(other)
            and all(a == b for a, b in zip(self, other, strict=True))
        )

    def __repr__(self) -> str:
        return f"Texts({len(self):,})"

    def _decoded(self, start: int, end: int) -> Text:
        encoded = self._encoded[start:end]
        return cast(Text, None if encoded == NONE else encoded.decode("utf-8", "surrogatepass"))
