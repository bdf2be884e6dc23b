import pytest

from runner.answer_cache import AnswerCache
from runner.config.sections import CacheSection

SETTINGS = CacheSection(ttl_s=60, stale_if_error_s=120, max_entries=3)


def make_cache(spread: float = 0.0) -> AnswerCache[str]:
    return AnswerCache(SETTINGS, lambda: spread)


@pytest.mark.parametrize(("age_s", "found"), [(0.0, True), (59.9, True), (60.0, False)])
def test_answer_is_fresh_for_its_time_to_live(age_s: float, found: bool) -> None:
    cache = make_cache()
    cache.put("k", "v", 100.0)

    assert (cache.fresh("k", 100.0 + age_s) is not None) is found


def test_time_to_live_is_shortened_by_the_spread() -> None:
    cache = make_cache(spread=0.5)
    cache.put("k", "v", 0.0)

    assert cache.fresh("k", 56.9) is not None
    assert cache.fresh("k", 57.0) is None


@pytest.mark.parametrize(("age_s", "found"), [(60.0, True), (179.9, True), (180.0, False)])
def test_expired_answer_may_stand_in_for_a_while(age_s: float, found: bool) -> None:
    cache = make_cache()
    cache.put("k", "v", 0.0)

    assert (cache.stale("k", age_s) is not None) is found


def test_least_recently_used_goes_first() -> None:
    cache = make_cache()
    for key in "abc":
        cache.put(key, key, 0.0)
    cache.fresh("a", 1.0)
    cache.put("d", "d", 1.0)

    assert [k for k in "abcd" if cache.fresh(k, 2.0)] == ["a", "c", "d"]
    assert len(cache) == 3


def test_putting_again_renews_the_answer_and_its_place() -> None:
    cache = make_cache()
    for key in "abc":
        cache.put(key, key, 0.0)
    cache.put("a", "new", 50.0)
    cache.put("d", "d", 50.0)

    entry = cache.fresh("a", 100.0)
    assert entry is not None
    assert (entry.value, entry.stored_at) == ("new", 50.0)
    assert cache.fresh("b", 51.0) is None
