"""The Ray Serve deployment Baseline."""

from collections.abc import Sequence

from ray import serve

from runner.baseline.ewma_bands import BaselineRequest, baseline_bands
from runner.config.loading import Config
from runner.types import Bands
from serve_app.deployments.replica import set_up_replica


@serve.deployment
class Baseline:
    """The EWMA baseline as a deployment."""

    def __init__(self, config: Config) -> None:
        set_up_replica(config)
        self._config = config

    async def forecast(self, requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        """Bands of every item, in order."""
        return baseline_bands(requests, self._config.baseline, self._config.bands)
