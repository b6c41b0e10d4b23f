"""Numbers that commands, API and library take: what each is, and its range, once. Imports nothing that is heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from nearshot.schema.errors import UsageError, option


@dataclass(frozen=True, slots=True)
class Number:
    """A number in [least, most], or in (least, most) for a share that is neither 0 nor 1. `about` says what it is."""

    about: str
    least: float
    most: float = math.inf
    share: bool = False

    def check(self, name: str, value: object) -> None:
        """Raise UsageError, which names the option, for a value that is no number in the range; None is no value."""
        if value is None:
            return
        if isinstance(value, Real) and not isinstance(value, bool) and self._holds(float(value)):
            return
        kind = "share" if self.share else "number"
        within = f"at least {self.least:g}" if math.isinf(self.most) else f"between {self.least:g} and {self.most:g}"
        raise UsageError(f"{option(name)} is a {kind} {within}, not {value!r}")

    def described(self) -> dict[str, Any]:
        """The range and what it is, as a field of an API describes them."""
        least = "gt" if self.share and self.least == 0 else "ge"
        most = {} if math.isinf(self.most) else {"lt" if self.share else "le": self.most}
        return {least: self.least, **most, "allow_inf_nan": False, "description": self.about}

    def _holds(self, value: float) -> bool:
        if self.share:
            return max(self.least, math.ulp(0)) <= value < self.most
        return self.least <= value <= self.most


SHARE = Number("A share.", 0, 1, share=True)
FALSE = Number(
    "End the list where more than this share would be false, as labels and marks tell.", 0.001, 1, share=True
)
"""The least share of false hits that can be asked for takes 999 marked queries."""

QUERY_NUMBERS = {
    "top_k": Number("Hits to list.", 1),
    "threshold": Number("Least score of a match. Default: as calibrated.", -1, 1),
    "margin_floor": Number("Least lead over the best other label. Default: as calibrated.", 0, 2),
    "text_weight": Number("Share of the words in the mixture; 0 is the image alone, 1 the words alone.", 0, 1),
    "coverage": Number(
        "Name the labels that cannot be ruled out: the true one is among them this often, such as 0.9 (when calibrated).",
        *(0, 1),
        share=True,
    ),
    "false": FALSE,
    "max_pixels": Number("Images of more pixels are refused.", 1),
}
"""Those of a query, by the names that the library and the API have for them."""

LIMIT = Number("Results to list.", 1)
