"""The commands that ask a running service, on a port of its own: they talk real HTTP."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from runner.config.sections import Pin, RoutingMode
from serve_app.cli import app
from serve_app.cli.service_commands import keep_showing
from serve_app.cli.terminal import exit_code_of
from serve_app.cli.views import chart, show_many, show_one, status_view
from tests.support.builders import make_config
from tests.support.client_service import forecast_of
from tests.support.learning import NARROW, make_learning
from tests.support.site import running_site
from tests.support.status import make_status
from tsfm_client import Forecast
from tsfm_client.answers import service_error

Y = [0.4, 0.41, 0.42, 0.43] * 10


Terminal = Callable[..., Any]


def run(url: str, *words: object, stdin: str | None = None) -> Any:
    """Runs the command for the service with this address."""
    variables = {"TSFM_URL": url, "TSFM_TOKEN": ""}
    return CliRunner().invoke(app, [str(w) for w in words], input=stdin, env=variables)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_site() as site:
        yield site.url


@pytest.fixture
def tsfm(url: str) -> Terminal:
    return partial(run, url)


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


def test_forecast_as_json_is_the_answer_of_the_service(tsfm: Terminal, market: Path) -> None:
    result = tsfm("forecast", market, "--json", "--conformal", "--as-of", "2026-02-20T21:45:00Z")

    answer = json.loads(result.stdout)
    assert (answer["market_id"], answer["freq"]) == ("prices", "15m")
    assert answer["yhat_q_conformal"] is None
    assert answer["meta"]["model_requested"] == "chronos"


def test_percentages_are_forecast_on_request_and_assumed_utc_is_noted(tsfm: Terminal) -> None:
    table = "date,prob\n" + "".join(f"2026-02-{day:02},{day + 40}\n" for day in range(1, 29))
    refused = tsfm("forecast", "-", stdin=table)
    result = tsfm("forecast", "-", "--percent", stdin=table)

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "stdin: row 1 (line 2), column prob: probabilities lie between 0 and 1" in refused.stderr
    assert result.stdout.startswith("stdin, last value 0.680, from ewma (too_few_points)")
    assert result.stderr == "stdin: the times have no zone; UTC is assumed\n"


def test_forecast_shows_the_fallback_reason(tsfm: Terminal) -> None:
    result = tsfm("forecast", "-", stdin="0.41\n0.42\n0.44\n")

    assert result.exit_code == 0
    assert "stdin, last value 0.440, from ewma (too_few_points)" in result.stdout


def test_several_markets_are_a_line_each_and_a_refused_one_is_named(
    tsfm: Terminal, markets: Path
) -> None:
    result = tsfm("forecast", markets)
    chosen = tsfm("forecast", markets, "--market", "good", "--points", "35")

    lines = result.stdout.splitlines()
    assert chosen.stdout.startswith("good, ")
    assert [line.split()[0] for line in lines] == ["market", "good"]
    assert result.stderr.startswith("bad: invalid_request: y.39: Probabilities lie")
    assert result.exit_code == 2


def test_bands_are_written_as_csv_and_json(tsfm: Terminal, markets: Path, tmp_path: Path) -> None:
    table, results = tmp_path / "bands.csv", tmp_path / "bands.json"
    tsfm("forecast", markets, "--out", table)
    printed = tsfm("forecast", markets, "--out", results, "--json")

    rows = list(csv.DictReader(table.read_text().splitlines()))
    [good, bad] = json.loads(results.read_text())["results"]
    assert len(rows) == 12 * 3
    assert rows[0]["warnings"] == ";".join(good["ok"]["meta"]["warnings"])
    assert rows[0]["market_id"] == good["ok"]["market_id"] == "good"
    assert (rows[0]["step"], rows[0]["level"], float(rows[0]["value"])) == ("1", "0.1", 0.3)
    assert bad["error"]["detail"][0]["path"] == "y.39"
    assert [list(item) for item in json.loads(printed.stdout)["results"]] == [["ok"], ["error"]]


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        *((code, 2) for code in ("invalid_request", "unknown_model")),
        *((code, 1) for code in ("unauthorized", "rate_limited", "internal_error", "new_code")),
    ],
)
def test_exit_code_2_is_for_input_that_the_caller_can_change(code: str, exit_code: int) -> None:
    assert exit_code_of(service_error(0, {"code": code, "message": "No."})) == exit_code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--horizon", "9999"], "invalid_request: horizon_steps: Ask for at most 512"),
        (["--levels", "a,b"], "--levels a,b: write numbers"),
        (["--out", "x.txt"], "--out x.txt: end the name in .csv or .json"),
        (
            ["--out", "/nowhere/x.csv"],
            "--out /nowhere/x.csv: cannot be written; is there a folder /nowhere?",
        ),
        (["--url", "hallo"], "--url: 'hallo' is no address"),
        (["--horizon", "soon"], "Invalid value for '--horizon'"),
        (["--market", "ugly"], "contains none of the requested markets"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    tsfm: Terminal, market: Path, words: list[str], message: str
) -> None:
    result = tsfm("forecast", market, *words)

    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["models"], ["status"], ["breaker", "reset", "mock"]])
def test_service_that_is_not_reachable_is_one_sentence(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the pause between two attempts
    result = run("http://127.0.0.1:9", *command)

    assert result.exit_code == 2
    assert result.stderr == (
        "The service at http://127.0.0.1:9 cannot be reached: "
        "nothing listens there, or the name is unknown. Its address is set by --url or TSFM_URL.\n"
    )


def test_models_are_listed_with_licence_inputs_and_skill(tsfm: Terminal) -> None:
    shown, printed = tsfm("models"), tsfm("models", "--json")
    rows = {line.split()[0]: line for line in shown.stdout.splitlines()}

    models = {model["name"]: model for model in json.loads(printed.stdout)}
    assert models["fracast-0"]["license"] == "Apache-2.0"
    assert "chronos" in models["fracast-0"]["aliases"]
    assert models["fracast-0"]["skill_source"].endswith("docs/measurements.md")
    assert models["timesfm-2.5-200m"]["levels"] == [i / 10 for i in range(1, 10)]
    assert "research only" in rows["moirai-2.0-R-small"]
    assert "past and future" in rows["chronos2"]
    assert "0.01 to 0.99" in rows["chronos2"]
    assert "not measured" in rows["chronos2"]
    assert "-0.21" in rows["fracast-0"]
    assert "fracast-0: A small model for trying the service." in shown.stdout


def test_breaker_command_prints_the_new_state(tsfm: Terminal) -> None:
    opened = tsfm("breaker", "open", "chronos")
    reset = tsfm("breaker", "reset", "chronos", "--json")

    assert opened.stdout == "The breaker of chronos is forced open now.\n"
    assert json.loads(reset.stdout) == {"model": "chronos", "state": "closed"}
    assert tsfm("breaker", "explode", "chronos").exit_code == 2


def shown(view: Any, width: int = 120) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


@pytest.mark.parametrize(
    "words",
    ["up 1:30:00", "4312 requests", "breaker_open 40", "in flight 7", "in 74 s", "81.2%"],
)
def test_status_shows_requests_breakers_and_coverage(words: str) -> None:
    assert words in shown(status_view(make_status()))


def test_status_of_a_service_that_just_started_is_short() -> None:
    text = shown(status_view({"version": "0.1.0", "requests": {}}))

    assert text.count("\n") == 3
    assert "no breaker states are known yet" in text
    assert "single requests: none" in text


def test_watching_shows_the_status_again_until_an_interrupt() -> None:
    shown_statuses: list[Any] = []

    def pause() -> None:
        if len(shown_statuses) == 3:
            raise KeyboardInterrupt

    keep_showing(lambda: {"n": len(shown_statuses)}, shown_statuses.append, pause)

    assert shown_statuses == [{"n": 0}, {"n": 1}, {"n": 2}]


def make_forecast(**meta: Any) -> Forecast:
    body = {"market_id": "m-1", "as_of_ts": "2026-02-20T12:00:00Z", "y": Y}
    last: dict[str, Any] = {"q10": 0.1, "q50": 0.4, "q90": 0.8, "target_coverage": 0.8}
    last |= {"sample_size": 412, "segment": "all"}
    answer = forecast_of(body)
    return Forecast(answer | {"conformal_last_step": last, "meta": answer["meta"] | meta})


def test_terminal_shows_a_chart_and_the_calibrated_last_step() -> None:
    console = Console(width=90, force_terminal=True, no_color=True, highlight=False)
    with console.capture() as capture:
        show_one(console, make_forecast(), Y)

    assert "┌" in capture.get()
    assert "0.1 to 0.8, for a coverage of 80%" in capture.get()


def test_several_markets_show_how_many_bands_were_widened() -> None:
    console = Console(width=200)
    with console.capture() as capture:
        show_many(console, [(make_forecast(warnings=["interval_widened"]), Y)] * 2)

    assert "2 of 2 forecasts have steps that were widened" in capture.get()


def test_several_markets_show_fallbacks_and_an_error_once(tsfm: Terminal) -> None:
    short = json.dumps({"a": [0.4, 0.4, 0.4], "b": [0.4, 0.4, 0.4]})
    result = tsfm("forecast", "-", stdin=short)
    refused = tsfm("forecast", "-", "--model", "nothing", stdin=short)

    assert result.stderr.splitlines()[-1].startswith("2 of 2 from the baseline: too_few_points; ")
    assert refused.stderr.count("unknown_model") == 1
    assert refused.stderr.endswith("See `tsfm models`.\n")


def test_names_are_not_read_as_markup(tsfm: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({"[red]a[/b]": Y, ":smile:": Y}))
    result = tsfm("forecast", path)

    assert result.exit_code == 0
    assert "[red]a[/b]" in result.stdout
    assert ":smile:" in result.stdout


def test_chart_fits_the_terminal_takes_gaps_and_has_colour_where_wanted() -> None:
    past, forecast = [0.4, None, 0.45] * 20, make_forecast()
    plain = chart(forecast, past, 60, colour=False)
    lines = shown(plain, 60).splitlines()

    assert max(len(line) for line in lines) <= 60
    assert any(mark >= "⠉" for line in lines for mark in line)
    assert plain.spans == []
    assert chart(forecast, past, 60, colour=True).spans != []


def test_leaderboard_shows_each_segment_with_its_verdict() -> None:
    with running_site(learning=make_learning()) as site:
        shown = run(site.url, "leaderboard")
        as_json = json.loads(run(site.url, "leaderboard", "--json").stdout)

    rows = [line.split() for line in shown.stdout.splitlines()]
    assert rows[1][:4] == ["fracast-0", "all", "60", "-1.000"]
    assert rows[1][-5:] == ["worse", "model", "(enforce:", "baseline,", "skill)"]
    assert rows[2][-2:] == ["undecided", "model"]
    assert "routing.mode is observe" in shown.stdout
    assert [one["verdict"] for one in as_json["skill"]] == ["worse", "undecided"]
    assert "0.200 (0.100)" in shown.stdout
    assert "fracast-0: drop: worse than the baseline" in shown.stdout
    assert "calibrated bands hold 58% (too few, with evidence" in shown.stdout
    assert "ewma: the baseline; no calibrated forecast is scored yet" in shown.stdout


@pytest.mark.parametrize(
    ("pins", "answers"),
    [
        ({}, ["baseline (skill)", "model"]),
        ({"all": Pin.MODEL}, ["model (pin)", "model (pin)"]),
        ({NARROW: Pin.BASELINE}, ["baseline (skill)", "baseline (pin)"]),
    ],
)
def test_leaderboard_of_enforce_says_what_answers_and_why(
    pins: dict[str, Pin], answers: list[str]
) -> None:
    routing = {"mode": RoutingMode.ENFORCE, "pins": pins}
    with running_site(make_config(routing=routing), learning=make_learning()) as site:
        shown = run(site.url, "leaderboard").stdout.splitlines()

    assert NARROW in shown[2]
    ends = [line.rstrip().endswith(text) for line, text in zip(shown[1:3], answers, strict=True)]
    assert ends == [True, True]


def test_leaderboard_of_a_service_that_has_scored_nothing_says_so(tsfm: Terminal) -> None:
    assert "Nothing is scored yet" in tsfm("leaderboard").stdout
