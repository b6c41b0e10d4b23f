"""Listed labels: true labels of queries by labels.csv and by their own paths."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import replace

from nearshot.schema.contract import LABELS_FILE, QUERY_DIRECTORY, Breach, true_label
from nearshot.schema.errors import AwayError
from nearshot.schema.images import UNKNOWN, FoundImage
from nearshot.schema.vocabulary import Role

NOT_A_ROW = "a row is path,label, the path that of a query, relative to the file's directory"


class ListedLabels:
    """True labels from labels.csv beside or in 6.preprocessed/; a row that names no query or no label is a breach."""

    def __init__(self, read: Callable[[str], bytes], category: str) -> None:
        """Take what reads a file of the data directory by its path in it; OSError where it cannot."""
        self._rows: dict[str, list[tuple[str, int, str]]] = {}
        self._breaches: list[tuple[str, int, str]] = []
        for directory in (category, f"{category}/{QUERY_DIRECTORY}"):
            relative = f"{directory}/{LABELS_FILE}"
            try:
                rows = list(csv.reader(io.StringIO(read(relative).decode("utf-8-sig"), newline="")))
            except FileNotFoundError:
                continue
            except AwayError:  # else every label that it lists would be taken back
                raise
            except (OSError, ValueError, csv.Error) as error:
                self._breaches.append((relative, 0, f"cannot be read: {error}"))
                continue
            for number, row in enumerate(rows, start=1):
                if not row or (number == 1 and [cell.strip().lower() for cell in row] == ["path", "label"]):
                    continue
                if len(row) != 2:
                    self._breaches.append((relative, number, NOT_A_ROW))
                else:
                    line = (relative, number, row[1].strip())
                    self._rows.setdefault(f"{directory}/{row[0].strip()}", []).append(line)

    def given_to(self, images: Iterator[FoundImage]) -> Iterator[FoundImage]:
        """The images of the category, shots before queries, and these with their true labels."""
        labels: set[str] = set()
        for image in images:
            if image.role == Role.SUPPORT:
                if image.label and not image.failure:
                    labels.add(image.label)
                yield image
            else:
                label = self._take(image.path, labels)
                label = true_label(image.path.split("/"), labels) or label
                yield image if label == image.label else replace(image, label=label)

    def _take(self, path: str, labels: set[str]) -> str | None:
        """The label that is listed for a query, the last one where there are several."""
        label = None
        for relative, number, listed in self._rows.pop(path, ()):
            if listed in labels or listed == UNKNOWN:
                label = listed
            else:
                rule = f"'{listed}' is neither a label of the support set nor {UNKNOWN}"
                self._breaches.append((relative, number, rule))
        return label

    def breaches(self) -> list[Breach]:
        """What was wrong, in the order of the lines, when every query has been taken."""
        unknown = [(relative, number, NOT_A_ROW) for rows in self._rows.values() for relative, number, _ in rows]
        return [
            Breach(f"{relative} line {number}" if number else relative, rule, files=0 if number else 1)
            for relative, number, rule in sorted([*self._breaches, *unknown])
        ]
