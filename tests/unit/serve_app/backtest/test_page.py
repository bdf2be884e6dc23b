from typing import Any
from xml.etree import ElementTree

import pytest

from serve_app.backtest import page

STEPS = {"coverage_80": [0.81, None, 0.79]}
SOURCES: dict[str, Any] = {
    name: {
        "moving": {"steps": STEPS},
        "reliability": [{"level": 0.1, "share_below": 0.12}, {"level": 0.9, "share_below": 0.88}],
    }
    for name in ("baseline", "last value")
}
EXAMPLE = {
    "market_id": "<b>m-1</b>",
    "past": [0.4, 0.5],
    "future": [0.5, 0.6],
    "bands": [[0.3, 0.4, 0.5, 0.6, 0.7]] * 2,
}
CHARTS = {
    "coverage": lambda: page.coverage_by_step(SOURCES),
    "reliability": lambda: page.reliability(SOURCES),
    "fans": lambda: page.fans([EXAMPLE]),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_valid_svg_and_the_same_each_time(name: str) -> None:
    drawn = CHARTS[name]()

    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"
    assert drawn == CHARTS[name]()


def test_the_name_of_a_market_is_text_and_nothing_else() -> None:
    assert "<b>" not in page.fans([EXAMPLE])
