from loadtest.drills.curves import Curve, table

STRAIGHT = Curve("points", (100, 1_000, 10_000), (3.0, 3.9, 13.0))
STEEP = Curve("series", (1, 10, 100), (3.0, 4.0, 300.0))


def test_table_has_a_line_for_each_curve_with_its_exponent() -> None:
    lines = table([STRAIGHT, STEEP]).splitlines()

    assert len(lines) == 4
    assert lines[2].startswith("| points | 100: 3.0, 1,000: 3.9, 10,000: 13.0 | 1.0, 1.0 | 0.52 |")
    assert lines[3].endswith("| 1.88 |")


def test_cheaper_further_units_are_no_bend() -> None:
    assert not Curve("points", (1, 10, 100), (1.0, 10.0, 20.0)).bends()


def test_linear_growth_with_noise_is_no_bend() -> None:
    assert not Curve("points", (1, 10, 100), (1.0, 10.0, 130.0)).bends()


def test_growth_faster_than_the_size_bends() -> None:
    assert STEEP.bends()
