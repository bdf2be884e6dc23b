from pathlib import Path

import pytest
from pydantic import ValidationError

from runner.config.loading import load_config
from runner.errors import ConfigError
from tests.unit.runner.breaker.breakers import make_settings

LOCAL = Path(__file__).parents[4] / "configs/local.yaml"


@pytest.mark.parametrize("rule", ["failure_rate", "slow_call_rate"])
def test_the_environment_can_switch_a_rate_off(monkeypatch, rule):
    monkeypatch.setenv(f"TSFM_CIRCUIT_BREAKER__{rule.upper()}", "null")

    settings = load_config(LOCAL).circuit_breaker

    assert getattr(settings, rule) is None


@pytest.mark.parametrize("rate", [0.0, 1.01, "often"])
def test_a_rate_is_a_share_of_calls(rate):
    with pytest.raises(ValidationError, match="failure_rate"):
        make_settings(failure_rate=rate)


def test_a_cooldown_over_the_longest_one_is_refused():
    with pytest.raises(ValidationError, match="cooldown_s must not be over cooldown_max_s"):
        make_settings(cooldown_s=351.0)


@pytest.mark.parametrize(
    ("interval_s", "timeout_s", "words"),
    [
        (0.2, 0.25, "shared_timeout_s must not be over sync_interval_s"),
        (0.4, 0.2, "within 1 s"),
    ],
)
def test_syncs_too_slow_to_agree_within_a_second_are_refused(interval_s, timeout_s, words):
    with pytest.raises(ValidationError, match=words):
        make_settings(sync_interval_s=interval_s, shared_timeout_s=timeout_s)


@pytest.mark.parametrize(("timeout_s", "accepted"), [("2.4", True), ("2.401", False)])
def test_a_lease_shorter_than_the_longest_call_is_refused(monkeypatch, timeout_s, accepted):
    """Two tries of 2.4 s and a pause of 0.2 s just fit into a lease of 5 s."""
    monkeypatch.setenv("TSFM_TOLLAMA__TIMEOUT_S", timeout_s)

    if accepted:
        assert load_config(LOCAL).tollama.longest_call_s == 5.0
    else:
        with pytest.raises(ConfigError, match="probe_lease_s must not be under"):
            load_config(LOCAL)
