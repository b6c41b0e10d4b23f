"""The rules in force: by which score, policy and known strangers a category's queries are judged."""

from __future__ import annotations

from dataclasses import dataclass

from nearshot.retriever.choose_score import choose_score
from nearshot.retriever.policy import Policy, policy_in_force
from nearshot.retriever.strangers import ModelStrangers, strangers_in_force
from nearshot.schema.calibrations import CalibrationRow, all_calibrations
from nearshot.schema.catalog import BackboneRow, Catalog
from nearshot.schema.vocabulary import Score


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """The score, its policy, the calibration that both are from, and the strangers that the score's model knows."""

    score: Score
    policy: Policy
    calibration: CalibrationRow | None
    strangers: ModelStrangers


def rules_in_force(catalog: Catalog, row: BackboneRow, asked: Score | None, category: str) -> Rules:
    """Find the rules that `query` goes by in a category, by the score asked for or the one that it would take."""
    calibrations = [
        calibration_row for calibration_row in all_calibrations(catalog, row.id) if calibration_row.category == category
    ]
    labels = catalog.support_labels(category)
    score = choose_score(asked, row.name, {category: labels} if labels else {}, calibrations).score
    calibration = next((calibration_row for calibration_row in calibrations if calibration_row.score == score), None)
    strangers = strangers_in_force(catalog, row, category, score, calibration)
    return Rules(score, policy_in_force(row, score, calibration), calibration, strangers)
