"""From parsed objects to one Inventory: pools against nodes, policies against pods, ConfigMaps together. Pure.

Last step of every source; linear in the number of objects. What a source did not read stays None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar

from exporter.inventory.corefile.dns_use import dns_use, read_corefiles, unread_corefiles
from exporter.inventory.parse.calico import DaemonSet
from exporter.inventory.parse.configmaps import ConfigMap, ConfigMapContents, read_config_maps
from exporter.inventory.parse.objects import Parsed
from exporter.inventory.parse.policies.kinds import PolicyDraft
from exporter.inventory.parse.policies.selection import select_pods
from exporter.inventory.parse.selectors import SelectorError, parse_calico
from exporter.model.cluster.calico import (
    BGPConfiguration,
    BGPPeer,
    BlockAffinity,
    FelixConfiguration,
    Installation,
    IPAMBlock,
    IPAMConfig,
    IPPool,
)
from exporter.model.cluster.component import CniConfig, ComponentFlags
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind, Unreadable
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Namespace, Pod
from exporter.model.cluster.selector import EVERYTHING, matches
from exporter.model.cluster.service import EndpointSlice, EntryPoint, Service, ServiceCIDR
from exporter.model.cluster.well_known import SYSTEM
from exporter.model.cni.profile import CniSign
from exporter.model.reason import Reason

MAX_NOTES = 50
NAME, QUALIFIED = attrgetter("name"), attrgetter("namespace", "name")
Objects: TypeAlias = Mapping[ResourceKind, Sequence[Parsed | Unreadable | None]]
_T = TypeVar("_T")


def build_inventory(
    objects: Objects,
    *,
    source: InventoryOrigin,
    synced: float | None = None,
    stale: bool = False,
    unread: Mapping[ResourceKind, Reason] | None = None,
    cni: Sequence[CniConfig] = (),
    components: Sequence[ComponentFlags] = (),
) -> Inventory:
    """The cluster that the objects describe. A kind absent from `objects` was not read; `unread` may give reasons.

    `cni` and `components` come from files of this node. Of two objects of one name the later counts.
    """
    parsed = _ParsedObjects(objects)
    nodes, pods = parsed.of(ResourceKind.NODES, Node, NAME), parsed.of(ResourceKind.PODS, Pod, QUALIFIED)
    namespaces = parsed.of(ResourceKind.NAMESPACES, Namespace, NAME)
    drafts = parsed.of(ResourceKind.POLICIES, PolicyDraft, attrgetter("key"))
    maps = parsed.of(ResourceKind.CONFIG_MAPS, ConfigMap, QUALIFIED)
    pools = parsed.of(ResourceKind.IP_POOLS, IPPool, NAME)
    bgp_peers = parsed.of(ResourceKind.BGP_PEERS, BGPPeer, NAME)
    sets = parsed.of(ResourceKind.CALICO_DAEMONSET, DaemonSet, QUALIFIED)
    services = parsed.of(ResourceKind.SERVICES, Service, QUALIFIED)
    contents = read_config_maps(maps or ())
    notes: list[Unreadable] = [*parsed.notes, *contents.unreadable]
    flags = _merge_components(nodes or (), pods or (), (*contents.components, *components))
    dns = dns_use(services or (), pods or (), sets or (), flags)
    corefile, node_local = read_corefiles(maps or (), dns)
    unknown = unread_corefiles(maps, dns) if maps is not None else ()
    notes += unknown
    no_source = pods is None and maps is None  # of component arguments
    return Inventory(
        source=source,
        synced=synced,
        stale=stale,
        nodes=nodes,
        pods=pods,
        namespaces=namespaces,
        services=services,
        endpoint_slices=parsed.of(ResourceKind.ENDPOINT_SLICES, EndpointSlice, QUALIFIED),
        service_cidrs=parsed.of(ResourceKind.SERVICE_CIDRS, ServiceCIDR, NAME),
        ingresses=parsed.of(ResourceKind.INGRESSES, EntryPoint, QUALIFIED),
        gateways=parsed.of(ResourceKind.GATEWAYS, EntryPoint, QUALIFIED),
        policies=None if drafts is None else select_pods(drafts, pods or (), namespaces or ()),
        pools=None if pools is None else _select_nodes(pools, nodes, notes),
        block_affinities=parsed.of(ResourceKind.BLOCK_AFFINITIES, BlockAffinity, lambda b: (str(b.cidr), b.node)),
        ipam_blocks=parsed.of(ResourceKind.IPAM_BLOCKS, IPAMBlock, lambda b: str(b.cidr)),
        ipam_config=None
        if ResourceKind.IPAM_CONFIG not in objects
        else parsed.one(ResourceKind.IPAM_CONFIG, IPAMConfig, str) or IPAMConfig(),
        bgp=parsed.of(ResourceKind.BGP_CONFIGURATIONS, BGPConfiguration, NAME),
        bgp_peers=None if bgp_peers is None else tuple(_select_peers(bgp_peers, nodes or (), notes)),
        felix=parsed.of(ResourceKind.FELIX, FelixConfiguration, NAME),
        calico_node=next((each.calico for each in sets or () if each.calico is not None), None),
        installation=parsed.one(ResourceKind.INSTALLATION, Installation, str),
        corefile=corefile,
        cni=None if maps is None and not cni else (*cni, *contents.cni),
        components=None if no_source and not flags else flags,
        cni_signs=None if nodes is None and no_source and sets is None else _merge_signs(nodes, pods, sets, contents),
        cluster_pod_cidrs=contents.pod_cidrs,
        cluster_service_cidrs=contents.service_cidrs,
        unread={kind: Reason.NO_INVENTORY for kind in ResourceKind if kind not in objects} | dict(unread or {}),
        uid=next((each.uid for each in namespaces or () if each.name == SYSTEM), ""),
        node_local=node_local,
        corefiles_mounted=dns.mounted,
        corefiles_unread=bool(unknown),
        unreadable=tuple(notes[:MAX_NOTES]),
        unreadable_count=len(notes),
    )


class _ParsedObjects:
    """The objects by kind, of the type expected, each name once and sorted; notes aside."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.notes = [each for values in objects.values() for each in values if isinstance(each, Unreadable)]

    def of(self, kind: ResourceKind, wanted: type[_T], key: Callable[[Any], Any]) -> tuple[_T, ...] | None:
        if kind not in self._objects:
            return None
        unique = {key(each): each for each in self._objects[kind] if isinstance(each, wanted)}
        return tuple(unique[each] for each in sorted(unique))

    def one(self, kind: ResourceKind, wanted: type[_T], key: Callable[[Any], Any]) -> _T | None:
        return next(iter(self.of(kind, wanted, key) or ()), None)


def _select_nodes(pools: Iterable[IPPool], nodes: Sequence[Node] | None, notes: list[Unreadable]) -> tuple[IPPool, ...]:
    """The pools with the nodes that their nodeSelector selects: every node, with a note, if it is not valid."""
    found = []
    answers: dict[str, frozenset[str] | None] = {}
    for pool in pools:
        text = pool.node_selector
        if text not in answers:
            answers[text] = None
            try:
                answers[text] = _selected(text, nodes)
            except SelectorError as error:
                notes.append(Unreadable(ResourceKind.IP_POOLS, pool.name, f"nodeSelector: {error}"[:200]))
        found.append(replace(pool, nodes=answers[text]))
    return tuple(found)


def _selected(text: str, nodes: Sequence[Node] | None) -> frozenset[str] | None:
    """The names of the nodes that Calico's selector takes; None: every node. SelectorError where it is not valid."""
    selector = parse_calico(text)
    if nodes is None or selector == EVERYTHING:
        return None
    return frozenset(node.name for node in nodes if matches(selector, node.labels.get))


def _select_peers(peers: Iterable[BGPPeer], nodes: Sequence[Node], notes: list[Unreadable]) -> Iterator[BGPPeer]:
    """The BGPPeers with the nodes that their selectors take; one whose selectors are not valid is noted and left out.

    confd (pkg/backends/calico/client.go): nodeSelector before node, peerSelector before peerIP.
    """
    everyone = frozenset(node.name for node in nodes)
    for peer in peers:
        try:
            own = _selected(peer.node_selector, nodes) if peer.node_selector else frozenset({peer.node} - {""}) or None
            others = (_selected(peer.peer_selector, nodes) or everyone) if peer.peer_selector else frozenset()
        except SelectorError as error:
            notes.append(Unreadable(ResourceKind.BGP_PEERS, peer.name, f"selector: {error}"[:200]))
        else:
            yield replace(peer, nodes=own, peers=others)


def _merge_signs(
    nodes: Iterable[Node] | None, pods: Iterable[Pod] | None, sets: Iterable[DaemonSet] | None, maps: ConfigMapContents
) -> tuple[CniSign, ...]:
    """Those that say the same once: a CNI has an agent and annotations on every node."""
    every = (
        *(each.sign for each in sets or () if each.sign is not None),
        *(pod.cni_sign for pod in pods or () if pod.cni_sign is not None and not pod.deleting),
        *maps.cni_signs,
        *(sign for node in nodes or () for sign in node.cni_signs),
    )
    found = {(s.cni, s.place, *sorted(s.settings.items()), *sorted(s.unseen)): s for s in reversed(every)}
    return tuple(reversed(found.values()))


def _merge_components(
    nodes: Iterable[Node], pods: Iterable[Pod], others: Iterable[ComponentFlags]
) -> tuple[ComponentFlags, ...]:
    """The arguments of components from wherever they can be seen."""
    shown = (pod.component for pod in pods if pod.component is not None)
    noted = (flags for node in nodes for flags in node.components)
    found = {(each.component, each.source): each for each in (*shown, *noted, *others) if each.arguments}
    return tuple(found[each] for each in sorted(found))
