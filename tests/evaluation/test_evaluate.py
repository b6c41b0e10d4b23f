"""Evaluation: the tables are what queries would be told, and come out the same every time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nearshot.evaluation.evaluate import EvaluationOptions, evaluate
from nearshot.evaluation.report import render_report
from nearshot.evaluation.tables import OUTCOMES, as_json, outcomes_table, shots_table, write
from nearshot.retriever.answer import Answer
from nearshot.retriever.calibrate import CalibrationOptions, calibrate_all
from nearshot.retriever.conformal import Aim, Aims
from nearshot.retriever.options import QueryOptions
from nearshot.retriever.retriever import Retriever
from nearshot.retriever.sources import read_queries
from nearshot.retriever.strangers import is_for_calibration
from nearshot.schema.errors import UsageError
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Score
from tests.conftest import HOG, Writer, run_index, save_crop

pytestmark = pytest.mark.both_stores

LABELS = {"cat": "chelsea", "coffee": "coffee", "rocket": "rocket"}


@pytest.fixture
def data(write_data: Writer) -> Path:
    """Two categories with three shots per label, labelled queries and strangers."""
    files = {}
    for label, photo in LABELS.items():
        for number in range(3):
            files[f"things/2.support-set/{label}/shot{number}.png"] = f"{photo}:{number}"
        for number in range(4, 8):
            files[f"things/6.preprocessed/{label}/{number}.png"] = f"{photo}:{number}"
    for number in range(6):
        files[f"things/6.preprocessed/Unknown/{number}.png"] = f"{'ihc' if number % 2 else 'astronaut'}:{number}"
        files[f"things/6.preprocessed/unlabelled/{number}.png"] = f"retina:{number}"
    for number in range(3):
        files[f"other/2.support-set/shot{number}.png"] = f"astronaut:{number}"
    files["other/6.preprocessed/other/a.png"] = "astronaut:7"
    files["other/6.preprocessed/Unknown/b.png"] = "rocket:7"
    return write_data(files)


LEAKS_KEPT = EvaluationOptions(keep_leaks=True)


def test_table_7_counts_what_query_says_of_each_image(store: Store, data: Path) -> None:
    run_index(store, data)
    for score in Score:
        rows = outcomes_table(evaluate(store, replace(LEAKS_KEPT, score=score))).as_objects()
        assert [row["category"] for row in rows] == ["other", "things", "all"]
        for row in rows[:2]:
            category = str(row["category"])
            retriever = Retriever(store, QueryOptions(backbone="hog", category=category, score=score))
            counted = dict.fromkeys(OUTCOMES, 0)
            for answer in retriever.answer(read_queries([data / category / "6.preprocessed"])):
                assert isinstance(answer, Answer)
                truth = Path(answer.path).parent.name
                verdict, label = answer.decision.verdict, answer.decision.label
                if truth == "unlabelled":
                    continue
                known = {"match": "correct" if label == truth else "wrong", "unknown": "falsely_unknown"}
                strange = {"match": "falsely_accepted", "unknown": "correctly_unknown"}
                counted[(strange if truth == "Unknown" else known).get(verdict, "ambiguous")] += 1
            assert {name: row[name] for name in OUTCOMES} == counted
            assert row["queries"] == (18 if category == "things" else 2)
        assert all(rows[2][name] == rows[0][name] + rows[1][name] for name in OUTCOMES)  # type: ignore[operator]


def test_the_same_images_give_the_same_bytes_in_whatever_order_and_batches_they_came(
    data: Path, tmp_path: Path
) -> None:
    written = []
    for name, size in (("whole", 16), ("pieces", 3)):
        with Store(tmp_path / name, create=True) as store:
            if name == "pieces":
                aside = [path.rename(path.with_suffix(".aside")) for path in sorted(data.rglob("*.png"))[::2]]
                run_index(store, data, replace(HOG, batch_size=size, workers=1))
                for path in aside:
                    path.rename(path.with_suffix(".png"))
            run_index(store, data, replace(HOG, batch_size=size))
            for _ in calibrate_all(store, CalibrationOptions(aims=Aims({Aim.FALSE_REJECT: 0.2}))):
                pass
            for again in range(2):
                evaluation = evaluate(store, EvaluationOptions())
                files = write(evaluation, tmp_path / f"{name}-{again}", render_report(store, evaluation))
                written.append([file.read_bytes() for file in files])
    assert written[0] == written[1] == written[2] == written[3]
    assert b"yes" in written[0][0], "a calibration was applied"


def test_copies_of_shots_are_left_out_and_listed(store: Store, data: Path) -> None:
    shot = data / "things/2.support-set/cat/shot0.png"
    shutil.copy(shot, data / "things/6.preprocessed/cat/copy.png")
    nearly = data / "things/6.preprocessed/cat/nearly.png"
    nearly.write_bytes(shot.read_bytes() + b"\0")
    run_index(store, data)
    evaluation = evaluate(store, EvaluationOptions(categories=("things",)))
    leaks = {leak.query.removeprefix("things/6.preprocessed/"): leak for leak in evaluation.leaks}
    assert leaks["cat/copy.png"].reason == "the same bytes"
    assert leaks["cat/nearly.png"].reason == "cosine 1.0000 on hog"
    assert leaks["cat/nearly.png"].shot == "things/2.support-set/cat/shot0.png"
    kept = evaluate(store, replace(LEAKS_KEPT, categories=("things",)))
    assert kept.outcomes[-1].outcomes.queries == 20
    assert evaluation.outcomes[-1].outcomes.queries == 20 - len(leaks)


def test_what_a_calibration_has_seen_is_not_judged_by(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearshot.retriever.find_policy.ENOUGH", 1)
    run_index(store, data)
    everything = evaluate(store, LEAKS_KEPT)
    assert (everything.unseen_only, everything.outcomes[-1].outcomes.queries) == (False, 20)
    list(calibrate_all(store, CalibrationOptions(aims=Aims({Aim.FALSE_REJECT: 0.4}), scores=(Score.MAX_SIM,))))
    unseen = evaluate(store, LEAKS_KEPT)
    assert unseen.unseen_only
    assert unseen.outcomes[-1].outcomes.queries + unseen.seen == 20
    assert 0 < unseen.seen < 20
    assert not evaluate(store, replace(LEAKS_KEPT, score=Score.PROTOTYPE)).unseen_only
    everything_seen = CalibrationOptions(aims=Aims({Aim.FALSE_REJECT: 0.4}), scores=(Score.MAX_SIM,), every=True)
    list(calibrate_all(store, everything_seen))
    with pytest.raises(UsageError, match="calibration has seen all labelled queries"):
        evaluate(store, replace(LEAKS_KEPT, categories=("things",)))
    assert is_for_calibration("0" * 64)
    assert not is_for_calibration("0" * 63 + "1")


def test_table_8_has_a_row_for_each_number_of_shots_that_all_labels_have(store: Store, data: Path) -> None:
    run_index(store, data)
    rows = shots_table(evaluate(store, LEAKS_KEPT)).as_objects()
    assert [(row["backbone"], row["shots"]) for row in rows] == [("hog", 1), ("hog", 2), ("hog", 3)]
    assert rows[-1]["accuracy_sd"] == 0.0, "all shots there are: every draw is the same"
    assert all(0.0 <= float(row[name] or 0) <= 1.0 for row in rows for name in ("accuracy", "auroc", "oscr"))
    (data / "other/2.support-set/shot0.png").unlink()
    run_index(store, data)
    assert [row["shots"] for row in shots_table(evaluate(store, LEAKS_KEPT)).as_objects()] == [1, 2]


def test_a_category_without_queries_changes_nothing(store: Store, data: Path) -> None:
    run_index(store, data)
    before = evaluate(store, LEAKS_KEPT)
    save_crop(data / "lonely/2.support-set/shot1.png", "retina:9")
    run_index(store, data)
    after = evaluate(store, LEAKS_KEPT)
    assert (after.outcomes, after.shots, after.inputs) == (before.outcomes, before.shots, before.inputs)


def test_where_all_labelled_queries_are_copies_of_shots_that_is_the_reason(store: Store, small: Path) -> None:
    (small / "things/6.preprocessed/cat/a.png").write_bytes((small / "things/2.support-set/cat/shot1.png").read_bytes())
    (small / "things/6.preprocessed/Unknown/b.png").unlink()
    run_index(store, small)
    with pytest.raises(UsageError, match=r"all 1 labelled queries are copies of shots .*the same bytes.* keep_leaks"):
        evaluate(store, EvaluationOptions())
    assert evaluate(store, LEAKS_KEPT).outcomes[-1].outcomes.queries == 1


def test_nothing_to_judge_by_is_said(store: Store, small: Path) -> None:
    with pytest.raises(UsageError, match="there are no shots yet"):
        evaluate(store, EvaluationOptions())
    run_index(store, small)
    with pytest.raises(UsageError, match="no category 'none' has shots; there are things"):
        evaluate(store, EvaluationOptions(categories=("none",)))
    with pytest.raises(UsageError, match="nothing is indexed with clip"):
        evaluate(store, EvaluationOptions(backbones=("clip",)))
    shutil.rmtree(small / "things/6.preprocessed")
    run_index(store, small)
    with pytest.raises(UsageError, match="there are no labelled queries to judge by"):
        evaluate(store, EvaluationOptions())


def test_everything_is_in_the_json_and_torch_is_not_imported(store: Store, data: Path) -> None:
    run_index(store, data)
    report = as_json(evaluate(store, EvaluationOptions()))
    assert {"table7", "table8", "table9", "table10", "table11", "leaks", "inputs", "tables", "options"} <= report.keys()
    script = (
        "import sys\n"
        "from nearshot.schema.location import location_of\n"
        "from nearshot.schema.store import Store\n"
        "from nearshot.evaluation.evaluate import EvaluationOptions, evaluate\n"
        f"evaluate(Store(location_of({str(store.location)!r})), EvaluationOptions())\n"
        "print([name for name in ('torch', 'faiss', 'transformers', 'open_clip') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_digest_of_the_inputs_covers_every_calibration_that_a_table_rests_on(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table 9 shows the sets of scores that are not in force, too."""
    monkeypatch.setattr("nearshot.retriever.find_policy.ENOUGH", 1)
    run_index(store, data)
    aims = Aims({Aim.FALSE_REJECT: 0.4})
    options = replace(LEAKS_KEPT, score=Score.MAX_SIM)
    list(calibrate_all(store, CalibrationOptions(aims=aims, scores=(Score.MAX_SIM,))))
    before = evaluate(store, options)
    list(calibrate_all(store, CalibrationOptions(aims=aims, scores=(Score.PROTOTYPE,))))
    after = evaluate(store, options)
    assert (after.outcomes, after.shots) == (before.outcomes, before.shots)
    assert after.scores != before.scores
    assert after.inputs != before.inputs
