"""How a drill ends that does not get to its end; no service is started."""

import os
import signal
from collections.abc import Iterator

import pytest

from loadtest.drill import INTERRUPTED, ends_told, exit_code


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("error", [RuntimeError, OSError, ValueError])
def test_what_ends_a_drill_is_told_in_one_line_and_its_log_goes_to_stderr(
    error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    broken: list[str] = []

    with ends_told(broken):
        raise error("not ready\n| the log")

    assert broken == ["not ready"]
    assert capsys.readouterr() == ("", "| the log\n")


def test_sigterm_ends_a_drill_as_an_interruption() -> None:
    broken: list[str] = []

    with ends_told(broken):
        os.kill(os.getpid(), signal.SIGTERM)

    assert broken == [INTERRUPTED]
    assert exit_code(broken) == 130


def test_a_mistake_of_ours_is_not_hidden() -> None:
    broken: list[str] = []

    with pytest.raises(KeyError, match="ours"), ends_told(broken):
        raise KeyError("ours")

    assert broken == []


def test_nothing_is_told_of_a_drill_that_gets_to_its_end() -> None:
    broken: list[str] = []

    with ends_told(broken):
        pass

    assert exit_code(broken) == 0
