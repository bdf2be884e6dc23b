from pathlib import Path

import pytest

from runner.conformal_state import ConformalState, save_state
from serve_app.app import load_calibration
from tests.builders import make_config, make_registry


def test_without_a_state_file_there_is_no_calibration() -> None:
    assert load_calibration(make_config(), make_registry()) is None


def test_states_of_the_baseline_and_of_every_registered_model_are_loaded(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    registry = make_registry()
    names = ["ewma", *(entry.runtime_name for entry in registry.models.values())]
    save_state(path, ConformalState(0.8, {name: {} for name in names}))

    state = load_calibration(make_config(conformal={"state_file": path}), registry)

    assert state is not None
    assert set(state.tracks) == set(names)


def test_unusable_state_file_is_named_and_the_service_goes_on_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"schema_version": 1')

    state = load_calibration(make_config(conformal={"state_file": path}), make_registry())

    assert state is None
    assert "answers leave uncalibrated" in caplog.text
    assert "state.json" in caplog.text
