"""Parsing of a batch, item by item: each becomes a request or an error.

Only the request, or at most ten errors, of an item are kept: the parser's intermediate objects are
many times its size.
"""

from typing import NamedTuple

from pydantic import ValidationError

from runner.config.loading import Config
from runner.errors import BodyTooLargeError, InvalidJsonError, InvalidRequestError, RequestError
from runner.pacer import Pacer
from runner.types import ForecastRequest
from serve_app.http.bodies.forecast import parse_forecast
from serve_app.http.bodies.json_items import cut_body
from serve_app.http.errors import INVALID_JSON, Described, describe
from serve_app.http.requests import BatchBody, series_steps, to_request

Parsed = ForecastRequest | Described


class Batch(NamedTuple):
    """The request or the error of each item, their cost (`series_steps`), the body's deadline."""

    items: list[Parsed]
    steps: int
    deadline_ms: float | None


async def read_batch(body: bytes, config: Config, pacer: Pacer) -> Batch:
    """Reads every item, in slices.

    Raises:
        RequestError, ValidationError: the body as a whole is not a batch.
    """
    limits, items, steps = config.request, list[Parsed](), 0
    envelope, texts = await cut_body(body, "requests", BatchBody, limits.max_batch_requests, pacer)
    for text in texts:
        try:
            if len(text) > limits.max_body_bytes:
                raise BodyTooLargeError(limits.max_body_bytes)
            wire = await parse_forecast(text, limits, pacer)
            steps += series_steps(wire, limits)
            await pacer.rest()
            if wire.deadline_ms is not None:
                raise InvalidRequestError("deadline_ms", "Set it once, for the whole batch.")
            items.append(to_request(wire, config))
        except (RequestError, ValidationError) as error:
            described = describe(error)
            if described.code == INVALID_JSON[1]:  # then the whole body is not JSON
                raise InvalidJsonError from error
            items.append(described)
        await pacer.rest()
    return Batch(items, steps, envelope.deadline_ms)
