"""A Python client of the service: typed, sync or async, without Ray; see docs/client.md."""

from runner.types import BreakerCommand as BreakerCommand
from serve_app.client.answers import ClientError as ClientError
from serve_app.client.answers import Forecast as Forecast
from serve_app.client.answers import LastStep as LastStep
from serve_app.client.answers import Meta as Meta
from serve_app.client.answers import Model as Model
from serve_app.client.answers import RequestRefusedError as RequestRefusedError
from serve_app.client.answers import ServiceError as ServiceError
from serve_app.client.answers import ServiceFailedError as ServiceFailedError
from serve_app.client.answers import UnreachableError as UnreachableError
from serve_app.client.body import Options as Options
from serve_app.client.body import request_body as request_body
from serve_app.client.clients import AsyncClient as AsyncClient
from serve_app.client.clients import Client as Client
from serve_app.client.clients import Retries as Retries
