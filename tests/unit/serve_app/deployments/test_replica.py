import gc
from collections.abc import AsyncIterator, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from ray import serve

from runner.baseline.ewma_bands import BaselineRequest
from runner.types import Bands
from serve_app.deployments import ingress
from serve_app.deployments.replica import set_up_garbage_collection
from serve_app.http.batch_endpoint import WARM_UP_ITEMS
from tests.support.builders import make_bands, make_config, make_registry
from tests.support.fakes import FakeHandle


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


async def no_answers(_: object) -> AsyncIterator[list[Any]]:
    yield []


async def bands_of(items: Sequence[BaselineRequest]) -> list[Bands]:
    return [make_bands(item.horizon_steps) for item in items]


async def test_ingress_makes_each_call_and_answers_a_batch_before_its_first_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = SimpleNamespace(replica_tag="r1", app_name="tsfm")
    monkeypatch.setattr(serve, "get_replica_context", lambda: context)
    monkeypatch.setattr(ingress, "set_up_replica", lambda _: None)
    runner, baseline = FakeHandle(no_answers), FakeHandle(bands_of, bands_of)
    config = make_config(conformal={"online": False})
    deployment: Any = ingress.Ingress
    own_class = deployment.func_or_class.__bases__[0]  # without what Serve derives from it
    replica = own_class(config, make_registry(), runner, baseline, None)

    await replica.__serve_build_asgi_app__()

    assert [len(items) for items in baseline.groups] == [1, WARM_UP_ITEMS]
    assert [len(batch.items) for batch in runner.groups] == [0]  # the model is not asked
