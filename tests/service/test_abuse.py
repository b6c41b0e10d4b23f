"""What a hostile client, or very many, can do: nothing that anybody else would notice."""

from __future__ import annotations

import http.client
import io
import json
import os
import random
import signal
import struct
import threading
import time
import urllib.error
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from PIL import Image

from nearshot.indexer.verify import verify
from nearshot.schema.store import Store
from nearshot.schema.vocabulary import Role
from tests.conftest import run_index, save_crop
from tests.service.test_serve import Served

CAT = "things/6.preprocessed/cat/a.png"
SHOTS = int(os.environ.get("NEARSHOT_SHOTS", "300"))
"""Shots that are indexed while clients ask and the process is killed; `make soak` has five hundred."""

UPLOADS, CLIENTS = 10_000, 8


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def encoded(image_format: str) -> bytes:
    stream = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(stream, image_format)
    return stream.getvalue()


def malformed(chance: random.Random, whole: list[bytes]) -> tuple[dict[str, str], bytes]:
    """Headers and body of an upload that cannot be answered with a verdict."""
    image = chance.choice(whole)
    junk = [
        image[: chance.randint(1, len(image) // 2)],
        bytes([chance.randrange(256)]) * chance.randint(0, 3000),
        chance.randbytes(chance.randint(1, 3000)),
        image[:20] + chance.randbytes(200),
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"PK\x03\x04" + chance.randbytes(100),
        bomb(),
    ]
    name = chance.choice([b"../../etc/passwd", b"x\x00.png", b"a" * 3000, b"\xff\xfe", b'"; rm -rf /; "', b""])
    part = b'--x\r\nContent-Disposition: form-data; name="images"; filename="%b"\r\n\r\n%b\r\n--x--\r\n'
    body = part % (name, chance.choice(junk))
    broken = [body, body, body, body, body[:-20], b"", b"--x\r\n\r\n", body.replace(b"images", b"pictures")]
    kind = chance.choice(["multipart/form-data; boundary=x"] * 9 + ["multipart/form-data", "application/json", "x"])
    return {"Content-Type": kind}, chance.choice(broken)


def test_ten_thousand_malformed_uploads_are_each_a_4xx_with_a_reason_and_memory_stays_flat(
    store: Store, small: Path
) -> None:
    run_index(store, small)
    service = Served(store.directory)
    process = psutil.Process(service.process.pid)
    host = service.url.removeprefix("http://")
    whole = [encoded(name) for name in ("PNG", "JPEG", "WEBP", "GIF")]

    def send(seed: int, count: int) -> Counter[int]:
        chance, told = random.Random(seed), Counter[int]()
        connection = http.client.HTTPConnection(host, timeout=30)
        for _ in range(count):
            headers, body = malformed(chance, whole)
            connection.request("POST", "/v1/query", body, headers)
            response = connection.getresponse()
            details = json.loads(response.read())
            assert details["detail"], details
            told[response.status] += 1
        connection.close()
        return told

    memory, told = [], Counter[int]()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for quarter in range(4):
            shares = [pool.submit(send, quarter * CLIENTS + n, UPLOADS // 4 // CLIENTS) for n in range(CLIENTS)]
            told += sum((share.result() for share in shares), Counter[int]())
            memory.append(process.memory_info().rss / 2**20)
    assert told.total() == UPLOADS // 4 // CLIENTS * CLIENTS * 4
    assert all(400 <= status < 500 for status in told), told
    assert told[422] > UPLOADS / 2
    assert memory[-1] - memory[0] < 16, f"MiB resident after each quarter: {memory}"
    assert service.ask(small / CAT)["label"] == "cat"
    assert service.end() == (0, "")


def test_while_shots_are_added_and_the_process_is_killed_no_client_gets_a_wrong_answer(
    store: Store, small: Path
) -> None:
    run_index(store, small)
    service = Served(store.directory)
    port = service.url.rsplit(":", 1)[1]
    for number in range(SHOTS):
        save_crop(small / f"things/2.support-set/retina/shot{number}.png", f"retina:{number % 40}")
        with (small / f"things/2.support-set/retina/shot{number}.png").open("ab") as file:
            file.write(b"%d" % number)  # each with bytes of its own
    asked = {CAT: "cat", "things/6.preprocessed/Unknown/b.png": None}
    stop = threading.Event()
    answers: Counter[tuple[str, str | None]] = Counter()
    lost: Counter[int | str] = Counter()

    def client(number: int) -> None:
        path = list(asked)[number % 2]
        while not stop.is_set():
            try:
                answers[path, service.ask(small / path)["label"]] += 1
            except urllib.error.HTTPError as error:
                lost[error.code] += 1
            except (OSError, http.client.HTTPException) as error:  # cut off, or refused while there is no process
                lost[type(error).__name__] += 1
                time.sleep(0.05)

    def indexed() -> int:
        with store.reading() as catalog:
            return catalog.support_labels("things").get("retina", 0)

    def index() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        connection.request("POST", "/v1/index")
        assert connection.getresponse().status == 202
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    index()
    while indexed() < 60:
        time.sleep(0.02)
    service.end(signal.SIGKILL)
    before = indexed()
    assert before < SHOTS
    service = Served(store.directory, "--port", port)
    index()
    until = time.monotonic() + 120
    while indexed() < SHOTS and time.monotonic() < until:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert indexed() == SHOTS
    assert set(answers) == set(asked.items())
    assert sum(answers.values()) > 32, (answers, lost)
    assert not any(isinstance(status, int) for status in lost), lost
    assert service.end() == (0, "")
    assert list(verify(store)) == []
    with store.reading() as catalog:
        assert sum(row.images for row in catalog.count_images() if row.role == Role.SUPPORT) == SHOTS + 4


def canvas(side: int) -> bytes:
    """A GIF of a few bytes that is a side by a side pixels large."""
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", side, side, 0x80, 0, 0)
        + bytes(6)
        + b","
        + struct.pack("<HHHHB", 0, 0, side, side, 0)
        + b"\x02\x02L\x01\x00;"
    )


def worst_files() -> list[bytes]:
    """Small files that take much memory, and some that take none."""
    files = [canvas(13_000), canvas(3_000)]
    for mode, side in (("P", 4000), ("LA", 3000), ("RGBA", 3000), ("I;16", 4000)):
        image = Image.new(mode, (side, side))
        stream = io.BytesIO()
        image.save(stream, "PNG", **({"transparency": 0} if mode == "P" else {}))
        files.append(stream.getvalue())
    return [*files, bomb(), b"%!PS-Adobe-3.0 EPSF-3.0\n"]


def test_many_clients_that_send_the_worst_files_find_a_service_that_is_bounded_and_serves_the_others(
    store: Store, small: Path
) -> None:
    run_index(store, small)
    budget = 64
    service = Served(store.directory, "--decode-memory", str(budget))
    for _ in range(3):
        assert service.ask(small / CAT)["label"] == "cat"
    status = Path(f"/proc/{service.process.pid}/status")
    before = psutil.Process(service.process.pid).memory_info().rss >> 20
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")
    files = worst_files()
    told: Counter[int] = Counter()

    def send(number: int) -> None:
        body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="i"\r\n\r\n%b\r\n--x--\r\n'
        connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=120)
        connection.request(
            "POST",
            "/v1/query",
            body % files[number % len(files)],
            {"Content-Type": "multipart/form-data; boundary=x"},
        )
        response = connection.getresponse()
        response.read()
        told[response.status] += 1
        connection.close()

    with ThreadPoolExecutor(200) as pool:
        sent = [pool.submit(send, number) for number in range(200)]
        served = [pool.submit(service.ask, small / CAT) for _ in range(10)]
        assert all(share.result()["label"] == "cat" for share in served)
        for share in sent:
            share.result()
    assert told.total() == 200
    assert set(told) <= {200, 422, 503}, told
    peak = int(status.read_text().split("VmHWM:")[1].split()[0]) >> 10
    assert peak - before <= budget + 96, f"{before} MiB before, {peak} at most"
    assert service.ask(small / CAT)["label"] == "cat"
    assert service.end() == (0, "")
