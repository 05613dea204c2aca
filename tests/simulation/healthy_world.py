"""A healthy cluster that never stands still, simulated: pods come and go, nodes drop out, caches answer differently,
single probes get lost.

It stands in for everything that does I/O under exporter.daemon.rounds (inspector, asker, clock); plan, kept results,
rules and verdict are the real ones. Everything that it does is healthy: no pair loses two probes of six, no server
misses two rounds running.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from exporter.diagnosis.vxlan_peers import tunnel_mac
from exporter.diagnosis.watched_services import watched_ports
from exporter.model.cluster.calico import BlockAffinity, IPAMBlock
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import EndpointSlice, ServicePort
from exporter.model.dns import NOERROR, NXDOMAIN, Reply, ResolvConf
from exporter.model.facts import (
    AddressFact,
    Backend,
    HostFacts,
    Inet6Conf,
    KubeProxyFacts,
    LinkFact,
    NatBackend,
    NatFacts,
    Neighbour,
    PodFacts,
    RouteFact,
    ServiceRoute,
    SourceMatch,
    VxlanDevice,
    VxlanFacts,
)  # fmt: skip
from exporter.model.family import FAMILIES, Address, Family
from exporter.model.probe import Check, Group, Layer, Lookup, LookupOutcome, Observation, Outcome, Question, Together
from exporter.model.report import PodView
from exporter.model.vantage import Netns, PodState, Vantage
from exporter.probes.runner import Deadline
from exporter.vantage import Inspection
from tests.unit.cluster_scene import POOL6, V4, V6, changed, endpoints, node, service

ME, PODS = "ra", 12
LOSS = 0.003  # of probes
APART = 24 * 31.0  # seconds between two losses of one pair: six probes of a pod in its turn
FORWARDING = Inet6Conf(forwarding=1, accept_ra=0, disable_ipv6=0)
DOMAIN = "cluster.local"
DNS = (ip_address("10.152.183.10"), ip_address("fd98::10"))
SEARCH = (f"default.svc.{DOMAIN}", DOMAIN)
CONF = ResolvConf(nameservers=DNS[:1], search=SEARCH, ndots=5)
SERVICES = (
    service("dualstack-exporter", labels={"app.kubernetes.io/name": "dualstack-exporter"},
        ports=(ServicePort(name="http", port=80),)),
    service("kube-dns", namespace="kube-system", labels={"k8s-app": "kube-dns"}, cluster_ips=DNS,
        ports=(ServicePort(name="dns", port=53),)),
)  # fmt: skip
RECORDS: dict[str, dict[str, tuple[Address, ...]]] = {
    f"dualstack-exporter.default.svc.{DOMAIN}": {"A": SERVICES[0].cluster_ips[:1], "AAAA": SERVICES[0].cluster_ips[1:]},
    f"kube-dns.kube-system.svc.{DOMAIN}": {"A": DNS[:1], "AAAA": DNS[1:]},
    "both.example": {"A": (ip_address("192.0.2.80"), ip_address("192.0.2.81")),
        "AAAA": (ip_address("2001:db8::80"), ip_address("2001:db8::81"))},
    # A-only; its old load balancer forgets the SOA of AAAA
    "balanced.example": {"A": (ip_address("192.0.2.91"),), "AAAA": ()},
    "ipv4only.arpa": {"A": (ip_address("192.0.0.170"), ip_address("192.0.0.171")), "AAAA": ()},
}  # fmt: skip
CONFIG = """
role: all
node_name: ra
pods: {sample: 4}
targets:
  - {name: both, host: both.example, port: 443, layers: [icmp, tcp, tls, http]}
  - {name: literal, addresses: ["2001:db8::70", 192.0.2.70], port: 443, layers: [icmp, tcp]}
dns:
  names:
    - {name: both.example}
    - {name: balanced.example, expect: [A]}
"""


class HealthyWorld:
    """Step it before each round; it is inspector and asker at once."""

    def __init__(self, seed: int, *, pods: int = PODS, nodes: int = 5) -> None:
        self.now = 1_800_000_000.0
        self.overrun = False
        self._random = random.Random(seed)
        names = ("anubis", "babel", "ra", "chi", "dis", *(f"node-{number}" for number in range(nodes)))
        self._nodes = [
            node(name, number, created=1.0, ready_since=2.0) for number, name in enumerate(names[:nodes], 11)
        ]
        self._count = pods
        self._pods = {number: self._pod(number, self.now - 9999) for number in range(pods)}
        self._lost: dict[tuple[str, ...], float] = {}
        self._silent = False
        self._births = pods
        self._slices: dict[str, EndpointSlice] = {}
        self.inventory = self._inventory()

    def clock(self) -> float:
        return self.now

    def step(self) -> None:
        """Half a minute, roughly, and what happens in it."""
        self.now += 30 * self._random.uniform(0.98, 1.02)
        self._silent = not self._silent and self._random.random() < 0.01
        self._turn_pods()
        self._turn_nodes()
        self._routes = self._proxied(self.inventory)
        self.inventory = self._inventory()

    # the cluster

    def _pod(self, number: int, born: float) -> Pod:
        place = number % max(60, 2 * self._count) + 2
        ips = (ip_address("10.1.13.0") + place, ip_address(f"fd01:0:0:13::{place:x}"))
        return Pod(
            namespace="default", name=f"web-{number}", uid=f"uid-{number}", node=ME, phase="Running", ready=True,
            created=born, started=born, ips=ips, annotated_ips=ips,
            labels={"app": "web"},
        )  # fmt: skip

    def _turn_pods(self) -> None:
        """Those that were going are gone; now and then one begins to go, or comes, first without an address."""
        for number, pod in list(self._pods.items()):
            if pod.deleting:
                del self._pods[number]
            elif pod.phase == "Pending":
                self._pods[number] = self._pod(number, pod.created or self.now)
        if self._random.random() < 0.1:
            number = self._random.choice(sorted(self._pods))
            self._pods[number] = replace(self._pods[number], deleting=True)
        while len(self._pods) < self._count:
            self._births += 1
            self._pods[self._births] = replace(
                self._pod(self._births, self.now), phase="Pending", ready=False, ips=(), annotated_ips=()
            )

    def _turn_nodes(self) -> None:
        """Other nodes are NotReady for a while, and back."""
        for place, each in enumerate(self._nodes):
            if each.name != ME and self._random.random() < (0.01 if each.ready else 0.2):
                self._nodes[place] = replace(each, ready=not each.ready, ready_since=self.now, changed=self.now)

    def _inventory(self) -> Inventory:
        ready = [n for n in self._nodes if n.ready]
        numbers = {n.name: i for i, n in enumerate(self._nodes, 11)}
        slices = tuple(
            replace(
                endpoints(s.name, *(f"{prefix}{numbers[n.name]}{end}" for n in ready), namespace=s.namespace),
                ports=s.ports,
            )
            for s in SERVICES
            for prefix, end in (("10.1.", ".1"), ("fd01:0:0:", "::1"))
        )
        slices = tuple(self._dated(each) for each in slices)
        blocks = [(n.name, ip_network(f"fd01:0:0:{numbers[n.name]}::/122")) for n in self._nodes]
        return changed(
            nodes=tuple(self._nodes),
            pods=tuple(self._pods.values()),
            services=SERVICES,
            endpoint_slices=slices,
            block_affinities=tuple(BlockAffinity(cidr=net, node=name) for name, net in blocks),
            ipam_blocks=tuple(IPAMBlock(cidr=net, node=name, used=PODS, capacity=64) for name, net in blocks),
            synced=self.now,
            uid="cluster",
        )

    def _dated(self, each: EndpointSlice) -> EndpointSlice:
        """With the time of its last change."""
        before = self._slices.get(each.name)
        if before is None or replace(each, changed=before.changed) != before:
            self._slices[each.name] = replace(each, changed=None if before is None else self.now)
        return self._slices[each.name]

    # the inspector

    async def inspect(self, inventory: Inventory, **_: bool) -> Inspection:
        pods = tuple(self._view(pod) for pod in inventory.local_pods(ME))
        return Inspection(
            host=Vantage(kind="host", namespace="", name=ME, netns=None),
            pods=pods,
            host_facts=self._host_facts(inventory),
            host_resolv_conf=ResolvConf(nameservers=DNS),
            readings=(),
        )

    def configure(self, config: object) -> None:
        """Nothing here depends on it."""

    def _view(self, pod: Pod) -> PodView:
        state = (
            PodState.TERMINATING
            if pod.deleting
            else PodState.NOT_RUNNING
            if pod.phase != "Running"
            else PodState.ELIGIBLE
        )
        if state is PodState.ELIGIBLE and self.now - (pod.started or 0) < 60:
            state = PodState.STARTING
        vantage = Vantage(
            kind="pod",
            namespace=pod.namespace,
            name=pod.name,
            netns=Netns(device=4, inode=1000 + int(pod.uid[4:])),
            state=state,
            families=FAMILIES,
            uid=pod.uid,
            addresses=pod.ips,
        )
        if state is not PodState.ELIGIBLE:
            return PodView(vantage=vantage)
        facts = PodFacts(
            links=(LinkFact(index=3, name="eth0", up=True, lower_up=True, mtu=1430),),
            addresses=tuple(AddressFact(link="eth0", interface=ip_interface(ip), scope="global") for ip in pod.ips),
            routes=tuple(RouteFact(destination=ip_network(net), link="eth0") for net in ("0.0.0.0/0", "::/0")),
            listeners=(),
        )
        return PodView(vantage=vantage, facts=facts, resolv_conf=CONF, libc=frozenset({"glibc"}))

    def _host_facts(self, inventory: Inventory) -> HostFacts:
        peers = [n for n in self._nodes if n.name != ME]
        me = next(n for n in self._nodes if n.name == ME)
        local = [ip for pod in inventory.local_pods(ME) for ip in pod.ips if ip.version == 6]
        return HostFacts(
            links=(LinkFact(index=2, name="eth0", up=True, lower_up=True, mtu=1500, inet6=FORWARDING),),
            addresses=tuple(AddressFact(link="eth0", interface=each, scope="global") for each in me.calico_addresses),
            routes=(
                RouteFact(destination=ip_network("0.0.0.0/0"), link="eth0", gateway=ip_address("10.0.10.1")),
                RouteFact(destination=ip_network("::/0"), link="eth0", gateway=ip_address("2001:db8:10::1")),
                *(RouteFact(destination=ip_network(ip), link="cali0") for ip in local),
            ),
            all_conf=Inet6Conf(forwarding=1, accept_ra=0, disable_ipv6=0),
            forwarding_v4=True,
            nat=NatFacts((NatBackend(family=V6, backend=Backend.IPTABLES_NFT, chain=True, hooked=True,
                rules=(SourceMatch(set_name="cali60masq-ipam-pools", members=(POOL6.cidr,)),)),)),
            kube_proxy=KubeProxyFacts("iptables", {V4: True, V6: True}, self._routes),
            vxlan=VxlanFacts({"vxlan-v6.calico": _tunnel(me, peers, inventory)}),
        )  # fmt: skip

    @staticmethod
    def _proxied(inventory: Inventory) -> tuple[ServiceRoute, ...]:
        """kube-proxy's rules: those of the inventory of one round before."""
        return tuple(
            ServiceRoute(port=p, backend=Backend.IPTABLES_NFT, chain="", addresses=frozenset(a for a, _ in p.endpoints))
            for p in watched_ports(inventory)
        )

    # the asker

    async def check_all(self, checks: Sequence[Check], _: Deadline) -> tuple[Observation, ...]:
        return tuple(each for check in checks for each in self._observe(check))

    def _observe(self, check: Check) -> list[Observation]:
        made, reached = [], True
        for layer in check.target.layers:
            outcome = Outcome.OK
            if check.target.group is Group.PEERS and layer is Layer.TCP:
                outcome = Outcome.REFUSED  # no exporter listens there at this moment
            if layer is not Layer.ICMP and not reached:
                outcome = Outcome.NOT_REACHED
            elif self._loses(check.vantage.key, check.target.subject):
                outcome = Outcome.TIMEOUT
                reached = reached and layer is Layer.ICMP
            full = outcome if layer is Layer.ICMP else None
            made.append(
                Observation(
                    vantage=check.vantage, target=check.target, layer=layer, family=check.family, outcome=outcome,
                    seconds=self._random.lognormvariate(-6, 1), time=self.now,
                    address=check.address, full_size=full, full_size_bytes=1430 if full else 0,
                )
            )  # fmt: skip
        return made

    def _loses(self, *pair: str) -> bool:
        """Now and then, and never twice among the probes that are judged together."""
        if 0 < self.now - self._lost.get(pair, -APART) < APART or self._random.random() >= LOSS:
            return False
        self._lost[pair] = self.now
        return True

    async def ask_all(self, questions: Sequence[Question], _: Deadline) -> tuple[Lookup, ...]:
        return tuple(self._answer(question) for question in questions)

    async def ask_together(self, asked: Sequence[Together], _: Deadline) -> tuple[tuple[Lookup, ...], ...]:
        return tuple(tuple(map(self._answer, one.questions)) for one in asked)

    def _answer(self, question: Question) -> Lookup:
        if self._silent or self._loses("dns", question.name, question.qtype):
            return Lookup(question=question, outcome=LookupOutcome.TIMEOUT, time=self.now)
        reply = self._reply(question.name, question.qtype)
        outcome = LookupOutcome.ANSWER if reply.addresses or reply.names else LookupOutcome.NODATA
        if reply.rcode == NXDOMAIN:
            outcome = LookupOutcome.NXDOMAIN
        return Lookup(
            question=question, outcome=outcome, seconds=self._random.lognormvariate(-6, 1), reply=reply, time=self.now
        )

    def _reply(self, name: str, qtype: str) -> Reply:
        """What depends on a cache does so here: whether aa is set, the TTL, the order of addresses."""
        aa, ttl = self._random.random() < 0.5, self._random.randint(0, 30)
        known = RECORDS.get(name)
        if known is None:
            if qtype == "PTR":
                return Reply(aa=aa, answers=1, additionals=1, names=(f"some.default.svc.{DOMAIN}",), ttl=ttl)
            below = any(other.endswith(f".{name}") for other in RECORDS)
            rcode = NOERROR if below else NXDOMAIN
            return Reply(rcode=rcode, aa=aa, additionals=1, soa_authority=True, negative_ttl=ttl)
        found = list(known.get(qtype, ()))
        self._random.shuffle(found)
        forgets = name == "balanced.example" and qtype == "AAAA"
        return Reply(
            aa=aa,
            answers=len(found),
            additionals=1,
            addresses=tuple(found),
            soa_authority=not found and not forgets,
            ttl=ttl if found else None,
            negative_ttl=ttl if not found and not forgets else None,
        )


def _tunnel(me: Node, peers: Sequence[Node], inventory: Inventory) -> VxlanDevice:
    ends = {n.name: n.tunnel_address(V6) for n in peers}
    own, tunnel = me.calico_address(V6), me.tunnel_address(V6)
    macs = {n.name: tunnel_mac(n.name, Family.V6) for n in peers}
    blocks = {b.node: b.cidr for b in inventory.block_affinities or ()}
    return VxlanDevice(
        name="vxlan-v6.calico", up=True, lower_up=True, mtu=1430, vni=4096, port=4789, local=own.ip if own else None,
        parent="eth0",
        parent_mtu=1500, learning=False,
        addresses=(AddressFact(link="vxlan-v6.calico", interface=ip_interface(tunnel), scope="global"),
            ) if tunnel else (),
        routes=tuple(RouteFact(destination=blocks[name], link="vxlan-v6.calico", gateway=end) for name,
            end in ends.items()),
        neighbours=tuple(Neighbour(end, macs[name], permanent=True) for name, end in ends.items() if end is not None),
        fdb={macs[n.name]: address.ip for n in peers for address in [n.calico_address(V6)] if address is not None},
    )  # fmt: skip
