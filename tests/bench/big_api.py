"""The fake API server with a cluster of any size in it: objects as large as recorded ones, 30 pods a node, a Service to
15 pods.

    python -m tests.bench.big_api NODES

Prints its port once it listens; a line on stdin with a number makes it change that many pods, as fast as it can.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import sys
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from tests.unit import recorded
from tests.wire.kubernetes_api import KubernetesApi, serving
from tests.wire.kubernetes_lab import KINDS, LISTS
from tests.wire.kubernetes_objects import Stored

PODS_A_NODE = 30
PODS_A_SERVICE = 15
NAMESPACES = 300
POD_BITS = int(IPv6Address("fd01::"))
SERVICE_BITS = int(IPv6Address("fd98::"))
MARK = "@@{}@@"


class Mould:
    """An object's JSON with places to fill in, so that hundreds of thousands of them are made in seconds."""

    def __init__(self, source: dict[str, Any]) -> None:
        text = json.dumps(source, separators=(",", ":"), ensure_ascii=False)
        self._parts = text.split("@@")

    def fill(self, **values: str) -> bytes:
        parts = list(self._parts)
        parts[1::2] = [values[name] for name in parts[1::2]]
        return "".join(parts).encode()


def mark(name: str) -> str:
    return MARK.format(name)


def raw(resource: str, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first recorded object that fits, with everything that the server sends of it."""
    items = recorded.body("list", LISTS_BY_RESOURCE[resource])["items"]
    return copy.deepcopy(next(item for item in items if fits(item)))


LISTS_BY_RESOURCE = {resource: name for (_, resource), name in LISTS.items()}


def pod_mould() -> Mould:
    pod = raw("pods", lambda p: len(p["status"].get("podIPs", ())) == 2 and not p["spec"].get("hostNetwork"))
    pod["metadata"] |= {
        "name": mark("name"),
        "namespace": mark("namespace"),
        "uid": mark("uid"),
        "resourceVersion": mark("version"),
    }
    pod["metadata"]["labels"] = {"app": mark("app"), "pod-template-hash": mark("hash")}
    pod["metadata"]["annotations"]["cni.projectcalico.org/podIPs"] = f"{mark('four')}/32,{mark('six')}/128"
    pod["spec"]["nodeName"] = mark("node")
    pod["status"] |= {"podIP": mark("four"), "podIPs": [{"ip": mark("four")}, {"ip": mark("six")}]}
    return Mould(pod)


def node_mould() -> Mould:
    node = raw("nodes", lambda n: len(n["spec"]["podCIDRs"]) == 2)
    node["metadata"] |= {"name": mark("name"), "uid": mark("name"), "resourceVersion": mark("version")}
    node["metadata"]["labels"]["kubernetes.io/hostname"] = mark("name")
    node["metadata"]["annotations"] |= {
        "projectcalico.org/IPv6VXLANTunnelAddr": mark("six"),
        "projectcalico.org/IPv4VXLANTunnelAddr": mark("four"),
    }
    node["spec"] |= {"podCIDR": mark("cidr4"), "podCIDRs": [mark("cidr4"), mark("cidr6")]}
    node["status"]["addresses"] = [
        {"type": "InternalIP", "address": mark("host4")},
        {"type": "InternalIP", "address": mark("host6")},
    ]
    # A kubelet reports its 50 largest images; the recorded nodes have none.
    node["status"]["images"] = [
        {
            "names": [f"registry.test/library/image-{n}@sha256:{n:064x}", f"registry.test/library/image-{n}:v1.{n}"],
            "sizeBytes": 10**8,
        }
        for n in range(50)
    ]
    return Mould(node)


def service_mould() -> Mould:
    service = raw("services", lambda s: len(s["spec"].get("clusterIPs", ())) == 2 and s["spec"]["type"] == "ClusterIP")
    service["metadata"] |= {
        "name": mark("name"),
        "namespace": mark("namespace"),
        "uid": mark("name"),
        "resourceVersion": mark("version"),
    }
    service["spec"] |= {
        "clusterIP": mark("four"),
        "clusterIPs": [mark("four"), mark("six")],
        "selector": {"app": mark("name")},
    }
    return Mould(service)


def slice_mould(endpoints: int) -> Mould:
    piece = raw("endpointslices", lambda e: e["addressType"] == "IPv6" and bool(e.get("endpoints")))
    piece["metadata"] |= {
        "name": mark("name"),
        "namespace": mark("namespace"),
        "uid": mark("name"),
        "resourceVersion": mark("version"),
    }
    piece["metadata"]["labels"]["kubernetes.io/service-name"] = mark("service")
    piece["addressType"] = mark("family")
    one = piece["endpoints"][0]
    piece["endpoints"] = []
    for number in range(endpoints):
        end = copy.deepcopy(one)
        end |= {"addresses": [mark(f"ip{number}")], "nodeName": mark(f"node{number}")}
        end["targetRef"] = {
            "kind": "Pod",
            "name": mark(f"pod{number}"),
            "namespace": mark("namespace"),
            "uid": mark(f"pod{number}"),
        }
        piece["endpoints"].append(end)
    return Mould(piece)


class BigApi(KubernetesApi):
    """A server with that many nodes and everything on them."""

    def __init__(self, nodes: int) -> None:
        super().__init__(bookmark_every=10.0)
        for place, resource in LISTS:
            self.add_kind(place, resource, KINDS.get(resource, ""))
        for resource in ("networkpolicies", "globalnetworkpolicies", "ipamconfigs", "bgpconfigurations", "bgppeers"):
            self.add_kind("crd.projectcalico.org/v1", resource)
        self.add_kind("networking.k8s.io/v1", "ingresses")
        self.add_kind("gateway.networking.k8s.io/v1", "gateways")
        self._pod = pod_mould()
        names = [f"node-{n:05}" for n in range(nodes)]
        self._add("v1", "nodes", [self._node(n, name) for n, name in enumerate(names)])
        self._add("v1", "pods", [self._stored_pod(n, names) for n in range(nodes * PODS_A_NODE)])
        self._add_services(nodes * PODS_A_NODE // PODS_A_SERVICE, names)
        for number in range(NAMESPACES):
            self.put("v1", "namespaces", {"metadata": {"name": f"ns-{number:03}", "uid": str(number)}})
        ranges = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12", "fd98::/108"]}}
        self.put("networking.k8s.io/v1", "servicecidrs", ranges)
        for item in recorded.listed("ippools"):
            self.put("crd.projectcalico.org/v1", "ippools", item)
        for number, name in enumerate(names):
            spec = {
                "cidr": f"{IPv6Address(POD_BITS + (number << 6))}/122",
                "node": name,
                "state": "confirmed",
                "type": "host",
                "deleted": "false",
            }
            block = {
                "apiVersion": "crd.projectcalico.org/v1",
                "kind": "BlockAffinity",
                "metadata": {"name": f"b-{number}"},
                "spec": spec,
            }
            self.put("crd.projectcalico.org/v1", "blockaffinities", block)
        for number in range(NAMESPACES):
            egress: dict[str, Any] = {
                "podSelector": {"matchLabels": {"app": f"app-{number}"}},
                "policyTypes": ["Egress"],
                "egress": [],
            }
            self.put(
                "networking.k8s.io/v1",
                "networkpolicies",
                {"metadata": {"name": "p", "namespace": f"ns-{number:03}"}, "spec": egress},
            )
        self.compact()

    def _add(self, place: str, resource: str, objects: list[Stored]) -> None:
        self.collections[place, resource].objects.update({stored.key: stored for stored in objects})

    def _node(self, number: int, name: str) -> Stored:
        values = {
            "name": name, "version": str(self.version), "four": str(IPv4Address((10 << 24) + number)),
            "six": str(IPv6Address(POD_BITS + (number << 6))),
            "host4": str(IPv4Address((172 << 24) + (16 << 16) + number)),
            "host6": str(IPv6Address((0x20010DB8 << 96) + number + 1)),
            "cidr4": f"{IPv4Address((100 << 24) + (number << 8))}/24",
            "cidr6": f"{IPv6Address(POD_BITS + (number << 64))}/64",
        }  # fmt: skip
        self._node_mould = getattr(self, "_node_mould", None) or node_mould()
        return Stored("", name, self.version, self._node_mould.fill(**values))

    def _stored_pod(self, number: int, names: list[str], shift: int = 0) -> Stored:
        values = pod_values(number, names, shift)
        body = self._pod.fill(version=str(self.version), **values)
        return Stored(values["namespace"], values["name"], self.version, body, node=values["node"])

    def _add_services(self, count: int, names: list[str]) -> None:
        mould, pieces = service_mould(), slice_mould(PODS_A_SERVICE)
        services, slices = [], []
        for number in range(count):
            namespace, name = f"ns-{number % NAMESPACES:03}", f"app-{number}"
            place = {"name": name, "namespace": namespace, "version": str(self.version)}
            four, six = (
                str(IPv4Address((10 << 24) + (96 << 16) + number + 1)),
                str(IPv6Address(SERVICE_BITS + number + 1)),
            )
            services.append(Stored(namespace, name, self.version, mould.fill(**place, four=four, six=six)))
            behind = [pod_values(number * PODS_A_SERVICE + n, names) for n in range(PODS_A_SERVICE)]
            for family, key in (("IPv4", "four"), ("IPv6", "six")):
                ends: dict[str, str] = {}
                for index, pod in enumerate(behind):
                    ends |= {f"ip{index}": pod[key], f"node{index}": pod["node"], f"pod{index}": pod["name"]}
                own = place | {"name": f"{name}-{family.lower()}"}
                body = pieces.fill(**own, service=name, family=family, **ends)
                slices.append(
                    Stored(namespace, own["name"], self.version, body, labels={"kubernetes.io/service-name": name})
                )
        self._add("v1", "services", services)
        self._add("discovery.k8s.io/v1", "endpointslices", slices)

    def change_pods(self, count: int, names: list[str]) -> None:
        """That many pods get another address."""
        collection = self.collections["v1", "pods"]
        for number in range(count):
            self.version += 1
            stored = self._stored_pod(number % (len(names) * PODS_A_NODE), names, shift=self.version)
            collection.objects[stored.key] = stored
            collection.events.append((stored.version, "MODIFIED", stored))
        collection.changed.set()
        collection.changed = asyncio.Event()


def pod_values(number: int, names: list[str], shift: int = 0) -> Mapping[str, str]:
    workload = number // PODS_A_SERVICE
    return {
        "name": f"app-{workload}-{number:06}", "namespace": f"ns-{workload % NAMESPACES:03}", "uid": f"uid-{number}",
        "app": f"app-{workload}", "hash": f"{workload:x}", "node": names[number // PODS_A_NODE],
        "four": str(IPv4Address((11 << 24) + number)), "six": str(IPv6Address(POD_BITS + number + (shift << 64))),
    }  # fmt: skip


async def main(nodes: int) -> None:
    api = BigApi(nodes)
    names = [f"node-{n:05}" for n in range(nodes)]
    gc.freeze()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with serving(api) as port:
        print(port, flush=True)  # noqa: T201 - the bench reads it
        while line := await reader.readline():
            api.change_pods(int(line), names)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
