import gc
from collections.abc import Iterator

import pytest

from serve_app.deployments.replica import look_for_garbage_less_often


@pytest.fixture(autouse=True)
def unchanged_collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.fixture
def looks() -> Iterator[list[str]]:
    """A line for each time Python looked for garbage."""
    seen: list[str] = []

    def look(phase: str, _: dict[str, int]) -> None:
        seen.append(phase)

    gc.collect()
    gc.callbacks.append(look)
    yield seen
    gc.callbacks.remove(look)


class TestGarbage:
    def test_a_few_requests_start_no_collection(self, looks):
        look_for_garbage_less_often()
        looks.clear()

        kept: list[list[None]] = [[] for _ in range(4000)]

        assert (len(kept), looks) == (4000, [])

    def test_ten_thousand_objects_start_a_collection(self, looks):
        look_for_garbage_less_often()
        looks.clear()

        kept: list[list[None]] = [[] for _ in range(10_000)]

        assert (len(kept), "stop" in looks) == (10_000, True)

    def test_objects_of_the_start_are_not_walked_again(self):
        at_start: list[list[None]] = [[]]
        look_for_garbage_less_often()

        later: list[list[None]] = [[]]

        walked = {id(one) for one in gc.get_objects()}
        assert (id(at_start) in walked, id(later) in walked) == (False, True)
