"""Statistics kept on disk: taken up where nothing has changed, equal to those fitted anew, and never trusted unchecked."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearshot.indexer.feedback import add_shot, reject, undo
from nearshot.retriever import label_index
from nearshot.retriever.choose_backbone import choose_row
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.scores import Labelled, Scorer, fit
from nearshot.retriever.searcher import Searcher
from nearshot.schema.errors import UsageError
from nearshot.schema.labelled import labelled_vectors
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Action, Role, Score
from tests.conftest import SMALL, run_index, save_crop

MEANS = pytest.mark.parametrize("score", [Score.PROTOTYPE, Score.LDA])


def opened(store: Store, score: Score) -> dict[str, float]:
    """The scores of the first query by a searcher that was just opened."""
    with store.reading() as catalog:
        searcher = Searcher(
            store, catalog, *choose_row(catalog, None, ["things"]), QueryOptions(category="things", score=score)
        )
        vector = labelled_vectors(catalog, searcher.row, "things", Role.QUERY).vectors[:1]
    return searcher._indexes["things"].scores(vector)


def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each fit from now on is given."""
    fitted: list[int] = []

    def counted(score: Score, labelled: Labelled) -> Scorer:
        fitted.append(len(labelled.vectors))
        return fit(score, labelled)

    monkeypatch.setattr(label_index, "fit", counted)
    return fitted


@MEANS
def test_what_was_fitted_once_is_not_fitted_again(
    score: Score, store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    fitted = fits(monkeypatch)
    first = opened(store, score)
    assert opened(store, score) == first
    assert fitted == [4]
    run_index(store, small)
    save_crop(small / "things/6.preprocessed/new.png", "rocket:1")
    run_index(store, small)
    assert opened(store, score) == first, "a new query is no new shot"
    assert fitted == [4]
    save_crop(small / "things/2.support-set/cat/shot3.png", "chelsea:7")
    run_index(store, small)
    assert opened(store, score) != first
    assert fitted == [4, 5]
    assert len(list((store.directory / "statistics").iterdir())) == 1


@MEANS
@pytest.mark.parametrize("harm", ["torn", "changed", "empty", "other"])
def test_a_damaged_file_is_passed_over_and_written_anew(
    score: Score, harm: str, store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    first = opened(store, score)
    [path] = (store.directory / "statistics").iterdir()
    whole = path.read_bytes()
    harmed = {
        "torn": whole[: len(whole) // 2],
        "changed": whole[:-400] + bytes([whole[-400] ^ 1]) + whole[-399:],
        "empty": b"",
        "other": hashlib.sha256(b"PK\x03\x04").digest() + b"PK\x03\x04",
    }
    path.write_bytes(harmed[harm])
    fitted = fits(monkeypatch)
    assert opened(store, score) == first
    assert fitted == [4]
    assert path.read_bytes() != harmed[harm]
    assert opened(store, score) == first
    assert fitted == [4]


def test_a_store_that_cannot_be_written_goes_without(store: Store, small: Path) -> None:
    run_index(store, small)
    (store.directory / "statistics").write_text("in the way")
    assert opened(store, Score.LDA) == opened(store, Score.LDA)


Step = Callable[[Store, Path, int], None]


def _add(store: Store, root: Path, number: int) -> None:
    save_crop(
        root / f"things/2.support-set/{'cat' if number % 2 else 'coffee'}/shot{number + 10}.png", f"chelsea:{number}"
    )
    run_index(store, root)


def _remove(store: Store, root: Path, number: int) -> None:
    shots = sorted((root / "things/2.support-set").rglob("*.png"))
    if len(shots) > 2:
        shots[number % len(shots)].unlink()
        run_index(store, root)


def _label(store: Store, root: Path, number: int) -> None:
    _said(lambda image: add_shot(store, image, ("cat", "coffee", "rocket")[number % 3]), root, number)


def _reject(store: Store, root: Path, number: int) -> None:
    _said(lambda image: reject(store, image), root, number)


def _undo(store: Store, root: Path, number: int) -> None:
    for action in Action:
        _said(lambda image, action=action: undo(store, image, action), root, number)  # type: ignore[misc]


def _said(say: Callable[[Path], object], root: Path, number: int) -> None:
    queries = sorted((root / "things/6.preprocessed").rglob("*.png"))
    with contextlib.suppress(UsageError):  # it was said before, or there is nothing to take back
        say(queries[number % len(queries)])


STEPS: list[Step] = [_add, _remove, _label, _reject, _undo]


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 7)), min_size=3, max_size=6))
def test_after_any_changes_what_is_kept_equals_what_is_fitted_anew(steps: list[tuple[Step, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "data"
        for path, source in SMALL.items():
            save_crop(root / path, source)
        for number in range(5):
            save_crop(root / f"things/6.preprocessed/new/{number}.png", f"rocket:{number}")
        with Store(Path(directory) / "store", create=True) as store:
            run_index(store, root)
            for step, number in steps:
                step(store, root, number)
                for score in (Score.PROTOTYPE, Score.LDA):
                    opened(store, score)
                    kept = opened(store, score)
                    for file in (store.directory / "statistics").iterdir():
                        file.unlink()
                    anew = opened(store, score)
                    assert list(kept) == list(anew)
                    np.testing.assert_array_equal(list(kept.values()), list(anew.values()))
