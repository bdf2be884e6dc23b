import os
from pathlib import Path

import pytest
import yaml

from runner.errors import ConfigError
from serve_app.launch.config_check import check_file
from tests.support.builders import ROOT


def write(folder: Path, text: str) -> Path:
    file = folder / "given.yaml"
    file.write_text(text)
    return file


def manifest(serve_config: object) -> str:
    service = {"apiVersion": "ray.io/v1", "kind": "RayService"}
    other = {"apiVersion": "v1", "kind": "Service"}
    return yaml.safe_dump_all([other, service | {"spec": {"serveConfigV2": serve_config}}])


LOCAL = ("configs/local.yaml", "configuration")
MODELS = ("configs/tsfm_models.yaml", "model registry")
SERVE = ("serve_config.yaml", "Serve config")


@pytest.mark.parametrize("checked", [[LOCAL], [MODELS], [SERVE, LOCAL]])
def test_file_is_recognized_by_its_keys_and_checked_with_the_configuration_it_names(
    checked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)

    assert [(str(file), kind) for file, kind in check_file(Path(checked[0][0]))] == checked


def test_serve_config_inside_a_manifest_is_checked_without_the_files_of_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, manifest((ROOT / "serve_config.yaml").read_text()))

    assert [kind for _, kind in check_file(file)] == ["RayService manifest"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (manifest("applicationz: []"), "applicationz: there is no such key; check its spelling"),
        (manifest({"applications": []}), "spec.serveConfigV2: must hold a Serve config as text"),
        (manifest("- 1"), "spec.serveConfigV2: must hold a Serve config as text"),
        (manifest("a: [\n"), "spec.serveConfigV2: while parsing"),
        (manifest("a: 1\na: 2"), "the key 'a' is repeated"),
        ("applications: []\nhttp_option: {}", "http_option: there is no such key"),
        ("request: {}", "environment: Field required"),
        ("models: {}", "environments: Field required"),
        ("- 1", "is neither"),
        ("a: 1", "is neither"),
        ("", "is neither"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_path(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        list(check_file(write(tmp_path, text)))

    assert words in str(caught.value)
    assert "given.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_serve_config_that_names_a_missing_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, (ROOT / "serve_config.yaml").read_text())

    with pytest.raises(ConfigError, match=r"configs/local\.yaml: cannot be read"):
        list(check_file(file))


def with_variables(**variables: object) -> str:
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["applications"][0]["runtime_env"] = {"env_vars": variables}
    return yaml.safe_dump(config)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"TSFM_REVISION": 2}, "applications.0.runtime_env.env_vars.TSFM_REVISION: must be text"),
        ({"TSFM_TOLLAMA__TIMEOUT_S": "soon"}, "configs/local.yaml: tollama.timeout_s"),
        ({"TSFM_SLO__P95": "1", "B": "2"}, r"slo.p95: .* \(with TSFM_SLO__P95 of .*given.yaml\)"),
        ({"TSFM_TOLLAMA__BASE_URLS": '["http://169.254.169.254"]'}, "link-local"),
        ({"TSFM_ROUTING__SHADOW": '["nope"]'}, "routing.shadow: nope is no model here"),
    ],
)
def test_variables_of_a_serve_config_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, object], words: str
) -> None:
    monkeypatch.chdir(ROOT)

    with pytest.raises(ConfigError, match=words):
        list(check_file(write(tmp_path, with_variables(**variables))))


def test_variables_of_a_serve_config_do_not_change_this_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TSFM_REQUEST__DEADLINE_MS", "soon")
    file = write(
        tmp_path, with_variables(TSFM_REQUEST__DEADLINE_MS="900", TSFM_SLO__CYCLE_S="50", OTHER="x")
    )
    found = [kind for _, kind in check_file(file)]

    assert found == ["Serve config", "configuration"]
    assert os.environ["TSFM_REQUEST__DEADLINE_MS"] == "soon"
    assert not {"TSFM_SLO__CYCLE_S", "OTHER"} & set(os.environ)
