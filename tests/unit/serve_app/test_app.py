from serve_app.app import sources_of
from tests.support.builders import make_registry


def test_sources_are_the_baseline_and_every_registered_model() -> None:
    registry = make_registry()

    assert sources_of(registry) == {"ewma", *(e.runtime_name for e in registry.models.values())}
