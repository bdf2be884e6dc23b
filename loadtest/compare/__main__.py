"""``python -m loadtest.compare``: starts everything, measures in rounds, writes a table.

The empty applications run beside the service in the same Serve, with the same settings; a round
measures rivals one right after the other, so that a machine that slows down slows both.
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from loadtest.compare.cases import Stand, model_round, open_the_breaker, outage_round
from loadtest.compare.report import missed, table
from loadtest.service import EMBEDDED_RUNTIME, ROOT, start
from loadtest.stub.process import start_stub

MARKS = ("<!-- bench -->", "<!-- /bench -->")


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        config = _with_noops(Path(folder))
        rounds = _measure(args, config)
    text = f"{_circumstances(args)}\n\n{table(rounds)}\n"
    print(text)
    if args.write:
        args.write.write_text(placed(args.write.read_text("utf-8"), text), "utf-8")
    short = missed(rounds)
    print(f"COMPARE_SHORT: {'; '.join(short)}" if short else "COMPARE_OK")
    return 0  # a comparison is to be read, not to be passed: machines differ


def _measure(args: argparse.Namespace, config: Path) -> list[dict[str, float]]:
    speed = ["--ms-per-call", str(args.ms_per_call), "--ms-per-series", str(args.ms_per_series)]
    with start_stub(*speed, "--model", "*") as stub:
        _say("starting the service ...")
        env = {"TSFM_TOLLAMA__BASE_URL": stub.url}
        with start(config, env, without=[EMBEDDED_RUNTIME], high_throughput=not args.plain) as up:
            for path in ("/readyz", "/noop/", "/noop2/"):
                up.wait_ready(240.0, path)
            return asyncio.run(_rounds(Stand(up.url, stub, args.scale, _say), args.rounds))


async def _rounds(stand: Stand, rounds: int) -> list[dict[str, float]]:
    results = []
    await model_round(Stand(stand.url, stand.stub, 0.1, _say, seeds=stand.seeds))  # warm up
    for number in range(1, rounds + 1):
        _say(f"round {number} of {rounds}, the model")
        results.append(await model_round(stand))
    await open_the_breaker(stand)
    for number in range(1, rounds + 1):
        _say(f"round {number} of {rounds}, the outage")
        results.append(await outage_round(stand))
    return results


def placed(page: str, text: str, marks: tuple[str, str] = MARKS) -> str:
    """The page with ``text`` between its two marks.

    >>> placed("a\\n<!-- bench -->old<!-- /bench -->", "new")
    'a\\n<!-- bench -->\\nnew\\n<!-- /bench -->'
    """
    before, _, rest = page.partition(marks[0])
    after = rest.partition(marks[1])[2]
    return f"{before}{marks[0]}\n{text}\n{marks[1]}{after}"


def _with_noops(folder: Path) -> Path:
    """The shipped Serve config with two empty applications beside the service."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text("utf-8"))
    ours = {d["name"]: d for d in config["applications"][0]["deployments"]}
    for name, builder, deployments in (
        ("noop", "build_one", ["Noop"]),
        ("noop2", "build_two", ["Noop", "Echo"]),
    ):
        config["applications"].append(
            {
                "name": name,
                "route_prefix": f"/{name}",
                "import_path": f"loadtest.noop_app:{builder}",
                "deployments": [{**ours["Ingress"], "name": d} for d in deployments],
            }
        )
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    return path


def _circumstances(args: argparse.Namespace) -> str:
    mode = "plain mode" if args.plain else "high-throughput mode"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, {mode}; {args.rounds} rounds, scale {args.scale:g}; "
        f"runtime {args.ms_per_call:g} ms a call and {args.ms_per_series:g} ms a series; "
        "288 points, horizon 12, 3 levels."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.compare", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the requests of a round")
    parser.add_argument("--ms-per-call", type=float, default=37.0)
    parser.add_argument("--ms-per-series", type=float, default=0.9)
    parser.add_argument("--plain", action="store_true", help="Serve's plain mode")
    parser.add_argument("--write", type=Path, help="also put the table on this page")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
