"""Committing: what was found and read becomes rows, one transaction per batch, and is counted once it is committed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from nearshot.indexer.compare import Changes
from nearshot.indexer.embed import Batch, Embedded
from nearshot.indexer.load import VANISHED, Loaded, Picture, Skipped
from nearshot.indexer.report import Failure, Report
from nearshot.schema.editor import Editor, NewContent, SeenImage
from nearshot.schema.images import FoundImage, KnownImage
from nearshot.schema.store import Store


class Committer:
    """Writes one run's results under one root. What is `gone` is kept by content, to tell a moved file from a removed one."""

    def __init__(self, store: Store, root_id: int, report: Report, *, decoder: str, as_of: int) -> None:
        self._store, self._root_id, self._report, self._decoder, self._as_of = store, root_id, report, decoder, as_of
        self._gone: dict[int, list[KnownImage]] = defaultdict(list)
        self._kept: set[int] = set()

    def expect_moves(self, gone: Collection[KnownImage], *, elsewhere: Collection[KnownImage] = ()) -> None:
        """Take the images that are not where they were: of this root, and of roots that are themselves not there.

        Those of another root may have moved here with it, keeping their paths; they are never taken for removed, since
        its disk may only be away.
        """
        for known in (*gone, *elsewhere):
            if known.content_id is not None and known.present:
                self._gone[known.content_id].append(known)
        self._kept = {known.id for known in elsewhere}

    def commit_returned(self, changes: Changes) -> None:
        """Commit that images are there again as they were."""
        if changes.returned:
            with self._store.writing() as editor:
                self._report.added += editor.return_images(changes.returned, as_of=self._as_of)

    def commit_discovered(self, changes: Changes) -> None:
        """Commit what no file need be read for: new labels of queries, failures that discovery saw, failures that are gone."""
        report = self._report
        report.failures += [Failure(known.path, known.failure) for known in changes.still_failed if known.failure]
        lost = [known.id for known in changes.gone if known.content_id is None]
        if changes.relabelled or changes.failing or lost:
            with self._store.writing() as editor:
                editor.relabel_images(changes.relabelled)
                editor.remove_images(lost, as_of=self._as_of)
                editor.put_images(
                    self._root_id, [self._failed(image, image.failure or "") for image in changes.failing]
                )
        report.failures += [Failure(image.path, image.failure) for image in changes.failing if image.failure]

    def commit_batch(self, batch: Batch, embedded: Embedded, backbone_ids: dict[str, int]) -> None:
        """Commit a batch's images and vectors together."""
        counted = Report()
        seen: list[SeenImage] = []
        moved_from: list[KnownImage] = []
        with self._store.writing() as editor:
            undone = self._undone(editor, batch)
            content_ids = _content_ids(editor, [result for _, result in batch if isinstance(result, Loaded)])
            for task, result in batch:
                if task.image.path in undone:
                    counted.failures.append(Failure(task.image.path, VANISHED))
                    continue
                if isinstance(result, Skipped):
                    # What other backbones made of an unchanged image stays; a new one that went again left nothing to record.
                    if not (task.is_unchanged or (task.known is None and result.reason == VANISHED)):
                        seen.append(self._failed(replace(task.image, state=result.state), result.reason))
                    counted.failures.append(Failure(task.image.path, result.reason))
                    continue
                content_id = content_ids[result.sha256]
                seen.append(SeenImage(replace(task.image, state=result.state), content_id))
                before = task.known.content_id if task.known else None
                if before is not None:
                    counted.unchanged += before == content_id
                    counted.changed += before != content_id
                elif origin := self._origin(content_id, task.image.path, moved_from):
                    moved_from.append(origin)
                    counted.moved += 1
                else:
                    counted.added += 1
            editor.put_images(self._root_id, seen)
            editor.remove_images([known.id for known in moved_from], as_of=self._as_of)
            editor.put_embeddings(embedded.rows(content_ids, backbone_ids))
        for known in moved_from:
            self._gone[known.content_id or 0].remove(known)
        self._count(counted, embedded)

    def _undone(self, editor: Editor, batch: Batch) -> set[str]:
        """The paths of a batch that were taken back since the run looked: their files are gone, whatever was read of them."""
        return editor.removed_since(self._root_id, [task.image.path for task, _ in batch], self._as_of)

    def commit_removals(self) -> None:
        """Mark what is still gone when every file was read. Rows and vectors stay: a file that comes back costs nothing."""
        gone = [known.id for images in self._gone.values() for known in images if known.id not in self._kept]
        if gone:
            with self._store.writing() as editor:
                self._report.removed = editor.remove_images(gone, as_of=self._as_of)

    def _origin(self, content_id: int, path: str, taken: Sequence[KnownImage]) -> KnownImage | None:
        """The image that a new one may have been: one that is gone, of another root only by the same path."""
        candidates = (known for known in self._gone.get(content_id, ()) if known not in taken)
        return next((known for known in candidates if known.id not in self._kept or known.path == path), None)

    def _failed(self, image: FoundImage, reason: str) -> SeenImage:
        return SeenImage(image, None, reason, self._decoder)

    def _count(self, counted: Report, embedded: Embedded) -> None:
        report = self._report
        report.added += counted.added
        report.changed += counted.changed
        report.moved += counted.moved
        report.unchanged += counted.unchanged
        report.failures += counted.failures
        for name, vectors in embedded.vectors.items():
            report.backbones[name].embedded += len(vectors)
        for name, faults in embedded.faults.items():
            report.backbones[name].failed += len(faults)


def _content_ids(editor: Editor, batch: Sequence[Loaded]) -> dict[str, int]:
    """The ids of all contents of a batch, by SHA-256; those that are new are recorded."""
    known = {sha256: content.id for sha256, content in editor.contents(each.sha256 for each in batch).items()}
    new = []
    for loaded in batch:
        if loaded.sha256 not in known:
            picture = loaded.picture
            assert isinstance(picture, Picture), "a content that is new was decoded"
            fields = (loaded.sha256, loaded.state.size, picture.width, picture.height, picture.image_format)
            new.append(NewContent(*fields))
    return known | editor.add_contents(new) if new else known
