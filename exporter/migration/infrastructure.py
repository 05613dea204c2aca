"""The steps of nodes, control plane, pod network and cluster DNS: what of each is done, missing or not seen. Pure.

One function for each step, which plan.py names. A node of which nothing is known lacks nothing.
"""

from __future__ import annotations

from dataclasses import replace

from exporter.diagnosis.engine.preconditions import has_calico, has_calico_ipam, listed
from exporter.diagnosis.network import CALICO_IPAM
from exporter.diagnosis.ranges import API_SERVICE, service_ranges
from exporter.migration.step import Judged, StepState
from exporter.migration.view import DONE, MigrationView, missing, not_applicable, unseen
from exporter.model.cause import Cause
from exporter.model.cluster.calico import VxlanMode
from exporter.model.cluster.component import CniConfig
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cluster.service import Service
from exporter.model.cluster.well_known import DNS_NAMESPACES, dns_services
from exporter.model.cni.network import ServiceProxy
from exporter.model.cni.profile import Cni, Effect
from exporter.model.family import Family, family_of

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager")


# Nodes


def addresses(view: MigrationView) -> Judged:
    """An address of the node that the API shows: an InternalIP, or what the kubelet or the CNI noted of one."""
    if not view.nodes:
        return _no_nodes(view)
    without = [node for node in view.nodes if not _shows_address(node, view.family)]
    if not without:
        return DONE
    on_node = view.on_node(Cause.NODE_NO_IPV6_ADDRESS)
    shown = missing(node.subject for node in without)
    return (
        on_node if on_node.state is not StepState.UNSEEN else replace(on_node, objects=shown.objects, total=shown.total)
    )


def _shows_address(node: Node, family: Family) -> bool:
    noted = node.flannel.addresses if node.flannel is not None else ()
    shown = (*node.internal_ips, *node.calico_addresses, *node.provided_ips, *noted)
    return any(family_of(a) is family and not a.is_link_local for a in shown)


def internal_ips(view: MigrationView) -> Judged:
    if not view.nodes:
        return _no_nodes(view)
    without = _without_internal_ip(view)
    return missing(
        (node.subject for node in without),
        (f"{node.subject}: InternalIP [{listed(map(str, node.internal_ips))}]" for node in without),
    )


def _without_internal_ip(view: MigrationView) -> list[Node]:
    def has(node: Node) -> bool:
        return any(family_of(a) is view.family and not a.is_link_local for a in node.internal_ips)

    return [node for node in view.nodes if not has(node)]


def _no_nodes(view: MigrationView) -> Judged:
    return view.unread(ResourceKind.NODES) if view.inventory.nodes is None else unseen("there is no Node")


def stack_enabled(view: MigrationView) -> Judged:
    return view.on_node(Cause.NODE_IPV6_DISABLED)


def forwarding(view: MigrationView) -> Judged:
    return view.on_node(Cause.NODE_FORWARDING_OFF)


def default_route(view: MigrationView) -> Judged:
    return view.on_node(Cause.NODE_NO_IPV6_DEFAULT_ROUTE)


# Control plane and kubelets


def service_range(view: MigrationView) -> Judged:
    """By ServiceCIDR objects, else arguments; Services' own addresses show what is there, not what may be."""
    inventory = view.inventory
    if inventory.service_cidrs:
        ready = {family_of(net) for each in inventory.service_cidrs if each.ready for net in each.cidrs}
        lines = [f"ServiceCIDR {each.name}: {listed(map(str, each.cidrs))}" for each in inventory.service_cidrs]
        return missing([] if view.family in ready else ["servicecidr/kubernetes"], lines)
    ranges = list(service_ranges(inventory))
    if any(family_of(each.where) is view.family for each in ranges):
        return DONE
    if not ranges:
        return view.unread(ResourceKind.SERVICES if inventory.services is None else ResourceKind.SERVICE_CIDRS)
    if all(each.is_address for each in ranges):
        return replace(
            view.on_node(Cause.CONTROL_PLANE_FLAGS),
            reason="there is no ServiceCIDR object, the arguments of kube-apiserver are not visible,"
            f" and no Service has {view.family}",
        )
    return missing([API_SERVICE], (each.label for each in ranges))


def control_plane_flags(view: MigrationView) -> Judged:
    return _flags(view, *CONTROL_PLANE)


def _flags(view: MigrationView, *names: str) -> Judged:
    shown = tuple(each for each in view.inventory.components or () if each.component in names)
    if not shown:
        return view.on_node(Cause.CONTROL_PLANE_FLAGS)
    return view.by_cause(Cause.CONTROL_PLANE_FLAGS, inventory=replace(view.inventory, components=shown))


def pod_cidrs(view: MigrationView) -> Judged:
    """Where pods get their addresses from the nodes' podCIDRs."""
    if not view.nodes:
        return _no_nodes(view)
    uses = view.network.uses_pod_cidrs
    without = [n for n in view.nodes if not any(family_of(net) is view.family for net in n.pod_cidrs)]
    if not without:
        return DONE
    if uses is False or not any(node.pod_cidrs for node in view.nodes):
        return not_applicable("pods do not get their addresses from podCIDRs")
    if uses is None:
        return unseen("whether pods get their addresses from podCIDRs is not known: the CNI is not")
    return missing(
        (node.subject for node in without),
        (f"{node.subject}: spec.podCIDRs [{listed(map(str, node.pod_cidrs))}]" for node in without),
    )


def node_ip(view: MigrationView) -> Judged:
    """The kubelet's --node-ip where it is visible; what it leads to is the InternalIP."""
    if view.nodes and not _without_internal_ip(view):
        return DONE
    shown = tuple(each for each in view.inventory.components or () if each.arguments.get("node-ip"))
    if shown:
        return view.by_cause(Cause.CONTROL_PLANE_FLAGS, inventory=replace(view.inventory, components=shown))
    given = [node for node in _without_internal_ip(view) if node.provided_ips]
    if given and all(any(family_of(a) is view.family for a in node.provided_ips) for node in given):
        return DONE
    if given:
        return missing(
            (node.subject for node in given),
            (f"{node.subject}: --node-ip={','.join(map(str, node.provided_ips))}" for node in given),
        )
    return view.on_node(Cause.CONTROL_PLANE_FLAGS) if view.nodes else _no_nodes(view)


# Pod network


def cni_switch(view: MigrationView) -> Judged:
    """Whether the CNI is told to give pods the family."""
    inventory, network = view.inventory, view.network
    if has_calico_ipam(inventory, network):
        return _calico_switch(view)
    state = network.switch(Effect.IPV6 if view.family is Family.V6 else Effect.IPV4)
    if state is not None:
        return missing([] if state.on else [state.source], [state.text])
    if view.pods_have_it:
        return DONE
    if network.profile is None:
        return unseen("; ".join(network.evidence) or "the CNI is not known")
    with_subnets = [node for node in view.nodes if node.subnets]
    if with_subnets:
        without = [n for n in with_subnets if not any(family_of(net) is view.family for net in n.subnets)]
        return missing((n.subject for n in without), (f"{n.subject}: {listed(map(str, n.subnets))}" for n in without))
    if network.uses_pod_cidrs and not network.profile.switches:
        return not_applicable(f"{network.cni} follows the podCIDRs")
    return unseen(f"nothing that was read shows the switch of {network.cni}")


def _calico_switch(view: MigrationView) -> Judged:
    inventory, family = view.inventory, view.family
    configs = [c for c in inventory.cni or () if c.main_plugin == "calico" and c.ipam in ("", CALICO_IPAM)]
    if configs:
        off = [config for config in configs if not _assigns(config, family)]
        name = f"assign_{family.lower()}"
        return missing(
            (c.source for c in off), (f"{c.source}: ipam.{name} is off; {c.error}".rstrip("; ") for c in off)
        )
    if inventory.installation is not None and inventory.installation.pools:
        has = any(family_of(net) is family for net in inventory.installation.pools)
        pools = listed(map(str, inventory.installation.pools))
        return missing([] if has else ["installation/default"], [f"spec.calicoNetwork.ipPools: {pools}"])
    return DONE if view.pods_have_it else view.unread(ResourceKind.CONFIG_MAPS)


def _assigns(config: CniConfig, family: Family) -> bool:
    return not config.error and (config.assign_ipv6 if family is Family.V6 else config.assign_ipv4)


def pools(view: MigrationView) -> Judged:
    """Calico IPAM: a pool of the family for every node that assigns by itself."""
    inventory = view.inventory
    if not has_calico_ipam(inventory, view.network):
        return not_applicable("pods do not get their addresses from Calico's pools")
    if inventory.pools is None:
        return view.unread(ResourceKind.IP_POOLS)
    of_family = [pool for pool in inventory.pools if pool.family is view.family]
    usable = [pool for pool in of_family if pool.assigns_by_itself]
    if any(pool.nodes is None for pool in usable):
        return DONE
    selected = frozenset(name for pool in usable for name in pool.nodes or ())
    lines = [
        f"{p.subject}: {p.cidr}, disabled {str(p.disabled).lower()}, nodeSelector {p.node_selector}" for p in of_family
    ]
    without = [n.subject for n in view.nodes if n.name not in selected and not (n.windows and view.family is Family.V6)]
    return missing(without if view.nodes else ["ippools"], lines or [f"there is no {view.family} pool"])


def encapsulation(view: MigrationView) -> Judged:
    return _of_pools(view, Cause.IPPOOL_VXLAN_MODE_MISMATCH, ResourceKind.IP_POOLS)


def felix(view: MigrationView) -> Judged:
    return _of_calico(view) or view.by_cause(Cause.FELIX_IPV6_OFF, ResourceKind.NODES, ResourceKind.FELIX)


def calico_node_addresses(view: MigrationView) -> Judged:
    return _of_pools(view, Cause.CALICO_NODE_ADDRESS_MISSING, ResourceKind.NODES, ResourceKind.IP_POOLS)


def masquerading(view: MigrationView) -> Judged:
    """NAT for unique local addresses, which are not routed outside."""
    if has_calico_ipam(view.inventory, view.network):
        return _of_pools(view, Cause.IPPOOL_NAT_OUTGOING_OFF, ResourceKind.IP_POOLS)
    if not view.pod_ranges:
        return not_applicable("pods have no IPv6 yet")
    return view.by_cause(Cause.CNI_IPV6_MASQUERADE_OFF, ResourceKind.NODES)


def mtu(view: MigrationView) -> Judged:
    """The header of a tunnel over IPv6 is 20 bytes larger."""
    pools_v6 = view.inventory.enabled_pools(Family.V6)
    if pools_v6 and all(pool.vxlan_mode is VxlanMode.NEVER for pool in pools_v6):
        return not_applicable("the IPv6 pools have no tunnel")
    return view.on_node(Cause.POD_MTU_ABOVE_TUNNEL)


def _of_calico(view: MigrationView) -> Judged | None:
    """A step of Calico does not apply where nothing shows it."""
    shown = view.network.cni is Cni.CALICO or view.network.calico_alone_for_policy or has_calico(view.inventory)
    return None if shown else not_applicable("nothing shows Calico here")


def _of_pools(view: MigrationView, cause: Cause, *kinds: ResourceKind) -> Judged:
    """What the cause's rule says of IPv6 pools, where there are any yet."""
    absent = _of_calico(view)
    if absent is not None:
        return absent
    if view.inventory.pools is not None and not view.inventory.enabled_pools(Family.V6):
        return not_applicable("there is no IPv6 pool yet")
    return view.by_cause(cause, *kinds)


def kube_proxy(view: MigrationView) -> Judged:
    proxy = view.network.proxy
    if proxy in {ServiceProxy.CILIUM, ServiceProxy.NONE, ServiceProxy.EBPF}:
        return not_applicable(f"Services are served without kube-proxy ({proxy})")
    judged = _flags(view, "kube-proxy")
    return judged if judged.state is not StepState.UNSEEN else view.on_node(Cause.NAT_KUBE_PROXY_MISSING)


# Cluster DNS


def dns_service(view: MigrationView) -> Judged:
    if view.inventory.services is None:
        return view.unread(ResourceKind.SERVICES)
    known = dns_services(view.inventory)
    known = tuple(s for s in known if s.namespace in DNS_NAMESPACES) or known
    if not known:
        return unseen("no Service of the cluster's DNS was found")
    without = [service for service in known if view.family not in service.families]
    return missing(
        (service.subject for service in without),
        (f"{s.subject}: ipFamilies [{listed(s.families)}]" for s in without),
        commands=(both_families(service, view) for service in without),
    )


def both_families(service: Service, view: MigrationView) -> str:
    """The command; a Service that prefers both already gets nothing from a patch of its policy alone."""
    patch = f'{{"spec":{{"ipFamilyPolicy":"PreferDualStack","ipFamilies":["{view.family.other}","{view.family}"]}}}}'
    return f"kubectl -n {service.namespace} patch service {service.name} --type=merge -p '{patch}'"


def dns_aaaa(view: MigrationView) -> Judged:
    if view.inventory.corefile is None and view.inventory.node_local is None:
        return unseen("no Corefile was read")
    return view.by_cause(Cause.COREDNS_TEMPLATE_BLOCKS_AAAA)


def upstream(view: MigrationView) -> Judged:
    return view.on_node(Cause.DNS_AAAA_BLOCKED)


def nat64(view: MigrationView) -> Judged:
    """With IPv6 alone: destinations that have IPv4 only."""
    if view.inventory.corefile is not None and view.inventory.corefile.dns64:
        return DONE
    return unseen("the cluster's DNS has no dns64; whether its upstream has, only its answers show", on_node=True)
