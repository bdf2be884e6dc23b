import gc
from collections.abc import Iterator

import pytest

from serve_app.deployments.replica import set_up_garbage_collection


@pytest.fixture(autouse=True)
def unchanged_collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.parametrize(("objects", "collected"), [(4_000, False), (10_000, True)])
def test_collection_starts_after_the_objects_of_many_requests(
    objects: int, collected: bool
) -> None:
    phases: list[str] = []
    set_up_garbage_collection()
    gc.callbacks.append(lambda phase, _: phases.append(phase))

    kept: list[list[None]] = [[] for _ in range(objects)]
    gc.callbacks.pop()

    assert (len(kept), "stop" in phases) == (objects, collected)


def test_objects_of_the_start_are_not_walked_again() -> None:
    at_start: list[list[None]] = [[]]
    set_up_garbage_collection()

    later: list[list[None]] = [[]]

    walked = {id(one) for one in gc.get_objects()}
    assert (id(at_start) in walked, id(later) in walked) == (False, True)
