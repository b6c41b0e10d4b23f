"""What to label next: what is doubtful and typical, one of each kind; and how many shots more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nearshot.evaluation.learning_curve import Curve, more_shots
from nearshot.evaluation.next_labels import advise, doubts, one_of_each, typicality
from nearshot.schema.store import Store
from tests.conftest import Outcome, run_index, save_crop

Run = Callable[..., Outcome]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two labels of ten shots; unlabelled queries: clear ones, a stranger twice, and one that is labelled elsewhere."""
    root = tmp_path / "data/things"
    for label, photo in {"cat": "chelsea", "coffee": "coffee"}.items():
        for number in range(10):
            save_crop(root / f"2.support-set/{label}/shot{number}.png", f"{photo}:{number}")
    for number in range(3):
        save_crop(root / f"6.preprocessed/{number}.png", f"chelsea:{number + 3}")
    save_crop(root / "6.preprocessed/doubtful.png", "rocket:1")
    save_crop(root / "6.preprocessed/doubtful-again.png", "rocket:1")
    save_crop(root / "6.preprocessed/cat/known.png", "astronaut:1")
    save_crop(root / "6.preprocessed/same-as-known.png", "astronaut:1")
    return tmp_path / "data"


def test_unlabelled_queries_are_named_once_and_known_ones_never(store: Store, data: Path) -> None:
    run_index(store, data)
    advice = advise(store, "things")
    names = [Path(candidate.path).name for candidate in advice.worth]
    assert len(names) == len(set(names))
    assert sum(name.startswith("doubtful") for name in names) == 1
    assert not {"known.png", "same-as-known.png"} & set(names)
    assert all(Path(candidate.path).is_file() for candidate in advice.worth)
    assert [candidate.value for candidate in advice.worth] == sorted(
        (candidate.value for candidate in advice.worth), reverse=True
    )
    for candidate in advice.worth:
        assert candidate.value == pytest.approx((candidate.disagreement + candidate.doubt) / 2 * candidate.typical)


def test_of_very_many_shots_no_needs_are_estimated_and_it_is_said(
    store: Store, data: Path, nearshot: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, data)
    shots = len([path for path in (data / "things/2.support-set").rglob("*") if path.is_file()])
    monkeypatch.setattr("nearshot.evaluation.learning_curve.MOST_SHOTS", shots)
    assert len(advise(store).needs) > 0
    monkeypatch.setattr("nearshot.evaluation.learning_curve.MOST_SHOTS", shots - 1)
    advice = advise(store)
    assert (advice.needs, advice.beyond, len(advice.worth) > 0) == ([], ["things"], True)
    nearshot("index", data, "--backbone", "hog", "--no-captions", "--no-compile")
    assert f"things: of more than {shots - 1} shots, what each label needs is not estimated" in nearshot("next").stdout


def test_the_doubtful_are_worth_more_than_the_clear() -> None:
    scores = np.array([[0.9, 0.1], [0.51, 0.1], [0.9, 0.88], [0.1, 0.05]])
    doubt = doubts(scores, 0.5, 0.02)
    assert doubt[1] == pytest.approx(np.exp(-0.01 / np.std(scores.max(axis=1))))
    assert doubt[2] == pytest.approx(1.0), "a tie, but for the margin"
    assert doubt[0] < doubt[1]
    assert doubts(scores[:, :1], 0.5, 0.0).shape == (4,)
    assert doubts(np.array([[0.764, 0.712]]), 0.5, 0.08)[0] == pytest.approx(np.exp(-0.028 / 0.05)), "one query alone"


def test_what_many_are_like_is_typical_and_near_duplicates_are_one() -> None:
    near = np.array([[1.0, 0.99, 0.9, 0.1], [0.99, 1.0, 0.9, 0.1], [0.9, 0.9, 1.0, 0.1], [0.1, 0.1, 0.1, 1.0]])
    typical = typicality(near)
    assert typical.argmin() == 3
    assert typical.max() == 1.0
    groups = [(first, alike.tolist()) for first, alike in one_of_each(np.array([0.5, 0.6, 0.4, 0.9]), near, 3)]
    assert groups == [(3, [3]), (1, [0, 1]), (2, [2])]
    assert typicality(np.eye(1)).tolist() == [1.0]


def falling(errors: list[float], shots: int) -> Curve:
    """A curve of these errors at 1, 2, 4, ... shots, the same in every draw."""
    draws = 200
    curve = {}
    for exponent, error in enumerate(errors):
        wrong = np.arange(draws * shots).reshape(draws, shots) % 1000 < round(1000 * error)
        curve[2**exponent] = 1.0 - np.random.default_rng(exponent).permuted(wrong.ravel()).reshape(draws, shots)
    return curve


def test_a_power_law_is_followed_to_the_goal() -> None:
    """0.4 k^-1: 8 shots for an error of 0.05."""
    more, low, high = more_shots(falling([0.4, 0.2, 0.1], 5), 5)
    assert more is not None
    assert low is not None
    assert high is not None
    assert 2 <= more <= 4
    assert low <= more <= high


def test_a_curve_that_does_not_fall_needs_something_else_than_shots() -> None:
    assert more_shots(falling([0.3, 0.3, 0.3], 6), 6)[0] is None
    assert more_shots(falling([0.3, 0.1, 0.04], 6), 6)[0] == 0
    assert more_shots({}, 1) == (None, None, None)


def test_next_prints_paths_reasons_and_needs(nearshot: Run, data: Path) -> None:
    nearshot("index", "data", "--backbone", "hog")
    printed = nearshot("next").stdout
    assert "data/things/6.preprocessed/" in printed
    assert "things/cat: 100% of its 10 shots come out nearest to it: enough for 95 %" in printed
    assert printed.endswith("next: nearshot review, or nearshot label IMAGE LABEL, or nearshot reject IMAGE\n")
    [advice] = nearshot("next", "--limit", "1", "--json").objects
    assert len(advice["next"]) == 1
    assert {need["label"] for need in advice["labels"]} == {"cat", "coffee"}
    first = advice["next"][0]["path"]
    assert nearshot("reject", first).status == 0
    assert first not in [candidate["path"] for candidate in nearshot("next", "--json").objects[0]["next"]]
    assert nearshot("next", "--category", "dogs").status == 2
