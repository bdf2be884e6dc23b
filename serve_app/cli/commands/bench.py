"""``tsfm bench``: runs the load test of the repository."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.terminal import WRONG_INPUT, fail


def bench(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Options of loadtest.bench.")
    ] = None,
) -> None:
    """Measure the service (needs the repository).

    \b
    Examples:
      tsfm bench
      tsfm bench --url http://127.0.0.1:8000 --model chronos --concurrency 2 --json
    """
    root = repository([Path.cwd(), Path(__file__).resolve().parents[3]])
    if root is None:
        fail("The load tests are part of the repository: run this inside a checkout.", WRONG_INPUT)
    os.chdir(root)
    os.execv(sys.executable, [sys.executable, "-m", "loadtest.bench", *(arguments or [])])


def repository(places: Iterable[Path]) -> Path | None:
    """The first folder that contains the load tests."""
    return next((place for place in places if (place / "loadtest" / "bench.py").is_file()), None)
