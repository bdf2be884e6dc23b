"""Bands of finished chunks on disk, so that an interrupted run can be continued.

Each combination of data, settings and code version has its own folder. Chunks are written
atomically.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import runner
from runner.errors import ConfigError


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

    def _file(self, source: str, chunk: int) -> Path:
        slug = "".join(c if c.isalnum() or c in ".-" else "-" for c in source)
        return self.folder / f"{slug}.{chunk:04d}.npz"


def open_store(work: Path, data: Path, settings: Mapping[str, Any]) -> Store:
    """The store in ``work`` for this data and these settings; creates its folder.

    Raises:
        ConfigError: the folder cannot be created.
    """
    text = json.dumps(settings, sort_keys=True, default=str)
    key = hashlib.sha256(f"{_digest([data])} {text} {_digest(_code())}".encode()).hexdigest()[:16]
    folder = work / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"--work {work}: cannot be written ({exc.strerror}).") from exc
    return Store(folder)


def _code() -> list[Path]:
    """The code that computes bands."""
    folders = Path(runner.__path__[0]), Path(__file__).parent
    return sorted(file for folder in folders for file in folder.rglob("*.py"))


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
