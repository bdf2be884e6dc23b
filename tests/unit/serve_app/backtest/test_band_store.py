from pathlib import Path

import numpy as np
import pytest

from serve_app.backtest.band_store import CHUNK, Store, compute, open_store
from serve_app.backtest.forecasters import BASELINE, forecast
from tests.support.builders import make_config
from tests.support.markets import made_windows, rough_prices

CONFIG = make_config()
PRICES = rough_prices(CHUNK + 20, 40)
WINDOWS = made_windows(PRICES[:, :36], PRICES[:, 36:])


def test_a_chunk_whose_writing_was_interrupted_does_not_exist(tmp_path: Path) -> None:
    store = Store(tmp_path)

    class StoppedError(Exception): ...

    class Half:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise StoppedError

    with pytest.raises(StoppedError):
        store.save("a", 0, {"bands": np.zeros(3), "source": Half()})
    assert store.load("a", 0) is None


def test_other_data_or_settings_have_another_folder(tmp_path: Path) -> None:
    data = tmp_path / "prices.csv"
    data.write_text("a", "utf-8")
    first = open_store(tmp_path / "work", data, {"points": 288})
    same = open_store(tmp_path / "work", data, {"points": 288})
    settings = open_store(tmp_path / "work", data, {"points": 96})
    data.write_text("b", "utf-8")
    content = open_store(tmp_path / "work", data, {"points": 288})

    assert first.folder == same.folder
    assert len({first.folder, settings.folder, content.folder}) == 3


def test_finished_chunks_are_not_computed_again_and_all_are_joined_in_order(tmp_path: Path) -> None:
    store, stored = Store(tmp_path), np.full((CHUNK, 4, 5), 0.5)
    store.save(BASELINE, 0, {"bands": stored})
    finished: list[tuple[str, int]] = []
    bands = compute([BASELINE], WINDOWS, CONFIG, store, 1, lambda *done: finished.append(done))

    computed = forecast(BASELINE, WINDOWS.take(slice(CHUNK, None)), CONFIG)
    np.testing.assert_array_equal(bands[BASELINE], np.concatenate([stored, computed]))
    assert finished == [(BASELINE, CHUNK), (BASELINE, 20)]


def test_several_processes_give_the_same_as_one(tmp_path: Path) -> None:
    sources = [BASELINE, "last value"]
    together = compute(sources, WINDOWS, CONFIG, Store(tmp_path), 2, lambda *_: None)

    for source in sources:
        np.testing.assert_array_equal(together[source], forecast(source, WINDOWS, CONFIG))
