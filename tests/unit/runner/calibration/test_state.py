import json
from collections.abc import Callable
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
    to_json,
)
from runner.config.conformal import Dimension, Enough
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

    assert to_json(loaded) == to_json(make_state())
    assert (
        sum("sample_size" in line for line in path.read_text().splitlines()) == 3
    )  # one a segment
    assert loaded.target_coverage == 0.8
    track = loaded.tracks["ewma"]["liquidity=high"]
    np.testing.assert_array_equal(track.factors, [[2.0, 0.8], [1.0, 1.5]])
    np.testing.assert_array_equal(track.sample_size, [250, 257])


def test_reader_never_gets_a_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    save_state(path, make_state())
    with path.open() as opened_before:
        save_state(path, ConformalState(0.8))

        assert opened_before.read() == to_json(make_state())
    assert path.read_text() == to_json(ConformalState(0.8))


def change(*path: str | int, to: Any) -> Callable[[Any], None]:
    def apply(body: Any) -> None:
        for key in path[:-1]:
            body = body[key]
        body[path[-1]] = to

    return apply


TRACK = ("sources", "ewma", "all")
WRONG = {
    "schema_version: Input should be 1": change("schema_version", to=2),
    r"sources\.ewma\.all\.lower\.0: Input should be a finite number": change(
        *TRACK, "lower", 0, to=float("nan")
    ),
    r"sources\.ewma\.all\.lower\.1: .*less than or equal to 20": change(
        *TRACK, "lower", 1, to=21.0
    ),
    r"sources\.ewma\.all\.upper\.0: .*greater than or equal to 0\.05": change(
        *TRACK, "upper", 0, to=0.0
    ),
    r"sources\.ewma\.all\.upper\.1: .*valid number": change(*TRACK, "upper", 1, to="1.0"),
    r"sources\.ewma\.all\.sample_size\.0: .*greater than or equal to 0": change(
        *TRACK, "sample_size", 0, to=-1
    ),
    r"sources\.ewma\.all\.sample_size\.1: .*less than or equal to 9007199254740992": change(
        *TRACK, "sample_size", 1, to=10**30
    ),
    r"sources\.ewma\.all: .*one number a step": change(*TRACK, "lower", to=[1.0]),
    r"sources\.ewma\.all\.sample_size: .*at least 1 item": change(*TRACK, "sample_size", to=[]),
    "the conformal state: levels and target_coverage contradict": change("levels", to=[0.05, 0.95]),
    r"surprise: Extra inputs": change("surprise", to=1),
    "sources: Input should be": change("sources", to=[]),
    r"sources\.prophet is no model of this service": change(
        "sources", "prophet", to={"all": {"sample_size": [1], "lower": [1.0], "upper": [1.0]}}
    ),
}


@pytest.mark.parametrize(("message", "spoil"), WRONG.items(), ids=[k[:40] for k in WRONG])
def test_invalid_file_is_refused_with_its_name_and_place(
    tmp_path: Path, message: str, spoil: Callable[[Any], None]
) -> None:
    body = json.loads(to_json(make_state()))
    spoil(body)
    path = tmp_path / "state.json"
    path.write_text(json.dumps(body))

    with pytest.raises(ConfigError, match=rf"state\.json: {message}"):
        load_state(path, 0.8, SOURCES)


def test_missing_file_folder_and_impossible_path_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    for name in ("missing", "folder", "a\0b"):
        with pytest.raises(ConfigError, match=rf"{name}: the conformal state cannot be read"):
            load_state(tmp_path / name, 0.8, SOURCES)


def test_state_for_another_coverage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    save_state(path, make_state())

    with pytest.raises(ConfigError, match=r"levels are \[0\.1, 0\.9\], but .* needs \[0\.05, 0\."):
        load_state(path, 0.9, SOURCES)


@pytest.mark.parametrize(
    ("source", "horizon_steps", "enough", "expected"),
    [
        ("ewma", 2, Enough(250, 250), "liquidity=high"),
        ("ewma", 2, Enough(300, 250), "liquidity=high"),
        ("ewma", 1, Enough(251, 251), "all"),  # too few in the segment
        ("ewma", 2, Enough(250, 301), "all"),  # the segment `all` needs only enough of the source
        ("ewma", 2, Enough(301, 250), None),  # too few in the source
        ("ewma", 3, Enough(1, 1), None),  # longer than the scored horizon
        ("other", 2, Enough(1, 1), None),
    ],
)
def test_narrowest_segment_with_enough_outcomes_is_found(
    source: str, horizon_steps: int, enough: Enough, expected: str | None
) -> None:
    chain = ("liquidity=high|freq=5m", "liquidity=high", "all")

    found = make_state().find(source, chain, horizon_steps, enough)

    assert (found and found[0]) == expected


def test_no_segment_is_found_where_none_of_those_asked_for_is_known() -> None:
    assert make_state().find("ewma", ("liquidity=low",), 2, Enough(1, 1)) is None


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


def test_first_dimension_is_dropped_first() -> None:
    assert chain(Dimension.LIQUIDITY, Dimension.FREQ, Dimension.WIDTH) == (
        "liquidity=high|freq=5m|width=0.01..0.03",
        "freq=5m|width=0.01..0.03",
        "width=0.01..0.03",
        "all",
    )


def test_missing_values_are_left_out() -> None:
    both = (Dimension.LIQUIDITY, Dimension.WIDTH)

    assert chain(*both, liquidity=None) == ("width=0.01..0.03", "all")
    assert chain() == ("all",)
    assert chain(*both, width=None) == ("liquidity=high", "all")


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
