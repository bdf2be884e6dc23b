"""The command: few callers, many callers, few again, and a Runner that scales with them.

    python -m loadtest.autoscale
    python -m loadtest.autoscale --callers 200 --target 50 --ms-per-call 37 --ms-per-series 0.9

The service starts with one Runner and may have four. The last line is ``AUTOSCALE_PASS`` or
``AUTOSCALE_FAIL: why``; the exit code says the same.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from loadtest.autoscale.steps import MOST, Seen, take_steps
from loadtest.autoscale.verdict import failures, last_line, share_of_best, table, times_line
from loadtest.drill import SHIPPED, ends_told, exit_code, say, service_on, with_deployments
from loadtest.stub.process import start_stub


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    seen = Seen()
    broken: list[str] = []
    with ends_told(broken):
        _measure(args, seen)
    broken += failures(seen.phases, seen.times, args.least_share)
    print(table(seen.phases), times_line(seen.times), last_line(broken), sep="\n", flush=True)
    return exit_code(broken)


def _measure(args: argparse.Namespace, seen: Seen) -> None:
    speed = ("--ms-per-call", str(args.ms_per_call), "--ms-per-series", str(args.ms_per_series))
    with tempfile.TemporaryDirectory() as folder, start_stub("--model", "mock", *speed) as stub:
        config = Path(folder) / "serve_config.yaml"
        wanted = adapted(yaml.safe_load(SHIPPED.read_text("utf-8")), args)
        config.write_text(yaml.safe_dump(wanted), "utf-8")
        with service_on(stub.url, {}, config) as service:
            expected = share_of_best(args.target, args.ms_per_call, args.ms_per_series)
            say(f"calls of {args.target} series: {expected:.0%} of the runtime's best rate")
            asyncio.run(take_steps(service.url, stub, args, seen))


def adapted(config: Mapping[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The Serve config with a Runner that scales within minutes."""

    def changed(deployment: dict[str, Any]) -> dict[str, Any]:
        if deployment["name"] != "Runner":
            return deployment
        scaling = deployment["autoscaling_config"] | {
            "min_replicas": 1,
            "max_replicas": MOST,
            "target_ongoing_requests": args.target,
            "downscale_delay_s": args.downscale_delay_s,
        }
        return {**deployment, "autoscaling_config": scaling}

    return with_deployments(config, changed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.autoscale",
        description="How soon do Runners come and go with the load, and what do callers notice?",
    )
    add = parser.add_argument
    add("--few", type=int, default=10, help="callers before and after the step")
    add("--callers", type=int, default=120, help="callers from the step on")
    add("--target", type=int, default=40, help="items in hand for each Runner")
    add("--ms-per-call", type=float, default=20.0, help="the runtime's time for a call")
    add("--ms-per-series", type=float, default=4.0, help="and for each series in it")
    add("--downscale-delay-s", type=float, default=20.0, help="300 is shipped")
    add("--hold-s", type=float, default=15.0, help="how long a load lasts that waits for nothing")
    add("--limit-s", type=float, default=90.0, help="how long we wait for Runners to come")
    add(
        "--least-share",
        type=float,
        default=0.9,
        help="of the model's rate that must be left",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
