"""Metrics: what a service counts and times, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nearshot.schema.watches import Lapse

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STAGES = ("decode", "prepare", "encode", "search", "decide")


class Metrics:
    """A registry of its own, so that several services can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "nearshot_requests", "Requests by route and status.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "nearshot_request_seconds", "Time to answer, by route.", ["route"], buckets=SECONDS, registry=self.registry
        )
        self.stages = Histogram(
            "nearshot_stage_seconds",
            "Time of a stage of a query: decode, prepare, encode (with waiting), search and decide.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "nearshot_batch_images",
            "Images in a forward pass.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.verdicts = Counter(
            "nearshot_verdicts", "Answers by backbone and verdict.", ["backbone", "verdict"], registry=self.registry
        )
        self._lapsed = Gauge(
            "nearshot_promise_lapsed",
            "1 where the scores of queries no longer look like those that the calibration rests on.",
            ["backbone", "category", "score"],
            registry=self.registry,
        )
        self._waiting = Gauge("nearshot_waiting_images", "Images between upload and answer.", registry=self.registry)
        for stage in STAGES:
            self.stages.labels(stage)

    def watch(self, waiting: Callable[[], float]) -> None:
        """Ask for the number of waiting images whenever the metrics are read."""
        self._waiting.set_function(waiting)

    def note_lapses(self, lapses: Iterable[Lapse]) -> None:
        """Note which promises have lapsed; those that had, and no longer have, are gone."""
        self._lapsed.clear()
        for lapse in lapses:
            self._lapsed.labels(lapse.backbone, lapse.category, lapse.score).set(1)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stages.labels(name).observe(time.perf_counter() - started)

    def text(self) -> bytes:
        """All of it, in Prometheus' own format."""
        return generate_latest(self.registry)
