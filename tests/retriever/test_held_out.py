"""Held-out scores are those of a support set that never had the shot, or the label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearshot.retriever import held_out
from nearshot.retriever.held_out import HeldOut, without_the_label, without_the_shot
from nearshot.retriever.scores import Labelled, fit
from nearshot.schema.labelled import LabelledVectors
from nearshot.schema.vocabulary import Score
from nearshot.vectors.normalise import normalise

SCORES = pytest.mark.parametrize("score", list(Score))


def support_of(*rows: tuple[str, str, str, list[float]]) -> LabelledVectors:
    labels, shots, hashes, vectors = zip(*rows, strict=True)
    return LabelledVectors(tuple(map(str, range(len(rows)))), labels, shots, hashes, normalise(np.array(vectors)))


def drawn(seed: int, *, labels: int = 3, shots: int = 3) -> LabelledVectors:
    """Shots of one to three images, now and then the same bytes under two labels."""
    chance = np.random.default_rng(seed)
    rows = []
    for label in range(labels):
        centre = chance.normal(size=6)
        for shot in range(shots):
            for image in range(int(chance.integers(1, 4))):
                name = "same" if chance.random() < 0.1 else f"{label}/{shot}/{image}"
                rows.append((f"label{label}", f"shot{shot}", name, (centre + 0.5 * chance.normal(size=6)).tolist()))
    return support_of(*rows)


def by_fitting_again(score: Score, labelled: Labelled, asked: int, out: NDArray[np.bool_]) -> NDArray[np.float64]:
    present, numbers = np.unique(labelled.numbers[~out], return_inverse=True)
    scores = np.full(len(labelled.names), -np.inf)
    if len(present):
        names = tuple(labelled.names[label] for label in present)
        rest = Labelled(names, numbers, labelled.vectors[~out], labelled.strangers)
        scores[present] = fit(score, rest).scores(labelled.vectors[asked : asked + 1])[0]
    return scores


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(list(Score)), st.sampled_from([0, 4]))
def test_nothing_that_is_left_out_has_a_say(seed: int, score: Score, strangers: int) -> None:
    support = drawn(seed)
    others = normalise(np.random.default_rng(seed).normal(size=(strangers, 6)) + 2)
    labelled = Labelled.of(support.labels, support.vectors, others)
    shots = HeldOut.of(support, labelled.numbers)
    keys, hashes = list(zip(support.labels, support.shots, strict=True)), np.array(support.hashes)
    by_shot, by_label = (leave(score, labelled, shots) for leave in (without_the_shot, without_the_label))
    assert len(shots.asked) == len(set(keys))
    for row, image in enumerate(shots.asked.tolist()):
        same_shot = np.array([key == keys[image] for key in keys])
        out = same_shot | (hashes == hashes[image])
        np.testing.assert_allclose(by_shot[row], by_fitting_again(score, labelled, image, out), atol=2e-6)
        out |= labelled.numbers == labelled.numbers[image]
        np.testing.assert_allclose(by_label[row], by_fitting_again(score, labelled, image, out), atol=2e-6)


@SCORES
def test_a_label_has_no_say_in_how_its_own_shots_score_as_strangers(score: Score) -> None:
    """However many shots the label has: votes of its own would make a stranger's share of the others small."""
    others = [("b", f"shot{n}", f"b{n}", [0.2 * n, 1, 0.1]) for n in range(4)]
    others += [("c", f"shot{n}", f"c{n}", [0.1, 0.2 * n, 1]) for n in range(4)]
    asked = ("a", "shot0", "a0", [1.0, 0.3, 0.2])
    few, many = (
        support_of(asked, *[("a", f"shot{n}", f"a{n}", [1.0, 0.01 * n, 0]) for n in range(1, count)], *others)
        for count in (2, 30)
    )
    scores = []
    for support in (few, many):
        labelled = Labelled.of(support.labels, support.vectors)
        shots = HeldOut.of(support, labelled.numbers)
        row = shots.asked.tolist().index(0)
        scores.append(without_the_label(score, labelled, shots)[row])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert np.isneginf(scores[0][0])


def test_of_many_shots_an_even_choice_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "MOST", 5)
    support = drawn(1, labels=4, shots=4)
    labelled = Labelled.of(support.labels, support.vectors)
    shots = HeldOut.of(support, labelled.numbers)
    hashes = [support.hashes[index] for index in shots.asked]
    firsts = dict(reversed(list(zip(zip(support.labels, support.shots, strict=True), support.hashes, strict=True))))
    assert sorted(hashes) == sorted(firsts.values())[:5]
    assert without_the_shot(Score.MAX_SIM, labelled, shots).shape == (5, 4)


@SCORES
def test_one_label_or_none_is_no_error(score: Score) -> None:
    support = support_of(("a", "shot1", "1", [1, 0]), ("a", "shot2", "2", [0.6, 0.8]))
    labelled = Labelled.of(support.labels, support.vectors)
    shots = HeldOut.of(support, labelled.numbers)
    assert np.isfinite(without_the_shot(score, labelled, shots)).all()
    assert np.isneginf(without_the_label(score, labelled, shots)).all()
    empty = LabelledVectors((), (), (), (), np.zeros((0, 2), dtype=np.float32))
    none = Labelled.of(empty.labels, empty.vectors)
    assert without_the_shot(score, none, HeldOut.of(empty, none.numbers)).shape == (0, 0)
