"""``GET /tsfm/skill``, the status and the metrics: each model beside the baseline."""

from collections import Counter
from typing import Any

import pytest

from runner.config.loading import load_config
from runner.config.sections import Pin, RoutingMode, RoutingSection
from runner.errors import ConfigError
from serve_app.http.status_endpoint import update_gauges
from tests.support.bench import Bench
from tests.support.builders import ROOT, make_config
from tests.support.fakes import FakeLearning
from tests.support.learning import NARROW, make_learning


async def test_rows_say_skill_interval_verdict_and_what_follows() -> None:
    routing = {"mode": RoutingMode.ENFORCE, "pins": {NARROW: Pin.BASELINE}}
    bench = Bench(make_config(routing=routing), learning=make_learning())
    answer = (await bench.http.get("/tsfm/skill")).json()
    (every, narrow) = answer["skill"]

    assert answer["mode"] == "enforce"
    assert (every["model"], every["segment"], every["forecasts"]) == ("fracast-0", "all", 60)
    assert every["skill"] == pytest.approx(-1.0)
    assert every["skill_low"] < -1 < every["skill_high"] < 0
    scores = every["interval_score"], every["baseline_interval_score"]
    assert scores == pytest.approx((0.09, 0.06))
    assert (every["brier"], every["baseline_brier"]) == pytest.approx((0.2, 0.1))
    assert (every["verdict"], every["routed"], every["pinned"]) == ("worse", True, None)
    assert every["routed_by"] == "skill"
    assert (narrow["verdict"], narrow["pinned"]) == ("undecided", "baseline")
    assert (narrow["routed"], narrow["routed_by"]) == (True, "pin")
    assert (narrow["skill_low"], narrow["skill_high"]) == (None, None)
    status = (await bench.http.get("/tsfm/status")).json()
    assert (status["skill"], status["sources"]) == (answer["skill"], answer["sources"])


async def test_pin_of_all_holds_where_a_segment_has_no_own_one() -> None:
    pins = {"all": Pin.MODEL, NARROW: Pin.BASELINE}
    bench = Bench(make_config(routing={"pins": pins}), learning=make_learning())
    rows = (await bench.http.get("/tsfm/skill")).json()["skill"]
    update_gauges(bench.service, 0, bench.recorder)
    routed = [c.value for c in bench.recorder.changes() if c.metric.name == "tsfm_routed"]

    assert [(row["pinned"], row["routed"]) for row in rows] == [
        ("model", False),
        ("baseline", True),
    ]
    assert routed == [0.0, 1.0]


async def test_sources_say_what_to_do_with_a_model_and_whether_its_bands_keep_their_promise() -> (
    None
):
    bench = Bench(learning=make_learning())
    baseline, model = (await bench.http.get("/tsfm/skill")).json()["sources"]

    assert (model["source"], model["advice"], model["miscovers"]) == ("fracast-0", "drop", "under")
    assert (model["calibrated_coverage"], model["calibrated_forecasts"]) == (0.58, 73)
    assert (baseline["source"], baseline["advice"], baseline["miscovers"]) == ("ewma", None, None)


@pytest.mark.parametrize("learning", [None, FakeLearning()])
async def test_nothing_measured_is_an_empty_list(learning: Any) -> None:
    answer = (await Bench(learning=learning).http.get("/tsfm/skill")).json()

    assert answer == {"mode": "observe", "sources": [], "skill": []}


async def test_gauges_leave_out_what_is_not_known() -> None:
    bench = Bench(learning=make_learning())
    update_gauges(bench.service, 0, bench.recorder)
    counts = Counter(change.metric.name for change in bench.recorder.changes())

    assert (counts["tsfm_skill"], counts["tsfm_skill_high"], counts["tsfm_routed"]) == (2, 1, 2)
    assert counts["tsfm_miscovered"] == 2


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("MODE", "sometimes", "routing.mode"),
        ("PINS", '{"all": "ewma"}', "routing.pins"),
        ("PINS", '{"activity=fwe|price=edge|freq=5m": "model"}', "routing.pins"),
        ("PINS", '{"activity=few|price=edge": "model"}', "routing.pins"),
    ],
)
def test_wrong_routing_is_refused_at_start_with_its_key(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"TSFM_ROUTING__{key}", value)
    with pytest.raises(ConfigError, match=said):
        load_config(ROOT / "configs/local.yaml")


def test_bare_off_of_yaml_is_a_mode_and_enforce_needs_learning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert RoutingSection.model_validate({"mode": False}).mode is RoutingMode.OFF
    narrow = "activity=few|price=edge|freq=5m|closes=day|liquidity=high"
    assert RoutingSection.model_validate({"pins": {narrow: "model"}}).pins[narrow] is Pin.MODEL
    monkeypatch.setenv("TSFM_ROUTING__MODE", "enforce")
    monkeypatch.setenv("TSFM_CONFORMAL__ONLINE", "false")
    with pytest.raises(ConfigError, match=r"conformal\.online"):
        load_config(ROOT / "configs/local.yaml")
