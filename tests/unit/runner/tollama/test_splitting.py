import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runner.tollama.client import BatchSplit

PATHS = np.zeros((3, 3))


def run(split, bad):
    """Runs the search against a runtime that refuses ``bad`` series; returns the parts it got."""
    parts = []
    while part := split.next_part():
        parts.append(part)
        if bad.intersection(part):
            split.refused(None)
        else:
            split.answered([PATHS] * len(part))
    return parts


def kinds(split):
    return ["ok" if o is PATHS else type(o).__name__ for o in split.outcomes]


@given(st.integers(1, 130), st.data())
def test_any_three_unnamed_bad_series_are_found_and_no_good_one_is_lost(count, data):
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=3))
    split = BatchSplit(count)

    run(split, bad=bad)

    expected = ["RuntimeRejectedError" if i in bad else "ok" for i in range(count)]
    assert kinds(split) == expected


@given(st.integers(1, 130))
def test_search_is_bounded_when_every_series_is_refused(count):
    split = BatchSplit(count)

    parts = run(split, bad=set(range(count)))

    assert len(parts) <= 1 + 3 * count.bit_length()
    assert kinds(split) == ["RuntimeRejectedError"] * count
