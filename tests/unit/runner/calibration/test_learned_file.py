import json
import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.calibration.coverage import Learned, LearningEvent
from runner.calibration.learned_file import (
    digest_of_file,
    fitted_state,
    initial_learned,
    load_learned,
    save_learned,
)
from runner.calibration.miscoverage import CoverageTest, Miscovers
from runner.calibration.online_calibrator import OnlineCalibrator
from runner.calibration.skill import SUMS
from runner.calibration.state import ConformalState, save_state
from runner.errors import ConfigError
from tests.support.learning import make_paired, make_rolling, make_seen, make_settings, make_state

SOURCES = ("ewma", "fracast-0")
NARROW_BANDS = CoverageTest(80, 0.4, np.full((2, 3), [[2.0], [1.0]]), Miscovers.UNDER)
LEARNED = Learned(
    make_state(factor=3.0),
    {
        ("ewma", "width=0..0.01"): make_rolling(7),
        ("ewma", "all"): make_rolling(9, covered=4.5)
        .after_scores(np.array([0, 5]), np.array([-0.5, 2.0]))
        .after_breaches(np.array([True, False])),
    },
    {("fracast-0", "all"): make_paired()},
    {"ewma": CoverageTest().after(0.9, 0.8), "fracast-0": NARROW_BANDS},
)


class Files:
    """A fitted state whose factors are 1.5, and the state learned since, with factors of 3."""

    def __init__(self, folder: Path) -> None:
        self.state, self.learned = folder / "state.json", folder / "learned/learned.json"
        self.settings = make_settings(state_file=self.state, learned_file=self.learned)
        save_state(self.state, make_state(factor=1.5))
        save_learned(self.learned, LEARNED, digest_of_file(self.state))

    def load(self) -> Learned:
        return load_learned(self.learned, 0.8, SOURCES, digest_of_file(self.state))

    def initial(self) -> Learned:
        return initial_learned(self.settings, SOURCES, digest_of_file(self.state))

    def factor(self) -> float:
        return float(self.initial().state.tracks["ewma"]["all"].factors[0, 0])

    def change(self, change: Callable[[Any], object]) -> None:
        body = json.loads(self.learned.read_text())
        change(body)
        self.learned.write_text(json.dumps(body))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_learned_state_is_loaded_again_in_its_order(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    found = files.initial()

    track = found.state.tracks["ewma"]["all"]
    np.testing.assert_allclose(track.factors, 3.0)
    assert track.sample_size.tolist() == [500, 500, 500]
    assert list(found.rolling) == list(LEARNED.rolling)
    for where, rolling in LEARNED.rolling.items():
        assert found.rolling[where].points == rolling.points
        np.testing.assert_allclose(found.rolling[where].sums, rolling.sums)
        np.testing.assert_allclose(found.rolling[where].scores.counts, rolling.scores.counts)
        np.testing.assert_allclose(found.rolling[where].breaches, rolling.breaches)
    assert list(found.skill) == [("fracast-0", "all")]
    paired = found.skill["fracast-0", "all"]
    assert (paired.forecasts, paired.routed) == (60, True)
    np.testing.assert_allclose(paired.sums, make_paired().sums)
    assert list(found.coverage) == ["ewma", "fracast-0"]
    test = found.coverage["fracast-0"]
    assert (test.forecasts, test.recent, test.miscovers) == (80, 0.4, Miscovers.UNDER)
    np.testing.assert_allclose(test.evidence, NARROW_BANDS.evidence)
    assert caplog.text == ""


def test_file_of_an_earlier_version_has_no_scores_no_breaches_and_no_skill(files: Files) -> None:
    files.change(lambda body: body.pop("coverage"))
    files.change(lambda body: [body["skill"][0].pop(name) for name in SUMS[6:]])
    assert files.load().skill == {}  # scores without interval scores and Brier scores
    files.change(lambda body: body.pop("skill"))
    files.change(
        lambda body: [row.pop(k) for row in body["rolling"] for k in ("scores", "breaches")]
    )

    rolling = files.load().rolling["ewma", "all"]

    assert (files.load().skill, files.load().coverage) == ({}, {})
    assert (rolling.scores.counts.sum(), rolling.breaches.sum()) == (0, 0)


def test_removed_model_is_left_out(files: Files) -> None:
    tracks = {**LEARNED.state.tracks, "old-model": LEARNED.state.tracks["ewma"]}
    rolling = {**LEARNED.rolling, ("old-model", "all"): make_rolling(3)}
    skill = {("old-model", "all"): make_paired()}
    coverage = {"old-model": NARROW_BANDS}
    learned = Learned(ConformalState(0.8, tracks), rolling, skill, coverage)
    save_learned(files.learned, learned, digest_of_file(files.state))

    found = files.load()

    assert set(found.state.tracks) == {"ewma"}
    assert {source for source, _ in found.rolling} == {"ewma"}
    assert (found.skill, found.coverage) == ({}, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body.update(schema_version=2), "schema_version"),
        (lambda body: body.update(extra=1), "extra"),
        (lambda body: body.update(conformal={}), "conformal"),
        (lambda body: body["rolling"][0].pop("segment"), "rolling.0.segment: Field required"),
        (lambda body: body["rolling"][1].update(weight=0), "rolling.1.weight"),
        (lambda body: body["rolling"][1].update(covered=-1), "rolling.1.covered"),
        (lambda body: body["rolling"][1].update(points=0), "rolling.1.points: .*greater"),
        (lambda body: body["rolling"][1].update(width=float("nan")), "rolling.1.width"),
        (lambda body: body["rolling"][1].update(breached=1e300), "rolling.1.breached"),
        (lambda body: body["rolling"][1].update(segment="s" * 1000), "rolling.1.segment"),
        (lambda body: body["rolling"][1].update(scores=[[1.0]]), "rolling.1.scores: scores must"),
        (lambda body: body["rolling"][1].update(breaches=[1.0]), "rolling.1.breaches"),
    ],
)
def test_file_with_other_content_is_refused(
    files: Files, change: Callable[[Any], object], message: str
) -> None:
    files.change(change)

    with pytest.raises(ConfigError, match=message):
        files.load()


def test_failed_save_leaves_the_file_as_it_was(files: Files) -> None:
    before = files.learned.read_text()
    broken = Learned(LEARNED.state, {("a", "b"): make_rolling(1, width=np.nan)})

    with pytest.raises(ValueError, match="Out of range"):
        save_learned(files.learned, broken, None)

    assert files.learned.read_text() == before
    assert list(files.learned.parent.iterdir()) == [files.learned]


def test_without_a_learned_file_learning_starts_from_the_fitted_state(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.learned.unlink()

    assert files.factor() == 1.5
    assert caplog.text == ""


def test_without_any_file_there_is_no_calibration() -> None:
    nothing = make_settings(state_file=None, learned_file=None)
    found = initial_learned(nothing, SOURCES, digest_of_file(None))

    assert (found.state.tracks, found.rolling, found.state.target_coverage) == ({}, {}, 0.8)


def test_new_fit_starts_learning_again_with_a_warning(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    save_state(files.state, make_state(factor=1.7))

    assert files.factor() == 1.7
    assert "is from before the present state_file" in caplog.text


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Something else in the place of a file."""

    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


WRONG: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "bad UTF-8": lambda path: path.write_bytes(path.read_bytes().replace(b"ewma", b"ew\xffma")),
    "lone surrogate": lambda path: path.write_bytes(path.read_bytes().replace(b"ewma", rb"\ud800")),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "deep": lambda path: path.write_bytes(b"[" * 1_000_000),
    "1 GB": lambda path: os.truncate(path, 10**9),
    "many faults": lambda path: path.write_bytes(
        b"{" + b",".join(b'"%d":1' % i for i in range(50_000)) + b"}"
    ),
    "long key": lambda path: path.write_bytes(b'{"' + b"k" * 1_000_000 + b'":1}'),
    "folder": replaced_by(Path.mkdir),
    "pipe": replaced_by(os.mkfifo),  # reading it waits for a writer
    "link to itself": replaced_by(lambda path: path.symlink_to(path)),
    "device": replaced_by(lambda path: path.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", ["state", "learned"])
def test_wrong_file_is_one_short_warning_and_the_service_works_without_it(
    files: Files, caplog: pytest.LogCaptureFixture, name: str, spoil: Callable[[Path], object]
) -> None:
    spoil(getattr(files, name))

    if name == "learned":
        assert files.factor() == 1.5
    else:
        digest_of_file(files.state)
        assert fitted_state(files.settings, SOURCES) is None
    [record] = caplog.records
    kept = {"state": "answers leave uncalibrated", "learned": "learning starts over"}
    assert record.getMessage().startswith(kept[name])
    assert len(record.getMessage()) < 1000


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
@given(odd=st.lists(st.tuples(st.integers(0, 10**6), ODD), min_size=1, max_size=3))
def test_learning_works_with_any_odd_values_in_its_file(
    tmp_path: Path, odd: list[tuple[int, Any]]
) -> None:
    def spoil(body: Any) -> None:
        for number, value in odd:
            if there := places(body):
                container, key = there[number % len(there)]
                container[key] = deepcopy(value)

    files = Files(tmp_path)
    files.change(spoil)

    learner = OnlineCalibrator(files.settings, files.initial())
    learner.learn([make_seen(0, 0.5), make_seen(1, 0.5, 0.9)])

    assert learner.report().counts[LearningEvent.SCORED] == 1
    json.dumps([row.coverage for row in learner.report().rows], allow_nan=False)
