"""Watching a source: its frames recognised one after the other, and one result a track."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nearshot.backbones.video import Frame
from nearshot.retriever.answer import Answer, Unreadable
from nearshot.retriever.frames import Seen, frames_of, is_live, require_source
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sequential import Schedule
from nearshot.retriever.tracks import Look, Track, Tracker, difference_hash
from nearshot.schema.disk import make_directories, written_whole
from nearshot.schema.errors import UsageError, option
from nearshot.schema.store import Store

STILL, CELLS = 3, 16
"""A frame whose difference hash, of 16 x 16 cells, differs in at most so many bits from the last one looked at is skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """Options of watching: every so-manyth frame; the share of strangers' tracks that may match; whether a directory is waited
    at for more; where the best look of each track is saved; and whether a match is told when it is decided, or when it ends."""

    every: int = 5
    false_accept: float = 0.05
    wait: bool = True
    save: Path | None = None
    at_once: bool = False


class WatchRun:
    """One source that is watched. Iterate over it for the tracks, as `watch` prints them; `seen` and `still` count frames.

    `backbone` recognises them; `passed_over` are better ones whose weights cannot be loaded, with the reasons.
    """

    def __init__(
        self,
        store: Store,
        source: str,
        query: QueryOptions,
        options: WatchOptions,
        *,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Load the models. Raises UsageError, WeightsError and StoreError."""
        self.seen, self.still, self.looked_at = Seen(), 0, 0
        self._source, self._options, self._should_stop = source, options, should_stop
        if not 0 < options.false_accept < 1:
            raise UsageError(f"{option('false_accept')} {options.false_accept} is no share: more than 0, less than 1")
        require_source(source)
        if options.every < 1:
            raise UsageError(f"{option('every')} {options.every} is none: every frame is 1")
        self._retriever = Retriever(store, query, noted=False)
        self.backbone, self.passed_over = self._retriever.searcher.row.name, self._retriever.passed_over
        self.strangers = self._retriever.searcher.strangers
        self.schedule = Schedule.of(options.false_accept, self.strangers) if self.strangers else None
        if self.schedule is not None:
            self._retriever.options = replace(query, coverage=0.5)
        self._tracker = Tracker(self.schedule)
        self._told: set[int] = set()
        self._last_hash: int | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Watch until the source ends, or somebody stops it."""
        if self._options.save is not None:
            make_directories(self._options.save)
        for frame, answers in self._answered():
            looks = [self._look(frame, answer) for answer in answers if isinstance(answer, Answer)]
            decided, ended = self._tracker.see(looks)
            yield from self._tell([*(decided if self._options.at_once else ()), *ended])
        yield from self._tell(self._tracker.end())

    def _answered(self) -> Iterator[tuple[Frame, list[Answer | Unreadable]]]:
        """The frames that are looked at, with the answers about each: one by one from a camera, in batches from a file."""
        frames = self._moving()
        if is_live(self._source) or (Path(self._source).is_dir() and self._options.wait):
            for frame in frames:
                yield frame, list(self._retriever.answer([(str(frame.number), frame.picture)]))
            return
        waiting: dict[int, Frame] = {}

        def named() -> Iterator[tuple[str, Any]]:
            for number, frame in enumerate(frames):
                waiting[number] = frame
                yield str(frame.number), frame.picture

        current, answers = 0, list[Answer | Unreadable]()
        for number, answer in self._retriever.numbered(named()):
            if number != current:
                yield waiting.pop(current), answers
                current, answers = number, []
            answers.append(answer)
        if answers:
            yield waiting.pop(current), answers

    def _moving(self) -> Iterator[Frame]:
        """The frames that differ from the last that was looked at."""
        frames = frames_of(
            self._source,
            every=self._options.every,
            wait=self._options.wait,
            seen=self.seen,
            should_stop=self._should_stop,
            max_pixels=self._retriever.options.max_pixels,
        )
        for frame in frames:
            own = difference_hash(frame.picture, CELLS)
            if self._last_hash is not None and (own ^ self._last_hash).bit_count() <= STILL:
                self.still += 1
                self._tracker.still(frame.seconds, frame.file)
                continue
            self._last_hash = own
            self.looked_at += 1
            yield frame

    def _look(self, frame: Frame, answer: Answer) -> Look:
        picture = frame.picture if answer.box is None else frame.picture.crop(answer.box)
        return Look(frame.seconds, answer, frame.picture.size, picture, difference_hash(picture), frame.file)

    def _tell(self, tracks: list[Track]) -> Iterator[dict[str, Any]]:
        for track in tracks:
            if track.number not in self._told:
                self._told.add(track.number)
                yield track.as_json(saved=self._save(track))
        self._told &= {track.number for track in self._tracker.tracks}

    def _save(self, track: Track) -> str | None:
        if self._options.save is None:
            return None
        path = self._options.save / f"track-{track.number}.png"
        with written_whole(path) as aside:
            track.best.picture.save(aside, "PNG")
        return str(path)
