import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runner.errors import ConfigError
from serve_app.launch.launcher import (
    Listener,
    check_files,
    check_path,
    exposure,
    exposure_of,
    haproxy_files,
    main,
    private_folder,
    serve_environment,
    serve_ports,
    with_port,
)
from tests.support.builders import ROOT
from tests.support.ray_env import ray_env

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


def test_example_has_a_token_where_tokens_are_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    local = check_files(write_serve_config(tmp_path, "configs/local.yaml", port))
    monkeypatch.setenv("TSFM_SECURITY__TOKENS", json.dumps(TOKENS))
    prod = check_files(write_serve_config(tmp_path, "configs/prod.yaml", port))

    assert local.url == f"http://127.0.0.1:{port}"
    assert (local.callers, "authorization" in local.example) == (0, False)
    assert prod.access == "Callers need a token; 2 have one."
    assert '-H "authorization: Bearer $TOKEN" -d' in prod.example


@pytest.mark.parametrize("variable", [None, "TSFM_TOLLAMA__BASE_URL", "TSFM_TOLLAMA__BASE_URLS"])
def test_embedded_runtime_has_the_port_of_the_service_unless_another_runtime_is_set(
    variable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    shipped = write_serve_config(tmp_path, "configs/local.yaml", 1)
    folder = tmp_path / "copy"
    folder.mkdir()
    if variable:
        own = "http://127.0.0.1:11435"
        monkeypatch.setenv(variable, own if variable.endswith("L") else json.dumps([own]))

    target = check_files(with_port(shipped, port, folder))

    assert target.url == f"http://127.0.0.1:{port}"
    embedded = {"TSFM_TOLLAMA__BASE_URL": f"http://127.0.0.1:{port}/runtime"}
    assert target.variables == ({} if variable else embedded)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "TSFM_ROUTING__SHADOW",
            '["nope"]',
            r"routing\.shadow: nope is no model here; dev",
        ),
        ("TSFM_REQUEST__MODEL", "nope", r"request\.model: nope is no model here"),
        ("TSFM_ROUTING__SHADOW", "mock", "TSFM_ROUTING__SHADOW: is not valid JSON"),
        ("TSFM_ROUTING__PINS", '{"activity=few": "model"}', "like all or activity=few|price=edge"),
    ],
)
def test_start_with_an_unknown_name_is_refused_with_its_key(
    variable: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=said):
        check_files(write_serve_config(tmp_path, "configs/local.yaml", free_port()))


def test_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = write_serve_config(tmp_path, "configs/local.yaml", port)

        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} is taken"):
            check_files(path)


def test_haproxy_files_are_in_a_folder_of_their_owner_with_short_paths() -> None:
    with private_folder() as folder, private_folder() as other:
        files = haproxy_files(folder)
        path = Path(files["RAY_SERVE_HAPROXY_SOCKET_PATH"])
        bound = path.parent / ("f" * 56) / f"{path.name}.4194304.tmp"  # a node's id, highest pid

        assert folder != other
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        assert all(file.startswith(folder) for file in files.values())
        assert len(str(bound)) < 108


def test_services_with_different_ports_have_no_port_in_common() -> None:
    shipped, other, highest = (serve_ports(port) for port in (8000, 8001, 65_000))

    assert shipped["RAY_SERVE_HAPROXY_METRICS_PORT"] == "9101"
    assert len({*shipped.values(), *other.values(), "8000", "8001"}) == 10
    assert all(int(port) < 2**16 for port in highest.values())


def test_service_that_dies_too_often_ends_with_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ray.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("serve_app.launch.launcher.RESTART_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr("signal.signal", lambda *_: None)

    code = main(write_serve_config(tmp_path, "configs/local.yaml", free_port()))

    output = capfd.readouterr().out
    assert code == 1
    assert "died: Serve ended with code 3. Restarting in 0 s, death 2 in a row." in output
    assert "died: Serve ended with code 3. Giving up after 3 deaths in a row." in output


LAUNCH = """
import os, sys
from pathlib import Path
from serve_app.launch.launcher import main
os.environ["PYTHONPATH"] = sys.argv[1]  # for the child alone
sys.exit(main(Path(sys.argv[2])))
"""


def test_stop_between_two_starts_ends_the_launcher(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise SystemExit(3)")
    config = write_serve_config(tmp_path, "configs/local.yaml", free_port())
    command = [sys.executable, "-c", LAUNCH, str(tmp_path), str(config)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        output = next(line for line in launcher.stdout if "died" in line)
        launcher.terminate()

        assert launcher.wait() == 0
    assert output == (
        "The service died: Serve ended with code 3. Restarting in 1 s, death 1 in a row.\n"
    )


def test_a_local_service_has_what_every_node_of_a_cluster_has() -> None:
    wanted = ray_env()
    assert wanted.pop("RAY_AUTH_MODE") == "token"  # nobody else reaches a Ray on loopback

    assert serve_environment({}, "linux").items() >= wanted.items()


def test_high_throughput_mode_is_on_where_it_exists_unless_it_is_set() -> None:
    name = "RAY_SERVE_ENABLE_HA_PROXY"

    assert serve_environment({}, "linux")[name] == "1"
    assert serve_environment({name: "0"}, "linux")[name] == "0"
    assert name not in serve_environment({}, "darwin")


@pytest.mark.parametrize(
    ("address", "reachable"),
    [
        *((one, False) for one in ("127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1")),
        *((one, True) for one in ("0.0.0.0", "::", "192.0.2.7", "2001:db8::1")),
    ],
)
def test_only_ports_that_other_machines_reach_are_listed(address: str, reachable: bool) -> None:
    line = exposure([Listener(port, address) for port in (4711, 4711, 80)])

    assert ("reach 2 ports" in line) is reachable
    assert (line == "Nothing listens beyond this machine.") is not reachable


def test_ports_are_read_for_ten_seconds_until_the_service_s_own_port_is_among_them() -> None:
    pauses: list[float] = []
    ended = exposure_of(1 << 22, 1, pauses.append)  # no process has this id
    assert ("cannot be read" in ended, pauses) == (True, [])
    missing = exposure_of(os.getpid(), 1, pauses.append)
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))
        found = exposure_of(os.getpid(), late.getsockname()[1], lambda _: late.listen())

    assert ("cannot be read" in missing, "cannot be read" in found) == (True, False)
    assert sum(pauses) == 10.0


@pytest.mark.parametrize(
    "path", ["/home/me/my project/bin/python", "/srv/a&b/python", "/a/$b/python"]
)
def test_folder_that_ray_cannot_start_python_from_is_refused(path: str) -> None:
    check_path("/home/müller/tsfm-1.0_x/.venv/bin/python3.11")

    with pytest.raises(ConfigError, match="Move this folder"):
        check_path(path)
