"""The client: queries answered by a running service as the retriever answers them here."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from nearshot.retriever.context import Context
from nearshot.retriever.options import QueryOptions
from nearshot.schema.errors import ImageError, NearshotError, ServiceError, UsageError, option

KEY_VARIABLE = "NEARSHOT_API_KEY"
SECONDS = 120.0


class Client:
    """Asks one service with one set of options, and with the key in NEARSHOT_API_KEY where there is one."""

    def __init__(self, url: str, options: QueryOptions) -> None:
        """Ask what queries will be compared with. Raises UsageError for what the service refuses, ServiceError."""
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise UsageError(f"'{url}' is no service's URL; give one such as http://127.0.0.1:8077")
        self._url, self._parameters = url.rstrip("/"), _parameters(options)
        self.context = Context.from_json(self._ask("/v1/context"))

    def answer(self, queries: Iterable[tuple[str, bytes | OSError]]) -> Iterator[dict[str, Any]]:
        """The objects that `query --json` prints, one by one, in order."""
        for name, data in queries:
            if isinstance(data, OSError):
                yield {"path": name, "error": f"cannot be read: {data.strerror or data}"}
                continue
            try:
                yield from (answer | {"path": name} for answer in self._ask("/v1/query", data)["answers"])
            except ImageError as error:
                yield {"path": name, "error": str(error)}

    def _ask(self, path: str, image: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{self._url}{path}?{urllib.parse.urlencode(self._parameters, doseq=True)}")
        if image is not None:
            boundary = uuid.uuid4().hex
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="{NAME}"\r\n\r\n'
            request.data = head.encode() + image + f"\r\n--{boundary}--\r\n".encode()
            request.add_header("Content-Type", f"multipart/form-data; boundary={boundary}")
        if key := os.environ.get(KEY_VARIABLE):
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise _refusal(error, self._url) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ServiceError(f"{self._url} does not answer as a service of nearshot: {reason}") from error


NAME = "image"
"""Name given to every upload: the service is not told the names of files."""


def _parameters(options: QueryOptions) -> dict[str, Any]:
    chosen = {
        "backbone": options.backbone,
        "category": options.category,
        "score_by": options.score.value if options.score else None,
        "threshold": options.threshold,
        "margin_floor": options.margin_floor,
        "top_k": options.top_k,
        "against": options.against.value,
        "text": options.text,
        "text_weight": options.text_weight,
        "caption": options.captions,
        "coverage": options.coverage,
        "false": options.false,
        "exact": options.exact or None,
        "boxes": [",".join(map(str, box)) for box in options.box] or None,
        "find": list(options.find) or None,
        "objects": options.objects or None,
        "detector": options.detector,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _refusal(error: urllib.error.HTTPError, url: str) -> NearshotError:
    """Turn what the service said into the error that it would have been here."""
    try:
        problem = json.loads(error.read())
        detail, _ = str(problem["detail"]), problem["title"]  # other services have details, too
        if "template" in problem:
            detail = re.sub(r"\{(\w+)\}", lambda match: option(match[1]), str(problem["template"]))
    except (OSError, ValueError, KeyError, TypeError):
        return ServiceError(f"{url} does not answer as a service of nearshot: {error.code} {error.reason}")
    if error.code == 422 and detail.startswith(f"{NAME}: "):
        return ImageError(detail.removeprefix(f"{NAME}: "))
    if error.code == 401:
        return UsageError(f"{detail}; put it into {KEY_VARIABLE}")
    return UsageError(detail) if error.code == 422 else ServiceError(detail)
