"""The earlier import path of the client, which is a package of its own: ``tsfm_client``."""

from runner.types import BreakerCommand as BreakerCommand
from tsfm_client import AsyncClient as AsyncClient
from tsfm_client import Client as Client
from tsfm_client import ClientError as ClientError
from tsfm_client import Forecast as Forecast
from tsfm_client import LastStep as LastStep
from tsfm_client import Meta as Meta
from tsfm_client import Model as Model
from tsfm_client import Options as Options
from tsfm_client import RequestRefusedError as RequestRefusedError
from tsfm_client import Retries as Retries
from tsfm_client import ServiceError as ServiceError
from tsfm_client import ServiceFailedError as ServiceFailedError
from tsfm_client import UnreachableError as UnreachableError
from tsfm_client import request_body as request_body
