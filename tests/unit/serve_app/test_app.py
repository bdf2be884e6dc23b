import json

from runner.config.conformal import ConformalSection
from serve_app.app import sources_of
from serve_app.deployments.actors import learning_actor
from serve_app.deployments.learning import LEARNING
from tests.support.builders import make_config, make_registry


def test_sources_are_the_baseline_and_every_registered_model() -> None:
    registry = make_registry()

    assert sources_of(registry) == {"ewma", *(e.runtime_name for e in registry.models.values())}


def test_what_serve_tells_about_the_learning_actor_is_json_that_it_can_be_built_from() -> None:
    """`serve status` and KubeRay read it."""
    config = make_config(conformal={"learned_file": None})
    told = learning_actor(config, {"ewma"}).model_dump(exclude={"actor_class"})

    settings, sources = json.loads(json.dumps(told))["init_args"]

    assert told["name"] == LEARNING
    assert ConformalSection.model_validate_json(settings) == config.conformal
    assert sources == ["ewma"]
