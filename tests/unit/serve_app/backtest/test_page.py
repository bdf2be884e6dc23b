from typing import Any

from serve_app.backtest import page

SOURCES: dict[str, Any] = {"<b>m</b>": {"moving": {"steps": {"coverage_80": [0.81, None, 0.79]}}}}


def test_a_chart_is_the_same_each_time_and_names_are_text_and_nothing_else() -> None:
    drawn = page.coverage_by_step(SOURCES)

    assert drawn == page.coverage_by_step(SOURCES)
    assert "&lt;b&gt;m" in drawn
    assert "<b>" not in drawn
