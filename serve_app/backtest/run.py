"""Computes bands in chunks of windows, in several processes; each finished chunk is stored."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from runner.types import FloatArray
from serve_app.backtest.forecasters.forecasters import BaselineSettings, forecast
from serve_app.backtest.store import Store
from serve_app.backtest.windows import Windows

CHUNK = 500  # windows: a few seconds of the slowest source, so that little is lost

Finished = Callable[[str, int], None]  # source, number of windows that were finished


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some windows for one source."""

    source: str
    index: int

    @property
    def rows(self) -> slice:
        """The chunk's windows."""
        return slice(self.index * CHUNK, (self.index + 1) * CHUNK)


def chunks(source: str, count: int) -> list[Chunk]:
    """All chunks of ``count`` windows."""
    return [Chunk(source, index) for index in range(-(-count // CHUNK))]


def compute(
    sources: Sequence[str],
    windows: Windows,
    baseline: BaselineSettings,
    store: Store,
    processes: int,
    finished: Finished,
) -> dict[str, FloatArray]:
    """Bands ``(B, H, Q)`` of each source; stored chunks are not computed again.

    Args:
        sources: names of `forecasters`.
        windows: the windows to forecast.
        baseline: settings of the baseline.
        store: the finished chunks.
        processes: number of processes; 1 computes in this process.
        finished: called for every finished chunk.
    """
    todo = []
    for chunk in (c for source in sources for c in chunks(source, len(windows))):
        if store.load(chunk.source, chunk.index) is None:
            todo.append(chunk)
        else:
            finished(chunk.source, len(windows.past[chunk.rows]))
    for chunk, bands in _computed(todo, windows, baseline, processes):
        store.save(chunk.source, chunk.index, {"bands": bands})
        finished(chunk.source, len(bands))
    return {source: gather(store, source, len(windows))["bands"] for source in sources}


def gather(store: Store, source: str, count: int) -> dict[str, FloatArray]:
    """All finished chunks of a source as one, by array name."""
    parts = [store.load(source, chunk.index) for chunk in chunks(source, count)]
    found = [part for part in parts if part is not None]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _computed(
    todo: Sequence[Chunk], windows: Windows, baseline: BaselineSettings, processes: int
) -> Iterator[tuple[Chunk, FloatArray]]:
    """Yields finished chunks, in any order."""
    if processes <= 1 or len(todo) <= 1:
        for chunk in todo:
            yield chunk, forecast(chunk.source, windows.take(chunk.rows), baseline)
        return
    context = get_context("spawn")  # a fork would copy threads of loaded libraries
    pool = ProcessPoolExecutor(min(processes, len(todo)), mp_context=context)
    try:
        started = {
            pool.submit(forecast, chunk.source, windows.take(chunk.rows), baseline): chunk
            for chunk in todo
        }
        for future in as_completed(started):
            yield started.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)
