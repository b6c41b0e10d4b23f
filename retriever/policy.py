"""The policy in force: what was calibrated for a backbone, category and score, else the backbone's prior."""

from __future__ import annotations

from retriever.decision import Policy, prior_policy
from retriever.scores import Score
from schema.calibrations import CalibrationRow
from schema.catalog import BackboneRow


def policy_in_force(backbone: BackboneRow, score: Score, calibration: CalibrationRow | None) -> Policy:
    """The calibrated policy, where there is one, or the uncalibrated prior."""
    if calibration is None:
        return prior_policy(backbone.name, score)
    return Policy(calibration.threshold, calibration.margin_floor, calibrated=True)
