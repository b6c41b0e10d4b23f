"""Replay: what is decided again is what query would say under those options."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearshot.evaluation.replay import ReplayOptions, replay
from nearshot.retriever.answer import Answer
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sources import read_queries
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Score
from tests.conftest import run_index, save_crop

pytestmark = pytest.mark.both_stores


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"threshold": 0.97},
        {"threshold": 0.5},
        {"margin_floor": 0.5},
        {"score": Score.PROTOTYPE},
        {"score": Score.KNN_VOTE, "threshold": 0.1},
        {"score": Score.LDA},
        {"score": Score.LDA, "threshold": 0.9},
    ],
)
def test_each_query_is_told_what_query_would_tell_it(store: Store, small: Path, chosen: dict[str, object]) -> None:
    save_crop(small / "things/2.support-set/coffee/shot3.png", "chelsea:9")
    for number in range(3):
        save_crop(small / f"things/6.preprocessed/{number}.png", f"rocket:{number}")
    run_index(store, small)
    replayed = replay(store, ReplayOptions(category="things", **chosen))  # type: ignore[arg-type]
    assert len(replayed.queries) == 5
    for side, options in (("before", {}), ("after", chosen)):
        retriever = Retriever(store, QueryOptions(category="things", **options))  # type: ignore[arg-type]
        expected = {}
        for answer in retriever.answer(read_queries([small / "things/6.preprocessed"])):
            assert isinstance(answer, Answer)
            assert answer.decision.nearest is not None
            nearest = answer.decision.nearest
            path = str(Path(answer.path).relative_to(small))
            expected[path] = (answer.decision.verdict, nearest.label, pytest.approx(nearest.score, abs=2e-6))
        told = {query.path: getattr(query, side) for query in replayed.queries}
        assert {
            path: (decision.verdict, decision.nearest, decision.score) for path, decision in told.items()
        } == expected
    assert [query for query in replayed.queries if query.flips] == [
        query
        for query in replayed.queries
        if (query.before.as_json()["verdict"], query.before.as_json()["label"])
        != (query.after.as_json()["verdict"], query.after.as_json()["label"])
    ]
    if not chosen:
        assert not any(query.flips for query in replayed.queries)
