from hypothesis import given
from hypothesis import strategies as st

from runner.breaker.call_window import BUCKETS, CallCounts, CallWindow


def test_counts_calls_failures_and_slow_calls_apart():
    window = CallWindow(window_s=60.0)

    window.add(0.0, failed=True, slow=False)
    window.add(0.0, failed=False, slow=True)
    window.add(7.0, failed=True, slow=True)
    window.add(7.0, failed=False, slow=False)

    assert window.counts(7.0) == CallCounts(calls=4, failed=2, slow=2)


def test_a_bucket_leaves_a_full_window_after_it_began():
    window = CallWindow(window_s=60.0)
    window.add(0.0, failed=True, slow=False)
    window.add(5.9, failed=True, slow=False)  # still the bucket of 0.0
    window.add(6.0, failed=False, slow=False)

    counts = [window.counts(now).calls for now in (59.9, 60.0, 65.9, 66.0)]

    assert counts == [3, 1, 1, 0]


def test_a_steady_stream_fills_ten_buckets_and_no_more():
    window = CallWindow(window_s=64.0)

    sizes = set()
    for n in range(2000):
        window.add(1000.0 + n / 8, failed=False, slow=False)
        sizes.add(len(window.snapshot(1000.0 + n / 8)))

    assert sizes == set(range(1, BUCKETS + 1))


def test_adopting_replaces_what_was_there():
    window = CallWindow(window_s=60.0)
    window.add(1000.0, failed=True, slow=True)

    window.adopt([(59.0, 5, 4, 3), (1.0, 2, 1, 0)], now=1000.0)

    assert window.counts(1000.0) == CallCounts(calls=7, failed=5, slow=3)
    assert window.counts(1001.0) == CallCounts(calls=2, failed=1, slow=0)


@given(st.lists(st.floats(0, 30), max_size=200), st.floats(0.1, 100))
def test_stays_small_and_never_counts_a_call_older_than_the_window(gaps, window_s):
    window, now, ends = CallWindow(window_s), 0.0, []
    for gap in gaps:
        now += gap
        ends.append(now)
        window.add(now, failed=False, slow=False)

    recent = sum(now - end < window_s for end in ends)
    certain = sum(now - end < window_s * (1 - 1 / BUCKETS) * 0.999 for end in ends)
    assert certain <= window.counts(now).calls <= recent
    assert len(window.snapshot(now)) <= BUCKETS + 1
