import json
import os
import pickle
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.calibration.learned_file import digest_of_file, save_learned
from runner.calibration.online_calibrator import Learned
from runner.calibration.state import ConformalState, save_state
from serve_app.app import sources_of
from serve_app.remote.calibration_files import begin, fitted_state
from serve_app.remote.learning_actor import LearningActor, LearningReply
from tests.support.builders import make_config, make_registry
from tests.support.fakes import FakeClock
from tests.support.learning import NOTHING, make_rolling, make_seen, make_settings, make_state

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


def a_learned_file(folder: Path) -> Path:
    files = Files(folder)
    files.state.unlink()
    files.learn()
    return files.learned


async def told(file: Path) -> LearningReply:
    """What an actor that began from a file answers to a forecast and its outcome."""
    settings = make_settings(state_file=None, learned_file=file)
    actor = LearningActor(settings, SOURCES, FakeClock(), lambda: 1.7e9)
    seen = [make_seen(0, 0.5), make_seen(1, 0.5, 0.9)]
    reply = await actor.exchange(pickle.dumps(seen), None)
    orjson.dumps(reply.report.rows)  # the status page
    return reply


def instead(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """Something else in the place of a file."""

    def replaced(path: Path) -> None:
        path.unlink()
        make(path)

    return replaced


WHOLE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 100),
    "bad UTF-8": lambda path: path.write_bytes(path.read_bytes().replace(b"ewma", b"ew\xffma")),
    "lone surrogate": lambda path: path.write_bytes(path.read_bytes().replace(b"ewma", rb"\ud800")),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "deep": lambda path: path.write_bytes(b"[" * 1_000_000),
    "deep inside": lambda path: path.write_bytes(b'{"conformal":' * 100_000),
    "a million digits": lambda path: path.write_bytes(b"9" * 1_000_000),
    "1 GB": lambda path: os.truncate(path, 10**9),
    "many faults": lambda path: path.write_bytes(
        b"{" + b",".join(b'"%d":1' % i for i in range(50_000)) + b"}"
    ),
    "long key": lambda path: path.write_bytes(b'{"' + b"k" * 1_000_000 + b'":1}'),
    "folder": instead(Path.mkdir),
    "pipe": instead(os.mkfifo),  # to read it waits for a writer
    "link to itself": instead(lambda path: path.symlink_to(path)),
    "device": instead(lambda path: path.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("spoil", WHOLE.values(), ids=WHOLE)
async def test_file_that_is_no_learned_file_is_one_short_warning_and_learning_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object]
) -> None:
    file = a_learned_file(tmp_path)
    spoil(file)

    reply = await told(file)

    assert reply.report.rows[0].points == 1
    assert_one_short_line(caplog, "learning starts over")


@pytest.mark.parametrize("spoil", WHOLE.values(), ids=WHOLE)
def test_file_that_is_no_state_file_is_one_short_warning_and_answers_leave_uncalibrated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object]
) -> None:
    file = Files(tmp_path).state
    spoil(file)

    digest_of_file(file)
    assert fitted(file) is None
    assert_one_short_line(caplog, "answers leave uncalibrated")


def assert_one_short_line(caplog: pytest.LogCaptureFixture, words: str) -> None:
    [record] = caplog.records
    assert words in record.getMessage()
    assert len(record.getMessage()) < 1000
    assert record.exc_info is None  # foreseen


def test_path_that_no_file_can_have_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = make_settings(state_file=Path("a\0b"), learned_file=Path("a\0b"))

    assert begin(nowhere, SOURCES, None).rolling == {}
    assert "learning starts over" in caplog.text


def test_trouble_that_nobody_foresaw_is_a_warning_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = a_learned_file(tmp_path)
    monkeypatch.setattr("serve_app.remote.calibration_files.load_learned", lambda *_: 1 / 0)
    monkeypatch.setattr("serve_app.remote.calibration_files.load_state", lambda *_: 1 / 0)

    found = begin(make_settings(state_file=file, learned_file=file), SOURCES, None)

    assert (found.rolling, found.state.tracks) == ({}, {})
    assert caplog.text.count("ZeroDivisionError") >= 2


ODD = st.sampled_from(
    [None, True, "", "1", -1, 0, -0.0, 0.5, 1e308, 5e-324, float("nan"), float("inf")]
    + [10**k for k in (15, 18, 19, 30, 300, 400)]
    + [-(10**30), [], {}, [[]], [10**30], {"": 0}, "x" * 1000, [1] * 3, [1.5] * 3, [1] * 2_000]
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container inside a JSON value with each of its keys."""
    keys = value if isinstance(value, dict) else range(len(value) if type(value) is list else 0)
    inside = [(value, key) for key in keys]
    return inside + [place for key in keys for place in places(value[key])]


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(spoiled=st.lists(st.tuples(st.integers(0, 10**6), ODD), min_size=1, max_size=3))
async def test_odd_values_in_a_learned_file_never_keep_the_actor_from_answering(
    tmp_path: Path, spoiled: list[tuple[int, Any]]
) -> None:
    tmp_path.joinpath("state.json").unlink(missing_ok=True)
    file = a_learned_file(tmp_path)
    text = json.loads(file.read_text())
    for number, odd in spoiled:
        if there := places(text):
            container, key = there[number % len(there)]
            container[key] = deepcopy(odd)
    file.write_text(json.dumps(text))

    reply = await told(file)

    assert reply.version[1] == 1
