"""What the tests of the Kubernetes source share: a fake API server with recorded objects, a source on it, and waiting
for what it says.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.credentials import load_kubeconfig
from exporter.inventory.kubernetes.source import KubernetesSource
from exporter.inventory.kubernetes.watch import WatchTimings
from exporter.inventory.kubernetes.watched_resources import WatchedResource, watched_resources
from exporter.model.cause import Role
from exporter.model.reason import Reason
from tests.unit import recorded
from tests.wire.kubernetes_api import Asked, KubernetesApi

PATIENCE = 120.0  # seconds: a wait ends with its event, and only a fault lasts that long
TEMPO = WatchTimings(
    first_delay=0.02, longest_delay=0.1, first_refused=0.05, longest_refused=0.2, grace=0.5
)  # fmt: skip

# The recorded lists by where they were read.
LISTS = {
    ("v1", "nodes"): "nodes",
    ("v1", "pods"): "pods",
    ("v1", "namespaces"): "namespaces",
    ("v1", "services"): "services",
    ("v1", "configmaps"): "configmaps-kube-system",
    ("discovery.k8s.io/v1", "endpointslices"): "endpointslices",
    ("networking.k8s.io/v1", "servicecidrs"): "servicecidrs",
    ("networking.k8s.io/v1", "networkpolicies"): "networkpolicies",
    ("crd.projectcalico.org/v1", "ippools"): "ippools",
    ("crd.projectcalico.org/v1", "blockaffinities"): "blockaffinities",
    ("crd.projectcalico.org/v1", "felixconfigurations"): "felixconfigurations",
    ("crd.projectcalico.org/v1", "ipamblocks"): "ipamblocks",
    ("apps/v1", "daemonsets"): "daemonsets-kube-system",
}
KINDS = {
    "servicecidrs": "ServiceCIDR", "endpointslices": "EndpointSlice", "ippools": "IPPool", "configmaps": "ConfigMap",
    "blockaffinities": "BlockAffinity", "felixconfigurations": "FelixConfiguration", "ipamblocks": "IPAMBlock",
    "daemonsets": "DaemonSet",
}  # fmt: skip


def recorded_api(**options: Any) -> KubernetesApi:
    """A server with the recorded cluster: nodes anubis, babel and ra, and everything in it."""
    api = KubernetesApi(**options)
    for (place, resource), name in LISTS.items():
        api.add_kind(place, resource, KINDS.get(resource, ""))
        for item in copy.deepcopy(recorded.listed(name)):
            api.put(place, resource, item)
    api.put("crd.projectcalico.org/v1", "ipamconfigs", ipam_config("IPAMConfig"))
    for resource in ("bgpconfigurations", "bgppeers"):
        api.add_kind("crd.projectcalico.org/v1", resource)
    api.add_kind("networking.k8s.io/v1", "ingresses")
    api.add_kind("gateway.networking.k8s.io/v1", "gateways")
    api.compact()
    return api


def ipam_config(kind: str) -> dict[str, Any]:
    """The object as `calicoctl ipam configure` writes it; its kind differs between Calico's API groups."""
    return {
        "kind": kind,
        "metadata": {"name": "default"},
        "spec": {"strictAffinity": True, "autoAllocateBlocks": True, "maxBlocksPerHost": 4},
    }


def write_kubeconfig(directory: Path, server: str, token: str = "secret", **cluster: Any) -> Path:
    path = directory / "kubeconfig"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server} | cluster}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }  # fmt: skip
    path.write_text(json.dumps(config))
    return path


@asynccontextmanager
async def following(
    directory: Path,
    port: int,
    read: Sequence[WatchedResource] | None = None,
    *,
    timings: WatchTimings = TEMPO,
    whole: bool = True,
    **options: Any,
) -> AsyncIterator[KubernetesSource]:
    """A running source of role cluster (or these readings). `whole`: once everything was answered, one way or the
    other.

    A reading may fail at first, on a machine that does other things, without any fault of the server's.
    """
    path = write_kubeconfig(directory, f"http://127.0.0.1:{port}")
    api = ApiServer(await load_kubeconfig(str(path)), lambda: load_kubeconfig(str(path)))
    source = KubernetesSource(
        api, watched_resources(Role.CLUSTER, "ra") if read is None else read, timings=timings, **options
    )
    running = asyncio.create_task(source.run())
    try:
        if whole:
            assert await source.wait_ready(PATIENCE)
            await until(lambda: Reason.API_UNAVAILABLE not in source.current().unread.values(), "answers")
        yield source
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until the condition holds."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - what a source shows has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE:g} s: {what}") from None


def lists(resource: str) -> Callable[[Asked], bool]:
    """Requests that list a resource."""
    return lambda asked: asked.path.endswith(f"/{resource}") and not asked.watch


def watches(resource: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.path.endswith(f"/{resource}") and asked.watch


def replay(folder: str, name: str) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """A recorded answer, or the recorded body of a watch, as the server sent it."""
    directory = recorded.DATA / folder
    stream = directory / f"{name}.ndjson"
    if stream.exists():
        meta = json.loads((directory / f"{name}.meta.json").read_text())["response"]
        body = stream.read_bytes()
    else:
        meta = json.loads((directory / f"{name}.json").read_text())["response"]
        body = json.dumps(meta["body"]).encode() if "body" in meta else meta["body_text"].encode()
    kept = {"Content-Type", "Retry-After", "Warning"}

    async def reply(request: web.BaseRequest) -> web.StreamResponse:
        headers = {k: v for k, v in meta["headers"].items() if k in kept}
        return web.Response(status=meta["status"], reason=meta["reason"], body=body, headers=headers)

    return reply


def breaking(data: bytes = b"") -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """A watch that sends these bytes and is cut without its last chunk, as when the server is killed."""

    async def reply(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if data:
            await response.write(data)
        assert request.transport is not None
        request.transport.abort()
        return response

    return reply
