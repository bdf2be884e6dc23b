import io
import logging
from collections.abc import Iterator

import orjson
import pytest

from serve_app.telemetry.logs import OURS, set_up_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the lines go; the loggers are put back as they were."""
    before = {name: vars(logging.getLogger(name)).copy() for name in OURS}
    stream = io.StringIO()
    set_up_logging("INFO", {"replica": "r1"}, stream)
    yield stream
    for name, state in before.items():
        vars(logging.getLogger(name)).update(state)
        logging.getLogger(name).manager._clear_cache()  # type: ignore[attr-defined] # levels are remembered


def test_line_is_one_json_object_with_its_fields_beside_the_message(stream: io.StringIO) -> None:
    logging.getLogger("serve_app.x").info("fell %s", "back", extra={"reason": "overloaded"})

    (line,) = stream.getvalue().splitlines()
    found = orjson.loads(line)
    assert found.pop("ts").endswith("+00:00")
    assert found == {
        "level": "INFO",
        "logger": "serve_app.x",
        "message": "fell back",
        "replica": "r1",
        "reason": "overloaded",
    }


def test_exception_stays_on_its_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("runner.x").exception("unexpected")

    (line,) = stream.getvalue().splitlines()
    assert "two\nlines" in orjson.loads(line)["exception"]


def test_value_that_json_does_not_know_becomes_text(stream: io.StringIO) -> None:
    logging.getLogger("runner.x").info("odd", extra={"what": {1}})

    assert orjson.loads(stream.getvalue())["what"] == "{1}"


def test_lower_levels_and_other_loggers_stay_silent(stream: io.StringIO) -> None:
    logging.getLogger("serve_app.x").debug("quiet")
    logging.getLogger("elsewhere").warning("not ours")

    assert stream.getvalue() == ""
