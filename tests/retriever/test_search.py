"""Text search: captions, images by a text encoder, and both fused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from nearshot.indexer.captions import set_caption
from nearshot.indexer.options import IndexOptions
from nearshot.retriever.search import Found, Results, SearchOptions, search
from nearshot.schema.errors import UsageError, WeightsError
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Mode, Role
from tests.conftest import HOG, run_index

pytestmark = pytest.mark.both_stores

COFFEE = "things/2.support-set/coffee/shot1.png"


def find(store: Store, words: str, mode: Mode = Mode.AUTO, **more: object) -> Results:
    return search(store, words, SearchOptions(mode=mode, device="cpu", **more))  # type: ignore[arg-type]


def names(hits: list[Found]) -> list[str]:
    return [str(Path(hit.image.path).relative_to(Path(hit.image.path).parents[3])) for hit in hits]


@pytest.fixture
def words_store(store: Store, small: Path, weights: Path) -> Store:
    """The small data set with the tiny clip."""
    run_index(store, small, IndexOptions(backbones=("clip",), weights=weights, device="cpu"))
    return store


def own_ranking(root: Path, weights: Path, words: str) -> dict[str, float]:
    """What open_clip's own functions say of all images: path to cosine."""
    from nearshot.backbones.decode import decode

    name = f"local-dir:{weights / 'clip'}"
    model, transform = open_clip.create_model_from_pretrained(name)
    model.eval()
    with torch.inference_mode():
        text = model.encode_text(open_clip.get_tokenizer(name)([words]))[0].numpy()
        vectors = {
            str(path): model.encode_image(transform(decode(path.read_bytes()).picture)[None])[0].numpy()
            for path in sorted(root.rglob("*.png"))
        }
    unit = {path: vector / np.linalg.norm(vector) for path, vector in vectors.items()}
    return {path: float(vector @ text / np.linalg.norm(text)) for path, vector in unit.items()}


def test_images_are_ranked_as_the_librarys_own_text_tower_ranks_them(
    words_store: Store, small: Path, weights: Path
) -> None:
    for words in ("a cup of coffee", "a galaxy far away"):
        results = find(words_store, words, Mode.IMAGE)
        own = own_ranking(small, weights, words)
        assert [hit.image.path for hit in results.found] == sorted(own, key=lambda path: -own[path])
        assert [hit.score for hit in results.found] == pytest.approx(sorted(own.values(), reverse=True), abs=1e-5)
        assert [hit.ranks for hit in results.found] == [{Mode.IMAGE: rank} for rank in range(1, 7)]
        assert {hit.image.role for hit in results.found} == set(Role)


def test_the_filters_hold_for_images_however_far_down_they_are(words_store: Store) -> None:
    everything = find(words_store, "noise", Mode.IMAGE).found
    for wanted in (
        ImageFilter(label="cat"),
        ImageFilter(label="Unknown", role=Role.QUERY),
        ImageFilter(role=Role.SUPPORT),
        ImageFilter(category="things", label="coffee"),
    ):
        kept = [
            hit.image.path
            for hit in everything
            if wanted.label in (None, hit.image.label) and wanted.role in (None, hit.image.role)
        ]
        assert kept
        for limit in (1, 20):
            hits = find(words_store, "noise", Mode.IMAGE, wanted=wanted, limit=limit).found
            assert [hit.image.path for hit in hits] == kept[:limit]


def test_hybrid_is_the_reciprocal_rank_fusion_of_the_two(words_store: Store, small: Path) -> None:
    set_caption(words_store, small / COFFEE, "a cup of coffee")
    by_image = [hit.image.path for hit in find(words_store, "coffee", Mode.IMAGE).found]
    results = find(words_store, "coffee", Mode.HYBRID)
    expected = {path: 1 / (60 + rank) for rank, path in enumerate(by_image, start=1)}
    expected[str(small / COFFEE)] += 1 / 61
    assert [hit.image.path for hit in results.found] == sorted(expected, key=lambda path: (-expected[path], path))
    best = next(hit for hit in results.found if hit.image.path == str(small / COFFEE))
    assert best.ranks == {Mode.CAPTIONS: 1, Mode.IMAGE: by_image.index(str(small / COFFEE)) + 1}
    assert (best.caption, best.snippet) == ("a cup of coffee", "a cup of [coffee]")


def test_auto_takes_what_the_store_can_serve_and_says_what_it_lacks(
    store: Store, small: Path, weights: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(weights / "clip", own / "clip")
    run_index(store, small, IndexOptions(backbones=("clip",), weights=own, device="cpu"))
    without_captions = find(store, "coffee")
    assert (without_captions.mode, without_captions.backbone) == (Mode.IMAGE, "clip")
    assert without_captions.missing == ("captions: there are none yet; `nearshot caption` writes them",)
    set_caption(store, small / COFFEE, "a cup of coffee")
    assert (find(store, "coffee").mode, find(store, "coffee").missing) == (Mode.HYBRID, ())
    gone = own.rename(own.with_name("gone"))
    nowhere = find(store, "coffee")
    assert (nowhere.mode, len(nowhere.found)) == (Mode.CAPTIONS, 1)
    [reason] = nowhere.missing
    assert reason.startswith("image: clip: ")
    with pytest.raises(WeightsError, match="clip"):
        find(store, "coffee", Mode.HYBRID)
    gone.rename(own)
    assert find(store, "coffee").mode == Mode.HYBRID


def test_without_a_text_encoder_auto_searches_captions_and_image_is_refused(store: Store, small: Path) -> None:
    run_index(store, small, HOG)
    set_caption(store, small / COFFEE, "a cup of coffee")
    results = find(store, "coffee")
    assert (results.mode, names(results.found)) == (Mode.CAPTIONS, [COFFEE])
    with pytest.raises(UsageError, match="--backbone clip"):
        find(store, "coffee", Mode.IMAGE)
    with pytest.raises(UsageError, match="no category 'nothing' is indexed; there are things"):
        find(store, "coffee", wanted=ImageFilter(category="nothing"))


def test_operators_are_for_captions_and_plain_words_for_images(words_store: Store) -> None:
    plain = find(words_store, "red cup", Mode.IMAGE).found
    decorated = find(words_store, '"red" AND cup* NOT dog', Mode.IMAGE).found
    assert [hit.score for hit in plain] == [hit.score for hit in decorated]
    assert find(words_store, '" * "', Mode.IMAGE).found == []
