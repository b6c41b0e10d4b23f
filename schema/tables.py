"""The tables, for writing queries against. The migrations alone create them; a test holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)

from nearshot.migrations.columns import SHA256, TEXT, WHOLE, XXH3, VectorBytes

metadata = MetaData()

revision = Table(
    "revision",
    metadata,
    Column("id", WHOLE, CheckConstraint("id = 1"), primary_key=True),
    Column("value", WHOLE, nullable=False),
    Column("digest", BigInteger),
    comment="One row: the number of the last change. Every changed row carries the number of its change.",
)

roots = Table(
    "roots",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("path", TEXT, nullable=False, unique=True),
    Column("digest", BigInteger),
    comment="Data directories, absolute.",
)

contents = Table(
    "contents",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("sha256", SHA256, nullable=False, unique=True),
    Column("size", WHOLE, nullable=False),
    Column("width", WHOLE, nullable=False),
    Column("height", WHOLE, nullable=False),
    Column("format", TEXT, nullable=False),
    Column("revision", WHOLE, nullable=False),
    Column("digest", BigInteger),
    comment="Distinct file contents that could be decoded; width and height in pixels after EXIF orientation.",
)

images = Table(
    "images",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("root_id", WHOLE, ForeignKey("roots.id"), nullable=False),
    Column("path", TEXT, nullable=False),
    Column("category", TEXT, nullable=False),
    Column("role", TEXT, nullable=False),
    Column("label", TEXT),
    Column("shot", TEXT),
    Column("size", WHOLE, nullable=False),
    Column("mtime_ns", WHOLE, nullable=False),
    Column("ctime_ns", WHOLE, nullable=False),
    Column("content_id", WHOLE, ForeignKey("contents.id")),
    Column("failure", TEXT),
    Column("decoder", TEXT),
    Column("present", Boolean, nullable=False),
    Column("revision", WHOLE, nullable=False),
    Column("digest", BigInteger),
    UniqueConstraint("root_id", "path", name="uq_images_root_path"),
    Index("ix_images_category_role_revision", "category", "role", "revision"),
    Index("ix_images_role_revision", "role", "revision"),
    Index("ix_images_content", "content_id"),
    Index(
        "ix_images_usable",
        *("role", "category", "label", "content_id"),
        sqlite_where=text("present = 1 AND content_id IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
    comment="One row per path; ids are never reused. A removed image keeps its row, a failed one has a reason and no content.",
)

backbones = Table(
    "backbones",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("name", TEXT, nullable=False),
    Column("fingerprint", SHA256, nullable=False),
    Column("dimension", WHOLE, nullable=False),
    Column("precision", TEXT, nullable=False),
    Column("source", TEXT, nullable=False),
    Column("location", TEXT),
    Column("signature", SHA256, nullable=False),
    Column("revision", WHOLE, nullable=False),
    Column("digest", BigInteger),
    UniqueConstraint("name", "fingerprint", name="uq_backbones_name_fingerprint"),
    comment="One row per name and fingerprint. Of one name, the row with the highest revision is the one in use.",
)

fusions = Table(
    "fusions",
    metadata,
    Column("backbone_id", WHOLE, ForeignKey("backbones.id"), nullable=False),
    Column("place", WHOLE, nullable=False),
    Column("part_id", WHOLE, ForeignKey("backbones.id"), nullable=False),
    Column("weight", Float, nullable=False),
    Column("digest", BigInteger),
    PrimaryKeyConstraint("backbone_id", "place"),
    comment="The parts of a fused backbone in the order of its vectors, and their shares of its cosines.",
)

embeddings = Table(
    "embeddings",
    metadata,
    Column("content_id", WHOLE, ForeignKey("contents.id"), nullable=False),
    Column("backbone_id", WHOLE, ForeignKey("backbones.id"), nullable=False),
    Column("vector", VectorBytes),
    Column("failure", TEXT),
    Column("revision", WHOLE, nullable=False),
    Column("digest", BigInteger),
    PrimaryKeyConstraint("content_id", "backbone_id"),
    Index("ix_embeddings_backbone_revision", "backbone_id", "revision", "content_id"),
    Index(
        "ix_embeddings_failed",
        "backbone_id",
        "content_id",
        sqlite_where=text("vector IS NULL"),
    ),
    comment="L2-normalised little-endian float32, or a reference to one of float16; null with a reason for no vector.",
)

captions = Table(
    "captions",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("content_id", WHOLE, ForeignKey("contents.id"), nullable=False),
    Column("task", TEXT, nullable=False),
    Column("text", TEXT, nullable=False),
    Column("bigrams", TEXT, nullable=False),
    Column("fingerprint", SHA256),
    Column("created", TEXT, nullable=False),
    Column("revision", WHOLE, nullable=False),
    Column("digest", BigInteger),
    UniqueConstraint("content_id", "task", name="uq_captions_content_task"),
    comment="What a task wrote of a content (no fingerprint: a person did); bigrams are those of its ideographs.",
)

sidecars = Table(
    "sidecars",
    metadata,
    Column("image_id", WHOLE, ForeignKey("images.id"), primary_key=True),
    Column("content_id", WHOLE, ForeignKey("contents.id"), nullable=False),
    Column("size", WHOLE, nullable=False),
    Column("mtime_ns", WHOLE, nullable=False),
    Column("ctime_ns", WHOLE, nullable=False),
    Column("revision", WHOLE, nullable=False),
    Index("ix_sidecars_content", "content_id"),
    comment="Caption files taken up beside images; a caption by hand of the same content and revision came from one.",
)

calibrations = Table(
    "calibrations",
    metadata,
    Column("backbone_id", WHOLE, ForeignKey("backbones.id"), nullable=False),
    Column("category", TEXT, nullable=False),
    Column("score", TEXT, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("margin_floor", Float, nullable=False),
    Column("facts", TEXT, nullable=False),
    Column("support_digest", SHA256, nullable=False),
    Column("created", TEXT, nullable=False),
    Column("revision", WHOLE, nullable=False),
    Column("digest", BigInteger),
    PrimaryKeyConstraint("backbone_id", "category", "score"),
    comment="The policy found for a backbone, category and score; facts (method, target, n, rates) are JSON.",
)

watches = Table(
    "watches",
    metadata,
    Column("backbone_id", WHOLE, ForeignKey("backbones.id"), nullable=False),
    Column("category", TEXT, nullable=False),
    Column("score", TEXT, nullable=False),
    Column("calibrated", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    PrimaryKeyConstraint("backbone_id", "category", "score"),
    comment="What queries have scored since a calibration, as JSON, without images; no revision: no answer rests on it.",
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("action", TEXT, nullable=False),
    Column("category", TEXT, nullable=False),
    Column("content_id", WHOLE, ForeignKey("contents.id"), nullable=False),
    Column("path", TEXT, nullable=False),
    Column("label", TEXT),
    Column("shot_path", TEXT),
    Column("created", TEXT, nullable=False),
    Column("undone", TEXT),
    Column("revision", WHOLE, nullable=False),
    Column("digest", BigInteger),
    Index("ix_feedback_category_action", "category", "action"),
    comment="What people said of query images: label made a shot of one (shot_path), reject a negative. Undone: when.",
)

marks = Table(
    "marks",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("query_id", WHOLE, ForeignKey("contents.id")),
    Column("words", TEXT),
    Column("mode", TEXT),
    Column("backbone_id", WHOLE, ForeignKey("backbones.id")),
    Column("content_id", WHOLE, ForeignKey("contents.id"), nullable=False),
    Column("rank", WHOLE),
    Column("score", Float),
    Column("right", Boolean, nullable=False),
    Column("created", TEXT, nullable=False),
    Column("revision", WHOLE, nullable=False),
    Column("digest", BigInteger),
    CheckConstraint("(query_id IS NULL) <> (words IS NULL)", name="ck_marks_one_query"),
    comment="What people said of a hit (content_id) of an image (query_id) or of words, which stood at a rank with a score.",
)

intents = Table(
    "intents",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("action", TEXT, nullable=False),
    Column("path", TEXT, nullable=False),
    Column("sha256", SHA256, nullable=False),
    Column("root_id", WHOLE, ForeignKey("roots.id"), nullable=False),
    Column("category", TEXT, nullable=False),
    Column("content_id", WHOLE, ForeignKey("contents.id")),
    Column("label", TEXT),
    Column("query", TEXT),
    Column("feedback_id", WHOLE, ForeignKey("feedback.id")),
    Column("created", TEXT, nullable=False),
    comment="Files that a command is about to write or delete in a data directory; empty but while one does, or was killed.",
)

segments = Table(
    "segments",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("backbone_id", WHOLE, ForeignKey("backbones.id"), nullable=False),
    Column("role", TEXT, nullable=False),
    Column("file", TEXT, nullable=False),
    Column("size", WHOLE, nullable=False),
    Column("xxh3", XXH3, nullable=False),
    Column("vectors", WHOLE, nullable=False),
    Column("since", WHOLE, nullable=False),
    Column("revision", WHOLE, nullable=False),
    Column("digest", BigInteger),
    UniqueConstraint("backbone_id", "role", "since", name="uq_segments_backbone_role_since"),
    comment="The FAISS files of a backbone and role, each with what changed after one revision (since) up to another.",
)

pending_vectors = Table(
    "pending_vectors",
    metadata,
    Column("content_id", WHOLE, ForeignKey("contents.id"), nullable=False),
    Column("backbone_id", WHOLE, ForeignKey("backbones.id"), nullable=False),
    Column("vector", LargeBinary, nullable=False),
    PrimaryKeyConstraint("backbone_id", "content_id"),
    comment="Vectors of float16 that are in no segment, yet or any more, to which rows of embeddings refer.",
)

vector_storage = Table(
    "vector_storage",
    metadata,
    Column("id", WHOLE, CheckConstraint("id = 1"), primary_key=True),
    Column("kind", TEXT, nullable=False),
    Column("digest", BigInteger),
    comment="One row where vectors are kept as float16; none where they are kept as float32.",
)

ann_choices = Table(
    "ann_choices",
    metadata,
    Column("backbone_id", WHOLE, ForeignKey("backbones.id"), primary_key=True),
    Column("kind", TEXT, nullable=False),
    Column("digest", BigInteger),
    comment="The kind of approximate index that a backbone's large segments are to have.",
)

ann_indexes = Table(
    "ann_indexes",
    metadata,
    Column("segment_id", WHOLE, ForeignKey("segments.id"), primary_key=True),
    Column("kind", TEXT, nullable=False),
    Column("file", TEXT, nullable=False),
    Column("xxh3", XXH3, nullable=False),
    Column("effort", WHOLE, nullable=False),
    Column("recall", Float, nullable=False),
    Column("words_effort", WHOLE),
    Column("words_recall", Float),
    Column("digest", BigInteger),
    comment="The approximate indexes of segments: how much of one is looked at, and the recall@10 that was measured with that.",
)

mirrors = Table(
    "mirrors",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("engine", TEXT, nullable=False),
    Column("backbone_id", WHOLE, ForeignKey("backbones.id"), nullable=False),
    Column("role", TEXT, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("token", WHOLE, nullable=False),
    Column("revision", WHOLE, nullable=False),
    Column("vectors", WHOLE, nullable=False),
    Column("ready", WHOLE, nullable=False),
    Column("next_token", WHOLE),
    Column("next_revision", WHOLE),
    Column("digest", BigInteger),
    UniqueConstraint("engine", "backbone_id", "role", name="uq_mirrors_engine_backbone_role"),
    comment="Copies of vectors in an engine, as of a revision; its token is kept there, too. Next: what is written to it.",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("name", TEXT, primary_key=True),
    Column("sha256", SHA256, nullable=False),
    Column("scopes", TEXT, nullable=False),
    Column("created", TEXT, nullable=False),
    comment="Who may ask services, by the SHA-256 of each secret; scopes: read, or read write. No revision.",
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("kind", TEXT, nullable=False),
    Column("told", TEXT, nullable=False),
    Column("ended", Boolean, nullable=False),
    Column("told_at", TEXT, nullable=False),
    comment="Runs of services: what was told last of each, as JSON, and when; no revision: no answer rests on it.",
)

picture_hashes = Table(
    "picture_hashes",
    metadata,
    Column("content_id", WHOLE, ForeignKey("contents.id"), primary_key=True),
    Column("frequencies", LargeBinary),
    Column("rules", WHOLE, nullable=False),
    Column("digest", BigInteger),
    comment="What a content shows, by some rules: its 64 lowest frequencies, int8; null for a plain picture.",
)

detectors = Table(
    "detectors",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("name", TEXT, nullable=False),
    Column("fingerprint", SHA256, nullable=False),
    Column("signature", SHA256, nullable=False),
    Column("location", TEXT),
    Column("digest", BigInteger),
    UniqueConstraint("name", "fingerprint", name="uq_detectors_name_fingerprint"),
    comment="What crops were detected by; of one name, the row with the highest id is the newest.",
)

croppings = Table(
    "croppings",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("root_id", WHOLE, ForeignKey("roots.id"), nullable=False),
    Column("path", TEXT, nullable=False),
    Column("category", TEXT, nullable=False),
    Column("size", WHOLE, nullable=False),
    Column("mtime_ns", WHOLE, nullable=False),
    Column("ctime_ns", WHOLE, nullable=False),
    Column("sha256", SHA256),
    Column("role", TEXT, nullable=False),
    Column("label", TEXT, nullable=False),
    Column("words", TEXT, nullable=False),
    Column("detector_id", WHOLE, ForeignKey("detectors.id"), nullable=False),
    Column("options", TEXT, nullable=False),
    Column("failure", TEXT),
    Column("decoder", TEXT, nullable=False),
    Column("created", TEXT, nullable=False),
    Column("digest", BigInteger),
    UniqueConstraint("root_id", "path", "role", "label", "words", name="uq_croppings_picture"),
    comment="Raw pictures that were looked at, for which role, label (empty for queries) and words (JSON); options are JSON.",
)

crops = Table(
    "crops",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("cropping_id", WHOLE, ForeignKey("croppings.id"), nullable=False),
    Column("path", TEXT, nullable=False),
    Column("sha256", SHA256, nullable=False),
    Column("box_left", WHOLE, nullable=False),
    Column("box_top", WHOLE, nullable=False),
    Column("box_right", WHOLE, nullable=False),
    Column("box_bottom", WHOLE, nullable=False),
    Column("name", TEXT),
    Column("score", Float),
    Column("mask", LargeBinary),
    Column("digest", BigInteger),
    Index("ix_crops_cropping", "cropping_id"),
    Index("ix_crops_path", "path"),
    comment="The files that were cut out, each with its box in pixels of the upright picture; mask is a PNG of the box.",
)

runs = Table(
    "runs",
    metadata,
    Column("id", WHOLE, primary_key=True),
    Column("root_id", WHOLE, ForeignKey("roots.id"), nullable=False),
    Column("arguments", TEXT, nullable=False),
    Column("started", TEXT, nullable=False),
    Column("finished", TEXT),
    Column("outcome", TEXT),
    Column("report", TEXT),
    Column("version", TEXT, nullable=False),
    comment="Index runs; arguments and report are JSON, times UTC in ISO 8601. No outcome: still running, or killed.",
)
