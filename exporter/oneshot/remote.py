"""Reports of exporters that already run: the one on this machine (--last), or every one of the cluster (--nodes=all)."""

from __future__ import annotations

import asyncio

import aiohttp

from exporter.model.inventory import Inventory
from exporter.model.pod import Pod
from exporter.options import Options
from exporter.refusal import Refusal
from exporter.report.document import Document
from exporter.report.reading import DocumentError, parse

WAIT = 2.0  # seconds that a node may take (contract section 2)
LIMIT = 32 * 1024 * 1024
AT_ONCE = 100  # nodes asked at a time
OWN_NAME = "dualstack-exporter"
PORT = 10046


async def last_report(options: Options) -> Document:
    """The running daemon's last report, over loopback. Refusal where none answers."""
    places = _places(options.listen[0] if options.listen else f":{PORT}")
    async with _session() as session:
        for place in places:
            found = await _fetch(session, f"http://{place}/api/v1/report")
            if found is not None:
                return found
    raise Refusal(f"no exporter with a finished round answers at {' or '.join(places)}")


def _places(address: str) -> tuple[str, ...]:
    """Where to ask a daemon that listens there. By address: the loopback's name may need a DNS that does not work."""
    host, _, port = address.rpartition(":")
    loopback = {"": ("[::1]", "127.0.0.1"), "[::]": ("[::1]",), "0.0.0.0": ("127.0.0.1",)}
    return tuple(f"{name}:{port}" for name in loopback.get(host, (host,)))


async def collect_nodes(inventory: Inventory, own: str) -> tuple[list[Document], tuple[str, ...]]:
    """The reports of every exporter of the DaemonSet, and the nodes from which none came within 2 s.

    `own`: the node whose report the caller has already, "" for none.
    """
    pods = [p for p in inventory.pods or () if _is_exporter(p) and p.ips]
    slots = asyncio.Semaphore(AT_ONCE)  # the seconds of a node begin when it is asked, not while others are

    async def ask(session: aiohttp.ClientSession, pod: Pod) -> Document | None:
        async with slots:
            return await _fetch(session, f"http://{_host(pod)}:{PORT}/api/v1/report")

    async with _session() as session:
        found = await asyncio.gather(*(ask(session, pod) for pod in pods))
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
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=WAIT), connector=aiohttp.TCPConnector(limit=AT_ONCE)
    )


async def _fetch(session: aiohttp.ClientSession, url: str) -> Document | None:
    """None for whatever keeps a report from coming: the node's line then reads `?`."""
    try:
        async with session.get(url) as response:
            if response.status != 200:
                return None
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > LIMIT:
                    return None
            return parse(bytes(body))
    except (aiohttp.ClientError, TimeoutError, DocumentError, ValueError):
        return None
