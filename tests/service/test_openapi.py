"""The API against its own description: whatever is sent, no answer is a 5xx or other than described."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from nearshot.schema.store import Store
from tests.conftest import SMALL, run_index, save_crop
from tests.service.test_serve import Served


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """The description of a service over the small data set."""
    root = tmp_path_factory.mktemp("openapi")
    for path, source in SMALL.items():
        save_crop(root / "data" / path, source)
    with Store(root / "store", create=True) as store:
        run_index(store, root / "data")
    service = Served(root / "store")
    yield schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    assert service.end() == (0, ""), "nothing was logged"


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def test_whatever_is_asked_the_answer_is_as_described(described: BaseSchema) -> None:
    operations = [parsed.ok() for parsed in described.get_all_operations() if isinstance(parsed, Ok)]
    assert len(operations) >= 18
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    asked: Counter[str] = Counter()
    for operation, mode in product(operations, modes):
        strategy = operation.as_strategy(generation_mode=mode)

        @settings(
            max_examples=18, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=strategy)
        def ask(case: Case[Any]) -> None:
            asked[case.operation.label] += 1
            case.call_and_validate(checks=CHECKS)

        with suppress(Unsatisfiable):  # what takes no input cannot be asked wrongly
            ask()
    assert len(asked) == len(operations)
