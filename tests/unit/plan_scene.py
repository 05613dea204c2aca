"""Small inventories and configurations for the plan's tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from exporter.config.load import load_config
from exporter.config.schema import Config
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import Service, ServicePort
from exporter.model.dns import ResolvConf
from exporter.model.family import FAMILIES, Family
from exporter.model.report import PodView
from exporter.model.subject import Subject
from exporter.model.vantage import Vantage
from exporter.plan.round_plan import Pace, RoundContext, RoundPlan
from exporter.plan.servers import KnownServers
from tests.unit.scene import HOST

KUBE_DNS = Service(
    namespace="kube-system", name="kube-dns", labels={"k8s-app": "kube-dns"},
    cluster_ips=(ip_address("10.96.0.10"), ip_address("fd00:96::a")),
    ports=(ServicePort(name="dns", port=53, protocol="UDP"), ServicePort(name="dns-tcp", port=53)),
)  # fmt: skip
OWN = Service(
    namespace="dualstack", name="dualstack-exporter", labels={"app.kubernetes.io/name": "dualstack-exporter"},
    cluster_ips=(ip_address("10.96.0.77"), ip_address("fd00:96::77")), ports=(ServicePort(name="metrics", port=10046),),
)  # fmt: skip
API = Service(
    namespace="default",
    name="kubernetes",
    cluster_ips=(ip_address("10.96.0.1"),),
    ports=(ServicePort(name="https", port=443),),
)
DOMAIN = "cluster.local"
NO_SERVERS = KnownServers({})

NO_PEERS: Mapping[str, Subject] = {}


def config(text: str = "") -> Config:
    return load_config(text, path="", environment={"NODE_NAME": "ra"}, hostname="ra")


def conf(
    *nameservers: str, search: Iterable[str] = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")
) -> ResolvConf:
    servers = tuple(ip_address(n) for n in nameservers or ("10.96.0.10",))
    found = tuple(search)
    return ResolvConf(nameservers=servers, search=found, ndots=5)


def view(vantage: Vantage, file: ResolvConf | None) -> PodView:
    return PodView(vantage=vantage, resolv_conf=file)


def round_plan(
    cfg: Config | None = None,
    inventory: Inventory | None = None,
    *,
    host: PodView | None = None,
    sample: Sequence[PodView] = (),
    known: KnownServers = NO_SERVERS,
    families: tuple[Family, ...] = FAMILIES,
    number: int = 0,
    unsupported: frozenset[tuple[str, Family]] = frozenset(),
    again: Mapping[str, Subject] = NO_PEERS,
) -> RoundPlan:
    """A round in which all given pods are sampled."""
    context = RoundContext(
        host=host or view(HOST, None),
        pods=tuple(sample),
        inventory=inventory or Inventory(source=InventoryOrigin.NONE),
        families=families,
        sample=tuple(pod.vantage for pod in sample),
        known=known,
        now=7200.0,
        probes_locally=True,
        unsupported_families=unsupported,
        peers_again=again,
    )
    return RoundPlan(number=number, config=cfg or config(), pace=Pace(interval=30.0, timeout=25.0), context=context)


def a_node(name: str, number: int = 1, **more: Any) -> Node:
    tunnels = (ip_address(f"10.42.{number}.1"), ip_address(f"fd42::{number:x}:1"))
    own = (ip_address(f"192.0.2.{number}"), ip_address(f"2001:db8::{number:x}"))
    values = {"ready": True, "ready_since": 0.0, "tunnel_addresses": tunnels, "internal_ips": own, **more}
    return Node(name=name, **values)


def a_pod(name: str, *, node: str = "ra", **more: Any) -> Pod:
    values = {"uid": f"uid-{name}", "phase": "Running", "started": 0.0, **more}
    return Pod(namespace="default", name=name, node=node, **values)


def cluster(**more: Any) -> Inventory:
    values = {"services": (KUBE_DNS, OWN, API), "nodes": (), "pods": (), "uid": "kube-system-uid", **more}
    return Inventory(source=InventoryOrigin.KUBERNETES, **values)


def net(text: str) -> Any:
    return ip_network(text)
