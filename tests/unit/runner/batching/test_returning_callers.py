"""How many callers should return, how soon, and whether a free slot waits for them."""

import pytest

from runner.batching.batch_policy import ReturningCallers

CALL_S = 1.0


def after_rounds(
    returns: list[float], by_chance: list[float], rounds: int = 12
) -> ReturningCallers:
    """Has seen calls of 4 items; items arrived so many seconds after each end and each start.

    The last call ended at ``rounds * 2``; nothing arrived after that.
    """
    callers = ReturningCallers()
    for number in range(rounds):
        began = 2.0 * number + 1.0
        callers.on_call(began, CALL_S)
        for delay_s in by_chance:
            callers.on_arrival(began + delay_s)
        callers.on_answers(began + CALL_S, 4, CALL_S)
        if number < rounds - 1:
            for delay_s in returns:
                callers.on_arrival(began + CALL_S + delay_s)
    return callers


END = 24.0  # of the last call
ALL = [0.05, 0.06, 0.07, 0.1]


def test_slot_is_held_until_all_callers_should_be_back():
    callers = after_rounds(ALL, [])

    assert callers.hold_until(END, 1, 100, CALL_S) == pytest.approx(END + 0.1)


def test_slot_is_not_held_any_more_once_they_are_back():
    callers = after_rounds(ALL, [])
    for _ in range(4):
        callers.on_arrival(END + 0.01)
    assert callers.hold_until(END + 0.01, 5, 100, CALL_S) == END + 0.01


# 4 callers within 0.1 s: the wait costs (waiting + 4) * 0.1, and saves 4 times the call
@pytest.mark.parametrize(("waiting", "call_s", "held"), [(4, 0.21, True), (4, 0.19, False)])
def test_slot_is_held_only_if_that_pays(waiting: int, call_s: float, held: bool):
    callers = after_rounds(ALL, [])

    assert (callers.hold_until(END, waiting, 100, call_s) > END) is held


def test_slot_is_held_only_for_those_that_find_a_place():
    callers = after_rounds(ALL, [])

    assert callers.hold_until(END, 1, 0, CALL_S) == END
    assert callers.hold_until(END, 10, 1, 1.0) == END  # 11 * 0.1 lost, 1.0 saved
    assert callers.hold_until(END, 8, 1, 1.0) > END


def alternating(*delays_s: float) -> ReturningCallers:
    """Has seen 13 calls of 4 items, whose callers returned after each delay in turn."""
    callers = ReturningCallers()
    for number in range(13):
        callers.on_call(2.0 * number - 1.0, CALL_S)
        callers.on_answers(2.0 * number, 4, CALL_S)
        for _ in range(4 * (number < 12)):
            callers.on_arrival(2.0 * number + delays_s[number % 2])
    return callers


def test_slot_is_held_for_the_mean_and_four_deviations():
    callers = alternating(0.1, 0.12)

    assert callers.hold_until(END, 1, 100, CALL_S) == pytest.approx(END + 0.155, abs=0.005)


def test_slot_is_held_for_half_a_call_at_most_if_the_mean_wait_pays():
    callers = alternating(0.05, 0.45)

    assert callers.hold_until(END, 1, 100, CALL_S) == END + CALL_S / 2
    assert callers.hold_until(END, 4, 100, CALL_S) == END + CALL_S / 2  # 8 * 0.25 lost, 4 saved
    assert callers.hold_until(END, 16, 100, CALL_S) == END  # 20 * 0.25 lost


def test_arrivals_after_half_a_call_are_no_returns():
    assert after_rounds([0.6] * 4, []).share == 0


def test_fewer_arrivals_than_by_chance_are_no_returns():
    assert after_rounds([], [0.6] * 4).share == 0


def test_chance_is_counted_for_the_time_until_the_next_answers():
    callers = ReturningCallers()
    callers.on_call(0.0, 4.0)
    callers.on_arrival(3.0)  # one in the second half: one in the 2 s afterwards would be chance
    callers.on_answers(4.0, 4, 4.0)
    for _ in range(4):
        callers.on_arrival(4.1)
    callers.on_call(4.2, 0.3)
    callers.on_answers(4.5, 4, 0.3)

    assert callers.share == pytest.approx((4 - 0.25) / 4)


def test_a_round_without_returns_tells_nothing_about_their_time():
    callers = after_rounds(ALL, [])
    callers.on_call(END + 1, CALL_S)
    callers.on_answers(END + 2, 4, CALL_S)

    assert callers.hold_until(END + 2, 1, 100, CALL_S) == pytest.approx(END + 2.1)


def test_a_steady_stream_is_no_return():
    stream = [0.1 * step for step in range(10)]
    callers = after_rounds(stream, stream)

    assert callers.hold_until(END, 1, 100, CALL_S) == END


def test_chance_does_not_add_up_to_returns():
    """As many arrivals after the ends as in the second halves, but never in the same round."""
    callers = ReturningCallers()
    for number in range(40):
        ended = 2.0 * number
        callers.on_call(ended - 1.0, CALL_S)
        for _ in range(4 * (number % 2)):
            callers.on_arrival(ended - 0.3)
        callers.on_answers(ended, 4, CALL_S)
        for _ in range(4 * (number % 2 == 0)):
            callers.on_arrival(ended + 0.1)

    assert callers.share < 0.2  # 0.57 if only what is above chance were counted


def test_callers_are_known_among_a_stream():
    stream = [0.25, 0.75]
    callers = after_rounds([*ALL, *stream], stream)

    assert callers.share == pytest.approx(1.0)
    assert callers.hold_until(END, 1, 100, CALL_S) > END


def test_callers_are_waited_for_only_if_half_of_them_return():
    callers = after_rounds(ALL[:2], [], rounds=12)
    few = after_rounds(ALL[:1], [], rounds=12)

    assert few.hold_until(END, 1, 100, CALL_S) == END
    assert callers.hold_until(END, 1, 100, CALL_S) > END


def test_an_abrupt_end_of_a_call_teaches_nothing_about_chance():
    callers = ReturningCallers()
    callers.on_call(0.0, CALL_S)
    callers.on_arrival(0.3)
    callers.on_answers(0.4, 4, 0.4)  # before its expected half
    callers.on_answers(0.4, 4, 0.0)  # two slots ended at once
    callers.on_answers(0.5, 4, 0.1)

    assert callers.hold_until(0.5, 1, 100, CALL_S) == 0.5
