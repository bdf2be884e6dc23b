"""Whether a runtime has the model that requests get by default."""

import httpx

from runner.config.loading import Config
from runner.config.registry import load_registry

TIMEOUT_S = 2.0


def default_model_notes(config: Config) -> list[str]:
    """A sentence for each runtime that does not answer, or does not have the default model."""
    registry = load_registry(config.models_file)
    wanted = registry.resolve(config.request.model, config.environment).runtime_name
    served = {model.entry.runtime_name for model in registry.served(config.environment)}
    notes = []
    for url in config.tollama.base_urls:
        installed = _installed(str(url), config)
        if installed is None:
            notes.append(f"The runtime at {url} does not answer: the baseline does, until it does.")
        elif wanted not in installed:
            usable = ", ".join(sorted(installed & served)) or "none that is registered"
            notes.append(
                f"The runtime at {url} does not have {wanted}, the default model: requests that "
                f"name no model get the baseline. Install it there (`tollama pull {wanted}`, if "
                f"offered), or set TSFM_REQUEST__MODEL to a model that it has: {usable}."
            )
    return notes


def _installed(url: str, config: Config) -> set[str] | None:
    """The names of the runtime's models; None if it does not answer with them."""
    key = config.tollama.api_key
    headers = {"authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    try:
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as http:
            answer = http.get(f"{url.rstrip('/')}/api/tags", headers=headers).json()
            return {str(model["name"]).removesuffix(":latest") for model in answer["models"]}
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
