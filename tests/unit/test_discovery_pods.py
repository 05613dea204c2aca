"""Namespaces tied to pods: by cgroup in every measured form, by address, and without an inventory; and the pods'
states.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.broker.protocol.messages import FoundNamespace, NamedNamespace, Process
from exporter.model.cluster.inventory import NO_INVENTORY, Inventory, InventoryOrigin
from exporter.model.cluster.pod import Namespace, Pod
from exporter.model.family import FAMILIES, Family
from exporter.model.vantage import Netns, PodState, Vantage
from exporter.vantage.pod_namespaces import (
    Listing,
    container_id,
    departures,
    locate,
    pod_uid,
    processes_of,
    processes_of_pods,
    unmatched,
)
from tests.unit.plan_scene import cluster, config

UID = "0d5b9e3a-1f2c-4d6e-8a7b-9c0d1e2f3a4b"
UNDERSCORED = UID.replace("-", "_")
STATIC = "0123456789abcdef0123456789abcdef"
CONTAINER = "f" * 63 + "0"
HOME = (4, 1)
NOW = 10_000.0


@pytest.mark.parametrize(
    ("cgroup", "uid"),
    [
        (f"/kubepods/burstable/pod{UID}/{CONTAINER}", UID),
        (f"/kubepods/pod{UID}/{CONTAINER}", UID),  # guaranteed: no QoS level
        (f"/kubepods/besteffort/pod{UID}", UID),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{CONTAINER}.scope",
            UID,
        ),
        (f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-{CONTAINER}.scope", UID),
        (f"/../../pod{UID}/{CONTAINER}", UID),  # seen from a private cgroup namespace
        (f"/../../../kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{CONTAINER}.scope", UID),
        (f"/kubepods/burstable/pod{STATIC}/{CONTAINER}", STATIC),
        (f"/kubelet/kubepods/burstable/pod{UID}/{CONTAINER}", UID),  # a cluster inside a container
        (
            f"/kubepods/pod11111111-1f2c-4d6e-8a7b-9c0d1e2f3a4b/x/kubepods/pod{UID}/{CONTAINER}",
            UID,
        ),  # the last one counts
        (
            f"/system.slice/containerd.service/kubepods-burstable-pod{UNDERSCORED}.slice:cri-containerd:{CONTAINER}",
            None,
        ),
        (f"/kubepods/burstable/notapod{UID}/{CONTAINER}", None),
        (f"/kubepods/burstable/pod{UID}x/{CONTAINER}", None),
        (f"/kubepods/burstable/pod{UID[:-1]}", None),
        ("/user.slice/user-0.slice/session-1.scope", None),
        ("/", None),
        ("", None),
    ],
)
def test_the_last_pod_component_of_a_cgroup_names_the_pod(cgroup: str, uid: str | None) -> None:
    assert pod_uid(cgroup) == uid


@pytest.mark.parametrize(
    ("cgroup", "found"),
    [
        (f"/docker/{CONTAINER}", True),
        (f"/system.slice/docker-{CONTAINER}.scope", True),
        (f"/machine.slice/libpod-{CONTAINER}.scope/container", True),  # podman with crun
        (f"/libpod_parent/libpod-{CONTAINER}", True),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{CONTAINER}.scope", True),
        (f"/kubepods/pod{UID}/{CONTAINER}", True),
        (f"/system.slice/containerd.service/kubepods-pod.slice:cri-containerd:{CONTAINER}", True),
        ("/system.slice/ssh.service", False),
        (f"/docker/{CONTAINER}0", False),
        (f"/docker/x{CONTAINER}", False),
    ],
)
def test_a_container_is_known_by_its_64_hex_digits(cgroup: str, found: bool) -> None:
    assert container_id(cgroup) == (CONTAINER if found else None)


@given(st.text(), st.text())
def test_no_cgroup_raises(text: str, other: str) -> None:
    for cgroup in (text, f"{text}/pod{UID}/{other}", f"/{text}{CONTAINER}{other}"):
        assert pod_uid(cgroup) in {None, UID}
        assert container_id(cgroup) in {None, CONTAINER} or CONTAINER in cgroup


def found(inode: int, *cgroups: str, started: int = 100) -> FoundNamespace:
    return FoundNamespace(
        4, inode, tuple(Process(inode * 10 + n, started + n, c.encode()) for n, c in enumerate(cgroups))
    )


def named(inode: int, name: str) -> NamedNamespace:
    return NamedNamespace(name, 4, inode)


def a_pod(name: str, uid: str = "", **more: Any) -> Pod:
    values: dict[str, Any] = {"phase": "Running", "started": 0.0, "node": "ra", **more}
    return Pod(
        namespace="default",
        name=name,
        uid=uid or f"{abs(hash(name)) % 10**8:08d}-0000-4000-8000-000000000000",
        **values,
    )


def cgroup_of(pod: Pod, container: str = CONTAINER) -> str:
    return f"/kubepods/burstable/pod{pod.uid}/{container}"


def located(listing: Listing, *pods: Pod, text: str = "", inventory: Inventory | None = None) -> dict[str, Vantage]:
    made = locate(listing, inventory or cluster(pods=pods), config(text), NOW)
    return {v.name: v for v in made}


WEB, DB = a_pod("web"), a_pod("db")


def test_a_pod_is_tied_by_the_cgroup_of_any_process_in_its_namespace() -> None:
    listing = Listing(found=(found(7, "/odd", cgroup_of(WEB)),), named=(), home=HOME)
    web = located(listing, WEB)["web"]
    assert (web.state, web.key, web.subject) == (PodState.ELIGIBLE, WEB.uid, "pod/default/web")
    assert web.netns is not None
    assert (web.netns.key, web.netns.pid) == ((4, 7), 70)


def test_a_static_pod_is_tied_by_its_32_digits() -> None:
    static = a_pod("etcd-ra", static_uid=STATIC)
    assert (
        located(Listing(found=(found(7, f"/kubepods/pod{STATIC}/x"),), named=(), home=HOME), static)["etcd-ra"].netns
        is not None
    )


def test_a_namespace_that_a_pod_makes_inside_is_not_taken_for_the_pods_own() -> None:
    """Docker in a pod: both are in the pod's cgroup, and the sandbox was there first."""
    own, nested = found(7, cgroup_of(WEB), started=100), found(8, cgroup_of(WEB, "e" * 64), started=900)
    for order in ((own, nested), (nested, own)):
        vantages = located(Listing(found=order, named=(), home=HOME), WEB)
        assert vantages["web"].netns is not None
        assert vantages["web"].netns.key == (4, 7)
        assert vantages["8"].state is PodState.UNKNOWN


def test_a_namespace_without_a_pods_cgroup_is_tied_by_any_of_its_addresses() -> None:
    web = replace(WEB, ips=(ip_address("10.1.0.7"), ip_address("fd00::7")))
    listing = Listing(found=(), named=(named(7, "cni-1"), named(8, "cni-2")), home=HOME)
    assert {place.inode for place in unmatched(listing, cluster(pods=(web,)), "ra")} == {7, 8}
    addresses = {(4, 7): (ip_address("fd00::7"),), (4, 8): (ip_address("fd00::8"),)}
    vantages = located(replace(listing, addresses=addresses), web)
    assert vantages["web"].netns is not None
    assert vantages["web"].netns.path == "/run/netns/cni-1"
    assert vantages["8"].state is PodState.UNKNOWN


def test_addresses_are_asked_only_of_what_no_cgroup_tells() -> None:
    listing = Listing(found=(found(7, cgroup_of(WEB)),), named=(named(7, "cni-1"), named(9, "cni-9")), home=HOME)
    assert {place.inode for place in unmatched(listing, cluster(pods=(WEB,)), "ra")} == {9}
    assert unmatched(listing, Inventory(source=InventoryOrigin.NONE), "ra") == ()


def test_an_address_that_a_finished_pod_still_names_belongs_to_the_living() -> None:
    job = a_pod("job", phase="Succeeded", ips=(ip_address("10.1.0.7"),))
    going = a_pod("going", deleting=True, ips=(ip_address("10.1.0.7"),))
    web = replace(WEB, ips=(ip_address("10.1.0.7"),))
    for pods in ((job, going, web), (web, going, job)):
        vantages = located(Listing(found=(), named=(named(7, "cni-1"),), home=HOME, addresses={(4, 7): web.ips}), *pods)
        assert vantages["web"].netns is not None
        assert vantages["job"].netns is vantages["going"].netns is None


def test_a_pod_of_another_node_is_nobody_here() -> None:
    elsewhere = replace(WEB, node="rb")
    vantages = located(Listing(found=(found(7, cgroup_of(WEB)),), named=(), home=HOME), elsewhere)
    assert {name: v.state for name, v in vantages.items()} == {"7": PodState.UNKNOWN}


def test_the_hosts_own_namespace_is_no_pods_whatever_lives_there() -> None:
    listing = Listing(
        found=(FoundNamespace(*HOME, (Process(5, 5, cgroup_of(WEB).encode()),)),), named=(named(1, "self"),), home=HOME
    )
    assert located(listing, WEB)["web"].netns is None
    assert locate(listing, Inventory(source=InventoryOrigin.NONE), config(), NOW) == ()


@pytest.mark.parametrize(
    ("pod", "text", "state"),
    [
        (a_pod("p", host_network=True, deleting=True), "", PodState.HOST_NETWORK),
        (a_pod("p", deleting=True, started=NOW), "", PodState.TERMINATING),
        (a_pod("p", phase="Succeeded", started=NOW), "", PodState.NOT_RUNNING),
        (a_pod("p", phase="Failed"), "", PodState.NOT_RUNNING),
        (a_pod("p", phase="Pending", started=NOW - 10), "", PodState.STARTING),
        (a_pod("p", phase="Pending"), "", PodState.NOT_RUNNING),
        (a_pod("p", started=NOW - 59), "", PodState.STARTING),
        (a_pod("p", started=NOW - 60), "", PodState.ELIGIBLE),
        (a_pod("p", started=NOW - 10), "pods: {grace: 5s}", PodState.ELIGIBLE),
        (a_pod("p", started=None, created=NOW - 5), "", PodState.STARTING),
        (a_pod("p", runtime_class="gvisor"), "", PodState.SANDBOXED),
        (a_pod("p", runtime_class="runc"), "pods: {runtime_classes: [runc]}", PodState.ELIGIBLE),
        (a_pod("p"), "pods: {namespaces: {exclude: [def*]}}", PodState.OPTED_OUT),
        (a_pod("p"), "pods: {namespaces: {include: [other]}}", PodState.OPTED_OUT),
        (a_pod("p"), "pods: {namespaces: {include: [default], exclude: [default]}}", PodState.OPTED_OUT),
        (a_pod("p", labels={"app": "web"}), "pods: {selector: 'app!=web'}", PodState.OPTED_OUT),
        (a_pod("p", labels={"app": "web"}), "pods: {selector: app=web}", PodState.ELIGIBLE),
    ],
)
def test_each_state(pod: Pod, text: str, state: PodState) -> None:
    assert located(Listing(found=(found(7, cgroup_of(pod)),), named=(), home=HOME), pod, text=text)["p"].state is state


def test_a_running_pod_whose_namespace_cannot_be_found_is_unreadable() -> None:
    assert located(Listing(found=(), named=(), home=HOME), WEB)["web"].state is PodState.UNREADABLE


def test_the_annotation_of_pod_or_namespace_opts_out_of_the_other_family() -> None:
    four = (Family.V4,)
    spaces = (Namespace(name="default", families=four),)
    listing = Listing(found=(), named=(), home=HOME)
    own = replace(WEB, families=(Family.V6,))
    assert located(listing, inventory=cluster(pods=(WEB, DB), namespaces=spaces))["web"].families == four
    assert located(listing, inventory=cluster(pods=(own,), namespaces=spaces))["web"].families == (Family.V6,)
    assert located(listing, WEB)["web"].families == FAMILIES


def test_without_an_inventory_named_namespaces_and_those_of_containers_count_as_pods() -> None:
    listing = Listing(
        found=(found(7, "/system.slice/x.service", f"/docker/{CONTAINER}"), found(9, "/user.slice/shell")),
        named=(named(7, "netns-of-docker"), named(8, "blue"), named(9, "green")),
        home=HOME,
    )
    made = locate(listing, Inventory(source=InventoryOrigin.NONE), config("netns: {include: [blue]}"), NOW)
    assert [(v.subject, v.state, v.netns.pid if v.netns else None) for v in made] == [
        (f"pod/container/{CONTAINER[:12]}", PodState.ELIGIBLE, 71),
        ("pod/netns/blue", PodState.ELIGIBLE, 0),
    ]


def test_namespaces_of_containers_can_be_left_out_whatever_name_a_runtime_gives_them() -> None:
    listing = Listing(
        found=(found(7, f"/machine.slice/libpod-{CONTAINER}.scope"), found(9, "/user.slice/shell")),
        named=(named(7, "netns-of-podman"), named(8, "blue")),
        home=HOME,
    )
    none = Inventory(source=InventoryOrigin.NONE)
    made = locate(listing, none, config("netns: {containers: false}"), NOW)
    assert [v.subject for v in made] == ["pod/netns/blue"]
    assert len(locate(listing, none, config("netns: {containers: true}"), NOW)) == 2


def test_with_an_inventory_named_namespaces_are_no_vantages() -> None:
    vantages = located(Listing(found=(), named=(named(8, "blue"),), home=HOME), WEB)
    assert {v.state for name, v in vantages.items() if name != "web"} == {PodState.UNKNOWN}


def test_every_namespace_is_one_vantage_at_most() -> None:
    listing = Listing(found=(found(7, cgroup_of(WEB), cgroup_of(DB)),), named=(named(7, "a"), named(7, "b")), home=HOME)
    for made in (
        locate(listing, cluster(pods=(WEB, DB)), config(), NOW),
        locate(listing, Inventory(source=InventoryOrigin.NONE), config(), NOW),
    ):
        keys = [v.netns.key for v in made if v.netns is not None]
        assert len(keys) == len(set(keys))


def test_what_ended_between_two_inventories_is_told_with_its_new_state() -> None:
    pods = (WEB, DB, a_pod("job"), a_pod("stays"))
    after = (replace(WEB, deleting=True), replace(pods[2], phase="Succeeded"), pods[3])
    assert departures(cluster(pods=pods), cluster(pods=after), "ra") == {
        WEB.uid: PodState.TERMINATING,
        DB.uid: None,
        pods[2].uid: PodState.NOT_RUNNING,
    }
    reborn = replace(WEB, uid="another")
    assert departures(cluster(pods=(WEB,)), cluster(pods=(reborn,)), "ra") == {WEB.uid: None}
    assert departures(Inventory(source=InventoryOrigin.NONE), cluster(pods=()), "ra") == {}
    assert departures(cluster(pods=pods), cluster(pods=None), "ra") == {}


def test_the_processes_whose_roots_are_the_pods_are_those_of_its_cgroup_the_oldest_first() -> None:
    other = UID.replace("0", "1")
    sandbox, first, second = (
        Process(pid, started, f"/kubepods/pod{UID}/{CONTAINER[:-1]}{pid}".encode())
        for pid, started in ((7, 10), (5, 20), (6, 15))
    )
    visitor = Process(4, 30, f"/kubepods/pod{other}/{CONTAINER}".encode())
    tool = Process(3, 5, b"/user.slice")
    found = FoundNamespace(4, 9, (first, visitor, second, sandbox, tool))
    assert processes_of(found) == (sandbox, second, first)
    agent = Process(2, 1, f"/kubepods/pod{other}/{CONTAINER}".encode())  # older than the pod that it visits
    found = FoundNamespace(4, 9, (first, agent, second, sandbox))
    assert processes_of(found, {UID}) == (sandbox, second, first)
    assert processes_of(found, {STATIC}) == (agent,)


def test_a_static_pods_processes_bear_its_other_name() -> None:
    static = Pod(namespace="team", name="web", uid=UID, node="here", static_uid=STATIC)
    sandbox, container = (Process(pid, pid, f"/kubepods/pod{STATIC}/{CONTAINER[:-1]}{pid}".encode()) for pid in (5, 6))
    agent = Process(2, 1, f"/kubepods/pod{UID.replace('0', '1')}/{CONTAINER}".encode())
    listing = Listing(found=(FoundNamespace(4, 9, (agent, sandbox, container)),), named=(), home=HOME)
    vantage = Vantage(
        kind="pod", namespace="team", name="web", netns=Netns(device=4, inode=9, pid=5, started=5), uid=UID
    )
    inventory = replace(NO_INVENTORY, pods=(static,))
    named = Vantage(kind="pod", namespace="netns", name="x", netns=Netns(device=4, inode=10, path="/run/netns/x"))
    lost = Vantage(kind="pod", namespace="team", name="lost", netns=None)
    found = processes_of_pods(listing, (vantage, named, lost), inventory, static.node)
    assert found == {(4, 9): (sandbox, container)}


def test_without_a_pod_the_processes_of_containers_count_and_without_those_the_first() -> None:
    inside = Process(5, 20, f"/machine.slice/libpod-{CONTAINER}.scope".encode())
    tool, another = Process(3, 5, b"/user.slice"), Process(4, 2, b"/system.slice")
    assert processes_of(FoundNamespace(4, 9, (tool, inside))) == (inside,)
    assert processes_of(FoundNamespace(4, 9, (tool, another))) == (tool,)
    assert processes_of(FoundNamespace(4, 9, ())) == ()
