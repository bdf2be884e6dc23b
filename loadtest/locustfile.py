"""Traffic of users that watch markets, for locust.

    locust -f loadtest/locustfile.py --host http://127.0.0.1:8000             # web page
    locust -f loadtest/locustfile.py --host ... --headless --curve spike --rate 50 --peak-rate 300
    locust -f loadtest/locustfile.py CachedUser BatchUser --host ... --headless

One user is one request per second on average, sent whether or not the last one was answered: a
service that slows down does not get less to do, as it would from users who wait their turn.
"""

from locust import LoadTestShape, events, task
from locust.contrib.fasthttp import FastHttpUser

import itertools
import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gevent.pool import Pool

from loadtest import limits
from loadtest.payloads import (
    Shape,
    batch_body,
    encode,
    forecast_bodies,
    items_of,
    problem_of,
    read,
    windows,
)

HEADERS = {"Content-Type": "application/json"}
MOST_UNDER_WAY = 200  # of one user; a request beyond it is a failure of its own, not a wait
MARKETS_OF_A_USER = 8
_numbers = itertools.count()
_known_bodies = lru_cache(maxsize=4)(forecast_bodies)  # the same for every user of a run
Judge = Callable[[Any], str | None]


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    add = parser.add_argument  # not of a group: the web page shows only the parser's own
    add("--curve", choices=list(limits.CURVES), default="steady", help="load over time")
    add("--rate", type=float, default=50.0, help="requests per second at the start")
    add("--peak-rate", type=float, default=200.0, help="where the curve leads")
    add("--duration-s", type=float, default=60.0)
    add("--model", default="chronos")
    add("--points", type=int, default=288)
    add("--horizon", type=int, default=12)
    add("--markets", type=int, default=300, help="known to the cache, and of a batch")
    add("--cycle-s", type=float, default=300.0, help="between two batches of a user")
    add("--seed", type=int, default=0)
    limits.add_options(parser)


events.quitting.add_listener(limits.set_exit_code)


class ChosenCurve(LoadTestShape):
    """The curve of ``--curve``; as many users as requests per second."""

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        done = self.get_run_time() / options.duration_s
        rate = limits.rate_at(options.curve, options.rate, options.peak_rate, done)
        return None if rate is None else (max(1, round(rate)), max(1.0, options.peak_rate))


class MarketUser(FastHttpUser):
    """Sends without waiting, and checks every answer."""

    abstract = True
    concurrency = MOST_UNDER_WAY
    network_timeout = 30.0
    liquidity: str | None = None

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        options = environment.parsed_options
        self.options = options
        self.shape = Shape(
            points=options.points,
            horizon=options.horizon,
            model=options.model,
            liquidity=self.liquidity,
        )
        self.number = next(_numbers)
        self.chance = random.Random(f"{options.seed}/{type(self).__name__}/{self.number}")
        self.under_way = Pool(MOST_UNDER_WAY)

    def wait_time(self) -> float:
        """Arrivals of a Poisson process: independent callers are not evenly spaced."""
        return self.chance.expovariate(1.0)

    def on_stop(self) -> None:
        self.under_way.join(timeout=self.network_timeout)

    def send(self, name: str, path: str, body: bytes, judge: Judge) -> None:
        """Posts in the background; ``judge`` returns the fault of a 200's JSON."""
        if self.under_way.full():
            error = RuntimeError(f"{limits.UNSENT}: {MOST_UNDER_WAY} requests are under way")
            self.environment.events.request.fire(
                request_type="POST", name=name, response_time=0, response_length=0, exception=error
            )
        else:
            self.under_way.spawn(self._post, name, path, body, judge)

    def _post(self, name: str, path: str, body: bytes, judge: Judge) -> None:
        with self.client.post(
            path, data=body, headers=HEADERS, name=name, catch_response=True
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
            elif problem := judge(read(response.content)):
                response.failure(f"{limits.INVALID}: {problem}")

    def forecast(self, name: str, body: bytes) -> None:
        def judge(answer: Any) -> str | None:
            return problem_of(answer, self.shape.horizon, self.shape.levels)

        self.send(name, "/tsfm/forecast", body, judge)


class UniqueUser(MarketUser):
    """Requests a new window: the model has to run."""

    weight = 3
    kind = "unique"

    def on_start(self) -> None:
        first = 1_000_000 + self.number * MARKETS_OF_A_USER
        own = [windows(first + i, self.shape, self.options.seed) for i in range(MARKETS_OF_A_USER)]
        self.fresh = itertools.chain.from_iterable(zip(*own, strict=True))

    @task
    def ask(self) -> None:
        self.forecast(self.kind, encode(next(self.fresh), self.shape))


class CachedUser(MarketUser):
    """Requests known markets, popular ones more often."""

    weight = 6

    def on_start(self) -> None:
        self.known = _known_bodies(self.options.markets, self.shape, self.options.seed)

    @task
    def ask(self) -> None:
        rank = int(self.chance.paretovariate(1.0)) - 1
        self.forecast("cached", self.known[min(rank, len(self.known) - 1)])


class FallbackUser(UniqueUser):
    """Asks about illiquid markets, which the baseline answers."""

    weight = 1
    kind = "fallback"
    liquidity = "low"


class BatchUser(MarketUser):
    """Asks for all markets at once, as an alerting job does every cycle; one user is enough."""

    fixed_count = 1

    def on_start(self) -> None:
        seed, count = self.options.seed + 1, self.options.markets
        self.feeds = [windows(number, self.shape, seed) for number in range(count)]

    def wait_time(self) -> float:
        return float(self.options.cycle_s)

    @task
    def ask(self) -> None:
        bodies = [encode(next(feed), self.shape) for feed in self.feeds]

        def judge(answer: Any) -> str | None:
            shape, items = self.shape, items_of(answer, len(bodies))
            problems = (problem_of(item, shape.horizon, shape.levels) for item in items)
            return next(filter(None, problems), None)

        self.send(limits.BATCH, "/tsfm/forecast/batch", batch_body(bodies), judge)
