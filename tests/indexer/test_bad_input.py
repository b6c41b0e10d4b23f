"""Bad input: each a counted failure with its reason, the run going on, and no second try before something changes."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from nearshot.backbones.decode import Decoded, decode
from nearshot.indexer import load as load_module
from nearshot.indexer.load import Loaded, Loader, Skipped
from nearshot.indexer.report import Report
from nearshot.schema.store import Store
from tests.backbones.test_decode import JPEG, png_bomb
from tests.conftest import HOG, as_nobody, counts, run_index

CAT = "things/2.support-set/cat"
QUERIES = "things/6.preprocessed"


def reasons(report: Report) -> dict[str, str]:
    return {failure.path: failure.reason for failure in report.failures}


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the files that the decoder is given."""
    given: list[int] = []

    def counting(data: bytes, *, max_pixels: int) -> Decoded:
        given.append(len(data))
        return decode(data, max_pixels=max_pixels)

    monkeypatch.setattr("nearshot.indexer.load.decode", counting)
    return given


def test_every_kind_of_bad_file_is_counted_with_its_reason_and_tried_once(
    store: Store, small: Path, tries: list[int]
) -> None:
    (small / CAT / "shot3.png").write_bytes(b"")
    (small / CAT / "shot4.jpg").write_bytes(JPEG[: len(JPEG) // 2])
    (small / CAT / "shot5.jpg").write_text("just words")
    (small / CAT / "shot6.png").write_bytes(png_bomb(30_000))
    (small / CAT / "shot7.png").symlink_to("nowhere.png")
    (small / CAT / "shot8.png").symlink_to("shot8.png")
    (small / CAT / "shot9").symlink_to(small / "things")
    (small / QUERIES / "x.jpg").mkdir()
    shutil.copy(small / CAT / "shot1.png", small / QUERIES / "x.jpg/inside.png")
    os.mkfifo(small / QUERIES / "pipe.png")
    Path(os.fsdecode(os.fsencode(small / QUERIES) + b"/caf\xe9.png")).write_bytes(b"x")
    expected = {
        f"{CAT}/shot3.png": "the file is empty",
        f"{CAT}/shot4.jpg": "truncated",
        f"{CAT}/shot5.jpg": "not an image in any known format",
        f"{CAT}/shot6.png": "30000 x 30000 pixels are more than the cap",
        f"{CAT}/shot7.png": "a link to nothing",
        f"{CAT}/shot8.png": "a link that leads back to itself",
        f"{CAT}/shot9": "a link that leads back to itself",
        f"{QUERIES}/x.jpg": "a directory with an image's name",
        f"{QUERIES}/pipe.png": "neither a file nor a directory",
        f"{QUERIES}/caf\\xe9.png": "its name is not UTF-8",
    }
    report = run_index(store, small)
    assert counts(report) == {"added": 6, "failed": len(expected)}
    failures = reasons(report)
    assert failures.keys() == expected.keys()
    for path, reason in expected.items():
        assert reason in failures[path]
    tries.clear()
    again = run_index(store, small)
    assert counts(again) == {"unchanged": 6, "failed": len(expected)}
    assert reasons(again) == failures
    assert tries == []


def test_a_failed_file_is_tried_again_when_it_or_the_decoder_changes(
    store: Store, small: Path, tries: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = small / CAT / "shot3.jpg"
    broken.write_bytes(JPEG[: len(JPEG) // 2])
    run_index(store, small)
    tries.clear()
    with monkeypatch.context() as patch:
        patch.setattr("nearshot.indexer.options.decoder_version", lambda: "a newer decoder")
        assert counts(run_index(store, small)) == {"unchanged": 6, "failed": 1}
        assert tries == [len(JPEG) // 2]
    broken.write_bytes(JPEG)
    assert counts(run_index(store, small)) == {"added": 1, "unchanged": 6}
    broken.write_bytes(JPEG[:1000])
    assert counts(run_index(store, small)) == {"unchanged": 6, "failed": 1}
    broken.unlink()
    assert counts(run_index(store, small)) == {"unchanged": 6}


def test_a_higher_pixel_cap_lets_a_large_image_in(store: Store, small: Path) -> None:
    assert counts(run_index(store, small, replace(HOG, max_pixels=100))) == {"failed": 6}
    assert counts(run_index(store, small)) == {"added": 6}


def test_a_file_that_vanishes_or_changes_while_it_is_read_fails_this_time_only(
    store: Store, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_load, real_state = Loader.load, load_module._state
    ticks = iter(range(1, 9))

    def load(self: Loader, path: Path) -> Loaded | Skipped:
        if path == small / CAT / "shot1.png":
            path.rename(path.with_name("away"))
        grows = path == small / CAT / "shot2.png"
        patch.setattr(
            load_module,
            "_state",
            lambda file: real_state(file)._replace(mtime_ns=next(ticks)) if grows else real_state(file),
        )
        return real_load(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "load", load)
        report = run_index(store, small, replace(HOG, workers=1))
    assert reasons(report)[f"{CAT}/shot1.png"] == "it vanished before it could be read"
    assert "changed while it was read" in reasons(report)[f"{CAT}/shot2.png"]
    (small / CAT / "away").rename(small / CAT / "shot1.png")
    again = run_index(store, small)
    assert again.failed == 0
    assert again.added + again.unchanged == 6


def test_a_file_without_read_permission_fails_until_it_has_it(small: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        data = Path(shutil.copytree(small, f"{directory}/data"))
        with Store(Path(directory, "store"), create=True) as store:
            assert counts(run_index(store, data)) == {"added": 6}
            shot = data / CAT / "shot3.png"
            shutil.copy(data / CAT / "shot1.png", shot)
            shot.chmod(0)
            with as_nobody(Path(directory)):
                report = run_index(store, data)
                assert counts(report) == {"unchanged": 6, "failed": 1}
                assert reasons(report)[f"{CAT}/shot3.png"] == "cannot be read: Permission denied"
                shot.chmod(0o644)
                assert counts(run_index(store, data)) == {"added": 1, "unchanged": 6}
