import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from runner.calibration.state import load_state
from serve_app.cli import app
from tests.support.builders import ROOT
from tests.support.markets import write_markets

terminal = CliRunner()
SVG = "{http://www.w3.org/2000/svg}svg"
SMALL = ["--points", "40", "--horizon", "4", "--origins", "20", "--processes", "1"]


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_markets(tmp_path_factory.mktemp("data") / "prices.csv", count=40, steps=150)


def options(folder: Path) -> list[str]:
    return [*SMALL, "--work", str(folder), "--config", str(ROOT / "configs/local.yaml")]


def test_a_backtest_prints_tables_and_writes_json_and_a_page(prices: Path, tmp_path: Path) -> None:
    files = ["--save", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    files += ["--charts", str(tmp_path / "charts"), "--splits", "2"]
    ran = terminal.invoke(app, ["backtest", str(prices), *options(tmp_path), *files])
    result: dict[str, Any] = json.loads((tmp_path / "r.json").read_text("utf-8"))
    page = (tmp_path / "r.html").read_text("utf-8")

    assert ran.exit_code == 0, ran.output
    assert "What the width limits cost" in ran.stdout
    assert "ewma, calibrated" in ran.stdout
    assert result["data"]["windows"] == 40 * 20
    assert result["sources"]["baseline"]["all"]["points"] == 40 * 20 * 4
    assert result["against_flat"]["flat recipe"] == 0
    assert page.count("<svg") == 2
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "<script" not in page
    charts = [path.read_text("utf-8") for path in (tmp_path / "charts").glob("*.svg")]
    assert {ElementTree.fromstring(chart).tag for chart in charts} == {SVG}
    assert all(chart in page for chart in charts)
    assert " src=" not in page
    assert 'href="http' not in page


def test_alert_rules_are_compared_in_a_table_and_charts(tmp_path: Path) -> None:
    long = write_markets(tmp_path / "prices.csv", count=6, steps=400)
    command = ["backtest", str(long), "--alerts", "--config", str(ROOT / "configs/local.yaml")]
    ran = terminal.invoke(app, [*command, "--charts", str(tmp_path / "charts")])
    page = terminal.invoke(app, [*command, "--html", str(tmp_path / "r.html")])

    assert ran.exit_code == 0, ran.output
    assert "fixed threshold" in ran.stdout
    charts = sorted((tmp_path / "charts").glob("*.svg"))
    assert [chart.stem for chart in charts] == ["alerts-large", "alerts-worth"]
    assert {ElementTree.fromstring(chart.read_text("utf-8")).tag for chart in charts} == {SVG}
    assert (page.exit_code, "no --html" in page.output) == (2, True)


def test_calibrate_writes_a_state_that_the_service_reads(prices: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "state.json"
    command = ["calibrate", str(prices), *options(tmp_path), "--out", str(out)]
    ran = terminal.invoke(app, command)
    of_all = load_state(out, 0.8, ["ewma"]).tracks["ewma"]["all"]
    printed = json.loads(terminal.invoke(app, [*command, "--keep-held-out", "--json"]).stdout)
    of_part = load_state(out, 0.8, ["ewma"]).tracks["ewma"]["all"]

    assert ran.exit_code == 0, ran.output
    assert "ewma, calibrated" in ran.stdout
    assert of_all.factors.shape == (4, 2)
    assert of_part.sample_size[0] < 0.7 * of_all.sample_size[0]
    assert printed["check"]
    smallest = int(of_part.sample_size.min())
    assert printed["state"][0] == {"source": "ewma", "segment": "all", "outcomes": smallest}


def test_too_little_data_does_not_replace_a_state_file(tmp_path: Path) -> None:
    few = write_markets(tmp_path / "few.csv", count=4, steps=60)
    out = tmp_path / "state.json"
    out.write_text("good", "utf-8")
    ran = terminal.invoke(app, ["calibrate", str(few), *options(tmp_path), "--out", str(out)])

    assert ran.exit_code == 2
    assert "are too few, conformal.min_samples is 200" in ran.stderr
    assert out.read_text("utf-8") == "good"


@pytest.mark.parametrize(
    ("option", "inside"), [("--html", ""), ("--work", "folder"), ("--save", "folder")]
)
def test_a_file_that_cannot_be_written_is_one_sentence(
    prices: Path, tmp_path: Path, option: str, inside: str
) -> None:
    path = prices / inside if inside else tmp_path
    command = ["backtest", str(prices), *options(tmp_path), "--no-references", option, str(path)]
    ran = terminal.invoke(app, command)

    assert ran.exit_code == 2
    assert "cannot be written (" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("library", "options_", "extra"),
    [("pyarrow", [], "backtest"), ("statsforecast", ["--statsforecast"], "reference")],
)
def test_a_missing_library_names_the_extra_to_install(
    prices: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    options_: list[str],
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    ran = terminal.invoke(app, ["backtest", str(prices), *options(tmp_path), *options_])

    assert ran.exit_code == 2
    assert f"needs {library}: pip install '.[{extra}]'" in ran.stderr


def test_a_split_in_time_has_one_split(prices: Path, tmp_path: Path) -> None:
    command = ["backtest", str(prices), *options(tmp_path), "--split", "time", "--json"]
    result = json.loads(terminal.invoke(app, command).stdout)

    assert result["calibration"]["splits"] == 1
    assert result["settings"]["split"] == "time"


def test_little_data_is_scored_without_calibration(tmp_path: Path) -> None:
    few = write_markets(tmp_path / "few.csv", count=4, steps=60)
    ran = terminal.invoke(app, ["backtest", str(few), *options(tmp_path)])

    assert ran.exit_code == 0, ran.output
    assert "Too few moving windows" in ran.stderr
