"""``POST /tsfm/admin/breakers/{model}``: an operator's command to the breaker of one model.

It applies to all replicas until the next command. Only a body with the JSON content type is taken,
so that a foreign web page cannot send one from the browser of a person who runs the service locally
(CSRF).
"""

import logging

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from runner.errors import InvalidRequestError
from runner.types import BreakerCommand
from serve_app.http.requests import StrictBody, read_body
from serve_app.http.responses import BreakerAnswer
from serve_app.http.service import Dependencies

BREAKER_PATH = "/tsfm/admin/breakers/{model}"
MAX_BODY_BYTES = 1024
JSON = "application/json"
NOT_JSON = ("content-type", f"Send {JSON}.")

logger = logging.getLogger(__name__)


class BreakerCommandBody(StrictBody):
    """What a breaker is to do from now on."""

    action: BreakerCommand = Field(
        description="`force_open`: no calls; `force_closed`: every call; `reset`: as on the "
        "first day."
    )


async def command_breaker(service: Dependencies, request: Request) -> Response:
    """Applies one command, answers with the new state; raises RequestError and ValidationError."""
    config = service.config
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise InvalidRequestError(*NOT_JSON)
    body = await read_body(request.receive, MAX_BODY_BYTES, config.request.body_timeout_s)
    action = BreakerCommandBody.model_validate_json(body).action
    asked = request.path_params["model"]
    model = service.registry.resolve(asked, config.environment).runtime_name
    state = await service.operator.command(model, action)
    service.answers.set_breaker_state(model, state)
    logger.warning("an operator ordered %s for the breaker of %s", action, model)
    answer = BreakerAnswer(model=model, state=state)
    return Response(answer.model_dump_json(), media_type=JSON)
