"""Runs: index runs of the service, in the background, one at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nearshot.backbones.protocol import Backbone
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.run import IndexRun
from nearshot.schema.errors import NearshotError, StoreBusyError
from nearshot.schema.paths import AnyPath
from nearshot.schema.store import Store

log = logging.getLogger(__name__)

KEPT = 100
"""Number of runs that are remembered."""

State = Literal["running", "finished", "interrupted", "failed"]


@dataclass(slots=True)
class RunState:
    """Progress of a run over all data directories, with the reports and errors of those it has finished."""

    id: int
    state: State = "running"
    done: int = 0
    total: int = 0
    failed: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)


class Runs:
    """Starts runs, and remembers them. Safe from any thread."""

    def __init__(self, store: Store, ended: Callable[[], None] = lambda: None) -> None:
        self._store, self._ended = store, ended
        self._runs: dict[int, RunState] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        """Flag that tells whether the service is about to end."""
        return self._stopping.is_set()

    def get(self, run_id: int) -> RunState | None:
        """A run, as it is now."""
        return self._runs.get(run_id)

    def start(self, roots: Sequence[AnyPath], options: IndexOptions, ready: Mapping[str, Backbone]) -> RunState:
        """Index data directories one after another. StoreBusyError where a run is on already."""
        with self._lock:
            if self._runs and self._runs[max(self._runs)].state == "running":
                raise StoreBusyError(f"run {max(self._runs)} is on; wait for it to end")
            run = RunState(id=max(self._runs, default=0) + 1)
            self._runs[run.id] = run
            self._runs.pop(run.id - KEPT, None)
            self._thread = threading.Thread(target=self._run, args=(run, roots, options, ready), name="index run")
            self._thread.start()
        return run

    def stop(self) -> None:
        """Have a run commit what it has in hand and end, and those who watch it leave."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, and wait for the end."""
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def _run(
        self, run: RunState, roots: Sequence[AnyPath], options: IndexOptions, ready: Mapping[str, Backbone]
    ) -> None:
        for root in roots:
            if self.stopping:
                break
            try:
                self._index(run, root, options, ready)
            except NearshotError as error:
                run.errors[str(root)] = str(error)
            except Exception:  # a thread's own end would say nothing to whoever waits
                log.exception("the index run failed")
                run.errors[str(root)] = "it failed; the service's log has the reason"
        self._ended()
        run.state = "interrupted" if self.stopping else "failed" if run.errors else "finished"

    def _index(self, run: RunState, root: AnyPath, options: IndexOptions, ready: Mapping[str, Backbone]) -> None:
        index = IndexRun(self._store, root, options, should_stop=self._stopping.is_set, ready=ready)
        done, total, failed = run.done, run.total, run.failed
        for progress in index:
            run.total, run.done, run.failed = total + progress.total, done + progress.done, failed + progress.failed
        run.reports[str(root)] = index.report.as_json()
