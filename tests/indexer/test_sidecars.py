"""Caption files beside images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from nearshot.indexer.captions import set_caption
from nearshot.schema.caption_search import full_text_problem
from nearshot.schema.captions import captions_shown
from nearshot.schema.store import Store
from tests.conftest import counts, run_index, save_crop

pytestmark = pytest.mark.both_stores

CAT = "things/2.support-set/cat/shot1.png"
QUERY = "things/6.preprocessed/cat/a.png"


def said(store: Store) -> dict[str, str]:
    """What is shown as the caption of each usable image, by path under the data directory."""
    with store.writing() as editor:
        assert full_text_problem(editor) is None
    with store.reading() as catalog:
        images = {
            row.id: row.path for row in catalog.connection.execute(sa.text("SELECT id, path FROM images WHERE present"))
        }
        return {images[image]: words for image, words in captions_shown(catalog.connection, images).items()}


def write(root: Path, image: str, words: str) -> Path:
    path = (root / image).with_suffix(".txt")
    path.write_text(words, encoding="utf-8")
    return path


def test_a_caption_file_is_taken_once_and_followed_when_it_changes(store: Store, small: Path) -> None:
    write(small, CAT, "a ginger\ncat")
    write(small, QUERY, "\ufeffein Café ")
    report = run_index(store, small)
    assert (counts(report), report.captions_taken) == ({"added": 6}, 2)
    assert said(store) == {CAT: "a ginger cat", QUERY: "ein Café"}
    assert run_index(store, small).captions_taken == 0
    write(small, CAT, "a cat after all")
    report = run_index(store, small)
    assert (counts(report), report.captions_taken) == ({"unchanged": 6}, 1)
    assert said(store)[CAT] == "a cat after all"


def test_what_a_person_wrote_last_holds(store: Store, small: Path) -> None:
    run_index(store, small)
    set_caption(store, small / CAT, "first")
    file = write(small, CAT, "second")
    run_index(store, small)
    assert said(store) == {CAT: "second"}
    set_caption(store, small / CAT, "third")
    assert run_index(store, small).captions_taken == 0
    assert said(store) == {CAT: "third"}
    file.unlink()
    run_index(store, small)
    assert said(store) == {CAT: "third"}, "it was set by hand, not by the file"


def test_a_caption_goes_with_its_file_and_with_its_image(store: Store, small: Path) -> None:
    file = write(small, CAT, "a ginger cat")
    run_index(store, small)
    file.unlink()
    run_index(store, small)
    assert said(store) == {}
    write(small, CAT, "a ginger cat")
    run_index(store, small)
    save_crop(small / CAT, "rocket")
    report = run_index(store, small)
    assert (counts(report), report.captions_taken) == ({"changed": 1, "unchanged": 5}, 1)
    assert said(store) == {CAT: "a ginger cat"}, "the file still says so of what is there now"
    moved = "things/2.support-set/cat/shot9.png"
    (small / CAT).rename(small / moved)
    (small / CAT).with_suffix(".txt").rename((small / moved).with_suffix(".txt"))
    assert counts(run_index(store, small)) == {"moved": 1, "unchanged": 5}
    assert said(store) == {moved: "a ginger cat"}


def test_of_two_files_for_one_content_the_other_holds_when_one_goes(store: Store, small: Path) -> None:
    copy = "things/6.preprocessed/copy.png"
    shutil.copy(small / CAT, small / copy)
    write(small, CAT, "from the shot")
    file = write(small, copy, "from the copy")
    run_index(store, small)
    assert said(store) == {CAT: "from the copy", copy: "from the copy"}
    file.unlink()
    run_index(store, small)
    assert said(store) == {CAT: "from the shot", copy: "from the shot"}


def test_a_caption_set_by_hand_outlives_the_files_of_copies_and_a_rename(store: Store, small: Path) -> None:
    copy = "things/6.preprocessed/copy.png"
    shutil.copy(small / CAT, small / copy)
    file = write(small, CAT, "from the shot")
    write(small, copy, "from the copy")
    run_index(store, small)
    set_caption(store, small / CAT, "my own words")
    file.unlink()
    run_index(store, small)
    assert said(store) == {CAT: "my own words", copy: "my own words"}
    for name in (copy, copy.replace(".png", ".txt")):
        (small / name).rename(small / name.replace("copy", "moved"))
    assert run_index(store, small).captions_taken == 0
    assert said(store)[copy.replace("copy", "moved")] == "my own words"
    write(small, copy.replace("copy", "moved"), "written last")
    run_index(store, small)
    assert said(store)[CAT] == "written last"


def test_a_pipe_named_like_a_caption_file_is_not_waited_for(store: Store, small: Path) -> None:
    os.mkfifo((small / CAT).with_suffix(".txt"))
    report = run_index(store, small)
    assert [breach.rule for breach in report.breaches] == ["neither a file nor a directory"]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"\xff\xfe\x00", "a caption file that is not UTF-8 text"),
        (b"a cat\0 here", "a caption file with a NUL character"),
        (b" \n", "a caption file without words"),
        (b"word " * 20_000, "a caption file of more than 65,536 bytes"),
    ],
)
def test_a_file_without_a_usable_caption_is_reported_every_time(
    store: Store, small: Path, content: bytes, rule: str
) -> None:
    write(small, CAT, "a ginger cat")
    run_index(store, small)
    (small / CAT).with_suffix(".txt").write_bytes(content)
    for _ in range(2):
        report = run_index(store, small)
        assert [(breach.path, breach.rule) for breach in report.breaches] == [(CAT.replace(".png", ".txt"), rule)]
        assert said(store) == {}
    write(small, CAT, "mended")
    assert run_index(store, small).captions_taken == 1


def test_a_text_file_beside_no_image_is_outside_the_contract(store: Store, small: Path) -> None:
    (small / "things/2.support-set/cat/notes.txt").write_text("buy milk")
    (small / "things/6.preprocessed/broken.png").write_bytes(b"no image")
    write(small, "things/6.preprocessed/broken.png", "of a broken image")
    (small / "things/2.support-set/cat/shot2.txt").symlink_to("nowhere")
    report = run_index(store, small)
    assert {breach.path: breach.rule for breach in report.breaches} == {
        "things/2.support-set/cat/notes.txt": "a caption file NAME.txt belongs beside an image of that NAME; there is none",
        "things/2.support-set/cat/shot2.txt": "a caption file that cannot be read: No such file or directory",
    }
    assert (report.captions_taken, said(store)) == (0, {})


def test_a_category_that_was_not_asked_for_keeps_its_captions(store: Store, small: Path) -> None:
    from dataclasses import replace

    from tests.conftest import HOG

    write(small, CAT, "a ginger cat")
    save_crop(small / "other/2.support-set/shot1.png", "rocket")
    run_index(store, small)
    run_index(store, small, replace(HOG, categories=("other",)))
    assert said(store) == {CAT: "a ginger cat"}
