"""Shapes: the JSON objects that `--json` prints and the service answers with, each once."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from nearshot.schema.vocabulary import Mode, Role, Score, Verdict


class Origin(TypedDict):
    """Where a crop came from: the raw picture, the box (left, top, right, bottom) in its upright pixels, and what it shows."""

    picture: str
    box: list[int]
    name: str | None
    score: float | None


class Hit(TypedDict):
    """An indexed image near to the query; `score` is the cosine with it. `origin` is there where it is a crop."""

    id: int
    label: str | None
    category: str
    role: Role
    path: str
    shot: str | None
    score: float
    caption: NotRequired[str | None]
    origin: NotRequired[Origin]


class Plausible(TypedDict):
    """A label that cannot be ruled out, and its p-value."""

    label: str
    p: float


class Possible(TypedDict):
    """The labels that cannot be ruled out: the true one is among them as often as `coverage` says, for known images.

    `none_of_these` is the p-value of a stranger.
    """

    coverage: float
    labels: list[Plausible]
    none_of_these: float | None


class Stop(TypedDict):
    """Point at which hits end, so that on average at most the share `false` of them is false.

    `promised` tells whether there were marked queries enough; if not, nothing is left out. `least_score` is the least cosine
    of a hit (of words compared with captions, minus its rank); null where none is listed, or nothing is promised.
    """

    false: float
    marked_queries: int
    needed: int
    promised: bool
    least_score: float | None


class Answer(TypedDict):
    """Result of recognising an image. `label` is null unless the verdict is `match`; `nearest` is always there.

    `close` are the labels that an ambiguous image cannot choose between, best first. `box` is the part that the answer is
    about, left, top, right and bottom in pixels of the upright picture; null for all of it.
    """

    path: str
    backbone: str
    category: str | None
    verdict: Verdict
    label: str | None
    reason: str | None
    negative: str | None
    negative_score: float | None
    nearest: str | None
    nearest_category: str | None
    score: float | None
    score_by: Score
    runner_up: str | None
    runner_up_category: str | None
    runner_up_score: float | None
    margin: float | None
    threshold: float
    margin_floor: float
    calibrated: bool
    nearest_hit: Hit | None
    runner_up_hit: Hit | None
    close: list[str]
    possible: Possible | None
    stop: Stop | None
    box: list[int] | None
    hits: list[Hit]


class Unreadable(TypedDict):
    """An image that cannot be read, and why."""

    path: str
    error: str


class Found(TypedDict):
    """An image found by words."""

    rank: int
    id: int
    path: str
    category: str
    label: str | None
    role: Role
    caption: str | None
    snippet: str | None
    mode: Mode
    captions_rank: int | None
    image_rank: int | None
    image_score: float | None
