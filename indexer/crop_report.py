"""The report of a cropping run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nearshot.indexer.report import Failure
from nearshot.schema.contract import Breach


@dataclass(slots=True)
class CropReport:
    """Result of a cropping run (for a dry run, what it would do).

    `cropped` pictures were looked at, `empty` of them showed nothing that was wanted; `unchanged` had been looked at before.
    `written` crops were cut, `deleted` ones replaced, or taken along by pictures that are gone (`gone`). Of `stale` pictures,
    which have changed, crops for something else than this run's are still of what they showed before.
    """

    cropped: int = 0
    empty: int = 0
    unchanged: int = 0
    gone: int = 0
    written: int = 0
    deleted: int = 0
    stale: int = 0
    failures: list[Failure] = field(default_factory=list)
    breaches: Sequence[Breach] = ()
    previews: list[str] = field(default_factory=list)
    interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """The object that `crop --json` prints."""
        return {
            **{
                name: getattr(self, name)
                for name in ("cropped", "empty", "unchanged", "gone", "written", "deleted", "stale")
            },
            "failed": len(self.failures),
            "failures": [{"path": failure.path, "reason": failure.reason} for failure in self.failures],
            "outside_contract": [
                {"path": breach.path, "rule": breach.rule, "files": breach.files} for breach in self.breaches
            ],
            "previews": self.previews,
            "interrupted": self.interrupted,
        }
