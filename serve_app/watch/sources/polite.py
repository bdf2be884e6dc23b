"""GET requests to other people's servers: rarely, with patience, and nothing twice.

Requests leave at most every `PAUSE_S`; an answer that has not changed since is not sent again
(`If-None-Match`, `If-Modified-Since`); 429 and 5xx are tried again after the time that the server
asks for, twice.
"""

import asyncio
import json
from typing import Any

import httpx

from serve_app.version import package_version
from serve_app.watch.quotes import SourceError

PAUSE_S = 0.1  # 10 requests a second: exchanges allow 20 or more without a key
LIMIT_S = 10.0
ATTEMPTS = 3
LONGEST_PAUSE_S = 10.0
MOST_BYTES = 64 * 2**20
MOST_KEPT = 1000  # answers
_AGAIN = (429, 500, 502, 503, 504)
USER_AGENT = f"tsfm-watch/{package_version()}"


class PoliteHttp:
    """Requests over one httpx client."""

    def __init__(self, http: httpx.AsyncClient, pause_s: float = PAUSE_S) -> None:
        http.headers["user-agent"] = USER_AGENT
        http.timeout = httpx.Timeout(LIMIT_S)
        self._http, self._pause_s = http, pause_s
        self._turn = asyncio.Lock()
        self._next_at = 0.0
        self._kept: dict[str, tuple[dict[str, str], Any]] = {}  # conditions and answer by URL

    def is_elsewhere(self, url: str) -> bool:
        """Whether the requests go to another server than that of ``url``: a proxy, or a test."""
        return self._http.base_url.host != httpx.URL(url).host

    async def get_json(self, path: str, **params: Any) -> Any:
        """The JSON of an answer; raises SourceError with a reason without the URL's secrets."""
        key = str(self._http.build_request("GET", path, params=params).url)
        conditions, kept = self._kept.get(key, ({}, None))
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer, content = await self._get(path, params, conditions)
            except httpx.HTTPError as exc:
                failure, pause_s = type(exc).__name__, float(attempt)
            else:
                if answer.status_code == 304:
                    return kept
                if answer.status_code == 200:
                    return self._keep(key, answer, content)
                failure, pause_s = f"status {answer.status_code}", _asked_s(answer, attempt)
                if answer.status_code not in _AGAIN:
                    break
            if attempt < ATTEMPTS and pause_s <= LONGEST_PAUSE_S:
                await asyncio.sleep(pause_s)
            else:
                break
        raise SourceError(f"{self._http.base_url.host or httpx.URL(path).host}: {failure}")

    async def _get(
        self, path: str, params: dict[str, Any], conditions: dict[str, str]
    ) -> tuple[httpx.Response, bytes]:
        clock = asyncio.get_running_loop().time
        async with self._turn:
            await asyncio.sleep(max(0.0, self._next_at - clock()))
            self._next_at = clock() + self._pause_s
        content = bytearray()
        asked = self._http.stream("GET", path, params=params, headers=conditions)
        async with asked as answer:
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MOST_BYTES:
                    raise SourceError(f"{answer.url.host}: its answer is over 64 MiB")
        return answer, bytes(content)

    def _keep(self, url: str, answer: httpx.Response, content: bytes) -> Any:
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as exc:
            raise SourceError(f"{answer.url.host}: its answer is not JSON") from exc
        names = {"etag": "if-none-match", "last-modified": "if-modified-since"}
        conditions = {names[n]: answer.headers[n] for n in names if n in answer.headers}
        if conditions:
            while len(self._kept) >= MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[url] = conditions, value
        return value


def _asked_s(answer: httpx.Response, attempt: int) -> float:
    asked = answer.headers.get("retry-after", "")
    return float(asked) if asked.isascii() and asked.isdigit() else float(attempt)
