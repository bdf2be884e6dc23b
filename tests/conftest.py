"""Shared fixtures; tests/unit has its own that keep unit tests off the clock and the network."""

import pytest
from hypothesis import settings

# Examples have no time limit of their own: a busy machine is no finding.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
