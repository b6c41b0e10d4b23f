"""Mirroring: the mirrors of a store brought up to date, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from nearshot.backbones.spec import canonical_name
from nearshot.schema.errors import UsageError
from nearshot.schema.mirrors import forget_mirror, mirror_rows
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from nearshot.vectors.milvus import connected
from nearshot.vectors.mirrors import Mirrored, Mirroring


class MirrorRun:
    """A run that brings the mirrors in an engine up to date. Iterating it does the work, and tells how many images are there of
    how many; `reports` says what was done to each that is done.
    """

    def __init__(
        self,
        store: Store,
        engine: str,
        *,
        backbones: Collection[str] = (),
        roles: Collection[Role] = tuple(Role),
        anew: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Connect. UsageError for a backbone that nothing is indexed with; UnreachableError where the engine is silent."""
        self.reports: list[Mirrored] = []
        self.interrupted = False
        self._store, self._roles, self._anew, self._should_stop = store, roles, anew, should_stop
        self._engine = connected(engine)
        with store.reading() as catalog:
            rows = {row.name: row for row in catalog.backbones()}
        wanted = [canonical_name(name) for name in backbones] or list(rows)
        if unknown := [name for name in wanted if name not in rows]:
            raise UsageError(f"nothing is indexed with {unknown[0]}; run `nearshot index DATA --backbone {unknown[0]}`")
        self._backbones = [rows[name] for name in wanted]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Bring them up to date. Raises what `Mirroring` does, and StoreBusyError where another process is at it."""
        name = f"mirror {self._engine.address}"
        with self._store.held(f"nearshot {name}", name, apart=True):
            self._drop_retired()
            for backbone in self._backbones:
                for role in self._roles:
                    mirroring = Mirroring(self._store, self._engine, backbone, role, anew=self._anew)
                    for told in mirroring:
                        yield told
                        if self._should_stop():
                            self.interrupted = True
                            return
                    self.reports.append(mirroring.report)

    def _drop_retired(self) -> None:
        """Delete the mirrors of backbones that are no longer in use: other weights have taken their names."""
        with self._store.reading() as catalog:
            used = {row.id for row in catalog.backbones()}
            retired = [row for row in mirror_rows(catalog) if row.backbone_id not in used]
        for row in retired:
            if row.engine == self._engine.address:
                self._engine.drop(row.name)
                with self._store.writing() as editor:
                    forget_mirror(editor, row)
