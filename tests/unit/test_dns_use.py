"""Which of several CoreDNS pods ask, by Services, pods, DaemonSets and `bind` lines; and which cache may be asked."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.parse.objects import identify, parse_object
from exporter.model.cause import Cause
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.well_known import dns_services
from exporter.model.reason import Reason
from exporter.plan.servers import known_servers
from tests.unit.cluster_scene import judge
from tests.unit.plan_scene import config

PLAIN = ".:53 {\n kubernetes cluster.local\n forward . /etc/resolv.conf\n}\n"
BLOCKING = ".:53 {\n template IN AAAA .\n forward . /etc/resolv.conf\n}\n"
LABELS = {"k8s-app": "kube-dns"}


def metadata(name: str, namespace: str = "kube-system", **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, **more}


def config_map(name: str, corefile: str, namespace: str = "kube-system") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, namespace),
        "data": {"Corefile": corefile},
    }


def service(target: int | str = 53) -> dict[str, Any]:
    spec = {"clusterIPs": ["10.96.0.10"], "selector": LABELS, "ports": [{"port": 53, "targetPort": target}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata("kube-dns", labels=LABELS), "spec": spec}


def spec(mounts: str, *args: str, host: bool = False, image: str = "coredns", port: int = 53) -> dict[str, Any]:
    ports = [{"name": "dns", "containerPort": port, "protocol": "UDP"}]
    volumes = [{"name": "config", "configMap": {"name": mounts}}]
    return {
        "hostNetwork": host,
        "containers": [{"image": image, "args": list(args), "ports": ports}],
        "volumes": volumes,
    }


def pod(name: str, shown: dict[str, Any], namespace: str = "kube-system", **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata(name, namespace, labels=labels), "spec": shown}


def cache(mounts: str, local: str, **more: Any) -> dict[str, Any]:
    return spec(mounts, "-localip", local, "-conf", "/etc/Corefile", host=True, **more)


DNS_POD = pod("dns-1", spec("mounted", "-conf", "/etc/coredns/Corefile"), **{"k8s-app": "kube-dns"})


def inventory(*sources: dict[str, Any]) -> Inventory:
    objects: dict[ResourceKind, list[Any]] = {}
    for each in sources:
        kind = identify(each)
        assert kind is not None
        objects.setdefault(kind, []).append(parse_object(kind, each))
    return build_inventory(objects, source=InventoryOrigin.FILE)


def names(found: Inventory) -> tuple[str | None, str | None]:
    return found.corefile and found.corefile.name, found.node_local and found.node_local.name  # type: ignore[return-value]


def test_the_dns_services_pods_decide_not_the_name() -> None:
    maps = config_map("coredns", BLOCKING), config_map("mounted", PLAIN), config_map("coredns", BLOCKING, "lan")
    assert names(inventory(*maps, service(), DNS_POD)) == ("mounted", None)


def test_a_coredns_beside_another_dns_server_is_not_the_clusters() -> None:
    dnsmasq = pod("dns-1", spec("kube-dns", image="dnsmasq"), **{"k8s-app": "kube-dns"})
    lan = pod("lan", spec("coredns", "-conf", "x"), "lan")
    assert names(inventory(service(), dnsmasq, lan, config_map("coredns", BLOCKING, "lan"))) == (None, None)


@pytest.mark.parametrize("target", [8053, "dns"])
def test_the_port_behind_the_service_is_the_one_that_is_asked(target: int | str) -> None:
    both = BLOCKING.replace(":53", ":8053") + PLAIN.replace(".:53", "corp.test:53")
    shown = spec("mounted", "-conf", "x", port=8053)
    found = inventory(service(target), pod("dns-1", shown, **{"k8s-app": "kube-dns"}), config_map("mounted", both))
    assert found.corefile is not None
    assert [block.all_names for block in found.corefile.blocks] == [True]


@pytest.mark.parametrize("address", ["169.254.25.10", "169.254.10.11", "fd00:53::10"])
def test_a_node_cache_under_any_name_and_address_is_read_and_may_be_asked(address: str) -> None:
    maps = config_map("mounted", PLAIN), config_map("some-cache-3f2a", BLOCKING)
    daemonset = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata("some-cache"),
        "spec": {"template": {"spec": cache("some-cache-3f2a", address)}},
    }
    assert names(inventory(service(), DNS_POD, *maps, daemonset)) == ("mounted", "some-cache-3f2a")
    found = inventory(service(), DNS_POD, *maps, pod("cache-x", cache("some-cache-3f2a", f"{address},10.96.0.10")))
    assert names(found) == ("mounted", "some-cache-3f2a")
    labels = known_servers(found, config(), None).labels
    assert labels[ip_address(address)] == "node_local"
    assert labels[ip_address("10.96.0.10")] == "cluster_dns"


def test_of_a_cache_that_no_pod_shows_the_bind_lines_tell() -> None:
    bound = config_map("dns-of-nodes", BLOCKING.replace("{", "{\n bind 169.254.25.10", 1))
    found = inventory(service(), config_map("coredns", PLAIN), bound)
    assert names(found) == ("coredns", "dns-of-nodes")
    assert known_servers(found, config(), None).labels[ip_address("169.254.25.10")] == "node_local"


def test_a_name_alone_makes_no_node_cache() -> None:
    found = inventory(service(), DNS_POD, config_map("mounted", PLAIN), config_map("node-local-dns", BLOCKING))
    assert names(found) == ("mounted", None)


def test_a_pod_elsewhere_or_without_the_hosts_network_allows_no_address() -> None:
    elsewhere = pod("x", cache("c", "192.0.2.66"), "team")
    inside = pod("y", spec("c", "-localip", "192.0.2.67"))
    labels = known_servers(inventory(service(), elsewhere, inside), config(), None).labels
    assert labels.keys().isdisjoint({ip_address("192.0.2.66"), ip_address("192.0.2.67")})


def kubelet(*addresses: str, kind: str = "KubeletConfiguration") -> dict[str, Any]:
    document = {"kind": kind, "clusterDNS": list(addresses)}
    return {**config_map("kubelet-config", ""), "data": {"kubelet": json.dumps(document)}}


def own_dns(address: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A DNS Service of an unknown name without the label, and a pod of it that mounts `own`."""
    shown = {"clusterIPs": [address], "selector": {"app": "resolver"}, "ports": [{"port": 53, "targetPort": 53}]}
    made = {"apiVersion": "v1", "kind": "Service", "metadata": metadata("resolver"), "spec": shown}
    return made, pod("resolver-1", spec("own", "-conf", "/etc/coredns/Corefile"), app="resolver")


@pytest.mark.parametrize(
    ("source", "chosen"),
    [
        (kubelet("10.96.0.99"), "own"),
        (kubelet("fd98::a", "10.96.0.99"), "own"),
        (kubelet("10.96.0.10"), "mounted"),
        (kubelet("169.254.20.10"), "mounted"),  # a node cache: no Service has it, and the name decides
        (kubelet("10.96.0.99", kind="Other"), "mounted"),
        (config_map("unrelated", PLAIN, "team"), "mounted"),
    ],
)
def test_what_kubelets_give_to_pods_is_the_clusters_dns(source: dict[str, Any], chosen: str) -> None:
    maps = config_map("mounted", PLAIN), config_map("own", BLOCKING)
    found = inventory(service(), DNS_POD, *own_dns("10.96.0.99"), *maps, source)
    assert names(found) == (chosen, None)
    wanted = "kube-system/resolver" if chosen == "own" else "kube-system/kube-dns"
    assert [each.key for each in dns_services(found)] == [wanted]


def test_a_nodes_own_flags_say_it_too() -> None:
    """k3s notes how it was started in an annotation of the node."""
    words = json.dumps(["server", "--cluster-dns", "10.96.0.99"])
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "annotations": {"k3s.io/node-args": words}}}
    maps = config_map("mounted", PLAIN), config_map("own", BLOCKING)
    assert names(inventory(service(), DNS_POD, *own_dns("10.96.0.99"), *maps, node)) == ("own", None)


@pytest.mark.parametrize(
    ("conf", "mount", "items", "key"),
    [
        ("/etc/coredns/dns.conf", {"mountPath": "/etc/coredns"}, None, "dns.conf"),
        ("/etc/coredns/dns.conf", {"mountPath": "/etc/coredns/"}, [{"key": "main", "path": "dns.conf"}], "main"),
        ("/etc/coredns/a/b", {"mountPath": "/etc/coredns"}, [{"key": "main", "path": "a/b"}], "main"),
        ("/dns.conf", {"mountPath": "/dns.conf", "subPath": "main"}, None, "main"),
        ("/etc/coredns/Corefile", {"mountPath": "/etc/coredns"}, [{"key": "main", "path": "Corefile"}], "main"),
        # What node caches have: -conf names a file that they write themselves, of the mounted one.
        ("/etc/Corefile", {"mountPath": "/etc/coredns"}, [{"key": "Corefile", "path": "Corefile.base"}], "Corefile"),
        ("/etc/coredns/dns.conf", {"mountPath": "/etc/core"}, None, "Corefile"),
    ],
)
@pytest.mark.parametrize("projected", [False, True])
def test_the_key_is_the_one_whose_file_conf_names(
    conf: str, mount: dict[str, str], items: list[dict[str, str]] | None, key: str, *, projected: bool
) -> None:
    shown = spec("mounted", f"-conf={conf}")
    shown["containers"][0]["volumeMounts"] = [{"name": "logs", "mountPath": "/var"}, {"name": "config", **mount}]
    source = {"configMap": {"name": "mounted", **({} if items is None else {"items": items})}}
    shown["volumes"] = [{"name": "config", **({"projected": {"sources": [source]}} if projected else source)}]
    other = {"dns.conf", "main", "Corefile"} - {key}
    mounted = {**config_map("mounted", ""), "data": {key: BLOCKING, **dict.fromkeys(other, PLAIN)}}
    found = inventory(service(), pod("dns-1", shown, **LABELS), config_map("coredns", PLAIN), mounted)
    assert found.corefile is not None
    assert (found.corefile.name, len(found.corefile.blocks)) == ("mounted", 1)


def test_a_corefile_under_another_key_that_nothing_mounts_is_nobodys() -> None:
    other = {**config_map("coredns", ""), "data": {"dns.conf": BLOCKING}}
    assert names(inventory(service(), other)) == (None, None)


CACHE_SET = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": metadata("cache"),
    "spec": {"template": {"spec": cache("node-cache-7k2f", "169.254.20.10")}},
}


@pytest.mark.parametrize(
    ("sources", "missing"),
    [
        ((service(), DNS_POD, config_map("mounted", PLAIN)), []),
        ((service(), DNS_POD, config_map("other", PLAIN)), ["kube-system/mounted"]),
        ((service(), DNS_POD, config_map("mounted", PLAIN), CACHE_SET), ["kube-system/node-cache-7k2f"]),
        (
            (service(), DNS_POD, config_map("mounted", PLAIN), CACHE_SET, config_map("node-cache-7k2f", PLAIN)),
            [],
        ),
        ((config_map("coredns", PLAIN), pod("x", cache("c", "169.254.20.10"), "team")), []),  # a tenant's
    ],
)
def test_a_corefile_that_was_not_read_is_told_and_leaves_the_cause_unchecked(
    sources: tuple[dict[str, Any], ...], missing: list[str]
) -> None:
    found = inventory(*sources)
    assert [each.name for each in found.unreadable] == missing
    assert found.corefiles_unread is bool(missing)
    expected: Any = Reason.NO_INVENTORY if missing else ()
    assert judge(Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, found) == expected
    if missing and found.corefile is not None:
        granted = replace(found, source=InventoryOrigin.KUBERNETES)
        assert judge(Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, granted) is Reason.NO_PERMISSION


def test_of_several_config_maps_the_one_that_must_be_there_is_told() -> None:
    shown = cache("node-cache-7k2f", "169.254.20.10")
    shown["volumes"].insert(0, {"name": "more", "configMap": {"name": "kube-dns", "optional": True}})
    found = inventory(service(), DNS_POD, config_map("mounted", PLAIN), pod("cache-x", shown))
    assert [each.name for each in found.unreadable] == ["kube-system/node-cache-7k2f"]


def test_a_corefile_that_was_read_is_judged_beside_one_that_was_not() -> None:
    found = inventory(service(), DNS_POD, config_map("mounted", BLOCKING), CACHE_SET)
    said = judge(Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, found)
    assert not isinstance(said, Reason)
    assert said[0].subjects == ("configmap/kube-system/mounted",)
