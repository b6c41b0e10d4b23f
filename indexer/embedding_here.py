"""Embedding on this machine: files read and decoded ahead on threads or in processes, encoded batch after batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from nearshot.backbones.in_order import batches, in_order
from nearshot.backbones.preparation import prepare_safely
from nearshot.indexer.embed import Batch, Embedded, embed
from nearshot.indexer.load import Loaded, Loader, Skipped, Source, lacking, source_of
from nearshot.indexer.load_processes import LoadProcesses
from nearshot.indexer.load_worker import Setup
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run_backbones import RunBackbones
from nearshot.indexer.tasks import Task
from nearshot.schema.paths import AnyPath, is_object
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Loading

MANY = 500
"""Files from which processes are worth their start."""

AT_A_TIME = 8
"""Files that a process is asked for at a time: each question is a change of threads."""

OBJECTS_AT_A_TIME = 32
"""Objects that a process is asked for at a time: it waits for the first of them, and the next come while it decodes."""


class EmbeddingHere:
    """Embeds the files of a data directory."""

    def __init__(self, store: Store, root: AnyPath, options: IndexOptions, selection: RunBackbones) -> None:
        self._store, self._root, self._options, self._selection = store, root, options, selection

    def embedded(self, tasks: Iterable[Task], files: int) -> Iterator[tuple[Batch, Embedded]]:
        """Each batch of tasks with its vectors, in order; `files` that may have to be decoded, 0 where none is."""
        size = self._options.batch_size or self._selection.batch_size
        threads = self._options.threads
        with self._loading(files) as (load, together):
            loaded = in_order(
                lambda few: load([source_of(self._root, task.image) for task in few]),
                batches(tasks, together),
                workers=threads,
                ahead=(3 if self._selection.encodes_on_a_gpu else 1) * size // together + threads,
            )
            results = (pair for few, several in loaded for pair in zip(few, several, strict=True))
            yield from self._encoded(batches(results, size))

    def _encoded(self, batches_of_results: Iterable[Batch]) -> Iterator[tuple[Batch, Embedded]]:
        """Each batch with its vectors; on a GPU, the next one is encoded while whoever asked commits the one before."""
        selection = self._selection

        def embed_one(batch: Batch, in_hand: Collection[str]) -> Embedded:
            with self._store.reading() as catalog:
                files = (result for _, result in batch if isinstance(result, Loaded))
                return embed(files, catalog, selection, in_hand=in_hand)

        if not selection.encodes_on_a_gpu:
            for batch in batches_of_results:
                yield batch, embed_one(batch, ())
            return
        with ThreadPoolExecutor(1, thread_name_prefix="encode") as encoder:
            before: tuple[Batch, Future[Embedded]] | None = None
            for batch in batches_of_results:
                in_hand = {each.sha256 for _, each in before[0] if isinstance(each, Loaded)} if before else set()
                coming = encoder.submit(embed_one, batch, in_hand)
                if before:
                    yield before[0], before[1].result()
                before = batch, coming
            if before:
                yield before[0], before[1].result()

    @contextmanager
    def _loading(self, files: int) -> Iterator[tuple[Callable[[Sequence[Source]], list[Loaded | Skipped]], int]]:
        """The function that loads files, on the thread that calls it or in a process, and how many it is given at a time."""
        options, selection = self._options, self._selection
        backbone_ids = {name: row.id for name, row in selection.rows.items()}
        pays = files >= MANY and selection.encodes_on_a_gpu  # which it does not where no model was loaded
        wanted = pays if options.loading == Loading.AUTO else options.loading == Loading.PROCESSES and files > 0
        preparers = selection.preparers() if wanted and os.name == "posix" else None
        if preparers is None:
            loader = Loader(
                lambda name, picture: prepare_safely(selection.backbone(name), picture),
                lacking(self._store, backbone_ids),
                options.max_pixels,
            )
            yield loader.load_all, AT_A_TIME if is_object(self._root) else 1
            return
        setup = Setup(preparers, backbone_ids, self._store.location, options.max_pixels)
        with LoadProcesses(setup, options.threads) as processes:
            yield processes.load, OBJECTS_AT_A_TIME if is_object(self._root) else AT_A_TIME
