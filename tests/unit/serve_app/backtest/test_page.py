from serve_app.backtest import page

EXAMPLE = {
    "market_id": "<b>m-1</b>",
    "past": [0.4, 0.5],
    "future": [0.5, 0.6],
    "bands": [[0.3, 0.4, 0.5, 0.6, 0.7]] * 2,
}


def test_a_chart_is_the_same_each_time() -> None:
    assert page.fans([EXAMPLE]) == page.fans([EXAMPLE])


def test_the_name_of_a_market_is_text_and_nothing_else() -> None:
    assert "<b>" not in page.fans([EXAMPLE])
