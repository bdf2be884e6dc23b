"""Services here give way to the shared one, whose tests have deadlines."""

import os

import pytest

PATIENT = {  # longer than a busy machine delays a call, which alone is no reason for a fallback
    "TSFM_TOLLAMA__TIMEOUT_S": "8",
    "TSFM_CIRCUIT_BREAKER__PROBE_LEASE_S": "17",
}


@pytest.fixture(scope="session", autouse=True)
def lower_priority() -> None:
    os.nice(10)
