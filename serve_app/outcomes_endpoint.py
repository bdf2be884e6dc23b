"""``POST /tsfm/outcomes``: for callers who send what came of forecasts by themselves."""

from dataclasses import asdict

import orjson
from starlette.requests import Request
from starlette.responses import Response

from runner.errors import BatchTooLongError, InvalidRequestError
from serve_app.admission import read_body
from serve_app.allowance import allowance_of, body_steps
from serve_app.schemas_outcomes import OutcomesWire, to_outcomes
from serve_app.service import Service

SWITCHED_OFF = "This service does not learn from outcomes: conformal.online is switched off."


class OutcomesEndpoint:
    """Takes a list of outcomes, all of it or none."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def take(self, request: Request) -> Response:
        """One list; raises RequestError and ValidationError for the handlers."""
        limits, most = self._service.config.request, self._service.config.conformal.max_outcomes
        body = await read_body(request.receive, limits.max_body_bytes, limits.body_timeout_s)
        allowance_of(request.scope).admit(body_steps(body))
        wire = OutcomesWire.model_validate_json(body)
        if len(wire.outcomes) > most:
            raise BatchTooLongError(most)
        if self._service.learning is None:
            raise InvalidRequestError("", SWITCHED_OFF)
        counts = await self._service.learning.outcomes(to_outcomes(wire.outcomes))
        return Response(orjson.dumps(asdict(counts)), media_type="application/json")
