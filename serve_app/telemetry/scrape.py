"""Gathers the metrics of all replicas from all nodes, for ``GET /metrics``.

Ray serves them at a port of each node; they are read there at each request.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx

from serve_app.telemetry.exposition import exposition

NODE_LIMIT_S = 2.0


def metric_urls(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The metrics URLs of the nodes that are alive; ``nodes`` is Ray's list of nodes.

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
    """Merges the scrapes of all nodes; nodes that do not answer are counted as unreachable.

    Args:
        urls: one for each node.
        transport: replaces the network in tests.
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
