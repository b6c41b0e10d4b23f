"""The captioning run, with a captioner that writes what it is told to, and the tiny Florence-2."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from nearshot.backbones.captioner import Captioner
from nearshot.backbones.loading import load_captioner
from nearshot.backbones.protocol import Prepared
from nearshot.indexer.captions import CaptionOptions, CaptionReport, CaptionRun, set_caption
from nearshot.indexer.verify import verify
from nearshot.retriever.search import SearchOptions, search
from nearshot.schema.caption_search import full_text_problem
from nearshot.schema.captions import captions_shown
from nearshot.schema.errors import UsageError
from nearshot.schema.image_filter import ImageFilter
from nearshot.schema.known_images import present_contents
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import CaptionTask, Mode, Precision, Role
from tests.conftest import run_index, save_crop

pytestmark = pytest.mark.both_stores

CAT = "things/2.support-set/cat/shot1.png"


class ByColour:
    """A captioner that names a picture's strongest channel, and keeps count."""

    fingerprint = "0" * 64
    batch_size = 2

    def __init__(self) -> None:
        self.batches: list[int] = []

    def prepare(self, picture: Image.Image) -> Prepared:
        return np.asarray(picture.resize((1, 1)), dtype=np.float32)

    def caption(self, batch: Sequence[Prepared], task: CaptionTask) -> list[str]:
        self.batches.append(len(batch))
        return [f"{task} of something {('red', 'green', 'blue')[int(pixel.argmax() % 3)]}" for pixel in batch]


def run(
    store: Store, captioner: Captioner, options: CaptionOptions | None = None, *, stop_after: int = 10**6
) -> CaptionReport:
    asked = iter(range(10**6))
    captioning = CaptionRun(
        store, lambda: captioner, options or CaptionOptions(), should_stop=lambda: next(asked) >= stop_after
    )
    for _ in captioning:
        pass
    return captioning.report


def rows(store: Store) -> dict[tuple[int, str], str]:
    with store.reading() as catalog:
        records = catalog.connection.execute(sa.text("SELECT content_id, task, text FROM captions"))
        return {(row[0], row[1]): row[2] for row in records}


def find(store: Store, words: str, wanted: ImageFilter = ImageFilter()) -> list[str]:  # noqa: B008
    results = search(store, words, SearchOptions(mode=Mode.CAPTIONS, wanted=wanted))
    return [Path(hit.image.path).name for hit in results.found]


def assert_full_text_is_whole(store: Store) -> None:
    with store.writing() as editor:
        assert full_text_problem(editor) is None


def test_each_content_is_captioned_once_and_copies_and_renames_cost_nothing(store: Store, small: Path) -> None:
    captioner = ByColour()
    shutil.copy(small / CAT, small / "things/6.preprocessed/copy.png")
    run_index(store, small)
    assert run(store, captioner).written == 6
    assert captioner.batches == [2, 2, 2]
    (small / CAT).rename(small / "things/2.support-set/cat/shot9.png")
    run_index(store, small)
    assert run(store, captioner).written == 0
    assert captioner.batches == [2, 2, 2]
    assert_full_text_is_whole(store)


def test_a_stopped_run_goes_on_with_the_newest_images_first(store: Store, small: Path) -> None:
    run_index(store, small)
    first = run(store, ByColour(), stop_after=2)
    assert (first.written, first.interrupted) == (2, True)
    with store.reading() as catalog:
        newest = catalog.connection.execute(sa.text("SELECT content_id FROM images ORDER BY id DESC LIMIT 2")).scalars()
        assert {content_id for content_id, _ in rows(store)} == set(newest)
    assert run(store, ByColour()).written == 4


@pytest.mark.parametrize("fatal_step", range(1, 7))
def test_a_run_that_dies_in_a_commit_loses_that_batch_only(
    store: Store, small: Path, fatal_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_index(store, small)
    steps = iter(range(1, 100))

    def dying(text: str) -> str:
        if next(steps) == fatal_step:
            raise KeyboardInterrupt
        return ""

    with monkeypatch.context() as patch:
        patch.setattr("nearshot.schema.captions.bigrams", dying)
        with pytest.raises(KeyboardInterrupt):
            run(store, ByColour())
    assert len(rows(store)) == (fatal_step - 1) // 2 * 2
    run(store, ByColour())
    assert len(rows(store)) == 6
    assert_full_text_is_whole(store)


CHILD = """
import os, random, signal, sys
import nearshot.indexer.captions
from nearshot.schema.location import location_of
from nearshot.schema.store import Store
from tests.indexer.test_captions import ByColour, run

chance = random.Random(int(sys.argv[2]))
steps, after = chance.randrange(1, 5), chance.random() < 0.5

def deadly(function):
    def call(*arguments, **named):
        global steps
        steps -= 1
        if steps == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

nearshot.indexer.captions.put_captions = deadly(nearshot.indexer.captions.put_captions)
ByColour.caption = deadly(ByColour.caption)
with Store(location_of(sys.argv[1])) as store:
    run(store, ByColour())
"""


def test_a_run_killed_ten_times_captions_every_image_once(store: Store, small: Path) -> None:
    for number in range(40):
        save_crop(small / f"things/6.preprocessed/{number}.png", f"{('rocket', 'coffee')[number % 2]}:{number // 2}")
    run_index(store, small)
    with store.reading() as catalog:
        contents = len({content for _, content, _ in present_contents(catalog, 1)})
    written = [0]
    for seed in range(10):
        command = [sys.executable, "-c", CHILD, str(store.location), str(seed)]
        died = subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode
        assert died == -signal.SIGKILL
        written.append(len(rows(store)))
        assert_full_text_is_whole(store)
    assert written == sorted(written)
    assert 3 < written[-1] < contents
    captioner = ByColour()
    run(store, captioner)
    assert sum(captioner.batches) == contents - written[-1], "nothing is captioned twice"
    assert len(rows(store)) == contents
    assert list(verify(store)) == []
    assert_full_text_is_whole(store)


def test_a_caption_by_hand_wins_and_survives(store: Store, small: Path) -> None:
    run_index(store, small)
    run(store, ByColour())
    set_caption(store, small / CAT, "  my own\ncat ")
    assert run(store, ByColour(), CaptionOptions(redo=True)).written == 5
    sha256 = hashlib.sha256((small / CAT).read_bytes()).hexdigest()
    with store.reading() as catalog:
        content = catalog.content(sha256)
        assert content is not None
        images = (
            catalog.connection.execute(sa.text(f"SELECT id FROM images WHERE content_id = {content.id}"))
            .scalars()
            .all()
        )
        assert captions_shown(catalog.connection, images) == dict.fromkeys(images, "my own cat")
    assert find(store, "own cat") == ["shot1.png"]
    assert "shot1.png" not in find(store, "something", ImageFilter(label="cat", role=Role.SUPPORT))
    set_caption(store, small / CAT, "another")
    assert find(store, "own") == []
    with pytest.raises(UsageError, match="needs words"):
        set_caption(store, small / CAT, " \n")
    save_crop(small / "new.png", "rocket")
    with pytest.raises(UsageError, match="not indexed as it is now"):
        set_caption(store, small / "new.png", "rocket")


def test_filters_tasks_and_limits(store: Store, small: Path) -> None:
    run_index(store, small)
    assert run(store, ByColour(), CaptionOptions(wanted=ImageFilter(role=Role.QUERY))).written == 2
    assert run(store, ByColour(), CaptionOptions(task=CaptionTask.DETAILED, limit=3)).written == 3
    with pytest.raises(UsageError, match="no image is indexed with category 'none'; the categories are things"):
        run(store, ByColour(), CaptionOptions(wanted=ImageFilter(category="none")))
    assert len(find(store, "detailed")) == 3
    assert find(store, "caption", ImageFilter(label="Unknown")) == ["b.png"]


def test_a_file_that_changed_or_went_is_a_failure_of_its_own(store: Store, small: Path) -> None:
    run_index(store, small)
    save_crop(small / CAT, "rocket")
    (small / "things/2.support-set/cat/shot2.png").unlink()
    report = run(store, ByColour())
    assert report.written == 4
    assert sorted(failure.reason for failure in report.failures) == [
        "cannot be read: No such file or directory",
        "it changed since it was indexed; run `nearshot index`",
    ]


@pytest.mark.of_segments
def test_the_index_follows_removals_and_verify_mends_it(store: Store, small: Path) -> None:
    run_index(store, small)
    run(store, ByColour())
    assert len(find(store, "something")) == 6
    (small / CAT).unlink()
    run_index(store, small)
    assert len(find(store, "something")) == 5
    with store.writing() as editor:
        editor.connection.exec_driver_sql("INSERT INTO captions_fts(captions_fts) VALUES ('delete-all')")
    assert [finding.problem for finding in verify(store)] == ["the full-text index differs from the captions"]
    assert [finding.repaired for finding in verify(store, repair=True)] == [True]
    assert len(find(store, "something")) == 5
    assert list(verify(store)) == []


def test_florence2_captions_a_store(store: Store, small: Path, florence2: Path) -> None:
    run_index(store, small)
    captioner = load_captioner(florence2, device="cpu", precision=Precision.FP32)
    assert run(store, captioner).written == 6
    together = rows(store)
    run(store, captioner, replace(CaptionOptions(), redo=True, batch_size=1))
    assert rows(store) == together
    with store.reading() as catalog:
        prints = catalog.connection.execute(sa.text("SELECT DISTINCT fingerprint FROM captions")).scalars().all()
    assert prints == [captioner.fingerprint]
