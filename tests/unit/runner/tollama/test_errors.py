import json
import pickle

import pytest

from runner.errors import (
    ModelNotInstalledError,
    RuntimeCircuitOpenError,
    RuntimeFailedError,
    RuntimeOverloadedError,
    RuntimeRejectedError,
    RuntimeTooLargeError,
    RuntimeUnauthorizedError,
)
from runner.tollama.errors import CIRCUIT_WAIT_S, blamed, error_for
from tests.support.recordings import FOLDER, body_of, recorded

CIRCUIT_OPEN = (
    b'{"detail": "circuit breaker is open \xe2\x80\x94 runner has failed repeatedly; will retry"}'
)
SECRET = "s3cret-from-the-input"


def said(detail):
    return json.dumps({"detail": detail, "hint": SECRET}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "counts"),
    [
        (400, said([{"loc": ["body", "series", 0], "input": SECRET}]), RuntimeRejectedError, False),
        (400, said({"code": "BAD_REQUEST", "message": SECRET}), RuntimeRejectedError, False),
        (400, said({"code": "MODEL_UNSUPPORTED"}), ModelNotInstalledError, True),
        (401, said(SECRET), RuntimeUnauthorizedError, True),
        (403, said(SECRET), RuntimeUnauthorizedError, True),
        (404, said(f"model {SECRET} is not installed"), ModelNotInstalledError, True),
        (404, said("Not Found"), ModelNotInstalledError, True),
        (413, said(SECRET), RuntimeTooLargeError, False),
        (429, said("rate limit exceeded"), RuntimeOverloadedError, True),
        (502, said({"code": "FORECAST_ERROR", "message": SECRET}), RuntimeFailedError, True),
        (503, said("runner unavailable"), RuntimeFailedError, True),
        (503, said({"code": "DEPENDENCY_MISSING"}), RuntimeFailedError, True),
        (503, CIRCUIT_OPEN, RuntimeCircuitOpenError, False),
        (500, b"<html>", RuntimeFailedError, True),
        (504, b"", RuntimeFailedError, True),
        (204, b"", RuntimeFailedError, True),
        (302, b"", RuntimeFailedError, True),
        (405, said("Method Not Allowed"), RuntimeFailedError, True),
        (422, said([]), RuntimeFailedError, True),
    ],
)
def test_each_status_has_its_error_in_our_own_words(status, body, error, counts):
    found = error_for(status, {}, body)

    assert type(found) is error
    assert found.counts is counts
    assert SECRET not in str(found)
    assert str(pickle.loads(pickle.dumps(found))) == str(found)


def test_every_recorded_error_has_a_class_of_its_own_kind():
    found = {
        file.stem: type(error_for(recorded(file.stem)["status"], {}, body_of(file.stem)))
        for file in FOLDER.glob("error_*.json")
    }

    special = {
        "error_body_too_large": RuntimeTooLargeError,
        "error_unknown_model": ModelNotInstalledError,
        "error_model_not_installed": ModelNotInstalledError,
    }
    assert len(found) == 13
    assert found == {name: special.get(name, RuntimeRejectedError) for name in found}


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 07:00:09 GMT"}, None),
        (
            {
                "retry-after": "Sun, 22 Nov 2026 07:00:09 GMT",
                "date": "Sun, 22 Nov 2026 07:00:00 GMT",
            },
            9.0,
        ),
        (
            {
                "retry-after": "Sun, 22 Nov 2026 07:00:00 GMT",
                "date": "Sun, 22 Nov 2026 07:00:09 GMT",
            },
            0.0,
        ),
        (
            {
                "retry-after": "Sun, 22 Nov 2026 07:00:09 -0000",
                "date": "Sun, 22 Nov 2026 07:00:00 GMT",
            },
            None,
        ),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date_by_the_answers_own_clock(headers, expected_s):
    error = error_for(429, headers, b"")

    assert isinstance(error, RuntimeOverloadedError)
    assert error.retry_after_s == expected_s


@pytest.mark.parametrize(("wish", "wait_s"), [("2", CIRCUIT_WAIT_S), ("40", 40.0)])
def test_own_circuit_of_the_runtime_is_waited_for_at_least_sixteen_seconds(wish, wait_s):
    error = error_for(503, {"retry-after": wish}, CIRCUIT_OPEN)

    assert isinstance(error, RuntimeCircuitOpenError)
    assert error.retry_after_s == wait_s
    assert wait_s >= 16


@pytest.mark.parametrize(
    ("name", "accused"),
    [
        ("error_one_bad_series_fails_all", {1}),
        ("error_null_target", {0}),
        ("error_string_target", {0}),
        ("error_future_covariate_without_past", None),
        ("error_unsorted_quantiles", {0, 1}),
        ("error_duplicate_quantiles", {0, 1}),
        ("error_quantile_as_int", {0, 1}),
        ("error_zero_horizon", {0, 1}),
        ("error_extra_field", {0, 1}),
        ("error_not_json", {0, 1}),
    ],
)
def test_recorded_refusal_accuses_a_series_or_all_or_nobody(name, accused):
    found = blamed(body_of(name), 2)

    assert found == accused


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"detail": "invalid frequency"}',
        said({"code": "BAD_REQUEST"}),
        said([]),
        said(["text"]),
        said([{"msg": "no loc"}]),
        said([{"loc": "body"}]),
        said([{"loc": ["body", "series"]}]),
        said([{"loc": ["body", "series", 2]}]),
        said([{"loc": ["body", "series", -1]}]),
        said([{"loc": ["body", "series", True]}]),
        said([{"loc": ["body", "series", "1"]}]),
    ],
)
def test_refusal_without_a_usable_position_accuses_nobody(body):
    assert blamed(body, 2) is None


def test_several_accused_series_are_all_found():
    body = said([{"loc": ["body", "series", 1, "target", 0]}, {"loc": ["body", "series", 3]}])

    assert blamed(body, 4) == frozenset({1, 3})
