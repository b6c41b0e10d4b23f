"""Feedback: what a person says of a query image counts at once, costs no embedding, and can be taken back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from nearshot.backbones.hog import HogBackbone
from nearshot.evaluation.evaluate import EvaluationOptions, evaluate
from nearshot.evaluation.replay import ReplayOptions, replay
from nearshot.indexer.commit import Committer
from nearshot.indexer.discover import Discovery
from nearshot.indexer.feedback import add_shot, reject, undo
from nearshot.indexer.find_changes import find_changes
from nearshot.indexer.run import IndexRun
from nearshot.indexer.verify import verify
from nearshot.retriever.answer import Answer
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sources import read_queries
from nearshot.schema.catalog import Catalog
from nearshot.schema.errors import StoreError, UsageError
from nearshot.schema.images import FoundImage
from nearshot.schema.known_images import known_images_at
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Action
from tests.conftest import HOG, SMALL, Outcome, counts, run_index, save_crop

pytestmark = pytest.mark.both_stores

Run = Callable[..., Outcome]
GALAXY = "things/6.preprocessed/Unknown/b.png"


def ask(store: Store, image: Path, **options: object) -> Answer:
    chosen = QueryOptions(category="things", **options)  # type: ignore[arg-type]
    [answer] = Retriever(store, chosen).answer(read_queries([image]))
    assert isinstance(answer, Answer)
    return answer


def test_a_labelled_query_is_a_shot_at_once_without_embedding_and_index_finds_nothing_to_do(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_crop(small / "things/6.preprocessed/more.png", "hubble_deep_field:3")
    run_index(store, small)
    assert ask(store, small / "things/6.preprocessed/more.png").decision.verdict == "unknown"

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is to be embedded")

    with monkeypatch.context() as patch:
        patch.setattr(HogBackbone, "encode", refuse)
        shot = add_shot(store, small / GALAXY, "galaxies")
    assert shot == small / "things/2.support-set/galaxies/shot1.png"
    assert shot.read_bytes() == (small / GALAXY).read_bytes()
    decision = ask(store, small / "things/6.preprocessed/more.png").decision
    assert (decision.verdict, decision.label) == ("match", "galaxies")
    report = run_index(store, small)
    assert (counts(report), report.backbones["hog"].embedded) == ({"unchanged": 8}, 0)
    assert list(verify(store)) == []


def test_a_label_can_be_taken_back(store: Store, small: Path) -> None:
    run_index(store, small)
    shot = add_shot(store, small / GALAXY, "cat")
    assert shot.name == "shot3.png", "the next number"
    with pytest.raises(UsageError, match="was made a shot already"):
        add_shot(store, small / GALAXY, "cat")
    assert undo(store, small / GALAXY, Action.LABEL).shot_path == str(shot)
    assert not shot.exists()
    assert ask(store, small / GALAXY).decision.verdict == "unknown"
    assert counts(run_index(store, small)) == {"unchanged": 6}
    with pytest.raises(UsageError, match="there is no `nearshot label"):
        undo(store, small / GALAXY, Action.LABEL)
    again = add_shot(store, small / GALAXY, "cat")
    again.write_bytes((small / "things/2.support-set/coffee/shot1.png").read_bytes())
    undo(store, small / GALAXY, Action.LABEL)
    assert again.exists(), "it is no longer the copy that was made"


def test_shots_that_lie_straight_in_the_support_set_get_another_beside_them(store: Store, small: Path) -> None:
    save_crop(small / "mugs/2.support-set/shot4.png", "coffee:0")
    save_crop(small / "mugs/6.preprocessed/a.png", "coffee:3")
    run_index(store, small)
    assert add_shot(store, small / "mugs/6.preprocessed/a.png", "mugs") == small / "mugs/2.support-set/shot5.png"
    assert counts(run_index(store, small)) == {"unchanged": 9}


@pytest.mark.parametrize("label", ["Unknown", "shot7", "a/b", ".hidden", "..", "", "cat.png"])
def test_what_cannot_be_a_label_is_refused_and_nothing_is_written(store: Store, small: Path, label: str) -> None:
    run_index(store, small)
    before = sorted(small.rglob("*"))
    with pytest.raises(UsageError, match="cannot be a label"):
        add_shot(store, small / GALAXY, label)
    assert sorted(small.rglob("*")) == before


def test_a_store_that_cannot_be_written_leaves_no_shot_behind(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)

    def full(*_: object, **__: object) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr("nearshot.indexer.intents.add_feedback", full)
    with pytest.raises(StoreError):
        add_shot(store, small / GALAXY, "cat")
    assert len(list((small / "things/2.support-set/cat").iterdir())) == 2


def test_what_is_nearer_to_a_rejected_image_than_to_any_shot_is_unknown(store: Store, small: Path) -> None:
    save_crop(small / "things/6.preprocessed/Unknown/cat-like.png", "chelsea:6")
    save_crop(small / "things/6.preprocessed/Unknown/cat-again.png", "chelsea:7")
    run_index(store, small)
    again = small / "things/6.preprocessed/Unknown/cat-again.png"
    assert ask(store, again).decision.label == "cat"
    falsely_accepted = evaluate(store, EvaluationOptions(keep_leaks=True)).outcomes[0].outcomes.falsely_accepted
    assert reject(store, small / "things/6.preprocessed/Unknown/cat-like.png") == "things"
    answer = ask(store, again)
    assert (answer.decision.verdict, answer.decision.label) == ("unknown", None)
    assert answer.as_json()["reason"] == "nearer to a rejected image than to any shot"
    assert answer.as_json()["negative"] == str(small / "things/6.preprocessed/Unknown/cat-like.png")
    assert ask(store, small / "things/2.support-set/cat/shot1.png").decision.label == "cat", (
        "a shot is nearest to itself"
    )
    told = {Path(query.path).name: query.after.verdict for query in replay(store, ReplayOptions()).queries}
    assert told["cat-again.png"] == "unknown"
    after = evaluate(store, EvaluationOptions(keep_leaks=True)).outcomes[0].outcomes
    assert after.falsely_accepted == falsely_accepted - 1, "a rejected query is not judged by itself"
    undo(store, small / "things/6.preprocessed/Unknown/cat-like.png", Action.REJECT)
    assert ask(store, again).decision.label == "cat"


def test_feedback_needs_an_indexed_image_and_one_category(store: Store, small: Path, tmp_path: Path) -> None:
    run_index(store, small)
    save_crop(tmp_path / "new.png", "rocket")
    for wrong in (tmp_path / "new.png", tmp_path / "none.png"):
        with pytest.raises(UsageError, match=r"is not indexed|cannot be read"):
            reject(store, wrong)
    (small / "pets/6.preprocessed").mkdir(parents=True)
    shutil.copy(small / GALAXY, small / "pets/6.preprocessed/b.png")
    run_index(store, small)
    shutil.copy(small / GALAXY, tmp_path / "elsewhere.png")
    with pytest.raises(UsageError, match="several categories: pets, things; name one with category"):
        reject(store, tmp_path / "elsewhere.png")
    assert reject(store, tmp_path / "elsewhere.png", "pets") == "pets"
    assert reject(store, small / GALAXY) == "things", "its own path tells"


def test_the_commands_say_what_they_did(nearshot: Run, small: Path) -> None:
    nearshot("index", "data", "--backbone", "hog")
    image = f"data/{GALAXY}"
    shot = "data/things/2.support-set/galaxies/shot1.png"
    assert nearshot("label", image, "galaxies").stdout == f"now a shot of galaxies: {shot}\n"
    assert nearshot("label", image, "--undo").stdout == f"no longer a shot of things/galaxies: {shot}\n"
    assert nearshot("reject", image).stdout == f"now a negative of things: {image}\n"
    printed = nearshot("query", image, "--category", "things").stdout
    assert f"    1.000  nearer to a rejected image than to any shot: {image}\n" in printed
    assert nearshot("reject", image, "--undo", "--json").objects == [{"category": "things", "rejected": False}]
    assert nearshot("label", image).status == 2
    assert nearshot("label", image, "cat", "--undo").status == 2
    assert nearshot("reject", "none.png").status == 2


def test_many_are_labelled_or_rejected_at_once_each_by_itself(nearshot: Run, small: Path) -> None:
    queries = "data/things/6.preprocessed"
    for number, name in enumerate(("one", "two", "three")):
        save_crop(small / f"things/6.preprocessed/{name}.png", f"rocket:{number}")
    nearshot("index", "data", "--backbone", "hog")
    outcome = nearshot("label", f"{queries}/one.png", "none.png", f"{queries}/two.png", "rocket")
    assert outcome.status == 1
    assert outcome.stdout.count("now a shot of rocket") == 2
    assert "none.png cannot be read" in outcome.stderr
    assert outcome.stderr.endswith("nearshot: 1 of 3 could not be done\n")
    undone = nearshot("label", f"{queries}/one.png", f"{queries}/two.png", "--undo", "--json").objects
    assert [said["undone"] for said in undone] == ["rocket", "rocket"]
    (small.parent / "said.csv").write_text(f"path,label\n{queries}/one.png,rocket\n{queries}/three.png,Unknown\n")
    listed = nearshot("label", "--from", "said.csv")
    assert (listed.status, listed.stdout.count("now a ")) == (0, 2)
    assert "now a negative of things" in listed.stdout
    assert nearshot("reject", f"{queries}/two.png", f"{queries}/cat/a.png").stdout.count("now a negative") == 2
    (small.parent / "said.csv").write_text("only one column\n")
    assert nearshot("label", "--from", "said.csv").status == 2
    assert nearshot("label", f"{queries}/one.png", "x", "--from", "said.csv").status == 2


def test_labels_during_an_index_run_are_kept(store: Store, small: Path) -> None:
    run_index(store, small)
    save_crop(small / "things/6.preprocessed/more.png", "rocket")
    from nearshot.indexer.run import IndexRun

    run = iter(IndexRun(store, small, replace(HOG, batch_size=1)))
    next(run)
    add_shot(store, small / GALAXY, "galaxies")
    for _ in run:
        pass
    assert counts(run_index(store, small)) == {"unchanged": 8}
    assert ask(store, small / GALAXY).decision.label == "galaxies"


@pytest.mark.parametrize("moment", ["while files are listed", "after the files were listed", "while files are read"])
def test_what_is_labelled_during_an_index_run_stays(
    moment: str, store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    save_crop(small / "things/2.support-set/coffee/shot3.png", "coffee:6")
    walk = Discovery.__iter__

    def find_and_label(*arguments: Any, **named: Any) -> Any:
        changes = find_changes(*arguments, **named)
        with Store(store.location) as other:
            add_shot(other, small / GALAXY, "galaxy")
        return changes

    def list_and_label(discovery: Discovery) -> Iterator[FoundImage]:
        images = walk(discovery)
        yield next(images)
        with Store(store.location) as other:
            add_shot(other, small / GALAXY, "galaxy")
        yield from images

    if moment == "while files are read":
        run = iter(IndexRun(store, small, HOG))
        next(run)
        add_shot(store, small / GALAXY, "galaxy")
        list(run)
    else:
        with monkeypatch.context() as patch:
            if moment == "while files are listed":
                patch.setattr(Discovery, "__iter__", list_and_label)
            else:
                patch.setattr("nearshot.indexer.run.find_changes", find_and_label)
            assert run_index(store, small).removed == 0
    with store.reading() as catalog:
        assert is_known(catalog, "things/2.support-set/galaxy/shot1.png")
    assert counts(run_index(store, small)) == {"unchanged": len(SMALL) + 2}
    assert undo(store, small / GALAXY, Action.LABEL).label == "galaxy"


def test_what_is_taken_back_during_an_index_run_leaves_nothing(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    add_shot(store, small / GALAXY, "galaxy")
    (small / "things/2.support-set/galaxy/shot1.png").touch()

    def find_and_undo(*arguments: Any, **named: Any) -> Any:
        changes = find_changes(*arguments, **named)
        with Store(store.location) as other:
            undo(other, small / GALAXY, Action.LABEL)
        return changes

    monkeypatch.setattr("nearshot.indexer.run.find_changes", find_and_undo)
    run_index(store, small)
    monkeypatch.undo()
    assert counts(run_index(store, small)) == {"unchanged": len(SMALL)}
    with store.reading() as catalog:
        assert not is_known(catalog, "things/2.support-set/galaxy/shot1.png")


def test_what_is_taken_back_between_reading_and_committing_stays_away(store: Store, small: Path) -> None:
    run_index(store, small)
    add_shot(store, small / GALAXY, "galaxy")
    (small / "things/2.support-set/galaxy/shot1.png").touch()
    real = Committer.commit_batch

    def undo_and_commit(self: Committer, *arguments: Any) -> None:
        with suppress(UsageError):
            undo(store, small / GALAXY, Action.LABEL)
        real(self, *arguments)

    with mock.patch.object(Committer, "commit_batch", undo_and_commit):
        run_index(store, small)
    with store.reading() as catalog:
        assert not is_known(catalog, "things/2.support-set/galaxy/shot1.png")
        assert "galaxy" not in catalog.support_labels("things")


def test_a_file_that_cannot_be_deleted_stops_nothing_else(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    shot = add_shot(store, small / GALAXY, "galaxy")
    real = os.unlink

    def refuse(path: Any, *more: Any, **named: Any) -> None:
        if Path(path) == shot:
            raise PermissionError(13, "Permission denied")
        real(path, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(UsageError, match=r"cannot delete .*; the next command tries again"):
            undo(store, small / GALAXY, Action.LABEL)
        assert reject(store, small / "things/6.preprocessed/cat/a.png") == "things"
        run_index(store, small)
        assert any("was cut off, and is not finished" in finding.problem for finding in verify(store))
    run_index(store, small)
    assert not shot.exists()
    assert list(verify(store)) == []


def test_nothing_is_labelled_where_the_data_directory_is_away(store: Store, small: Path, tmp_path: Path) -> None:
    run_index(store, small)
    shutil.copy(small / GALAXY, tmp_path / "copy.png")
    away = small.rename(tmp_path / "away")
    with pytest.raises(UsageError, match="is not there; mount it again"):
        add_shot(store, tmp_path / "copy.png", "galaxy")
    assert not small.exists()
    away.rename(small)
    assert list(verify(store)) == []


def test_a_label_is_taken_back_where_the_data_directory_has_moved_to(store: Store, small: Path, tmp_path: Path) -> None:
    run_index(store, small)
    add_shot(store, small / GALAXY, "galaxy")
    moved = small.rename(tmp_path / "moved")
    run_index(store, moved)
    assert undo(store, moved / GALAXY, Action.LABEL).label == "galaxy"
    assert not (moved / "things/2.support-set/galaxy").exists()
    assert counts(run_index(store, moved)) == {"unchanged": len(SMALL)}


def is_known(catalog: Catalog, path: str) -> bool:
    """Tell whether an image is present."""
    return known_images_at(catalog, 1, [path])[path].present
