"""Ordinary life: what clusters do all day, and what they may be by choice. In none of it may a cause stand at warning
or above.

Each scenario gets a cluster of its own: `base` is what it is, applied before the first round; `steps` are what happens
to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.lab import edits, events, variants
from tests.lab.bgp import BgpLab
from tests.lab.dataplanes import EbpfLab, FlannelLab, GlobalLab, RoutedLab, ServingLab
from tests.lab.dns_faults import mode
from tests.lab.events import objects
from tests.lab.fault import Act, all_of
from tests.lab.path_faults import filtered


@dataclass(frozen=True)
class Scenario:
    """`infos` may be found, nothing else. `ipv4` and `ipv6` are the families' verdicts at the end."""

    name: str
    says: str
    steps: tuple[Act, ...] = (lambda _: None,)
    base: Act = lambda _: None
    lab: Callable[[], ServingLab] = ServingLab
    infos: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("all",)
    ipv4: bool | None = True
    ipv6: bool | None = True


LARGE_ECHO_DROPPED = filtered(
    "outside", "ip6", "input", "ip6 daddr 2001:db8:ffff::80 icmpv6 type echo-request meta length > 1000 drop"
)
SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario("quiet", "nothing happens"),
        Scenario("peer_drained", "another node is drained", events.drained(events.last)),
        Scenario("own_node_drained", "this node is drained", events.drained(events.own), ipv4=True, ipv6=True),
        Scenario(
            "rollout",
            "the exporter is rolled out: its endpoints go and come, and it starts anew",
            (
                events.serving_without(events.last),
                events.serving_without(events.own),
                lambda cluster: cluster.restart(),
                all_of(lambda cluster: cluster.heal(), lambda cluster: cluster.lab.serve_from()),
            ),
        ),
        Scenario("pod_pending", "a pod is scheduled", (events.pending,)),
        Scenario(
            "pod_starting",
            "a pod has just started and its address is tentative",
            base=all_of(
                events.of_client(lambda name: edits.metadata("Pod", name, creationTimestamp=events.moment())),
                events.of_client(lambda name: edits.status("Pod", name, startTime=events.moment())),
                events.starting,
            ),
        ),
        Scenario("odd_pods", "pods on the host's network, finished ones, sandboxes", base=events.odd_pods),
        Scenario("node_joins", "a node registers, and becomes Ready", (events.registered, events.joined)),
        Scenario(
            "node_lost",
            "a node stops, and is NotReady after a while",
            (events.dead, all_of(events.not_ready, events.serving_without(events.last))),
            infos=("target_down",),
        ),
        Scenario("foreign_nodes", "Windows and virtual nodes", base=events.foreign_nodes),
        Scenario(
            "mesh",
            "a service mesh takes over a pod's connections",
            (lambda cluster: cluster.lab.fault("pod_intercepted"),),
        ),
        Scenario(
            "denied_egress",
            "a policy denies all pods everything outwards",
            (events.policy("NetworkPolicy", "networking.k8s.io/v1", podSelector={}, policyTypes=["Egress"]),),
            ipv4=None,
            ipv6=None,
        ),
        Scenario(
            "denied_egress_by_calico",
            "a Calico policy denies all pods everything outwards",
            (
                events.policy(
                    "GlobalNetworkPolicy",
                    "crd.projectcalico.org/v1",
                    selector="all()",
                    types=["Egress"],
                    egress=[{"action": "Deny"}],
                ),
            ),
            ipv4=None,
            ipv6=None,
        ),
        Scenario(
            "denied_egress_by_cilium",
            "a Cilium policy allows pods the cluster alone",
            (
                events.policy(
                    "CiliumNetworkPolicy", "cilium.io/v2", endpointSelector={}, egress=[{"toEntities": ["cluster"]}]
                ),
            ),
            ipv4=None,
            ipv6=None,
        ),
        Scenario("node_local", "NodeLocal DNSCache", base=variants.node_local),
        Scenario("a_only_name", "a name that has A alone", base=variants.a_only_name),
        Scenario("dns64", "a dual-stack cluster behind DNS64", base=variants.dns64),
        Scenario(
            "aaaa_blocked_on_purpose",
            "the site withholds AAAA on purpose",
            base=variants.on_purpose,
            infos=("dns_aaaa_blocked", "coredns_template_blocks_aaaa", "service_aaaa_missing"),
        ),
        Scenario(
            "kube_dns_of_ipv4",
            "kube-dns is SingleStack IPv4",
            base=variants.kube_dns_of_ipv4,
            infos=("service_ipv6_missing",),
        ),
        Scenario("coredns_restarts", "the only nameserver restarts", (events.for_one_round(mode("silent")),)),
        Scenario(
            "network_blinks",
            "nothing passes for one round",
            (
                events.for_one_round(filtered("gateway", "inet", "forward", "drop")),
                events.for_one_round(filtered("node", "inet", "forward", "drop")),
            ),
        ),
        Scenario(
            "echo_dropped",
            "the outside answers no echo",
            (filtered("outside", "ip6", "input", "icmpv6 type echo-request drop"),),
        ),
        Scenario("large_echo_dropped", "one outside host drops large echoes", (LARGE_ECHO_DROPPED,)),
        Scenario(
            "pod_of_ipv4_by_annotation",
            "a pod asked Calico for IPv4 alone",
            base=all_of(
                events.of_client(
                    lambda name: edits.annotation("Pod", name, "cni.projectcalico.org/ipFamilies", '["IPv4"]')
                ),
                events.without_ipv6,
                events.ipv6_nameserver_first,
            ),
        ),
        Scenario(
            "pod_opted_out",
            "a pod opted out of IPv6",
            base=all_of(
                events.of_client(lambda name: edits.annotation("Pod", name, "dualstack-exporter/families", "IPv4")),
                events.without_ipv6,
                events.ipv6_nameserver_first,
            ),
        ),
        Scenario(
            "pod_older_than_ipv6",
            "a pod is older than the IPv6 pool",
            base=all_of(
                objects(edits.metadata("IPPool", "default-ipv6-ippool", creationTimestamp=events.moment(3600))),
                events.without_ipv6,
                events.ipv6_nameserver_first,
            ),
            infos=("pod_ipv6_missing",),
        ),
        Scenario(
            "global_addresses",
            "pods with global addresses and no NAT",
            lab=GlobalLab,
            base=objects(edits.spec("IPPool", "default-ipv6-ippool", natOutgoing=False)),
        ),
        Scenario(
            "no_encapsulation",
            "pools without encapsulation, no tunnel addresses",
            lab=RoutedLab,
            base=variants.no_encapsulation,
        ),
        Scenario(
            "cross_subnet",
            "CrossSubnet pools in one subnet",
            lab=lambda: ServingLab(cross_subnet=True),
            base=objects(*variants.modes("CrossSubnet")),
        ),
        Scenario("ebpf", "the eBPF dataplane", lab=EbpfLab),
        Scenario("ipv4_alone", "single-stack by choice", base=variants.ipv4_alone, ipv6=None),
        Scenario("ipv6_alone", "IPv6 alone, with DNS64", base=variants.ipv6_alone, ipv4=None),
        Scenario(
            "ipv6_alone_by_digest",
            "the same, the node told by the cluster role",
            base=variants.ipv6_alone,
            roles=("node", "cluster"),
            ipv4=None,
        ),
        Scenario("forwarding_forced", "each link forwards by its own switch", base=variants.forwarding_forced),
        Scenario("flannel", "flannel's VXLAN tunnels", lab=FlannelLab),
        Scenario("bgp", "routes by BGP, by the node-to-node mesh", lab=BgpLab),
        Scenario("ipv6_first", "IPv6 as the primary family", base=variants.ipv6_first),
    )
}
