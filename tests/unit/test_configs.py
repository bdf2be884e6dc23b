"""The files that an operator edits: they load, and Serve accepts them."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from runner.config.loading import (
    Config,
    EffectiveSetting,
    Origin,
    effective_settings,
    load_config,
    read_yaml,
)
from runner.config.registry import load_registry
from runner.errors import ConfigError
from serve_app.app import AppArgs
from serve_app.launch.config_check import read_serve_config
from tests.support.builders import ROOT

LOCAL = ROOT / "configs/local.yaml"
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SETTINGS = [p for p in CONFIGS if p.name != "tsfm_models.yaml"]


def tokens(text: str = "t" * 40, **changes: Any) -> str:
    """One accepted token, as in the environment."""
    digest = sha256(text.encode()).hexdigest()
    entry = {"name": "alerts", "sha256": digest, "scopes": ["forecast"]}
    return json.dumps([entry | changes])


TOKENS = tokens(sha256="ab" * 32)


@pytest.mark.parametrize("path", SETTINGS, ids=lambda p: p.name)
def test_shipped_configuration_loads_with_its_models(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.setenv("TSFM_SECURITY__TOKENS", TOKENS)
    config = load_config(path)

    assert load_registry(config.models_file).served(config.environment)


def test_product_defaults() -> None:
    config = load_config(LOCAL)

    assert (config.request.freq, config.request.input_len_steps) == ("5m", 288)
    assert (config.request.horizon_steps, config.request.quantiles) == (12, (0.1, 0.5, 0.9))
    assert (config.transform.space, config.transform.eps) == ("logit", 1e-6)
    assert (config.tollama.timeout_s, config.tollama.max_retries) == (1.2, 1)
    assert config.tollama.max_connections == 200
    assert config.tollama.max_keepalive_connections == 50
    assert config.fallback.min_points_for_tsfm == 32
    assert config.fallback.baseline_only_liquidity == ("low",)
    assert (config.bands.min_interval_width, config.bands.max_interval_width) == (0.02, 0.9)
    assert (config.cache.ttl_s, config.cache.stale_if_error_s) == (60, 120)
    breaker = config.circuit_breaker
    assert (breaker.consecutive_failures, breaker.cooldown_s) == (5, 120)
    assert (config.request.deadline_ms, config.request.max_gap_minutes) == (1500, 60)
    conformal = config.conformal
    assert (conformal.enabled_by_default, conformal.state_file) == (False, None)


def test_prod_requires_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSFM_SECURITY__REQUIRE_TOKENS", "false")

    with pytest.raises(ConfigError, match="require_tokens must be true where environment is prod"):
        load_config(ROOT / "configs/prod.yaml")
    monkeypatch.setenv("TSFM_SECURITY__REQUIRE_TOKENS", "true")
    with pytest.raises(ConfigError, match=r"tokens is empty; .* set TSFM_SECURITY__TOKENS"):
        load_config(ROOT / "configs/prod.yaml")


def test_tokens_come_from_the_environment_and_replace_the_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TSFM_SECURITY__TOKENS", TOKENS)

    section = load_config(LOCAL).security

    assert [(t.name, t.sha256, t.scopes) for t in section.tokens] == [
        ("alerts", "ab" * 32, ("forecast",))
    ]


PLACEHOLDERS = ("changeme", "secret", "CHANGEME", "Secret", "", "password\n", "<token>")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        *((text, "(?i)security") for text in ("changeme", "[{", '"secret"', '[{"name": "a"}]')),
        *((tokens(text), "alerts hashes a placeholder") for text in PLACEHOLDERS),
        (f"{tokens()[:-1]}, {tokens(name='other')[1:]}", "listed twice"),
        (tokens(name="Has Space"), "security.tokens.0.name"),
        (tokens(sha256="A" * 64), "security.tokens.0.sha256"),
        (tokens(scopes=[]), "security.tokens.0.scopes"),
        (tokens(scopes=["everything"]), "security.tokens.0.scopes.0"),
    ],
)
def test_invalid_tokens_are_refused_without_showing_them(
    monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    monkeypatch.setenv("TSFM_SECURITY__TOKENS", value)

    with pytest.raises(ConfigError, match=words) as caught:
        load_config(LOCAL)

    assert value not in str(caught.value)


SERVE_CONFIG = ROOT / "serve_config.yaml"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("http_options:", "htttp_options:", "htttp_options"),
        ("num_replicas: 1", "num_replicsa: 1", "applications.0.deployments.0.num_replicsa"),
        ("min_replicas: 1", "min_replica: 1", "autoscaling_config.min_replica"),
        ("scaling:by_items", "scaling:by_mood", "policy_function.*by_mood"),
        ("app.scaling:", "app.scalin:", "policy_function.*serve_app.scalin"),
    ],
)
def test_serve_config_with_a_typo_is_refused_by_key(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    text = SERVE_CONFIG.read_text()
    path = tmp_path / "serve.yaml"
    path.write_text(text.replace(old, new, 1))

    with pytest.raises(ConfigError, match=words):
        read_serve_config(path)


def test_serve_config_names_only_keys_deployments_and_files_that_exist() -> None:
    for application in read_serve_config(SERVE_CONFIG)["applications"]:
        module, _, function = application["import_path"].partition(":")
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
        assert f"def {function}(" in source
        folder = "".join(p.read_text() for p in (ROOT / "serve_app").rglob("*.py"))
        for deployment in application["deployments"]:
            assert re.search(rf"^(class )?{deployment['name']}\b", folder, re.MULTILINE)
        if "args" in application:
            assert (ROOT / AppArgs(**application["args"]).config).is_file()


def write(tmp_path: Path, old: str, new: str) -> Path:
    text = (ROOT / "configs/local.yaml").read_text()
    assert old in text
    path = tmp_path / "configs" / "changed.yaml"
    path.parent.mkdir()
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("freq: 5m", "freq: 5m\n  fequency: 5m", "request.fequency"),
        ("freq: 5m", "", "request.freq"),
        ("freq: 5m", "freq: 5m\n  freq: 6m", "repeated"),
        ("timeout_s: 1.2", "timeout_s: 1.2\n  base_url: http://a", "write base_urls: [...]"),
        ("timeout_s: 1.2", "timeout_s: soon", "tollama.timeout_s"),
        ("timeout_s: 1.2", "timeout_s: .nan", "tollama.timeout_s"),
        ("timeout_s: 1.2", "timeout_s: 1.2\n  api_key: abc", "TSFM_TOLLAMA__API_KEY"),
        ("timeout_s: 1.2", "timeout_s: 60", "timeout_s must not be over lease_s"),
        ("timeout_s: 1.2", "timeout_s: 1.2\n  backoff_base_s: 5", "backoff_base_s must not"),
        ("timeout_s: 1.2", "timeout_s: 1.2\n  max_connections: 49", "max_keepalive"),
        ("quantiles: [0.1, 0.5, 0.9]", "quantiles: [0.5, 0.1]", "quantiles: must ascend"),
        ("horizon_steps: 12", "horizon_steps: 513", "max_horizon_steps"),
        ("input_len_steps: 288", "input_len_steps: 20001", "max_points"),
        ("tsfm: 32", "tsfm: 32\n  baseline_timeout_ms: 500", "reserve_ms"),
        ("deadline_ms: 1500", "deadline_ms: 120", "fallback.reserve_ms"),
        ("min_interval_width: 0.02", "min_interval_width: 0.95", "max_interval_width"),
        ("cooldown_s: 120", "cooldown_s: 1200", "cooldown_max_s"),
        ("cooldown_s: 120", "cooldown_s: 120\n  shared_timeout_s: 0.26", "sync_interval_s"),
        ("cooldown_s: 120", "cooldown_s: 120\n  sync_interval_s: 0.4", "within 1 s"),
        ("timeout_s: 1.2", "timeout_s: 2.401", "probe_lease_s must not be under"),
        ("shed_above: 256", "shed_above: 9999", "shed_above must not be over refuse_above"),
        ("batch_size: 128", "batch_size: 128\n  collect_wait_s: 0.001", "no longer a setting"),
        ("cycle_s: 60", "cycle_s: 60\n  baseline_ms: 40", "nothing reads it"),
        ("cache:", "baseline:\n  width: 1\n\ncache:", "baseline.width"),
        ("cycle_s: 60", "cycle_s: 60\n\nbaseline: 5", "baseline: must be a mapping"),
        ("environment: dev", "environment: [", "changed.yaml"),
        ("kets: 2000", "kets: 2000\n  width_edges: [0.1, 0.01]", "width_edges: must ascend"),
        ("kets: 2000", "kets: 2000\n  width_edges: [0.1, 0.1]", "width_edges: must ascend"),
        ("kets: 2000", "kets: 2000\n  segments: [width, width]", "must not name a dimension twice"),
        ("kets: 2000", "kets: 2000\n  segments: [colour]", "conformal.segments.0"),
        ("kets: 2000", "kets: 2000\n  min_samples: 8", "min_samples must not be under 9"),
        ("coverage: 0.8", "coverage: 0.98\n  min_samples: 98", "min_samples must not be under 99"),
    ],
)
def test_wrong_configuration_is_refused_by_file_and_key(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    path = write(tmp_path, old, new)

    with pytest.raises(ConfigError) as caught:
        load_config(path)

    assert words in str(caught.value)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("path", SETTINGS, ids=lambda p: p.name)
def test_shipped_file_holds_what_an_operator_decides_and_no_expert_setting(
    path: Path,
) -> None:
    for section, keys in read_yaml(path).items():
        fields = getattr(Config.model_fields[section].annotation, "model_fields", {})
        for key in keys if fields else ():
            assert fields[key].is_required(), f"{section}.{key}"


@pytest.mark.parametrize("name", ["local", "prod"])
def test_complete_file_of_an_earlier_version_loads_with_the_same_values(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Before there were defaults, every key had to be in the file."""
    monkeypatch.setenv("TSFM_SECURITY__TOKENS", TOKENS)
    earlier = load_config(ROOT / f"tests/data/configs/0.1.0-{name}.yaml")

    found = {  # relative paths start at the file's own folder
        "models_file": ROOT / "configs/tsfm_models.yaml",
        "conformal": earlier.conformal.model_copy(
            update={"learned_file": ROOT / ".state/conformal_learned.json"}
        ),
    }
    assert load_config(ROOT / f"configs/{name}.yaml") == earlier.model_copy(update=found)


def test_override_of_an_earlier_setting_is_accepted_with_its_only_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TSFM_BATCHING__COLLECT_WAIT_S", "0.0")

    assert load_config(LOCAL).batching.max_batch_size == 128


def settings_by_key(path: Path) -> dict[str, EffectiveSetting]:
    return {setting.key: setting for setting in effective_settings(path)}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("REQUEST__DEADLINE_MS", "300", 300),
        ("REQUEST__QUANTILES", "[0.05, 0.95]", [0.05, 0.95]),
        ("CIRCUIT_BREAKER__FAILURE_RATE", "null", None),
        ("CIRCUIT_BREAKER__SLOW_CALL_RATE", "null", None),
        ("CONFORMAL__STATE_FILE", "null", None),
        ("TOLLAMA__BASE_URLS", '["http://a", "http://b:1/x"]', ["http://a/", "http://b:1/x"]),
    ],
)
def test_environment_overrides_any_key(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv(f"TSFM_{name}", text)
    found = settings_by_key(LOCAL)[name.lower().replace("__", ".")]

    assert (found.value, found.origin) == (value, Origin.ENVIRONMENT)


def test_effective_settings_are_complete_and_have_their_origin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TSFM_URL", "names no section and is ignored")
    monkeypatch.setenv("tsfm_baseline__width_factor", "0.9")
    monkeypatch.setenv("TSFM_TOLLAMA__BASE_URL", "http://a")

    found = settings_by_key(LOCAL)

    of = {key: (setting.value, setting.origin) for key, setting in found.items()}
    assert of["environment"] == ("dev", Origin.FILE)
    assert of["request.freq"] == ("5m", Origin.FILE)
    assert of["baseline.width_factor"] == (0.9, Origin.ENVIRONMENT)
    assert of["baseline.trust_moves"] == (2.5, Origin.DEFAULT)
    assert of["tollama.base_urls"] == (["http://a/"], Origin.ENVIRONMENT)
    assert of["tollama.api_key"] == (None, Origin.DEFAULT)
    sections = [f.annotation for f in Config.model_fields.values()]
    assert len(found) == 2 + sum(len(getattr(s, "model_fields", ())) for s in sections)


def test_effective_settings_hide_every_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSFM_TOLLAMA__API_KEY", "s3cret")
    monkeypatch.setenv("TSFM_SECURITY__TOKENS", TOKENS)
    assert "s3cret" not in repr(load_config(LOCAL))
    monkeypatch.setenv(
        "TSFM_OBSERVABILITY__TRACES_ENDPOINT", "http://u:s3cret@collector/v1?key=s3cret"
    )

    found = settings_by_key(LOCAL)

    assert "s3cret" not in str(found)
    assert "ab" * 32 not in str(found)
    assert found["security.tokens"].value == "1 hidden"
    assert found["observability.traces_endpoint"].value == "http://**********@collector/v1"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TSFM_REQUEST__DEADLINE_MS", "-1", "request.deadline_ms: Input .* 0"),
        ("tsfm_cache__ttl_s", "a", "cache.ttl_s: Input .*"),
        ("TSFM_ENVIRONMENT", "moon", "environment: Input .*"),
        ("TSFM_SECURITY__TOKENS", "[3]", "security.tokens.0: must be a mapping"),
    ],
)
def test_an_error_of_a_variable_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=rf"^{LOCAL}: {words} \(set by {name.upper()}\)$"):
        load_config(LOCAL)


def test_missing_and_invalid_files_are_refused(tmp_path: Path) -> None:
    odd = tmp_path / "odd.yaml"
    odd.write_text("- 1")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="mapping"):
        load_config(odd)
    odd.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(odd)


def test_fewest_outcomes_that_can_hold_the_coverage_are_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TSFM_CONFORMAL__MIN_SAMPLES", "9")

    assert load_config(LOCAL).conformal.min_samples == 9


def test_lease_of_a_probe_may_be_as_long_as_the_longest_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two calls of 2.4 s and a pause of 0.2 s take 5 s."""
    monkeypatch.setenv("TSFM_TOLLAMA__TIMEOUT_S", "2.4")

    assert load_config(LOCAL).tollama.longest_call_s == 5.0


@pytest.mark.parametrize(
    "url",
    [
        "http://tollama:11435/",
        "https://10.0.0.7/runtime",
        "http://[fd00::7]:11435/",
        "http://metadata-of-mine.example/",
    ],
)
def test_addresses_of_runtimes_are_accepted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TSFM_TOLLAMA__BASE_URLS", json.dumps([url]))

    assert [str(one) for one in load_config(LOCAL).tollama.base_urls] == [url]


LINK_LOCAL_AND_METADATA = (
    "169.254.169.254",
    "2852039166",  # 169.254.169.254 as one number
    "[fe80::1]",
    "[febf::1]",
    "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "metadata",
    "metadata.goog",
    "instance-data.ec2.internal",
    "metadata.azure.internal",
)


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        *(
            (f'["http://{host}:80/latest"]', "base_urls.0: must not be a link-local address")
            for host in LINK_LOCAL_AND_METADATA
        ),
        ('["http://a", "ftp://b"]', "tollama.base_urls.1: URL scheme should be 'http' or 'https'"),
        ('["http://a", "http://a:80/"]', "the same runtime is listed twice"),
        ('["http://u:hunter2@a"]', "TSFM_TOLLAMA__API_KEY"),
        ('["http://u@a"]', "TSFM_TOLLAMA__API_KEY"),
        ('["http://"]', "tollama.base_urls.0: Input should be a valid URL"),
        ('["http://tollama/?a=1"]', "must end with its path"),
        ('["http://tollama/#x"]', "must end with its path"),
        ("[]", "tollama.base_urls: Tuple should have at least 1 item"),
    ],
)
def test_addresses_that_cannot_be_runtimes_are_refused_without_showing_them(
    monkeypatch: pytest.MonkeyPatch, urls: str, words: str
) -> None:
    monkeypatch.setenv("TSFM_TOLLAMA__BASE_URLS", urls)

    with pytest.raises(ConfigError) as caught:
        load_config(LOCAL)

    assert words in str(caught.value)
    assert str(caught.value).count("tollama.base_urls") <= 1
    assert "hunter2" not in str(caught.value)


def test_two_forms_of_the_address_in_the_environment_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TSFM_TOLLAMA__BASE_URL", "http://a")
    monkeypatch.setenv("TSFM_TOLLAMA__BASE_URLS", '["http://b"]')

    with pytest.raises(ConfigError, match="are both set; unset one"):
        load_config(LOCAL)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("TSFM_TOLLAMA__BASE_URLL", "tollama.base_urll"),
        ("TSFM_TOLAMA__BASE_URL", "no section 'tolama'"),
        ("TSFM_TOLLAMA__BASE_URL", "tollama.base_urls.0: Input should be a valid URL"),
        ("TSFM_BATCHING__COLLECT_WAIT_S", "collect_wait_s is no longer a setting, remove it"),
    ],
)
def test_override_that_cannot_have_an_effect_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setenv(name, "1")

    with pytest.raises(ConfigError, match=words):
        load_config(LOCAL)


def test_relative_files_start_beside_the_folder_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TSFM_CONFORMAL__STATE_FILE", "state/conformal.json")
    path = write(tmp_path, "models_file: configs/tsfm_models.yaml", "models_file: /etc/m.yaml")

    assert load_config(LOCAL).conformal.state_file == ROOT / "state/conformal.json"
    assert load_config(LOCAL).models_file == ROOT / "configs/tsfm_models.yaml"
    assert load_config(path).models_file == Path("/etc/m.yaml")
