"""The batcher: images that wait are encoded together, and nobody waits for nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

from nearshot.backbones.protocol import Description, Prepared
from nearshot.schema.errors import FullError
from nearshot.schema.vocabulary import Precision
from nearshot.service.batcher import BatchedBackbone, Batcher, Vector


class Slow:
    """A backbone that takes its time, and keeps count of its batches."""

    batch_size = 4

    def __init__(self, name: str = "slow") -> None:
        self.description = Description(name, 1, Precision.FP32, "f" * 64)
        self.batches: list[list[float]] = []
        self.entered, self.may_go = threading.Event(), threading.Event()
        self.may_go.set()

    def prepare(self, picture: Image.Image) -> Prepared:
        return np.zeros(1)

    def encode(self, batch: Sequence[Prepared]) -> Vector:
        self.entered.set()
        self.may_go.wait(10)
        self.batches.append([float(pixels[0]) for pixels in batch])
        if any(pixels[0] < 0 for pixels in batch):
            raise RuntimeError("negative")
        return np.array(batch, dtype=np.float32) * 2


def hold(batcher: Batcher, slow: Slow, number: float = 0.0) -> Future[Vector]:
    """An image in whose forward pass the batcher stays until `may_go` is set."""
    slow.may_go.clear()
    held = batcher.submit(slow, np.array([number]))
    assert slow.entered.wait(10)
    return held


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    quick_batcher = Batcher(capacity=8, gather=0.01)
    yield quick_batcher
    quick_batcher.close()


@pytest.fixture
def patient() -> Iterator[Batcher]:
    """A batcher that gathers for five seconds, where it has somebody to wait for."""
    patient_batcher = Batcher(capacity=8, gather=5.0)
    yield patient_batcher
    patient_batcher.close()


def test_what_waits_while_a_forward_pass_runs_is_encoded_together(batcher: Batcher) -> None:
    slow = Slow()
    first = hold(batcher, slow, 0.0)
    rest = [batcher.submit(slow, np.array([float(n)])) for n in range(1, 7)]
    slow.may_go.set()
    assert [float(future.result(5)[0, 0]) for future in (first, *rest)] == [0, 2, 4, 6, 8, 10, 12]
    assert slow.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_an_image_waits_for_one_that_is_being_prepared_and_for_none_otherwise(patient: Batcher) -> None:
    slow = Slow()
    started = time.monotonic()
    patient.submit(slow, np.array([1.0])).result(5)
    assert time.monotonic() - started < 1, "it may gather for 5 seconds, and had nobody to wait for"
    with patient.arrival(slow):
        first = patient.submit(slow, np.array([2.0]))
        time.sleep(0.05)
        assert not first.done()
        second = patient.submit(slow, np.array([3.0]))
    assert (float(first.result(5)[0, 0]), float(second.result(5)[0, 0])) == (4, 6)
    assert slow.batches == [[1], [2, 3]]


def test_after_a_slow_forward_pass_it_gathers_for_longer() -> None:
    batcher, slow = Batcher(capacity=8, gather=0.0, share=50.0), Slow()
    slow.may_go.clear()
    held = batcher.submit(slow, np.array([1.0]))
    time.sleep(0.2)
    slow.may_go.set()
    held.result(5)  # it took 0.2 s, so ten seconds are worth waiting now
    with batcher.arrival(slow):
        first = batcher.submit(slow, np.array([2.0]))
        time.sleep(0.05)
        second = batcher.submit(slow, np.array([3.0]))
    first.result(5), second.result(5)
    batcher.close()
    assert slow.batches == [[1], [2, 3]]


def test_who_has_an_answer_may_ask_again_and_is_waited_for_once(patient: Batcher) -> None:
    slow = Slow()
    with patient.arrival(slow):
        both = [patient.submit(slow, np.array([n])) for n in (1.0, 2.0)]
    for answer in both:
        answer.result(5)
    again = patient.submit(slow, np.array([3.0]))
    time.sleep(0.05)
    assert not again.done(), "two were there a moment ago"
    patient.submit(slow, np.array([4.0])).result(5)
    more = patient.submit(slow, np.array([5.0]))
    patient.call(lambda: None).result(1)  # not while there is something else to do
    assert more.result(0).shape == (1, 1)
    assert slow.batches == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize("there", ["waiting", "arriving"])
def test_who_waited_or_arrived_when_a_pass_ended_counts_among_those_who_were_there(
    patient: Batcher, there: str
) -> None:
    slow = Slow()
    held = hold(patient, slow, 1.0)
    with ExitStack() as arriving:
        if there == "arriving":
            arriving.enter_context(patient.arrival(slow))
        else:
            second = patient.submit(slow, np.array([2.0]))
        slow.may_go.set()
        held.result(5)
    if there == "arriving":
        second = patient.submit(slow, np.array([2.0]))
    time.sleep(0.05)
    assert not second.done(), "two were there when the first had its answer, so one more may come"
    patient.submit(slow, np.array([3.0])).result(5)
    assert slow.batches == [[1], [2, 3]]


def test_a_client_that_is_alone_waits_for_nobody() -> None:
    batcher, slow = Batcher(capacity=8, gather=0.2), Slow()
    with batcher.arrival(slow):
        both = [batcher.submit(slow, np.array([n])) for n in (1.0, 2.0)]
    for answer in both:
        answer.result(5)
    time.sleep(0.2)  # whoever has not come again by now will not be waited for
    for number in (3.0, 4.0, 5.0):
        started = time.monotonic()
        batcher.submit(slow, np.array([number])).result(5)
        assert time.monotonic() - started < 0.15
    batcher.close()


def test_backbones_do_not_mix(batcher: Batcher) -> None:
    slow, other = Slow("one"), Slow("other")
    held = hold(batcher, slow, 0.0)
    waiting = [batcher.submit((slow, other)[n % 2], np.array([float(n)])) for n in range(1, 5)]
    slow.may_go.set()
    for future in (held, *waiting):
        future.result(5)
    assert (slow.batches, other.batches) == ([[0], [2, 4]], [[1, 3]])


def test_nobody_waits_for_an_image_of_another_backbone(patient: Batcher) -> None:
    slow, other = Slow("one"), Slow("other")
    with patient.arrival(other):
        started = time.monotonic()
        patient.submit(slow, np.array([1.0])).result(5)
        assert time.monotonic() - started < 2, "it may gather for 5 seconds, and had nobody to wait for"


def test_an_error_is_told_to_those_who_wait_and_the_next_are_served(batcher: Batcher) -> None:
    slow = Slow()
    with pytest.raises(RuntimeError, match="negative"):
        batcher.submit(slow, np.array([-1.0])).result(5)
    with pytest.raises(ZeroDivisionError):
        batcher.call(lambda: 1 / 0).result(5)
    assert float(batcher.submit(slow, np.array([1.0])).result(5)[0, 0]) == 2


def test_an_image_that_fails_costs_those_of_its_batch_nothing(batcher: Batcher) -> None:
    slow = Slow()
    held = hold(batcher, slow, 0.0)
    good, bad, better = (batcher.submit(slow, np.array([n])) for n in (1.0, -1.0, 2.0))
    slow.may_go.set()
    held.result(5)
    assert (float(good.result(5)[0, 0]), float(better.result(5)[0, 0])) == (2, 4)
    with pytest.raises(RuntimeError, match="negative"):
        bad.result(5)
    assert slow.batches == [[0], [1, -1, 2], [1], [-1], [2]]


def test_what_is_not_waited_for_any_more_is_not_encoded(batcher: Batcher) -> None:
    slow = Slow()
    held = hold(batcher, slow, 0.0)
    gone, here = batcher.submit(slow, np.array([1.0])), batcher.submit(slow, np.array([2.0]))
    assert gone.cancel()
    slow.may_go.set()
    held.result(5), here.result(5)
    assert slow.batches == [[0], [2]]


def test_beyond_the_capacity_nobody_is_admitted(batcher: Batcher) -> None:
    with batcher.admission(6), pytest.raises(FullError, match="6 images waiting"), batcher.admission(3):
        pass
    with batcher.admission(20):
        assert batcher.admitted == 20, "a request that is alone is not refused for its size"
    assert batcher.admitted == 0


def test_what_was_submitted_before_the_end_is_finished() -> None:
    batcher, slow = Batcher(capacity=8, gather=0.0), Slow()
    futures = [batcher.submit(slow, np.array([float(n)])) for n in range(10)]
    batcher.close()
    assert [float(future.result(0)[0, 0]) for future in futures] == [2.0 * n for n in range(10)]
    with pytest.raises(FullError, match="shutting down"):
        batcher.submit(slow, np.array([1.0]))


def test_an_index_run_and_queries_never_encode_at_the_same_time(batcher: Batcher) -> None:
    busy = threading.Lock()

    class Alone(Slow):
        def encode(self, batch: Sequence[Prepared]) -> Vector:
            assert busy.acquire(blocking=False), "two forward passes at once"
            time.sleep(0.001)
            busy.release()
            return super().encode(batch)

    backbone = Alone()
    shared = BatchedBackbone(backbone, batcher)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(shared.encode, [np.array([1.0])] * 3) for _ in range(20)]
        queries = [pool.submit(lambda: batcher.submit(backbone, np.array([1.0])).result(5)) for _ in range(20)]
        assert all(run.result().shape == (3, 1) for run in runs)
        assert all(query.result().shape == (1, 1) for query in queries)
    assert (shared.description, shared.batch_size) == (backbone.description, 4)
