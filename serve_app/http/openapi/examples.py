"""Examples of the OpenAPI document, read from the YAML file beside this module."""

from pathlib import Path
from typing import Any

import yaml

# By operation; then `request`, `answer` or `line`; then by name, as OpenAPI has them.
EXAMPLES: dict[str, dict[str, dict[str, dict[str, Any]]]] = yaml.safe_load(
    Path(__file__).with_suffix(".yaml").read_text("utf-8")
)
REQUESTS, ANSWERS = EXAMPLES["tsfm_forecast"]["request"], EXAMPLES["tsfm_forecast"]["answer"]
FORECAST = REQUESTS["whole"]["value"]  # the example of the specification
MODEL_ANSWER, BASELINE_ANSWER = ANSWERS["model"]["value"], ANSWERS["fallback"]["value"]
