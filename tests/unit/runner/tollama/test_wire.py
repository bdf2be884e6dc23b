import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import BadOutputError, RuntimeRejectedError
from runner.tollama.wire import (
    decode_forecasts,
    encode_series,
    join_request,
    longest_answer,
)
from runner.types import BatchKey, ModelSeries, RuntimeForecast, RuntimeUsage
from tests.support.recordings import body_of, recorded_request

END_TS = datetime(2026, 2, 20, 12, tzinfo=UTC).timestamp()
KEY = BatchKey("mock", 3, (0.1, 0.5, 0.9))


def make_series(y=(-0.4, -0.35, -0.3), **changes):
    values: dict[str, Any] = {"y": np.array(y), "end_ts": END_TS, "step_s": 300}
    return ModelSeries(**(values | changes))


def sent(key, series):
    return json.loads(join_request(key, {i: encode_series(one) for i, one in enumerate(series)}))


def decode(body, key, indexes) -> list[Any]:
    """The paths or the error of each series."""
    forecasts, _ = decode_forecasts(body, key, {i: encode_series(make_series()) for i in indexes})
    return [one.paths if isinstance(one, RuntimeForecast) else one for one in forecasts]


def test_request_equals_the_recorded_one():
    series = [
        make_series((-0.4, -0.35, -0.3, -0.25, -0.2, -0.15)),
        make_series((-0.3, -0.25, -0.2, -0.15, -0.1, -0.05)),
    ]

    assert sent(KEY, series) == recorded_request("forecast_two_series")


def test_request_with_covariates_equals_the_recorded_one():
    volume = {"volume": np.array([1.0, 2, 3, 4, 5, 6])}
    series = make_series((-0.4, -0.35, -0.3, -0.25, -0.2, -0.15), x_past=volume)
    future = make_series(x_future={"v": np.array([4.0, 5, 6])})

    assert sent(KEY, [series]) == recorded_request("forecast_past_covariates")
    assert sent(KEY, [future])["series"][0]["future_covariates"] == {"v": [4, 5, 6]}


def test_params_are_sent_as_options():
    key = BatchKey("mock", 3, (0.5,), (("num_samples", 20), ("timeout", 0.1)))

    body = sent(key, [make_series()])

    assert body.keys() == {"model", "horizon", "quantiles", "options", "series"}
    assert body["options"] == {"num_samples": 20, "timeout": 0.1}


def test_series_on_different_grids_keep_their_own_timestamps():
    batch = [make_series(), make_series(end_ts=END_TS + 300), make_series((1.0, 2.0))]

    grids = [item["timestamps"] for item in sent(KEY, batch)["series"]]

    assert [(len(g), g[-1]) for g in grids] == [
        (3, "2026-02-20T12:00:00Z"),
        (3, "2026-02-20T12:05:00Z"),
        (2, "2026-02-20T12:00:00Z"),
    ]


def test_size_of_a_series_is_hardly_more_than_what_it_adds_to_a_body():
    one, mark = encode_series(make_series(x_past={"v": np.arange(3.0)})), "0123456789ab-"
    bodies = [len(join_request(KEY, dict.fromkeys(range(n), one), mark)) for n in (1000, 1001)]

    assert one.size_bytes - 64 < bodies[1] - bodies[0] <= one.size_bytes


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_values_are_sent_exactly(values):
    assert sent(KEY, [make_series(values)])["series"][0]["target"] == values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["y", "x_past", "x_future"])
def test_series_with_a_value_that_is_not_finite_is_not_sent(where, value):
    bad = np.array([0.0, value, 0.0])
    changes = {"y": bad} if where == "y" else {where: {"v": bad}}

    with pytest.raises(RuntimeRejectedError, match="not finite"):
        encode_series(make_series(**changes))


def answer(*forecasts):
    return json.dumps({"model": "mock", "forecasts": forecasts}).encode()


def forecast(index, **quantiles):
    paths = {"0.1": [1.0, 2.0, 3.0], "0.5": [4.0, 5.0, 6.0], "0.9": [7.0, 8.0, 9]}
    return {"id": f"s{index}", "mean": [4, 5, 6], "quantiles": paths | quantiles}


def test_recorded_answer_becomes_one_array_per_series():
    paths = decode(body_of("forecast_two_series"), KEY, [0, 1])

    np.testing.assert_array_equal(paths, [np.full((3, 3), -0.15), np.full((3, 3), -0.05)])


def test_level_with_more_digits_than_the_runtime_writes_is_found():
    key = BatchKey("mock", 3, (0.123456789,))
    item = {"id": "s0", "quantiles": {"0.123457": [1.0, 2.0, 3.0]}}

    (paths,) = decode(answer(item), key, [0])

    np.testing.assert_array_equal(paths, [[1], [2], [3]])


def test_forecasts_in_any_order_find_their_series_and_extra_ones_and_levels_are_ignored():
    other = forecast(0, **{"0.1": [0, 0, 0], "0.25": [9, 9, 9], "mean": [9, 9, 9]})

    first, second = decode(answer(forecast(1), "noise", None, forecast(99), other), KEY, [0, 1])

    np.testing.assert_array_equal([first[0], second[0]], [[0, 4, 7], [1, 4, 7]])


BAD_FORECASTS: dict[str, Any] = {
    "id twice": [forecast(1), forecast(1)],
    "wrong id": forecast(7),
    "id of another kind": forecast(1) | {"id": 1},
    "no id": {"quantiles": forecast(1)["quantiles"]},
    "quantiles null": forecast(1) | {"quantiles": None},
    "quantiles a list": forecast(1) | {"quantiles": []},
    "level missing": forecast(1) | {"quantiles": {"0.1": [1, 2, 3], "0.5": [1, 2, 3]}},
    "level twice": forecast(1, **{"0.50": [1, 2, 3]}),
    "too short": forecast(1, **{"0.5": [1, 2]}),
    "too long": forecast(1, **{"0.5": [1, 2, 3, 4]}),
    "path null": forecast(1, **{"0.5": None}),
    "path a number": forecast(1, **{"0.5": 1.0}),
    "value null": forecast(1, **{"0.5": [1, None, 3]}),
    "value a string": forecast(1, **{"0.5": [1, "2", 3]}),
    "value a boolean": forecast(1, **{"0.5": [1, True, 3]}),
    "value a list": forecast(1, **{"0.5": [1, [2], 3]}),
    "NaN": forecast(1, **{"0.5": [1, float("nan"), 3]}),
    "infinity": forecast(1, **{"0.5": [1, float("-inf"), 3]}),
    "integer beyond floats": forecast(1, **{"0.5": [10**400, float("nan"), 3]}),
}


@pytest.mark.parametrize("bad", BAD_FORECASTS.values(), ids=BAD_FORECASTS)
def test_invalid_forecast_is_an_error_of_its_series_only(bad):
    items = bad if isinstance(bad, list) else [bad]
    good, error, other = decode(answer(forecast(0), *items, forecast(2)), KEY, [0, 1, 2])

    assert isinstance(error, BadOutputError)
    np.testing.assert_array_equal([good, other], [[[1, 4, 7], [2, 5, 8], [3, 6, 9]]] * 2)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"forecasts": null}',
        b'{"forecasts": [',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=range(7),
)
def test_invalid_body_is_bad_output_for_the_whole_call(body):
    with pytest.raises(BadOutputError, match="the answer"):
        decode(body, KEY, [0])


def test_answer_with_too_many_lists_is_bad_output_before_it_is_parsed():
    hollow = b'{"forecasts":[' + b"[]," * 10_000 + b"[]]}"

    with pytest.raises(BadOutputError, match="too many parts"):
        decode(hollow, KEY, [0])


def test_longest_valid_answer_is_within_the_limits():
    key = BatchKey("mock", 512, tuple(i / 200 for i in range(1, 100)))
    path = [-1.2345678901234567e-100] * 512
    item = {"mean": path, "quantiles": {str(level): path for level in key.levels}}
    item |= {"explanation": {f"k{i}": ["x" * 90] for i in range(20)}}
    body = json.dumps({"forecasts": [item | {"id": f"s{i}"} for i in range(16)]}, indent=4)

    assert len(body) < longest_answer(key, 16)
    assert all(isinstance(one, np.ndarray) for one in decode(body.encode(), key, range(16)))


@pytest.mark.parametrize(
    ("start", "is_late"),
    [
        ("2026-02-20T12:00:00Z", False),  # the last step of the series
        ("2026-02-20T12:05:00+00:00", False),
        ("2026-02-20T12:05:00", False),
        ("2026-02-20T12:20:00", True),
        ("9999-12-31T23:59:59", True),
        ("2026-02-20T12:20:00Z", True),  # a horizon later
        ("soon", False),
        (None, False),
        (1_771_588_800, False),
    ],
)
def test_forecast_of_later_steps_is_bad_output(start, is_late):
    item = forecast(0) | {"start_timestamp": start}

    (one,) = decode(answer(item), KEY, [0])

    assert isinstance(one, BadOutputError) is is_late


def test_recorded_answer_with_a_covariate_says_which_one_was_ignored():
    body: Any = body_of("forecast_past_covariates")

    (one,), usage = decode_forecasts(body, KEY, {0: encode_series(make_series())})

    assert isinstance(one, RuntimeForecast)
    assert one.notices == ("runtime_ignored_covariates",)
    assert one.covariates_ignored == ("volume",)
    assert (usage.inference_ms or 0) > 0
    assert (usage.peak_memory_mb or 0) > 10


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"timing": None, "usage": []},
        {"timing": {"inference_ms": "1"}, "usage": {"peak_memory_mb": True}},
        {"timing": {"inference_ms": -1}, "usage": {"peak_memory_mb": 1e300}},
    ],
)
def test_usage_that_is_missing_or_impossible_is_not_known(said):
    body = json.dumps({"forecasts": [forecast(0)], **said}).encode()

    _, usage = decode_forecasts(body, KEY, {0: encode_series(make_series())})

    assert usage == RuntimeUsage(None, None)
