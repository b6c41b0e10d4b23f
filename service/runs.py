"""Runs: jobs of the services over a store, in the background, one at a time. Each of these services tells of all of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from nearshot.schema.errors import NearshotError, StoreBusyError, StoreError
from nearshot.schema.jobs import JobRow, add_job, job_at_work, tell_job
from nearshot.schema.jobs import job as job_of
from nearshot.schema.store import Store

log = logging.getLogger(__name__)

KEPT = 100
"""Number of runs that are remembered."""

TELLING_SECONDS = 1.0
"""How often the store is told how far a run is, for other services."""

TRIES = 10
"""How often the store is told that a run has ended, where it cannot be written."""

State = Literal["running", "finished", "interrupted", "failed"]
Kind = Literal["index", "calibrate", "lint"]


@dataclass(slots=True)
class RunState:
    """Progress of a run over several parts (data directories, say), with the reports and errors of those it has finished."""

    id: int
    kind: Kind
    state: State = "running"
    done: int = 0
    total: int = 0
    failed: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_told(self) -> dict[str, Any]:
        """What the store is told of it."""
        told = {name: getattr(self, name) for name in ("state", "done", "total", "failed")}
        return told | {
            "errors": dict(self.errors),
            "reports": dict(self.reports),
        }  # which go on while these are written

    @classmethod
    def of(cls, row: JobRow) -> RunState:
        """The run as the store was told of it; one whose service is gone was interrupted."""
        run = cls(row.id, cast(Kind, row.kind), **row.told)
        if row.silent:
            run.state = "interrupted"
        return run

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Do a part: what goes wrong is its error, and the next one is done all the same."""
        try:
            yield
        except NearshotError as error:
            self.errors[name] = str(error)
        except Exception:  # a thread's own end would say nothing to whoever waits
            log.exception("the %s run failed", self.kind)
            self.errors[name] = "it failed; the service's log has the reason"


Job: TypeAlias = Callable[[RunState, Callable[[], bool]], bool]
"""What a run does: it tells its state how far it is, and ends when it is asked to stop. True where it came to its end."""


class Runs:
    """Starts runs, and knows those of other services, too. Safe from any thread."""

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

    def own(self, run_id: int) -> RunState | None:
        """A run of this service, as it is now."""
        return self._runs.get(run_id)

    def get(self, run_id: int) -> RunState | None:
        """A run: of this service as it is now, of another as it told last. Asks the store."""
        if (run := self.own(run_id)) is not None:
            return run
        with self._store.reading() as catalog:
            row = job_of(catalog, run_id)
        return None if row is None else RunState.of(row)

    def start(self, kind: Kind, job: Job) -> RunState:
        """Begin a job. StoreBusyError where a run is on already, of this service or of another."""
        with self._lock:
            run = RunState(0, kind)
            with self._store.writing() as editor:
                if (other := job_at_work(editor)) is not None:
                    raise StoreBusyError(f"run {other.id} is on; wait for it to end")
                run.id = add_job(editor, kind, run.as_told(), most=KEPT)
            self._runs[run.id] = run
            for known in [known for known in self._runs if known <= run.id - KEPT]:
                del self._runs[known]
            self._thread = threading.Thread(target=self._run, args=(run, job), name=f"{kind} run")
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

    def _run(self, run: RunState, job: Job) -> None:
        done = threading.Event()
        telling = threading.Thread(target=self._tell, args=(run, done), name="telling", daemon=True)
        telling.start()
        whole = True
        try:
            with run.part(run.kind):
                whole = job(run, self._stopping.is_set)
            with run.part(run.kind):
                self._ended()
        finally:  # else it would be on for ever, and none could be begun beside it
            done.set()
            telling.join()
            self._tell_end(run, "failed" if run.errors else "finished" if whole else "interrupted")

    def _tell_end(self, run: RunState, state: State) -> None:
        told = run.as_told() | {"state": state}
        for _ in range(TRIES):
            try:
                with self._store.writing() as editor:
                    tell_job(editor, run.id, told, ended=True)
                break
            except StoreError as error:  # other services take it for interrupted in a while
                log.warning("the store cannot be told that run %s has ended: %s", run.id, error)
                if self._stopping.wait(TELLING_SECONDS):
                    break
        run.state = state

    def _tell(self, run: RunState, done: threading.Event) -> None:
        """Tell the store how far a run is, again and again, until it is done."""
        while not done.wait(TELLING_SECONDS):
            with suppress(StoreError), self._store.writing() as editor:  # it may be busy: the next time tells it
                tell_job(editor, run.id, run.as_told(), ended=False)
