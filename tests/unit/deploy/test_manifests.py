"""The Kubernetes manifests: sound by their schemas, and in step with what they copy."""

import json
import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from serve_app.launch.config_check import read_serve_config
from serve_app.launch.launcher import haproxy_files
from tests.support.builders import ROOT
from tests.support.ray_env import IN_IMAGE, ray_env
from tests.unit.deploy.kustomize import Doc, build, containers, documents, named

DEPLOY = ROOT / "deploy"
OVERLAYS = {name: DEPLOY / "kustomize/overlays" / name for name in ("dev", "prod")}
CRD = Draft202012Validator(
    json.loads((ROOT / "tests/data/kuberay/rayservice_v1.schema.json").read_text())
)
KUBERNETES = "1.32"
NO_CORE_KIND = ("RayService", "ServiceMonitor")
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def ray_service(overlay: str) -> Doc:
    return named(build(OVERLAYS[overlay]), "RayService")


def pods(service: Doc) -> dict[str, Doc]:
    cluster = service["spec"]["rayClusterConfig"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    return {"head": head["template"]["spec"], "worker": workers["template"]["spec"]}


def variables(container: Doc) -> dict[str, Any]:
    names = [entry["name"] for entry in container["env"]]
    assert len(names) == len(set(names))
    return {entry["name"]: entry.get("value") for entry in container["env"]}


@overlays
def test_rayservice_is_valid_by_the_schema_of_its_kind(overlay: str) -> None:
    errors = [f"{e.json_path}: {e.message}" for e in CRD.iter_errors(ray_service(overlay))]

    assert errors == []


@overlays
def test_core_kinds_are_valid_by_the_schemas_of_kubernetes(overlay: str) -> None:
    core = [doc for doc in build(OVERLAYS[overlay]) if doc["kind"] not in NO_CORE_KIND]
    for doc in core:
        kubernetes_validate.validate(doc, KUBERNETES, strict=True)

    assert {"NetworkPolicy", "PodDisruptionBudget", "Service"} <= {doc["kind"] for doc in core}


@overlays
def test_serve_config_inside_is_the_valid_one_beside(overlay: str) -> None:
    beside = DEPLOY / "serve_config.prod.yaml"

    assert ray_service(overlay)["spec"]["serveConfigV2"] == beside.read_text()
    assert read_serve_config(beside)["applications"]


def order(doc: Doc) -> str:
    return f"{doc['kind']} {doc['metadata']['name']}"


def test_one_file_equals_the_prod_overlay() -> None:
    written = sorted(documents(DEPLOY / "rayservice.yaml"), key=order)

    assert written == sorted(build(OVERLAYS["prod"]), key=order), "run `make manifests`"


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is there to check our resolver")
@overlays
def test_kubectl_resolves_the_overlays_to_the_same(overlay: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(OVERLAYS[overlay])], capture_output=True, text=True, check=True
    )
    theirs = sorted(yaml.safe_load_all(done.stdout), key=order)

    assert theirs == sorted(build(OVERLAYS[overlay]), key=order)


@overlays
def test_high_throughput_and_repair_are_set_alike_on_head_and_workers(overlay: str) -> None:
    both = [variables(pod["containers"][0]) for pod in pods(ray_service(overlay)).values()]
    wanted = ray_env() | IN_IMAGE | haproxy_files("/home/tsfm/haproxy")  # of the image
    assert wanted.pop("RAY_AUTH_MODE") == "token"  # the operator sets it, with the token

    assert both[0] == both[1]
    assert {name: both[0].get(name) for name in wanted} == wanted
    assert both[0]["TSFM_ENVIRONMENT"] == overlay


def test_head_takes_no_serve_work_and_workers_scale() -> None:
    service = ray_service("prod")
    cluster = service["spec"]["rayClusterConfig"]
    workers = cluster["workerGroupSpecs"][0]

    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert service["spec"]["excludeHeadPodFromServeSvc"] is True
    assert cluster["enableInTreeAutoscaling"] is True
    assert 2 <= workers["minReplicas"] < workers["maxReplicas"]
    assert cluster["authOptions"] == {"mode": "token"}


def cpus(deployment: Doc, *, most: bool) -> float:
    """CPUs of a deployment at its smallest or largest, an update under way included."""
    scaling = deployment.get("autoscaling_config", {})
    count = scaling.get("max_replicas" if most else "min_replicas", deployment.get("num_replicas"))
    surge = -(-count * deployment["max_surge_percent"] // 100)
    return float(deployment["ray_actor_options"]["num_cpus"] * (count + surge))


@pytest.mark.parametrize(("most", "bound"), [(False, "minReplicas"), (True, "maxReplicas")])
def test_workers_have_room_for_every_replica_and_for_an_update(most: bool, bound: str) -> None:
    service = ray_service("prod")
    workers = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    per_pod = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    deployments = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["deployments"]

    needed = sum(cpus(deployment, most=most) for deployment in deployments)

    assert needed <= per_pod * workers[bound]


@overlays
def test_every_container_is_confined_and_has_limits_and_probes(overlay: str) -> None:
    found = [c for doc in build(OVERLAYS[overlay]) for c in containers(doc)]
    for container in found:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        assert {"readinessProbe", "livenessProbe"} <= set(container)
        assert not container["image"].endswith(":latest")

    assert len(found) == (3 if overlay == "prod" else 2)
    assert all(
        pod["securityContext"]["runAsNonRoot"] for pod in pods(ray_service(overlay)).values()
    )


def test_grace_period_of_a_pod_is_longer_than_that_of_its_replicas() -> None:
    service = ray_service("prod")
    worker = pods(service)["worker"]
    pause_s = int(worker["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    deployments = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["deployments"]
    longest_s = max(deployment["graceful_shutdown_timeout_s"] for deployment in deployments)

    assert worker["terminationGracePeriodSeconds"] >= pause_s + longest_s


def test_secrets_are_named_and_not_part_of_the_manifests() -> None:
    docs = build(OVERLAYS["prod"])
    env = {e["name"]: e for e in pods(named(docs, "RayService"))["worker"]["containers"][0]["env"]}

    assert env["TSFM_SECURITY__TOKENS"]["valueFrom"]["secretKeyRef"] == {
        "name": "tsfm-secrets",
        "key": "tokens",
    }
    assert [doc["kind"] for doc in docs if doc["kind"] == "Secret"] == []


def test_callers_reach_the_ingress_port_only() -> None:
    docs = build(OVERLAYS["prod"])
    callers = named(docs, "NetworkPolicy", "tsfm-callers")["spec"]
    cluster = named(docs, "NetworkPolicy", "tsfm-cluster")["spec"]

    assert callers["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8000}]}]
    assert callers["podSelector"]["matchLabels"]["ray.io/node-type"] == "worker"
    assert all(rule["from"] for rule in cluster["ingress"])
    ours = {"app.kubernetes.io/name": "tsfm"}
    assert cluster["podSelector"]["matchLabels"] == ours
    for rule in cluster["ingress"]:
        assert "ports" in rule or rule["from"] == [{"podSelector": {"matchLabels": ours}}]


def test_selectors_meet_the_labels_of_the_pods() -> None:
    docs = build(OVERLAYS["prod"])
    cluster = named(docs, "RayService")["spec"]["rayClusterConfig"]
    labels = cluster["workerGroupSpecs"][0]["template"]["metadata"]["labels"]
    labels |= {"ray.io/node-type": "worker", "ray.io/group": "cpu"}  # KubeRay's own
    budget = named(docs, "PodDisruptionBudget", "tsfm-workers")["spec"]["selector"]["matchLabels"]
    scraped = named(docs, "Service", "tsfm-metrics")
    monitor = named(docs, "ServiceMonitor")["spec"]

    assert budget.items() <= labels.items()
    assert scraped["spec"]["selector"].items() <= labels.items()
    assert monitor["selector"]["matchLabels"].items() <= scraped["metadata"]["labels"].items()
    ports = {port["name"] for port in scraped["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} == ports
