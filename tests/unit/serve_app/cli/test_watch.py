"""``tsfm watch`` for a service on a port of its own."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from runner.types import Bands, BreakerState, FallbackReason, ModelFailure
from serve_app.cli import app
from serve_app.watch import sources
from serve_app.watch.sources.replay import Replay
from tests.support.builders import make_answer
from tests.support.site import Site, running_site

Terminal = Callable[..., Any]


def run(url: str, state: Path, *words: object) -> Any:
    variables = {"TSFM_URL": url, "TSFM_TOKEN": "", "TSFM_WEBHOOK": ""}
    command = ["watch", "--once", "--state", str(state), *(str(word) for word in words)]
    return CliRunner().invoke(app, command, env=variables)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running_site() as site:
        yield site


@pytest.fixture
def narrow(site: Site) -> Site:
    """A service whose bands are 1 % wide, at 45 %."""
    site.bench.model.outcome = make_answer(bands=Bands(np.tile([0.445, 0.45, 0.455], (12, 1))))
    return site


@pytest.fixture
def watch(narrow: Site, tmp_path: Path) -> Terminal:
    return partial(run, narrow.url, tmp_path / "watch.db")


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any]]]:
    """The address of a webhook, and the bodies that it gets."""
    got: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_cycle_of_the_replay_writes_alerts_a_summary_and_the_board(
    watch: Terminal, narrow: Site
) -> None:
    first = watch("--source", "replay")
    again = watch("--source", "replay")
    named = json.loads(narrow.bench.boards.kept["watch"])  # after the state file, watch.db

    assert first.exit_code == again.exit_code == 0
    assert all(line.startswith("breach: Example ") for line in first.stdout.splitlines())
    assert first.stdout != ""
    assert "120 markets checked, 0 skipped" in first.stderr
    assert len(named["markets"]) == 120
    assert again.stdout == ""
    assert "0 markets checked, 120 skipped" in again.stderr
    assert "120 of 120, such as example-01: its newest price was checked before" in again.stderr


def test_replayed_prices_teach_the_service_nothing(
    watch: Terminal, narrow: Site, tmp_path: Path
) -> None:
    now = int(time.time()) // 300 * 300  # noqa: TID251 - a command has real time
    rows = "".join(f"{now - 300 * i},0.4{i % 2}\n" for i in range(39, -1, -1))
    (tmp_path / "rain.csv").write_text("ts,price\n" + rows)
    seen = [counted(narrow)]
    for source in ("replay", tmp_path / "rain.csv"):
        watch("--source", source)
        seen.append(counted(narrow))

    assert seen[1] == seen[0]
    assert seen[2] == seen[1] + 1


def counted(site: Site) -> int:
    """Number of answers that count as those of callers."""
    status = httpx.get(f"{site.url}/tsfm/status", trust_env=False).json()
    return int(status["requests"]["total"])


def test_alerts_are_json_lines_and_posted_to_a_webhook(
    watch: Terminal, hook: tuple[str, list[Any]]
) -> None:
    address, got = hook
    done = watch("--source", "replay", "--json", "--webhook", address)

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines
    assert got == lines
    assert {"id", "market_id", "severity", "breach", "price"} <= lines[0].keys()


def test_slack_gets_texts(watch: Terminal, hook: tuple[str, list[Any]]) -> None:
    address, got = hook
    done = watch("--source", "replay", "--slack", "--webhook", address)

    assert [one["text"] for one in got] == done.stdout.splitlines()


def test_watch_list_chooses_the_markets_and_their_rules(watch: Terminal, tmp_path: Path) -> None:
    listed = tmp_path / "list.yaml"
    rules = "severity: holds, levels: [0.2, 0.8]"
    listed.write_text(f"markets: [example-01, {{id: example-02, {rules}}}]")
    done = watch("--source", "replay", "--list", listed)

    assert "2 markets checked, 0 skipped" in done.stderr


def test_cycle_says_which_checks_are_not_by_the_model_and_which_markets_are_not_there(
    watch: Terminal, narrow: Site
) -> None:
    narrow.bench.model.outcome = ModelFailure(FallbackReason.RUNTIME_ERROR, BreakerState.CLOSED)
    done = watch("--market", "example-01", "--market", "typo", "--model", "chronos2")

    assert "1 of 1 not by the model: runtime_error 1" in done.stderr
    assert "1 of 1, such as typo: the source does not have it" in done.stderr
    assert narrow.bench.model.requests[-1].key.model == "chronos2"


def test_market_that_the_service_refuses_has_the_reason(watch: Terminal) -> None:
    assert "the service refused it: " in watch("--model", "unheard-of").stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", "unheard-of"], "is no file, no URL, and none of replay"),
        (["--freq", "5x"], "--freq 5x: write it like 5m, 1h or 1d"),
        (["--map", "price"], "--map: write the names like price=lastPrice"),
        (["--list", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["--url", "ftp://x"], "--url: 'ftp://x' is no address"),
        (["--webhook", "hooks.example.com"], "--webhook: write an address that begins with http"),
        (["--state", "/nowhere/watch.db"], "--state /nowhere/watch.db: cannot be used"),
    ],
)
def test_wrong_option_is_said_at_once(watch: Terminal, words: list[str], message: str) -> None:
    done = watch(*words)

    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("markets: []", "markets: List should have at least 1 item"),
        ("markets: [{id: a, level: 3}]", "markets.0.level: Extra inputs"),
        ("markets: [{id: a, p_value: 2}]", "markets.0.p_value"),
        ("[1, 2", "is not YAML"),
        ("7", "the file: Input should be"),
    ],
)
def test_wrong_watch_list_is_named(
    watch: Terminal, tmp_path: Path, text: str, message: str
) -> None:
    listed = tmp_path / "list.yaml"
    listed.write_text(text)
    done = watch("--list", listed)

    assert done.exit_code == 2
    assert f"{listed}" in done.stderr
    assert message in done.stderr


def test_service_that_does_not_answer_fails_the_cycle(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    done = run(f"http://127.0.0.1:{port}", tmp_path / "watch.db", "--source", "replay")

    assert (done.exit_code, done.stdout) == (1, "")
    assert "failed: " in done.stderr


def test_metrics_are_answered_on_a_port_of_this_machine(watch: Terminal) -> None:
    from serve_app.watch.cycle import Outcome
    from serve_app.watch.metrics import WatchMetrics

    metrics = WatchMetrics()
    metrics.count(1.5, Outcome(skipped={"a": "it is closed"}))
    metrics.count(60.0, None)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    metrics.serve(port)

    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    assert 'tsfm_watch_cycles_total{result="ok"} 1.0' in text
    assert 'tsfm_watch_cycles_total{result="failed"} 1.0' in text
    assert 'tsfm_watch_markets{state="skipped"} 1.0' in text
    taken = watch("--metrics-port", port)
    assert taken.exit_code == 2
    assert f"--metrics-port {port}: " in taken.stderr


@pytest.mark.parametrize(("rank", "read"), [("volume", 30), ("activity", 60), ("skill", 60)])
def test_other_ranks_choose_from_twice_as_many_markets_of_an_exchange(
    watch: Terminal, monkeypatch: pytest.MonkeyPatch, rank: str, read: int
) -> None:
    asked: list[int] = []

    def named(name: str, markets: Any, top: int, *_: Any) -> Replay:
        asked.append(top)
        return Replay()

    monkeypatch.setattr(sources, "named", named)
    watch("--source", "polymarket", "--top", 30, "--rank", rank)

    assert asked == [read]
