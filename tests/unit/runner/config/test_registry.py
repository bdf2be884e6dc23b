import pytest
import yaml

from runner.config.registry import Registry, load_registry, wanted_models
from runner.config.sections import Environment
from runner.errors import ConfigError, ModelNotAllowedError, UnknownModelError
from tests.support.builders import ROOT, make_config, make_registry

SHIPPED = ROOT / "configs/tsfm_models.yaml"


def change(path, value):
    """The shipped registry with another value in one place."""
    values = yaml.safe_load(SHIPPED.read_text("utf-8"))
    *parents, last = path
    target = values
    for key in parents:
        target = target[key]
    target[last] = value
    return values


def change_mock(**entry):
    """The shipped registry with other values of the model ``mock``."""
    values = yaml.safe_load(SHIPPED.read_text("utf-8"))
    values["models"]["mock"] |= entry
    return values


def test_name_runtime_name_and_alias_resolve_to_the_same_model():
    registry = Registry.model_validate(change_mock(runtime_name="vendor-mock-2", aliases=["m"]))

    found = {registry.resolve(n, Environment.DEV).name for n in ("mock", "vendor-mock-2", "m")}
    aliases = {s.entry.name: s.aliases for s in registry.served(Environment.DEV)}

    assert found == {"mock"}
    assert aliases["mock"] == ("m", "vendor-mock-2")


@pytest.mark.parametrize(
    ("name", "environment", "error", "words"),
    [
        ("", "dev", UnknownModelError, "No such model"),
        ("Mock", "dev", UnknownModelError, "Did you mean mock"),
        ("moirai", "prod", ModelNotAllowedError, r"moirai.* prod: .*CC-BY-NC-4\.0.*research_only"),
        ("mock", "prod", ModelNotAllowedError, r"mock .* prod: .*allowed_models"),
    ],
)
def test_unknown_and_not_allowed_models_are_refused_with_the_reason(
    name, environment, error, words
):
    with pytest.raises(error, match=words):
        make_registry().resolve(name, Environment(environment))


def test_served_lists_allowed_models_with_the_aliases_that_hold_there():
    dev, prod = (
        {s.entry.name: s.aliases for s in make_registry().served(environment)}
        for environment in (Environment.DEV, Environment.PROD)
    )

    assert set(dev) - set(prod) == {"moirai-2.0-R-small", "mock", "fracast-0"}
    assert (dev["chronos2"], dev["fracast-0"]) == ((), ("chronos", "fracast"))
    assert prod["chronos2"] == ("chronos",)


@pytest.mark.parametrize(
    ("model", "most", "limit"), [("chronos2", 64, 64), ("fracast-0", 64, 16), ("fracast-0", 8, 8)]
)
def test_batch_limit_is_the_smaller_of_model_and_service(model, most, limit):
    assert make_registry().batch_limit(model, most) == limit


RULES = {
    "n": {"type": "int", "min": 1, "max": 9},
    "t": {"type": "float", "min": 0.0, "max": 2.0},
    "mode": {"type": "str", "choices": ["fast", "exact"]},
}


def filtered(params):
    registry = Registry.model_validate(change_mock(allowed_params=RULES))
    return registry.models["mock"].filter_params(params)


def test_allowed_params_are_kept_in_the_order_of_their_names():
    assert filtered({"t": 2, "n": 9, "mode": "fast"}) == (("mode", "fast"), ("n", 9), ("t", 2))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 0),
        ("n", 10),
        ("n", 2.0),
        ("n", True),
        ("n", "2"),
        ("n", None),
        ("t", float("nan")),
        ("t", 2.1),
        ("mode", "slow"),
        ("mode", 1),
        ("data_url", "file:///etc/hostname"),
    ],
)
def test_param_that_is_unknown_or_out_of_bounds_is_dropped(name, value):
    assert filtered({name: value}) == ()


NO_MODELS: dict[str, object] = {"allowed_models": [], "aliases": {}}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            change(["environments", "prod", "allowed_models"], ["moirai-2.0-R-small"]),
            r"environments\.prod\.allowed_models: moirai.* research_only \(CC-BY-NC-4\.0\)",
        ),
        (change_mock(aliases=["toto"]), "the name toto means two models, mock and toto-open-base"),
        (change_mock(runtime_name="chronos2"), "the name chronos2 means two models"),
        (change(["environments", "dev", "allowed_models"], ["ghost"]), "ghost is not registered"),
        (change(["environments", "dev", "aliases"], {"x": "ghost"}), r"aliases\.x: ghost is not"),
        (change(["environments", "prod", "aliases"], {"x": "mock"}), r"aliases\.x: mock is not"),
        (change(["environments", "dev", "aliases"], {"mock": "toto"}), "a model's own name"),
        (change(["environments"], {"dev": NO_MODELS}), "prod is missing"),
        (change_mock(license_tag="free"), r"models\.mock\.license_tag"),
        (change_mock(extra=1), r"models\.mock\.extra"),
        (change(["models"], ["mock"]), "models"),
        (
            change_mock(allowed_params={"n": {"type": "int", "min": 2, "max": 1}}),
            "min must not be over max",
        ),
    ],
)
def test_contradiction_in_the_file_is_named_with_the_file(tmp_path, values, complaint):
    file = tmp_path / "models.yaml"
    file.write_text(yaml.safe_dump(values), "utf-8")

    with pytest.raises(ConfigError, match=rf"(?s)models\.yaml: .*{complaint}"):
        load_registry(file)


@pytest.mark.parametrize(
    ("alias", "dev", "prod"),
    [
        ("chronos", "fracast-0", "chronos2"),
        ("timesfm", "timesfm-2.5-200m", "timesfm-2.5-200m"),
        ("toto", "toto-open-base-1.0", "toto-open-base-1.0"),
        ("sundial", "sundial-base-128m", "sundial-base-128m"),
        ("granite", "granite-ttm-r2", "granite-ttm-r2"),
        ("lag-llama", "lag-llama", "lag-llama"),
    ],
)
def test_shipped_aliases_resolve_to_the_documented_models(alias, dev, prod):
    in_dev = make_registry().resolve(alias, Environment.DEV)
    in_prod = make_registry().resolve(alias, Environment.PROD)

    assert (in_dev.runtime_name, in_prod.runtime_name) == (dev, prod)


def test_models_to_load_in_advance_are_found_by_name_or_alias():
    config = make_config(request={"model": "chronos"}, tollama={"warm_models": ["timesfm"]})

    assert wanted_models(make_registry(), config) == {"fracast-0", "timesfm-2.5-200m"}


def test_a_model_to_load_in_advance_must_be_served():
    config = make_config(tollama={"warm_models": ["chronoss"]})

    with pytest.raises(ConfigError, match=r"tollama\.warm_models: chronoss is no model here; dev"):
        wanted_models(make_registry(), config)


def test_a_model_to_load_in_advance_must_be_allowed():
    config = make_config(
        environment=Environment.PROD, request={"model": "chronos2"}, routing={"shadow": ("moirai",)}
    )

    with pytest.raises(ConfigError, match=r"routing\.shadow: moirai: .*research_only"):
        wanted_models(make_registry(), config)
