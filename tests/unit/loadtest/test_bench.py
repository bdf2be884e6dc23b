"""The bench: numbers from outcomes, pass or fail from numbers, and the command as a whole."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from loadtest.bench import OPTIONS, failures, main, numbers_of
from loadtest.drills.harness import Sample, options
from loadtest.service import ROOT
from tests.unit.loadtest.fake_service import answer, forecast, serving

BUDGETS = options("bench", "", ["--budget-p95-ms", "100"], OPTIONS)


def took(ms: float, problem: str | None = None, **seen: bool) -> Sample:
    return Sample(0.0, ms / 1e3, problem, **seen)  # type: ignore[arg-type]  # switches of a sample


FAST = took(10)


@pytest.mark.parametrize(
    ("samples", "elapsed_s", "words"),
    [
        ([FAST] * 9 + [took(101)], 1.0, "p95 101.0 ms is over 100 ms"),
        ([FAST], 61.0, "the cycle took 61.0 s of 60 s"),
        ([FAST] * 9 + [took(1, "status 500")], 1.0, "1 of 10 answers are bad (1x status 500)"),
        ([FAST] * 9 + [took(1, fallback=True)], 1.0, "from the fallback (10.0% of 5.0%)"),
        ([], 1.0, "p95 nan"),
        ([FAST] * 20, 1.0, ""),
    ],
)
def test_a_broken_promise_is_named(samples: list[Sample], elapsed_s: float, words: str):
    found = "; ".join(failures(samples, numbers_of(samples, elapsed_s), BUDGETS))

    assert words in found
    assert bool(found) == bool(words)


async def bench(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loadtest.bench",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def service(**meta: Any) -> Callable[[bytes], Awaitable[bytes]]:
    seen: set[bytes] = set()

    async def handle(body: bytes) -> bytes:
        hit = body in seen
        seen.add(body)
        return answer(forecast(body, cache_hit=hit, **meta))

    return handle


async def test_a_healthy_service_passes_with_its_numbers():
    async with serving(service()) as url:
        code, out, _ = await bench("--url", url, "--requests", "200", "--unique", "20")

    assert out.splitlines()[-1] == "SLO_PASS"
    assert code == 0
    assert "200" in out.splitlines()[0]
    assert "90.0%" in next(line for line in out.splitlines() if "hits" in line)


def test_an_address_where_nothing_listens_is_a_failure(capsys: pytest.CaptureFixture[str]):
    code = main(["--url", "http://127.0.0.1:9", "--requests", "2"])

    assert code == 2
    assert capsys.readouterr().out.startswith(
        "SLO_FAIL: The service at http://127.0.0.1:9 cannot be reached"
    )
