"""Reports of exporters that already run: the one on this machine (--last), or all of the cluster (--nodes=all)."""

from __future__ import annotations

import asyncio
import os

import aiohttp

from exporter.daemon.options import CommandError, Options
from exporter.inventory.fetching import read_body
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.pod import Pod
from exporter.model.family import Family, family_of
from exporter.report.document import Document, ReportFormatError, parse
from exporter.web.server.rotation import WebSettings

WAIT = 2.0  # seconds that a node may take (docs/specification.md section 2)
LIMIT = 32 * 1024 * 1024
AT_ONCE = 100  # nodes asked at a time
REFUSALS = {
    401: "the exporter requires basic auth; `check --last` cannot log in, use `curl -u USER` on /api/v1/report",
    503: "no round has finished yet, or none recently",
}
OWN_NAME = "dualstack-exporter"
PORT = 10046


class NoReportError(Exception):
    """No report came from there. The message has the reason, in a few words."""


async def last_report(options: Options) -> Document:
    """The running daemon's last report, over loopback; CommandError where none answers.

    With a --web.config.file of TLS the daemon is asked over TLS. Its certificate is not checked: it proves a name, and
    loopback has none.
    """
    hosts = _hosts(options.web_listen_address[0] if options.web_listen_address else f":{PORT}")
    scheme = "http" if WebSettings(options.web_config_file).current().context is None else "https"
    problems = []
    async with _session() as session:
        for host in hosts:
            try:
                return await _fetch(session, f"{scheme}://{host}/api/v1/report")
            except NoReportError as error:
                problems.append(f"{host}: {error}")
    raise CommandError(f"no report came from {', '.join(problems)}")


def _hosts(address: str) -> tuple[str, ...]:
    """Where to ask a daemon that listens there. By address: the name localhost may need a DNS that does not work."""
    host, _, port = address.rpartition(":")
    loopback = {"": ("[::1]", "127.0.0.1"), "[::]": ("[::1]",), "0.0.0.0": ("127.0.0.1",)}
    return tuple(f"{name}:{port}" for name in loopback.get(host, (host,)))


async def collect_nodes(inventory: Inventory, own: str) -> tuple[list[Document], tuple[str, ...]]:
    """The reports of every exporter of the DaemonSet, and the nodes from which none came within 2 s.

    `own`: the node whose report the caller has already, "" for none.
    """
    pods = [p for p in inventory.pods or () if _is_exporter(p) and p.ips]
    slots = asyncio.Semaphore(AT_ONCE)  # a node's two seconds begin when it is asked

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
    return next((str(a) for a in pod.ips if family_of(a) is Family.V4), f"[{pod.ips[0]}]")


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=WAIT), connector=aiohttp.TCPConnector(limit=AT_ONCE)
    )


async def _fetch(session: aiohttp.ClientSession, url: str) -> Document:
    """The report at that URL; NoReportError where none comes, for whatever reason."""
    try:
        async with session.get(url, ssl=False) as response:
            if response.status != 200:
                raise NoReportError(REFUSALS.get(response.status, f"HTTP status {response.status}"))
            body = await read_body(response, LIMIT)
            if len(body) > LIMIT:
                raise NoReportError(f"more than {LIMIT} bytes")
            return parse(body)
    except aiohttp.ClientOSError as error:
        raise NoReportError(os.strerror(error.errno).lower() if error.errno else "no connection") from error
    except aiohttp.ClientError as error:
        raise NoReportError(
            "that port does not speak plain HTTP; pass --web.config.file if the exporter uses TLS"
        ) from error
    except TimeoutError as error:
        raise NoReportError(f"no answer within {WAIT:g} s") from error
    except (ReportFormatError, ValueError) as error:
        raise NoReportError("the answer is not a report of this version of the exporter") from error
