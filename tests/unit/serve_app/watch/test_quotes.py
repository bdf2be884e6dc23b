from dataclasses import replace

import numpy as np
import pytest

from serve_app.watch.quotes import Quotes, window_of

NOW, STEP_S = 3650.0, 300  # the last whole step ends at 3600
NAN = np.nan
OLD = "its newest price is of 1970-01-01 00:55 UTC, before the newest step"


def quotes(*pairs: tuple[float, float], **changes: object) -> Quotes:
    times, prices = zip(*pairs, strict=True)
    return Quotes("m-1", times, prices, **changes)  # type: ignore[arg-type]


def grid(*pairs: tuple[float, float]) -> list[float]:
    window = window_of(quotes(*pairs), NOW, STEP_S, 4)
    assert not isinstance(window, str), window
    assert window.end_ts == 3600
    return list(window.y_prob)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(2700, 0.1), (3000, 0.2), (3300, 0.3), (3600, 0.4)], [0.1, 0.2, 0.3, 0.4]),
        ([(2690, 0.1), (2950, 0.2), (3280, 0.3), (3590, 0.4)], [0.1, 0.2, 0.3, 0.4]),
        ([(2700, 0.1), (2800, 0.9), (2900, 0.2), (3590, 0.4)], [0.1, 0.2, NAN, 0.4]),
        ([(3600, 0.4), (2700, 0.1), (3300, 0.3), (3000, 0.2)], [0.1, 0.2, 0.3, 0.4]),
        ([(3000, 0.2), (3300, 0.3), (3590, 0.4), (3640, 0.9)], [0.2, 0.3, 0.4]),
        ([(2700, 0.1), (3000, 0.2), (3300, NAN), (3590, 0.4)], [0.1, 0.2, NAN, 0.4]),
        ([(900, 0.1), (2700, 0.1), (3000, 0.2), (3600, 0.4)], [0.1, 0.2, NAN, 0.4]),
    ],
)
def test_newest_quote_of_each_step_counts(pairs, expected) -> None:
    np.testing.assert_array_equal(grid(*pairs), expected)


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([(3300, 0.3), (3600, 0.4)], "it has 2 prices"),
        ([(3640, 0.3), (3645, 0.4), (3646, 0.4)], "it has 0 prices"),
        (
            [(2700, 0.1), (3000, 0.2), (3300, 0.3)],
            OLD,
        ),
        ([(-1e18, 0.1), (-np.inf, 0.2), (NAN, 0.3), (np.inf, 0.3)], "it has 0 prices"),
        ([(2700, 0.1), (3000, 1.2), (3590, 0.3)], "its prices are not between 0 and 1"),
        ([(3500, 0.1), (3550, 0.2), (3590, 0.3)], "its prices are too far apart"),
    ],
)
def test_market_that_cannot_be_checked_has_a_reason(pairs, reason: str) -> None:
    assert window_of(quotes(*pairs), NOW, STEP_S, 4) == reason


def test_closed_market_is_not_checked() -> None:
    assert window_of(quotes((3600, 0.1), is_closed=True), NOW, STEP_S, 4) == "it is closed"


def test_title_that_was_cut_within_a_character_can_be_written() -> None:
    prices = [(3000, 0.1), (3300, 0.3), (3590, 0.4)]
    window = window_of(quotes(*prices, title="rain \ud83d"), NOW, STEP_S, 4)
    assert not isinstance(window, str)

    assert window.title == "rain ?"
    odd = replace(quotes(*prices), market_id="\ud83d")
    assert window_of(odd, NOW, STEP_S, 4) == "its id is no valid text"


def test_body_asks_for_a_check_of_the_newest_steps() -> None:
    window = window_of(quotes((2690, 0.1), (3280, 0.3), (3590, 0.4)), NOW, STEP_S, 4)
    assert not isinstance(window, str)

    assert window.body("5m", 2, {"quantiles": [0.5]}) == {
        "market_id": "m-1",
        "as_of_ts": "1970-01-01T01:00:00+00:00",
        "freq": "5m",
        "y": [0.1, None, 0.3, 0.4],
        "newest_steps": 2,
        "quantiles": [0.5],
    }
