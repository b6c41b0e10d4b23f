"""Runs: jobs of the service, in the background, one at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from nearshot.schema.errors import NearshotError, StoreBusyError

log = logging.getLogger(__name__)

KEPT = 100
"""Number of runs that are remembered."""

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


Job: TypeAlias = Callable[[RunState, Callable[[], bool]], None]
"""What a run does: it tells its state how far it is, and ends when it is asked to stop."""


class Runs:
    """Starts runs, and remembers them. Safe from any thread."""

    def __init__(self, ended: Callable[[], None] = lambda: None) -> None:
        self._ended = ended
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

    def start(self, kind: Kind, job: Job) -> RunState:
        """Begin a job. StoreBusyError where a run is on already."""
        with self._lock:
            if self._runs and self._runs[max(self._runs)].state == "running":
                raise StoreBusyError(f"run {max(self._runs)} is on; wait for it to end")
            run = RunState(max(self._runs, default=0) + 1, kind)
            self._runs[run.id] = run
            self._runs.pop(run.id - KEPT, None)
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
        with run.part(run.kind):
            job(run, self._stopping.is_set)
        self._ended()
        run.state = "interrupted" if self.stopping else "failed" if run.errors else "finished"
