"""A Python client of the service: typed, sync or async, without Ray; see docs/client.md."""

from tsfm_client.answers import Check as Check
from tsfm_client.answers import ClientError as ClientError
from tsfm_client.answers import Forecast as Forecast
from tsfm_client.answers import LastStep as LastStep
from tsfm_client.answers import LearnedFigure as LearnedFigure
from tsfm_client.answers import Meta as Meta
from tsfm_client.answers import Model as Model
from tsfm_client.answers import RequestRefusedError as RequestRefusedError
from tsfm_client.answers import ServiceError as ServiceError
from tsfm_client.answers import ServiceFailedError as ServiceFailedError
from tsfm_client.answers import UnreachableError as UnreachableError
from tsfm_client.body import Options as Options
from tsfm_client.body import request_body as request_body
from tsfm_client.clients import AsyncClient as AsyncClient
from tsfm_client.clients import Client as Client
from tsfm_client.clients import Retries as Retries
from tsfm_client.series_files import PriceFile as PriceFile
from tsfm_client.series_files import SeriesFileError as SeriesFileError
from tsfm_client.series_files import read_prices as read_prices
