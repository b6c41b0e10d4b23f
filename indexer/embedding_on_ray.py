"""Embedding on the nodes of a Ray cluster: batches go out, and come back in any order, each with its number.

Committing stays here, so that whatever is done twice is committed once.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from nearshot.backbones.in_order import batches
from nearshot.indexer.embed import Batch, Embedded
from nearshot.indexer.load import Loaded, source_of
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.ray_cluster import RayCluster
from nearshot.indexer.ray_worker import Answer, Refused, Setup, key_of, software
from nearshot.indexer.run_backbones import RunBackbones
from nearshot.indexer.tasks import Task
from nearshot.schema.catalog import Catalog
from nearshot.schema.errors import IndexingError, option
from nearshot.schema.known_images import hashes_dealt_with
from nearshot.schema.paths import AnyPath
from nearshot.schema.store import Store

ON_GPU = 128
"""Images of a batch, where GPUs encode."""

WAITING = 256
"""Batches that wait for one before them; of more, the first goes on: none is ever held back for good."""


def in_turn(answers: Iterable[tuple[int, bytes]], most: int = WAITING) -> Iterator[tuple[int, bytes]]:
    """Answers by their numbers, counted from 0, that come in any order, in theirs: so ids are given as without Ray.

    More than `most` are not held back. Where no more come for an IndexingError, those that are there come before it.
    """
    waiting: dict[int, bytes] = {}
    early: set[int] = set()
    following = 0
    try:
        for number, answer in answers:
            waiting[number] = answer
            while following in waiting or following in early:
                if following in waiting:
                    yield following, waiting.pop(following)
                following += 1
            if len(waiting) > most:
                early.add(first := min(waiting))
                yield first, waiting.pop(first)
    except IndexingError:
        yield from sorted(waiting.items())
        raise
    yield from sorted(waiting.items())


class EmbeddingOnRay:
    """Embeds the files of a data directory, which all nodes see at the same path, or in a store of objects."""

    def __init__(
        self,
        store: Store,
        root: AnyPath,
        options: IndexOptions,
        selection: RunBackbones,
        should_stop: Callable[[], bool],
    ) -> None:
        self._store, self._root, self._options, self._selection = store, root, options, selection
        self._should_stop = should_stop

    def embedded(self, tasks: Sequence[Task]) -> Iterator[tuple[Batch, Embedded]]:
        """Each batch of tasks with its vectors, in order, until somebody wishes to stop: then those that are there.

        IndexingError where a node cannot do its part.
        """
        with RayCluster(str(self._options.ray), self._should_stop) as cluster:
            if cluster.has_stopped:
                return
            gpus = cluster.resources.gpus
            size = self._options.batch_size or (ON_GPU if gpus else self._selection.batch_size)
            parts = list(batches(tasks, size))
            rows = [
                {"number": number, "files": pickle.dumps([source_of(self._root, task.image) for task in part])}
                for number, part in enumerate(parts)
            ]
            setup = self._setup(gpus)
            for number, pickled in in_turn(cluster.through(setup, rows, cluster.actors(setup.threads))):
                answer: Answer | Refused = pickle.loads(pickled)
                if isinstance(answer, Refused):
                    raise IndexingError(f"{answer.reason} ({option('ray')})")
                batch = list(zip(parts[number], answer[0], strict=True))
                with self._store.reading() as catalog:
                    lacking = self._still_lacking(catalog, batch, answer[1])
                yield batch, lacking

    def _setup(self, gpus: int) -> Setup:
        import torch

        options, rows = self._options, self._selection.rows
        with self._store.reading() as catalog:
            known = {
                name: np.sort(np.array([key_of(each) for each in hashes_dealt_with(catalog, row.id)], dtype=np.uint64))
                for name, row in rows.items()
            }
        device = "cuda" if gpus else "cpu"
        return Setup(
            rows=tuple(rows.values()),
            weights=options.weights.absolute() if options.weights else None,
            precision=options.precision,
            device=device if options.device == "auto" else options.device,
            threads=torch.get_num_threads(),
            loading_threads=options.threads,
            max_pixels=options.max_pixels,
            software=software(),
            known=known,
        )

    def _still_lacking(self, catalog: Catalog, batch: Batch, embedded: Embedded) -> Embedded:
        """What nobody has committed since: a content can be in two batches. IndexingError where one lacks something yet."""
        hashes = {result.sha256 for _, result in batch if isinstance(result, Loaded)}
        known = catalog.contents(hashes)
        vectors, faults = {}, {}
        for name, row in self._selection.rows.items():
            done = {sha256 for sha256 in hashes if sha256 in known and row.id in known[sha256].dealt_with}
            vectors[name] = {key: value for key, value in embedded.vectors.get(name, {}).items() if key not in done}
            faults[name] = {key: value for key, value in embedded.faults.get(name, {}).items() if key not in done}
            if hashes - done - vectors[name].keys() - faults[name].keys():
                raise IndexingError("the vectors of contents were given up while this run was at work: run it again")
        return Embedded(vectors, faults)
