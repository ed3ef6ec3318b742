"""One server for the tests of a module that leave it as it is."""

from collections.abc import Iterator

import pytest

from tests.builders.server import Live, serving


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with serving() as server:
        yield server
