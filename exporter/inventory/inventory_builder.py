"""From parsed objects to one Inventory: pools against nodes, policies against pods, ConfigMaps together. Pure, linear in the objects.

Last step of discovery, the same for every source. What a source did not read stays None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar

from exporter.inventory.parse.calico_selectors import parse_calico
from exporter.inventory.parse.configmaps import ConfigMap, ConfigMapContents, read_config_maps
from exporter.inventory.parse.objects import Parsed
from exporter.inventory.parse.policies import PolicyDraft
from exporter.inventory.parse.policy_selection import select_pods
from exporter.inventory.parse.selectors import Everything, SelectorError, matches
from exporter.model.calico import BlockAffinity, CalicoNode, FelixConfiguration, Installation, IPAMBlock, IPPool
from exporter.model.component import CniConfig, ComponentFlags
from exporter.model.inventory import Inventory, ResourceKind, Unreadable
from exporter.model.node import Node
from exporter.model.pod import Namespace, Pod
from exporter.model.reason import Reason
from exporter.model.service import EndpointSlice, Service, ServiceCIDR

MAX_NOTES = 50
NAME, QUALIFIED = attrgetter("name"), attrgetter("namespace", "name")
Objects: TypeAlias = Mapping[ResourceKind, Sequence[Parsed | Unreadable | None]]
_T = TypeVar("_T")


def build_inventory(
    objects: Objects,
    *,
    source: str,
    synced: float | None = None,
    stale: bool = False,
    unread: Mapping[ResourceKind, Reason] | None = None,
    cni: Sequence[CniConfig] = (),
    components: Sequence[ComponentFlags] = (),
) -> Inventory:
    """The cluster that the objects describe. A kind that is no key of `objects` was not read; `unread` may say why.

    `cni` and `components` are what was read from files of this node. Of two objects of one name the later counts. Notes
    on what could not be read (Unreadable among the objects) are counted, and the first of them kept.
    """
    taken = _Taken(objects)
    nodes, pods = taken.of(ResourceKind.NODES, Node, NAME), taken.of(ResourceKind.PODS, Pod, QUALIFIED)
    namespaces = taken.of(ResourceKind.NAMESPACES, Namespace, NAME)
    drafts = taken.of(ResourceKind.POLICIES, PolicyDraft, attrgetter("key"))
    maps = taken.of(ResourceKind.CONFIG_MAPS, ConfigMap, QUALIFIED)
    said = read_config_maps(maps or ())
    pools = taken.of(ResourceKind.IP_POOLS, IPPool, NAME)
    notes: list[Unreadable] = [*taken.notes, *said.unreadable]
    return Inventory(
        source=source,
        synced=synced,
        stale=stale,
        nodes=nodes,
        pods=pods,
        namespaces=namespaces,
        services=taken.of(ResourceKind.SERVICES, Service, QUALIFIED),
        endpoint_slices=taken.of(ResourceKind.ENDPOINT_SLICES, EndpointSlice, QUALIFIED),
        service_cidrs=taken.of(ResourceKind.SERVICE_CIDRS, ServiceCIDR, NAME),
        policies=None if drafts is None else select_pods(drafts, pods or (), namespaces or ()),
        pools=None if pools is None else _select_nodes(pools, nodes, notes),
        block_affinities=taken.of(
            ResourceKind.BLOCK_AFFINITIES, BlockAffinity, lambda each: (str(each.cidr), each.node)
        ),
        ipam_blocks=taken.of(ResourceKind.IPAM_BLOCKS, IPAMBlock, lambda each: str(each.cidr)),
        felix=taken.of(ResourceKind.FELIX, FelixConfiguration, NAME),
        calico_node=next(
            iter(taken.of(ResourceKind.CALICO_DAEMONSET, CalicoNode, attrgetter("namespace")) or ()), None
        ),
        installation=next(iter(taken.of(ResourceKind.INSTALLATION, Installation, str) or ()), None),
        corefile=said.corefile,
        cni=None if maps is None and not cni else (*cni, *said.cni),
        components=_components(nodes, pods, maps, said, components),
        cluster_pod_cidrs=said.pod_cidrs,
        cluster_service_cidrs=said.service_cidrs,
        unread={kind: Reason.NO_INVENTORY for kind in ResourceKind if kind not in objects} | dict(unread or {}),
        uid=next((each.uid for each in namespaces or () if each.name == "kube-system"), ""),
        node_local=said.node_local,
        unreadable=tuple(notes[:MAX_NOTES]),
        unreadable_count=len(notes),
    )


class _Taken:
    """The objects by kind, of the type expected, each name once, in the order of names; notes aside."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.notes = [each for values in objects.values() for each in values if isinstance(each, Unreadable)]

    def of(self, kind: ResourceKind, wanted: type[_T], key: Callable[[Any], Any]) -> tuple[_T, ...] | None:
        if kind not in self._objects:
            return None
        unique = {key(each): each for each in self._objects[kind] if isinstance(each, wanted)}
        return tuple(unique[each] for each in sorted(unique))


def _select_nodes(pools: Iterable[IPPool], nodes: Sequence[Node] | None, notes: list[Unreadable]) -> tuple[IPPool, ...]:
    """The pools with the nodes that their nodeSelector takes. One that cannot be read counts as taking every node, with a note."""
    found = []
    answers: dict[str, frozenset[str] | None] = {}
    for pool in pools:
        text = pool.node_selector
        if text not in answers:
            try:
                selector = parse_calico(text)
                every = isinstance(selector, Everything) or nodes is None
                answers[text] = (
                    None if every else frozenset(n.name for n in nodes or () if matches(selector, n.labels.get))
                )
            except SelectorError as error:
                answers[text] = None
                notes.append(Unreadable(ResourceKind.IP_POOLS, pool.name, f"nodeSelector: {error}"[:200]))
        found.append(replace(pool, nodes=answers[text]))
    return tuple(found)


def _components(
    nodes: Sequence[Node] | None,
    pods: Sequence[Pod] | None,
    maps: Sequence[ConfigMap] | None,
    said: ConfigMapContents,
    given: Sequence[ComponentFlags],
) -> tuple[ComponentFlags, ...] | None:
    """Whatever shows arguments of components; None where nothing that could was read."""
    shown = (pod.component for pod in pods or () if pod.component is not None)
    noted = (flags for node in nodes or () for flags in node.components)
    found = {
        (each.component, each.source): each for each in (*shown, *noted, *said.components, *given) if each.arguments
    }
    if not found and pods is None and maps is None:
        return None
    return tuple(found[each] for each in sorted(found))
