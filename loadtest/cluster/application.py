"""What is deployed on the nodes: the Serve config for production, fit for two cores."""

from typing import Any

import yaml

from loadtest.service import ROOT

REPLICAS = {"Ingress": 2, "Runner": 2, "Baseline": 2}


def adapted(urls: str, *, scales: bool) -> dict[str, Any]:
    """The Serve config for production, with stand-ins as its runtimes and without tokens.

    ``scales`` leaves the Runner its autoscaling, which has no choice here: least and most are the
    same.
    """
    values: dict[str, Any] = yaml.safe_load((ROOT / "deploy/serve_config.prod.yaml").read_text())
    (application,) = values["applications"]
    application["args"]["config"] = "configs/local.yaml"
    application["runtime_env"]["env_vars"]["TSFM_TOLLAMA__BASE_URLS"] = urls
    for deployment in application["deployments"]:
        number, scaling = REPLICAS[deployment["name"]], deployment.get("autoscaling_config")
        if scaling and scales:
            scaling["min_replicas"] = scaling["max_replicas"] = number
        else:
            deployment.pop("autoscaling_config", None)
            deployment["num_replicas"] = number
    return values
