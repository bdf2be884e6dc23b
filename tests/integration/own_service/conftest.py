"""Services here give way to the shared one, whose tests have deadlines."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def lower_priority() -> None:
    os.nice(10)
