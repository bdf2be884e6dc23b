"""The command: two replicas of each deployment, steady traffic, and one blow after the other.

    python -m loadtest.chaos
    python -m loadtest.chaos --rate 25 --only ingress --only proxy

The last line is ``CHAOS_PASS`` or ``CHAOS_FAIL: why``; the exit code says the same.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from loadtest.chaos.run import Plan, run_blow
from loadtest.chaos.strike import STUB, Field
from loadtest.chaos.targets import blows
from loadtest.chaos.verdict import Row, failures, last_line, table
from loadtest.drills.harness import SHIPPED, ends_told, exit_code, say, service_on, with_deployments
from loadtest.stub.process import start_stub

SETTINGS = {
    "TSFM_CIRCUIT_BREAKER__COOLDOWN_S": "1",
    "TSFM_CIRCUIT_BREAKER__COOLDOWN_GROWTH": "1",
}
REPLICAS = 2


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    rows: list[Row] = []
    broken: list[str] = []
    with ends_told(broken), _scene(args) as scene:
        asyncio.run(_drill(scene, args, rows))
    broken = broken or failures(rows, args.deadline_ms) or _none_of(rows)
    print(table(rows), last_line(broken), sep="\n")
    return exit_code(broken)


def _none_of(rows: list[Row]) -> list[str]:
    return [] if rows else ["no blow was struck"]


async def _drill(scene: Field, args: argparse.Namespace, rows: list[Row]) -> None:
    plan = Plan(
        per_second=args.rate,
        window_s=args.window_s,
        lead_s=min(2.0, args.window_s / 4),
        pause_s=args.pause_s,
        deadline_s=args.deadline_ms / 1e3,
        retry_after_s=args.retry_after_s,
        retry_timeout_s=10.0,
        replace_limit_s=120.0,
    )
    chosen = blows(args.only)
    for number, blow in enumerate(chosen, 1):
        rows.append(await run_blow(scene, blow, plan, seed=number))
        row = rows[-1]
        say(
            f"{number}/{len(chosen)} {row.name}: {row.valid}/{row.requests} valid, {row.lost} lost,"
            f" {row.recovered} recovered, hurt {row.hurt_s:.1f} s, max {row.max_ms:.0f} ms"
        )


@contextlib.contextmanager
def _scene(args: argparse.Namespace) -> Iterator[Field]:
    with tempfile.TemporaryDirectory() as folder, start_stub(*STUB) as stub:
        config = Path(folder) / "serve_config.yaml"
        wanted = replicated(yaml.safe_load(SHIPPED.read_text("utf-8")))
        config.write_text(yaml.safe_dump(wanted), "utf-8")
        with service_on(stub.url, SETTINGS, config, args.log_lines) as service:
            scene = Field(service, stub)
            try:
                yield scene
            finally:
                scene.stub.stop()  # another one than we started, if that was killed


def replicated(config: Mapping[str, Any]) -> dict[str, Any]:
    """The Serve config with two replicas where one would be a single point of failure."""

    def changed(deployment: dict[str, Any]) -> dict[str, Any]:
        if deployment["name"] == "Ingress":
            return {**deployment, "num_replicas": REPLICAS}
        if deployment["name"] == "Runner":
            scaling = deployment["autoscaling_config"] | {"min_replicas": REPLICAS}
            return {**deployment, "autoscaling_config": scaling}
        return deployment

    return with_deployments(config, changed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.chaos",
        description="Is there a valid answer in time, whichever process dies or stops?",
    )
    add = parser.add_argument
    add("--rate", type=float, default=50.0, help="requests a second, whatever is under way")
    add("--window-s", type=float, default=12.0, help="requests for this long around each blow")
    add("--pause-s", type=float, default=4.0, help="how long a stopped process stays stopped")
    add(
        "--retry-after-s", type=float, default=15.0, help="a client's wait when its connection died"
    )
    add("--only", action="append", default=[], metavar="WORD", help="blows that hold the word")
    add("--deadline-ms", type=float, default=1500.0, help="the service's own")
    add("--log-lines", type=int, default=5)
    return parser


if __name__ == "__main__":
    sys.exit(main())
