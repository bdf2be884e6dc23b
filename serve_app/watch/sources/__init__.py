"""Where do prices come from? One class for each source; `named` makes one from the command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from serve_app.watch.quotes import Source
from serve_app.watch.sources.exchanges import Kalshi, Manifold, Polymarket
from serve_app.watch.sources.files import Files, JsonUrl
from serve_app.watch.sources.polite import PoliteHttp
from serve_app.watch.sources.replay import Replay

EXCHANGES = {"polymarket": Polymarket, "kalshi": Kalshi, "manifold": Manifold}
NAMES = ("replay", *EXCHANGES)


def named(
    name: str,
    markets: Sequence[str],
    top: int,
    history_s: float,
    base_url: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Source:
    """The source of a name, a URL or a path; ValueError if there is none.

    Args:
        name: ``replay``, an exchange, an http(s) URL that answers JSON, or a file or folder.
        markets: the ids of the only markets that are wanted; empty: those with most volume.
        top: how many these are.
        history_s: how far back prices are needed.
        base_url: of an exchange, instead of its own: for a proxy or a test.
        columns: of a URL's JSON: the names of its fields, by ours (`ts`, `price`, `market_id`).
    """
    if name == "replay":
        return Replay()
    if name in EXCHANGES:
        http = PoliteHttp(httpx.AsyncClient(base_url=base_url or EXCHANGES[name].BASE_URL))
        return EXCHANGES[name](http, markets, top, history_s)
    if name.startswith(("http://", "https://")):
        try:
            httpx.URL(name)
        except httpx.InvalidURL as exc:
            raise ValueError(f"{name!r} is no URL") from exc
        return JsonUrl(PoliteHttp(httpx.AsyncClient()), name, columns or {})
    if Path(name).exists():
        return Files(Path(name))
    raise ValueError(f"{name!r} is no file, no URL, and none of {', '.join(NAMES)}")
