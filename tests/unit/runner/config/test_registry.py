from pathlib import Path

import pytest
import yaml

from runner.config.registry import Registry, load_registry, wanted_models
from runner.config.sections import Environment
from runner.errors import ConfigError, ModelNotAllowedError, UnknownModelError
from tests.support.builders import make_config, make_registry

SHIPPED = Path(__file__).parents[4] / "configs" / "tsfm_models.yaml"


def make_entry(name, **changes):
    entry = {
        "runtime_name": name,
        "aliases": [],
        "license_tag": "commercial_ok",
        "license": "Apache-2.0",
        "version": None,
        "max_series_per_call": None,
        "max_context": None,
        "levels": None,
        "allowed_params": {},
        "note": None,
    }
    return entry | changes


def make_values():
    return {
        "models": {
            "big": make_entry("vendor-big-2", aliases=["b", "shared"]),
            "small": make_entry("small"),
            "lab": make_entry("lab", license_tag="research_only", license="CC-BY-NC-4.0"),
            "spare": make_entry("spare"),
        },
        "environments": {
            "dev": {"allowed_models": ["big", "small", "lab"], "aliases": {"shared": "small"}},
            "prod": {"allowed_models": ["big"], "aliases": {}},
        },
    }


@pytest.fixture
def registry():
    return Registry.model_validate(make_values())


@pytest.mark.parametrize("name", ["big", "vendor-big-2", "b"])
def test_name_runtime_name_and_alias_resolve_to_the_same_model(registry, name):
    entry = registry.resolve(name, Environment.DEV)

    assert entry.runtime_name == "vendor-big-2"


def test_alias_of_an_environment_overrides_that_of_a_model(registry):
    in_dev = registry.resolve("shared", Environment.DEV)
    in_prod = registry.resolve("shared", Environment.PROD)

    assert (in_dev.name, in_prod.name) == ("small", "big")


@pytest.mark.parametrize(
    ("name", "environment", "error", "words"),
    [
        ("", "dev", UnknownModelError, "No such model"),
        ("Big", "dev", UnknownModelError, "Did you mean big"),
        ("lab", "prod", ModelNotAllowedError, r"lab .* prod: .*CC-BY-NC-4\.0.*research_only"),
        ("spare", "dev", ModelNotAllowedError, r"spare .* dev: .*allowed_models"),
    ],
)
def test_unknown_and_not_allowed_models_are_refused_with_the_reason(
    registry, name, environment, error, words
):
    with pytest.raises(error, match=words):
        registry.resolve(name, Environment(environment))


def test_served_lists_allowed_models_with_the_aliases_that_hold_there(registry):
    in_dev = {s.entry.name: s.aliases for s in registry.served(Environment.DEV)}
    in_prod = {s.entry.name: s.aliases for s in registry.served(Environment.PROD)}

    assert in_dev == {"big": ("b", "vendor-big-2"), "small": ("shared",), "lab": ()}
    assert in_prod == {"big": ("b", "shared", "vendor-big-2")}


@pytest.mark.parametrize(("own", "most", "limit"), [(None, 64, 64), (16, 64, 16), (16, 8, 8)])
def test_batch_limit_is_the_smaller_of_model_and_service(own, most, limit):
    values = make_values()
    values["models"]["big"]["max_series_per_call"] = own

    assert Registry.model_validate(values).batch_limit("vendor-big-2", most) == limit


RULES = {
    "n": {"type": "int", "min": 1, "max": 9},
    "t": {"type": "float", "min": 0.0, "max": 2.0},
    "mode": {"type": "str", "choices": ["fast", "exact"]},
}


def filtered(params):
    values = make_values()
    values["models"]["big"]["allowed_params"] = RULES
    return Registry.model_validate(values).models["big"].filter_params(params)


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


def change(path, value):
    values = make_values()
    *parents, last = path
    target = values
    for key in parents:
        target = target[key]
    target[last] = value
    return values


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            change(["environments", "prod", "allowed_models"], ["big", "lab"]),
            r"environments\.prod\.allowed_models: lab is tagged research_only \(CC-BY-NC-4\.0\)",
        ),
        (change(["models", "small", "aliases"], ["b"]), "the name b means two models, big and sma"),
        (change(["models", "small", "runtime_name"], "big"), "the name big means two models"),
        (change(["environments", "dev", "allowed_models"], ["ghost"]), "ghost is not registered"),
        (change(["environments", "dev", "aliases"], {"x": "ghost"}), r"aliases\.x: ghost is not"),
        (change(["environments", "prod", "aliases"], {"x": "small"}), r"aliases\.x: small is not"),
        (change(["environments", "dev", "aliases"], {"big": "small"}), "a model's own name"),
        (change(["environments"], {"dev": make_values()["environments"]["dev"]}), "prod is missin"),
        (change(["models", "big"], make_entry("x", license_tag="free")), r"models\.big\.license_t"),
        (change(["models", "big"], make_entry("x", extra=1)), r"models\.big\.extra"),
        (change(["models"], ["big"]), "models"),
        (
            change(
                ["models", "big"],
                make_entry("x", allowed_params={"n": {"type": "int", "min": 2, "max": 1}}),
            ),
            "min must not be over max",
        ),
    ],
)
def test_contradiction_in_the_file_is_named_with_the_file(tmp_path, values, complaint):
    file = tmp_path / "models.yaml"
    file.write_text(yaml.safe_dump(values), "utf-8")

    with pytest.raises(ConfigError, match=rf"(?s)models\.yaml: .*{complaint}"):
        load_registry(file)


@pytest.fixture(scope="module")
def shipped():
    return load_registry(SHIPPED)


def test_shipped_prod_has_neither_the_test_model_nor_the_embedded_one(shipped):
    names = {s.entry.name for s in shipped.served(Environment.PROD)}

    assert names.isdisjoint({"mock", "fracast-0"})


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
def test_shipped_aliases_resolve_to_the_documented_models(shipped, alias, dev, prod):
    in_dev = shipped.resolve(alias, Environment.DEV)
    in_prod = shipped.resolve(alias, Environment.PROD)

    assert (in_dev.runtime_name, in_prod.runtime_name) == (dev, prod)


def test_models_to_load_in_advance_are_found_by_name_or_alias():
    config = make_config(request={"model": "chronos"}, tollama={"warm_models": ["timesfm"]})

    assert wanted_models(make_registry(), config) == {"fracast-0", "timesfm-2.5-200m"}


def test_a_model_to_load_in_advance_must_be_served():
    config = make_config(tollama={"warm_models": ["chronoss"]})

    with pytest.raises(ConfigError, match=r"tollama\.warm_models: chronoss"):
        wanted_models(make_registry(), config)
