import asyncio
import json
from collections.abc import Sequence

import httpx
import pytest

import runner.tollama.models as models_module
from runner.tollama.client import TollamaRuntime
from runner.tollama.http import RuntimeHttp
from runner.tollama.models import RuntimeModels
from tests.support.builders import make_config
from tests.support.fakes import FakeClock
from tests.support.recordings import answer

SETTINGS = make_config().tollama
SERVED = ["wanted", "other", "rare"]


class Runtime:
    """A runtime that has models and refuses every forecast; ``asked`` are the models of those."""

    def __init__(self, installed: Sequence[str], loaded: Sequence[str] | None = ()) -> None:
        self.lists = {"/api/tags": installed, "/api/ps": loaded}
        self.is_up, self.breaks = True, False
        self.asked: list[str] = []

    async def handle(self, request: httpx.Request) -> httpx.Response:
        if not self.is_up:
            raise httpx.ConnectError("refused")
        if request.method == "POST":
            if self.breaks:
                raise httpx.ReadError("reset")
            self.asked.append(json.loads(request.content)["model"])
            return answer(502, b"{}")
        names = self.lists[request.url.path]
        if names is None:
            return answer(404, b"{}")
        return answer(200, {"models": [{"name": name} for name in names]})


class LateRuntime(Runtime):
    """Refuses its first three connections."""

    refusals = 3

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.refusals -= 1
        self.is_up = self.refusals < 0
        return await super().handle(request)


def make_models(runtime: Runtime) -> RuntimeModels:
    http = RuntimeHttp(SETTINGS, "http://127.0.0.1:1", httpx.MockTransport(runtime.handle))
    port = TollamaRuntime(http, SETTINGS, sleep=_no_wait, clock=FakeClock())
    return RuntimeModels(http, port, SERVED, ["wanted"])


async def _no_wait(_: float) -> None:
    """Retries at once."""


async def test_wanted_and_loaded_models_are_asked_once_if_they_may_be_served() -> None:
    runtime = Runtime(["wanted:latest", "other", "rare", "foreign"], loaded=["other", "foreign"])
    models = make_models(runtime)
    await models.look()
    runtime.lists["/api/ps"] = ["wanted", "other", "foreign", "rare"]  # a caller asked for it
    await models.look()

    assert models.installed == frozenset({"wanted", "other", "rare", "foreign"})
    assert runtime.asked == ["other", "wanted"]


async def test_a_model_that_is_not_installed_is_not_asked() -> None:
    runtime = Runtime(["rare"])
    await make_models(runtime).look()

    assert not runtime.asked


async def test_a_runtime_that_does_not_answer_for_a_moment_gets_no_further_work() -> None:
    runtime = Runtime(["wanted"], loaded=None)
    models = make_models(runtime)
    for runtime.is_up in (True, False, True):
        await models.look()

    assert runtime.asked == ["wanted"]


async def test_a_model_whose_runtime_was_not_reached_is_asked_at_the_next_look() -> None:
    runtime = Runtime(["wanted"])
    runtime.breaks = True
    models = make_models(runtime)
    await models.look()
    runtime.breaks = False
    await models.look()

    assert runtime.asked == ["wanted"]


async def test_a_model_that_is_not_loaded_any_more_is_asked_again() -> None:
    runtime = Runtime(["wanted"])
    models = make_models(runtime)
    for loaded in ([], ["wanted"], [], []):
        runtime.lists["/api/ps"] = loaded
        await models.look()

    assert len(runtime.asked) == 2


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"models":[{}]}', b'{"models":7}'])
async def test_a_list_that_is_none_is_not_known(body: bytes) -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        return answer(200, body)

    http = RuntimeHttp(SETTINGS, "http://127.0.0.1:1", httpx.MockTransport(handle))

    assert await http.model_names("/api/tags") is None


async def test_a_watched_runtime_that_does_not_answer_is_looked_at_until_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models_module, "LOOK_AGAIN_S", 0.0)
    runtime = LateRuntime(["wanted"])
    models = make_models(runtime)
    await models.look()
    assert (models.installed, models.answered.is_set()) == (None, False)
    watch = asyncio.ensure_future(models.watch())
    await models.answered.wait()
    watch.cancel()

    assert models.installed == frozenset({"wanted"})
    assert runtime.asked == ["wanted"]
