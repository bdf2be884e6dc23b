"""Shared fixtures; tests/unit has its own that keep unit tests off the clock and the network."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
