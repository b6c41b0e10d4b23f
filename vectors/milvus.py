"""Milvus: an engine that shards, as what holds mirrors and compares vectors. pymilvus does the talking.

A mirror is a collection: a row per image, by the image's id, with numbers that stand for its category, its label and both, and
its vector in a FLAT index, which compares all of them. One row more, of an id below all, has the mirror's token.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import numpy as np
import xxhash
from numpy.typing import NDArray

from nearshot.schema.errors import UnreachableError, UsageError
from nearshot.vectors.nominator import LabelName, Wanted
from nearshot.vectors.protocol import Neighbours

SCHEME = "milvus://"
PORT = 19530

MOST = 16384
"""What Milvus names at most of one query (its limit `quotaAndLimits.limits.topK`)."""

QUERIES = 64
"""Queries that are sent together."""

IDS = 4096
"""Ids that stand in one expression."""

SENT = 32 << 20
"""Bytes of vectors that are sent together; a message may have 64 MiB."""

SECONDS, ASKING_S = 60.0, 10.0
"""How long it may take to write something, or to answer."""

TOKEN = -1
"""The id of the row that has the token, as its category."""

INSTALL = "a mirror in Milvus needs pymilvus: pip install 'nearshot[milvus]'"


def is_engine(address: str) -> bool:
    """Tell whether an address is one of Milvus: milvus://[USER:PASSWORD@]HOST[:PORT][/DATABASE]."""
    return address.startswith(SCHEME)


def shown_engine(address: str) -> str:
    """An address as people are told it, and as mirrors are recorded: without its password and options."""
    parts = _parts(address)
    user = f"{parts.username}@" if parts.username else ""
    return f"{SCHEME}{user}{_host(parts)}{parts.path.rstrip('/')}"


def _host(parts: SplitResult) -> str:
    """Host and port; an address of IPv6 in brackets."""
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{name}:{parts.port or PORT}"


def _parts(address: str) -> SplitResult:
    with suppress(ValueError):  # a port that is no number, brackets that are not closed
        parts = urlsplit(address)
        if is_engine(address) and parts.hostname and (parts.port is None or parts.port) and parts.path.count("/") < 2:
            return parts
    raise UsageError(
        "a mirror's address is that of a Milvus, milvus://[USER:PASSWORD@]HOST[:PORT][/DATABASE]; "
        "?secure=true for TLS, ?shards=N for how many it is to be spread over"
    )


def code_of(*names: str) -> int:
    """The number that stands for a category, for a label, or for a label of a category: 64 bits of a digest. Two of ten
    thousand have the same with a probability of 3e-12.
    """
    whole = b"".join(b"%d:%b" % (len(name), name.encode("utf-8", "surrogatepass")) for name in names)
    return xxhash.xxh3_64_intdigest(whole) - (1 << 63)


def _codes(name: LabelName) -> dict[str, int]:
    """The numbers that stand for a category, a label, and both; 0 where there is no label."""
    category, label = name
    if label is None:
        return {"category": code_of(category), "label": 0, "name": 0}
    return {"category": code_of(category), "label": code_of(label), "name": code_of(category, label)}


class Milvus:
    """A Milvus that is connected. Any number of threads may use it. UnreachableError where it does not answer."""

    def __init__(self, address: str) -> None:
        """Connect; UsageError where its address cannot be read, or pymilvus is not installed."""
        parts = _parts(address)
        self.address = shown_engine(address)
        given = parse_qs(parts.query)
        if unknown := sorted(set(given) - {"secure", "shards"}):
            raise UsageError(f"{self.address}: there is no option {unknown[0]}; there are secure and shards")
        secure, shards = given.get("secure", ["false"])[-1], given.get("shards", ["1"])[-1]
        if secure not in ("true", "false"):
            raise UsageError(f"{self.address}: secure is true or false")
        if not (shards.isascii() and shards.isdigit() and int(shards)):
            raise UsageError(f"{self.address}: shards is a whole number, 1 or more")
        self._shards = int(shards)
        try:
            from pymilvus import MilvusClient
        except ImportError as error:
            raise UsageError(INSTALL) from error
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs what it raises, with its traceback
        with self._explaining():
            self._client = MilvusClient(
                f"http{'s' if secure == 'true' else ''}://{_host(parts)}",
                user=unquote(parts.username or ""),
                password=unquote(parts.password or ""),
                db_name=parts.path.strip("/"),
                timeout=SECONDS,
                grpc_options={
                    "grpc.max_reconnect_backoff_ms": 2000
                },  # after a long outage, too: gRPC waits two minutes
            )

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        from grpc import RpcError
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, RpcError) as error:
            reason = " ".join(str(getattr(error, "message", "") or error).split())[:200]
            raise UnreachableError(f"{self.address}: {reason}; is Milvus running, and is the address right?") from error

    def create(self, name: str, dimension: int) -> None:
        """Make an empty mirror, in the place of what there is under its name."""
        from pymilvus import DataType, MilvusClient

        fields = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        fields.add_field("id", DataType.INT64, is_primary=True)
        for code in ("category", "label", "name"):
            fields.add_field(code, DataType.INT64)
        fields.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        indexes = MilvusClient.prepare_index_params()
        indexes.add_index("vector", index_type="FLAT", metric_type="IP")
        with self._explaining():
            self._client.drop_collection(name, timeout=SECONDS)
            self._client.create_collection(
                name, schema=fields, index_params=indexes, num_shards=self._shards, timeout=SECONDS
            )

    def drop(self, name: str) -> None:
        """Delete a mirror, if it is there."""
        with self._explaining():
            self._client.drop_collection(name, timeout=SECONDS)

    def exists(self, name: str) -> bool:
        """Tell whether there is a mirror of a name, and have it answer."""
        with self._explaining():
            if not self._client.has_collection(name, timeout=SECONDS):
                return False
            self._client.load_collection(name, timeout=SECONDS)
            return True

    def put_token(self, name: str, token: int, dimension: int) -> None:
        """Keep a token."""
        vector = np.zeros(dimension, dtype=np.float32)
        vector[0] = 1
        with self._explaining():
            self._client.upsert(
                name, [{"id": TOKEN, "category": token, "label": 0, "name": 0, "vector": vector}], timeout=SECONDS
            )

    def token(self, name: str, ready: int) -> int | None:
        """The token that is kept, as of a time or later; None where there is none."""
        with self._explaining():
            rows = self._client.query(
                name, filter=f"id == {TOKEN}", output_fields=["category"], timeout=ASKING_S, **_as_of(ready)
            )
        return int(rows[0]["category"]) if rows else None

    def put(self, name: str, ids: NDArray[np.int64], names: Sequence[LabelName], vectors: NDArray[np.float32]) -> None:
        """Keep images (n,) with their category and label and vectors (n, dimension), in the place of what there is of them."""
        codes = {each: _codes(each) for each in set(names)}
        at_once = max(1, SENT // vectors.itemsize // max(vectors.shape[1], 1))
        for start in range(0, len(ids), at_once):
            own = slice(start, start + at_once)
            rows = [
                {"id": image_id, "vector": vector, **codes[label]}
                for image_id, label, vector in zip(ids[own].tolist(), names[own], vectors[own], strict=True)
            ]
            with self._explaining():
                self._client.upsert(name, rows, timeout=SECONDS)

    def delete(self, name: str, ids: NDArray[np.int64]) -> None:
        """Delete images, those that are there."""
        for start in range(0, len(ids), IDS):
            with self._explaining():
                self._client.delete(name, ids=ids[start : start + IDS].tolist(), timeout=SECONDS)

    def now(self) -> int:
        """The time, by Milvus's clock, from which answers are of all that was written before; 0 where it tells none.

        What it has acknowledged is in its log, and safe: it is not asked to seal its segments, which takes seconds.
        """
        with self._explaining():
            return int(self._client._get_connection().alloc_timestamp(timeout=SECONDS))

    def count(self, name: str) -> int:
        """How many images it holds beside the token, of all that was written before."""
        with self._explaining():
            [row] = self._client.query(
                name, filter="", output_fields=["count(*)"], consistency_level="Strong", timeout=SECONDS
            )
        return int(row["count(*)"]) - 1

    def held(self, name: str, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some images that it holds, ascending, of all that was written before."""
        rows: list[int] = []
        for start in range(0, len(ids), IDS):
            with self._explaining():
                chunk = self._client.query(
                    name,
                    filter=f"id in {ids[start : start + IDS].tolist()}",
                    output_fields=["id"],
                    consistency_level="Strong",
                    timeout=SECONDS,
                )
            rows += [int(row["id"]) for row in chunk]
        return np.array(sorted(rows), dtype=np.int64)

    def near(self, name: str, queries: NDArray[np.float32], k: int, wanted: Wanted, *, ready: int) -> list[Neighbours]:
        """The k nearest images of each query (n, dimension), as of a time or later."""
        answers = []
        for start in range(0, len(queries), QUERIES):
            with self._explaining():
                answered = self._client.search(
                    name,
                    list(queries[start : start + QUERIES]),
                    filter=_expression(wanted),
                    limit=k,
                    search_params={"metric_type": "IP"},
                    timeout=ASKING_S,
                    **_as_of(ready),
                )
            answers += [
                Neighbours(
                    np.array([hit["id"] for hit in hits], dtype=np.int64),
                    np.clip(np.array([hit["distance"] for hit in hits], dtype=np.float32), -1, 1),
                )
                for hits in answered
            ]
        return answers


@cache
def connected(address: str) -> Milvus:
    """The connection of this process to an address."""
    return Milvus(address)


def _as_of(ready: int) -> dict[str, Any]:
    """What makes an answer one of a time or later, by Milvus's clock; of now, where no time is known."""
    if not ready:
        return {"consistency_level": "Strong"}
    return {"consistency_level": "Customized", "guarantee_timestamp": ready}


def _expression(wanted: Wanted) -> str:
    """Milvus's expression for what is wanted; those of an id below 0 are never."""
    parts = [f"id >= {max(wanted.first, 0)}"]
    if wanted.last != Wanted().last:
        parts.append(f"id < {wanted.last}")
    if wanted.category is not None:
        parts.append(f"category == {code_of(wanted.category)}")
    if wanted.label is not None:
        parts.append(f"label == {code_of(wanted.label)}")
    if wanted.but:
        parts.append(f"name not in {sorted({0, *(_codes(name)['name'] for name in wanted.but)})}")
    return " and ".join(parts)
