"""The batcher: one thread that runs all forward passes, several images at a time where several are there."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearshot.backbones.protocol import Backbone, Description, Packable, Prepared
from nearshot.schema.errors import FullError

Vector = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class _Pending:
    backbone: Backbone
    prepared: Prepared
    encoded: Future[Vector] = field(default_factory=Future)


@dataclass(slots=True, eq=False)
class _Call:
    function: Callable[[], Any]
    result: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Pass:
    """The last forward pass of a backbone: what it took, when it ended, and how many images were there then, with its own."""

    seconds: float
    ended: float
    images: int


class Batcher:
    """Encodes images with any backbone, from any thread, batching those of one backbone that are there at the same time.

    The batch is what waits when a forward pass ends, up to the backbone's own batch size. It waits a little (`gather` seconds,
    or `share` of what the last forward pass took) for images that are being decoded, and as long after a forward pass for as
    many as were there at its end: clients that have their answers ask again, and what they ask is decoded faster on cores that
    no forward pass takes. Nobody is waited for while there is something else to do, and a client that is alone, with an
    image at a time, never waits. `observe` is told the size of each batch that went through.

    It has its own thread, unless somebody lends it theirs by `run`: forward passes on a CPU are a tenth faster on a process's
    main thread (benchmarks/README.md).
    """

    def __init__(
        self,
        *,
        capacity: int,
        gather: float,
        share: float = 0.0,
        observe: Callable[[int], None] = lambda size: None,
        own_thread: bool = True,
    ) -> None:
        self._capacity, self._gather, self._share, self._observe = capacity, gather, share, observe
        self._changed = threading.Condition()
        self._waiting: deque[_Pending | _Call] = deque()
        self._admitted = 0
        self._arriving: Counter[Backbone] = Counter()
        self._last: dict[Backbone, _Pass] = {}
        self._closed = False
        self._thread = threading.Thread(target=self.run, name="batcher", daemon=True) if own_thread else None
        if self._thread:
            self._thread.start()

    @property
    def admitted(self) -> int:
        """Number of images between admission and answer."""
        return self._admitted

    @contextmanager
    def admission(self, images: int) -> Iterator[None]:
        """Announce images that are about to come; FullError where they are too many. Leave when they are answered."""
        with self._changed:
            if self._admitted and self._admitted + images > self._capacity:
                raise FullError(f"queue full ({self._admitted} images waiting); retry in 1 s")
            self._admitted += images
        try:
            yield
        finally:
            with self._changed:
                self._admitted -= images

    @contextmanager
    def arrival(self, backbone: Backbone) -> Iterator[None]:
        """Tell that an admitted image is being prepared, and will be submitted (or has failed) at the end."""
        with self._changed:
            self._arriving[backbone] += 1
        try:
            yield
        finally:
            with self._changed:
                self._arriving[backbone] -= 1
                self._changed.notify_all()

    def submit(self, backbone: Backbone, prepared: Prepared) -> Future[Vector]:
        """Have an image encoded: its vector (1, dimension), not normalised."""
        image = _Pending(backbone, prepared)
        self._put(image)
        return image.encoded

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Have something else done on the thread that runs forward passes."""
        call = _Call(function)
        self._put(call)
        return call.result

    def close(self) -> None:
        """Take nothing more; what was submitted is finished, and then `run` ends."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread:
            self._thread.join()

    def _put(self, item: _Pending | _Call) -> None:
        with self._changed:
            if self._closed:
                raise FullError("the service is shutting down")
            self._waiting.append(item)
            self._changed.notify_all()

    def run(self) -> None:
        """Encode what comes, until it is closed."""
        while (item := self._next()) is not None:
            if isinstance(item, _Call):
                _settle(item.result, item.function)
                continue
            # Whose request has run out of time is passed over.
            batch = [image for image in self._gathered(item) if image.encoded.set_running_or_notify_cancel()]
            if not batch:
                continue
            self._encode(item.backbone, batch)

    def _encode(self, backbone: Backbone, batch: Sequence[_Pending]) -> None:
        """One forward pass. Where it fails, one an image: an image that no model can take must not cost others theirs."""
        started = time.monotonic()
        vectors: Vector | None = None
        try:
            vectors = backbone.encode([image.prepared for image in batch])
        except BaseException as error:  # whatever it is, those who wait must be told
            if len(batch) == 1:
                batch[0].encoded.set_exception(error)
                return
        if vectors is None:  # here, where the error no longer holds what the pass had in memory
            for image in batch:
                self._encode(backbone, [image])
            return
        self._note_pass(backbone, started, len(batch))
        self._observe(len(batch))
        for index, image in enumerate(batch):
            image.encoded.set_result(vectors[index : index + 1])

    def _note_pass(self, backbone: Backbone, started: float, images: int) -> None:
        now = time.monotonic()
        with self._changed:
            images += self._arriving[backbone] + len(self._waiting_for(backbone))
            self._last[backbone] = _Pass(now - started, now, images)

    def _waiting_for(self, backbone: Backbone) -> list[_Pending]:
        return [item for item in self._waiting if isinstance(item, _Pending) and item.backbone is backbone]

    def _next(self) -> _Pending | _Call | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None

    def _gathered(self, first: _Pending) -> list[_Pending]:
        """The first image and those of the same backbone that wait, or come within the time to gather."""
        backbone, batch, begun = first.backbone, [first], time.monotonic()
        last = self._last.get(backbone, _Pass(0.0, 0.0, 1))
        patience = max(self._gather, self._share * last.seconds)
        with self._changed:
            while True:
                room = backbone.batch_size - len(batch)
                for item in self._waiting_for(backbone)[:room]:
                    self._waiting.remove(item)
                    batch.append(item)
                if len(batch) == backbone.batch_size or self._closed:
                    return batch
                until = max(
                    begun + patience if self._arriving[backbone] else 0.0,
                    last.ended + patience if len(batch) < last.images else 0.0,
                )
                left = until - time.monotonic()
                if left <= 0 or self._waiting:
                    return batch
                self._changed.wait(left)


class BatchedBackbone:
    """A backbone whose forward passes run on a batcher's thread, so that an index run can share it with queries."""

    def __init__(self, backbone: Backbone, batcher: Batcher) -> None:
        self._backbone, self._batcher = backbone, batcher

    @property
    def description(self) -> Description:
        """Description of the backbone."""
        return self._backbone.description

    @property
    def batch_size(self) -> int:
        """Number of pictures that it encodes at once with ease."""
        return self._backbone.batch_size

    def prepare(self, picture: Image.Image) -> Prepared:
        """Preprocess a picture."""
        return self._backbone.prepare(picture)

    def pack(self) -> None:
        """Make the backbone ready for many images, where it can be."""
        if isinstance(self._backbone, Packable):
            self._batcher.call(self._backbone.pack).result()

    def encode(self, batch: Sequence[Prepared]) -> Vector:
        """Encode a batch between the batches of queries."""
        encoded: Vector = self._batcher.call(lambda: self._backbone.encode(batch)).result()
        return encoded


def _settle(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # whatever it is, the one who waits must be told
        future.set_exception(error)
