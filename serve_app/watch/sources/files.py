"""Prices from files, and from any HTTP endpoint that answers JSON of the same forms."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from serve_app.watch.quotes import Quotes, Reading, SourceError
from serve_app.watch.sources.polite import PoliteHttp
from tsfm_client.series_files import PriceFile, SeriesFileError, prices_of_json, read_prices

SUFFIXES = (".csv", ".gz", ".json", ".jsonl", ".parquet")


class Files:
    """A file, or all files of a folder, read again in each cycle: they may grow."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self, now: float) -> Reading:
        """The prices in all files; a file that cannot be read is skipped."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Reading:
        path = self._path
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        reading = Reading()
        for file in files:
            if path.is_dir() and file.suffix not in SUFFIXES:
                continue
            try:
                add(reading, read_prices(file))
            except SeriesFileError as exc:
                reading.skipped[file.name] = str(exc)
        if not reading.quotes and not reading.skipped:
            raise SourceError(f"{path} has no file of prices")
        return reading


class JsonUrl:
    """A URL that answers JSON with the recent prices of all markets."""

    def __init__(self, http: PoliteHttp, url: str, columns: Mapping[str, str]) -> None:
        self._http, self._url, self._columns = http, url, columns

    async def read(self, now: float) -> Reading:
        """The prices in the answer."""
        value = await self._http.get_json(self._url)
        reading = Reading()
        try:
            changed = datetime.fromtimestamp(now, UTC)
            add(reading, prices_of_json("the answer", value, changed, self._columns))
        except SeriesFileError as exc:
            raise SourceError(str(exc)) from exc
        return reading


def add(reading: Reading, found: PriceFile) -> None:
    """Adds the markets of a file; those without times are skipped."""
    for market in found.markets.values():
        pairs = [(t, p) for t, p in zip(market.times, market.values, strict=False) if p is not None]
        if not pairs:
            reading.skipped[market.market_id] = "it has no prices with times"
            continue
        times, prices = zip(*pairs, strict=True)
        reading.quotes.append(Quotes(market.market_id, times, prices))
