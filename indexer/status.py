"""Status: what a store holds, what it lacks, and how far it lies behind the disk. Reads, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nearshot.backbones.limits import MAX_PIXELS
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.report import Failure
from nearshot.indexer.run import dry_run
from nearshot.schema.ann import AnnState, ann_states
from nearshot.schema.catalog import BackboneRow, Catalog, RunRow
from nearshot.schema.errors import AwayError, UsageError
from nearshot.schema.mirrors import mirror_rows
from nearshot.schema.paths import path_of
from nearshot.schema.segments import segment_rows, touched, touched_by_category
from nearshot.schema.store import Store
from nearshot.schema.vector_bytes import vector_kind
from nearshot.schema.vocabulary import Role, VectorKind
from nearshot.schema.watches import Lapse, lapses


@dataclass(frozen=True, slots=True)
class RootState:
    """A data directory against the disk: what `index` would find; None for what was not looked at.

    `there` is False where the directory is not, and None with a `reason` where nobody can tell.
    """

    path: str
    there: bool | None = None
    new: int | None = None
    changed: int | None = None
    moved: int | None = None
    removed: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class BackboneState:
    """A backbone's vectors for one category and role.

    `lacking` usable images were not dealt with yet, `failed` gave no usable vector; `behind` counts the images changed
    since the newest segment, which queries take from the rows. None: no segment yet.
    """

    vectors: int
    lacking: int
    failed: int
    behind: int | None


@dataclass(frozen=True, slots=True)
class CategoryState:
    """A category's images of one role, and its vectors by backbone's name."""

    category: str
    role: str
    images: int
    failed: int
    labels: int
    shots: int
    backbones: dict[str, BackboneState]


@dataclass(frozen=True, slots=True)
class MirrorState:
    """A mirror of a backbone's vectors of a role in an engine: how many it holds, and how many images changed since, which
    queries take from the rows; None before it was finished.
    """

    engine: str
    backbone: str
    role: str
    vectors: int
    behind: int | None

    def in_words(self) -> str:
        """Say what it is of, and how far behind."""
        late = f"images changed since: {self.behind:,}" if self.behind else "nothing has changed since"
        state = "not finished" if self.behind is None else late
        return f"{self.backbone}: mirror of {self.vectors:,} {self.role} images in {self.engine}, as recorded; {state}"


@dataclass(frozen=True, slots=True)
class Status:
    """All of it."""

    store: str
    revision: int
    roots: list[RootState]
    backbones: list[BackboneRow]
    categories: list[CategoryState]
    vectors: VectorKind
    anns: list[AnnState]
    mirrors: list[MirrorState]
    failures: list[Failure]
    lapses: list[Lapse]
    last_run: RunRow | None

    def as_json(self) -> dict[str, Any]:
        """The object that `status --json` prints."""
        hidden = {"id", "signature"}
        run = self.last_run._asdict() if self.last_run else None
        if run:
            run["report"] = json.loads(run["report"]) if run["report"] else None
            run["arguments"] = json.loads(run["arguments"])
        return {
            "store": self.store,
            "revision": self.revision,
            "roots": [asdict(root) for root in self.roots],
            "backbones": [
                {name: value for name, value in row._asdict().items() if name not in hidden} for row in self.backbones
            ],
            "categories": [asdict(category) for category in self.categories],
            "vectors": self.vectors,
            "ann": [ann._asdict() for ann in self.anns],
            "mirrors": [asdict(mirror) for mirror in self.mirrors],
            "failures": [asdict(failure) for failure in self.failures],
            "lapses": [lapse._asdict() for lapse in self.lapses],
            "last_run": run,
        }


def read_status(store: Store) -> Status:
    """Take stock of a store and of the data directories it was made from."""
    return replace(read_held(store), roots=look_at_roots(store))


def read_held(store: Store) -> Status:
    """Take stock of a store, and look at no data directory."""
    with store.reading() as catalog:
        backbones = catalog.backbones()
        states = {row.name: _backbone_states(catalog, row, has_segments=store.has_segments) for row in backbones}
        categories = [
            CategoryState(
                *count,
                backbones={name: state for name in states if (state := states[name].get((count.category, count.role)))},
            )
            for count in catalog.count_images()
        ]
        roots = [RootState(path) for path in _roots(catalog)]
        failures = [Failure(path, reason) for path, reason in catalog.failures()]
        anns = [ann for row in backbones for ann in ann_states(catalog, row)]
        revision, last_run, lapsed = catalog.revision(), catalog.last_run(), lapses(catalog)
        kind = vector_kind(catalog)
        mirrors = _mirror_states(catalog, backbones)
    return Status(
        store.shown_location, revision, roots, backbones, categories, kind, anns, mirrors, failures, lapsed, last_run
    )


def _mirror_states(catalog: Catalog, backbones: Sequence[BackboneRow]) -> list[MirrorState]:
    known = {row.id: row for row in backbones}
    return [
        MirrorState(
            row.engine,
            known[row.backbone_id].name,
            row.role,
            row.vectors,
            None if row.is_unfinished else len(touched(catalog, known[row.backbone_id], Role(row.role), row.revision)),
        )
        for row in mirror_rows(catalog)
        if row.backbone_id in known
    ]


def look_at_roots(store: Store) -> list[RootState]:
    """Look at the data directories that a store was made from: at every file of theirs."""
    with store.reading() as catalog:
        roots, last_run = _roots(catalog), catalog.last_run()
    # A failure under another cap on pixels counts as new, and a link that was followed as there; so look as the last run did.
    as_before = json.loads(last_run.arguments) if last_run else {}
    options = IndexOptions(
        max_pixels=as_before.get("max_pixels", MAX_PIXELS), follow_links=as_before.get("follow_links", False)
    )
    return [_root_state(store, root, options) for root in roots]


def _roots(catalog: Catalog) -> list[str]:
    return [path for root_id, path in catalog.roots().items() if catalog.has_images(root_id)]


def _backbone_states(catalog: Catalog, row: BackboneRow, *, has_segments: bool) -> dict[tuple[str, str], BackboneState]:
    chains = segment_rows(catalog, row.id)
    newer = {
        role: touched_by_category(catalog, row, role, chains[row.id, role][-1].revision)
        for role in Role
        if (row.id, role) in chains
    }
    states = {}
    for count in catalog.count_vectors_by_category(row.id):
        role = Role(count.role)
        behind = len(newer[role].get(count.category, [])) if role in newer else None if has_segments else 0
        states[count.category, count.role] = BackboneState(count.vectors, count.lacking, count.failed, behind)
    return states


def _root_state(store: Store, root: str, options: IndexOptions) -> RootState:
    try:
        report = dry_run(store, path_of(root), options)
    except AwayError as error:
        return RootState(root, reason=str(error.strerror))
    except UsageError:
        return RootState(root, False, 0, 0, 0, 0)
    return RootState(root, True, report.added, report.changed, report.moved, report.removed)
