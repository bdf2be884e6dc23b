"""Bodies made to do harm: none is a fault of ours, none reaches what it should not."""

import json

import pytest

from runner.batching.batch_call import batch_item
from runner.tollama.wire import join_request
from tests.support.bench import EXAMPLE, Bench, example

PARAMS = b'{"temperature":0.0}'
OURS_ALONE = {"data_url": "file:///etc/passwd", "modelfile": "FROM /etc", "timeout": 0.001}


def nested(depth: int) -> bytes:
    return b'{"a":%b}' % (b"[" * depth + b"]" * depth)


@pytest.mark.parametrize(
    ("body", "alone", "among_others"),
    [
        (b"[" * 1_000_000, 422, 400),
        (b'{"a":' * 100_000, 422, 400),
        (EXAMPLE.replace(PARAMS, nested(100_000)), 422, 200),
        (EXAMPLE.replace(PARAMS, nested(300)), 400, 200),
        (EXAMPLE.replace(PARAMS, nested(100)), 422, 200),
        (EXAMPLE.replace(PARAMS, b"{}").replace(b'"m-1"', nested(100)), 422, 200),
        (EXAMPLE.replace(b"[0.41,", b"[%b," % (b"9" * 100_000)), 422, 200),
        (EXAMPLE.replace(b"[0.41,", b"[1e400,"), 422, 200),
        (EXAMPLE.replace(b'"m-1"', b'"%b"' % (b"x" * 5_000_000)), 413, 200),
    ],
    ids=["arrays", "objects", "params", "deep", "shallow", "name", "integer", "infinite", "long"],
)
async def test_depth_and_size_of_values_end_in_a_refusal(
    bench: Bench, body: bytes, alone: int, among_others: int
) -> None:
    single = await bench.post(body)
    batch = await bench.http.post(
        "/tsfm/forecast/batch", content=b'{"requests":[%b,%b]}' % (EXAMPLE, body)
    )

    assert (single.status_code, batch.status_code) == (alone, among_others)
    if among_others == 200:
        assert [list(result) for result in batch.json()["results"]] == [["ok"], ["error"]]
    assert len(bench.model.requests) == (1 if among_others == 200 else 0)


async def test_no_field_of_a_caller_reaches_the_runtime_beside_its_series(bench: Bench) -> None:
    past = {name: [1.0] * 32 for name in OURS_ALONE}
    future = {"timeout": [2.0] * 12}
    response = await bench.post(
        example(
            market_id="data_url",
            liquidity_bucket="modelfile",
            x_past=past,
            x_future=future,
            model={"model_name": "chronos2", "params": OURS_ALONE | {"num_samples": 10**9}},
        )
    )
    [request] = bench.model.requests
    sent = json.loads(join_request(request.key, {0: batch_item(request).series}))

    assert "model_params_dropped" in response.json()["meta"]["warnings"]
    assert set(sent) == {"model", "horizon", "quantiles", "series"}
    [series] = sent["series"]
    assert set(series) == {
        *("id", "freq", "timestamps", "target", "past_covariates", "future_covariates")
    }
    assert (series["past_covariates"], series["future_covariates"]) == (past, future)
    assert "passwd" not in json.dumps(sent)
