"""What do callers notice of an update of a deployed service: a setting, the code, a roll-back?

    python -m loadtest.drills.updates
    python -m loadtest.drills.updates --only code --only back
    python -m loadtest.drills.updates --before ../the-version-that-runs-now

Needs Linux with `unshare` and `ip`. The last line is ``UPDATES_PASS`` or ``UPDATES_FAIL: why``.
`--before` names another checkout of the project: the service starts with its code, "the code" is
this one, and the roll-back goes there again.
"""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from loadtest.drills import harness
from loadtest.drills.harness import Client, Sample
from loadtest.drills.parts.nodes import (
    HEAD,
    PORT,
    Cluster,
    Place,
    application,
    run_in_sandbox,
    start_runtime,
    wait_for,
)
from loadtest.payloads import Shape, encode, windows
from loadtest.service import ROOT, answers

SHAPE = Shape(model="mock", points=96)
LIMIT_S = 240.0
LEAD_S, TAIL_S = 20.0, 10.0
RATE = 20.0  # requests a second
MARKETS = 40  # requested in turn
ADVANCE_S = 10.0  # between two prices of a market
WORKER = 1
FORCED = "chronos2"  # a model without requests in this drill
RESET, CARRIED, OPEN = "reset", "carried", "forced_open"  # what may become of a breaker
LEAST_HITS = 0.5  # of those before, in any ten seconds: caches that are all cold have none
CODE = ("serve_app", "runner", "configs")
SETTINGS = {
    "TSFM_CONFORMAL__ONLINE": "true",
    "TSFM_CONFORMAL__SAVE_INTERVAL_S": "5",
    "TSFM_REQUEST__DEADLINE_MS": "3000",  # two cores start replicas beside those that answer
}
OPTIONS: dict[str, tuple[Any, str]] = {
    "--only": (list[str](), "run only the updates whose name contains this"),
    "--before": (Path, "a checkout whose code runs first"),
}


# What is deployed, and the ways to change it


@dataclass(frozen=True, slots=True)
class Version:
    """A Serve config and the folder with the code that belongs to it."""

    config: dict[str, Any]
    code: Path

    def variables(self) -> dict[str, str]:
        """What the application finds in its environment; may be changed in a copy."""
        found: dict[str, str] = self.config["applications"][0]["runtime_env"]["env_vars"]
        return found

    def replicas(self) -> dict[str, int]:
        deployments = self.config["applications"][0]["deployments"]
        return {deployment["name"]: deployment["num_replicas"] for deployment in deployments}

    def copy(
        self, code: Path | None = None, runners: int | None = None, **variables: str
    ) -> "Version":
        """A version of its own, with other code, another number of Runners or other variables."""
        runner = {"num_replicas": runners or self.replicas()["Runner"]}
        config = harness.with_deployments(self.config, {"Runner": runner})
        made = Version(config, code or self.code)
        made.variables().update(variables)
        return made


@dataclass(slots=True)
class Stage:
    """A head and a worker, what runs on them now, and what ran before.

    ``live`` is the folder with the code on every node, ``changed`` one with other code.
    """

    cluster: Cluster
    live: Path
    changed: Path
    now: Version
    before: Version

    @property
    def url(self) -> str:
        return f"http://{Place(WORKER).ip}:{PORT}"

    def deploy(self, version: Version) -> None:
        """Brings the code to the nodes and hands the config over; Serve goes on from there."""
        for name in CODE:
            shutil.copytree(version.code / name, self.live / name, dirs_exist_ok=True)
        self.cluster.deploy(version.config)
        self.before, self.now = self.now, version

    def go_to(self, version: Version, *, replaces: bool = True) -> None:
        """Deploys a version and waits until it is all that runs."""
        old = self.cluster.replica_ids() if replaces else set()
        self.deploy(version)
        wait_for(lambda: self._is_all_there_is(old), LIMIT_S, "all replicas of the update")

    def _is_all_there_is(self, old: set[str]) -> bool:
        wanted = self.now.replicas()
        there = dict.fromkeys(wanted, 0)
        for (name, _), number in self.cluster.replicas().items():
            there[name] += number
        return there == wanted and not old & self.cluster.replica_ids()


@dataclass(frozen=True, slots=True)
class Update:
    """How it is made, and what must become of a breaker that was forced open before."""

    name: str
    make: Callable[[Stage], None]
    expected: str


def _change_code(stage: Stage) -> None:
    number = int(stage.now.variables()["TSFM_REVISION"]) + 1
    stage.go_to(stage.now.copy(stage.changed, TSFM_REVISION=str(number)))


UPDATES = (
    Update("one Runner more", lambda s: s.go_to(s.now.copy(runners=3), replaces=False), CARRIED),
    Update("a setting", lambda s: s.go_to(s.now.copy(TSFM_REQUEST__DEADLINE_MS="3100")), RESET),
    Update("the code", _change_code, RESET),
    Update("back to the code before", lambda s: s.go_to(s.before), RESET),
)


class Markets:
    """Bodies of ``number`` markets in turn; ``advance`` gives each of them its next price."""

    def __init__(self, number: int, shape: Shape = SHAPE) -> None:
        self._shape = shape
        self._windows = [windows(at, shape) for at in range(number)]
        self._bodies: list[bytes] = []
        self.advance()

    def advance(self) -> None:
        self._bodies = [encode(next(window), self._shape) for window in self._windows]

    def body(self, turn: int) -> bytes:
        return self._bodies[turn % len(self._bodies)]


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    args = harness.options("drills.updates", __doc__, given, OPTIONS)
    chosen, rows = harness.selected("UPDATES", UPDATES, args.only), list[Row]()
    return run_in_sandbox(
        "updates",
        given,
        partial(_run, updates=chosen, before=args.before, rows=rows),
        lambda: (harness.table(map(cells, rows)), failures(rows)),
    )


def _run(folder: Path, updates: Sequence[Update], before: Path | None, rows: list["Row"]) -> None:
    stage, markets = _stage(folder, start_runtime().url, before), Markets(MARKETS)
    try:
        for number in (HEAD, WORKER):
            stage.cluster.add_node(number, LIMIT_S)
        stage.deploy(stage.now)
        wait_for(lambda: answers(f"{stage.url}/readyz"), LIMIT_S, "the application")
        for update in updates:
            rows.append(asyncio.run(_watch(stage, update, markets)))
            harness.say(harness.table_line(cells(rows[-1])))
    except BaseException:
        harness.say(stage.cluster.account())
        raise


def _stage(folder: Path, runtime_url: str, before: Path | None) -> Stage:
    first = Version(application([runtime_url], scales=False), before or ROOT)
    first.variables().update(SETTINGS)
    first.variables()["TSFM_CONFORMAL__LEARNED_FILE"] = str(folder / "learned.json")
    live = folder / "live"
    live.mkdir()
    changed = ROOT if before else _changed(folder / "changed")
    cluster = Cluster(folder, redis=False, env={}, code=live)
    return Stage(cluster, live, changed, now=first, before=first)


def _changed(folder: Path) -> Path:
    """The code with another version number, which the status page shows."""
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name)
    with (folder / "serve_app/version.py").open("a") as file:
        file.write('\n\ndef package_version() -> str:\n    return "0+drill"\n')
    return folder


async def _watch(stage: Stage, update: Update, markets: Markets) -> "Row":
    """Traffic before, during and after an update; the breaker of one model is forced before."""
    going, outcomes = True, list[tuple[float, int]]()
    client = Client(stage.url, SHAPE)
    turns_each = int(RATE * ADVANCE_S)

    async def ask(turn: int) -> None:
        if turn and turn % turns_each == 0:
            markets.advance()
        await client.send(markets.body(turn))

    async with httpx.AsyncClient(base_url=stage.url, timeout=5, trust_env=False) as http:
        route = f"/tsfm/admin/breakers/{FORCED}"
        (await http.post(route, json={"action": "force_open"})).raise_for_status()
        looking = asyncio.create_task(_look(http, client, outcomes))
        asking = asyncio.create_task(harness.at_rate(RATE, ask, lambda _: going))
        try:
            await asyncio.sleep(LEAD_S)
            began_s = client.now_s()
            await asyncio.to_thread(update.make, stage)
            took_s = client.now_s() - began_s
            await asyncio.sleep(TAIL_S)
        finally:
            going = False
            await asking
            looking.cancel()
            client.close()
        after = await _state(http)
    return Row(update.name, update.expected, client.samples, outcomes, began_s, took_s, after)


async def _look(http: httpx.AsyncClient, client: Client, outcomes: list[tuple[float, int]]) -> None:
    while True:
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            coverage = (await http.get("/tsfm/status")).json()["coverage"]
            outcomes.append((client.now_s(), sum(item["samples"] for item in coverage)))
        await asyncio.sleep(1.0)


async def _state(http: httpx.AsyncClient) -> tuple[str, str]:
    """The state of the breaker that was forced open before, and the version that answers."""
    status = (await http.get("/tsfm/status")).json()
    breakers = {one["model"]: one["state"] for one in status["breakers"]}
    return breakers.get(FORCED, "closed"), status["version"]


# From what was seen to a row of the table, and to pass or fail


@dataclass(frozen=True, slots=True)
class Row:
    """What was seen around one update, which began at ``began_s``.

    ``learned`` are actual values that calibration has learned from, by time. ``expected`` is what
    must become of a breaker that was forced open before. ``after`` are its state and the service's
    version after the update.
    """

    name: str
    expected: str
    samples: Sequence[Sample]
    learned: Sequence[tuple[float, int]]
    began_s: float
    took_s: float
    after: tuple[str, str]

    @property
    def breaker(self) -> str:
        return CARRIED if self.after[0] == OPEN else RESET

    @property
    def hits(self) -> tuple[float, float]:
        """Shares of cache hits: before the update, and the least in any ten seconds after that."""
        before = [sample for sample in self.samples if sample.sent_s < self.began_s]
        stretches = _stretches([s for s in self.samples if s.sent_s >= self.began_s])
        return _hits(before), min(map(_hits, stretches), default=0.0)

    @property
    def outcomes(self) -> tuple[int, int]:
        """How many actual values calibration had learned from: before, and at the end."""
        before = [number for at_s, number in self.learned if at_s <= self.began_s]
        return [0, *before][-1], [0, *(number for _, number in self.learned)][-1]


def _hits(samples: Sequence[Sample]) -> float:
    return sum(sample.cached for sample in samples) / len(samples) if samples else 0.0


def _stretches(samples: Sequence[Sample], seconds: float = 10.0) -> list[list[Sample]]:
    """The samples in stretches of some seconds; the last one, which is not whole, left out."""
    first = min((sample.sent_s for sample in samples), default=0.0)
    groups: dict[int, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(int((sample.sent_s - first) / seconds), []).append(sample)
    return [groups[at] for at in sorted(groups)[:-1]]


def failures(rows: Sequence[Row]) -> list[str]:
    return [f"{row.name}: {words}" for row in rows for words in _failures(row)]


def _failures(row: Row) -> list[str]:
    found = harness.bad_answers(row.samples)
    before, least = row.hits
    if least < LEAST_HITS * before:
        words = f"{least:.0%} cache hits, {before:.0%} before"
        found.append(f"cold caches: {words}")
    if row.breaker != row.expected:
        found.append(f"the breaker was {row.breaker}, not {row.expected}")
    if row.outcomes[1] < row.outcomes[0]:
        found.append(f"calibration fell from {row.outcomes[0]} outcomes to {row.outcomes[1]}")
    return found


def cells(row: Row) -> dict[str, object]:
    return {
        "update": row.name,
        "requests": len(row.samples),
        "failed": harness.problems_of(row.samples).total(),
        **harness.sources(row.samples),
        **harness.times(row.samples, 95, 100),
        "took s": f"{row.took_s:.0f}",
        "hits before, least": ", ".join(f"{share:.0%}" for share in row.hits),
        "forced breaker": row.breaker,
        "outcomes learned": f"{row.outcomes[0]} > {row.outcomes[1]}",
        "version": row.after[1],
    }


if __name__ == "__main__":
    sys.exit(main())
