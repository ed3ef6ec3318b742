"""The server against its own OpenAPI document, with schemathesis.

SERVE_TRIES=10000 pytest tests/serve/test_contract.py -m slow    # the long run
"""

import itertools
import os
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.builders.server import Live, serving

pytestmark = pytest.mark.heavy

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def attack(live: Live, count: int) -> int:
    """Send `count` requests or a few more, half of them as the document says.

    Every operation is tried; after that those with a body, again and again with other seeds,
    because the others have little to vary.

    Returns:
        how many there were.
    """
    schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    sent = 0

    def ask(case: Any) -> None:
        nonlocal sent
        sent += 1
        case.call_and_validate(checks=CHECKS)

    def search(operation: Any, tries: int, number: int) -> None:
        for mode in GenerationMode:
            limits = settings(
                max_examples=tries,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            test = given(case=operation.as_strategy(generation_mode=mode))(ask)
            # An operation without parameters cannot be called wrongly.
            with suppress(Unsatisfiable):
                seed(number)(limits(test))()

    for operation in operations:
        search(operation, 3, 0)
    bodies = [operation for operation in operations if operation.body]
    assert bodies
    for number, operation in enumerate(itertools.cycle(bodies), 1):
        if sent >= count:
            break
        search(operation, min(500, max(1, count // 10)), number)
    return sent


def test_no_server_error(live: Live) -> None:
    assert attack(live, 60) >= 60


@pytest.mark.slow
def test_no_server_error_in_many_tries() -> None:
    count = int(os.environ.get("SERVE_TRIES", "10000"))
    with serving() as live:
        sent = attack(live, count)
    assert sent >= count
