import json

import pytest
from pydantic import ValidationError

from runner.breaker.shared import SyncRequest
from runner.types import BreakerCommand
from serve_app.deployments.actors import breaker_actor
from serve_app.deployments.breaker import BreakerActor
from tests.support.builders import make_config
from tests.unit.runner.breaker.breakers import fail, make_breakers, make_settings


async def test_settings_survive_that_serve_makes_a_dict_of_them():
    sent = breaker_actor(make_config()).model_dump()["init_args"]
    assert isinstance(sent[0], dict)

    actor = BreakerActor(*sent)

    assert await actor.command(["m"], BreakerCommand.FORCE_OPEN) == "forced_open"


async def test_it_remembers_what_it_was_told():
    actor = BreakerActor(make_settings())
    copy = make_breakers()
    fail(copy, "m", 0.0)

    stranger = await actor.sync(SyncRequest(None))
    await actor.sync(SyncRequest(None, copy=copy.snapshot(0.0)))
    known = (await actor.sync(SyncRequest(stranger.actor))).breakers

    assert stranger.breakers is None
    assert known is not None
    assert known["m"]["state"] == "open"
    assert 99.0 < known["m"]["retry_in_s"] < 100.0


async def test_no_two_lives_have_the_same_name():
    lives = [(await BreakerActor(make_settings()).sync(SyncRequest(None))).actor for _ in range(2)]

    assert len(set(lives)) == 2


async def test_wrong_settings_raise_in_its_methods_and_never_in_its_constructor():
    """While the constructor raises Serve starts no Runner; a method that raises costs agreement."""
    actor = BreakerActor({"probes": "many"})

    with pytest.raises(ValidationError, match="probes"):
        await actor.sync(SyncRequest(None))


def test_what_serve_tells_about_it_is_json():
    """`serve status` and KubeRay read it; a clock among the arguments once broke both."""
    told = breaker_actor(make_config()).model_dump(exclude={"actor_class"})

    assert json.loads(json.dumps(told))["init_args"][0]["probes"] == 1
    assert told["actor_options"]["num_cpus"] > 0  # else it may land on a head that takes no work
    assert told["actor_options"]["enable_task_events"] is False  # four calls a second, for ever
