from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.client_service import META, forecast_of
from tsfm_client import Forecast, request_body

AS_OF = "2026-02-20T12:00:00+00:00"


def frame() -> "pd.Series[float]":
    index = pd.date_range("2026-02-20 11:30", periods=3, freq="15min", tz="UTC")
    return pd.Series([0.4, np.nan, 0.5], index=index)


@pytest.mark.parametrize(
    "y",
    [
        [0.4, None, 0.5],
        (0.4, float("nan"), 0.5),
        np.array([0.4, np.nan, 0.5]),
        np.array([0.4, np.nan, 0.5]).astype(object),
        pd.Series([0.4, np.nan, 0.5]),
    ],
    ids=["list", "tuple", "array", "array of objects", "pandas"],
)
def test_values_of_any_kind_are_the_same_request(y: Any) -> None:
    body = request_body("m-1", y, as_of=AS_OF)

    assert body == {"market_id": "m-1", "y": [0.4, None, 0.5], "as_of_ts": AS_OF}


def test_times_and_step_are_those_of_a_pandas_series() -> None:
    body = request_body("m-1", frame())

    assert body == request_body("m-1", frame().tz_localize(None))  # no zone: UTC
    assert body["y"] == [0.4, None, 0.5]
    assert body["y_ts"] == [f"2026-02-20T{t}:00+00:00" for t in ("11:30", "11:45", "12:00")]
    assert (body["as_of_ts"], body["freq"]) == (AS_OF, "15m")


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 2, 20, 12, tzinfo=UTC),
        datetime(2026, 2, 20, 12),  # noqa: DTZ001 - what callers send
        "2026-02-20T12:00:00Z",
        "2026-02-20 13:00:00+01:00",
        1771588800,
        1771588800.0,
        np.datetime64("2026-02-20T12:00"),
        np.int64(1771588800),
        pd.Timestamp("2026-02-20T12:00Z"),
    ],
    ids=repr,
)
def test_moments_of_any_kind_are_accepted(moment: Any) -> None:
    body = request_body("m-1", [0.4, 0.5], as_of=moment)

    assert datetime.fromisoformat(body["as_of_ts"]) == datetime(2026, 2, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("step_s", "freq"),
    [
        (60, "1m"),
        (3600, "60m"),
        (86400, "1440m"),
        (7 * 86400, "168h"),
        (61, "1m"),
        (90, None),
        (17, None),
        (0, None),
    ],
)
def test_step_is_the_usual_distance_of_times_in_whole_minutes(
    step_s: int, freq: str | None
) -> None:
    times = [1771588800 + i * step_s for i in (0, 1, 2, 3, 5)]

    assert request_body("m-1", [0.4] * 5, times=times).get("freq") == freq
    assert "freq" not in request_body("m-1", [0.4], times=times[:1])


def test_options_have_other_names_in_a_request() -> None:
    same: dict[str, Any] = {
        "freq": "1h",
        "horizon_steps": 3,
        "conformal": True,
        "liquidity_bucket": "low",
        "max_gap_minutes": 5.0,
    }
    body = request_body(
        "m-1",
        [0.4, 0.5],
        as_of=AS_OF,
        levels=np.array([0.1, 0.9]),
        model="chronos",
        x_past={"volume": np.array([1, 2])},
        x_future={"volume": [3, 4, 5]},
        **same,
    )

    assert body == same | {
        "market_id": "m-1",
        "y": [0.4, 0.5],
        "as_of_ts": AS_OF,
        "quantiles": [0.1, 0.9],
        "model": {"model_name": "chronos"},
        "x_past": {"volume": [1.0, 2.0]},
        "x_future": {"volume": [3.0, 4.0, 5.0]},
    }


@pytest.mark.parametrize(
    ("y", "options", "words"),
    [
        ([0.4, 0.5], {}, "as_of is needed"),
        (["a"], {"as_of": AS_OF}, "y must hold numbers"),
        ([0.4, float("inf")], {"as_of": AS_OF}, "y must be one row of finite numbers"),
        ([[0.4], [0.5]], {"as_of": AS_OF}, "y must be one row"),
        (5, {"as_of": AS_OF}, "y must hold numbers"),
        ([0.4], {"as_of": "soon"}, "Invalid isoformat"),
        ([0.4], {"as_of": None}, "None is no time"),
        ([0.4], {"as_of": AS_OF, "x_past": {"v": ["a"]}}, r"x_past\.v must hold numbers"),
    ],
)
def test_invalid_values_are_refused(y: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        request_body("m-1", y, **options)


def test_forecast_as_a_data_frame() -> None:
    body = request_body("m-1", [0.4], as_of=AS_OF, freq="1h", levels=[0.1, 0.9])
    paths = {"0.9": [0.5, 0.6], "0.1": [0.3, 0.2]}
    calibrated = {"0.1": [0.25, 0.1], "0.9": [0.55, 0.7]}
    changes = {"yhat_q": paths, "yhat_q_conformal": calibrated, "meta": META | {"new": 1}}
    forecast = Forecast(forecast_of(body) | changes)
    table = forecast.to_pandas()

    assert table[0.1].tolist() == [0.3, 0.2]
    assert table.index[1] == pd.Timestamp("2026-02-20T14:00Z")
    assert forecast.conformal is not None
    assert forecast.conformal.tolist() == [[0.25, 0.55], [0.1, 0.7]]
    with pytest.raises(KeyError, match=r"0\.5"):
        forecast.path(0.5)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("horizon", "no option horizon; did you mean horizon_steps?"),
        ("quantile", "no option quantile; did you mean quantiles?"),
        ("xyz", "no option xyz$"),
    ],
)
def test_option_that_does_not_exist_is_refused(option: str, words: str) -> None:
    options: dict[str, Any] = {"as_of": AS_OF, option: 24}
    with pytest.raises(TypeError, match=words):
        request_body("m-1", [0.4], **options)


def test_options_may_have_the_names_of_the_api() -> None:
    times = ["2026-02-20T11:45Z", "2026-02-20T12:00Z"]

    body = request_body("m-1", [0.4, 0.5], y_ts=times, as_of_ts=AS_OF, quantiles=[0.5])

    assert body == request_body("m-1", [0.4, 0.5], times=times, as_of=AS_OF, levels=[0.5])
    with pytest.raises(TypeError, match="both of its names"):
        request_body("m-1", [0.4], as_of=AS_OF, levels=[0.5], quantiles=[0.1])
