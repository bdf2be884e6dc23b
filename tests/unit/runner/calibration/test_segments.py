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


def test_first_dimension_is_given_up_first() -> None:
    assert chain(Dimension.LIQUIDITY, Dimension.FREQ, Dimension.WIDTH) == (
        "liquidity=high|freq=5m|width=0.01..0.03",
        "freq=5m|width=0.01..0.03",
        "width=0.01..0.03",
        "all",
    )


def test_without_dimensions_everything_is_one_segment() -> None:
    assert chain() == ("all",)


def test_what_is_not_said_is_left_out() -> None:
    both = (Dimension.LIQUIDITY, Dimension.WIDTH)

    assert chain(*both, liquidity=None) == ("width=0.01..0.03", "all")
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
def test_ranges_of_width_begin_at_their_edge(width: float, expected: str) -> None:
    assert chain(Dimension.WIDTH, width=width)[0] == f"width={expected}"


def test_without_edges_all_widths_are_one_range() -> None:
    found = segment_chain((Dimension.WIDTH,), (), liquidity=None, freq="5m", width=0.5)

    assert found == ("width=0..1", "all")
