"""The HTTP surface for tests of handlers."""

from collections.abc import AsyncIterator

import pytest

from tests.support.bench import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.http.aclose()
