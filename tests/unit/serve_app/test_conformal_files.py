from pathlib import Path

import pytest

from runner.conformal_state import ConformalState, save_state
from runner.learned_file import digest_of_file, save_learned
from runner.learner import Learned
from serve_app.app import sources_of
from serve_app.conformal_files import begin, fitted_state
from tests.builders import make_config, make_registry
from tests.learning import NOTHING, make_rolling, make_settings, make_state

SOURCES = frozenset({"ewma", "fracast-0"})


def fitted(path: Path | None, sources=SOURCES) -> ConformalState | None:
    return fitted_state(make_config(conformal={"state_file": path}).conformal, sources)


def test_without_a_state_file_there_is_no_calibration() -> None:
    assert fitted(None) is None


def test_states_of_the_baseline_and_of_every_registered_model_are_loaded(tmp_path: Path) -> None:
    path, names = tmp_path / "state.json", sources_of(make_registry())
    save_state(path, ConformalState(0.8, {name: {} for name in names}))

    state = fitted(path, names)

    assert state is not None
    assert set(state.tracks) == set(names)


def test_unusable_state_file_is_named_and_the_service_goes_on_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"schema_version": 1')

    assert fitted(path) is None
    assert "answers leave uncalibrated" in caplog.text
    assert "state.json" in caplog.text


class Files:
    """A fitted state whose factors are 1.5, and what was learned since: factors of 3."""

    def __init__(self, folder: Path) -> None:
        self.state, self.learned = folder / "state.json", folder / "learned.json"
        save_state(self.state, make_state(factor=1.5))

    def learn(self) -> None:
        known = Learned(make_state(factor=3.0), {("ewma", "all"): make_rolling(4)})
        save_learned(self.learned, known, digest_of_file(self.state))

    def begin(self) -> Learned:
        settings = make_settings(state_file=self.state, learned_file=self.learned)
        return begin(settings, SOURCES, digest_of_file(self.state))

    def factor(self) -> float:
        return float(self.begin().state.tracks["ewma"]["all"].factors[0, 0])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_learning_begins_from_what_was_fitted_without_a_word(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    assert files.factor() == 1.5
    assert caplog.text == ""


def test_learning_begins_from_nothing_where_nothing_was_fitted() -> None:
    learned = begin(make_settings(learned_file=None), SOURCES, None)

    assert (learned.state.tracks, learned.rolling) == ({}, {})
    assert learned.state.target_coverage == NOTHING.state.target_coverage


def test_what_an_earlier_life_learned_wins_over_the_fit_it_began_from(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.learn()

    assert files.factor() == 3.0
    assert files.begin().rolling["ewma", "all"].points == 4
    assert caplog.text == ""


def test_new_fit_starts_learning_over_and_says_so(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.learn()
    save_state(files.state, make_state(factor=1.7))

    assert files.factor() == 1.7
    assert "is from before the present state_file" in caplog.text


def test_half_a_file_is_named_and_learning_starts_over(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.learn()
    files.learned.write_text(files.learned.read_text()[:100])

    assert files.factor() == 1.5
    assert "learned.json" in caplog.text


def test_path_that_cannot_be_looked_at_is_named(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.learned = files.state / "learned.json"  # inside a file

    assert files.factor() == 1.5
    assert "learning starts over" in caplog.text
