"""The digest: what the cluster role tells the nodes, so that 5,000 of them need not list the cluster. Pure: builder, format, parser, union.

It holds what a node needs of the others: peers, pools and blocks, the DNS Services, which pods an egress policy restricts, and the causes
found in the cluster's objects. Its format is numbered; a server writes N and N-1, a client reads both, so that either may be updated
first. Fields that did not matter to a node are left out, so that the same cluster gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from exporter.diagnosis.explain import Found
from exporter.diagnosis.felix import VARIABLES
from exporter.discovery.codec import CodecError, decode, encode
from exporter.model.inventory import (
    EMPTY,
    BlockAffinity,
    CalicoNode,
    Corefile,
    EndpointSlice,
    Felix,
    Inventory,
    Kind,
    Namespace,
    Node,
    Policy,
    PolicyKind,
    Service,
)
from exporter.model.report import Cause, CauseReport, Severity
from exporter.plan.targets import OWN_SERVICE, dns_services

VERSION = 1  # N; 0 never existed, so there is no N-1 yet
MEDIA = "application/vnd.dualstack-exporter.digest.v{}+json"
MAX_BYTES = 64 << 20
MAX_SUBJECTS = 500  # of one found cause
MAX_SERVICES = (
    5_000  # Services with IPv6 beyond the DNS's: more are left out, and pod_listens_ipv4_only does not see them
)
MAX_RESTRICTED = 50_000  # pods named one by one; beyond that their whole namespaces count as restricted
RECENT = 600.0  # seconds for which the time of a change may still matter
SERVICE_LABELS = frozenset({"app.kubernetes.io/name", "k8s-app"})


class DigestError(ValueError):
    """The bytes are no digest that this exporter reads; the message is one line."""


@dataclass(frozen=True, slots=True)
class Digest:
    """The cluster as nodes need it, and the causes found in it that may explain what they see."""

    inventory: Inventory
    found: tuple[Found, ...] = ()


def accept_header() -> str:
    """The formats that this client reads, the newest first."""
    return ", ".join(MEDIA.format(version) for version in readable())


def readable() -> tuple[int, ...]:
    """N and N-1."""
    return tuple(version for version in (VERSION, VERSION - 1) if version > 0)


def negotiate(accept: str, offered: Iterable[int] | None = None) -> int | None:
    """The newest format that both sides know, None for none. Without a wish for a format of ours: the newest."""
    wished = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    offered = readable() if offered is None else tuple(offered)
    if not any(each.startswith("application/vnd.dualstack-exporter.") for each in wished):
        return max(offered)
    return next((version for version in sorted(offered, reverse=True) if MEDIA.format(version) in wished), None)


# Writing


def write_digest(inventory: Inventory, causes: Iterable[CauseReport], now: float) -> bytes:
    """The digest of a cluster and of its unexplained causes, in format N."""
    found = [
        {
            "cause": each.finding.cause.value,
            "severity": each.finding.severity.value,
            "subjects": list(each.finding.subjects[:MAX_SUBJECTS]),
        }
        for each in causes
        if each.explained_by is None and each.finding.severity is not Severity.INFO
    ]
    document = {"version": VERSION, "inventory": encode(reduce(inventory, now)), "found": found}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def reduce(inventory: Inventory, now: float) -> Inventory:
    """The part of the cluster that every node needs."""
    dns = dns_services(inventory)
    return Inventory(
        source="digest",
        stale=inventory.stale,
        nodes=None if inventory.nodes is None else tuple(_node(each, now) for each in inventory.nodes),
        namespaces=None if inventory.namespaces is None else tuple(_namespaces(inventory.namespaces)),
        services=None if inventory.services is None else tuple(_services(inventory.services, dns)),
        endpoint_slices=None if inventory.endpoint_slices is None else tuple(_slices(inventory.endpoint_slices, dns)),
        service_cidrs=inventory.service_cidrs,
        policies=None if inventory.policies is None else restrictions(inventory.policies),
        pools=inventory.pools,
        block_affinities=None
        if inventory.block_affinities is None
        else tuple(_block(each, now) for each in inventory.block_affinities),
        felix=None if inventory.felix is None else tuple(each for each in inventory.felix if each.felix != Felix()),
        calico_node=_calico_node(inventory.calico_node),
        installation=inventory.installation,
        corefile=_corefile(inventory.corefile),
        cni=inventory.cni,
        cluster_pod_cidrs=inventory.cluster_pod_cidrs,
        cluster_service_cidrs=inventory.cluster_service_cidrs,
        unread=inventory.unread,
        service_count_v6=None
        if inventory.services is None
        else sum(1 for each in inventory.services if any(a.version == 6 for a in each.cluster_ips)),
        uid=inventory.uid,
    )


def _recent(moment: float | None, now: float) -> float | None:
    return moment if moment is not None and now - moment < RECENT else None


def _node(node: Node, now: float) -> Node:
    created, changed = _recent(node.created, now), _recent(node.changed, now)
    return replace(node, uid="", labels=EMPTY, created=created, changed=changed)


def _block(block: BlockAffinity, now: float) -> BlockAffinity:
    return replace(block, created=_recent(block.created, now), changed=_recent(block.changed, now))


def _namespaces(namespaces: Iterable[Namespace]) -> Iterator[Namespace]:
    """Those that say something about their pods' families."""
    for each in namespaces:
        if each.families is not None or each.address_choice:
            yield replace(each, uid="", labels=EMPTY)


def _services(services: Iterable[Service], dns: tuple[Service, ...]) -> Iterator[Service]:
    """The destinations of every node and what answers DNS; of the others those with IPv6, for what listens behind them."""
    known = {each.key for each in dns} | {"default/kubernetes"}
    left = MAX_SERVICES
    for each in services:
        labels = {key: value for key, value in each.labels.items() if key in SERVICE_LABELS}
        needed = each.key in known or labels.get("app.kubernetes.io/name") == OWN_SERVICE
        if not needed and not any(port.port == 53 for port in each.ports):
            if not left or not each.selector or not any(a.version == 6 for a in each.cluster_ips):
                continue
            left -= 1
            labels = {}
        yield replace(
            each, uid="", created=None, labels=labels or EMPTY, ingress_ips=(), ingress_hostnames=(), family_policy=""
        )


def _slices(slices: Iterable[EndpointSlice], dns: tuple[Service, ...]) -> Iterator[EndpointSlice]:
    wanted = {(each.namespace, each.name) for each in dns}
    for each in slices:
        if (each.namespace, each.service) in wanted:
            yield replace(each, managed_by="", endpoints=tuple(replace(end, node="", pod="") for end in each.endpoints))


def _calico_node(daemonset: CalicoNode | None) -> CalicoNode | None:
    if daemonset is None:
        return None
    names = frozenset(VARIABLES.values())
    env = {key: value for key, value in daemonset.env.items() if key in names}
    return replace(daemonset, env=env, env_unseen=daemonset.env_unseen & (names | {"*"}))


def _corefile(corefile: Corefile | None) -> Corefile | None:
    """Its domains; what it withholds is among the found causes."""
    return None if corefile is None else Corefile(corefile.namespace, corefile.name, corefile.cluster_domains)


def restrictions(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    """Which pods may not send everything everywhere, whatever policies say so: whole namespaces, and pods by name."""
    whole: dict[str, set[Any]] = {}
    named: dict[Any, set[str]] = {}
    for policy in policies:
        if policy.selects_all and policy.restricts_egress:
            whole.setdefault(policy.namespace, set()).update(policy.restricts_egress)
        for family in policy.restricts_egress if not policy.selects_all else ():
            named.setdefault(family, set()).update(policy.selected)
    if sum(map(len, named.values())) > MAX_RESTRICTED:
        # Too many to name: no pod of theirs is blamed on its path, which is right of those selected and harmless for the others.
        for family, keys in named.items():
            for namespace in {key.partition("/")[0] for key in keys}:
                whole.setdefault(namespace, set()).add(family)
        named = {}
    made = [
        Policy(PolicyKind.KUBERNETES, namespace, "restricted", selects_all=True, restricts_egress=frozenset(families))
        for namespace, families in sorted(whole.items())
    ]
    made += [
        Policy(PolicyKind.KUBERNETES, "", f"restricted-{family.value}", selected=frozenset(keys), restricts_egress=frozenset({family}))
        for family, keys in sorted(named.items())
    ]  # fmt: skip
    return tuple(made)


# Reading


def read_digest(body: bytes) -> Digest:
    """The digest of these bytes, of format N or N-1.

    Raises:
        DigestError: it is none.
    """
    if len(body) > MAX_BYTES:
        raise DigestError(f"larger than {MAX_BYTES} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DigestError(f"not JSON: {str(error)[:100]}") from None
    if not isinstance(document, dict) or document.get("version") not in readable():
        raise DigestError("of a format that is not known here")
    found = document.get("found")
    if not isinstance(found, list):
        raise DigestError("found is no list")
    try:
        return Digest(decode(Inventory, document.get("inventory")), tuple(_found(found)))
    except (CodecError, RecursionError) as error:
        raise DigestError(str(error)) from None


def _found(entries: list[Any]) -> Iterator[Found]:
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("subjects"), list):
            raise DigestError("a found cause is no object with subjects")
        if not isinstance(entry.get("cause"), str) or entry["cause"] not in set(Cause):
            continue  # of a newer exporter: it explains nothing here
        subjects = decode(tuple[str, ...], entry["subjects"])
        yield Found(Cause(entry["cause"]), decode(Severity, entry.get("severity")), subjects, elsewhere=True)


def unite(own: Inventory, digest: Digest | None) -> Inventory:
    """The node's own pods, Node and files, and the rest of the cluster as the digest has it."""
    if digest is None:
        # What the node does not read by itself would be in the digest.
        awaited = {k: "api_unavailable" if v == "no_inventory" else v for k, v in own.unread.items()}
        return replace(own, unread=awaited)
    told = digest.inventory
    nodes = {each.name: each for each in told.nodes or ()} | {each.name: each for each in own.nodes or ()}
    unread: Mapping[Kind, str] = {k: v for k, v in told.unread.items() if k is not Kind.PODS}
    if own.pods is None and Kind.PODS in own.unread:
        unread = {**unread, Kind.PODS: own.unread[Kind.PODS]}
    return replace(
        told,
        stale=told.stale or own.stale,
        synced=own.synced,
        pods=own.pods,
        nodes=None if told.nodes is None and own.nodes is None else tuple(nodes[name] for name in sorted(nodes)),
        cni=None if own.cni is None and told.cni is None else (*(own.cni or ()), *(told.cni or ())),
        components=own.components,
        unread=unread,
        unreadable=own.unreadable,
        unreadable_count=own.unreadable_count,
        read_at=own.read_at,
        read_seconds=own.read_seconds,
    )
