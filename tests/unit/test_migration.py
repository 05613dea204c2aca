"""The way to dual-stack: at each state of a cluster the right next step, and none that does not apply."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from exporter.cli.migration import on_nodes
from exporter.inventory.file import load_file, load_text
from exporter.inventory.parse.objects import Parsed, parse_object
from exporter.migration.advice import ADVICE
from exporter.migration.distribution import Distribution, recognise
from exporter.migration.plan import STEPS, plan
from exporter.migration.step import Migration, Phase, Step, StepState
from exporter.migration.view import MigrationView, NodeFindings
from exporter.model.cause import Cause
from exporter.model.cluster.calico import Felix, FelixConfiguration
from exporter.model.cluster.inventory import Inventory, ResourceKind, Unreadable
from exporter.model.cluster.pod import Namespace
from exporter.model.cluster.service import EntryPoint
from exporter.model.family import FAMILIES, Family, family_of
from exporter.report.document import CauseEntry, Document
from exporter.report.migration import document, markdown, text
from exporter.report.text import Style
from tests.unit.migration_scene import KUBEADM, MICROK8S, dual, single, stages
from tests.unit.recorded import cluster

V4, V6 = Family.V4, Family.V6
NETWORKS = sorted((Path(__file__).parent.parent / "data" / "networks").glob("*.yaml"))
ALONE = frozenset({V6})


def missing(migration: Migration) -> list[str]:
    return list(dict.fromkeys(step.phase.value for step in migration.steps if step.state is StepState.MISSING))


def step(migration: Migration, key: str) -> Step:
    return next(each for each in migration.steps if each.key == key)


def phases_of(recorded: str, primary: Family) -> list[tuple[str, Inventory]]:
    """The phases that a cluster lacks, and its state just before each."""
    done = dual(recorded, primary)
    state = single(done, primary)
    found = []
    for phase, change in stages(done).items():
        found.append((phase, state))
        state = change(state)
    return found


@pytest.mark.parametrize("recorded", [KUBEADM, MICROK8S])
@pytest.mark.parametrize("primary", FAMILIES)
def test_each_state_on_the_way_has_the_right_next_step_and_names_none_that_is_done(
    recorded: str, primary: Family
) -> None:
    every = phases_of(recorded, primary)
    seen = [phase for phase, _ in every if not (recorded == MICROK8S and phase == "kube_proxy")]
    for phase, state in every:
        found = plan(state)
        assert found.family is primary.other
        if phase in seen:
            assert found.next is not None
            assert found.next.phase == phase
            assert missing(found) == seen[seen.index(phase) :]
            assert found.exit_code == 1


@pytest.mark.parametrize("recorded", [KUBEADM, MICROK8S])
@pytest.mark.parametrize("primary", FAMILIES)
def test_where_the_way_is_done_nothing_is_missing(recorded: str, primary: Family) -> None:
    state = single(dual(recorded, primary), primary)
    for change in stages(dual(recorded, primary)).values():
        state = change(state)
    found = plan(state)
    assert missing(found) == []
    assert found.exit_code == 0
    assert [s.key for s in found.steps if s.state is StepState.UNSEEN and not s.judged.on_node] == []


def test_a_cluster_with_ipv6_alone_lacks_nothing_if_that_is_the_goal() -> None:
    found = plan(single(dual(KUBEADM, V6), V6), ALONE)
    assert missing(found) == []
    assert found.exit_code == 0
    assert step(found, "nat64").state is StepState.UNSEEN


@pytest.mark.parametrize("primary", FAMILIES)
def test_a_further_range_of_services_does_not_change_the_family_that_is_added(primary: Family) -> None:
    found = dual(KUBEADM, primary)
    (own,) = found.service_cidrs or ()
    assert own.name == "kubernetes"
    first, second = sorted(own.cidrs, key=lambda net: family_of(net) is not primary)
    own, further = replace(own, cidrs=(first, second)), replace(own, name="extra", cidrs=(second,))
    without_api = tuple(s for s in found.services or () if s.name != "kubernetes")
    assert plan(replace(found, services=without_api, service_cidrs=(further, own))).family is primary.other


def test_it_is_asked_whether_ipv6_alone_is_intended() -> None:
    found = plan(single(dual(KUBEADM, V6), V6))
    assert missing(found) != []
    assert any("--to=ipv6" in note for note in found.notes)


def test_towards_ipv6_alone_an_ipv4_cluster_lacks_the_same_and_is_told_what_stays() -> None:
    state = single(dual(KUBEADM), V4)
    assert missing(plan(state, ALONE)) == missing(plan(state))
    assert any("cannot be changed in place" in note for note in plan(state, ALONE).notes)


def test_the_pool_comes_before_the_switch_and_what_needs_a_pool_does_not_apply_yet() -> None:
    found = plan(cluster("single-stack-v4"))
    keys = [s.key for s in found.steps]
    assert keys.index("pools") < keys.index("cni_switch")
    for key in ("encapsulation", "calico_node_addresses", "masquerading", "endpoints"):
        assert step(found, key).state is StepState.NOT_APPLICABLE
    assert step(found, "felix").state is StepState.DONE


@pytest.mark.parametrize(
    ("scenario", "key", "named"),
    [
        ("cni-assign-ipv6-off", "cni_switch", "configmap/kube-system/calico-config"),
        ("corefile-blocks-aaaa", "dns_aaaa", "configmap/kube-system/coredns"),
        ("ippool-v6-no-nat", "masquerading", "pool/default-ipv6-ippool"),
        ("ippool-vxlan-mode-mismatch", "encapsulation", "pool/default-ipv6-ippool"),
        ("services-still-single-stack", "dns_service", "service/kube-system/kube-dns"),
    ],
)
def test_what_is_left_of_an_almost_finished_way_is_found(scenario: str, key: str, named: str) -> None:
    found = plan(cluster(scenario))
    assert found.next is not None
    assert found.next.key == key
    assert found.next.judged.objects == (named,)


def test_felix_without_ipv6_is_missing() -> None:
    off = (FelixConfiguration("default", Felix(ipv6_support=False)),)
    found = plan(replace(dual(KUBEADM), felix=off))
    assert step(found, "felix").judged.objects == ("node/cp-1", "node/worker-1", "node/worker-2")
    assert found.next is step(found, "felix")


def test_pods_are_restarted_by_owner_and_the_clusters_dns_first() -> None:
    judged = step(plan(cluster("single-stack-v4")), "pods").judged
    assert judged.objects[0] == "deployment/kube-system/coredns (2 pods)"
    assert "deployment/default/web (3 pods)" in judged.objects
    assert judged.total == len(judged.objects) == 4
    assert judged.commands[0] == "kubectl -n kube-system rollout restart deployment/coredns"


def test_pods_that_chose_one_family_or_ended_are_left_alone() -> None:
    inventory = cluster("single-stack-v4")
    pods = tuple(replace(pod, families=(V4,)) if pod.namespace == "default" else pod for pod in inventory.pods or ())
    named = step(plan(replace(inventory, pods=pods)), "pods").judged.objects
    assert not [name for name in named if "/default/" in name]
    assert not [name for name in named if name.startswith("job/")]


def test_a_pod_without_an_owner_is_deleted_by_name() -> None:
    inventory = cluster("single-stack-v4")
    pods = tuple(replace(pod, owner="") for pod in inventory.pods or () if pod.namespace == "shop")
    (command,) = step(plan(replace(inventory, pods=pods)), "pods").judged.commands
    assert command.startswith("kubectl -n shop delete pod cart-")


def test_services_that_ask_for_both_families_come_first_and_those_opted_out_stay() -> None:
    inventory = cluster("single-stack-v4")
    services = tuple(
        replace(s, family_policy="PreferDualStack") if s.name == "web" else s for s in inventory.services or ()
    )
    spaces = (Namespace(name="shop", families=(V4,)),)
    judged = step(plan(replace(inventory, services=services, namespaces=spaces)), "services").judged
    assert judged.objects[0] == "service/default/web"
    assert "service/default/kubernetes" not in judged.objects
    assert "service/shop/cart" not in judged.objects


def test_a_service_that_prefers_both_already_is_given_its_families() -> None:
    """The API server adds no family to it for a patch of the policy, which changes nothing."""
    found = plan(single(dual(KUBEADM, V6), V6))
    patch = json.loads(step(found, "dns_service").judged.commands[0].split("'")[1])
    assert patch == {"spec": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}}


def test_an_address_that_the_cni_noted_shows_that_the_node_has_one() -> None:
    inventory = cluster("single-stack-v4")
    assert step(plan(inventory), "addresses").state is StepState.UNSEEN
    aims = {node.name: node.calico_addresses for node in cluster("healthy-dual-stack").nodes or ()}
    nodes = tuple(replace(node, calico_addresses=aims[node.name]) for node in inventory.nodes or ())
    found = plan(replace(inventory, nodes=nodes))
    assert step(found, "addresses").state is StepState.DONE
    assert step(found, "internal_ips").state is StepState.MISSING


def test_a_node_ip_of_one_family_is_seen_where_the_kubelet_notes_it() -> None:
    inventory = cluster("single-stack-v4")
    first, *others = inventory.nodes or ()
    both = tuple(map(ip_address, ("10.0.10.11", "2001:db8:10::11")))
    one = replace(inventory, nodes=(replace(first, provided_ips=both[:1]), *others))
    assert step(plan(one), "node_ip").judged.objects == ("node/anubis",)
    assert step(plan(inventory), "node_ip").judged.on_node
    declared = tuple(replace(node, provided_ips=both) for node in inventory.nodes or ())
    found = plan(replace(inventory, nodes=declared))
    assert step(found, "node_ip").state is StepState.DONE
    assert step(found, "internal_ips").state is StepState.MISSING


@pytest.mark.parametrize(
    ("version", "distribution"),
    [
        ("v1.33.1+k3s1", Distribution.K3S),
        ("v1.33.1+rke2r1", Distribution.RKE2),
        ("v1.33.1-eks-3abbec1", Distribution.EKS),
    ],
)
def test_a_distribution_that_cannot_be_changed_in_place_says_so(version: str, distribution: Distribution) -> None:
    inventory = single(dual(KUBEADM), V4)
    nodes = tuple(replace(node, kubelet_version=version) for node in inventory.nodes or ())
    found = plan(replace(inventory, nodes=nodes))
    assert found.distribution is distribution
    assert version in found.known_by
    assert any(note.startswith(distribution.value) for note in found.notes)
    assert step(found, "service_range").how[0].startswith("only a new cluster")


def test_distributions_are_known_by_labels_namespaces_and_config_maps() -> None:
    assert recognise(cluster("healthy-dual-stack"))[0] is Distribution.MICROK8S
    assert recognise(cluster("healthy-dual-stack-kubeadm"))[0] is Distribution.KUBEADM
    plain = replace(cluster("healthy-dual-stack"), nodes=(), components=())
    assert recognise(plain) == (Distribution.UNKNOWN, "")


def test_commands_are_those_of_the_distribution_with_the_ranges_of_the_cluster() -> None:
    microk8s, kubeadm = plan(cluster("single-stack-v4")), plan(single(dual(KUBEADM), V4))
    lines = step(microk8s, "service_range").how
    assert "/var/snap/microk8s/current/args/kube-apiserver" in lines[0]
    assert "--service-cluster-ip-range=10.152.183.0/24,fd" in lines[0]
    assert all("microk8s kubectl" in line for line in step(microk8s, "services").how if "kubectl" in line)
    assert "/etc/kubernetes/manifests" in step(kubeadm, "service_range").how[0]
    assert "192.168.0.0/16,fd" in step(kubeadm, "control_plane_flags").how[0]


def test_suggested_ranges_are_unique_local_valid_and_stay_the_same() -> None:
    inventory = cluster("single-stack-v4")
    views = [MigrationView(inventory=inventory), MigrationView(inventory=replace(inventory, stale=True))]
    pods, services = ({view.pod_range for view in views}, {view.service_range for view in views})
    ((pod_range,), (service_range,)) = (pods, services)
    nets = [ip_network(each.split(",")[1]) for each in (pod_range, service_range)]
    assert all(family_of(net) is V6 and net.subnet_of(ip_network("fd00::/8")) for net in nets)  # type: ignore[arg-type]
    assert not nets[0].overlaps(nets[1])
    other = MigrationView(inventory=replace(inventory, uid="another cluster"))
    assert other.pod_range != pod_range


def test_a_pool_to_apply_is_like_that_of_the_other_family() -> None:
    line = step(plan(cluster("single-stack-v4")), "pools").how[0]
    pool = json.loads(line.split("'")[1])
    assert pool["spec"]["vxlanMode"] == "Always"
    assert pool["spec"]["natOutgoing"] is True
    assert ip_network(pool["spec"]["cidr"]).prefixlen <= pool["spec"]["blockSize"]


def test_a_file_without_nodes_says_so_in_one_line_and_is_not_said_to_be_done() -> None:
    found = plan(replace(dual(KUBEADM), nodes=None))
    assert step(found, "internal_ips").judged.reason == "the file has no nodes"
    assert found.exit_code == 2
    assert "cannot be seen: the file has no nodes" in text(found, Style())


def test_kinds_without_objects_are_no_reason_to_say_that_something_is_missing() -> None:
    found = plan(load_text('{"apiVersion": "v1", "kind": "NodeList", "items": []}'))
    assert missing(found) == []
    assert found.exit_code == 2
    assert step(found, "internal_ips").judged.reason == "there is no Node"


def test_several_cnis_are_one_clear_line() -> None:
    found = plan(load_file(next(path for path in NETWORKS if path.stem == "two")))
    (note,) = found.notes
    assert note.startswith("The CNI is not known: signs of cilium and flannel")
    assert "\n" not in note


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_the_switch_of_every_known_cni_is_found(path: Path) -> None:
    judged = step(plan(load_file(path)), "cni_switch")
    off = path.stem in {
        "aws-vpc-cni", "aws-vpc-cni-ipv4", "calico-assigns-ipv4-only", "canal-off", "cilium-chained", "cilium-off",
        "flannel-off", "kube-ovn-off", "kube-router-off", "ovn-kubernetes-off",
    }  # fmt: skip
    assert (judged.state is StepState.MISSING) is off


def reported(node: str, *, causes: tuple[Cause, ...] = (), unchecked: tuple[Cause, ...] = ()) -> Document:
    entries = tuple(
        CauseEntry(
            cause=cause.value, scope="node", severity=cause.spec.severity, since=0.0, subjects=(), subjects_total=0,
            explained_by=None, evidence=(), command="", runbook="",
        )
        for cause in causes
    )  # fmt: skip
    pairs = tuple((cause.value, "single_stack") for cause in unchecked)
    return Document(node=node, role="node", time=0.0, families={}, causes=entries, unchecked=pairs)


def test_what_only_nodes_show_is_taken_from_their_reports() -> None:
    off, route = Cause.NODE_FORWARDING_OFF, Cause.NODE_NO_IPV6_DEFAULT_ROUTE
    reports = [reported("a", causes=(off,)), reported("b", unchecked=(route,))]
    found = plan(dual(KUBEADM), on_nodes=on_nodes(reports, ()))
    assert step(found, "forwarding").judged.objects == ("node/a",)
    assert step(found, "stack_enabled").state is StepState.DONE
    assert step(found, "default_route").state is StepState.UNSEEN
    assert found.exit_code == 1


def test_a_node_without_a_report_leaves_open_what_only_it_shows() -> None:
    assert on_nodes([reported("a")], ("b",)) == NodeFindings()
    assert on_nodes([], ()) == NodeFindings()


def test_which_address_clients_try_first_follows_the_kind_of_addresses() -> None:
    local = step(plan(dual(KUBEADM)), "clients").judged.evidence
    assert "unique local" in local[0]
    assert "IPv4 is tried first" in local[0]
    assert "glibc tries IPv6 first, musl IPv4" in local[1]
    inventory = dual(KUBEADM)
    outside = ip_network("2001:db8:1::/48")
    pools = tuple(replace(p, cidr=outside) if p.family is V6 else p for p in inventory.pools or ())
    routed = step(plan(replace(inventory, pools=pools, cluster_pod_cidrs=())), "clients").judged.evidence
    assert "global" in routed[0]
    assert "IPv6 is tried first" in routed[0]


def test_a_load_balancer_with_a_host_name_shows_no_family() -> None:
    inventory = dual(KUBEADM)
    services = tuple(
        replace(s, ingress_ips=(), ingress_hostnames=("lb.example",)) if s.type == "LoadBalancer" else s
        for s in inventory.services or ()
    )
    judged = step(plan(replace(inventory, services=services)), "load_balancers")
    assert judged.state is StepState.UNSEEN
    assert "have a host name" in judged.judged.reason


SHOP = {"metadata": {"namespace": "shop", "name": "web"}}


def ingress(*given: dict[str, str]) -> Parsed | Unreadable | None:
    source = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "status": {"loadBalancer": {"ingress": [*given]}},
    }
    return parse_object(ResourceKind.INGRESSES, SHOP | source)


def gateway(*given: tuple[str, str]) -> Parsed | Unreadable | None:
    status = {"addresses": [{"type": kind, "value": value} for kind, value in given]}
    source = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "status": status}
    return parse_object(ResourceKind.GATEWAYS, SHOP | source)


@pytest.mark.parametrize(
    ("points", "state", "objects"),
    [
        (None, StepState.UNSEEN, ()),
        ((), StepState.NOT_APPLICABLE, ()),
        ((ingress({"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}),), StepState.DONE, ()),
        ((ingress({"ip": "192.0.2.1"}),), StepState.MISSING, ("ingress/shop/web",)),
        ((gateway(("IPAddress", "192.0.2.1")),), StepState.MISSING, ("gateway/shop/web",)),
        (
            (ingress({"ip": "2001:db8::1"}), gateway(("IPAddress", "192.0.2.1"))),
            StepState.MISSING,
            ("gateway/shop/web",),
        ),
        ((ingress({"hostname": "lb.example"}), ingress()), StepState.UNSEEN, ()),
        ((gateway(("Hostname", "gw.example"), ("IPAddress", "2001:db8::1")),), StepState.DONE, ()),
    ],
)
def test_an_ingress_or_gateway_needs_an_address_of_the_family(
    points: tuple[EntryPoint, ...] | None, state: StepState, objects: tuple[str, ...]
) -> None:
    judged = step(plan(replace(dual(KUBEADM), ingresses=points, gateways=None)), "ingress")
    assert (judged.state, judged.judged.objects) == (state, objects)
    assert judged.judged.on_node is (state is StepState.UNSEEN), "whoever cannot see them is not blind"


def test_every_step_has_advice_for_every_cluster() -> None:
    assert {row.key for row in STEPS} == set(ADVICE)
    for state in (cluster("single-stack-v4"), single(dual(KUBEADM, V6), V6), load_text("{apiVersion: v1, kind: Pod}")):
        for each in plan(state).steps:
            assert each.how
            assert not [line for line in (*each.how, each.title, each.why, each.breaks) if "%" in line]
    assert [row.phase for row in STEPS] == sorted((row.phase for row in STEPS), key=list(Phase).index)


def test_all_outputs_name_every_step_and_the_next() -> None:
    found = plan(cluster("single-stack-v4"))
    shown, ticked, whole = text(found, Style()), markdown(found), document(found)
    steps = [entry for phase in whole["phases"] for entry in phase["steps"]]
    assert [entry["step"] for entry in steps] == [s.key for s in found.steps]
    assert whole["next"] == "internal_ips"
    assert all(s.title in shown for s in found.steps)
    assert ticked.count("- [x]") + ticked.count("- [ ]") == len(found.steps)
    assert "Next: Each Node object has an IPv6 InternalIP." in shown
    assert json.loads(json.dumps(whole)) == whole


def test_names_from_outside_cannot_change_the_output() -> None:
    inventory = cluster("single-stack-v4")
    service = (inventory.services or ())[1]
    evil = replace(
        service,
        namespace="a",
        name="x\x1b[2J\n# title `code` <b>",
        families=(V4,),
        cluster_ips=(ip_address("10.0.0.9"),),
    )
    found = plan(replace(inventory, services=(*(inventory.services or ()), evil)))
    assert "\x1b" not in text(found, Style())
    assert "\n# title" not in markdown(found)
    assert "\\# title" in markdown(found)
