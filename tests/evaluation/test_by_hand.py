"""The tables, computed again from what `export --vectors` writes by code that shares nothing with nearshot."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Outcome, save_crop

Run = Callable[..., Outcome]
LABELS = {"cat": "chelsea", "coffee": "coffee", "rocket": "rocket"}


@pytest.fixture
def rows(nearshot: Run, tmp_path: Path) -> list[dict[str, Any]]:
    """An indexed category of three labels of three shots, with queries and strangers, and its export."""
    root = tmp_path / "data/things"
    for label, photo in LABELS.items():
        for number in range(3):
            save_crop(root / f"2.support-set/{label}/shot{number}.png", f"{photo}:{number}")
        for number in range(4, 8):
            save_crop(root / f"6.preprocessed/{label}/{number}.png", f"{photo}:{number}")
    for number in range(12):
        photo = ("ihc", "astronaut", "retina")[number % 3]
        save_crop(root / f"6.preprocessed/Unknown/{number}.png", f"{photo}:{number}")
    assert nearshot("index", "data", "--backbone", "hog").status == 0
    return nearshot("export", "--vectors").objects


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def scores_by_hand(score: str, query: Any, shots: dict[str, list[Any]], strangers: list[Any]) -> dict[str, float]:
    """The definitions, in their plainest form."""
    if score == "max_sim":
        return {label: round(max(float(query @ shot) for shot in own), 6) for label, own in shots.items()}
    if score == "prototype":
        centres: dict[str, Any] = {label: np.mean(np.array(own), axis=0) for label, own in shots.items()}
        return {label: round(float(query @ mean / np.linalg.norm(mean)), 6) for label, mean in centres.items()}
    if score == "knn_vote":
        votes = {label: sum(math.exp(float(query @ shot) / 0.07) for shot in own) for label, own in shots.items()}
        return {label: round(vote / sum(votes.values()), 6) for label, vote in votes.items()}
    groups = [*shots.values(), *([strangers] if strangers else [])]
    means: list[Any] = [np.mean(np.array(group), axis=0) for group in groups]
    residuals = np.concatenate([np.array(group) - mean for group, mean in zip(groups, means, strict=True)])
    within = residuals.T @ residuals / (len(residuals) - len(groups))
    inverse = np.linalg.inv(within / 2 + np.eye(len(query)) * np.trace(within) / len(query) / 2)
    reference = means[-1] if strangers else np.mean(np.array(means), axis=0)
    far = (query - reference) @ inverse @ (query - reference)
    near = {label: (query - mean) @ inverse @ (query - mean) for label, mean in zip(shots, means, strict=False)}
    return {label: round(float(far / (far + distance)), 6) for label, distance in near.items()}


@pytest.mark.parametrize("score", ["max_sim", "prototype", "knn_vote", "lda"])
def test_tables_7_and_9_are_what_the_exported_vectors_say(
    score: str, rows: list[dict[str, Any]], nearshot: Run, tmp_path: Path
) -> None:
    assert nearshot("evaluate", "--score", score, "--keep-leaks", "--output", "out").status == 0
    vector = {row["path"]: np.array(row["embeddings"]["hog"]["vector"], dtype=np.float64) for row in rows}
    shots: dict[str, list[Any]] = {}
    for row in rows:
        if row["role"] == "support":
            shots.setdefault(row["label"], []).append(vector[row["path"]])
    shots = dict(sorted(shots.items()))
    queries = [row for row in rows if row["role"] == "query"]
    seen = [row for row in queries if row["label"] == "Unknown" and int(row["sha256"][-1], 16) % 2 == 0]
    in_model = sorted(seen, key=lambda row: row["sha256"])[: len(seen) // 2]
    strangers = [vector[row["path"]] for row in in_model] if len(in_model) >= 3 and score == "lda" else []
    asked = [row for row in queries if not strangers or row not in in_model]
    table7 = read_csv(tmp_path / "out/table7.csv")[0]
    threshold, floor = float(table7["threshold"]), float(table7["margin_floor"])
    counts = dict.fromkeys(
        ("correct", "wrong", "ambiguous", "correctly_unknown", "falsely_unknown", "falsely_accepted"), 0
    )
    right, top = [], []
    for row in asked:
        scores = scores_by_hand(score, vector[row["path"]], shots, strangers)
        (best, first), (_, second) = sorted(scores.items(), key=lambda item: -item[1])[:2]
        known = row["label"] != "Unknown"
        if first < threshold:
            counts["falsely_unknown" if known else "correctly_unknown"] += 1
        elif round(first - second, 6) < floor:
            counts["ambiguous"] += 1
        else:
            counts[("correct" if best == row["label"] else "wrong") if known else "falsely_accepted"] += 1
        right.append(best == row["label"])
        top.append((known, first))
    assert {name: int(table7[name]) for name in counts} == counts
    if score != "lda" and len(in_model) >= 3:
        return  # Table 9 leaves the strangers of the model out whatever the score
    [table9] = [row for row in read_csv(tmp_path / "out/table9.csv") if row["score"] == score]
    accuracy = sum(right) / sum(known for known, _ in top)
    pairs = [(a, b) for known, a in top if known for other, b in top if not other]
    auroc = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert table9["accuracy"] == f"{accuracy:.4f}"
    assert table9["auroc"] == f"{auroc:.4f}"


def test_the_same_store_gives_the_same_tables_twice(rows: list[dict[str, Any]], nearshot: Run) -> None:
    assert rows
    first, second = (nearshot("evaluate", "--json").stdout for _ in range(2))
    assert first == second
    evaluation = json.loads(first)
    assert {row["score"] for row in evaluation["table9"]} == {"max_sim", "prototype", "knn_vote", "lda"}
    assert sum(row["queries"] for row in evaluation["table11"]) == evaluation["table7"][0]["queries"]
