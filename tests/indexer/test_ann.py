"""Approximate indexes of a store: built by index runs, remembered, lost without loss, and told of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import nearshot as nearshot_door
from nearshot.indexer.options import IndexOptions
from nearshot.indexer.status import read_status
from nearshot.indexer.verify import verify
from nearshot.retriever.answer import Answer
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.search import SearchOptions, search
from nearshot.schema import segment_cache
from nearshot.schema.ann import ann_rows
from nearshot.schema.errors import StoreError
from nearshot.schema.segments import segment_files
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Against, Ann, Mode
from tests.conftest import HOG, Outcome, Writer, run_index

IVF = IndexOptions(backbones=("hog",), ann=Ann.IVF)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six images are many here, and four words enough to tell."""
    monkeypatch.setattr("nearshot.vectors.ann_indexes.LEAST", 6)
    monkeypatch.setattr("nearshot.vectors.ann.FEWEST_WORDS", 4)


@pytest.fixture
def data(write_data: Writer) -> Path:
    files = {f"things/2.support-set/label{n % 4}/shot{n}.png": f"chelsea:{n}" for n in range(8)}
    return write_data(files | {f"things/6.preprocessed/q{n}.png": f"coffee:{n}" for n in range(8)})


def files(store: Store) -> list[str]:
    return sorted(path.name for path in store.segment_directory.iterdir() if path.suffix != ".faiss")


def test_a_run_builds_them_and_later_runs_remember(store: Store, data: Path, write_data: Writer) -> None:
    assert run_index(store, data).ann == []
    report = run_index(store, data, IVF)
    assert [(each.backbone, each.role, each.kind, each.vectors) for each in report.ann] == [
        ("hog", "support", Ann.IVF, 8),
        ("hog", "query", Ann.IVF, 8),
    ]
    assert all(each.recall == 1.0 for each in report.ann)
    before = files(store)
    assert len(before) == 2
    assert run_index(store, data).ann == [], "they are there"
    write_data({f"things/6.preprocessed/more{n}.png": f"coffee:{n + 20}" for n in range(32)})
    [again] = run_index(store, data).ann
    assert (again.role, again.vectors) == ("query", 40), "the segments were merged"
    assert len(set(files(store)) & set(before)) == 1, "the one of what was merged is gone"


@pytest.mark.parametrize("other", [Ann.NONE, Ann.HNSW])
def test_another_choice_replaces_them(store: Store, data: Path, other: Ann) -> None:
    run_index(store, data, IVF)
    run_index(store, data, IndexOptions(backbones=("hog",), ann=other))
    assert {Path(name).suffix for name in files(store)} == (set() if other == Ann.NONE else {".hnsw"})
    with store.reading() as catalog:
        assert segment_files(catalog) == {path.name for path in store.segment_directory.iterdir()}


def test_hits_among_queries_say_that_they_are_approximate_and_verdicts_are_the_same(store: Store, data: Path) -> None:
    run_index(store, data, IVF)
    query = (data / "things/6.preprocessed/q3.png").read_bytes()
    near, exact = (
        Retriever(store, QueryOptions(backbone="hog", against=Against.QUERY, exact=each)) for each in (False, True)
    )
    assert near.searcher.context(near.options).recall == 1.0
    assert exact.searcher.context(exact.options).recall is None
    answers = [next(iter(retriever.answer([("q", query)]))).as_json() for retriever in (near, exact)]
    assert answers[0] == answers[1]
    shots = QueryOptions(backbone="hog")
    assert Retriever(store, shots).searcher.context(shots).recall is None, "shots are all compared"


def test_words_are_served_where_recall_by_words_was_reached(store: Store, data: Path, weights: Path) -> None:
    options = IndexOptions(backbones=("clip",), weights=weights, device="cpu", ann=Ann.IVF)
    [shots, queries] = run_index(store, data, options).ann
    assert shots.words_recall is not None
    assert queries.words_recall is not None
    near, exact = (
        search(store, "a cup", SearchOptions(mode=Mode.IMAGE, weights=weights, device="cpu", exact=each))
        for each in (False, True)
    )
    assert (near.recall, exact.recall) == (min(shots.words_recall, queries.words_recall), None)
    assert [hit.as_json(Mode.IMAGE) for hit in near] == [hit.as_json(Mode.IMAGE) for hit in exact]


def test_a_lost_or_damaged_one_costs_no_answer_and_is_built_again(store: Store, data: Path) -> None:
    run_index(store, data, IVF)
    options = QueryOptions(backbone="hog", against=Against.ALL)
    query = [("q", (data / "things/6.preprocessed/q3.png").read_bytes())]
    before = [answer.as_json() for answer in Retriever(store, options).answer(query)]
    first, second = (store.segment_directory / name for name in files(store))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    assert [answer.as_json() for answer in Retriever(store, options).answer(query)] == before
    problems = sorted(finding.problem for finding in verify(store, repair=False))
    assert problems == ["cannot be read: No such file or directory", "its bytes are not those that were written"]
    assert all(finding.repaired for finding in verify(store, repair=True))
    assert not list(verify(store, repair=False))
    assert not files(store)
    assert len(run_index(store, data).ann) == 2


def test_a_damaged_vector_that_an_index_names_is_an_error_and_others_are_answered_from(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearshot.schema.segment_file.BLOCK", 1 << 12)
    run_index(store, data, IVF)
    [segment] = store.segment_directory.glob("*query*.faiss")
    content = bytearray(segment.read_bytes())
    content[6000] ^= 1
    segment.write_bytes(content)
    segment_cache._segments.clear()  # what was read before, when it was whole
    query = [("q", (data / "things/6.preprocessed/q3.png").read_bytes())]
    near, exact = (QueryOptions(backbone="hog", against=Against.QUERY, exact=each) for each in (False, True))
    with pytest.raises(StoreError, match=r"is damaged.*verify --repair"):
        list(Retriever(store, near).answer(query))
    [answer] = Retriever(store, exact).answer(query)
    assert isinstance(answer, Answer)
    assert len(answer.hits) == 5, "taken from the rows"
    assert all(finding.repaired for finding in verify(store, repair=True))
    assert len(list(Retriever(store, near).answer(query))) == 1


def test_one_that_cannot_be_written_is_told_and_nothing_else_is_lost(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("nearshot.vectors.ann_indexes.write_ann", _full)
        with pytest.raises(StoreError, match=r"cannot write the approximate index .*No space left"):
            run_index(store, data, IVF)
    assert not files(store)
    assert not list(verify(store, repair=False))
    assert run_index(store, data).unchanged == 16
    assert len(files(store)) == 2, "what was chosen is remembered"


def test_a_stopped_run_leaves_none_behind(store: Store, data: Path) -> None:
    run_index(store, data)
    run_index(store, data, IVF, should_stop=lambda: True)
    assert not files(store)
    with store.reading() as catalog:
        assert not ann_rows(catalog)


def test_the_commands_say_it(nearshot: Callable[..., Outcome], data: Path) -> None:
    said = nearshot("index", data, "--backbone", "hog", "--ann", "ivf", "--no-captions", "--no-compile").stdout
    assert "hog: approximate index (ivf) of 8 query images, recall@10 1.000; words are compared with all" in said
    assert "approximate index (ivf) of 8 support images, recall@10 1.000" in nearshot("status").stdout
    query = data / "things/6.preprocessed/q3.png"
    told = nearshot("query", query, "--against", "query").stdout
    assert "hits among queries are approximate (recall@10 1.000); --exact compares with all" in told
    assert "approximate" not in nearshot("query", query, "--against", "query", "--exact").stdout
    assert "approximate" not in nearshot("query", query).stdout


def test_who_asks_for_one_of_few_images_is_told(
    nearshot: Callable[..., Outcome], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearshot.vectors.ann_indexes.LEAST", 20_000)
    said = nearshot("index", data, "--backbone", "hog", "--ann", "hnsw", "--no-captions", "--no-compile").stdout
    assert "no approximate index yet: no segment has 20,000 vectors, and all are compared" in said


def test_a_run_that_has_none_to_build_opens_no_segment(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, data, IVF)
    monkeypatch.setattr("nearshot.vectors.ann_indexes.open_segments", _full)
    assert run_index(store, data).ann_there == 2


def test_from_python(data: Path, tmp_path: Path) -> None:
    with nearshot_door.open(tmp_path / "s", create=True) as index:
        assert [each.kind for each in index.add(data, backbones=["hog"], ann="ivf").ann] == [Ann.IVF, Ann.IVF]


def test_recall_that_is_low_is_told(store: Store, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearshot.vectors.ann._search", _nothing)
    [first, _] = run_index(store, data, IVF).ann
    assert "recall@10 0.000 (below 0.99, with as much looked at as it ever is)" in first.in_words()
    assert [each.recall for each in read_status(store).anns] == [0.0, 0.0]


def _full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def _nothing(_index: object, queries: object, k: int, *_: object) -> object:
    import numpy as np

    return np.full((len(queries), k), -1)  # type: ignore[arg-type]


assert HOG.ann is None, "runs of other tests choose nothing"
