"""The captioning run: writes a caption of every content that lacks one, one transaction per batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nearshot.backbones.captioner import Captioner
from nearshot.backbones.decode import decode
from nearshot.backbones.in_order import in_order
from nearshot.backbones.limits import MAX_BYTES, MAX_PIXELS
from nearshot.backbones.memory_budget import allow
from nearshot.backbones.protocol import Prepared
from nearshot.indexer.load import Skipped
from nearshot.indexer.report import Failure
from nearshot.schema.captions import Uncaptioned, put_captions, require_some, uncaptioned
from nearshot.schema.errors import ImageError, UsageError
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.images import NO_FILE
from nearshot.schema.paths import AnyPath, path_of, read_file, sha256_of
from nearshot.schema.store import Store, utc_now
from nearshot.schema.vocabulary import BY_HAND, CaptionTask


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOptions:
    """Options of a captioning run; None leaves the choice to nearshot."""

    task: CaptionTask = CaptionTask.CAPTION
    wanted: ImageFilter = field(default_factory=ImageFilter)
    categories: tuple[str, ...] = ()
    redo: bool = False
    limit: int | None = None
    batch_size: int | None = None
    workers: int = 2
    max_pixels: int = MAX_PIXELS


@dataclass(slots=True)
class CaptionReport:
    """Result of a captioning run: contents captioned, and images that could not be."""

    written: int = 0
    failures: list[Failure] = field(default_factory=list)
    interrupted: bool = False

    def as_json(self) -> dict[str, Any]:
        """The object that `caption --json` prints."""
        return {
            "written": self.written,
            "failed": len(self.failures),
            "failures": [{"path": failure.path, "reason": failure.reason} for failure in self.failures],
            "interrupted": self.interrupted,
        }


class CaptionRun:
    """One captioning run. Iterate over it to make it go; it yields (done, total), and `report` is complete at the end.

    The captioner is asked for only when there is something to caption. Captions are committed batch by batch: a run that
    is stopped or killed goes on where it was, the newest images first.
    """

    def __init__(
        self,
        store: Store,
        load_captioner: Callable[[], Captioner],
        options: CaptionOptions,
        *,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.report = CaptionReport()
        self._store, self._load, self._options, self._should_stop = store, load_captioner, options, should_stop

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Run, yielding after every batch. Raises UsageError, WeightsError, StoreBusyError and StoreError."""
        options = self._options
        with self._store.held("nearshot caption", "captions"):
            with self._store.reading() as catalog:
                require_some(catalog.connection, options.wanted)
                pending = uncaptioned(
                    catalog.connection,
                    options.task,
                    options.wanted,
                    categories=options.categories,
                    redo=options.redo,
                    limit=options.limit,
                )
            if not pending:
                return
            captioner = self._load()
            size = options.batch_size or captioner.batch_size
            yield 0, len(pending)
            allow(options.max_pixels)
            prepared = in_order(
                lambda item: _prepare(item, captioner, options.max_pixels),
                self._until_stopped(pending),
                workers=options.workers,
                ahead=size + options.workers,
            )
            done = 0
            batch: list[tuple[Uncaptioned, Prepared]] = []
            for item, result in prepared:
                done += 1
                if isinstance(result, Skipped):
                    self.report.failures.append(Failure(item.path, result.reason))
                else:
                    batch.append((item, result))
                if len(batch) == size:
                    self._commit(batch, captioner)
                    batch = []
                    yield done, len(pending)
            if batch:
                self._commit(batch, captioner)
            yield done, len(pending)

    def _until_stopped(self, pending: Sequence[Uncaptioned]) -> Iterator[Uncaptioned]:
        for item in pending:
            if self._should_stop():
                self.report.interrupted = True
                return
            yield item

    def _commit(self, batch: Sequence[tuple[Uncaptioned, Prepared]], captioner: Captioner) -> None:
        task = self._options.task
        texts = captioner.caption([prepared for _, prepared in batch], task)
        rows = [(item.content_id, caption) for (item, _), caption in zip(batch, texts, strict=True)]
        with self._store.writing() as editor:
            put_captions(editor, rows, task=task, fingerprint=captioner.fingerprint, created=utc_now())
        self.report.written += len(rows)


def _prepare(item: Uncaptioned, captioner: Captioner, max_pixels: int) -> Prepared | Skipped:
    try:
        data = read_file(path_of(item.path), most=MAX_BYTES)
        if hashlib.sha256(data).hexdigest() != item.sha256:
            return Skipped(NO_FILE, "it changed since it was indexed; run `nearshot index`")
        return captioner.prepare(decode(data, max_pixels=max_pixels).picture)
    except OSError as error:
        return Skipped(NO_FILE, f"cannot be read: {error.strerror or error}")
    except ImageError as error:
        return Skipped(NO_FILE, str(error))


def set_caption(store: Store, image: AnyPath, words: str) -> None:
    """Write a caption by hand; it belongs to the image's content. UsageError where that content is not indexed."""
    caption = " ".join(words.split())
    if not caption:
        raise UsageError("a caption by hand needs words")
    if "\0" in caption:
        raise UsageError("a caption by hand has no NUL character")
    try:
        sha256 = sha256_of(image)
    except OSError as error:
        raise UsageError(f"{image} cannot be read: {error.strerror or error}") from error
    with store.writing() as editor:
        content = editor.content(sha256)
        if content is None:
            raise UsageError(f"{image} is not indexed as it is now; run `nearshot index` first")
        put_captions(editor, [(content.id, caption)], task=BY_HAND, fingerprint=None, created=utc_now())
