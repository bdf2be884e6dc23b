import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.calibration.learned_file import digest_of_file, load_learned, save_learned
from runner.calibration.online_calibrator import Learned
from runner.calibration.state import load_state
from runner.errors import ConfigError
from tests.support.learning import make_rolling, make_state

SOURCES = ("ewma", "fracast-0")
LEARNED = Learned(
    make_state(factor=1.5),
    {("ewma", "width=0..0.01"): make_rolling(7), ("ewma", "all"): make_rolling(9, covered=4.5)},
)


def load(path: Path, began_from: str | None = None, coverage: float = 0.8) -> Learned | None:
    return load_learned(path, coverage, SOURCES, began_from)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "learned.json"


def changed(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_saved_state_is_loaded_again_in_its_order(path: Path) -> None:
    save_learned(path, LEARNED, None)

    found = load(path)

    assert found is not None
    track = found.state.tracks["ewma"]["all"]
    np.testing.assert_allclose(track.factors, 1.5)
    assert track.sample_size.tolist() == [500, 500, 500]
    assert list(found.rolling) == [("ewma", "width=0..0.01"), ("ewma", "all")]
    rolling = found.rolling["ewma", "all"]
    assert rolling.points == 9
    np.testing.assert_allclose(rolling.sums, LEARNED.rolling["ewma", "all"].sums)


def test_folder_is_created(tmp_path: Path) -> None:
    save_learned(tmp_path / "a/b/learned.json", LEARNED, None)

    assert load(tmp_path / "a/b/learned.json") is not None


def test_state_in_the_file_can_be_used_as_a_state_file(path: Path, tmp_path: Path) -> None:
    save_learned(path, LEARNED, None)
    state_file = tmp_path / "state.json"
    state_file.write_text(json.dumps(json.loads(path.read_text())["conformal"]))

    assert set(load_state(state_file, 0.8, SOURCES).tracks) == {"ewma"}


def test_new_fit_starts_learning_again(path: Path, tmp_path: Path) -> None:
    fit = tmp_path / "state.json"
    fit.write_text("one")
    save_learned(path, LEARNED, digest_of_file(fit))
    assert load(path, digest_of_file(fit)) is not None

    fit.write_text("another")

    assert load(path, digest_of_file(fit)) is None
    assert load(path, digest_of_file(tmp_path / "none.json")) is None
    assert digest_of_file(None) is None


def test_removed_model_is_left_out(path: Path) -> None:
    state = make_state()
    tracks = {**state.tracks, "old-model": state.tracks["ewma"]}
    rolling = {**LEARNED.rolling, ("old-model", "all"): make_rolling(3)}
    save_learned(path, Learned(type(state)(0.8, tracks), rolling), None)

    found = load(path)

    assert found is not None
    assert set(found.state.tracks) == {"ewma"}
    assert {source for source, _ in found.rolling} == {"ewma"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"rolling": [{"source": "ewma"}]}, "rolling.0.segment: Field required"),
        ({"extra": 1}, "extra"),
        ({"conformal": {}}, "conformal"),
        ({"rolling": None}, "rolling: Input should be"),
    ],
)
def test_file_with_other_content_is_refused(
    path: Path, changes: dict[str, Any], message: str
) -> None:
    save_learned(path, LEARNED, None)
    changed(path, **changes)

    with pytest.raises(ConfigError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("weight", 0), ("covered", -1), ("points", 0), ("width", float("nan"))),
        *(("points", 10**19), ("breached", 1e300), ("segment", "s" * 1000)),
    ],
)
def test_number_out_of_range_is_refused(path: Path, field: str, value: float) -> None:
    save_learned(path, LEARNED, None)
    rolling = json.loads(path.read_text())["rolling"]
    rolling[1][field] = value
    changed(path, rolling=rolling)

    with pytest.raises(ConfigError, match=f"rolling.1.{field}"):
        load(path)


def test_failed_save_leaves_the_file_as_it_was(path: Path) -> None:
    save_learned(path, LEARNED, None)
    before = path.read_text()

    with pytest.raises(ValueError, match="Out of range"):
        save_learned(
            path, Learned(LEARNED.state, {("a", "b"): make_rolling(1, width=np.nan)}), None
        )

    assert path.read_text() == before
    assert list(path.parent.iterdir()) == [path]
