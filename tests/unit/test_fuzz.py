"""A short run of the fuzzer, and proof that it sees what it looks for."""

from collections.abc import Callable, Iterator
from time import thread_time
from typing import Any

import orjson
import pytest
from starlette.types import Receive, Scope, Send

from runner.types import MIN_EPS
from serve_app.http.openapi.document import BASELINE_ANSWER, FORECAST
from tests.fuzz.by_document import by_document
from tests.fuzz.cost import LIMITS, Cost, measured, worst
from tests.fuzz.kinds import KINDS
from tests.fuzz.run import broken_bands, faults, run_kind
from tests.fuzz.senders import InProcess, OverTheWire
from tests.fuzz.shots import FORECAST_PATH, JSON, MARKER, NoReplyError, Reply, Shot, whole
from tests.support.bench import example

SOUND = whole((FORECAST_PATH, orjson.dumps(FORECAST)))
ERROR = {"code": "invalid_request", "message": "y.0: no", "request_id": "1"}


def reply(status: int, body: object, elapsed_s: float = 0.1) -> Reply:
    return Reply(status, ((b"content-type", b"application/json"),), orjson.dumps(body), elapsed_s)


@pytest.fixture(scope="module")
def service() -> Iterator[InProcess]:
    service = InProcess()
    yield service
    service.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_bodies_of_every_kind_do_no_harm(service: InProcess, kind: str) -> None:
    tally = run_kind(kind, KINDS[kind].shots, service, 5, seed_of_run=1)

    assert tally.failure is None
    assert tally.bodies >= 5


def test_requests_made_from_the_document_do_no_harm(service: InProcess) -> None:
    tallies = list(by_document(service, 12, seed_of_run=1))

    assert [tally.failure for tally in tallies if tally.failure] == []
    assert {tally.kind.split()[1] for tally in tallies} >= {FORECAST_PATH, "/readyz"}


SMALLEST_EPS = {"space": "logit", "eps": MIN_EPS}
WITHIN_A_STEP = ["2026-02-20T11:59:59Z", "2026-02-20T12:00:00Z"]


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"y": [0] * 40, "transform": SMALLEST_EPS}, 40),
        ({"y": [1] * 40, "transform": SMALLEST_EPS}, 40),
        ({"y": [0.2, 0.3], "y_ts": WITHIN_A_STEP}, 1),
    ],
)
def test_request_that_was_a_finding_is_answered_without_a_warning(
    service: InProcess, changes: dict[str, Any], steps: int
) -> None:
    body = orjson.dumps(example(model=..., **changes))
    shot = Shot(FORECAST_PATH, (body,), JSON, is_sound=True)
    answer = service(shot)

    assert faults(shot, answer) == []
    assert orjson.loads(answer.body)["meta"]["input_len"] == steps


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(500, {"error": ERROR}), "status 500"),
        (reply(418, {"error": ERROR}), "not in the document"),
        (reply(422, {"error": ERROR | {"message": f"not {MARKER}"}}), "echoed in an error"),
        (reply(422, {"error": ERROR | {"trace": "..."}}), "trace"),
        (reply(422, {"error": ERROR}), "refused a sound request"),
        (reply(200, BASELINE_ANSWER, elapsed_s=6.0), "took 6.0 s"),
        (reply(200, {}), "required"),
        (Reply(200, ((b"x", MARKER.encode()),), b"{}", 0.1), "echoed in a header"),
        (Reply(200, (), b"no json", 0.1), "cannot be read"),
    ],
)
def test_fault_of_a_reply_is_found(answer: Reply, words: str) -> None:
    shot = Shot(FORECAST_PATH, SOUND.chunks, JSON, is_sound=True)

    assert any(words in fault for fault in faults(shot, answer))
    bad = Shot(FORECAST_PATH, (b"{",), JSON, is_bad=True)
    assert "took what is no request for one" in faults(bad, reply(200, BASELINE_ANSWER))
    assert faults(SOUND, reply(200, BASELINE_ANSWER)) == []


@pytest.mark.parametrize(
    ("yhat_q", "words"),
    [
        ({"0.1": [0.1, 0.1]}, "levels"),
        ({"0.1": [0.1], "0.9": [0.2, 0.3]}, "steps"),
        ({"0.1": [0.1, None], "0.9": [0.2, 0.3]}, "not finite"),
        ({"0.1": [0.1, 0.2], "0.9": [0.2, 1.5]}, "not in"),
        ({"0.1": [0.1, 0.4], "0.9": [0.2, 0.3]}, "crossed"),
    ],
)
def test_invalid_bands_are_found(yhat_q: dict[str, list[float | None]], words: str) -> None:
    answer = {"quantiles": [0.1, 0.9], "horizon_steps": 2, "yhat_q": yhat_q}

    assert any(words in fault for fault in broken_bands(answer))


def test_harmful_body_is_shrunk_and_shown() -> None:
    def fails_on_numbers(shot: Shot) -> Reply:
        if b"9" in shot.body:
            raise NoReplyError("nothing came")
        return reply(422, {"error": ERROR})

    tally = run_kind("numbers", KINDS["numbers"].shots, fails_on_numbers, 200, seed_of_run=1)

    assert tally.failure is not None
    assert tally.failure.startswith("nothing came\n    POST /tsfm/forecast")


def test_cost_over_the_limits_is_a_fault() -> None:
    dear = Cost(size=10_000_000, status=422, hold_s=0.06, peak_bytes=101_000_000)

    assert list(dear.faults()) == [
        "held the event loop for 60 ms",
        "took 101 MB of memory for 10.0 MB",
    ]
    assert list(Cost(10, 200, hold_s=0.04, peak_bytes=30_000_000).faults()) == []


@pytest.mark.parametrize("path", LIMITS)
def test_worst_bodies_of_an_endpoint_are_of_the_size_that_is_read(path: str) -> None:
    makers = [make for _, make in worst(path)]

    assert len(makers) >= 15
    assert len(makers[0]()) > 0.9 * LIMITS[path]


async def test_hold_of_the_event_loop_and_peak_of_memory_are_measured() -> None:
    kept: list[bytearray] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        began = thread_time()
        kept.append(bytearray(b"x") * 40_000_000)
        while thread_time() - began < 0.06:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    costs = [await measured(app, FORECAST_PATH, b"{}") for _ in range(3)]

    assert all(cost.hold_s >= 0.06 for cost in costs)
    # the kernel may take other pages away meanwhile, which hides a part of a peak
    assert max(cost.peak_bytes for cost in costs) >= 39_000_000


def test_fuzzer_sends_to_this_machine_only() -> None:
    refused: Callable[[str], object] = OverTheWire

    with pytest.raises(ValueError, match="on this machine only"):
        refused("http://192.0.2.1:8000")
