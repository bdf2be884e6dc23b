"""The body of a batch, item by item: each is a request or what is wrong with it.

An item leaves nothing behind but its request, or ten errors in our own words: what a parser makes
of it on the way is many times its size.
"""

from dataclasses import dataclass

from pydantic import ValidationError

from runner.config.loading import Config
from runner.errors import BodyTooLargeError, InvalidJsonError, InvalidRequestError, RequestError
from runner.pacer import Pacer
from runner.types import ForecastRequest
from serve_app.http.bodies.forecast import parse_forecast
from serve_app.http.bodies.json_items import cut_body
from serve_app.http.errors import INVALID_JSON, Described, describe
from serve_app.http.requests import (
    BatchBody,
    ForecastBody,
    LooseBatchWire,
    series_steps,
    to_request,
)

Parsed = ForecastRequest | Described


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that has been read.

    Attributes:
        items: each one's request, or what is wrong with it.
        steps: what they cost, see `series_steps`.
        deadline_ms: the batch's own.
    """

    items: list[Parsed]
    steps: int
    deadline_ms: float | None


async def read_batch(body: bytes, config: Config, pacer: Pacer) -> Batch:
    """Every item, read in slices.

    Raises:
        RequestError, ValidationError: the body is no batch at all.
    """
    cut = await cut_body(body, "requests", LooseBatchWire, config.request.max_batch_requests, pacer)
    envelope = BatchBody.model_validate_json(cut.envelope)
    if envelope.requests:
        raise InvalidRequestError("requests", "Send it once.")
    items, steps = list[Parsed](), 0
    for text in cut.items():
        try:
            wire = await _parse(text, config, pacer)
            steps += series_steps(wire, config.request)
            await pacer.rest()
            items.append(_convert(wire, config))
        except (RequestError, ValidationError) as error:
            items.append(_refused(error))
        await pacer.rest()
    return Batch(items, steps, envelope.deadline_ms)


async def _parse(text: bytes, config: Config, pacer: Pacer) -> ForecastBody:
    if len(text) > config.request.max_body_bytes:
        raise BodyTooLargeError(config.request.max_body_bytes)
    return await parse_forecast(text, config.request, pacer)


def _convert(wire: ForecastBody, config: Config) -> ForecastRequest:
    if wire.deadline_ms is not None:
        raise InvalidRequestError("deadline_ms", "Set it once, for the whole batch.")
    return to_request(wire, config.request, config.transform)


def _refused(error: RequestError | ValidationError) -> Described:
    """What is wrong with an item; where it is no JSON, nothing around it is either."""
    described = describe(error)
    if described.code == INVALID_JSON[1]:
        raise InvalidJsonError
    return described
