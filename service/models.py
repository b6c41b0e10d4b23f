"""Models: the objects that the service speaks in, the command line's own JSON, described for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nearshot.retriever import shapes
from nearshot.schema.numbers import QUERY_NUMBERS
from nearshot.schema.vocabulary import Against, Mode, Role, Score, Verdict

Name = Annotated[str, Field(max_length=255)]
Rectangle = Annotated[str, Field(pattern=r"^[0-9]{1,6},[0-9]{1,6},[0-9]{1,6},[0-9]{1,6}$", examples=["120,40,200,180"])]
Words = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]

PARTS = 20
"""The most parts of an image that are asked about at once."""


def _number(name: str) -> Any:
    """A number of a query, described as everywhere."""
    return Field(**QUERY_NUMBERS[name].described())


class QueryParameters(BaseModel):
    """The options of `nearshot query`."""

    model_config = ConfigDict(extra="forbid")

    backbone: Name | None = Field(
        None, description="Search with this backbone. Default: the best one.", examples=["hog"]
    )
    category: Name | None = Field(None, description="Search this category only. Default: all.")
    score_by: Score | None = Field(None, description="What a label is scored by. Default: what calibration found best.")
    threshold: Annotated[float | None, _number("threshold")] = None
    margin_floor: Annotated[float | None, _number("margin_floor")] = None
    score: Score | None = Field(
        None, description="The former name of score_by; until 0.3.", json_schema_extra={"deprecated": True}
    )
    margin: float | None = Field(
        None,
        ge=0,
        le=2,
        allow_inf_nan=False,
        description="The former name of margin_floor; until 0.3.",
        json_schema_extra={"deprecated": True},
    )
    top_k: int = Field(5, ge=1, le=1000, description="Hits to list.")
    against: Against = Field(Against.SUPPORT, description="Where the hits come from; the verdict rests on support.")
    text: str | None = Field(
        None, min_length=1, max_length=1000, pattern=r"\S", description="Words to mix into each image (clip)."
    )
    text_weight: Annotated[float, _number("text_weight")] = 0.5
    coverage: Annotated[float | None, _number("coverage")] = None
    false: Annotated[float | None, _number("false")] = None
    caption: bool = Field(False, description="Give the captions of the hits.")
    exact: bool = Field(False, description="Find hits among queries without approximate indexes.")
    boxes: tuple[Rectangle, ...] = Field(
        (),
        max_length=PARTS,
        description="Parts of each image to recognise: x,y,width,height in pixels of the upright one.",
    )
    find: tuple[Words, ...] = Field((), max_length=PARTS, description="Recognise what shows this, in words.")
    objects: bool = Field(False, description="Recognise every object that is detected, not the best alone.")
    detector: Literal["regions", "florence2"] | None = Field(None, description="Detect objects by this.")

    @model_validator(mode="after")
    def _take_former_names(self) -> QueryParameters:
        for name, former in (("score_by", "score"), ("margin_floor", "margin")):
            given, old = getattr(self, name), getattr(self, former)
            if None not in (given, old) and given != old:
                raise ValueError(f"{former} is the former name of {name}: give {name} alone")
            setattr(self, name, old if given is None else given)
        return self


class SearchParameters(BaseModel):
    """The options of `nearshot search`."""

    model_config = ConfigDict(extra="forbid")

    q: str = Field(max_length=1000, description="Words; in captions all of them must occur.", examples=["orange"])
    mode: Mode = Field(Mode.AUTO, description="What the words are compared with.")
    category: Name | None = None
    label: Name | None = None
    role: Role | None = None
    limit: int = Field(20, ge=1, le=1000)
    false: Annotated[float | None, _number("false")] = None
    exact: bool = Field(False, description="Compare with all images, whatever approximate indexes there are.")


class ImagesParameters(BaseModel):
    """Selection of images to list, a page at a time."""

    model_config = ConfigDict(extra="forbid")

    category: Name | None = None
    label: Name | None = None
    role: Role | None = None
    after: int = Field(0, ge=0, le=2**53, description="The last id of the page before.")
    limit: int = Field(60, ge=1, le=1000)


EXAMPLE: shapes.Answer = {
    "path": "cat-1.png",
    "backbone": "hog",
    "category": "objects",
    "verdict": Verdict.MATCH,
    "label": "cat",
    "reason": None,
    "negative": None,
    "negative_score": None,
    "nearest": "cat",
    "nearest_category": "objects",
    "score": 0.972,
    "score_by": Score.MAX_SIM,
    "runner_up": "motorcycle",
    "runner_up_category": "objects",
    "runner_up_score": 0.771,
    "margin": 0.201,
    "threshold": 0.9,
    "margin_floor": 0.005,
    "calibrated": False,
    "nearest_hit": None,
    "runner_up_hit": None,
    "close": [],
    "possible": None,
    "stop": None,
    "box": None,
    "hits": [],
}


class Answers(BaseModel):
    """One answer per image, in the order of the upload, and what the user should know."""

    answers: list[shapes.Answer | shapes.Unreadable] = Field(examples=[[EXAMPLE]])
    revision: int = Field(description="The state of the store that the answers are of: the number of its last change.")
    score_reason: str = Field(description="Why labels are scored by what they are.")
    policies: dict[str, str] = Field(description="Where the policy of each category comes from.")
    stale: list[str] = Field(description="Categories whose shots changed after they were calibrated.")
    lapsed: dict[str, str] = Field(description="Categories whose promise no longer holds, and why.")
    lacking: int = Field(description="Support images that the backbone has not seen yet.")
    recall: float | None = Field(description="The recall@10 of hits among queries; null where all are compared.")


class SearchResults(BaseModel):
    """Images that were found, best first; the mode that was taken; and why `auto` could not take more."""

    mode: Mode
    backbone: str | None
    missing: list[str]
    stop: shapes.Stop | None
    recall: float | None = Field(description="The recall@10 of the approximate index; null where all were compared.")
    found: list[shapes.Found]


class Image(BaseModel):
    """An indexed image."""

    id: int
    path: str
    category: str
    role: Role
    label: str | None
    shot: str | None
    sha256: str
    width: int
    height: int
    format: str
    caption: str | None


class Images(BaseModel):
    """A page of images; `next` is the `after` of the next page, null on the last."""

    images: list[Image]
    next: int | None


class Label(BaseModel):
    """A label and how many support images it has."""

    label: str
    images: int


class Category(BaseModel):
    """A category, its labels, and how many queries it has."""

    category: str
    labels: list[Label]
    queries: int


class Backbone(BaseModel):
    """A backbone that is served, its prior or calibrated policies being those of each category."""

    name: str
    dimension: int
    fingerprint: str
    words: bool = Field(description="Whether it compares images with words.")


class Categories(BaseModel):
    """All categories, and the backbones that can be asked."""

    categories: list[Category]
    backbones: list[Backbone]
    skipped: dict[str, str] = Field(description="Backbones that are indexed and could not be loaded, and why.")


class NextParameters(BaseModel):
    """Selection of unlabelled queries to weigh."""

    model_config = ConfigDict(extra="forbid")

    category: Name | None = None
    backbone: Name | None = None
    limit: int = Field(20, ge=1, le=1000)


class Worth(BaseModel):
    """An unlabelled query that is worth labelling, and why; shares in [0, 1]."""

    id: int
    category: str
    path: str
    nearest: str
    score: float
    disagreement: float
    doubt: float
    typical: float
    value: float
    stands_for: int


class Need(BaseModel):
    """Number of further shots that a label is likely to need; null if it is more than can be told, or if shots will not do."""

    category: str
    label: str
    shots: int
    now: float
    tells: bool
    more: int | None
    low: int | None
    high: int | None
    other: str | None


class Next(BaseModel):
    """Advice on what to label next, most worthwhile first, and on what each label needs; `beyond` names the categories with too
    many shots for that to be estimated.
    """

    next: list[Worth]
    labels: list[Need]
    beyond: list[str]


class ReviewParameters(BaseModel):
    """Selection of unlabelled queries to decide: with `every`, those that match a label, too."""

    model_config = ConfigDict(extra="forbid")

    category: Name | None = None
    backbone: Name | None = None
    limit: int = Field(100, ge=1, le=1000)
    every: bool = False


class Guess(BaseModel):
    """A label that an image may show, with its score."""

    label: str
    score: float


class Group(BaseModel):
    """Unlabelled queries that are nearly the same picture; verdict and guesses, best first, are those of the first of them."""

    category: str
    ids: list[int]
    paths: list[str]
    verdict: Verdict
    guesses: list[Guess]
    value: float


class Review(BaseModel):
    """Queries to decide, most useful first; `images` are all that wait, `keys` the keys that stand for labels, by category."""

    groups: list[Group]
    images: int
    keys: dict[str, dict[str, str]]


class Run(BaseModel):
    """A run of this service. `reports` are the objects that `nearshot index --json` (or `calibrate`, or `lint`) ends with, by
    data directory (or by category, backbone and score); `errors` say why others could not be done.
    """

    id: int
    kind: Literal["index", "calibrate", "lint"]
    state: Literal["running", "finished", "interrupted", "failed"]
    done: int
    total: int
    failed: int
    errors: dict[str, str]
    reports: dict[str, dict[str, Any]]


class CalibrationParameters(BaseModel):
    """What is calibrated, and what for."""

    model_config = ConfigDict(extra="forbid")

    category: Name | None = Field(None, description="This category only. Default: all.")
    backbone: Name | None = Field(None, description="This backbone only. Default: all that are served.")
    false_accept: float = Field(
        0.05, gt=0, lt=1, allow_inf_nan=False, description="Let at most this share of strangers match."
    )


class ExportParameters(BaseModel):
    """Choice of what is exported, and how."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["jsonl", "csv", "labelstudio", "fiftyone"] = "jsonl"
    category: Name | None = None
    label: Name | None = None
    role: Role | None = None


class MapParameters(BaseModel):
    """Choice of what is projected, and how."""

    model_config = ConfigDict(extra="forbid")

    category: Name
    backbone: Name | None = None
    method: Name = "pca"


class Point(BaseModel):
    """An image's place in the unit square."""

    id: int
    category: str
    label: str | None
    shot: str | None
    role: Role
    x: float
    y: float


class Map(BaseModel):
    """A category's images in two dimensions; `explained` is the share of their variance in the plane."""

    method: str
    methods: list[str]
    total: int
    explained: float | None
    points: list[Point]


class Feedback(BaseModel):
    """Feedback on an image, and whether it was taken back."""

    id: int
    action: Literal["label", "reject"]
    category: str
    label: str | None
    shot: str | None
    undone: bool


class PolicyParameters(BaseModel):
    """A category, and what its queries are compared and scored by."""

    model_config = ConfigDict(extra="forbid")

    category: Name
    backbone: Name | None = Field(None, description="Default: the one that a query of the category takes.")
    score_by: Score | None = Field(None, description="Default: the one that a query of the category takes.")


class NewPolicy(PolicyParameters):
    """A threshold and a margin to set by hand, or `undo`."""

    threshold: Annotated[float | None, _number("threshold")] = None
    margin_floor: Annotated[float | None, _number("margin_floor")] = None
    undo: bool = Field(False, description="Take back what was set last.")


class AskedQuery(BaseModel):
    """A labelled query: what it shows, and which label comes nearest, with its score and its lead over the next."""

    image_id: int
    path: str
    truth: str
    nearest: str
    score: float
    margin: float | None
    rejected: bool


class Policy(BaseModel):
    """The policy of a category, where it comes from, and the labelled queries that it decides about, as in `policy --json`."""

    category: str
    backbone: str
    score_by: Score
    threshold: float
    margin_floor: float
    calibrated: bool
    by_hand: bool
    origin: str
    queries: list[AskedQuery]


class MarkParameters(BaseModel):
    """Hit to mark, its query, and the mark; for a result of a search by words, also where it stood."""

    model_config = ConfigDict(extra="forbid")

    hit_id: int = Field(ge=1, le=2**53, description="The image that is marked.")
    right: bool | None = Field(None, description="Whether it is right.")
    image_id: int | None = Field(None, ge=1, le=2**53, description="It is a hit of this indexed image.")
    words: str | None = Field(None, min_length=1, max_length=1000, description="It is a result of a search for these.")
    mode: Mode | None = Field(None, description="The mode that the search took.")
    rank: int | None = Field(None, ge=1, le=1_000_000_000, description="Its rank among the results.")
    backbone: Name | None = Field(None, description="The backbone that images were compared by.")
    score: float | None = Field(None, ge=-1, le=1, allow_inf_nan=False, description="Its cosine with the words.")
    undo: bool = Field(False, description="Take back what was said.")


class Mark(BaseModel):
    """Mark that a hit has now; null where it has none."""

    hit_id: int
    right: bool | None
