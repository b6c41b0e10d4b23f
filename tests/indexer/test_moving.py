"""A data directory that lies elsewhere now: the store goes on with it, and reads and embeds nothing again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from nearshot.indexer.feedback import add_shot, reject, undo
from nearshot.indexer.moving import move_root
from nearshot.indexer.run import IndexRun
from nearshot.indexer.status import read_status
from nearshot.indexer.verify import verify
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sources import read_queries
from nearshot.schema.errors import StoreBusyError, UsageError
from nearshot.schema.intents import Planned, plan, planned
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Action
from tests.conftest import HOG, Outcome, counts, run_index, save_crop

pytestmark = pytest.mark.both_stores

CAT = "things/6.preprocessed/cat/a.png"


@pytest.fixture
def moved(store: Store, small: Path, tmp_path: Path) -> Path:
    """The new place of a directory of which something was said, and that the store still looks for at the old one."""
    run_index(store, small)
    queries = sorted((small / "things/6.preprocessed").rglob("*.png"))
    add_shot(store, queries[0], "stars")
    reject(store, queries[1])
    return Path(shutil.move(small, tmp_path / "it's 100%_elsewhere"))


def test_nothing_is_read_again_and_what_was_said_can_be_undone(store: Store, small: Path, moved: Path) -> None:
    assert [root.there for root in read_status(store).roots] == [False]
    report = move_root(store, small, moved)
    assert (report.old, report.new, report.missing) == (str(small), str(moved), 0)
    assert report.looked_at == report.images > 5
    [root] = read_status(store).roots
    assert (root.path, root.new, root.changed, root.moved, root.removed) == (str(moved), 0, 0, 0, 0), (
        "none is read again"
    )
    again = run_index(store, moved)
    assert counts(again).keys() == {"unchanged"}
    assert sum(count.embedded for count in again.backbones.values()) == 0
    queries = sorted((moved / "things/6.preprocessed").rglob("*.png"))
    [answer] = Retriever(store, QueryOptions(backbone="hog")).answer(read_queries([queries[0]]))
    assert answer.label == "stars"
    assert all(hit.image.path.startswith(f"{moved}/") for hit in answer.hits)
    undone = undo(store, queries[0], Action.LABEL)
    assert undone.shot_path is not None
    assert not Path(undone.shot_path).exists()
    assert Path(undone.shot_path).is_relative_to(moved)
    undo(store, queries[1], Action.REJECT)
    assert list(verify(store)) == []


def test_what_was_cut_off_at_the_old_place_is_finished_at_the_new_one(store: Store, small: Path, moved: Path) -> None:
    with store.writing() as editor:
        [(root_id, root)] = editor.roots().items()
        shot = moved / "things/2.support-set/moon/shot1.png"
        shot.parent.mkdir()
        shutil.copy(moved / CAT, shot)  # so far it came
        sha256 = hashlib.sha256(shot.read_bytes()).hexdigest()
        content = editor.content(sha256)
        assert content is not None
        plan(
            editor,
            Planned.LABEL,
            path=f"{root}/things/2.support-set/moon/shot1.png",
            sha256=sha256,
            root_id=root_id,
            category="things",
            content_id=content.id,
            label="moon",
            query=f"{root}/{CAT}",
            created="2026-01-01T00:00:00+00:00",
        )
    move_root(store, small, moved)
    run_index(store, moved)
    with store.reading() as catalog:
        assert planned(catalog) == []
        assert "moon" in catalog.support_labels("things")
    assert shot.exists()
    assert not small.exists()


def test_another_directory_is_not_taken_for_it(store: Store, small: Path, moved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(UsageError, match=r"is not what .* was: of \d+ images that were looked for, \d+ are not there"):
        move_root(store, small, other)
    with pytest.raises(UsageError, match="is no directory; move or copy"):
        move_root(store, small, tmp_path / "none")
    with pytest.raises(UsageError, match=rf"other is not indexed; there are {small}"):
        move_root(store, other, moved)
    with pytest.raises(UsageError, match="is where it lies already"):
        move_root(store, small, small if small.is_dir() else Path(shutil.copytree(moved, small)))
    with Store(store.location) as second, second.held("nearshot index"), pytest.raises(StoreBusyError):
        move_root(store, small, moved)


def test_a_new_place_that_was_indexed_is_forgotten_first_and_then_has_the_images(
    store: Store, small: Path, moved: Path
) -> None:
    run = IndexRun(store, moved, HOG, should_stop=lambda: True)
    with suppress(KeyboardInterrupt):
        list(run)  # stopped before it came to anything, it has left a row of the new place
    with store.reading() as catalog:
        assert str(moved) in catalog.roots().values()
    with store.writing() as editor:
        before = editor.sample_images(editor.root_id(str(small)) or 0, 1000)
    assert move_root(store, small, moved).images == len(before)
    with store.reading() as catalog:
        assert catalog.root_id(str(small)) != catalog.root_id(str(moved))
    with pytest.raises(UsageError, match=r"no image of .* is indexed; run `nearshot index"):
        move_root(store, small, small.parent)
    other = Path(shutil.copytree(moved, moved.with_name("other")))
    run_index(store, other)
    with pytest.raises(UsageError, match=r"is indexed itself: `nearshot forget .*other`, and then move"):
        move_root(store, moved, other)


def test_what_was_said_in_a_directory_inside_of_it_stays_there(store: Store, small: Path, tmp_path: Path) -> None:
    inner = small / "inner"
    shutil.copytree(small / "things", tmp_path / "aside/birds")
    run_index(store, small)
    shutil.move(tmp_path / "aside", inner)
    for path in inner.rglob("*.png"):
        save_crop(path, f"rocket:{len(path.parts) + ord(path.stem[-1]) + len(path.parent.name)}")
    run_index(store, inner)
    for root, category in ((small, "things"), (inner, "birds")):
        add_shot(store, root / category / "6.preprocessed/Unknown/b.png", "stars")
    with store.writing() as editor:
        plan(
            editor,
            Planned.LABEL,
            path=f"{inner}/birds/2.support-set/moon/shot1.png",
            sha256="0" * 64,
            root_id=editor.root_id(str(inner)),
            category="birds",
            query=f"{inner}/birds/x.png",
            created="2026",
        )
    target = tmp_path / "elsewhere"
    shutil.copytree(small, target, ignore=shutil.ignore_patterns("inner"))
    move_root(store, small, target)
    with store.reading() as catalog:
        [intent] = planned(catalog)
        paths = catalog.connection.exec_driver_sql("SELECT path, shot_path FROM feedback ORDER BY id").fetchall()
    assert intent.path.startswith(f"{inner}/")
    assert [
        path.startswith(f"{root}/") for pair, root in zip(paths, (target, inner), strict=True) for path in pair
    ] == [True] * 4


def test_what_was_copied_is_read_once_more_and_not_embedded_again(store: Store, small: Path, tmp_path: Path) -> None:
    run_index(store, small)
    copied = Path(shutil.copytree(small, tmp_path / "copied"))
    assert move_root(store, small, copied).missing == 0
    assert read_status(store).roots[0].changed == 6
    again = run_index(store, copied)
    assert sum(count.embedded for count in again.backbones.values()) == 0


def test_up_to_so_many_images_are_looked_for_evenly(store: Store, small: Path) -> None:
    run_index(store, small)
    with store.reading() as catalog:
        [root_id] = catalog.roots()
        every = [path for path, _ in catalog.sample_images(root_id, 1000)]
        assert len(every) == 6
        for most in range(1, 7):
            some = [path for path, _ in catalog.sample_images(root_id, most)]
            assert len(some) == most
            assert set(some) <= set(every)


def test_what_is_missing_at_the_new_place_is_said(store: Store, small: Path, moved: Path) -> None:
    (moved / CAT).unlink()
    assert move_root(store, small, moved).missing == 1
    assert counts(run_index(store, moved))["removed"] == 1


def test_the_command_says_what_it_did_and_what_comes_next(
    nearshot: Callable[..., Outcome], store: Store, small: Path, moved: Path
) -> None:
    where = ("--store", str(store.location))
    assert f"run `nearshot move {small} NEW`" in nearshot("status", *where).stdout
    (moved / CAT).unlink()
    said = nearshot("move", small, moved, *where).stdout
    assert f"images of {small} are at {moved} now\nof " in said
    assert f"1 are not there or have changed; run `nearshot index {moved}`" in said
    back = json.loads(nearshot("move", moved, shutil.move(moved, small), "--json", *where).stdout)
    assert (back["old"], back["new"], back["missing"]) == (str(moved), str(small), 1)
