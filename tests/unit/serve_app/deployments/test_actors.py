"""The two actors, and what Serve may see of a fault in them."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from runner.breaker.shared import SyncRequest
from runner.calibration.coverage import ForecastRecord, LearningEvent
from runner.config.sections import RoutingMode
from runner.types import BreakerCommand
from serve_app.deployments import actors
from serve_app.deployments.actors import (
    BreakerActor,
    LearningActor,
    LearningSettings,
    breaker_actor,
    learning_actor,
)
from serve_app.remote.learning_client import LearningReply, Version
from tests.support.builders import make_config
from tests.support.fakes import FakeClock
from tests.support.learning import make_seen, make_settings
from tests.unit.runner.breaker.breakers import make_settings as make_breaker_settings

SOURCES = ["ewma", "fracast-0"]


@pytest.fixture(autouse=True)
def own_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor lowers that of its process, which is this one here."""
    monkeypatch.setattr(os, "nice", lambda _: 0)


_LEARNS = """
import asyncio, os, pickle, sys
from serve_app.deployments.actors import LearningActor
os.nice(15)
if os.getuid() == 0:
    os.setuid(65534)
asyncio.run(LearningActor(sys.argv[1], ["ewma"]).exchange(pickle.dumps([]), None))
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


def test_learning_needs_no_privileges_and_has_less_priority_than_answering() -> None:
    """Ray starts its processes with niceness 15, which only root may make less."""
    settings = learning_actor(make_config(conformal={"learned_file": None}), ["ewma"])
    command = [sys.executable, "-c", _LEARNS, settings.init_args[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


@pytest.mark.parametrize("online", [False, True])
def test_configuration_in_serves_status_is_json(online: bool) -> None:
    """`serve status` and KubeRay read it; a clock among the arguments once broke both."""
    config = make_config(conformal={"learned_file": None})
    actor = learning_actor(config, {"ewma"}) if online else breaker_actor(config)
    shown = json.loads(json.dumps(actor.model_dump(exclude={"actor_class"})))

    if online:
        settings = LearningSettings.model_validate_json(shown["init_args"][0])
        assert settings.conformal == config.conformal
        assert "security" not in shown["init_args"][0]
    else:
        assert shown["init_args"][0] == config.circuit_breaker.model_dump()
    assert shown["actor_options"]["num_cpus"] > 0  # else it may run on a head that takes no work
    assert shown["actor_options"]["enable_task_events"] is False  # four calls a second


async def test_breaker_actor_accepts_the_dict_that_serve_makes_of_its_settings() -> None:
    sent = breaker_actor(make_config()).model_dump()["init_args"]
    assert isinstance(sent[0], dict)

    assert await BreakerActor(*sent).command(["m"], BreakerCommand.FORCE_OPEN) == "forced_open"


async def test_each_breaker_actor_has_its_own_id() -> None:
    first, other = (BreakerActor(make_breaker_settings()) for _ in range(2))
    request = SyncRequest(None)

    assert (await first.sync(request)).actor == (await first.sync(request)).actor
    assert (await first.sync(request)).actor != (await other.sync(request)).actor


async def test_wrong_settings_raise_in_each_call_and_never_in_a_constructor() -> None:
    breaker, learning = BreakerActor({"probes": "many"}), LearningActor("no JSON", SOURCES)

    for _ in range(2):
        with pytest.raises(ValidationError, match="probes"):
            await breaker.sync(SyncRequest(None))
        with pytest.raises(ValidationError, match="JSON"):
            await learning.exchange(pickle.dumps([]), None)
        with pytest.raises(ValidationError, match="JSON"):
            await learning.outcomes([])


async def test_learning_actor_that_cannot_be_built_is_built_by_a_later_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    actor, _ = make_actor()
    with monkeypatch.context() as patch:
        patch.setattr(actors, "initial_learned", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await exchange(actor)

    first = await exchange(actor)
    assert (await exchange(actor, known=first.version)).learned is None  # the same instance


def make_actor(file: Path | None = None) -> tuple[LearningActor, FakeClock]:
    clock = FakeClock()
    conformal = make_settings(state_file=None, learned_file=file, save_interval_s=30.0)
    (settings, _) = learning_actor(make_config(conformal=dict(conformal)), SOURCES).init_args
    return LearningActor(settings, SOURCES, clock), clock


async def exchange(
    actor: LearningActor, *records: ForecastRecord, known: Version | None = None
) -> LearningReply:
    return await actor.exchange(pickle.dumps(list(records)), known)


async def test_state_is_sent_only_to_a_replica_with_another_version() -> None:
    actor, _ = make_actor()
    first = await exchange(actor)
    later = await exchange(make_actor()[0])

    assert first.learned is not None
    assert (await exchange(actor, known=first.version)).learned is None
    assert (await exchange(actor, known=later.version)).learned is not None
    assert later.version > first.version


async def test_new_state_is_saved_at_intervals_and_the_next_actor_continues_from_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "learned.json"
    actor, clock = make_actor(file)
    before = await exchange(actor, make_seen(0, 0.5), make_seen(1, 0.9))
    assert not file.exists()  # not yet time

    clock.now += 31
    await exchange(actor)
    after = await exchange(make_actor(file)[0])
    clock.now += 31
    file.unlink()
    await exchange(actor)
    assert not file.exists()  # nothing new

    assert after.learned is not None
    assert after.learned.state.tracks["ewma"]["all"].sample_size.tolist() == [1]
    assert after.report.rows == before.report.rows


@pytest.mark.parametrize("name", ["file/learned.json", "a\0b"])
async def test_file_that_cannot_be_written_is_one_warning_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    actor, clock = make_actor(tmp_path / name)
    await exchange(actor)
    for step in range(4):
        clock.now += 31
        reply = await exchange(actor, make_seen(step, 0.5))

    assert reply.report.counts[LearningEvent.FAILED_SAVES] == 3
    assert caplog.text.count("cannot be saved") == 1


@pytest.mark.parametrize(("mode", "scored"), [("observe", 1), ("enforce", 1), ("off", 0)])
async def test_models_are_scored_beside_the_baseline_unless_that_is_off(
    mode: str, scored: int
) -> None:
    config = make_config(
        routing={"mode": RoutingMode(mode)}, conformal=dict(make_settings(learned_file=None))
    )
    actor = LearningActor(*learning_actor(config, SOURCES).init_args)
    await exchange(actor, make_seen(0, 0.5, source="fracast-0"))
    reply = await exchange(actor, make_seen(3, 0.5, 0.55, 0.6, 0.65, source="fracast-0"))

    rows = {row.segment: row.skill for row in reply.report.skill}
    assert rows["all"].forecasts == 1 if scored else rows == {}
