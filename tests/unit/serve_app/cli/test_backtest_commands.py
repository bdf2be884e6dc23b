import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runner.calibration.state import load_state
from serve_app.cli import app
from tests.support.builders import ROOT
from tests.support.markets import write_markets

terminal = CliRunner()
SMALL = ["--points", "40", "--horizon", "4", "--origins", "20", "--processes", "1", "--splits", "2"]


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_markets(tmp_path_factory.mktemp("data") / "prices.csv", count=40, steps=150)


def options(folder: Path) -> list[str]:
    return [*SMALL, "--work", str(folder), "--config", str(ROOT / "configs/local.yaml")]


def test_a_backtest_prints_tables_and_writes_json_and_a_page(prices: Path, tmp_path: Path) -> None:
    files = ["--save", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    files += ["--charts", str(tmp_path / "charts")]
    ran = terminal.invoke(app, ["backtest", str(prices), *options(tmp_path), *files])
    result: dict[str, Any] = json.loads((tmp_path / "r.json").read_text("utf-8"))
    page = (tmp_path / "r.html").read_text("utf-8")

    assert ran.exit_code == 0, ran.output
    assert "What the width limits cost" in ran.stdout
    assert "ewma, calibrated" in ran.stdout
    assert result["data"]["windows"] == 40 * 20
    assert result["sources"]["baseline"]["all"]["points"] == 40 * 20 * 4
    assert result["against_flat"]["flat recipe"] == 0
    assert len(result["examples"]) == 6
    assert page.count("<svg") == 3
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "<script" not in page
    assert (tmp_path / "charts/coverage.svg").read_text("utf-8") in page
    assert " src=" not in page
    assert 'href="http' not in page


def test_a_second_run_takes_up_what_the_first_one_finished(prices: Path, tmp_path: Path) -> None:
    command = ["backtest", str(prices), *options(tmp_path), "--no-references", "--json"]
    first = terminal.invoke(app, command)
    [folder] = tmp_path.iterdir()
    kept = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    second = terminal.invoke(app, command)

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == kept
    assert json.loads(first.stdout) == json.loads(second.stdout)


def test_calibrate_writes_a_state_that_the_service_takes(prices: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "state.json"
    small = [option for option in options(tmp_path) if option not in ("--splits", "2")]
    ran = terminal.invoke(app, ["calibrate", str(prices), *small, "--out", str(out)])
    state = load_state(out, 0.8, ["ewma"])

    assert ran.exit_code == 0, ran.output
    assert "ewma, calibrated" in ran.stdout
    assert state.tracks["ewma"]["all"].factors.shape == (4, 2)


def test_calibrate_for_programs_has_the_check_and_what_the_file_holds(
    prices: Path, tmp_path: Path
) -> None:
    small = [option for option in options(tmp_path) if option not in ("--splits", "2")]
    out = ["--out", str(tmp_path / "state.json"), "--json"]
    ran = terminal.invoke(app, ["calibrate", str(prices), *small, *out])
    told = json.loads(ran.stdout)

    assert told["state"][0]["source"] == "ewma"
    assert told["state"][0]["segment"] == "all"
    assert told["state"][0]["outcomes"] > 0
    assert told["check"]


def test_held_out_events_can_be_kept_out_of_the_state(prices: Path, tmp_path: Path) -> None:
    small = [option for option in options(tmp_path) if option not in ("--splits", "2")]
    sizes = []
    for extra in ([], ["--keep-held-out"]):
        out = tmp_path / "state.json"
        terminal.invoke(app, ["calibrate", str(prices), *small, "--out", str(out), *extra])
        sizes.append(load_state(out, 0.8, ["ewma"]).tracks["ewma"]["all"].sample_size[0])

    assert sizes[1] < 0.7 * sizes[0]


def test_too_little_data_leaves_a_good_state_file_alone(tmp_path: Path) -> None:
    few = write_markets(tmp_path / "few.csv", count=4, steps=60)
    out = tmp_path / "state.json"
    out.write_text("good", "utf-8")
    small = [option for option in options(tmp_path) if option not in ("--splits", "2")]
    ran = terminal.invoke(app, ["calibrate", str(few), *small, "--out", str(out)])

    assert ran.exit_code == 2
    assert "are too few, conformal.min_samples is 200" in ran.stderr
    assert out.read_text("utf-8") == "good"


def test_a_wrong_file_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("market_id,ts,price\na,0,0.5\na,300,7\n", "utf-8")
    ran = terminal.invoke(app, ["backtest", str(file), *options(tmp_path)])

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith("bad.csv: row 2 (line 3), column price: must lie between 0 and 1")
    assert "Traceback" not in ran.stderr


def test_a_page_that_cannot_be_written_is_said(prices: Path, tmp_path: Path) -> None:
    where = ["--html", str(tmp_path), "--no-references"]
    ran = terminal.invoke(app, ["backtest", str(prices), *options(tmp_path), *where])

    assert ran.exit_code == 2
    assert "cannot be written (Is a directory)" in ran.stderr


@pytest.mark.parametrize("option", ["--work", "--save"])
def test_folder_that_cannot_be_made_is_said(prices: Path, tmp_path: Path, option: str) -> None:
    inside_a_file = ["--no-references", option, str(prices / "folder")]
    ran = terminal.invoke(app, ["backtest", str(prices), *options(tmp_path), *inside_a_file])

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
    assert f"needs {library}, which is not installed: pip install '.[{extra}]'" in ran.stderr


def test_a_split_in_time_judges_the_latest_windows(prices: Path, tmp_path: Path) -> None:
    command = ["backtest", str(prices), *options(tmp_path), "--split", "time", "--json"]
    result = json.loads(terminal.invoke(app, command).stdout)

    assert result["calibration"]["splits"] == 1
    assert result["settings"]["split"] == "time"


def test_little_data_is_judged_without_calibration(tmp_path: Path) -> None:
    few = write_markets(tmp_path / "few.csv", count=4, steps=60)
    ran = terminal.invoke(app, ["backtest", str(few), *options(tmp_path)])

    assert ran.exit_code == 0, ran.output
    assert "Too few moving windows" in ran.stderr
