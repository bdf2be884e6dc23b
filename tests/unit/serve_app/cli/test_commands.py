import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from tests.support.builders import ROOT

COMMANDS = (
    *(
        "serve",
        "forecast",
        "models",
        "leaderboard",
        "status",
        "breaker",
        "check-config",
        "config",
        "backtest",
    ),
    *("calibrate", "bench"),
)
terminal = CliRunner()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "bench"])
def test_help_of_every_command_shows_an_example(command: str) -> None:
    result = terminal.invoke(app, [command, "--help"])

    assert result.exit_code == 0
    assert f"\n    tsfm {command}" in result.stdout.split("Example")[1]  # on a line of its own
    assert "\\b" not in result.stdout


def test_help_lists_every_command_without_slow_imports() -> None:
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


def test_valid_files_are_listed_once_on_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = terminal.invoke(app, ["check-config", "serve_config.yaml", "configs/local.yaml"])

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "ok     serve_config.yaml (Serve config)\nok     configs/local.yaml (configuration)\n"
    )


def test_one_wrong_file_means_exit_code_2_and_a_line_on_stderr(tmp_path: Path) -> None:
    good, wrong = str(ROOT / "configs/local.yaml"), str(tmp_path / "none.yaml")
    result = terminal.invoke(app, ["check-config", wrong, good])
    printed = terminal.invoke(app, ["check-config", "--json", wrong])

    error = f"{wrong}: cannot be read (No such file or directory)"
    assert (result.exit_code, printed.exit_code) == (2, 2)
    assert result.stdout.count("\n") == 1
    assert result.stderr == f"wrong  {error}\n"
    assert json.loads(printed.stdout) == [{"file": wrong, "kind": None, "error": error}]


def test_config_shows_each_setting_with_its_origin_and_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TSFM_REQUEST__DEADLINE_MS", "300")
    result = terminal.invoke(app, ["config", str(ROOT / "configs/local.yaml")])
    printed = terminal.invoke(app, ["config", str(ROOT / "configs/local.yaml"), "--json"])

    assert json.loads(printed.stdout)["slo.p95_ms"] == {"value": 300.0, "origin": "file"}
    assert (result.exit_code, result.stderr) == (0, "")
    rows = {
        line.split(maxsplit=2)[0]: line.split(maxsplit=2)[1:] for line in result.stdout.splitlines()
    }
    assert rows["request.deadline_ms"] == ["environment", "300.0"]
    assert rows["request.freq"] == ["file", "5m"]
    assert rows["baseline.level_alphas"] == ["default", "[0.5, 0.2]"]
    assert rows["conformal.state_file"] == ["file", "null"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["serve", "--config"], "The service cannot start: "),
        (["config"], "request.horizon_steps: Field required"),
    ],
)
def test_invalid_file_means_exit_code_2(tmp_path: Path, command: list[str], words: str) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("request: {freq: 5m}\n", "utf-8")
    result = terminal.invoke(app, [*command, str(wrong)])

    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_command_outside_the_repository_names_the_folder_to_run_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    result = terminal.invoke(app, ["serve", "--prod"])

    assert result.exit_code == 2
    assert "There is no deploy/serve_config.prod.yaml here: run this in the" in result.stderr


def test_settings_outside_the_repository_are_those_of_the_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inside = terminal.invoke(app, ["config"]).stdout
    monkeypatch.chdir(tmp_path)

    assert terminal.invoke(app, ["config"]).stdout == inside


def test_bench_passes_its_options_to_the_load_test() -> None:
    command = [sys.executable, "-m", "serve_app.cli", "bench", "--requests", "none"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert shown.returncode == 2
    assert "'none' is not a number" in shown.stderr


def test_bench_needs_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("serve_app.cli.local_commands.CHECKOUT", tmp_path)
    result = terminal.invoke(app, ["bench"])

    assert result.exit_code == 2
    assert "install tsfm from there" in result.stderr


def test_version_is_the_one_that_is_installed() -> None:
    result = terminal.invoke(app, ["--version"])

    assert result.exit_code == 0
    assert result.output == f"tsfm {version('tsfm-runner')}\n"
