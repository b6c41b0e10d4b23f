"""The index run: brings a store up to date with a data directory, one small transaction at a time."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from types import MappingProxyType

from nearshot.backbones.memory_budget import allow
from nearshot.backbones.protocol import Backbone
from nearshot.backbones.spec import canonical_name, parts_of
from nearshot.indexer.commit import Committer
from nearshot.indexer.compare import Changes
from nearshot.indexer.discover import Discovery
from nearshot.indexer.embed import Batch, Embedded
from nearshot.indexer.embedding_here import EmbeddingHere
from nearshot.indexer.embedding_on_ray import EmbeddingOnRay
from nearshot.indexer.find_changes import all_new, find_changes
from nearshot.indexer.intents import finish_intents
from nearshot.indexer.load import CANNOT_BE_READ, Skipped
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.report import BackboneCount, Failure, Report
from nearshot.indexer.run_backbones import RunBackbones, select_backbones
from nearshot.indexer.sample_words import encoded_words
from nearshot.indexer.sidecars import take_up
from nearshot.indexer.tasks import Task, changed_tasks, lacking_tasks
from nearshot.schema.ann import ann_states, choose_ann
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.errors import IndexingError, StoreError, UsageError, option
from nearshot.schema.images import FoundImage, KnownImage
from nearshot.schema.known_images import known_images, sizes_and_hashes
from nearshot.schema.paths import AnyPath, is_gone, is_object, named, resolved, sha256_of
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vector_bytes import vector_kind
from nearshot.schema.vectors import choose_float16
from nearshot.schema.vocabulary import Ann, VectorKind
from nearshot.vectors.ann_indexes import write_ann_indexes
from nearshot.vectors.fused import fuse
from nearshot.vectors.segments import write_segments

log = logging.getLogger(__name__)


SILENT = 20
"""Files in a store of objects that cannot be read one after the other, before a run takes it that none can: each may have cost
seconds."""

Content = tuple[int, str]
"""A file's bytes by their number and SHA-256."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run, in files that must be read; `failed` images could not be used."""

    done: int
    total: int
    failed: int


class IndexRun:
    """One index run. Iterate over it to make it go; `report` is complete when the iteration ends.

    A batch's images and vectors are committed together: whenever the process dies, what was committed is whole, and the
    next run goes on from there. `should_stop` is asked between files; when it says yes, what is in hand is committed.
    Backbones that are loaded already can be given as `ready`, by name.
    """

    def __init__(
        self,
        store: Store,
        root: AnyPath,
        options: IndexOptions,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        ready: Mapping[str, Backbone] = MappingProxyType({}),
    ) -> None:
        self.report = Report()
        self._store = store
        self._root = resolved(root)
        self._options = options
        self._should_stop = should_stop
        self._ready = ready

    def __iter__(self) -> Iterator[Progress]:
        """Run, yielding after every batch. Raises UsageError, WeightsError, StoreBusyError and StoreError."""
        started = time.monotonic()
        allow(self._options.max_pixels)
        with self._store.held(f"nearshot index {self._root}", named(self._root)):
            finish_intents(self._store, indexing=True)
            with self._store.reading() as catalog:
                as_of = catalog.revision()
            discovery = Discovery(self._root, self._options.categories, follow_links=self._options.follow_links)
            self._refuse_what_needs_segments()
            selection = select_backbones(self._store, self._options, self._ready)
            self._choose_vectors()
            run_facts = {"started": utc_now(), "version": version("nearshot")}
            with self._store.writing() as editor:
                root_id = editor.add_root(named(self._root))
                run_id = editor.begin_run(root_id, arguments=self._options.as_json(), **run_facts)
            outcome = "failed"
            try:
                yield from self._run(discovery, as_of, root_id, selection)
                outcome = "interrupted" if self.report.interrupted else "finished"
            finally:
                self.report.seconds = time.monotonic() - started
                with self._store.writing() as editor:
                    editor.end_run(run_id, finished=utc_now(), outcome=outcome, report=self.report.as_json())

    def _run(self, discovery: Discovery, as_of: int, root_id: int, selection: RunBackbones) -> Iterator[Progress]:
        report = self.report
        report.skipped_backbones = selection.skipped
        report.backbones = {name: BackboneCount() for name in selection.names}
        committer = Committer(self._store, root_id, report, decoder=self._options.decoder, as_of=as_of)
        with self._store.reading() as catalog:
            changes = find_changes(
                discovery, catalog, root_id, self._options.categories, decoder=self._options.decoder, as_of=as_of
            )
        report.breaches = discovery.breaches
        if changes.found:
            selection.identify()
        committer.commit_returned(changes)
        with self._store.reading() as catalog:
            committer.expect_moves(
                changes.gone, elsewhere=_moved_away(catalog, root_id) if changes.new or changes.touched else ()
            )
            incomplete = lacking_tasks(catalog, selection.rows.values(), changes, root_id, discovery.categories)
        again = sum(task.known is None for task in incomplete)  # returned, but to be read all the same: counted then
        report.added -= again
        report.unchanged = len(changes.unchanged) + len(changes.hidden) - (len(incomplete) - again)
        committer.commit_discovered(changes)
        if tasks := [*changed_tasks(changes), *incomplete]:
            # Where no more files came than went, they may all have moved: then no model is needed, nor loaded.
            must_load = len(incomplete) > 0 or len(tasks) > len(changes.gone)
            yield from self._read(tasks, committer, selection, must_load=must_load)
        report.uncompiled = selection.uncompiled
        if not report.interrupted:
            committer.commit_removals()
        report.captions_taken, unusable = take_up(self._store, self._root, root_id, discovery)
        report.breaches = [*discovery.breaches, *unusable]
        rows = selection.rows | self._fuse()
        if self._options.ann is not None:
            with self._store.writing() as editor:
                for row in rows.values():
                    choose_ann(editor, row.id, self._options.ann)
        self._write_segments(rows)
        report.ann = write_ann_indexes(
            self._store,
            rows.values(),
            words=lambda row: encoded_words(self._store, selection, row),
            should_stop=self._should_stop,
        )
        with self._store.reading() as catalog:
            report.ann_there = sum(len(ann_states(catalog, row)) for row in rows.values())
            for name, row in rows.items():
                count = report.backbones[name]
                there = catalog.count_vectors(row.id, root_id, discovery.categories)
                count.reused = max(0, there - count.embedded)

    def _refuse_what_needs_segments(self) -> None:
        if self._store.has_segments:
            return
        for name, chosen in (("vectors", VectorKind.FLOAT16), ("ann", Ann.HNSW), ("ann", Ann.IVF)):
            if getattr(self._options, name) == chosen:
                raise UsageError(
                    f"{option(name)} {chosen} is for a store in a directory: it is kept in segments, "
                    "and in PostgreSQL there are none"
                )

    def _choose_vectors(self) -> None:
        """Keep vectors as it was chosen, now and in later runs."""
        if self._options.vectors is None:
            return
        with self._store.writing() as editor:
            once = vector_kind(editor) == VectorKind.FLOAT16
            if once and self._options.vectors == VectorKind.FLOAT32:
                raise UsageError(
                    f"the vectors of this store are rounded to float16, and {option('vectors')} float32 cannot bring back "
                    f"what they were; index into another store ({option('store')})"
                )
            if not once and self._options.vectors == VectorKind.FLOAT16:
                choose_float16(editor)

    def _write_segments(self, rows: Mapping[str, BackboneRow]) -> None:
        """Bring segments up to date: where vectors are kept once, of former backbones too, as far as these are whole."""
        write_segments(self._store, rows.values())
        with self._store.reading() as catalog:
            once = vector_kind(catalog) == VectorKind.FLOAT16
            written = {row.id for row in rows.values()}
            others = [row for row in catalog.all_backbones() if row.id not in written] if once else []
        for row in others:
            try:
                write_segments(self._store, [row])
            except StoreError as error:
                log.warning("%s, which this run does not use, stays as it was: %s", row.name, error)

    def _read(
        self, tasks: Sequence[Task], committer: Committer, selection: RunBackbones, *, must_load: bool
    ) -> Iterator[Progress]:
        """Load, embed and commit batch after batch; write segments now and then."""
        if must_load:
            selection.load()
        self.report.left_behind = self._left_behind(selection)
        yield Progress(0, len(tasks), self.report.failed)
        backbone_ids = {name: row.id for name, row in selection.rows.items()}
        done = unsaved = silent = 0
        with closing(self._embedded(tasks, selection, must_load=must_load)) as batches:
            for batch, embedded in batches:
                silent = _silent_after(batch, silent)
                if is_object(self._root) and silent >= SILENT:
                    raise IndexingError(
                        f"{self._root} does not answer: {silent} files could not be read, one after the other; "
                        "run the same command again when it does"
                    )
                committer.commit_batch(batch, embedded, backbone_ids)
                done += len(batch)
                unsaved += len(batch)
                if unsaved >= self._options.segment_interval:
                    write_segments(self._store, selection.rows.values())
                    unsaved = 0
                yield Progress(done, len(tasks), self.report.failed)

    def _embedded(
        self, tasks: Sequence[Task], selection: RunBackbones, *, must_load: bool
    ) -> Generator[tuple[Batch, Embedded], None, None]:
        """Batches with their vectors, from here or from the nodes of a cluster, until somebody wishes to stop."""
        here = (self._store, self._root, self._options, selection)
        if self._options.ray is not None and must_load:
            left = len(tasks)
            for batch, embedded in EmbeddingOnRay(*here, self._should_stop).embedded(tasks):
                left -= len(batch)
                yield batch, embedded
            self.report.interrupted = left > 0
        else:
            yield from EmbeddingHere(*here).embedded(self._until_stopped(tasks), len(tasks) if must_load else 0)

    def _left_behind(self, selection: RunBackbones) -> dict[str, int]:
        """For each backbone that has changed, the images that have vectors by the former one and are left out of this run."""
        chosen = self._options.categories
        if not chosen:
            return {}
        with self._store.reading() as catalog:
            every = catalog.all_backbones()
            behind = {
                name: sum(
                    count.lacking for count in catalog.count_vectors_by_category(row.id) if count.category not in chosen
                )
                for name, row in selection.rows.items()
                if any(other.name == name and other.id != row.id for other in every)
            }
        return {name: number for name, number in behind.items() if number}

    def _until_stopped(self, tasks: Iterable[Task]) -> Iterator[Task]:
        for task in tasks:
            if self._should_stop():
                self.report.interrupted = True
                return
            yield task

    def _fuse(self) -> dict[str, BackboneRow]:
        """Fuse what was asked for, and bring up to date what was fused before; the rows of both, by name."""
        with self._store.reading() as catalog:
            in_use = {row.name: row for row in catalog.backbones()}
        fused = {}
        for name in dict.fromkeys([*map(canonical_name, self._options.backbones), *in_use]):
            parts = [in_use[part] for part in parts_of(name) if part in in_use]
            if 1 < len(parts) == len(parts_of(name)):
                row, count = fuse(self._store, parts, self._should_stop)
                fused[name] = row
                self.report.backbones[name] = BackboneCount(embedded=count)
        return fused


def dry_run(store: Store | None, root: AnyPath, options: IndexOptions) -> Report:
    """Report what a run would do; nothing is loaded or written. Only files that may have moved are read, to compare bytes.

    A touched file counts as changed, and a new one as added, though reading may show that it is the same or broken.
    """
    absolute = resolved(root)
    discovery = Discovery(absolute, options.categories, follow_links=options.follow_links)
    if store is None:
        return _foreseen(discovery, all_new(discovery, decoder=options.decoder))
    with store.reading() as catalog:
        root_id, as_of = catalog.root_id(named(absolute)), catalog.revision()
        if root_id is None:
            changes = all_new(discovery, decoder=options.decoder)
        else:
            changes = find_changes(
                discovery, catalog, root_id, options.categories, decoder=options.decoder, as_of=as_of
            )
        away = _moved_away(catalog, root_id) if changes.new else []
        wanted = [known.content_id for known in (*changes.gone, *away) if known.content_id is not None]
        contents = sizes_and_hashes(catalog, wanted) if changes.new else {}
    here = Counter(contents[known.content_id] for known in changes.gone if known.content_id in contents)
    elsewhere = {image.path: contents[image.content_id] for image in away if image.content_id is not None}
    moved_here, moved_in = _count_moved(absolute, changes.new, here, elsewhere)
    return _foreseen(discovery, changes, moved_here=moved_here, moved_in=moved_in)


def _silent_after(batch: Batch, before: int) -> int:
    """How many files, of a batch and before it, could not be read since one was."""
    for _, result in batch:
        before = before + 1 if isinstance(result, Skipped) and result.reason.startswith(CANNOT_BE_READ) else 0
    return before


def _count_moved(
    root: AnyPath, new: Iterable[FoundImage], here: Counter[Content], elsewhere: Mapping[str, Content]
) -> tuple[int, int]:
    """Count new files that have the bytes of one that is gone from here, or of the same path in a root that is not there."""
    sizes = {size for size, _ in here}
    arrived: Counter[Content] = Counter()
    moved_in = 0
    for image in new:
        other = elsewhere.get(image.path)
        if image.state.size not in sizes and not (other and other[0] == image.state.size):
            continue
        try:
            content = (image.state.size, sha256_of(root / image.path))
        except OSError:
            continue
        if arrived[content] < here[content]:
            arrived[content] += 1
        elif other == content:
            moved_in += 1
    return arrived.total(), moved_in


def _foreseen(discovery: Discovery, changes: Changes, *, moved_here: int = 0, moved_in: int = 0) -> Report:
    failing = [Failure(image.path, image.failure) for image in changes.failing if image.failure]
    still = [Failure(known.path, known.failure) for known in changes.still_failed if known.failure]
    retried = sum(known.content_id is None for _, known in changes.touched)
    return Report(
        added=len(changes.new) + len(changes.returned) + retried - moved_here - moved_in,
        changed=len(changes.touched) - retried,
        moved=moved_here + moved_in,
        removed=sum(known.content_id is not None for known in changes.gone) - moved_here,
        unchanged=len(changes.unchanged) + len(changes.hidden),
        failures=[*still, *failing],
        breaches=discovery.breaches,
    )


def _moved_away(catalog: Catalog, root_id: int | None) -> list[KnownImage]:
    """The images of data directories that are not there any more: renamed, perhaps, to the one that is indexed now."""
    lost = [other for other, path in catalog.roots().items() if other != root_id and is_gone(path)]
    images = chain.from_iterable(known_images(catalog, root) for root in lost)
    return [image for image in images if image.present]
