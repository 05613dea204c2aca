"""Reports of exporters that already run: the one on this machine (--last), or every one of the cluster (--nodes=all)."""

from __future__ import annotations

import asyncio
import json

import aiohttp

from exporter.command import Refusal
from exporter.model.inventory import Inventory, Pod
from exporter.options import Options
from exporter.report.document import Document, DocumentError, decode

WAIT = 2.0  # seconds that a node may take (contract section 2)
LIMIT = 32 * 1024 * 1024
OWN_NAME = "dualstack-exporter"
PORT = 10046


async def last_report(options: Options) -> Document:
    """The running daemon's last report, over loopback. Refusal where none answers."""
    address = options.listen[0] if options.listen else f":{PORT}"
    host, _, port = address.rpartition(":")
    place = host if host not in {"", "0.0.0.0", "[::]"} else "localhost"
    async with _session() as session:
        found = await _fetch(session, f"http://{place}:{port}/api/v1/report")
    if found is None:
        raise Refusal(f"no exporter with a finished round answers at {place}:{port}")
    return found


async def collect_nodes(inventory: Inventory, own: str) -> tuple[list[Document], tuple[str, ...]]:
    """The reports of every exporter of the DaemonSet but this process's own, and the nodes from which none came within 2 s."""
    pods = [p for p in inventory.pods or () if _is_exporter(p) and p.ips]
    async with _session() as session:
        found = await asyncio.gather(*(_fetch(session, f"http://{_host(p)}:{PORT}/api/v1/report") for p in pods))
    documents = [d for d in found if d is not None and d.node != own]
    answered = {d.node for d in documents} | {own}
    missing = {n.name for n in inventory.nodes or () if not n.windows and not n.virtual} - answered
    return documents, tuple(sorted(missing))


def _is_exporter(pod: Pod) -> bool:
    return (
        pod.labels.get("app.kubernetes.io/name") == OWN_NAME
        and pod.labels.get("app.kubernetes.io/component", "node") == "node"
    )


def _host(pod: Pod) -> str:
    return next((str(a) for a in pod.ips if a.version == 4), f"[{pod.ips[0]}]")


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT), connector=aiohttp.TCPConnector(limit=100))


async def _fetch(session: aiohttp.ClientSession, url: str) -> Document | None:
    """None for whatever keeps a report from coming: the node's line then reads `?`."""
    try:
        async with session.get(url) as response:
            if response.status != 200:
                return None
            return decode(json.loads(await response.content.read(LIMIT)))
    except (aiohttp.ClientError, TimeoutError, DocumentError, ValueError):
        return None
