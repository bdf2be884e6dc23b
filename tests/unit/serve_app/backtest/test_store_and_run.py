from pathlib import Path

import numpy as np
import pytest

from serve_app.backtest import run
from serve_app.backtest.forecasters.forecasters import BASELINE, BaselineSettings, forecast
from serve_app.backtest.run import CHUNK, chunks, compute
from serve_app.backtest.store import Store, open_store
from tests.support.builders import LOGIT, make_config
from tests.support.markets import made_windows, rough_prices

SETTINGS = BaselineSettings(make_config().baseline, LOGIT)
PRICES = rough_prices(CHUNK + 20, 40)
WINDOWS = made_windows(PRICES[:, :36], PRICES[:, 36:])


def test_a_chunk_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("a (b)", 3, {"bands": np.arange(6.0), "source": np.array(["x", "y"])})
    found = store.load("a (b)", 3)

    assert found is not None
    assert found["bands"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["source"].tolist() == ["x", "y"]
    assert store.load("a (b)", 4) is None


def test_a_chunk_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    store = Store(tmp_path)

    class StoppedError(Exception): ...

    class Half:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise StoppedError

    with pytest.raises(StoppedError):
        store.save("a", 0, {"bands": np.zeros(3), "source": Half()})
    assert store.load("a", 0) is None


def test_other_data_or_settings_are_another_folder(tmp_path: Path) -> None:
    data = tmp_path / "prices.csv"
    data.write_text("a", "utf-8")
    first = open_store(tmp_path / "work", data, {"points": 288})
    same = open_store(tmp_path / "work", data, {"points": 288})
    settings = open_store(tmp_path / "work", data, {"points": 96})
    data.write_text("b", "utf-8")
    content = open_store(tmp_path / "work", data, {"points": 288})

    assert first.folder == same.folder
    assert len({first.folder, settings.folder, content.folder}) == 3


def test_chunks_are_put_together_in_order_and_every_window_is_counted(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    bands = compute([BASELINE], WINDOWS, SETTINGS, Store(tmp_path), 1, lambda *c: told.append(c))

    np.testing.assert_array_equal(bands[BASELINE], forecast(BASELINE, WINDOWS, SETTINGS))
    assert told == [(BASELINE, CHUNK), (BASELINE, 20)]


def test_finished_chunks_are_not_computed_again(tmp_path: Path) -> None:
    store, marked = Store(tmp_path), np.full((CHUNK, 4, 5), 0.5)
    store.save(BASELINE, 0, {"bands": marked})
    bands = compute([BASELINE], WINDOWS, SETTINGS, store, 1, lambda *_: None)[BASELINE]

    np.testing.assert_array_equal(bands[:CHUNK], marked)
    assert (bands[CHUNK:] != 0.5).any()


def test_several_processes_give_what_one_gives(tmp_path: Path) -> None:
    sources = [BASELINE, "last value"]
    alone = compute(sources, WINDOWS, SETTINGS, Store(tmp_path), 1, lambda *_: None)
    (tmp_path / "b").mkdir()
    together = compute(sources, WINDOWS, SETTINGS, Store(tmp_path / "b"), 2, lambda *_: None)

    for source in sources:
        np.testing.assert_array_equal(alone[source], together[source])


def test_the_last_chunk_may_be_short() -> None:
    assert [chunk.rows for chunk in chunks("a", CHUNK + 1)] == [
        slice(0, CHUNK),
        slice(CHUNK, 2 * CHUNK),
    ]
    assert run.chunks("a", CHUNK) == [run.Chunk("a", 0)]
