"""The server against its own OpenAPI document, with schemathesis.

SERVE_TRIES=10000 pytest tests/serve/test_contract.py -m slow    # the long run
"""

import os
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serve.conftest import Live, serving

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def attack(live: Live, count: int) -> int:
    """Send about `count` requests, half of them as the document says; returns how many it were."""
    schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    sent = 0

    def ask(case: Any) -> None:
        nonlocal sent
        sent += 1
        case.call_and_validate(checks=CHECKS)

    for operation in operations:
        for mode in GenerationMode:
            # Most operations have nothing to vary: the budget is for those with a body.
            tries = count // 5 if operation.body else 5
            limits = settings(
                max_examples=max(1, tries),
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            # An operation without parameters cannot be called wrongly.
            with suppress(Unsatisfiable):
                limits(given(case=operation.as_strategy(generation_mode=mode))(ask))()
    return sent


def test_no_server_error(live: Live) -> None:
    assert attack(live, 60) > 60


@pytest.mark.slow
def test_no_server_error_in_many_tries() -> None:
    count = int(os.environ.get("SERVE_TRIES", "10000"))
    with serving() as live:
        sent = attack(live, count)
    assert sent >= count
