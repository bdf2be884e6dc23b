import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from serve_app.cli.bench import repository
from tests.builders import ROOT

COMMANDS = (
    *("serve", "forecast", "models", "status", "breaker", "check-config", "backtest", "calibrate"),
    "bench",
)
terminal = CliRunner()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "bench"])
def test_help_of_every_command_shows_an_example(command: str) -> None:
    result = terminal.invoke(app, [command, "--help"])

    assert result.exit_code == 0
    assert f"\n    tsfm {command}" in result.stdout.split("Example")[1]  # on a line of its own
    assert "\\b" not in result.stdout


def test_help_lists_every_command_without_loading_what_is_heavy() -> None:
    script = (
        "import sys; from serve_app.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'ray', 'httpx', 'numpy', 'starlette', 'plotext', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert [name for name in COMMANDS if f"  {name}" not in shown.stdout] == []


def test_sound_files_are_listed_on_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = terminal.invoke(app, ["check-config", "configs/local.yaml"])

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "ok     configs/local.yaml (configuration)\n"


def test_one_wrong_file_costs_exit_code_2_and_a_line_on_stderr(tmp_path: Path) -> None:
    good, wrong = str(ROOT / "configs/local.yaml"), str(tmp_path / "none.yaml")
    result = terminal.invoke(app, ["check-config", wrong, good])

    assert result.exit_code == 2
    assert result.stdout.count("\n") == 1
    assert result.stderr == f"wrong  {wrong}: cannot be read (No such file or directory)\n"


def test_check_config_for_programs(tmp_path: Path) -> None:
    wrong = str(tmp_path / "none.yaml")
    result = terminal.invoke(app, ["check-config", "--json", wrong])

    [row] = json.loads(result.stdout)
    assert (row["file"], row["kind"]) == (wrong, None)
    assert "cannot be read" in row["error"]


def test_serve_refuses_a_config_that_cannot_be_used(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("applications: 5\n", "utf-8")
    result = terminal.invoke(app, ["serve", "--config", str(wrong)])

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("The service cannot start: ")


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["serve"], "serve_config.yaml"),
        (["serve", "--prod"], "deploy/serve_config.prod.yaml"),
        (["backtest", "prices.csv"], "configs/local.yaml"),
        (["calibrate", "prices.csv", "--out", "state.json"], "configs/local.yaml"),
    ],
)
def test_command_that_needs_the_repository_says_where_to_run_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str], file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = terminal.invoke(app, command)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"There is no {file} here: run this in the folder of TSFM")


def test_file_that_several_name_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = terminal.invoke(app, ["check-config", "serve_config.yaml", "configs/local.yaml"])

    assert result.exit_code == 0
    assert result.stdout.count("ok     configs/local.yaml") == 1


def test_bench_is_there_with_the_repository_only(tmp_path: Path) -> None:
    assert repository([tmp_path, ROOT]) == ROOT
    assert repository([tmp_path]) is None


def test_bench_hands_its_options_to_the_load_test() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "serve_app.cli", "bench", "--requests", "none"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert shown.returncode == 2
    assert "'none' is not a whole number" in shown.stderr
