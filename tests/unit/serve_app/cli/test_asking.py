"""The commands that ask a running service."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from serve_app.cli.bands_view import chart, show_one
from serve_app.cli.commands.status import keep_showing
from serve_app.cli.status_view import status_view
from serve_app.cli.terminal import exit_code_of
from serve_app.client import Forecast
from serve_app.client.errors import service_error
from tests.support.client_service import META
from tests.unit.serve_app.cli.conftest import STATUS
from tests.unit.serve_app.cli.terminal import Terminal

Y = [0.4, 0.41, 0.42, 0.43] * 10


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """Forty values, a quarter of an hour apart."""
    rows = "".join(f"{1771588800 + i * 900},{y}\n" for i, y in enumerate(Y))
    path = tmp_path / "prices.csv"
    path.write_text("ts,price\n" + rows)
    return path


@pytest.fixture
def markets(tmp_path: Path) -> Path:
    """Two markets, one of which the service refuses."""
    rows = [f"{m},{1771588800 + i * 300},{y}" for m in ("good", "bad") for i, y in enumerate(Y)]
    rows[-1] = rows[-1].replace("0.43", "7")
    path = tmp_path / "markets.csv.gz"
    path.write_bytes(gzip.compress("\n".join(["market_id,ts,price", *rows]).encode()))
    return path


def test_forecast_shows_source_and_every_step(tsfm: Terminal, market: Path) -> None:
    result = tsfm("forecast", market, "--horizon", "3", "--levels", "0.1,0.9")

    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert lines[0].startswith("prices, last value 0.430, from fracast-0 in ")
    assert lines[2].split() == ["step", "time", "(UTC)", "0.1", "0.9"]
    assert lines[3].split() == ["1", "2026-02-20", "22:00", "0.3000", "0.6000"]
    assert len(lines) == 6


def test_forecast_for_programs_is_the_services_answer(tsfm: Terminal, market: Path) -> None:
    result = tsfm("forecast", market, "--json", "--conformal", "--as-of", "2026-02-20T21:45:00Z")

    answer = json.loads(result.stdout)
    assert (answer["market_id"], answer["freq"]) == ("prices", "15m")
    assert answer["yhat_q_conformal"] is None
    assert answer["meta"]["model_requested"] == "chronos"


def test_forecast_falls_back_and_says_why(tsfm: Terminal) -> None:
    result = tsfm("forecast", "-", stdin="0.41\n0.42\n0.44\n")

    assert result.exit_code == 0
    assert "stdin, last value 0.440, from ewma (too_few_points)" in result.stdout


def test_several_markets_are_a_line_each_and_a_refused_one_is_named(
    tsfm: Terminal, markets: Path
) -> None:
    result = tsfm("forecast", markets)

    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["market", "good"]
    assert result.stderr.startswith("bad: invalid_request: y.39: Probabilities lie")
    assert result.exit_code == 2


def test_market_can_be_picked(tsfm: Terminal, markets: Path) -> None:
    result = tsfm("forecast", markets, "--market", "good", "--points", "35")
    none = tsfm("forecast", markets, "--market", "ugly")

    assert result.stdout.startswith("good, ")
    assert (none.exit_code, none.stderr.count("\n")) == (2, 1)
    assert "contains none of the requested markets" in none.stderr


def test_bands_are_written_as_csv_and_json(tsfm: Terminal, markets: Path, tmp_path: Path) -> None:
    table, results = tmp_path / "bands.csv", tmp_path / "bands.json"
    tsfm("forecast", markets, "--out", table)
    tsfm("forecast", markets, "--out", results)

    rows = list(csv.DictReader(table.read_text().splitlines()))
    items = json.loads(results.read_text())["results"]
    assert len(rows) == 12 * 3
    assert rows[0]["market_id"] == "good"
    assert (rows[0]["step"], rows[0]["level"], float(rows[0]["value"])) == ("1", "0.1", 0.3)
    assert [list(item) for item in items] == [["ok"], ["error"]]


def test_results_for_programs_keep_the_order_of_the_file(tsfm: Terminal, markets: Path) -> None:
    result = tsfm("forecast", markets, "--json")

    [good, bad] = json.loads(result.stdout)["results"]
    assert good["ok"]["market_id"] == "good"
    assert bad["error"]["detail"][0]["path"] == "y.39"


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (422, "invalid_request", 2),
        (404, "unknown_model", 2),
        (401, "unauthorized", 1),
        (429, "rate_limited", 1),
        (500, "internal_error", 1),
        (0, "something_new", 1),
    ],
)
def test_only_what_the_caller_can_change_in_the_input_is_wrong_input(
    status: int, code: str, exit_code: int
) -> None:
    error = service_error(status, {"code": code, "message": "No."})

    assert exit_code_of(error) == exit_code


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--model", "nobody"], 2, "unknown_model: No such model"),
        (["--horizon", "9999"], 2, "invalid_request: horizon_steps: Ask for at most 512"),
        (["--levels", "a,b"], 2, "--levels a,b: write numbers"),
        (["--out", "x.txt"], 2, "--out x.txt: end the name in .csv or .json"),
        (["--out", "/nowhere/x.csv"], 2, "--out /nowhere/x.csv: cannot be written"),
        (["--url", "hallo"], 2, "--url: 'hallo' is no address"),
        (["--horizon", "soon"], 2, "Invalid value for '--horizon'"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_an_exit_code(
    tsfm: Terminal, market: Path, words: list[str], code: int, said: str
) -> None:
    result = tsfm("forecast", market, *words)

    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["models"], ["status"], ["breaker", "reset", "mock"]])
def test_service_that_is_not_there_is_a_sentence(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the pause between two attempts
    result = Terminal({"TSFM_URL": "http://127.0.0.1:9"})(*command)

    assert result.exit_code == 2
    assert result.stderr == (
        "The service at http://127.0.0.1:9 cannot be reached: "
        "nothing listens there, or the name is unknown.\n"
    )


def test_models_are_listed_with_their_licences(tsfm: Terminal) -> None:
    shown, printed = tsfm("models"), tsfm("models", "--json")

    assert "fracast-0" in shown.stdout
    assert "research only" in shown.stdout
    assert json.loads(printed.stdout)[0]["license"] == "Apache-2.0"


def test_breaker_obeys_and_says_its_state(tsfm: Terminal) -> None:
    opened = tsfm("breaker", "open", "chronos")
    reset = tsfm("breaker", "reset", "chronos", "--json")

    assert opened.stdout == "The breaker of chronos is forced open now.\n"
    assert json.loads(reset.stdout) == {"model": "chronos", "state": "closed"}


def test_order_that_does_not_exist_is_wrong_usage(tsfm: Terminal) -> None:
    result = tsfm("breaker", "explode", "chronos")

    assert result.exit_code == 2
    assert "'open', 'close', 'reset'" in result.stderr


def shown(view: Any, width: int = 120) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_status_says_what_needs_attention() -> None:
    text = shown(status_view(STATUS))

    assert "TSFM Runner 0.1.0 in dev, up 1:02:05" in text
    assert "1234 requests, 4.1 /s, fallback 12.5%, from cache 50.0%, p50 12 ms, p95 - ms" in text
    assert "fallbacks by reason: breaker_open 7" in text
    assert "in flight 3, waiting for the model 12;" in text
    assert "in 42 s" in text
    assert "forced closed" in text
    assert "81.2%" in text


def test_status_of_a_service_that_just_started_is_short() -> None:
    text = shown(status_view({"version": "0.1.0", "requests": {}}))

    assert text.count("\n") == 3
    assert "no model has been called yet" in text


def test_watching_shows_every_look_until_it_is_enough() -> None:
    seen: list[Any] = []
    pauses = iter([False, False, True])
    keep_showing(lambda: {"n": len(seen)}, seen.append, lambda: next(pauses))

    assert seen == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_interrupt_ends_watching_without_a_word() -> None:
    def interrupt() -> bool:
        raise KeyboardInterrupt

    seen: list[Any] = []
    keep_showing(dict, seen.append, interrupt)

    assert seen == [{}]


def make_forecast() -> Forecast:
    wire = {
        "market_id": "m-1",
        "as_of_ts": "2026-02-20T12:00:00Z",
        "freq": "5m",
        "horizon_steps": 3,
        "quantiles": [0.1, 0.9],
        "yhat_q": {"0.1": [0.3, 0.2, 0.1], "0.9": [0.5, 0.6, 0.7]},
        "meta": META,
    }
    return Forecast(wire)


def test_terminal_gets_a_chart_and_the_calibrated_end() -> None:
    last = {"q10": 0.1, "q50": 0.4, "q90": 0.8, "target_coverage": 0.8}
    calibrated = {"conformal_last_step": last | {"sample_size": 412, "segment": "all"}}
    forecast = Forecast({**make_forecast().wire, **calibrated})
    console = Console(width=90, force_terminal=True, no_color=True, highlight=False)
    with console.capture() as capture:
        show_one(console, forecast, Y)

    assert "┌" in capture.get()
    assert "0.1 to 0.8, for a coverage of 80%" in capture.get()


def test_names_are_no_markup(tsfm: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({"[red]a[/b]": Y, ":smile:": Y}))
    result = tsfm("forecast", path)

    assert result.exit_code == 0
    assert "[red]a[/b]" in result.stdout
    assert ":smile:" in result.stdout


def test_chart_fits_the_terminal_and_takes_gaps() -> None:
    past = [0.4, None, 0.45] * 20
    lines = shown(chart(make_forecast(), past, 60, colour=False), 60).splitlines()

    assert max(len(line) for line in lines) <= 60
    assert any(mark >= "⠉" for line in lines for mark in line)


def test_colour_is_left_out_where_it_is_not_wanted() -> None:
    forecast = make_forecast()

    assert chart(forecast, Y, 60, colour=False).spans == []
    assert chart(forecast, Y, 60, colour=True).spans != []
