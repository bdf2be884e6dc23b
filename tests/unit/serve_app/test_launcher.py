import json
import socket
from pathlib import Path

import pytest
import yaml

from runner.errors import ConfigError
from serve_app.launcher import check_files, main, serve_environment
from tests.builders import ROOT
from tests.ray_env import ray_env

TOKENS = [
    {"name": "alerts", "sha256": "ab" * 32, "scopes": ["forecast"]},
    {"name": "alerts", "sha256": "cd" * 32, "scopes": ["forecast"]},
    {"name": "cycle", "sha256": "ef" * 32, "scopes": ["batch"]},
]


def write_serve_config(folder: Path, config: str, port: int) -> Path:
    values = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    values["http_options"] = {"host": "127.0.0.1", "port": port}
    values["applications"][0]["args"]["config"] = str(ROOT / config)
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def test_prod_without_tokens_does_not_start_and_says_why_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_serve_config(tmp_path, "configs/prod.yaml", free_port())
    monkeypatch.chdir(tmp_path)

    code = main()

    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("The service cannot start: ")
    assert "TSFM_SECURITY__TOKENS" in said
    assert said.count("\n") == 1


def test_prod_with_tokens_may_start_and_shows_them_in_its_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSFM_SECURITY__TOKENS", json.dumps(TOKENS))
    target = check_files(write_serve_config(tmp_path, "configs/prod.yaml", free_port()))

    assert target.access == "Callers need a token; 2 have one."
    assert '-H "authorization: Bearer $TOKEN" -d' in target.example


def test_local_service_says_that_it_asks_for_no_token(tmp_path: Path) -> None:
    port = free_port()
    target = check_files(write_serve_config(tmp_path, "configs/local.yaml", port))

    assert target.access == "No tokens are configured: whoever reaches this port may call."
    assert target.url == f"http://127.0.0.1:{port}"
    assert "authorization" not in target.example


def test_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = write_serve_config(tmp_path, "configs/local.yaml", port)

        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} is taken"):
            check_files(path)


def test_a_local_service_has_what_every_node_of_a_cluster_has() -> None:
    wanted = ray_env()
    assert wanted.pop("RAY_AUTH_MODE") == "token"  # nobody else reaches a Ray on loopback

    assert serve_environment({}, "linux").items() >= wanted.items()


def test_high_throughput_mode_is_on_where_it_exists_unless_decided_otherwise() -> None:
    decided = {"RAY_SERVE_ENABLE_HA_PROXY": "0"}

    assert serve_environment({}, "linux")["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert serve_environment(decided, "linux")["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert "RAY_SERVE_ENABLE_HA_PROXY" not in serve_environment({}, "darwin")
