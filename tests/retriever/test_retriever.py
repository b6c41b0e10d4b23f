"""The retriever: from an image's bytes to an answer."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nearshot.indexer.options import IndexOptions
from nearshot.retriever.answer import Answer, Unreadable
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sources import read_queries
from nearshot.schema.errors import UsageError, WeightsError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Against, Verdict
from tests import tiny
from tests.conftest import HOG, run_index, save_crop

pytestmark = pytest.mark.both_stores

OPTIONS = QueryOptions(backbone="hog")


def ask(store: Store, path: Path, options: QueryOptions = OPTIONS) -> Answer:
    [answer] = Retriever(store, options).answer(read_queries([path]))
    assert isinstance(answer, Answer)
    return answer


def test_another_crop_is_recognised_and_a_stranger_is_not(store: Store, small: Path) -> None:
    run_index(store, small)
    known = ask(store, small / "things/6.preprocessed/cat/a.png")
    assert (known.decision.verdict, known.decision.label) == (Verdict.MATCH, "cat")
    assert {hit.image.label for hit in known.hits[:2]} == {"cat"}
    stranger = ask(store, small / "things/6.preprocessed/Unknown/b.png")
    assert (stranger.decision.verdict, stranger.decision.label) == (Verdict.UNKNOWN, None)


def test_a_shot_scores_one_against_itself(store: Store, small: Path) -> None:
    run_index(store, small)
    answer = ask(store, small / "things/2.support-set/cat/shot1.png")
    assert answer.hits[0].score == pytest.approx(1.0, abs=1e-6)
    assert answer.hits[0].image.shot == "shot1"
    assert answer.hits[0].score <= 1.0


def test_a_second_label_is_found_behind_any_number_of_shots(store: Store, small: Path) -> None:
    for number in range(3, 40):
        shutil.copy(small / "things/2.support-set/cat/shot1.png", small / f"things/2.support-set/cat/shot{number}.png")
    run_index(store, small)
    decision = ask(store, small / "things/2.support-set/cat/shot1.png", replace(OPTIONS, top_k=1)).decision
    assert decision.runner_up is not None
    assert decision.runner_up.label == "coffee"


def test_all_categories_are_searched_unless_one_is_named(store: Store, small: Path) -> None:
    save_crop(small / "space/2.support-set/galaxies/shot1.png", "hubble_deep_field:0")
    run_index(store, small)
    stranger = small / "things/6.preprocessed/Unknown/b.png"
    everywhere = ask(store, stranger)
    assert (everywhere.decision.label, everywhere.as_json()["category"]) == ("galaxies", "space")
    here = ask(store, stranger, replace(OPTIONS, category="things"))
    assert (here.decision.verdict, here.as_json()["category"]) == (Verdict.UNKNOWN, "things")
    with pytest.raises(UsageError, match="no category 'sky' is indexed; there are space, things"):
        Retriever(store, replace(OPTIONS, category="sky"))


def test_hits_come_from_where_they_are_asked_and_the_verdict_from_support(store: Store, small: Path) -> None:
    run_index(store, small)
    query = small / "things/6.preprocessed/cat/a.png"
    roles = {
        against: {hit.image.role.value for hit in ask(store, query, replace(OPTIONS, against=against)).hits}
        for against in Against
    }
    assert roles == {"support": {"support"}, "query": {"query"}, "all": {"support", "query"}}
    assert ask(store, query, replace(OPTIONS, against=Against.QUERY)).decision == ask(store, query).decision


def test_what_is_remembered_of_images_has_a_bound_and_answers_stay_the_same(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    monkeypatch.setattr("nearshot.retriever.searcher.SHOWN", 1)
    retriever = Retriever(store, replace(OPTIONS, against=Against.ALL, top_k=1))
    queries = [small / f"things/6.preprocessed/{name}.png" for name in ("cat/a", "Unknown/b")]
    for _ in range(2):
        answers = retriever.answer(read_queries(queries))
        nearest = [answer.hits[0].image.path for answer in answers if isinstance(answer, Answer)]
        assert nearest == [str(query) for query in queries], "each is nearest to itself"
        assert len(retriever.searcher._shown) <= 6, "what one batch of queries found"


def test_a_category_without_support_says_so(store: Store, small: Path) -> None:
    save_crop(small / "bare/6.preprocessed/x.png", "rocket")
    run_index(store, small)
    bare = replace(OPTIONS, category="bare")
    assert ask(store, small / "bare/6.preprocessed/x.png", bare).decision.verdict == Verdict.NO_SUPPORT
    answer = ask(store, small / "bare/6.preprocessed/x.png", replace(bare, against=Against.ALL))
    assert answer.decision.verdict == Verdict.NO_SUPPORT
    assert [hit.image.role.value for hit in answer.hits] == ["query"]


def test_an_image_that_cannot_be_read_is_an_answer_of_its_own(store: Store, small: Path, tmp_path: Path) -> None:
    run_index(store, small)
    (tmp_path / "words.jpg").write_text("words")
    queries = read_queries([tmp_path / "none.jpg", tmp_path / "words.jpg", small / "things/6.preprocessed/cat/a.png"])
    first, second, third = Retriever(store, OPTIONS).answer(queries)
    assert isinstance(first, Unreadable)
    assert first.reason == "cannot be read: No such file or directory"
    assert isinstance(second, Unreadable)
    assert isinstance(third, Answer)


def test_the_best_backbone_indexed_is_taken(store: Store, small: Path, weights: Path) -> None:
    with pytest.raises(UsageError, match="nothing is indexed yet"):
        Retriever(store, QueryOptions())
    run_index(store, small)
    assert Retriever(store, QueryOptions()).searcher.row.name == "hog"
    run_index(store, small, IndexOptions(backbones=("dinov2",), weights=weights, device="cpu"))
    assert Retriever(store, QueryOptions()).searcher.row.name == "dinov2"
    with pytest.raises(UsageError, match="nothing is indexed with clip; run `nearshot index DATA --backbone clip`"):
        Retriever(store, QueryOptions(backbone="clip"))
    with pytest.raises(UsageError, match="no backbone is called 'vgg'"):
        Retriever(store, QueryOptions(backbone="vgg"))


def test_vectors_of_other_weights_are_never_compared(store: Store, small: Path, weights: Path, tmp_path: Path) -> None:
    run_index(store, small, IndexOptions(backbones=("dinov2",), weights=weights, device="cpu"))
    query = small / "things/6.preprocessed/cat/a.png"
    assert ask(store, query, QueryOptions(backbone="dinov2")).hits
    tiny.save_dinov2(tmp_path / "other/dinov2", seed=9)
    with pytest.raises(WeightsError, match=r"indexed with other weights.*nearshot index DATA --backbone dinov2"):
        Retriever(store, QueryOptions(backbone="dinov2", weights=tmp_path / "other"))


def test_a_store_indexed_in_bf16_is_queried_in_bf16(store: Store, small: Path, weights: Path) -> None:
    from nearshot.schema.vocabulary import Precision

    bf16 = IndexOptions(backbones=("dinov2",), weights=weights, device="cpu", precision=Precision.BF16)
    run_index(store, small, bf16)
    answer = ask(store, small / "things/2.support-set/cat/shot1.png", QueryOptions())
    assert answer.hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert run_index(store, small, replace(bf16, precision=None)).backbones["dinov2"].reused == 6


def test_the_answer_follows_the_support_set_without_delay(store: Store, small: Path) -> None:
    run_index(store, small)
    stranger = small / "things/6.preprocessed/Unknown/b.png"
    assert ask(store, stranger).decision.verdict == Verdict.UNKNOWN
    save_crop(small / "things/2.support-set/galaxies/shot1.png", "hubble_deep_field:0")
    run_index(store, small, HOG)
    assert ask(store, stranger).decision.label == "galaxies"
    shutil.rmtree(small / "things/2.support-set/galaxies")
    run_index(store, small, HOG)
    assert ask(store, stranger).decision.verdict == Verdict.UNKNOWN


def test_a_backbone_that_has_not_seen_all_shots_is_passed_over_and_named(
    store: Store, small: Path, weights: Path
) -> None:
    run_index(store, small)
    dinov2 = IndexOptions(backbones=("dinov2",), weights=weights, device="cpu", batch_size=1)
    wishes = iter([False, False, True])
    run_index(store, small, dinov2, should_stop=lambda: next(wishes))
    assert Retriever(store, QueryOptions()).searcher.row.name == "hog"
    partial = Retriever(store, QueryOptions(backbone="dinov2"))
    assert (partial.searcher.covered, partial.searcher.lacking) == (2, 2)
    run_index(store, small, dinov2)
    assert Retriever(store, QueryOptions()).searcher.row.name == "dinov2"


def test_an_older_complete_index_of_a_backbone_serves_until_the_new_one_is(
    store: Store, small: Path, weights: Path
) -> None:
    from nearshot.schema.vocabulary import Precision

    save_crop(small / "space/2.support-set/galaxies/shot1.png", "hubble_deep_field:0")
    full = IndexOptions(backbones=("dinov2",), weights=weights, device="cpu")
    run_index(store, small, full)
    run_index(store, small, replace(full, precision=Precision.BF16, categories=("space",)))
    assert Retriever(store, QueryOptions(backbone="dinov2")).searcher.row.precision == "fp32"
    assert Retriever(store, QueryOptions(backbone="dinov2", category="space")).searcher.row.precision == "bf16"
