"""Videos among raw pictures: one picture a scene, remembered and followed like pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from nearshot.backbones import video
from nearshot.backbones.video import scenes
from nearshot.indexer.crop_options import CropOptions
from nearshot.indexer.crop_videos import video_of
from nearshot.indexer.crops import CropRun
from nearshot.indexer.verify import verify
from nearshot.schema.errors import ImageError
from nearshot.schema.store import Store
from tests.conftest import run_index
from tests.indexer.test_crops import crop, files, rows
from tests.videos import write_video

GROUNDS = {"pale": (228, 226, 220), "dark": (40, 44, 50), "green": (60, 120, 70)}
CLIP = "things/1.raw/clip.mp4"


def write_clip(path: Path, *shown: tuple[str, int]) -> None:
    """A video of a red disc on one ground after the other, for so many frames each, at 25 a second."""
    grounds = path.parent.parent.parent.parent / "grounds"
    grounds.mkdir(exist_ok=True)
    for name, colour in GROUNDS.items():
        picture = Image.new("RGB", (400, 300), colour)
        ImageDraw.Draw(picture).ellipse((120, 90, 240, 210), fill=(210, 40, 30))
        picture.save(grounds / f"{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, [(grounds / f"{name}.png", frames) for name, frames in shown])


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A data directory with a shot and a video of three scenes, the last of which lasts."""
    root = tmp_path / "data"
    write_clip(root / CLIP, ("pale", 30), ("dark", 30), ("green", 300))
    shot = root / "things/2.support-set/disc/shot1.png"
    shot.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64), (210, 40, 30)).save(shot)
    return root


FRAMES = ["00000.000", "00001.200", "00002.400", "00012.400"]
"""One a scene, and one more of each ten seconds."""

CROPS = [f"things/6.preprocessed/clip.mp4/{frame}.1.png" for frame in FRAMES]


def test_each_scene_gives_a_picture_at_the_time_when_it_begins(raw: Path) -> None:
    first, second, third, fourth = scenes(raw / CLIP)
    assert [frame.seconds for frame in (first, second, third, fourth)] == pytest.approx([0, 1.2, 2.4, 12.4])
    for frame, ground in ((first, "pale"), (second, "dark"), (third, "green"), (fourth, "green")):
        assert frame.picture.size == (320, 240)
        assert frame.picture.getpixel((5, 5)) == pytest.approx(GROUNDS[ground], abs=12)
    (raw / "words.mp4").write_text("no video at all")
    with pytest.raises(ImageError, match="cannot be opened"):
        list(scenes(raw / "words.mp4"))
    with pytest.raises(ImageError, match="frames of 320 x 240 pixels"):
        list(scenes(raw / CLIP, max_pixels=1000))


def test_a_list_of_other_files_is_no_video(raw: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "secret.ts", [(None, 5)])
    for name, text in (
        ("list.avi", "ffconcat version 1.0\nfile secret.ts\n"),
        ("list.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.ts\n#EXT-X-ENDLIST\n"),
        ("list.mkv", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ImageError, match="cannot be opened"):
            list(scenes(tmp_path / name))


def test_scenes_are_told_without_times_and_where_frames_change_their_size(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grounds = raw.parent / "grounds"
    for name, size in (("pale", (320, 240)), ("dark", (160, 120))):
        write_video(tmp_path / f"{name}.ts", [(grounds / f"{name}.png", 30)], size=size)
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "pale.ts").read_bytes() + (tmp_path / "dark.ts").read_bytes())
    assert [frame.picture.size for frame in scenes(both)] == [(320, 240), (160, 120)]

    def without_times(container: Any) -> Iterator[Any]:
        for frame in container.decode(video=0):
            frame.pts = None
            yield frame

    monkeypatch.setattr(video, "decoded_frames", without_times)
    assert [frame.seconds for frame in scenes(raw / CLIP)] == pytest.approx([0, 1.2, 2.4, 12.4])


def test_a_videos_crops_are_cut_once_and_tell_their_moment(store: Store, raw: Path) -> None:
    report = crop(store, raw)
    assert (report.cropped, report.written, report.failures) == (4, 4, [])
    assert [path for path in files(raw) if "6.preprocessed" in path] == CROPS
    again = crop(store, raw)
    assert (again.cropped, again.unchanged) == (0, 1)
    (raw / CLIP).touch()
    again = crop(store, raw)
    assert (again.cropped, again.unchanged, again.deleted) == (0, 1, 0)
    assert run_index(store, raw).added == 5
    with store.reading() as catalog:
        shown = [each.origin for each in catalog.shown(range(1, 6)).values() if each.origin]
    assert [origin.picture for origin in shown] == [f"{raw / CLIP}/{frame}" for frame in FRAMES]
    assert list(verify(store)) == []
    write_clip(raw / CLIP, ("pale", 40))
    assert [finding.subject for finding in verify(store)] == [str(raw / CLIP)], "once, however many crops it has"


def test_a_video_that_changed_replaces_exactly_its_crops_and_one_that_is_gone_takes_them_along(
    store: Store, raw: Path
) -> None:
    crop(store, raw)
    write_clip(raw / CLIP, ("pale", 30), ("green", 30))
    report = crop(store, raw)
    assert (report.cropped, report.failures) == (2, [])
    assert [path for path in files(raw) if "6.preprocessed" in path] == CROPS[:2]
    assert (crop(store, raw).unchanged, len(rows(store))) == (1, 2)
    (raw / CLIP).rename(raw / "elsewhere.mp4")
    report = crop(store, raw)
    assert (report.gone, report.deleted) == (1, 2)
    assert not (raw / "things/6.preprocessed/clip.mp4").exists()
    assert rows(store) == []
    (raw / "elsewhere.mp4").rename(raw / CLIP)
    assert crop(store, raw).written == 2


def test_a_run_that_stops_in_a_video_goes_on_in_it_and_looks_at_no_frame_twice(
    store: Store, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearshot.indexer.crops.HELD", 1)  # a batch a frame
    asked = iter([False, False, True])
    stopped = CropRun(store, raw, CropOptions(workers=1), should_stop=lambda: next(asked))
    assert list(stopped)
    assert stopped.report.interrupted
    assert (stopped.report.cropped, len(rows(store))) == (2, 2)
    report = crop(store, raw)
    assert (report.cropped, report.interrupted) == (2, False)
    with Store(tmp_path / "other", create=True) as other:
        crop(other, raw)
        assert rows(other) == rows(store)


def test_a_file_in_the_way_of_a_frames_crop_is_named_each_time_until_it_is_gone(store: Store, raw: Path) -> None:
    (raw / CROPS[1]).parent.mkdir(parents=True)
    (raw / CROPS[1]).write_text("mine")
    for _ in range(2):
        report = crop(store, raw)
        assert [failure.path for failure in report.failures] == [f"{CLIP}/{FRAMES[1]}"]
    assert (raw / CROPS[1]).read_text() == "mine"
    (raw / CROPS[1]).unlink()
    report = crop(store, raw)
    assert (report.failures, report.written) == ([], 1)
    assert crop(store, raw).unchanged == 1


def test_what_is_no_video_is_named_each_time_and_taken_when_it_is_one(store: Store, raw: Path) -> None:
    good = (raw / CLIP).read_bytes()
    (raw / CLIP).write_bytes(good[:2000])
    (raw / "things/1.raw/notes.txt").write_text("x")
    for _ in range(2):
        report = crop(store, raw)
        assert [failure.path for failure in report.failures] == [CLIP]
        assert "cannot be" in report.failures[0].reason
        assert [breach.rule for breach in report.breaches] == ["neither an image file nor a video"]
    (raw / CLIP).write_bytes(good)
    assert crop(store, raw).written == 4


def test_without_pyav_a_video_says_what_to_install_and_pictures_are_cut(
    store: Store, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = raw / "things/1.raw/a.png"
    (raw.parent / "grounds/pale.png").rename(picture)
    monkeypatch.setitem(sys.modules, "av", None)
    report = crop(store, raw)
    assert report.written == 1
    assert [failure.reason for failure in report.failures] == [
        "a video or a camera takes PyAV: pip install 'nearshot[video]'"
    ]


def test_a_picture_in_a_directory_named_like_a_video_is_a_picture() -> None:
    assert video_of("things/1.raw/clip.mp4/00012.480") == "things/1.raw/clip.mp4"
    assert video_of("things/1.raw/clip.mp4/a.png") == "things/1.raw/clip.mp4/a.png"
    assert video_of("things/1.raw/shots/00012.480") == "things/1.raw/shots/00012.480"
