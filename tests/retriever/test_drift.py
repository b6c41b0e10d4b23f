"""Drift: a real shift is found within 50 queries, and hardly ever one that is not there."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from nearshot.retriever.drift import RECENT, Watch


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def observed(scores: NDArray[np.float64], reference: NDArray[np.float64], seed: int) -> Watch:
    watch = Watch()
    ordered = np.sort(reference).tolist()
    for position, score in enumerate(scores.tolist()):
        watch.observe(score, digest(seed, position), ordered)
    return watch


def test_without_a_shift_the_promise_lapses_in_one_of_a_hundred_streams_at_most() -> None:
    """500 streams of 300 queries after calibrations by 60 images; scores of two kinds, rounded, so that there are ties."""
    lapsed = 0
    for seed in range(500):
        chance = np.random.default_rng(seed)
        kinds = chance.random(360) < 0.3
        drawn = np.where(kinds, chance.normal(0.4, 0.05, 360), chance.normal(0.6, 0.05, 360))
        scores = np.round(drawn, 2).astype(np.float64)
        lapsed += observed(scores[60:], scores[:60], seed).lapsed is not None
    assert lapsed <= 5 + 3 * np.sqrt(500 * 0.01 * 0.99)


def test_a_real_shift_is_found_within_50_queries_also_after_many() -> None:
    """Twice the standard deviation, down and up, at once and after 300 queries like those of the calibration."""
    for seed in range(40):
        chance = np.random.default_rng(seed)
        reference = chance.normal(0.6, 0.05, 60)
        for before in (0, 300):
            for shift in (-0.1, 0.1):
                stream = np.r_[chance.normal(0.6, 0.05, before), chance.normal(0.6 + shift, 0.05, 50)]
                watch = observed(stream, reference, seed)
                assert watch.lapsed is not None, (seed, before, shift)
                assert ("lower" if shift < 0 else "higher") in watch.lapsed


def test_the_reason_tells_what_changed_and_stays() -> None:
    reference = np.linspace(0.5, 0.7, 50)
    watch = observed(np.full(RECENT, 0.3), reference, 0)
    assert watch.lapsed is not None
    assert ": lower, 0.300 in the middle instead of 0.600; calibrate anew" in watch.lapsed
    before = watch.lapsed
    for position in range(200):
        watch.observe(0.6, digest("more", position), sorted(reference))
    assert watch.lapsed == before


def test_an_image_that_is_asked_about_again_tells_nothing() -> None:
    watch = Watch()
    assert watch.observe(0.1, digest("one"), [0.5])
    for _ in range(100):
        assert not watch.observe(0.1, digest("one"), [0.5])
    assert (watch.count, watch.lapsed) == (1, None)
    assert not watch.observe(0.1, digest("two"), []), "nothing to compare with"


def test_a_watch_survives_being_kept() -> None:
    chance = np.random.default_rng(0)
    reference = sorted(chance.normal(size=40).tolist())
    whole, parts = Watch(), Watch()
    for position, score in enumerate(chance.normal(size=30).tolist()):
        whole.observe(score, digest(position), reference)
        parts.observe(score, digest(position), reference)
        parts = Watch.from_json(json.loads(json.dumps(parts.as_json())))
    assert parts == whole
