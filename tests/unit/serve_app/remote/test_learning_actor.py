import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from runner.calibration.coverage import Actual, ForecastRecord, LearningEvent, OutcomeCounts
from runner.calibration.learned_file import load_learned
from serve_app.remote.learning_actor import LearningActor, LearningReply
from tests.support.fakes import FakeClock
from tests.support.learning import START, STEP_S, make_seen, make_settings

SOURCES = frozenset({"ewma", "fracast-0"})
LIFE = 1_700_000_000_000


def make_actor(file: Path | None = None, **changes) -> tuple[LearningActor, FakeClock]:
    clock = FakeClock()
    settings = make_settings(learned_file=file, save_interval_s=30.0, **changes)
    return LearningActor(settings, SOURCES, clock, lambda: LIFE / 1000), clock


async def tell(actor: LearningActor, *seen: ForecastRecord, known=None) -> LearningReply:
    return await actor.exchange(pickle.dumps(list(seen)), known)


async def test_replicas_that_saw_the_forecast_and_the_outcome_teach_together() -> None:
    actor, _ = make_actor()
    await tell(actor, make_seen(0, 0.5))
    reply = await tell(actor, make_seen(1, 0.5, 0.9))

    assert reply.version == (LIFE, 1)
    assert reply.state is not None
    assert reply.state.tracks["ewma"]["all"].sample_size.tolist() == [1]
    assert reply.report.rows[0].points == 1


async def test_state_travels_only_when_it_is_new() -> None:
    actor, _ = make_actor()
    first = await tell(actor)

    assert first.state is not None
    assert (await tell(actor, known=first.version)).state is None
    assert (await tell(actor, known=(LIFE - 1, 0))).state is not None


async def test_outcomes_that_are_sent_are_scored() -> None:
    actor, _ = make_actor()
    await tell(actor, make_seen(0, 0.5))

    counts = await actor.outcomes([Actual("m-1", START + STEP_S, 0.5)])

    assert counts == OutcomeCounts(1, 1, 0, 1)


async def test_what_was_learned_is_saved_when_it_is_time_and_there_is_something_new(
    tmp_path: Path,
) -> None:
    file = tmp_path / "learned.json"
    actor, clock = make_actor(file)
    await tell(actor, make_seen(0, 0.5), make_seen(1, 0.5))
    assert not file.exists()  # not yet time

    clock.now += 31
    await tell(actor)
    first = file.read_text()
    clock.now += 31
    file.unlink()
    await tell(actor)
    assert not file.exists()  # nothing new

    await tell(actor, make_seen(2, 0.5, 0.5))
    assert file.read_text() != first


async def test_next_life_goes_on_where_the_last_one_was_saved(tmp_path: Path) -> None:
    file = tmp_path / "learned.json"
    actor, clock = make_actor(file)
    clock.now += 31
    before = await tell(actor, make_seen(0, 0.5), make_seen(1, 0.9))
    after = await tell(make_actor(file)[0])

    assert before.state is not None
    assert after.state is not None
    was, now = (r.state.tracks["ewma"]["all"] for r in (before, after) if r.state is not None)
    np.testing.assert_allclose(now.factors, was.factors, atol=1e-6)
    assert now.sample_size.tolist() == was.sample_size.tolist() == [1]
    assert after.report.rows == before.report.rows


@pytest.mark.parametrize("name", ["file/learned.json", "a\0b"])
async def test_path_that_cannot_be_written_is_said_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    actor, clock = make_actor(tmp_path / name)
    for step in range(4):
        clock.now += 31
        reply = await tell(actor, make_seen(step, 0.5))

    assert reply.report.counts[LearningEvent.FAILED_SAVES] == 3
    assert caplog.text.count("cannot be saved") == 1


async def test_file_is_json_that_a_person_can_read(tmp_path: Path) -> None:
    file = tmp_path / "learned.json"
    actor, clock = make_actor(file)
    clock.now += 31
    await tell(actor, make_seen(0, 0.5), make_seen(1, 0.5))

    text = json.loads(file.read_text())
    assert text["rolling"][0]["source"] == "ewma"
    assert text["conformal"]["sources"]["ewma"]["all"]["sample_size"] == [1]
    assert load_learned(file, 0.8, SOURCES, None) is not None
