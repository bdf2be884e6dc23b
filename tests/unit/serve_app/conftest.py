"""The HTTP surface for tests of handlers."""

import pytest

from tests.support.bench import Bench
from tests.support.tokens import make_guarded_config


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def guarded() -> Bench:
    """One that requires tokens."""
    return Bench(make_guarded_config())
