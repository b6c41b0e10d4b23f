"""Prediction sets hold the true label as often as they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearshot.retriever.prediction_set import PredictionSet, SetSamples, prediction_set, samples_needed


def test_a_p_value_is_the_share_of_its_own_images_that_score_no_higher() -> None:
    samples = SetSamples({"a": [0.1 * n for n in range(1, 10)], "b": [0.5] * 9}, [0.2, 0.4])
    predicted = prediction_set({"a": 0.35, "b": 0.49}, samples, 0.9)
    assert predicted.labels == {"a": 0.4}, "all of b's own score higher: p 0.1, no more than 1 - 0.9"
    assert predicted.none_of_these == pytest.approx(1 / 3)
    assert prediction_set({"a": 0.05, "b": 0.4}, samples, 0.9).labels == {}
    assert prediction_set({"a": 1.0, "b": 0.5}, samples, 0.9).labels == {"a": 1.0, "b": 1.0}
    assert prediction_set({"a": 1.0}, SetSamples({"a": [0.5] * 9}, []), 0.9).none_of_these is None


def test_a_label_with_too_few_images_borrows_those_of_all() -> None:
    assert [samples_needed(coverage) for coverage in (0.5, 0.9, 0.95)] == [1, 9, 19]
    samples = SetSamples({"a": [0.9] * 9, "b": [0.1]}, [])
    assert prediction_set({"a": 0.0, "b": 0.05}, samples, 0.9).labels == {}
    assert prediction_set({"a": 0.0, "b": 0.5}, samples, 0.9).labels == {"b": pytest.approx(2 / 11)}
    assert prediction_set({"c": 0.5}, samples, 0.9).labels == {"c": pytest.approx(2 / 11)}, "a label that is new"


@pytest.mark.parametrize("images", [9, 30])
def test_the_true_label_is_in_the_set_as_often_as_promised_for_each_label(images: int) -> None:
    """1,000 times: images of two labels, one of which scores far lower; a new one of each. Coverage by label, not over all."""
    chance = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(1000):
        centres = (0.8, 0.3)
        own = {
            name: sorted(chance.normal(centre, 0.1, images).tolist())
            for name, centre in zip("ab", centres, strict=True)
        }
        for label, (name, centre) in enumerate(zip("ab", centres, strict=True)):
            predicted = prediction_set({name: float(chance.normal(centre, 0.1))}, SetSamples(own, []), 0.9)
            held[label] += name in predicted.labels
    spread = 3 * np.sqrt(0.9 * 0.1 / 1000)
    assert (held / 1000 >= 0.9 - spread).all()
    assert (held / 1000 <= 0.9 + 1 / (images + 1) + spread).all()


@given(
    st.dictionaries(st.sampled_from("abc"), st.floats(0, 1), min_size=1),
    st.dictionaries(st.sampled_from("abc"), st.lists(st.floats(0, 1), max_size=20).map(sorted)),
    st.sampled_from([0.5, 0.8, 0.9]),
)
def test_more_coverage_never_rules_out_more(
    scores: dict[str, float], own: dict[str, list[float]], coverage: float
) -> None:
    samples = SetSamples.from_json(json.loads(json.dumps(SetSamples(own, [0.5]).as_json())))
    less, more = (set(prediction_set(scores, samples, level).labels) for level in (coverage, 0.95))
    judged_alike = all(len(images) >= 19 or len(images) < 1 for images in own.values())
    assert less <= more or not judged_alike


def test_the_json_names_what_it_holds() -> None:
    predicted = PredictionSet(0.9, {"a": 0.51234}, None)
    assert predicted.as_json() == {"coverage": 0.9, "labels": [{"label": "a", "p": 0.5123}], "none_of_these": None}
