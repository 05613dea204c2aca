"""Reports of exporters that already run: the one on this machine (--last), or every one of the cluster (--nodes=all)."""

from __future__ import annotations

import asyncio
import os

import aiohttp

from exporter.daemon.command_error import CommandError
from exporter.daemon.options import Options
from exporter.model.inventory import Inventory
from exporter.model.pod import Pod
from exporter.report.document import Document
from exporter.report.reading import ReportFormatError, parse
from exporter.web.server.rotation import WebSettings

WAIT = 2.0  # seconds that a node may take (contract section 2)
LIMIT = 32 * 1024 * 1024
AT_ONCE = 100  # nodes asked at a time
REFUSALS = {
    401: "it asks for a password, which --last has not: curl -u has",
    503: "no round has finished yet, or none of late",
}
OWN_NAME = "dualstack-exporter"
PORT = 10046


class NoReportError(Exception):
    """No report came from that place. The message says why, in a few words."""


async def last_report(options: Options) -> Document:
    """The running daemon's last report, over loopback. Refusal where none answers.

    With --web.config.file the daemon is taken to speak TLS. Its certificate proves names, and is not asked for one on
    loopback.
    """
    places = _places(options.listen[0] if options.listen else f":{PORT}")
    scheme = "http" if WebSettings(options.web_config_file).current().context is None else "https"
    said = []
    async with _session() as session:
        for place in places:
            try:
                return await _fetch(session, f"{scheme}://{place}/api/v1/report")
            except NoReportError as error:
                said.append(f"{place}: {error}")
    raise CommandError(f"no report came from {', '.join(said)}")


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
            try:
                return await _fetch(session, f"http://{_host(pod)}:{PORT}/api/v1/report")
            except NoReportError:  # the node's line then reads `?`
                return None

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


async def _fetch(session: aiohttp.ClientSession, url: str) -> Document:
    """Raises NoReportError for whatever keeps a report from coming."""
    try:
        async with session.get(url, ssl=False) as response:
            if response.status != 200:
                raise NoReportError(REFUSALS.get(response.status, f"HTTP status {response.status}"))
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > LIMIT:
                    raise NoReportError(f"more than {LIMIT} bytes")
            return parse(bytes(body))
    except aiohttp.ClientOSError as error:
        raise NoReportError(os.strerror(error.errno).lower() if error.errno else "no connection") from error
    except aiohttp.ClientError as error:
        raise NoReportError("no HTTP is spoken there: with TLS --web.config.file is needed") from error
    except TimeoutError as error:
        raise NoReportError(f"no answer within {WAIT:g} s") from error
    except (ReportFormatError, ValueError) as error:
        raise NoReportError("what answers there is no exporter of this version") from error
