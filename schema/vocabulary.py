"""Vocabulary: the words that commands, API and library share, each an enumeration; it imports nothing heavy."""

from __future__ import annotations

from enum import StrEnum

BY_HAND = "by-hand"
"""The task of captions that a person wrote. They win over generated ones, and no captioner touches them."""


class Role(StrEnum):
    """Role of an image: an example to recognise by (support) or something to be recognised (query)."""

    SUPPORT = "support"
    QUERY = "query"


class Score(StrEnum):
    """Kind of score that a label gets. Higher is nearer, whichever it is; thresholds do not carry over between them.

    `max_sim`: the best cosine of its images, in [-1, 1]. `prototype`: the cosine with the mean of its images' unit vectors,
    normalised again, in [-1, 1]. `knn_vote`: of the 20 nearest images' votes, exp(cosine / 0.07) each, its share, in [0, 1].
    `lda`: how much nearer than to Unknown, by the distance that regards how all labels vary, in [0, 1]; 0.5 is as near
    (`retriever.discriminant.closeness`).
    """

    MAX_SIM = "max_sim"
    PROTOTYPE = "prototype"
    KNN_VOTE = "knn_vote"
    LDA = "lda"

    @property
    def rests_on_means(self) -> bool:
        """True where the score is made of the labels' means, whatever the number of their images."""
        return self in (Score.PROTOTYPE, Score.LDA)

    @property
    def compares_categories(self) -> bool:
        """True where scores of labels of different categories can be held against each other."""
        return self in (Score.MAX_SIM, Score.PROTOTYPE)


class Against(StrEnum):
    """Images that a query's hits are taken from. The verdict rests on support, whichever it is."""

    SUPPORT = "support"
    QUERY = "query"
    ALL = "all"


class Mode(StrEnum):
    """Targets of a search by words: captions, images (by a text encoder), or both; `auto` takes what the store can serve."""

    CAPTIONS = "captions"
    IMAGE = "image"
    HYBRID = "hybrid"
    AUTO = "auto"


class Verdict(StrEnum):
    """Verdict on a query."""

    MATCH = "match"
    AMBIGUOUS = "ambiguous"
    UNKNOWN = "unknown"
    NO_SUPPORT = "no_support"


class Loading(StrEnum):
    """Where files are read and decoded: on threads, in processes, or as suits the device that encodes."""

    AUTO = "auto"
    THREADS = "threads"
    PROCESSES = "processes"


class VectorKind(StrEnum):
    """How a store keeps vectors: as float32 in the rows and in segments, or as float16 and in one of them only."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class Ann(StrEnum):
    """Kind of approximate index over many vectors: lists around centres (IVF), a graph (HNSW), or none."""

    NONE = "none"
    IVF = "ivf"
    HNSW = "hnsw"


class Guard(StrEnum):
    """Against which strangers the threshold is set.

    `known`: those like the known strangers. `any`: those, and labels that the support set does not have, as its own labels
    tell when each is left out. `auto`: `any` where that costs at most 5 % of the right answers.
    """

    AUTO = "auto"
    KNOWN = "known"
    ANY = "any"


class Action(StrEnum):
    """Kind of feedback. `label`: this shows that label; `reject`: this shows none."""

    LABEL = "label"
    REJECT = "reject"


class Precision(StrEnum):
    """The number format of a backbone's weights and activations. Vectors are float32 whichever it is."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Device(StrEnum):
    """Kind of device that models run on; `cuda:1` names one of several."""

    AUTO = "auto"
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"


class CaptionTask(StrEnum):
    """Kind of text that a captioner is asked to write."""

    CAPTION = "caption"
    DETAILED = "detailed"
    MORE_DETAILED = "more-detailed"
    OCR = "ocr"
    REGIONS = "regions"


class ExportFormat(StrEnum):
    """JSON Lines (one object per image), CSV or Parquet (one row per image; in Parquet vectors are lists of float32).

    `imagefolder`: a directory that Hugging Face's `datasets` loads as one, with copies of the images. `labelstudio`: tasks for
    Label Studio, as JSON. `fiftyone`: the labels.json of a dataset of FiftyOne, with the images where they lie.
    """

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    IMAGEFOLDER = "imagefolder"
    LABELSTUDIO = "labelstudio"
    FIFTYONE = "fiftyone"


class AnnotationFormat(StrEnum):
    """Instances of COCO (JSON), a directory of YOLO labels, an export of Label Studio (JSON), or of CVAT for images (XML)."""

    COCO = "coco"
    YOLO = "yolo"
    LABELSTUDIO = "labelstudio"
    CVAT = "cvat"


class Masked(StrEnum):
    """What becomes of the pixels of a crop that do not show what was detected."""

    WHITE = "white"
    BLUR = "blur"
