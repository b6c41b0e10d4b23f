"""Watching: strangers' tracks keep to the rate however long they are watched; a thing is one track, told once."""

from __future__ import annotations

import functools
import http.server
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nearshot.retriever.calibrate import CalibrationOptions, calibrate_all
from nearshot.retriever.conformal import Aim, Aims
from nearshot.retriever.frames import Seen, frames_of
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.sequential import Schedule
from nearshot.retriever.tracks import ALIKE, difference_hash
from nearshot.retriever.watch import WatchOptions, WatchRun
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store
from tests.conftest import Outcome, run_index, save_crop
from tests.photographs import photograph
from tests.videos import write_video

CAT, COFFEE, ROCKET = (photograph(name) for name in ("chelsea.png", "coffee.png", "rocket.jpg"))


@pytest.mark.parametrize("dependence", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("strangers", [99, 400])
def test_of_strangers_watched_for_long_no_more_match_than_promised(dependence: float, strangers: int) -> None:
    """1,000 streams of 600 looks each, whose scores go together more or less; calibrated on strangers drawn alike."""
    chance = np.random.default_rng(round(dependence * 100) + strangers)
    matches = naive = 0
    streams, looks, alpha = 1000, 600, 0.05
    schedule = Schedule.of(alpha, strangers)
    for _ in range(streams):
        known = np.sort(chance.normal(size=strangers))
        own, frames = chance.normal(), chance.normal(size=looks)
        scores = np.sqrt(dependence) * own + np.sqrt(1 - dependence) * frames
        p = (1 + strangers - np.searchsorted(known, scores)) / (strangers + 1)
        matches += any(schedule.accepts(frame, p[frame - 1]) for frame in schedule.looks)
        naive += bool((p <= alpha).any())
    assert matches <= alpha * streams + 2.5 * np.sqrt(alpha * streams)
    assert dependence == 1 or naive > 2 * alpha * streams, "the test shows nothing where looking often does no harm"


@pytest.mark.parametrize("strangers", [99, 400])
def test_what_is_known_is_decided_within_five_frames_by_the_median(strangers: int) -> None:
    """Known things score 3 standard deviations above strangers on average, frames of 1 apart."""
    chance = np.random.default_rng(3)
    schedule = Schedule.of(0.05, strangers)
    decided = []
    for _ in range(400):
        known = np.sort(chance.normal(size=strangers))
        scores = 3 + chance.normal(size=60)
        p = (1 + strangers - np.searchsorted(known, scores)) / (strangers + 1)
        decided.append(next((frame for frame in schedule.looks if schedule.accepts(frame, p[frame - 1])), 999))
    assert np.median(decided) <= 5
    assert np.mean(np.array(decided) == 999) < 0.05


def test_a_schedule_has_no_more_looks_than_strangers_allow() -> None:
    assert Schedule.of(0.05, 18).looks == ()
    assert Schedule.of(0.05, 19).looks == (1,)
    assert Schedule.of(0.05, 99).looks == (1, 2, 3, 5, 8)
    assert Schedule.of(0.05, 99).accepts(8, 1 / 100)
    assert not Schedule.of(0.05, 99).accepts(8, 2 / 100)
    assert not Schedule.of(0.05, 99).accepts(4, 1 / 100)
    assert Schedule.of(0.01, 5000).looks == (1, 2, 3, 5, 8, 13, 21, 34)


def test_a_hash_tells_a_look_from_another_thing_and_not_from_noise() -> None:
    cat, coffee = (Image.open(path).convert("RGB") for path in (CAT, COFFEE))
    noise = np.random.default_rng(0).integers(-6, 7, (*cat.size[::-1], 3))
    noisy = Image.fromarray(np.clip(np.asarray(cat).astype(int) + noise, 0, 255).astype(np.uint8))
    assert (difference_hash(cat) ^ difference_hash(noisy)).bit_count() <= 4
    assert (difference_hash(cat) ^ difference_hash(coffee)).bit_count() > ALIKE // 2


@pytest.fixture
def known(tmp_path: Path, store: Store) -> Path:
    """A store of cats and coffee by hog, with rejected queries enough for a promise; and its data directory."""
    root = tmp_path / "data"
    for number in range(6):
        save_crop(root / f"things/2.support-set/cat/shot{number + 1}.png", f"chelsea:{number}")
        save_crop(root / f"things/2.support-set/coffee/shot{number + 1}.png", f"coffee:{number}")
    for number in range(40):
        save_crop(
            root / f"things/6.preprocessed/Unknown/{number}.png", f"{('rocket', 'astronaut')[number % 2]}:{number}"
        )
    run_index(store, root)
    return root


def watch(store: Store, source: Path, **more: Any) -> tuple[list[dict[str, Any]], WatchRun]:
    run = WatchRun(store, str(source), QueryOptions(top_k=1, threshold=0.5, margin_floor=0.0), WatchOptions(**more))
    return list(run), run


def test_each_thing_in_a_video_is_one_track_with_its_times(store: Store, known: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [(CAT, 50), (None, 50), (COFFEE, 50)])
    tracks, run = watch(store, tmp_path / "v.mp4", every=5, save=tmp_path / "looks")
    assert run.schedule is None, "it is not calibrated"
    matched = [track for track in tracks if track["verdict"] == "match"]
    assert [(track["category"], track["label"]) for track in matched] == [("things", "cat"), ("things", "coffee")]
    for track, (first, last) in zip(matched, [(0, 2), (4, 6)], strict=True):
        assert track["first"] == pytest.approx(first, abs=0.3)
        assert first < track["last"] <= last
        with Image.open(track["saved"]) as image:
            assert image.size == (320, 240)
    assert run.seen.frames == 150
    assert run.still >= 8, "the grey frames are all the same"
    assert run.looked_at + run.still == 30
    json.dumps(tracks)


def test_by_calibration_a_stranger_does_not_match_and_what_is_known_does(
    store: Store, known: Path, tmp_path: Path
) -> None:
    aims = Aims({Aim.FALSE_ACCEPT: 0.1})
    list(calibrate_all(store, CalibrationOptions(aims=aims)))
    write_video(tmp_path / "v.mp4", [(ROCKET, 200), (CAT, 60)])
    run = WatchRun(
        store, str(tmp_path / "v.mp4"), QueryOptions(top_k=1), WatchOptions(every=2, false_accept=0.1, at_once=True)
    )
    tracks = list(run)
    assert run.strangers >= 9
    assert run.schedule is not None
    assert run.schedule.looks
    assert {track["label"] for track in tracks if track["verdict"] == "match"} <= {"cat"}
    assert all(track["false_accept"] == 0.1 for track in tracks)
    assert len({track["track"] for track in tracks}) == len(tracks), "each is told once"


def test_a_directory_is_watched_with_or_without_waiting(store: Store, known: Path, tmp_path: Path) -> None:
    here = tmp_path / "camera"
    save_crop(here / "a.png", "chelsea:1")
    save_crop(here / "b.png", "coffee:1")
    (here / "c.png").write_text("no image")
    tracks, run = watch(store, here, wait=False)
    assert {track["label"]: Path(track["file"]).name for track in tracks} == {"cat": "a.png", "coffee": "b.png"}
    assert all(track["first_file"] == track["last_file"] == track["file"] for track in tracks)
    assert {track["first"] for track in tracks} == {None}, "images that are there have no times"
    assert [line.rpartition(":")[0] for line in run.seen.unread] == [str(here / "c.png")]

    stop = threading.Event()
    waiting = WatchRun(
        store,
        str(here),
        QueryOptions(top_k=1, threshold=0.5, margin_floor=0.0),
        WatchOptions(at_once=True),
        should_stop=stop.is_set,
    )
    told = []
    for track in waiting:
        told.append(track["label"])
        if len(told) == 1:
            save_crop(here / "d.png", "coffee:2")
        if "coffee" in told:
            stop.set()
    assert {"cat", "coffee"} <= set(told)


def test_a_stream_that_ends_is_reached_again_and_frames_that_nobody_takes_are_dropped(tmp_path: Path) -> None:
    write_video(tmp_path / "v.ts", [(CAT, 60)])
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        seen = Seen()
        taken = 0
        url = f"http://127.0.0.1:{server.server_port}/v.ts"
        for _ in frames_of(url, every=1, wait=True, seen=seen, should_stop=lambda: seen.reconnected >= 2):
            taken += 1
            time.sleep(0.05)  # longer than a frame takes to decode
        server.shutdown()
    assert seen.reconnected >= 2
    assert seen.frames >= 120
    assert taken + seen.dropped <= seen.frames
    assert seen.dropped > 0


def test_what_cannot_be_watched_is_told(
    store: Store, known: Path, tmp_path: Path, nearshot: Callable[..., Outcome]
) -> None:
    (tmp_path / "words.mp4").write_text("no video at all")
    outcome = nearshot("watch", tmp_path / "words.mp4", "--store", store.location)
    assert outcome.status == 2
    assert "cannot be opened" in outcome.stderr
    assert nearshot("watch", tmp_path / "nothing.mp4").status == 2
    with pytest.raises(UsageError, match="cannot be opened"):
        list(frames_of("rtsp://127.0.0.1:9/x", every=1, wait=True, seen=Seen(), should_stop=lambda: False))


def test_the_command_prints_a_line_a_track(
    store: Store, known: Path, tmp_path: Path, nearshot: Callable[..., Outcome]
) -> None:
    write_video(tmp_path / "v.mp4", [(CAT, 30)])
    outcome = nearshot("watch", tmp_path / "v.mp4", "--store", store.location, "--category", "things")
    [track] = outcome.objects
    assert track["frames"] >= 5
    assert "nothing is promised" in outcome.stderr
    assert "30 frames, 6 looked at" in outcome.stderr
