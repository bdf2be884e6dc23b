"""The numbers of all replicas, gathered from the nodes they run on: what ``GET /metrics`` answers.

Ray keeps them at a port of each node, which is what is asked here, when somebody asks; there is no
second way of counting.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx

from serve_app.telemetry.exposition import exposition

NODE_LIMIT_S = 2.0


def metric_urls(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Where the nodes that are alive show their numbers; ``nodes`` is what Ray tells of them.

    >>> node = {"Alive": True, "NodeManagerAddress": "10.0.0.7", "MetricsExportPort": 8080}
    >>> metric_urls([node, node | {"Alive": False}])
    ['http://10.0.0.7:8080/metrics']
    """
    return [
        f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for node in nodes
        if node["Alive"]
    ]


async def gather(urls: Sequence[str], transport: httpx.AsyncBaseTransport | None = None) -> bytes:
    """One scrape out of those of all nodes; a node that does not answer is counted as that.

    Args:
        urls: one for each node.
        transport: the network, unless told otherwise.
    """
    async with httpx.AsyncClient(
        timeout=NODE_LIMIT_S, trust_env=False, transport=transport
    ) as http:
        texts = await asyncio.gather(*(_text(http, url) for url in urls))
    read = [text for text in texts if text is not None]
    counts = {"read": len(read), "unreachable": len(texts) - len(read)}
    return await asyncio.to_thread(exposition, read, counts)


async def _text(http: httpx.AsyncClient, url: str) -> str | None:
    try:
        response = await http.get(url)
    except httpx.HTTPError:
        return None
    return response.text if response.status_code == 200 else None
