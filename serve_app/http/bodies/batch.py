"""Parsing of a batch, item by item: each becomes a request or an error.

Only the request, or at most ten errors, of an item are kept: the parser's intermediate objects are
many times its size.
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
    """A parsed batch.

    Attributes:
        items: for each item its request or its error.
        steps: their cost, see `series_steps`.
        deadline_ms: the deadline in the body.
    """

    items: list[Parsed]
    steps: int
    deadline_ms: float | None


async def read_batch(body: bytes, config: Config, pacer: Pacer) -> Batch:
    """Reads every item, in slices.

    Raises:
        RequestError, ValidationError: the body as a whole is not a batch.
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
    """The error of an item; if the item is not JSON, the whole body is not, and this raises."""
    described = describe(error)
    if described.code == INVALID_JSON[1]:
        raise InvalidJsonError
    return described
