"""The door: what the commands do, from Python; the same answers, and errors that say what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import nearshot
from nearshot.index import Index
from nearshot.schema.errors import ImageError, UsageError
from tests.conftest import SMALL, Outcome, save_crop

Run = Callable[..., Outcome]
CAT = "things/6.preprocessed/cat/a.png"


@pytest.fixture
def index(small: Path, tmp_path: Path) -> Iterator[Index]:
    with nearshot.open(tmp_path / ".nearshot", create=True) as opened:
        report = opened.add(small, backbones=["hog"])
        assert report.added == len(SMALL)
        yield opened


def test_the_example_of_the_door_works(index: Index, small: Path) -> None:
    answer = index.query(small / CAT, category="things")
    assert (answer.verdict, answer.label, answer.nearest) == (nearshot.Verdict.MATCH, "cat", "cat")
    assert answer.score is not None
    assert answer.margin is not None
    assert answer.score >= answer.threshold
    assert Path(answer.hits[0].path).is_file()
    assert answer.hits[0].label == "cat"
    ids, vectors = index.vectors(category="things", backbone="hog")
    assert (str(ids.dtype), str(vectors.dtype), vectors.shape) == ("int64", "float32", (6, 708))
    assert np.all(np.diff(ids) > 0)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert [(image.id, Path(image.path).is_file()) for image in index.images([ids[0], 999])] == [(ids[0], True)]
    assert index.vectors(category="things", role="query")[0].tolist() == [
        image_id for image_id, image in zip(ids.tolist(), index.images(ids), strict=True) if image.role == "query"
    ]
    assert index.labels == {"things": {"cat": 2, "coffee": 2}}
    assert (index.backbones, index.path.name) == (["hog"], ".nearshot")


def test_the_answer_is_that_of_the_command(index: Index, nearshot: Run, small: Path) -> None:
    [printed] = nearshot("query", small / CAT, "--json").objects
    assert index.query(small / CAT).as_json() == printed
    [printed] = nearshot("query", small / CAT, "--score", "max_sim", "--against", "all", "--top-k", 2, "--json").objects
    assert index.query(str(small / CAT), score="max_sim", against="all", top_k=2).as_json() == printed


def test_an_image_may_come_in_any_form(index: Index, small: Path) -> None:
    path = small / CAT
    picture = Image.open(path).convert("RGB")
    answers = [
        index.query(image)
        for image in (
            path,
            str(path),
            path.read_bytes(),
            picture,
            np.asarray(picture),
            np.asarray(picture)[:, ::-1][:, ::-1],
        )
    ]
    assert {answer.label for answer in answers} == {"cat"}
    assert len({round(answer.score or 0, 5) for answer in answers}) == 1
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6  # to be turned clockwise
    turned.info["exif"] = exif.tobytes()
    turned.getexif()[274] = 6
    assert index.query(turned).score == pytest.approx(answers[0].score, abs=1e-5)


def test_a_list_gives_a_list_with_what_cannot_be_read_in_its_place(index: Index, small: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    images: list[Path | bytes] = [
        small / CAT,
        tmp_path / "broken.png",
        tmp_path / "absent.png",
        (small / CAT).read_bytes(),
    ]
    first, broken, absent, last = index.query(images)
    assert (first.label, last.label) == ("cat", "cat")
    assert isinstance(broken, nearshot.Unreadable)
    assert (broken.label, broken.verdict, broken.reason) == (None, None, "not an image in any known format")
    assert isinstance(absent, nearshot.Unreadable)
    assert "No such file" in absent.reason
    assert index.query([]) == []
    assert [answer.label for answer in index.answers(iter([small / CAT] * 3))] == ["cat"] * 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda index, root: index.query(root / "absent.png"), ImageError, "absent.png: cannot be read: No such file"),
        (lambda index, root: index.query(b"no image"), ImageError, "image 1: not an image"),
        (lambda index, root: index.query(np.zeros((4, 4))), UsageError, r"give \(height, width, 3\) uint8, RGB"),
        (lambda index, root: index.query(np.zeros((3, 8, 8), dtype=np.uint8)), UsageError, "is no image"),
        (lambda index, root: index.query(root), UsageError, "is a directory"),
        (lambda index, root: index.query([3]), UsageError, "int is no image"),
        (
            lambda index, root: index.query(root / CAT, scores="lda"),
            UsageError,
            "no option 'scores'; there are against",
        ),
        (lambda index, root: index.query(root / CAT, score="best"), UsageError, "score cannot be 'best'; take max_sim"),
        (lambda index, root: index.query(root / CAT, backbone="clip"), UsageError, "nothing is indexed with clip"),
        (
            lambda index, root: index.query(root / CAT, coverage=2),
            UsageError,
            "coverage is a share between 0 and 1, not 2",
        ),
        (lambda index, root: index.query(root / CAT, top_k=0), UsageError, "top_k is a number at least 1, not 0"),
        (
            lambda index, root: index.query(root / CAT, threshold=5),
            UsageError,
            "threshold is a number between -1 and 1",
        ),
        (
            lambda index, root: index.query(root / CAT, threshold="high"),
            UsageError,
            "threshold is a number .*, not 'high'",
        ),
        (
            lambda index, root: index.query(root / CAT, margin_floor=float("nan")),
            UsageError,
            "margin_floor is a number",
        ),
        (lambda index, root: index.query(root / CAT, false=1e-9), UsageError, "false is a share between 0.001 and 1"),
        (lambda index, root: index.query(root / CAT, text=" "), UsageError, "text needs words"),
        (lambda index, root: index.query(None), UsageError, "NoneType is no image"),
        (lambda index, root: index.search("cat", limit=0), UsageError, "limit is a number at least 1"),
        (lambda index, root: index.mark(root / CAT, True), UsageError, "give image or words"),
        (lambda index, root: index.mark(root / "no.png", True, image=root / CAT), UsageError, "cannot be read"),
        (lambda index, root: index.mark(root / CAT, True, words="dog"), UsageError, "not among the first 1000"),
        (lambda index, root: index.add(root / "nowhere"), UsageError, "is not a directory"),
        (lambda index, root: index.add(root, precision="int8"), UsageError, "precision cannot be 'int8'"),
        (lambda index, root: index.search("cat", mode="sound"), UsageError, "mode cannot be 'sound'"),
        (lambda index, root: index.search("cat", role="judge"), UsageError, "role cannot be 'judge'"),
        (
            lambda index, root: index.calibrate(false_accept=5),
            UsageError,
            "false_accept is a share between 0 and 1, not 5",
        ),
        (lambda index, root: index.vectors(category="nothing"), UsageError, "no category 'nothing'"),
        (lambda index, root: index.undo(root / CAT, "label"), UsageError, "to take back"),
    ],
)
def test_what_makes_no_sense_is_said(
    call: Callable[[Index, Path], object], error: type[Exception], message: str, index: Index, small: Path
) -> None:
    with pytest.raises(error, match=message):
        call(index, small)


def test_there_must_be_an_index_unless_it_is_to_be_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no store at"):
        nearshot.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_what_is_said_counts_from_the_next_query_on_and_can_be_taken_back(index: Index, small: Path) -> None:
    save_crop(small / "things/6.preprocessed/new.png", "rocket:1")
    index.add(small, backbones="hog")
    new = small / "things/6.preprocessed/new.png"
    save_crop(small / "another.png", "rocket:2")
    assert index.query(small / "another.png").label is None
    shot = index.label(new, "rocket")
    assert shot.is_file()
    assert index.query(small / "another.png").label == "rocket"
    index.undo(new, "label")
    assert index.query(small / "another.png").label is None
    index.reject(small / CAT)
    assert index.query(small / CAT).decision.negative is not None
    index.undo(small / CAT, "reject")
    assert index.query(small / CAT).label == "cat"


def test_words_captions_and_marks(index: Index, small: Path) -> None:
    assert index.search("ginger").missing != ()
    index.caption(small / "things/2.support-set/cat/shot1.png", "a ginger cat")
    results = index.search("ginger", mode="captions", limit=5)
    assert len(results) == 1
    assert [hit.label for hit in results] == ["cat"]
    assert results[0].path.endswith("cat/shot1.png")
    assert "ginger" in results._repr_html_()
    assert results._repr_html_().count("data:image/jpeg;base64,") == 1


def test_marks_are_all_taken_or_none(index: Index, small: Path) -> None:
    shots = sorted((small / "things/2.support-set").rglob("*.png"))
    query = small / "things/6.preprocessed/Unknown/b.png"
    for hits in ([shots[0], query], [shots[0], small / "absent.png"]):
        with pytest.raises(UsageError):
            index.mark(hits, True, image=query)

    def least() -> float:
        stop = index.query(query, top_k=4, false=0.5).stop
        assert stop is not None
        assert stop.lists == 2
        assert stop.least is not None
        return stop.least

    before = least()
    index.mark(shots, True, image=query)
    assert least() < before, "of the stranger all four hits are right now"
    index.mark(shots, None, image=query)
    assert least() == before


def test_a_closed_index_says_so(index: Index, small: Path) -> None:
    index.close()
    index.close()
    for ask in (lambda: index.query(small / CAT), lambda: index.labels, lambda: index.add(small)):
        with pytest.raises(UsageError, match="was closed; open it again"):
            ask()
    assert "nearshot.open(" in repr(index)


def test_calibrating_and_evaluating(index: Index, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        save_crop(small / f"things/6.preprocessed/coffee/{number}.png", f"coffee:{number + 1}")
        save_crop(small / f"things/6.preprocessed/Unknown/{number}.png", f"rocket:{number + 1}")
    index.add(small, backbones=["hog"])
    calibrations = index.calibrate(false_accept=0.4, scores="max_sim", all_queries=True)
    assert [
        (calibration.backbone, calibration.score.value, calibration.policy.calibrated) for calibration in calibrations
    ] == [("hog", "max_sim", True)]
    assert index.query(small / CAT, score="max_sim").threshold == calibrations[0].policy.threshold
    with pytest.raises(UsageError, match="calibration has seen all"):
        index.evaluate()
    assert index.evaluate(score="prototype").table7.columns[0] == "category"
    judged = index.evaluate(score="prototype")
    assert isinstance(judged.table7, pd.DataFrame)
    assert [len(getattr(judged, f"table{number}")) > 0 for number in (7, 8, 11)] == [True] * 3
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    assert judged.table7.name == "table7", "without pandas, the table as it is"
    assert [need.label for need in index.next("things").needs] == ["cat", "coffee"]


def test_an_answer_shows_itself(index: Index, small: Path) -> None:
    page = index.query(small / CAT)._repr_html_()
    assert page.count("data:image/jpeg;base64,") >= 5, "the image, and the shots that won"
    for part in ("match: cat", "threshold 0.900", "<svg", "by hog"):
        assert part in page
    picture = Image.open(small / CAT)
    assert index.query(picture)._repr_html_().count("data:image") == page.count("data:image")
    (small / "things/2.support-set/cat/shot1.png").unlink()
    assert "not shown" in index.query(small / CAT)._repr_html_()
    unknown = index.query(small / "things/6.preprocessed/Unknown/b.png")._repr_html_()
    assert "unknown</b> (the score is below the threshold)" in unknown
    named = small / "<b>bold.png"
    named.write_bytes((small / CAT).read_bytes())
    assert "<b>bold" not in index.query(named)._repr_html_()


def test_many_threads_may_ask_while_one_adds(index: Index, small: Path) -> None:
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(15):
            answer = index.query(small / CAT)
            if answer.label != "cat":
                wrong.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(4):
        save_crop(small / f"things/2.support-set/cat/shot{number + 5}.png", f"chelsea:{number}")
        index.add(small, backbones=["hog"])
    for thread in threads:
        thread.join()
    assert wrong == []
    assert index.labels["things"]["cat"] == 6


def test_another_process_is_followed(index: Index, nearshot: Run, small: Path) -> None:
    assert index.query(small / CAT).label == "cat"
    for shot in (small / "things/2.support-set/cat").iterdir():
        shot.unlink()
    assert nearshot("index", small, "--backbone", "hog").status == 0
    assert index.query(small / CAT).nearest == "coffee"
    assert json.loads(json.dumps(index.status().as_json()))["backbones"][0]["name"] == "hog"
    assert index.verify() == []
