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
from runner.tollama.http import CIRCUIT_WAIT_S, blamed, error_for
from tests.support.recordings import FOLDER, body_of, recorded

CIRCUIT_OPEN = (
    b'{"detail": "circuit breaker is open \xe2\x80\x94 runner has failed repeatedly; will retry"}'
)
SECRET = "s3cret-from-the-input"


def error_body(detail):
    return json.dumps({"detail": detail, "hint": SECRET}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "counts"),
    [
        (
            400,
            error_body([{"loc": ["body", "series", 0], "input": SECRET}]),
            RuntimeRejectedError,
            False,
        ),
        (400, error_body({"code": "BAD_REQUEST", "message": SECRET}), RuntimeRejectedError, False),
        (400, error_body({"code": "MODEL_UNSUPPORTED"}), ModelNotInstalledError, True),
        (401, error_body(SECRET), RuntimeUnauthorizedError, True),
        (403, error_body(SECRET), RuntimeUnauthorizedError, True),
        (404, error_body(f"model {SECRET} is not installed"), ModelNotInstalledError, True),
        (413, error_body(SECRET), RuntimeTooLargeError, False),
        (429, error_body("rate limit exceeded"), RuntimeOverloadedError, True),
        (502, error_body({"code": "FORECAST_ERROR", "message": SECRET}), RuntimeFailedError, True),
        (503, error_body("runner unavailable"), RuntimeFailedError, True),
        (503, error_body({"code": "DEPENDENCY_MISSING"}), RuntimeFailedError, True),
        (503, CIRCUIT_OPEN, RuntimeCircuitOpenError, False),
        (500, b"<html>", RuntimeFailedError, True),
        (204, b"", RuntimeFailedError, True),
        (302, b"", RuntimeFailedError, True),
        (405, error_body("Method Not Allowed"), RuntimeFailedError, True),
        (422, error_body([]), RuntimeFailedError, True),
    ],
)
def test_each_status_has_its_error_without_text_of_the_runtime(status, body, error, counts):
    found = error_for(status, {}, body)

    assert type(found) is error
    assert found.counts is counts
    assert SECRET not in str(found)
    assert str(pickle.loads(pickle.dumps(found))) == str(found)


def test_recorded_errors_have_the_expected_class():
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
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Sun, 22 Nov 2026 07:00:09 GMT"}, None),
    ],
)
def test_retry_after_is_read_as_seconds(headers, expected_s):
    error = error_for(429, headers, b"")

    assert isinstance(error, RuntimeOverloadedError)
    assert error.retry_after_s == expected_s


@pytest.mark.parametrize(("retry_after", "wait_s"), [("2", CIRCUIT_WAIT_S), ("40", 40.0)])
def test_open_circuit_of_the_runtime_is_waited_for_at_least_sixteen_seconds(retry_after, wait_s):
    error = error_for(503, {"retry-after": retry_after}, CIRCUIT_OPEN)

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
def test_recorded_refusal_names_one_series_or_all_or_none(name, accused):
    assert blamed(body_of(name), 2) == accused


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"detail": "invalid frequency"}',
        error_body(["text"]),
        error_body([{"msg": "no loc"}]),
        error_body([{"loc": "body"}]),
        error_body([{"loc": ["body", "series"]}]),
        error_body([{"loc": ["body", "series", 2]}]),
        error_body([{"loc": ["body", "series", -1]}]),
        error_body([{"loc": ["body", "series", True]}]),
        error_body([{"loc": ["body", "series", "1"]}]),
    ],
)
def test_refusal_without_a_valid_position_names_no_series(body):
    assert blamed(body, 2) is None
