"""Starts that run beside the tests of the shared service, which have deadlines: they give way."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def lower_priority() -> None:
    os.nice(10)
