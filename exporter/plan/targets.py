"""The targets of a node: what the inventory offers inside the cluster, what the operator configured outside. Pure.

Peers form a deterministic ring over the nodes that are Ready for two minutes, so that every node is probed by as many
nodes as it probes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from exporter.config.schema import Config, Expectation, TargetConfig
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.node import Node
from exporter.model.cluster.well_known import OWN_SERVICE, dns_endpoints, dns_services
from exporter.model.family import FAMILIES, Address, Family, family_of, parse_address
from exporter.model.grouping import grouped
from exporter.model.probe import Group, Layer, Target
from exporter.plan.round_plan import rotated

READY_FOR = 120.0  # seconds


def inside(
    inventory: Inventory, config: Config, families: tuple[Family, ...], now: float, *, starting: bool = False
) -> tuple[Target, ...]:
    """service, cluster_dns and apiserver where the inventory has them, and the peers of the ring.

    `starting`: this exporter may not be an endpoint of its own Service yet.
    """
    unready = _own_addresses(inventory, config.node_name) if starting else frozenset()
    found = (
        own_service(inventory, families, unready),
        cluster_dns(inventory, families),
        apiserver(inventory, families),
    )
    return (*(t for t in found if t is not None), *peers(inventory, config, families, now))


def own_service(
    inventory: Inventory, families: tuple[Family, ...], unready: frozenset[Address] = frozenset()
) -> Target | None:
    """The exporter's own PreferDualStack Service, unless it has no ready endpoint but perhaps those at `unready`.

    Nobody answers then, over any family: all exporters start, or the only one.
    """
    for s in inventory.services or ():
        if s.labels.get("app.kubernetes.io/name") == OWN_SERVICE and s.cluster_ips and s.ports:
            slices = [e for e in inventory.endpoint_slices or () if (e.namespace, e.service) == (s.namespace, s.name)]
            ready = {a for each in slices for end in each.endpoints if end.ready for a in end.addresses}
            served = not slices or ready - unready
            return _target(Group.SERVICE, s.cluster_ips, families, s.ports[0].port) if served else None
    return None


def _own_addresses(inventory: Inventory, node_name: str) -> frozenset[Address]:
    """At which this node's exporter is an endpoint: the node's, in whose network it is, or those of its own pod."""
    node = inventory.node(node_name)
    pods = (p for p in inventory.local_pods(node_name) if p.labels.get("app.kubernetes.io/name") == OWN_SERVICE)
    return frozenset((*(node.internal_ips if node is not None else ()), *(a for pod in pods for a in pod.ips)))


def cluster_dns(inventory: Inventory, families: tuple[Family, ...]) -> Target | None:
    services = dns_services(inventory)
    addresses = [a for s in services for a in s.cluster_ips]
    have = {family_of(a) for a in addresses}
    addresses += [a for a in dns_endpoints(inventory, services) if family_of(a) not in have]
    return _target(Group.CLUSTER_DNS, addresses, families, 53)


def apiserver(inventory: Inventory, families: tuple[Family, ...]) -> Target | None:
    for s in inventory.services or ():
        if (s.namespace, s.name) == ("default", "kubernetes") and s.cluster_ips:
            return _target(Group.APISERVER, s.cluster_ips, families, s.ports[0].port if s.ports else 443)
    return None


def ring(nodes: Iterable[Node], me: str, count: int, now: float) -> tuple[Node, ...]:
    """The next `count` nodes after this one on a circle ordered by the hash of their names."""
    circle = sorted(
        (n for n in nodes if n.name == me or _may_be_peer(n, now)),
        key=lambda n: hashlib.sha256(n.name.encode()).digest(),
    )
    names = [n.name for n in circle]
    return rotated(circle, names.index(me) + 1)[:-1][:count] if me in names else ()


def _may_be_peer(node: Node, now: float) -> bool:
    if not node.ready or node.windows or node.virtual:
        return False
    return node.ready_since is None or now - node.ready_since >= READY_FOR


def peers(inventory: Inventory, config: Config, families: tuple[Family, ...], now: float) -> tuple[Target, ...]:
    found = []
    for node in ring(inventory.nodes or (), config.node_name, config.peers.count, now):
        addresses = [node.tunnel_address(f) or _routable(node.internal_ip(f)) for f in families]
        target = _target(Group.PEERS, [a for a in addresses if a is not None], families, config.peers.port)
        if target is not None:
            found.append(replace(target, layers=tuple(config.peers.layers), peer=node.name))
    return tuple(found)


def at_pods(target: Target, pods: Sequence[Address]) -> Target:
    """A peer as pods dial it: at one of its node's pods, and a second one; over a family that none has, at its node."""
    by_family = grouped((a for a in pods if family_of(a) in target.addresses), family_of)
    first = {family: addresses[0] for family, addresses in by_family.items()}
    others = {family: tuple(addresses[1:]) for family, addresses in by_family.items()}
    return replace(target, addresses={**target.addresses, **first}, others=others)


def _routable(address: Address | None) -> Address | None:
    return None if address is None or address.is_link_local else address


def outside(config: Config, families: tuple[Family, ...]) -> tuple[tuple[TargetConfig, Target | None], ...]:
    """The configured targets: with literal addresses as a Target, with a name that is still to be resolved None."""
    return tuple((t, _literal(t, families)) for t in config.targets)


def with_addresses(
    target: TargetConfig,
    addresses: Mapping[Family, Address | None],
    families: Iterable[Family],
    others: Mapping[Family, tuple[Address, ...]] | None = None,
    *,
    refused: str = "",
) -> Target:
    """A configured target with the addresses of its name; an address of None fails as `no_address`.

    `others`: the addresses of its name after the first one. `refused`: why the vantage's own nameservers were not
    asked; then an address of None is no failure but `not_allowed`.

    families auto: those that the name has. A family without an answer fails, because it may exist; a name without any
    address fails over each. Families that the operator lists are always dialled.
    """
    wanted = [f for f in families if target.families is None or f in target.families]
    if target.families is None and any(addresses.values()):
        wanted = [f for f in wanted if addresses.get(f) or f not in addresses]
    return Target(
        name=target.name,
        group=Group.OUTSIDE,
        addresses={f: addresses.get(f) for f in wanted},
        port=target.port or 0,
        layers=target.layers,
        host=target.host,
        server_name="" if parse_address(target.host) else target.host,
        path=target.path,
        statuses=target.status,
        expect_reachable=target.expect is Expectation.REACHABLE,
        ca_file=target.ca_file,
        timeout=target.timeout,
        others=others or {},
        refused=refused,
    )


def _literal(target: TargetConfig, families: tuple[Family, ...]) -> Target | None:
    literal = target.addresses or tuple(a for a in (parse_address(target.host),) if a is not None)
    if not literal:
        return None
    given: dict[Family, Address | None] = dict.fromkeys(FAMILIES)
    return with_addresses(target, {**given, **{family_of(a): a for a in reversed(literal)}}, families)


def _target(group: Group, addresses: Iterable[Address], families: tuple[Family, ...], port: int) -> Target | None:
    """The first address of each family; None without any."""
    by_family: dict[Family, Address | None] = {}
    for address in addresses:
        if family_of(address) in families:
            by_family.setdefault(family_of(address), address)
    if not by_family:
        return None
    return Target(name=group.value, group=group, addresses=by_family, port=port, layers=(Layer.TCP,))
