"""Which models a runtime has, and a first forecast of the wanted ones before callers need them.

The first call of a model that is not loaded takes seconds, and its callers would get the baseline.
"""

import asyncio
from collections.abc import Collection

import numpy as np

from runner.errors import ModelError, RuntimeUnreachableError
from runner.tollama.client import TollamaRuntime
from runner.tollama.http import RuntimeHttp
from runner.tollama.wire import encode_series
from runner.types import BatchKey, ModelSeries

LOOK_EVERY_S, LOOK_AGAIN_S = 10.0, 1.0  # while the runtime answers, and while it does not
LOAD_LIMIT_S = 60.0  # of the first forecast: large weights are read from a disk


class RuntimeModels:
    """The models of one runtime, by their runtime names."""

    def __init__(
        self,
        http: RuntimeHttp,
        runtime: TollamaRuntime,
        served: Collection[str],
        wanted: Collection[str],
    ) -> None:
        """``wanted`` models are loaded; other ``served`` ones asked if loaded at first."""
        self.installed: frozenset[str] | None = None  # None: the runtime does not answer
        self.answered = asyncio.Event()  # a first time, and its models were asked
        self._http = http
        self._runtime = runtime
        self._served = frozenset(served)
        self._wanted = frozenset(wanted)
        self._asked: set[str] = set()
        self._loaded: frozenset[str] = frozenset()

    async def watch(self) -> None:
        """Looks for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_AGAIN_S if self.installed is None else LOOK_EVERY_S)

    async def look(self) -> None:
        """Updates ``installed``; asks models that were not asked since the runtime started.

        A runtime that does not answer for a moment may be busy: it gets no further work for that.
        """
        self.installed = await self._http.model_names("/api/tags")
        if self.installed is not None:
            await self._ask_due(self.installed)
            self.answered.set()

    async def _ask_due(self, installed: frozenset[str]) -> None:
        loaded = await self._http.model_names("/api/ps")
        if loaded is not None:
            self._asked -= self._loaded - loaded  # it was restarted, or has unloaded them
            self._loaded = loaded
        in_use = frozenset() if self.answered.is_set() else self._loaded
        due = (self._wanted | in_use) & installed & self._served
        for model in sorted(due - self._asked):
            await self._ask(model)

    async def _ask(self, model: str) -> None:
        key = BatchKey(model, 1, (0.5,))  # a model without this level is loaded all the same
        series = ModelSeries(np.sin(np.arange(64.0)), end_ts=0.0, step_s=300)
        self._asked.add(model)
        try:
            await self._runtime.forecast(key, [encode_series(series)], budget_s=LOAD_LIMIT_S)
        except RuntimeUnreachableError:
            self._asked.discard(model)
        except ModelError:
            pass  # its callers get an error as well: the breaker decides about them
