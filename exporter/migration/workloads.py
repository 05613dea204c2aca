"""The steps of what runs in the cluster: pods, Services, load balancers, policies, applications, clients. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address

from exporter.diagnosis.census import ENDED
from exporter.diagnosis.endpoints import API
from exporter.diagnosis.engine.preconditions import counted, listed
from exporter.diagnosis.ranges import service_ranges
from exporter.diagnosis.rules.cluster.pools import UNIQUE_LOCAL
from exporter.diagnosis.rules.cluster.services import EXTERNAL_NAME, PREFERS
from exporter.migration.infrastructure import both_families
from exporter.migration.step import Judged, StepState
from exporter.migration.view import MigrationView, missing, not_applicable, unseen
from exporter.model.cause import Cause
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.policy import Gap
from exporter.model.cluster.service import Service
from exporter.model.cluster.well_known import SYSTEM, dns_services
from exporter.model.family import Family, contains, family_of
from exporter.model.grouping import grouped

COMMANDS = 5
RESTARTED = ("deployment", "statefulset", "daemonset")  # by `kubectl rollout restart`


def pods(view: MigrationView) -> Judged:
    """Pods without the family, by what has to be restarted: the cluster's DNS first, pods without an owner last."""
    if view.inventory.pods is None:
        return view.unread(ResourceKind.PODS)
    without = list(_pods_without(view))
    by_owner = grouped(without, lambda pod: (pod.namespace, pod.owner))
    owners = sorted(
        by_owner, key=lambda owner: (by_owner[owner][0].dns is None, not owner[1], owner[0] != SYSTEM, owner)
    )
    return missing(
        (_shown(pod_owner, by_owner[pod_owner]) for pod_owner in owners),
        [f"{counted(len(without), 'pod')} without {view.family}"] if without else [],
        commands=(_restart(owner, by_owner[owner]) for owner in owners[:COMMANDS]),
    )


def _pods_without(view: MigrationView) -> Iterator[Pod]:
    """Of the pod network, running, and not meant to have one family only."""
    chosen = {space.name for space in view.inventory.namespaces or () if space.address_choice}
    for pod in view.inventory.pods or ():
        left_out = pod.host_network or pod.deleting or not pod.ips or pod.phase in ENDED
        by_choice = pod.address_choice or pod.namespace in chosen or view.opted_out(pod.namespace)
        by_choice |= pod.disables_ipv6 and view.family is Family.V6
        by_choice |= bool(pod.families) and view.family not in (pod.families or ())
        if not left_out and not by_choice and not any(family_of(address) is view.family for address in pod.ips):
            yield pod


def _shown(owner: tuple[str, str], of: list[Pod]) -> str:
    namespace, named = owner
    kind, _, name = named.partition("/")
    return (
        f"{kind}/{namespace}/{name} ({counted(len(of), 'pod')})" if named else f"pods of {namespace} without an owner"
    )


def _restart(owner: tuple[str, str], of: list[Pod]) -> str:
    namespace, named = owner
    if named.partition("/")[0] in RESTARTED:
        return f"kubectl -n {namespace} rollout restart {named}"
    return f"kubectl -n {namespace} delete pod {' '.join(pod.name for pod in of[:COMMANDS])}"


def services(view: MigrationView) -> Judged:
    """Services without the family; those that stay as they are do not count."""
    if view.inventory.services is None:
        return view.unread(ResourceKind.SERVICES)
    dns = {service.key for service in dns_services(view.inventory)}
    without = [s for s in view.inventory.services if s.key not in dns and _is_single(s, view)]
    without.sort(key=lambda s: (s.family_policy != PREFERS, s.key))
    return missing(
        (s.subject for s in without),
        (
            f"{s.subject}: ipFamilyPolicy {s.family_policy or 'absent'}, ipFamilies [{listed(s.families)}]"
            for s in without
        ),
        commands=(both_families(service, view) for service in without[:COMMANDS]),
    )


def _is_single(service: Service, view: MigrationView) -> bool:
    """The API server's own cannot be changed; the families of a headless one without selector are a default."""
    stays = service.type == EXTERNAL_NAME or service.key == API or view.opted_out(service.namespace)
    headless = not service.cluster_ips and not service.selector
    return bool(service.families) and view.family not in service.families and not stays and not headless


def endpoints(view: MigrationView) -> Judged:
    kinds = (ResourceKind.SERVICES, ResourceKind.ENDPOINT_SLICES, ResourceKind.PODS)
    if not any(view.family in service.families for service in view.inventory.services or ()):
        judged = view.by_cause(Cause.ENDPOINTSLICE_IPV6_MISSING, *kinds)
        return not_applicable("no Service has IPv6 yet") if judged.state is StepState.DONE else judged
    return view.by_cause(Cause.ENDPOINTSLICE_IPV6_MISSING, *kinds)


def load_balancers(view: MigrationView) -> Judged:
    """Addresses of Services of type LoadBalancer; a host name shows no family."""
    if view.inventory.services is None:
        return view.unread(ResourceKind.SERVICES)
    balancers = [s for s in view.inventory.services if s.type == "LoadBalancer" and not view.opted_out(s.namespace)]
    if not balancers:
        return not_applicable("there is no Service of type LoadBalancer")
    without = [s for s in balancers if s.ingress_ips and not any(family_of(a) is view.family for a in s.ingress_ips)]
    named = [s for s in balancers if not s.ingress_ips]
    if not without and named:
        shown = "have a host name" if any(s.ingress_hostnames for s in named) else "have no address yet"
        return unseen(f"{listed((s.subject for s in named), 3)} {shown}")
    return missing(
        (s.subject for s in without),
        (f"{s.subject}: ipFamilies [{listed(s.families)}], [{listed(map(str, s.ingress_ips))}]" for s in without),
    )


def ingress(view: MigrationView) -> Judged:
    """Addresses that controllers wrote into Ingresses and Gateways; the DNS records of their names are not seen."""
    read = [each for each in (view.inventory.ingresses, view.inventory.gateways) if each is not None]
    if not read:
        return unseen("Ingress and Gateway objects were not read", on_node=True)
    points = [point for each in read for point in each if not view.opted_out(point.namespace)]
    if not points:
        return not_applicable("there is neither an Ingress nor a Gateway")
    without = [p for p in points if p.addresses and not any(family_of(a) is view.family for a in p.addresses)]
    if not without and (hidden := [p.key for p in points if not p.addresses]):
        return unseen(f"{listed(hidden, 3)} have a host name or no address yet", on_node=True)
    return missing([point.key for point in without], (f"{p.key}: [{listed(map(str, p.addresses))}]" for p in without))


def network_policies(view: MigrationView) -> Judged:
    """Those that leave the family out; a rule that refuses it as a whole is somebody's choice."""
    policies = view.inventory.policies
    if policies is None:
        return view.unread(ResourceKind.POLICIES)
    if not policies:
        return not_applicable("there is no network policy")
    gaps = [
        replace(policy, gaps=kept)
        for policy in policies
        if (kept := tuple(gap for gap in policy.gaps if gap[1] is view.family and gap[2] is not Gap.REFUSED))
    ]
    return view.by_cause(Cause.NETWORK_POLICY_IPV6_GAP, inventory=replace(view.inventory, policies=tuple(gaps)))


def applications(view: MigrationView) -> Judged:
    return view.on_node(Cause.POD_LISTENS_IPV4_ONLY)


def clients(view: MigrationView) -> Judged:
    """Which address of a name that has both is tried first (RFC 6724); glibc ranks unique local ones above IPv4."""
    ranges = view.pod_ranges
    if not ranges:
        return unseen("the range of the pods' IPv6 addresses is not known yet", on_node=True)
    local = contains(UNIQUE_LOCAL, ranges[0])
    kind, first = ("unique local (fc00::/7)", "IPv4") if local else ("global", "IPv6")
    services = next((each for each in service_ranges(view.inventory) if each.version == 6), None)
    local_services = services is not None and IPv6Address(services.first) in UNIQUE_LOCAL
    lines = [f"pods have {kind} IPv6 addresses ({ranges[0]}): of outside names that have both, {first} is tried first"]
    if local_services and local:
        lines.append("Services have unique local IPv6 addresses: glibc tries IPv6 first, musl IPv4")
    elif local_services:
        lines.append("Services have unique local IPv6 addresses, unlike pods: IPv4 is tried first")
    shown = view.on_node(Cause.IPV6_UNREACHABLE)
    return replace(shown, evidence=tuple(lines)) if shown.state is StepState.UNSEEN else shown
