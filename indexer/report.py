"""The report of an index run: how many images, what became of them, and what the user should know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nearshot.schema.ann import AnnState
from nearshot.schema.contract import Breach


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be used, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class BackboneCount:
    """Vectors computed in this run, vectors of images that were there already, and contents that gave no usable vector."""

    embedded: int = 0
    reused: int = 0
    failed: int = 0


@dataclass(slots=True)
class Report:
    """Result of an index run (for a dry run, what it would do). Every image in the contract is counted in exactly one field.

    `captions_taken` counts the captions by hand that were taken from text files beside images. `uncompiled` are the backbones
    that torch encoded with on a CPU, and that `nearshot backbones compile` can make faster. `ann` are the approximate
    indexes that were built, `ann_there` how many there are. `left_behind` counts, for a backbone that has changed, the images
    of categories that the run leaves out: they have vectors by the former one only.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    failures: list[Failure] = field(default_factory=list)
    breaches: Sequence[Breach] = ()
    backbones: dict[str, BackboneCount] = field(default_factory=dict)
    skipped_backbones: dict[str, str] = field(default_factory=dict)
    left_behind: dict[str, int] = field(default_factory=dict)
    uncompiled: list[str] = field(default_factory=list)
    captions_taken: int = 0
    ann: Sequence[AnnState] = ()
    ann_there: int = 0
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        """Number of images that could not be used, those of earlier runs that have not changed included."""
        return len(self.failures)

    @property
    def indexed(self) -> int:
        """Number of images that are indexed now."""
        return self.added + self.changed + self.moved + self.unchanged

    @property
    def outside_contract(self) -> int:
        """Number of files that lie outside the directory contract."""
        return sum(breach.files for breach in self.breaches)

    def as_json(self) -> dict[str, Any]:
        """The object that `index --json` ends with."""
        counts = ("added", "changed", "moved", "removed", "unchanged", "failed", "outside_contract")
        return {
            **{name: getattr(self, name) for name in counts},
            "backbones": {
                name: {"embedded": count.embedded, "reused": count.reused, "failed": count.failed}
                for name, count in self.backbones.items()
            },
            "skipped_backbones": self.skipped_backbones,
            "left_behind": self.left_behind,
            "uncompiled": self.uncompiled,
            "captions_taken": self.captions_taken,
            "ann": [each._asdict() for each in self.ann],
            "ann_there": self.ann_there,
            "failures": [{"path": failure.path, "reason": failure.reason} for failure in self.failures],
            "outside": [{"path": breach.path, "rule": breach.rule, "files": breach.files} for breach in self.breaches],
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
        }
