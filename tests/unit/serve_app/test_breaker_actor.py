import inspect
import json
import random

import pytest

from runner.breaker import Permit
from runner.breaker_sync import SyncRequest
from serve_app.breaker_actor import BreakerActor
from serve_app.deployments.actors import breaker_actor
from serve_app.deployments.breaker import ClockedBreakerActor
from tests.breakers import FAILURE, FAST_S, make_replica, make_settings
from tests.builders import make_config

EPOCH = 1_700_000_000_000


def make_actor(**changes) -> BreakerActor:
    return BreakerActor(make_settings(**changes), lambda: 50.0, lambda: EPOCH / 1000, lambda: 0.5)


async def opened(actor):
    """A replica that made the actor open the breaker of "m"."""
    replica = make_replica()
    replica.receive(await actor.sync(replica.everything(0.0)), 0.0)
    for _ in range(3):
        replica.record("m", Permit(0), FAILURE, FAST_S, 0.0)
    replica.receive(await actor.sync(replica.news()), 0.0)
    return replica


async def test_its_epoch_is_the_wall_clock_at_its_birth_in_milliseconds():
    reply = await make_actor().sync(SyncRequest("r1", 0, 0))

    assert reply.epoch == EPOCH


async def test_reports_of_a_replica_open_the_breaker_by_the_actors_own_clock():
    actor = make_actor()

    replica = await opened(actor)

    assert replica.retry_in_s("m", 0.0) == 100.0
    assert json.loads(json.dumps(await actor.status()))["m"]["state"] == "open"


async def test_a_probe_is_named_after_the_epoch_so_that_no_two_lives_share_one():
    no_cooldown = make_settings(cooldown_jitter_fraction=1.0)
    actor = BreakerActor(no_cooldown, lambda: 50.0, lambda: 7.0, jitter=lambda: 0.0)
    replica = await opened(actor)

    reply = await actor.acquire("m", replica.news())

    assert reply.answer == Permit(2, "shared7000-1")


@pytest.mark.parametrize(
    ("command", "state"),
    [("force_open", "forced_open"), ("force_close", "forced_closed"), ("reset", "closed")],
)
async def test_commands_are_plain_words(command, state):
    actor = make_actor()
    await opened(actor)

    assert await actor.command("m", command) == state
    assert (await actor.status())["m"]["state"] == state


async def test_settings_survive_that_serve_makes_a_dict_of_them():
    sent = breaker_actor(make_config()).model_dump()["init_args"]
    assert isinstance(sent[0], dict)

    actor = ClockedBreakerActor(*sent)

    assert await actor.command("m", "force_open") == "forced_open"


async def test_an_unknown_command_is_refused():
    with pytest.raises(ValueError, match="explode"):
        await make_actor().command("m", "explode")


def test_jitter_is_chance_unless_told_otherwise():
    assert inspect.signature(BreakerActor).parameters["jitter"].default is random.random


def test_what_serve_tells_about_it_is_json():
    """`serve status` and KubeRay read it; a clock among the arguments once broke both."""
    told = breaker_actor(make_config()).model_dump(exclude={"actor_class"})

    assert json.loads(json.dumps(told))["init_args"][0]["probes"] == 1
    assert told["actor_options"]["num_cpus"] > 0  # else it may land on a head that takes no work
    assert told["actor_options"]["enable_task_events"] is False  # four calls a second, for ever
