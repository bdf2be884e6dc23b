import pytest

from runner.calibration.segments import segment_chain
from runner.config.conformal import Dimension

EDGES = (0.01, 0.03, 0.1)


def chain(
    *dimensions: Dimension,
    liquidity: str | None = "high",
    freq: str = "5m",
    width: float | None = 0.02,
) -> tuple[str, ...]:
    return segment_chain(dimensions, EDGES, liquidity=liquidity, freq=freq, width=width)


def test_first_dimension_is_dropped_first() -> None:
    assert chain(Dimension.LIQUIDITY, Dimension.FREQ, Dimension.WIDTH) == (
        "liquidity=high|freq=5m|width=0.01..0.03",
        "freq=5m|width=0.01..0.03",
        "width=0.01..0.03",
        "all",
    )


def test_missing_values_are_left_out() -> None:
    both = (Dimension.LIQUIDITY, Dimension.WIDTH)

    assert chain(*both, liquidity=None) == ("width=0.01..0.03", "all")
    assert chain() == ("all",)
    assert chain(*both, width=None) == ("liquidity=high", "all")


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (0.0, "0..0.01"),
        (0.0099, "0..0.01"),
        (0.01, "0.01..0.03"),
        (0.1, "0.1..1"),
        (1.0, "0.1..1"),
    ],
)
def test_range_of_widths_includes_its_lower_edge(width: float, expected: str) -> None:
    assert chain(Dimension.WIDTH, width=width)[0] == f"width={expected}"
