"""Ties the network namespaces that are really on this host to pods: from inventory and the broker's listings to vantages.

Between the broker's listing and the plan. Pure: what the broker found comes in as values, vantages with their states go
out. A namespace belongs to a pod by the last `pod<uid>` component of a process's cgroup (measured: a private cgroup
namespace shows `0::/../../pod<uid>/<id>`), else by an address of status.podIPs; without an inventory, named namespaces
and those of container processes count as pods. What belongs to nobody is `unknown` and gets nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from exporter.broker.protocol.messages import FoundNamespace, NamedNamespace, Process
from exporter.config.schema import Config
from exporter.model.family import FAMILIES, Address, Family
from exporter.model.inventory import Inventory
from exporter.model.pod import Pod
from exporter.model.vantage import Netns, PodState, Vantage

# A pod's uid as kubelet writes it into a cgroup name: dashes, or underscores with the systemd driver, or a static pod's
# 32 hex digits.
POD_COMPONENT = re.compile(
    r"(?:^|-)pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$"
)
CONTAINER_COMPONENT = re.compile(r"(?:^|[-:])([0-9a-f]{64})(?:\.scope)?$")

ENDED = frozenset({"Succeeded", "Failed"})  # phases of a pod whose containers have all ended
NAMED, CONTAINER = "netns", "container"  # the namespaces under which vantages without a pod appear


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What the broker found: namespaces of processes, named ones, the host's own, and addresses read of unmatched ones."""

    found: tuple[FoundNamespace, ...]
    named: tuple[NamedNamespace, ...]
    home: tuple[int, int]
    refused: int = 0
    directory: str = "/run/netns"
    addresses: Mapping[tuple[int, int], tuple[Address, ...]] | None = None


def pod_uid(cgroup: str) -> str | None:
    """The uid in the last `pod<uid>` component of a cgroup path, with dashes where it has any; None without one."""
    for component in reversed(cgroup.split("/")):
        match = POD_COMPONENT.search(component)
        if match:
            return match.group(1).replace("_", "-")
    return None


def container_id(cgroup: str) -> str | None:
    """The 64 hex digits by which a container runtime names the last component, however it decorates them."""
    for component in reversed(cgroup.split("/")):
        match = CONTAINER_COMPONENT.search(component)
        if match:
            return match.group(1)
    return None


def namespaces_of(listing: Listing) -> dict[tuple[int, int], Netns]:
    """One Netns per (device, inode), without the host's; a process leads there rather than a name (its root holds resolv.conf).

    Without an inventory a name comes before a process that is no container's: see `_without_inventory`.
    """
    places: dict[tuple[int, int], Netns] = {}
    for named in listing.named:
        key = (named.device, named.inode)
        places[key] = Netns(device=named.device, inode=named.inode, path=f"{listing.directory}/{named.name}")
    for found in listing.found:
        key = (found.device, found.inode)
        if found.processes:
            first = found.processes[0]
            places[key] = Netns(device=found.device, inode=found.inode, pid=first.pid, started=first.started)
    places.pop(listing.home, None)
    return places


def processes_of_pods(
    listing: Listing, vantages: Iterable[Vantage], inventory: Inventory, node: str
) -> dict[tuple[int, int], tuple[Process, ...]]:
    """The processes whose roots hold the files of each vantage's pod, by its namespace."""
    found = {(each.device, each.inode): each for each in listing.found}
    names = {pod.uid: {pod.uid, pod.static_uid} - {""} for pod in inventory.local_pods(node)}
    return {
        vantage.netns.key: processes_of(found[vantage.netns.key], names.get(vantage.uid, ()))
        for vantage in vantages
        if vantage.netns is not None and vantage.netns.key in found
    }


def processes_of(found: FoundNamespace, names: Collection[str] = ()) -> tuple[Process, ...]:
    """Those of a namespace whose roots hold its pod's files, the oldest first: one of each container, and of the sandbox.

    They bear one of the pod's `names` in their cgroup: others may have come in from elsewhere (`nsenter`, a CNI's
    agent). Where none does, they are of the pod that the oldest of them belongs to, else the containers', else the
    process that stands for the namespace.
    """
    order = sorted(found.processes, key=lambda process: (process.started, process.pid))
    cgroups = [process.cgroup.decode(errors="replace") for process in order]
    uids = [pod_uid(cgroup) for cgroup in cgroups]
    known = [uid for uid in uids if uid is not None]
    owner = next((uid for uid in known if uid in names), next(iter(known), None))
    if owner is not None:
        return tuple(process for process, uid in zip(order, uids, strict=True) if uid == owner)
    containers = tuple(p for p, cgroup in zip(order, cgroups, strict=True) if container_id(cgroup) is not None)
    return containers or found.processes[:1]


def unmatched(listing: Listing, inventory: Inventory, node: str) -> tuple[Netns, ...]:
    """Namespaces that no cgroup ties to a pod of this node: their addresses decide, read once by the broker."""
    if inventory.pods is None:
        return ()
    by_uid = _by_uid(inventory.local_pods(node))
    tied = {(f.device, f.inode) for f in listing.found if _owner(f, by_uid)[0] is not None}
    return tuple(place for key, place in namespaces_of(listing).items() if key not in tied)


def locate(listing: Listing, inventory: Inventory, config: Config, now: float) -> tuple[Vantage, ...]:
    """The vantages of this node besides the host, each with its state. Sorted by subject; `unknown` ones come last."""
    if inventory.pods is None:
        return _without_inventory(listing, config)
    places = namespaces_of(listing)
    owners = _tie(listing, inventory.local_pods(config.node_name), places)
    vantages = [
        _vantage(pod, owners.get(pod.key), inventory, config, now) for pod in inventory.local_pods(config.node_name)
    ]
    taken = {place.key for place in owners.values()}
    strangers = [
        Vantage(kind="pod", namespace=NAMED, name=f"{place.inode}", netns=place, state=PodState.UNKNOWN)
        for key, place in places.items()
        if key not in taken
    ]
    return (*sorted(vantages, key=lambda v: v.subject), *sorted(strangers, key=lambda v: v.subject))


def departures(before: Inventory, now: Inventory, node: str) -> dict[str, PodState | None]:
    """The uids of this node's pods that ended between two inventories, with their new state; None: no longer there.

    A pod loses its interface before its namespace, so what was seen of it meanwhile says nothing of any path.
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


def _tie(listing: Listing, pods: tuple[Pod, ...], places: Mapping[tuple[int, int], Netns]) -> dict[str, Netns]:
    """The namespace of each pod. Of several with its uid (it may make its own inside) the one whose process is the oldest."""
    by_uid = _by_uid(pods)
    begun: dict[str, int] = {}
    owners: dict[str, Netns] = {}
    tied: set[tuple[int, int]] = set()
    for found in listing.found:
        key = (found.device, found.inode)
        pod, started = _owner(found, by_uid)
        if pod is None or key not in places or pod.host_network:
            continue
        tied.add(key)
        if pod.key not in begun or started < begun[pod.key]:
            begun[pod.key], owners[pod.key] = started, places[key]
    by_address = _by_address(p for p in pods if p.key not in owners)
    for key, addresses in (listing.addresses or {}).items():
        owner = next((by_address[a] for a in addresses if a in by_address), None)
        if owner is not None and key in places and key not in tied:
            owners.setdefault(owner.key, places[key])
    return owners


def _by_address(pods: Iterable[Pod]) -> dict[Address, Pod]:
    """Pods by their addresses. One that ended still names its own, which may be another's by now."""
    living = [p for p in pods if not p.host_network and p.phase not in ENDED]
    return {a: p for p in sorted(living, key=lambda p: not p.deleting) for a in p.ips}


def _by_uid(pods: tuple[Pod, ...]) -> dict[str, Pod]:
    table = {p.uid: p for p in pods if p.uid}
    table.update({p.static_uid: p for p in pods if p.static_uid})
    return table


def _owner(found: FoundNamespace, by_uid: Mapping[str, Pod]) -> tuple[Pod | None, int]:
    """The pod that the namespace's processes belong to, and when the oldest of them began (clock ticks since boot)."""
    owners: dict[str, tuple[Pod, int]] = {}
    for process in found.processes:
        uid = pod_uid(process.cgroup.decode(errors="replace"))
        if uid is not None and uid in by_uid:
            pod = by_uid[uid]
            owners[pod.key] = (pod, min(process.started, owners.get(pod.key, (pod, process.started))[1]))
    return min(owners.values(), key=lambda owner: owner[1], default=(None, 0))


def _vantage(pod: Pod, place: Netns | None, inventory: Inventory, config: Config, now: float) -> Vantage:
    return Vantage(
        kind="pod",
        namespace=pod.namespace,
        name=pod.name,
        netns=place,
        state=_state(pod, place, config, now),
        families=_families(pod, inventory),
        uid=pod.uid,
        addresses=pod.ips,
    )


def _state(pod: Pod, place: Netns | None, config: Config, now: float) -> PodState:
    """The first that applies; interception is known only after the namespace was inspected (see `rounds`)."""
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
    return next((state for holds, state in tests if holds), PodState.ELIGIBLE)


def _wanted(pod: Pod, config: Config) -> bool:
    include, exclude = config.pods.namespaces.include, config.pods.namespaces.exclude
    if include and not any(fnmatchcase(pod.namespace, pattern) for pattern in include):
        return False
    if any(fnmatchcase(pod.namespace, pattern) for pattern in exclude):
        return False
    return config.pods.selector.matches(pod.labels)


def _families(pod: Pod, inventory: Inventory) -> tuple[Family, ...]:
    if pod.families is not None:
        return pod.families
    space = next((n for n in inventory.namespaces or () if n.name == pod.namespace), None)
    return space.families if space is not None and space.families is not None else FAMILIES


def _without_inventory(listing: Listing, config: Config) -> tuple[Vantage, ...]:
    vantages: dict[tuple[int, int], Vantage] = {}
    for named in listing.named:
        key = (named.device, named.inode)
        if key != listing.home and any(fnmatchcase(named.name, p) for p in config.netns.include):
            place = Netns(device=named.device, inode=named.inode, path=f"{listing.directory}/{named.name}")
            vantages[key] = Vantage(kind="pod", namespace=NAMED, name=named.name, netns=place)
    for found in listing.found:
        key = (found.device, found.inode)
        if key == listing.home:
            continue
        for process in found.processes:
            ident = container_id(process.cgroup.decode(errors="replace"))
            if ident is not None:
                place = Netns(device=found.device, inode=found.inode, pid=process.pid, started=process.started)
                vantages[key] = Vantage(kind="pod", namespace=CONTAINER, name=ident[:12], netns=place, uid=ident)
                break
    return tuple(sorted(vantages.values(), key=lambda v: v.subject))
