"""`make drill-skill`: is a model routed by its skill alone? PASS or FAIL is the last line.

    walks    random walks, for which the stand-in's model is made: the model must answer them
    spikes   quiet prices with a spike in each window, after which its bands are far too wide: the
             baseline must answer them
    points   from 300 scored points of a segment on, it is so, and stays so
    after    the model's forecasts are scored in the routed markets as well, although nobody waits
    shadow   a further model, which answers nobody, is scored too

The service and its runtime are real processes of this machine. A round of requests is 12 steps
after the one before, so that each one scores the forecast before it.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np

from loadtest.drills import harness
from runner.calibration.skill import skill_segment
from tsfm_client import Client, Forecast

STEP_S, POINTS, HORIZON, MARKETS = 300, 96, 12, 5
MOST_POINTS = 300  # until a segment is routed right
START_TS = 1_760_000_100
MODEL, SHADOW = "fracast-0", "sundial-base-128m"  # the stand-in has both
ENV = {
    "TSFM_ROUTING__MODE": "enforce",
    "TSFM_ROUTING__SHADOW": f'["{SHADOW}"]',
    "TSFM_CONFORMAL__EXCHANGE_INTERVAL_S": "0.2",
}
WAIT_S = 20.0  # for the scores of a round: exchanges are 0.2 s apart
RIGHT_ROUNDS = 10  # one after the other, that end the drill
RIGHT = {"walks": {"model"}, "spikes": {"routed_by_skill"}}
OPTIONS: dict[str, tuple[Any, str]] = {"--rounds": (150, "at most, of 10 markets, 12 steps apart")}


def walk(number: int, steps: int) -> np.ndarray:
    """A Gaussian random walk that stays between 0.3 and 0.7."""
    chance = np.random.default_rng(number)
    path = np.cumsum(chance.normal(0, 0.01, steps))
    return 0.5 + 0.2 * np.sin(path)


def spikes(number: int, steps: int) -> np.ndarray:
    """A quiet walk on ticks that is somewhere else for one step in each window."""
    path = (0.5 + 0.6 * (walk(1000 + number, steps) - 0.5)).round(2)
    path[number * HORIZON :: POINTS - HORIZON] += 0.2
    return path


KINDS = {"walks": walk, "spikes": spikes}


def bodies(paths: dict[str, np.ndarray], turn: int) -> Iterator[dict[str, Any]]:
    """The requests of a round."""
    for name, path in paths.items():
        end = HORIZON * turn + POINTS
        yield {
            "market_id": name,
            "as_of_ts": datetime.fromtimestamp(START_TS + end * STEP_S, UTC).isoformat(),
            "y": path[end - POINTS : end].tolist(),
            "horizon_steps": HORIZON,
        }


class Drill:
    """Rounds of requests, and what became of them by kind of market."""

    def __init__(self, client: Client, rounds: int) -> None:
        steps = POINTS + HORIZON * rounds
        names = [(kind, number) for kind in KINDS for number in range(MARKETS)]
        self.paths = {f"{kind}-{n}": KINDS[kind](n, steps) for kind, n in names}
        self.answers: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        self.routed_at: dict[str, int] = {}  # number of scored points, by kind
        self.scored_at: dict[str, int] = {}  # forecasts of the model in the routed segments, then
        self.wrong: set[str] = set()  # segments
        self.last: dict[str, set[str]] = {}  # what answered the last round, by kind
        self.rows: list[dict[str, Any]] = []
        self._client = client
        self._segments = {kind: self._segments_of(kind) for kind in KINDS}

    def run(self, rounds: int) -> None:
        """Every round waits until the answers of the one before are scored."""
        scored, answered, right = 0, 0, 0  # forecasts of the model; rounds
        for turn in range(rounds):
            scored += answered
            answered = self._ask(turn)
            right = right + 1 if self.last == RIGHT else 0
            if right == RIGHT_ROUNDS:
                break
            self._wait_until(scored)
            for kind in KINDS:
                self._look(kind)

    def _look(self, kind: str) -> None:
        """Notes when the segments of a kind are routed, and which of them are wrongly."""
        rows = self._segment_rows(kind)
        if kind not in self.routed_at and (routed := [r["forecasts"] for r in rows if r["routed"]]):
            self.routed_at[kind] = HORIZON * min(routed)
            self.scored_at[kind] = sum(row["forecasts"] for row in rows)
        known = [row for row in rows if HORIZON * row["forecasts"] >= MOST_POINTS]
        self.wrong |= {row["segment"] for row in known if row["routed"] != (kind == "spikes")}

    def _ask(self, turn: int) -> int:
        """Sends a round; returns how many answers were the model's."""
        sent = [*bodies(self.paths, turn)]
        by_model = 0
        self.last = {kind: set() for kind in KINDS}
        for number, result in self._client.forecast_many(sent):
            if not isinstance(result, Forecast):
                raise RuntimeError(f"a request was refused: {result}")
            reason = result.meta.fallback_reason
            by_model += reason is None
            kind = sent[number]["market_id"].partition("-")[0]
            self.answers[kind][reason or "model"] += 1
            self.last[kind].add(reason or "model")
        return by_model

    def _wait_until(self, scored: int) -> None:
        end_s = self._client.clock() + WAIT_S
        while self._client.clock() < end_s:
            self.rows = self._client.skill()["skill"]
            if self._scored(MODEL) >= scored:
                return
            self._client.sleep(0.05)
        raise RuntimeError(f"{scored} forecasts were not scored within {WAIT_S:g} s")

    def _rows_of(self, model: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["model"] == model]

    def _segment_rows(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self._rows_of(MODEL) if row["segment"] in self._segments[kind]]

    def _scored(self, model: str) -> int:
        return sum(row["forecasts"] for row in self._rows_of(model) if row["segment"] == "all")

    def _segments_of(self, kind: str) -> set[str]:
        paths = [path for name, path in self.paths.items() if name.startswith(kind)]
        ends = range(POINTS, len(paths[0]) + 1, HORIZON)
        return {skill_segment(p[end - POINTS : end], "5m", None) for p in paths for end in ends}

    def problems(self) -> list[str]:
        """The broken promises."""
        found = []
        for segment in sorted(self.wrong):
            found.append(f"{segment} was routed wrongly after {MOST_POINTS} scored points")
        if self.last != RIGHT:
            found.append(f"at last the answers came from {self.last}")
        rows = self._segment_rows("spikes")
        if sum(row["forecasts"] for row in rows) <= self.scored_at.get("spikes", 0):
            found.append("the model's forecasts of routed markets are not scored")
        if not self._scored(SHADOW):
            found.append("no forecast of the shadow model was scored")
        return found


def main(argv: list[str] | None = None) -> int:
    args = harness.options("drill_skill", __doc__, argv, OPTIONS)
    rows, problems = list[dict[str, object]](), list[str]()

    def drill() -> None:
        with harness.standing(20.0, 0.5, ENV) as (service, _), Client(service.url) as client:
            drill = Drill(client, args.rounds)
            drill.run(args.rounds)
        for row in drill.rows:
            names = ("model", "segment", "forecasts", "skill", "skill_low", "skill_high", "verdict")
            rows.append({name: _short(row[name]) for name in names})
        for kind, counts in drill.answers.items():
            harness.say(f"{kind}: {dict(counts)}, routed at {drill.routed_at.get(kind)} points")
        problems.extend(drill.problems())

    return harness.judged("SKILL", drill, lambda: (harness.table(rows), problems))


def _short(value: object) -> object:
    return f"{value:+.3f}" if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
