"""Computes bands in chunks of windows, in several processes, and keeps finished chunks on disk.

An interrupted run can be continued: each combination of data, settings and code has its own
folder, and chunks are written atomically.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import runner
import tsfm_client
from runner.config.loading import Config
from runner.errors import ConfigError
from runner.types import FloatArray
from serve_app.backtest.forecasters import forecast
from serve_app.backtest.windows import Windows

CHUNK = 500  # windows: a few seconds of the slowest source, so that little is lost

Finished = Callable[[str, int], None]  # source, number of windows that were finished


@dataclass(frozen=True, slots=True)
class Store:
    """The finished chunks of one backtest."""

    folder: Path

    def load(self, source: str, chunk: int) -> dict[str, NDArray[Any]] | None:
        """The arrays of a chunk, or None if it is not finished."""
        try:
            with np.load(self._file(source, chunk)) as found:
                return dict(found)
        except FileNotFoundError:
            return None

    def save(self, source: str, chunk: int, arrays: Mapping[str, Any]) -> None:
        """Writes a finished chunk atomically."""
        file = self._file(source, chunk)
        draft = file.with_name(f".{os.getpid()}.{file.name}")
        with draft.open("wb") as out:
            np.savez(out, **arrays)
        draft.replace(file)

    def gather(self, source: str, windows: Windows) -> dict[str, NDArray[Any]]:
        """All finished chunks of a source as one, by array name."""
        parts = [self.load(source, index) for index, _ in chunks(windows)]
        found = [part for part in parts if part is not None]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _file(self, source: str, chunk: int) -> Path:
        slug = "".join(c if c.isalnum() or c in ".-" else "-" for c in source)
        return self.folder / f"{slug}.{chunk:04d}.npz"


def open_store(work: Path, data: Path, settings: Mapping[str, Any]) -> Store:
    """The store in ``work`` for this data and settings; ConfigError if it cannot be created."""
    packages = (runner.__path__[0], tsfm_client.__path__[0], Path(__file__).parent)
    files = sorted(file for folder in packages for file in Path(folder).rglob("*.py"))
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for file in (data, *files):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    folder = work / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"--work {work}: cannot be written ({exc.strerror}).") from exc
    return Store(folder)


def chunks(windows: Windows) -> list[tuple[int, Windows]]:
    """All windows in numbered chunks."""
    starts = range(0, len(windows), CHUNK)
    return [(i, windows.take(slice(at, at + CHUNK))) for i, at in enumerate(starts)]


def compute(
    sources: Sequence[str],
    windows: Windows,
    config: Config,
    store: Store,
    processes: int,
    finished: Finished,
) -> dict[str, FloatArray]:
    """Bands ``(B, H, Q)`` of each source; stored chunks are not computed again.

    One process means this one; ``finished`` is called for every finished chunk.
    """
    todo: list[tuple[str, int, Windows]] = []
    for source in sources:
        for index, part in chunks(windows):
            if store.load(source, index) is None:
                todo.append((source, index, part))
            else:
                finished(source, len(part))
    for source, index, bands in _computed(todo, config, processes):
        store.save(source, index, {"bands": bands})
        finished(source, len(bands))
    return {source: store.gather(source, windows)["bands"] for source in sources}


def _computed(
    todo: Sequence[tuple[str, int, Windows]], config: Config, processes: int
) -> Iterator[tuple[str, int, FloatArray]]:
    """Yields source, number and bands of finished chunks, in any order."""
    if processes <= 1 or len(todo) <= 1:
        for source, index, part in todo:
            yield source, index, forecast(source, part, config)
        return
    context = get_context("spawn")  # a fork would copy threads of loaded libraries
    pool = ProcessPoolExecutor(min(processes, len(todo)), mp_context=context)
    try:
        started = {
            pool.submit(forecast, source, part, config): (source, index)
            for source, index, part in todo
        }
        for future in as_completed(started):
            yield *started.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)
