"""Ties the network namespaces on this host to pods: from inventory and the broker's listings to vantages. Pure.

Between the broker's listing and the plan. A namespace belongs to a pod by the last `pod<uid>` component of a process's
cgroup (measured: a private cgroup namespace shows `0::/../../pod<uid>/<id>`), else by an address of status.podIPs;
without an inventory, named namespaces and those of container processes count as pods. A namespace that belongs to no
pod is `unknown` and gets nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import attrgetter, itemgetter
from typing import TypeAlias

from exporter.broker.protocol.messages import FoundNamespace, NamedNamespace, Process
from exporter.config.schema import Config
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.pod import Pod
from exporter.model.family import FAMILIES, Address, Family
from exporter.model.vantage import Netns, PodState, Vantage

# A pod's uid as kubelet writes it into a cgroup name: dashes, or underscores with the systemd driver, or a static pod's
# 32 hex digits.
POD_COMPONENT = re.compile(
    r"(?:^|-)pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$"
)
CONTAINER_COMPONENT = re.compile(r"(?:^|[-:])([0-9a-f]{64})(?:\.scope)?$")

ENDED = frozenset({"Succeeded", "Failed"})  # phases of a pod whose containers have all ended
NAMED, CONTAINER = "netns", "container"  # the namespaces under which vantages without a pod appear

NamespaceKey: TypeAlias = tuple[int, int]  # device and inode


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What the broker found: namespaces of processes, named ones, the host's own, and addresses of unmatched ones."""

    found: tuple[FoundNamespace, ...]
    named: tuple[NamedNamespace, ...]
    home: NamespaceKey
    refused: int = 0
    directory: str = "/run/netns"
    addresses: Mapping[NamespaceKey, tuple[Address, ...]] | None = None


def pod_uid(cgroup: str) -> str | None:
    """The uid in the last `pod<uid>` component of a cgroup path, with dashes where it has any; None without one."""
    uid = _last_match(POD_COMPONENT, cgroup)
    return uid and uid.replace("_", "-")


def container_id(cgroup: str) -> str | None:
    """The 64 hex digits by which a container runtime names the last component, however it decorates them."""
    return _last_match(CONTAINER_COMPONENT, cgroup)


def _last_match(component: re.Pattern[str], cgroup: str) -> str | None:
    matches = map(component.search, reversed(cgroup.split("/")))
    return next((match.group(1) for match in matches if match), None)


def _cgroup(process: Process) -> str:
    return process.cgroup.decode(errors="replace")


def _key(namespace: FoundNamespace | NamedNamespace) -> NamespaceKey:
    return (namespace.device, namespace.inode)


def _by_name(listing: Listing, named: NamedNamespace) -> Netns:
    return Netns(device=named.device, inode=named.inode, path=f"{listing.directory}/{named.name}")


def _by_process(found: FoundNamespace, process: Process) -> Netns:
    return Netns(device=found.device, inode=found.inode, pid=process.pid, started=process.started)


def namespaces_of(listing: Listing) -> dict[NamespaceKey, Netns]:
    """One Netns per namespace but the host's, reached by a process before a name, as its root has the resolv.conf."""
    places = {_key(named): _by_name(listing, named) for named in listing.named}
    places |= {_key(found): _by_process(found, found.processes[0]) for found in listing.found if found.processes}
    places.pop(listing.home, None)
    return places


def processes_of_pods(
    listing: Listing, vantages: Iterable[Vantage], inventory: Inventory, node: str
) -> dict[NamespaceKey, tuple[Process, ...]]:
    """The processes whose roots have the files of each vantage's pod, by its namespace."""
    found = {_key(each): each for each in listing.found}
    names = {pod.uid: {pod.uid, pod.static_uid} - {""} for pod in inventory.local_pods(node)}
    return {
        vantage.netns.key: processes_of(found[vantage.netns.key], names.get(vantage.uid, ()))
        for vantage in vantages
        if vantage.netns is not None and vantage.netns.key in found
    }


def processes_of(found: FoundNamespace, names: Collection[str] = ()) -> tuple[Process, ...]:
    """Those of a namespace whose roots have its pod's files, the oldest first: one of each container and the sandbox's.

    They have one of the pod's `names` in their cgroup: others may have entered from elsewhere (`nsenter`, a CNI's
    agent). Where none does, they are of the pod that the oldest of them belongs to, else the containers', else the
    process by which the namespace is reached.
    """
    order = sorted(found.processes, key=attrgetter("started", "pid"))
    uids = [pod_uid(_cgroup(process)) for process in order]
    known = [uid for uid in uids if uid is not None]
    owner = next((uid for uid in known if uid in names), next(iter(known), None))
    if owner is not None:
        return tuple(process for process, uid in zip(order, uids, strict=True) if uid == owner)
    return tuple(p for p in order if container_id(_cgroup(p)) is not None) or found.processes[:1]


def unmatched(listing: Listing, inventory: Inventory, node: str) -> tuple[Netns, ...]:
    """Namespaces that no cgroup ties to a pod of this node: their addresses decide, read once by the broker."""
    if inventory.pods is None:
        return ()
    by_uid = _by_uid(inventory.local_pods(node))
    tied = {_key(found) for found in listing.found if _owner(found, by_uid)[0] is not None}
    return tuple(place for key, place in namespaces_of(listing).items() if key not in tied)


def locate(listing: Listing, inventory: Inventory, config: Config, now: float) -> tuple[Vantage, ...]:
    """The vantages of this node besides the host, each with its state. Sorted by subject; `unknown` ones come last."""
    if inventory.pods is None:
        return _without_inventory(listing, config)
    places, pods = namespaces_of(listing), inventory.local_pods(config.node_name)
    owners = _tie(listing, pods, places)
    vantages = [
        Vantage(
            kind="pod",
            namespace=pod.namespace,
            name=pod.name,
            netns=owners.get(pod.key),
            state=_state(pod, owners.get(pod.key), config, now),
            families=_families(pod, inventory),
            uid=pod.uid,
            addresses=pod.ips,
        )
        for pod in pods
    ]
    taken = {place.key for place in owners.values()}
    unknown = [
        Vantage(kind="pod", namespace=NAMED, name=f"{place.inode}", netns=place, state=PodState.UNKNOWN)
        for key, place in places.items()
        if key not in taken
    ]
    return (*sorted(vantages, key=attrgetter("subject")), *sorted(unknown, key=attrgetter("subject")))


def departures(before: Inventory, now: Inventory, node: str) -> dict[str, PodState | None]:
    """The uids of this node's pods that ended between two inventories, with their new state; None: no longer there.

    A pod loses its interface before its namespace, so what was seen of it meanwhile shows nothing about any path.
    """
    if before.pods is None or now.pods is None:
        return {}
    left = {p.uid: p for p in now.local_pods(node)}
    return {
        p.uid: _ending(left[p.uid]) if p.uid in left else None
        for p in before.local_pods(node)
        if p.uid and (p.uid not in left or _ending(left[p.uid]) is not None)
    }


def _ending(pod: Pod) -> PodState | None:
    if pod.deleting:
        return PodState.TERMINATING
    return PodState.NOT_RUNNING if pod.phase in ENDED else None


def _tie(listing: Listing, pods: tuple[Pod, ...], places: Mapping[NamespaceKey, Netns]) -> dict[str, Netns]:
    """The namespace of each pod. A pod may make its own inside: of several, the one whose process is the oldest."""
    by_uid = _by_uid(pods)
    oldest: dict[str, tuple[int, Netns]] = {}
    tied: set[NamespaceKey] = set()
    for found in listing.found:
        key = _key(found)
        pod, started = _owner(found, by_uid)
        if pod is None or key not in places or pod.host_network:
            continue
        tied.add(key)
        if pod.key not in oldest or started < oldest[pod.key][0]:
            oldest[pod.key] = (started, places[key])
    owners = {pod: place for pod, (_, place) in oldest.items()}
    by_address = _by_address(p for p in pods if p.key not in owners)
    for key, addresses in (listing.addresses or {}).items():
        owner = next((by_address[a] for a in addresses if a in by_address), None)
        if owner is not None and key in places and key not in tied:
            owners.setdefault(owner.key, places[key])
    return owners


def _by_address(pods: Iterable[Pod]) -> dict[Address, Pod]:
    """Running pods by their addresses: those of one that ended may be another's by now."""
    living = [p for p in pods if not p.host_network and p.phase not in ENDED]
    return {a: p for p in sorted(living, key=lambda p: not p.deleting) for a in p.ips}


def _by_uid(pods: tuple[Pod, ...]) -> dict[str, Pod]:
    return {p.uid: p for p in pods if p.uid} | {p.static_uid: p for p in pods if p.static_uid}


def _owner(found: FoundNamespace, by_uid: Mapping[str, Pod]) -> tuple[Pod | None, int]:
    """The pod that the namespace's processes belong to, and when the oldest of them began (clock ticks since boot)."""
    named = ((by_uid.get(pod_uid(_cgroup(process)) or ""), process.started) for process in found.processes)
    return min((each for each in named if each[0] is not None), key=itemgetter(1), default=(None, 0))


def _state(pod: Pod, place: Netns | None, config: Config, now: float) -> PodState:
    """The first that applies; interception is known only after the namespace was inspected."""
    begun = pod.started or pod.created
    tests = (
        (pod.host_network, PodState.HOST_NETWORK),
        (pod.deleting, PodState.TERMINATING),
        (pod.phase in ENDED, PodState.NOT_RUNNING),
        (begun is not None and now - begun < config.pods.grace, PodState.STARTING),
        (pod.phase != "Running", PodState.NOT_RUNNING),
        (bool(pod.runtime_class) and pod.runtime_class not in config.pods.runtime_classes, PodState.SANDBOXED),
        (not _wanted(pod, config), PodState.OPTED_OUT),
        (place is None, PodState.UNREADABLE),
    )
    return next((state for applies, state in tests if applies), PodState.ELIGIBLE)


def _wanted(pod: Pod, config: Config) -> bool:
    include, exclude = config.pods.namespaces.include, config.pods.namespaces.exclude
    if include and not _matches(pod.namespace, include):
        return False
    return not _matches(pod.namespace, exclude) and config.pods.selector.matches(pod.labels)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _families(pod: Pod, inventory: Inventory) -> tuple[Family, ...]:
    if pod.families is not None:
        return pod.families
    space = next((n for n in inventory.namespaces or () if n.name == pod.namespace), None)
    return space.families if space is not None and space.families is not None else FAMILIES


def _without_inventory(listing: Listing, config: Config) -> tuple[Vantage, ...]:
    """Named namespaces, and those of containers, which are reached by a process even where they have a name.

    Where those of containers are excluded, a name that a runtime gave one does not bring it back.
    """
    vantages = {
        _key(named): Vantage(kind="pod", namespace=NAMED, name=named.name, netns=_by_name(listing, named))
        for named in listing.named
        if _matches(named.name, config.netns.include)
    }
    for found in listing.found:
        process = next((p for p in found.processes if container_id(_cgroup(p)) is not None), None)
        if process is None:
            continue
        if not config.netns.containers:
            vantages.pop(_key(found), None)
        else:
            ident = container_id(_cgroup(process)) or ""
            place = _by_process(found, process)
            vantages[_key(found)] = Vantage(kind="pod", namespace=CONTAINER, name=ident[:12], netns=place, uid=ident)
    vantages.pop(listing.home, None)
    return tuple(sorted(vantages.values(), key=attrgetter("subject")))
