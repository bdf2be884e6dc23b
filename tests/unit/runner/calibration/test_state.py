import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.calibration.state import (
    ConformalState,
    StepFactors,
    load_state,
    save_state,
    segment_chain,
    state_body,
)
from runner.config.conformal import Dimension
from runner.errors import ConfigError
from tests.support.learning import make_settings

SOURCES = ("ewma", "fracast-0")


def make_track(samples: int = 300, lower: float = 1.25, upper: float = 0.8) -> StepFactors:
    return StepFactors(np.array([[lower, upper], [1.0, 1.5]]), np.array([samples, samples + 7]))


def make_state() -> ConformalState:
    return ConformalState(
        0.8,
        {
            "ewma": {"all": make_track(), "liquidity=high": make_track(250, lower=2.0)},
            "fracast-0": {"all": make_track(900)},
        },
    )


def test_saved_state_is_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "state.json"

    save_state(path, make_state())
    loaded = load_state(path, 0.8, SOURCES)

    assert state_body(loaded) == state_body(make_state())
    assert loaded.target_coverage == 0.8
    track = loaded.tracks["ewma"]["liquidity=high"]
    np.testing.assert_array_equal(track.factors, [[2.0, 0.8], [1.0, 1.5]])
    np.testing.assert_array_equal(track.sample_size, [250, 257])


def test_reader_never_gets_a_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    save_state(path, make_state())
    with path.open() as opened_before:
        save_state(path, ConformalState(0.8))

        assert len(json.load(opened_before)["sources"]) == 2
    assert load_state(path, 0.8, SOURCES).tracks == {}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("schema_version", 2, "Input should be 1"),
        ("sources.ewma.all.lower.0", float("nan"), "Input should be a finite number"),
        ("sources.ewma.all.lower.1", 21.0, ".*less than or equal to 20"),
        ("sources.ewma.all.upper.0", 0.0, r".*greater than or equal to 0\.05"),
        ("sources.ewma.all.upper.1", "1.0", ".*valid number"),
        ("sources.ewma.all.sample_size.0", -1, ".*greater than or equal to 0"),
        ("sources.ewma.all.sample_size.1", 10**30, ".*less than or equal to 9007199254740992"),
        ("sources.ewma.all.sample_size", [], ".*at least 1 item"),
        ("surprise", 1, "Extra inputs"),
        ("sources", [], "Input should be"),
        ("sources.ewma.all.lower", [1.0], r"sources.ewma.all: .*one number a step"),
        ("levels", [0.05, 0.95], ".*levels and target_coverage contradict"),
        ("sources.prophet", {}, r"sources\.prophet is no model of this service"),
    ],
)
def test_invalid_file_is_refused_with_its_name_and_the_fault(
    tmp_path: Path, place: str, value: Any, message: str
) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps(changed(place, value)))

    with pytest.raises(ConfigError, match=rf"state\.json: ({place}: )?{message}"):
        load_state(path, 0.8, SOURCES)


def changed(place: str, value: Any) -> Any:
    """The content of a valid file with one other value."""
    body = json.loads(json.dumps(state_body(make_state())))
    *keys, last = place.split(".")
    inner = body
    for key in keys:
        inner = inner[key]
    inner[int(last) if isinstance(inner, list) else last] = value
    return body


@pytest.mark.parametrize("name", ["missing", "a\0b"])
def test_missing_file_and_impossible_path_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: the conformal state cannot be read"):
        load_state(tmp_path / name, 0.8, SOURCES)


def test_state_for_another_coverage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    save_state(path, make_state())

    with pytest.raises(ConfigError, match=r"levels are \[0\.1, 0\.9\], but .* needs \[0\.05, 0\."):
        load_state(path, 0.9, SOURCES)


@pytest.mark.parametrize(
    ("source", "horizon_steps", "of_source", "of_segment", "expected"),
    [
        ("ewma", 2, 300, 250, "liquidity=high"),
        ("ewma", 1, 251, 251, "all"),  # too few in the segment
        ("ewma", 2, 250, 301, "all"),  # the segment `all` needs only enough of the source
        ("ewma", 2, 301, 250, None),  # too few in the source
        ("ewma", 3, 9, 9, None),  # longer than the scored horizon
        ("other", 2, 9, 9, None),
    ],
)
def test_narrowest_segment_with_enough_outcomes_is_found(
    source: str, horizon_steps: int, of_source: int, of_segment: int, expected: str | None
) -> None:
    chain = ("liquidity=high|freq=5m", "liquidity=high", "all")
    settings = make_settings(min_samples=of_source, min_segment_samples=of_segment)

    found = make_state().find(source, chain, horizon_steps, settings)

    assert (found and found[0]) == expected


EDGES = (0.01, 0.03, 0.1)


def chain(
    *dimensions: Dimension,
    liquidity: str | None = "high",
    freq: str = "5m",
    width: float | None = 0.02,
) -> tuple[str, ...]:
    settings = make_settings(segments=dimensions, width_edges=EDGES)
    interval = None if width is None else np.array([[0.0, width / 2, width]])
    return segment_chain(settings, liquidity, freq, interval)


def test_first_dimension_is_dropped_first_and_missing_values_are_left_out() -> None:
    both = (Dimension.LIQUIDITY, Dimension.WIDTH)

    assert chain(*both) == ("liquidity=high|width=0.01..0.03", "width=0.01..0.03", "all")
    assert chain(*both, liquidity=None) == ("width=0.01..0.03", "all")
    assert chain(*both, width=None) == ("liquidity=high", "all")
    assert chain(Dimension.FREQ) == ("freq=5m", "all")


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (0.0, "0..0.01"),
        (0.0099, "0..0.01"),
        (0.01, "0.01..0.03"),
        (0.1, "0.1..1"),
        (1.0, "0.1..1"),
    ],
)
def test_range_of_widths_includes_its_lower_edge(width: float, expected: str) -> None:
    assert chain(Dimension.WIDTH, width=width)[0] == f"width={expected}"
