"""Committing: what was found and read becomes rows, a batch a transaction, and is counted once it is committed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from indexer.compare import Changes
from indexer.embed import Embedded
from indexer.load import Loaded, Picture, Skipped
from indexer.report import Failure, Report
from indexer.tasks import Task
from schema.editor import Editor
from schema.images import FoundImage, KnownImage
from schema.store import Store


class Committer:
    """Writes one run's results under one root. What is `gone` is kept by content, to tell a moved file from a removed one."""

    def __init__(self, store: Store, root_id: int, report: Report, *, decoder: str) -> None:
        self._store, self._root_id, self._report, self._decoder = store, root_id, report, decoder
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

    def commit_discovered(self, changes: Changes) -> None:
        """Commit what no file need be read for: new labels of queries, failures that discovery saw, failures that are gone."""
        report = self._report
        report.failures += [Failure(known.path, known.failure) for known in changes.still_failed if known.failure]
        lost = [known.id for known in changes.gone if known.content_id is None]
        if changes.relabelled or changes.failing or lost:
            with self._store.writing() as editor:
                editor.relabel_images(changes.relabelled)
                editor.remove_images(lost)
                for image in changes.failing:
                    self._put_failure(editor, image, image.failure or "")
        report.failures += [Failure(image.path, image.failure) for image in changes.failing if image.failure]

    def commit_batch(
        self, batch: Sequence[tuple[Task, Loaded | Skipped]], embedded: Embedded, backbone_ids: dict[str, int]
    ) -> None:
        """Commit a batch's images and vectors together."""
        counted = Report()
        content_ids: dict[str, int] = {}
        moved_from: list[KnownImage] = []
        with self._store.writing() as editor:
            for task, result in batch:
                if isinstance(result, Skipped):
                    if not task.is_unchanged:  # what other backbones made of an unchanged image stays
                        self._put_failure(editor, replace(task.found, state=result.state), result.reason)
                    counted.failures.append(Failure(task.found.path, result.reason))
                    continue
                content_id = content_ids[result.sha256] = _content_id(editor, result)
                editor.put_image(self._root_id, replace(task.found, state=result.state), content_id=content_id)
                before = task.known.content_id if task.known else None
                if before is not None:
                    counted.unchanged += before == content_id
                    counted.changed += before != content_id
                elif origin := self._origin(content_id, task.found.path, moved_from):
                    moved_from.append(origin)
                    counted.moved += 1
                else:
                    counted.added += 1
            editor.remove_images([known.id for known in moved_from])
            editor.put_embeddings(embedded.rows(content_ids, backbone_ids))
        for known in moved_from:
            self._gone[known.content_id or 0].remove(known)
        self._count(counted, embedded)

    def commit_removals(self) -> None:
        """Mark what is still gone when every file was read. Rows and vectors stay: a file that comes back costs nothing."""
        gone = [known.id for images in self._gone.values() for known in images if known.id not in self._kept]
        if gone:
            with self._store.writing() as editor:
                editor.remove_images(gone)
        self._report.removed = len(gone)

    def _origin(self, content_id: int, path: str, taken: Sequence[KnownImage]) -> KnownImage | None:
        """The image that a new one may have been: one that is gone, of another root only by the same path."""
        candidates = (known for known in self._gone.get(content_id, ()) if known not in taken)
        return next((known for known in candidates if known.id not in self._kept or known.path == path), None)

    def _put_failure(self, editor: Editor, image: FoundImage, reason: str) -> None:
        editor.put_failure(self._root_id, image, reason=reason, decoder=self._decoder)

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


def _content_id(editor: Editor, loaded: Loaded) -> int:
    known = editor.content(loaded.sha256)
    if known is not None:
        return known[0]
    picture = loaded.picture
    assert isinstance(picture, Picture), "a content that is new was decoded"
    return editor.add_content(
        sha256=loaded.sha256,
        size=loaded.state.size,
        width=picture.width,
        height=picture.height,
        image_format=picture.image_format,
    )
