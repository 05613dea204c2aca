"""What clusters may be by choice, as acts on the lab before its first round: their DNS, their families, their
encapsulation.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

from tests.kernel import namespaces
from tests.lab import edits
from tests.lab.cluster import Cluster
from tests.lab.dns_faults import TEMPLATE_LINES
from tests.lab.objects import Object
from tests.lab.settings import Settings

NODE_LOCAL = "169.254.20.10"


def node_local(cluster: Cluster) -> None:
    """NodeLocal DNSCache: a nameserver on the node at a link-local address, and every pod's resolv.conf names it."""
    namespaces.batch({cluster.node.netns: [f"address add {NODE_LOCAL}/32 dev lo"]})
    cluster.answer_dns(cluster.node.netns, NODE_LOCAL)
    for pod in cluster.node.pods:
        cluster.pod_roots[pod.netns].resolv_conf(
            f"nameserver {NODE_LOCAL}\nsearch default.svc.cluster.local\noptions ndots:5\n"
        )


def a_only_name(cluster: Cluster) -> None:
    """A control name that has A alone, as github.com has, and a target of that name."""
    cluster.records(lambda known: known.update({"a-only.test": {"A": ["198.51.100.80"], "AAAA": []}}))

    def edit(settings: Settings) -> None:
        settings["dns"]["names"].append({"name": "a-only.test", "expect": ["A"]})
        settings["targets"].append({"name": "a-only", "host": "a-only.test", "port": 443, "layers": ["tcp"]})

    cluster.configure(edit)


def dns64(cluster: Cluster) -> None:
    cluster.records(lambda known: known.update({"a-only.test": {"A": ["198.51.100.80"], "AAAA": []}}))
    cluster.configure(lambda settings: settings["dns"]["names"].append({"name": "a-only.test", "expect": ["A"]}))
    cluster.dns("dns64")


def on_purpose(cluster: Cluster) -> None:
    def edit(settings: Settings) -> None:
        settings["dns"]["aaaa"] = "blocked"

    cluster.configure(edit)
    cluster.change(edits.corefile(TEMPLATE_LINES["noerror"]))
    cluster.dns("noerror")


def kube_dns_of_ipv4(cluster: Cluster) -> None:
    resolver = cluster.resolver
    cluster.change(
        edits.spec(
            "Service", "kube-dns", clusterIPs=[resolver.address4], ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack"
        ),
        edits.without("EndpointSlice", "kube-dns-ipv6"),
    )
    for root in cluster.pod_roots.values():
        root.resolv_conf(f"nameserver {resolver.address4}\nsearch default.svc.cluster.local\noptions ndots:5\n")


def modes(vxlan: str) -> tuple[edits.Edit, ...]:
    return tuple(edits.spec("IPPool", f"default-{family}-ippool", vxlanMode=vxlan) for family in ("ipv4", "ipv6"))


def no_encapsulation(cluster: Cluster) -> None:
    annotations = [f"projectcalico.org/IPv{family}VXLANTunnelAddr" for family in (4, 6)]
    cluster.change(
        *modes("Never"),
        *(edits.annotation("Node", node.name, key, None) for node in cluster.lab.nodes for key in annotations),
    )


def _of_one_family(family: str) -> edits.Edit:
    """Take the other family out of every object."""
    other = "IPv6" if family == "IPv4" else "IPv4"

    def ours(text: object) -> bool:
        return isinstance(text, str) and (":" in text) == (family == "IPv6")

    def edit(found: list[Object]) -> None:
        found[:] = [o for o in found if o.get("addressType") != other and ours_alone(o)]
        for each in found:
            _reduce(each, family, ours)

    def ours_alone(each: Object) -> bool:
        return each["kind"] not in {"IPPool", "BlockAffinity", "IPAMBlock"} or ours(each["spec"]["cidr"])

    return edit


def _reduce(each: Object, family: str, ours: Callable[[object], bool]) -> None:
    spec, status, kind = each.get("spec", {}), each.get("status", {}), each["kind"]
    match kind:
        case "Node":
            status["addresses"] = [a for a in status["addresses"] if ours(a["address"])]
            spec["podCIDRs"] = [c for c in spec["podCIDRs"] if ours(c)]
            spec["podCIDR"] = spec["podCIDRs"][0]
            notes = each["metadata"]["annotations"]
            each["metadata"]["annotations"] = {k: v for k, v in notes.items() if ours(v)}
        case "Pod":
            status["podIPs"] = [ip for ip in status["podIPs"] if ours(ip["ip"])]
            status["podIP"] = status["podIPs"][0]["ip"]
            each["metadata"]["annotations"].pop("cni.projectcalico.org/podIPs", None)
            for container in spec["containers"]:
                container["command"] = [_argument(text, ours) for text in container.get("command", [])]
        case "Service":
            spec["clusterIPs"] = [ip for ip in spec["clusterIPs"] if ours(ip)]
            spec |= {"clusterIP": spec["clusterIPs"][0], "ipFamilies": [family], "ipFamilyPolicy": "SingleStack"}
        case "ServiceCIDR":
            spec["cidrs"] = [c for c in spec["cidrs"] if ours(c)]
        case "FelixConfiguration":
            spec["ipv6Support"] = family == "IPv6"
        case "NetworkPolicy":
            spec["ingress"] = [{"from": [b for b in spec["ingress"][0]["from"] if ours(b["ipBlock"]["cidr"])]}]
        case _:
            pass


def _argument(text: str, ours: Callable[[object], bool]) -> str:
    name, equals, value = text.partition("=")
    return name + equals + ",".join(v for v in value.split(",") if ours(v) or "/" not in v)


def ipv4_alone(cluster: Cluster) -> None:
    """A cluster without IPv6: no pod has an address, Felix and kube-proxy wrote nothing, CNI assigns none."""
    cluster.change(_of_one_family("IPv4"), edits.cni(assign_ipv6=None))
    for node in cluster.lab.nodes:
        cluster.lab.fault("vxlan_deleted", node)
        cluster.lab.fault("services_removed", node)
        namespaces.batch({p.netns: [f"address delete {p.address6}/128 dev eth0"] for p in node.pods})
    for root in cluster.pod_roots.values():
        root.resolv_conf(f"nameserver {cluster.resolver.address4}\nsearch default.svc.cluster.local\noptions ndots:5\n")


def _with_calicos_own_ipv4(edit: edits.Edit) -> edits.Edit:
    """Leave what Calico makes of its own accord where nobody wants IPv4: its default pool, and a tunnel address of it
    for each node.
    """
    note = "projectcalico.org/IPv4VXLANTunnelAddr"

    def kept(found: list[Object]) -> None:
        own = [
            deepcopy(each)
            for each in found
            if each["kind"] in {"IPPool", "BlockAffinity", "IPAMBlock"} and ":" not in each["spec"]["cidr"]
        ]
        tunnels = {each["metadata"]["name"]: each["metadata"]["annotations"][note] for each in nodes(found)}
        edit(found)
        for each in own:
            if each["kind"] == "IPAMBlock":
                node = each["spec"]["affinity"].removeprefix("host:")
                holder = {"node": node, "type": "vxlanTunnelAddress"}
                attributes = [{"handle_id": f"vxlan-tunnel-addr-{node}", "secondary": holder}]
                each["spec"] |= {"allocations": [0] + [None] * 63, "attributes": attributes}
        found += own
        for each in nodes(found):
            each["metadata"]["annotations"][note] = tunnels[each["metadata"]["name"]]

    def nodes(found: list[Object]) -> list[Object]:
        return [each for each in found if each["kind"] == "Node"]

    return kept


def ipv6_alone(cluster: Cluster) -> None:
    """A cluster without IPv4, but for what Calico makes itself, and DNS64 in front of the rest of the world."""
    cluster.change(_with_calicos_own_ipv4(_of_one_family("IPv6")), edits.cni(assign_ipv4="false", assign_ipv6="true"))
    cluster.dns("dns64")
    for node in cluster.lab.nodes:
        for netns in (node.netns, *(pod.netns for pod in node.pods)):
            namespaces.run("ip", "-n", netns, "-4", "address", "flush", "dev", "eth0")
    for root in cluster.pod_roots.values():
        root.resolv_conf(f"nameserver {cluster.resolver.address6}\nsearch default.svc.cluster.local\noptions ndots:5\n")


def forwarding_forced(cluster: Cluster) -> None:
    """A node that forwards by the switch of each link (Linux 6.17), not by the one of all; older kernels: as usual."""
    netns = cluster.node.netns
    switches = "/proc/sys/net/ipv6/conf"
    if "force_forwarding" in namespaces.run_inside(netns, "ls", f"{switches}/eth0"):
        links = set(namespaces.run_inside(netns, "ls", switches).split()) - {"all", "default"}
        forced: dict[str, object] = {f"net/ipv6/conf/{link}/force_forwarding": 1 for link in links}
        namespaces.configure({netns: {"net/ipv6/conf/all/forwarding": 0, **forced}})


def ipv6_first(cluster: Cluster) -> None:
    """The same cluster with IPv6 as its primary family."""

    def edit(found: list[Object]) -> None:
        for each in found:
            spec, status = each.get("spec", {}), each.get("status", {})
            for holder, key in (
                (spec, "podCIDRs"),
                (spec, "clusterIPs"),
                (spec, "ipFamilies"),
                (status, "podIPs"),
                (status, "addresses"),
                (spec, "cidrs"),
            ):
                if key in holder:
                    holder[key] = holder[key][::-1]
            for holder, one, many in ((spec, "podCIDR", "podCIDRs"), (spec, "clusterIP", "clusterIPs")):
                if one in holder:
                    holder[one] = holder[many][0]
            if status.get("podIPs"):
                status["podIP"] = status["podIPs"][0]["ip"]

    cluster.change(edit)
    for root in cluster.pod_roots.values():
        root.resolv_conf(
            f"nameserver {cluster.resolver.address6}\nnameserver {cluster.resolver.address4}\nsearch "
            f"default.svc.cluster.local\noptions ndots:5\n"
        )
