"""The learning actor's process: what Serve may see of a fault in it."""

import os
import pickle

import pytest
from pydantic import ValidationError

from serve_app.deployments.learning import ClockedLearningActor
from serve_app.remote.learning_actor import LearningActor
from tests.support.learning import make_settings

SETTINGS = make_settings(state_file=None, learned_file=None).model_dump_json()
NOTHING_SEEN = pickle.dumps([])


@pytest.fixture(autouse=True)
def own_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor lowers that of its process, which is this one here."""
    monkeypatch.setattr(os, "setpriority", lambda *_: None)


async def test_constructor_cannot_fail_and_each_call_does_for_itself() -> None:
    actor = ClockedLearningActor("no JSON", ["ewma"])

    for _ in range(2):
        with pytest.raises(ValidationError):
            await actor.exchange(NOTHING_SEEN, None)
    with pytest.raises(ValidationError):
        await actor.outcomes([])


async def test_actor_that_cannot_be_built_at_first_is_built_by_a_later_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    actor = ClockedLearningActor(SETTINGS, ["ewma"])
    with monkeypatch.context() as patch:
        patch.setattr(LearningActor, "__init__", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await actor.exchange(NOTHING_SEEN, None)

    first = await actor.exchange(NOTHING_SEEN, None)
    assert (await actor.exchange(NOTHING_SEEN, first.version)).state is None  # the same life
