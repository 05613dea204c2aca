"""The Kubernetes source against a server that speaks HTTP: what it reads, how it follows changes, what each role asks
for.
"""

from __future__ import annotations

import copy
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.inventory.file import load_text
from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.kubernetes import resource_locator
from exporter.inventory.kubernetes import watch_state as standing
from exporter.inventory.kubernetes.source import MOUNTED
from exporter.inventory.kubernetes.watch_state import api_readings
from exporter.inventory.kubernetes.watched_resources import watched_resources
from exporter.model.cause import Role
from exporter.model.cluster.calico import IPAMConfig
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.reason import Reason
from tests.unit import recorded
from tests.unit.test_dns_use import BLOCKING, PLAIN, cache, config_map, pod
from tests.wire.kubernetes_api import KubernetesApi, serving
from tests.wire.kubernetes_lab import following, ipam_config, recorded_api, until


async def test_it_reads_what_a_file_of_the_same_objects_holds(tmp_path: Path) -> None:
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port) as source:
        found = source.current()
    assert found.synced is not None
    assert not found.stale
    assert {n.name for n in found.nodes or ()} == {"anubis", "babel", "ra"}
    assert len(found.pods or ()) == len(recorded.listed("pods"))
    assert len(found.services or ()) == len(recorded.listed("services"))
    assert len(found.endpoint_slices or ()) == len(recorded.listed("endpointslices"))
    assert {p.name for p in found.pools or ()} == {item["metadata"]["name"] for item in recorded.listed("ippools")}
    assert found.corefile is not None
    assert found.cni
    assert found.calico_node is not None
    assert found.ipam_config == IPAMConfig(strict_affinity=True, max_blocks=4)
    assert found.uid == next(
        item["metadata"]["uid"] for item in recorded.listed("namespaces") if item["metadata"]["name"] == "kube-system"
    )
    assert found.unread == {ResourceKind.INSTALLATION: Reason.NOT_APPLICABLE}
    assert found.read_at.keys() == found.read_seconds.keys() == set(ResourceKind) - {ResourceKind.INSTALLATION}
    assert {r.reader for r in api_readings(found) if r.success} == {f"api_{k}" for k in ResourceKind} - {
        "api_installations"
    }
    assert not any(r.success for r in api_readings(replace(found, stale=True)))


async def test_lists_come_in_pages_and_every_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.inventory.kubernetes.watch.PAGE", 2)
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port) as source:
        found = source.current()
    assert len(found.pods or ()) == len(recorded.listed("pods"))
    pages = [a for a in api.requests if a.path == "/api/v1/pods" and not a.watch]
    assert len(pages) == (len(recorded.listed("pods")) + 1) // 2
    assert all("resourceVersion" not in a.query for a in pages)  # or limit would be ignored
    assert {a.query["limit"] for a in pages} == {"2"}


async def test_changes_arrive_through_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "OUTAGE", 1e6)  # however long this machine takes, nothing is listed anew
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port) as source:
        asked = len([a for a in api.requests if not a.watch])
        pod = copy.deepcopy(recorded.listed("pods")[0])
        pod["metadata"] |= {"name": "new-one", "uid": "u"}
        api.put("v1", "pods", pod)
        await until(lambda: any(p.name == "new-one" for p in source.current().pods or ()))
        pod["status"]["podIPs"] = [{"ip": "2001:db8::99"}]
        api.put("v1", "pods", pod)
        await until(lambda: any(str(a) == "2001:db8::99" for p in source.current().pods or () for a in p.ips))
        api.delete("v1", "pods", f"{pod['metadata']['namespace']}/new-one")
        await until(lambda: all(p.name != "new-one" for p in source.current().pods or ()))
        assert len([a for a in api.requests if not a.watch]) == asked


async def test_what_is_not_in_the_inventory_yet_is_later_than_its_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Building takes seconds in a big cluster; meanwhile the kernel may already show a change that was read."""
    api, began, go_on = recorded_api(), threading.Event(), threading.Event()

    def build(*objects: Any, **more: Any) -> Inventory:
        began.set()
        assert go_on.wait(20)
        return build_inventory(*objects, **more)

    async with serving(api) as port, following(tmp_path, port) as source:
        monkeypatch.setattr("exporter.inventory.kubernetes.source.build_inventory", build)
        pod = copy.deepcopy(recorded.listed("pods")[0])
        pod["metadata"] |= {"name": "new-one", "uid": "u"}
        changed = time.time()
        api.put("v1", "pods", pod)
        await until(began.is_set)
        shown = source.current()
        assert shown.current_at is not None
        assert shown.current_at < changed
        go_on.set()
        await until(lambda: any(p.name == "new-one" for p in source.current().pods or ()))
        await until(lambda: (source.current().current_at or 0.0) >= changed)


async def test_an_object_that_only_leaves_the_selection_is_gone_without_having_been_deleted(tmp_path: Path) -> None:
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port, watched_resources(Role.NODE, "ra")) as source:
        mine = source.current().local_pods("ra")
        assert mine
        assert source.current().pods == mine
        key = mine[0].key
        api.collections["v1", "pods"].events.append(
            (api.version, "DELETED", replace(api.collections["v1", "pods"].objects[key], version=api.version))
        )
        api.version += 1
        moved = replace(api.collections["v1", "pods"].objects[key], version=api.version)
        api._happened(api.collections["v1", "pods"], "DELETED", moved)
        await until(lambda: all(p.key != key for p in source.current().pods or ()))


async def test_bookmarks_of_empty_objects_move_the_version_and_nothing_else(tmp_path: Path) -> None:
    api = recorded_api(bookmark_every=0.02, progress=True)
    async with serving(api) as port, following(tmp_path, port) as source:
        before = source.current()
        api.version += 50
        seen = before.read_at[ResourceKind.PODS]
        await until(lambda: source.current().read_at[ResourceKind.PODS] > seen)
        after = source.current()
        assert after.unreadable == before.unreadable == ()
        assert after.pods == before.pods
        api.cut_streams()
        await until(lambda: any(a.watch and int(a.query["resourceVersion"]) >= api.version for a in api.requests))


async def test_a_node_reads_its_own_pods_and_the_endpoints_that_every_node_needs(tmp_path: Path) -> None:
    api = recorded_api()
    for name in ("kubernetes", "dualstack-exporter", "web"):
        metadata = {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": name}}
        api.put("discovery.k8s.io/v1", "endpointslices", {"metadata": metadata, "addressType": "IPv4"})
    async with serving(api) as port, following(tmp_path, port, watched_resources(Role.NODE, "ra")) as source:
        found = source.current()
    assert {p.node for p in found.pods or ()} == {"ra"}
    assert len(found.nodes or ()) == 3
    assert {e.service for e in found.endpoint_slices or ()} == {"kube-dns", "kubernetes", "dualstack-exporter"}
    assert found.ipam_blocks is None
    assert found.corefile is None
    own = [a for a in api.requests if a.path == "/api/v1/pods"]
    assert {a.query["fieldSelector"] for a in own} == {"spec.nodeName=ra"}
    assert next(a for a in own if not a.watch).query["resourceVersion"] == "0"  # the cache's index, not a scan of etcd
    assert all("PartialObjectMetadata" in a.accept for a in api.requests if a.path == "/api/v1/namespaces")


async def test_with_a_digest_a_node_reads_its_pods_and_its_node_and_nothing_else(tmp_path: Path) -> None:
    api = recorded_api()
    async with (
        serving(api) as port,
        following(tmp_path, port, watched_resources(Role.NODE, "ra", digest=True)) as source,
    ):
        found = source.current()
    assert [n.name for n in found.nodes or ()] == ["ra"]
    assert {p.node for p in found.pods or ()} == {"ra"}
    assert {a.path for a in api.requests} == {"/api/v1/pods", "/api/v1/nodes"}


def mounts(api: KubernetesApi, name: str) -> None:
    """A node cache whose pod mounts the ConfigMap of this name."""
    api.put("v1", "pods", pod("cache", cache(name, "169.254.25.10")))


async def test_a_config_map_that_a_node_cache_mounts_is_read_whatever_its_name(tmp_path: Path) -> None:
    api = recorded_api()
    mounts(api, "cache-7k2f")
    for name, corefile in (("cache-7k2f", PLAIN), ("cache-9b5d", BLOCKING)):
        api.put("v1", "configmaps", config_map(name, corefile))
    async with serving(api) as port, following(tmp_path, port, corefiles=True) as source:
        found = source.current()  # it is ready only now
        assert found.node_local is not None
        assert (found.node_local.name, found.node_local.blocks, found.corefiles_unread) == ("cache-7k2f", (), False)
        watching = api.watching
        mounts(api, "cache-9b5d")  # as a rollout does
        await until(lambda: (read := source.current().node_local) is not None and bool(read.blocks))
        await until(lambda: api.watching == watching, "the ConfigMap that nothing mounts is left")
    asked = {a.query.get("fieldSelector") for a in api.requests if a.path.endswith("/kube-system/configmaps")}
    assert asked >= {"metadata.name=cache-7k2f", "metadata.name=cache-9b5d"}


async def test_a_mounted_config_map_that_is_refused_is_told_and_fails_no_reader(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = recorded_api()
    mounts(api, "cache-7k2f")
    api.allowed = lambda *right: "cache-7k2f" not in right
    async with serving(api) as port, following(tmp_path, port, corefiles=True) as source:
        found = source.current()
    assert [each.name for each in found.unreadable] == ["kube-system/cache-7k2f"]
    assert "deploy/components/dns-configmaps" in found.unreadable[0].problem
    assert found.corefiles_unread
    assert found.unread.keys() == {ResourceKind.INSTALLATION}  # which is not served here
    assert all(reading.success for reading in api_readings(found))
    assert "no permission" not in caplog.text


async def test_a_tenants_pods_choose_no_config_maps_to_read(tmp_path: Path) -> None:
    api = recorded_api()
    for number in range(20):
        api.put("v1", "pods", pod(f"cache-{number}", cache(f"secret-{number}", "169.254.25.10"), "team"))
        api.put("v1", "pods", pod(f"own-{number}", cache(f"cache-{number:02}", "169.254.25.10")))
    async with serving(api) as port, following(tmp_path, port, corefiles=True):
        asked = {a.query.get("fieldSelector", "") for a in api.requests if a.path.endswith("/configmaps")}
    assert not [selector for selector in asked if "secret-" in selector]
    assert len([selector for selector in asked if "cache-" in selector]) == MOUNTED


async def test_a_heartbeat_changes_nothing_and_a_real_change_is_dated(tmp_path: Path) -> None:
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port) as source:
        assert all(n.changed is None for n in source.current().nodes or ())
        built = source.current().nodes
        node = copy.deepcopy(next(n for n in recorded.listed("nodes") if n["metadata"]["name"] == "ra"))
        for condition in node["status"]["conditions"]:
            condition["lastHeartbeatTime"] = "2026-11-20T12:00:00Z"
        seen = source.current().read_at[ResourceKind.NODES]
        api.put("v1", "nodes", node)
        await until(lambda: source.current().read_at[ResourceKind.NODES] > seen)
        assert source.current().nodes is built
        node["metadata"]["annotations"]["projectcalico.org/IPv6VXLANTunnelAddr"] = "2001:db8:1::1"
        api.put("v1", "nodes", node)
        await until(lambda: source.current().nodes is not built)
        changed = {n.name: n.changed for n in source.current().nodes or ()}
        assert changed["ra"] is not None
        assert changed["anubis"] is None


@pytest.mark.parametrize("aggregated", [True, False])
async def test_the_calico_group_that_holds_the_pools_is_read(tmp_path: Path, aggregated: bool) -> None:
    api = recorded_api()
    api.aggregated = aggregated
    for resource, kind in (
        ("ippools", "IPPool"),
        ("felixconfigurations", "FelixConfiguration"),
        ("networkpolicies", "NetworkPolicy"),
    ):
        api.add_kind("projectcalico.org/v3", resource, kind)
    pool = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": {"name": "native"},
        "spec": {"cidr": "fd00:1::/48"},
    }
    api.put("projectcalico.org/v3", "ippools", pool)
    for key in list(api.collections["crd.projectcalico.org/v1", "ippools"].objects):
        api.delete("crd.projectcalico.org/v1", "ippools", key)
    async with serving(api) as port, following(tmp_path, port) as source:
        found = source.current()
        assert [p.name for p in found.pools or ()] == ["native"]
        # Served by the old group alone.
        assert any(a.path == "/apis/crd.projectcalico.org/v1/blockaffinities" for a in api.requests)
        assert found.block_affinities


async def test_the_ipam_configuration_has_another_name_in_the_other_group(tmp_path: Path) -> None:
    api = recorded_api()
    del api.collections["crd.projectcalico.org/v1", "ipamconfigs"]
    api.put("projectcalico.org/v3", "ipamconfigurations", ipam_config("IPAMConfiguration"))
    async with serving(api) as port, following(tmp_path, port) as source:
        assert source.current().ipam_config == IPAMConfig(strict_affinity=True, max_blocks=4)


async def test_without_an_object_of_it_calicos_defaults_hold(tmp_path: Path) -> None:
    api = recorded_api()
    del api.collections["crd.projectcalico.org/v1", "ipamconfigs"]
    api.add_kind("crd.projectcalico.org/v1", "ipamconfigs")
    async with serving(api) as port, following(tmp_path, port) as source:
        assert source.current().ipam_config == IPAMConfig()


async def test_a_cluster_without_calico_has_nothing_to_apply_calico_s_causes_to(tmp_path: Path) -> None:
    api = KubernetesApi()
    for place, resource in (("v1", "nodes"), ("v1", "pods"), ("v1", "services"), ("v1", "namespaces"),
        ("v1", "configmaps"),
                            ("apps/v1", "daemonsets"), ("networking.k8s.io/v1", "networkpolicies"),
                            ("discovery.k8s.io/v1", "endpointslices")):  # fmt: skip
        api.add_kind(place, resource)
    async with serving(api) as port, following(tmp_path, port) as source:
        found = source.current()
    absent = {
        ResourceKind.IP_POOLS,
        ResourceKind.FELIX,
        ResourceKind.BLOCK_AFFINITIES,
        ResourceKind.IPAM_BLOCKS,
        ResourceKind.IPAM_CONFIG,
        ResourceKind.BGP_CONFIGURATIONS,
        ResourceKind.BGP_PEERS,
        ResourceKind.INSTALLATION,
        ResourceKind.SERVICE_CIDRS,
        ResourceKind.INGRESSES,
        ResourceKind.GATEWAYS,
    }
    assert {kind for kind, reason in found.unread.items() if reason == Reason.NOT_APPLICABLE} == absent
    assert found.pools is None
    assert (found.nodes, found.pods, found.policies) == ((), (), ())
    assert not any("calico" in a.path for a in api.requests)


async def test_calico_installed_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.inventory.kubernetes.resource_locator.DISCOVER_EVERY", 0.05)
    api = recorded_api()
    later = {key: api.collections.pop(key) for key in list(api.collections) if "calico" in key[0]}
    async with serving(api) as port, following(tmp_path, port) as source:
        assert source.current().pools is None
        api.collections |= later
        await until(lambda: source.current().pools and ResourceKind.IP_POOLS not in source.current().unread)


async def test_what_is_installed_is_found_within_a_minute_by_questions_that_cost_a_304(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resource_locator.DISCOVER_EVERY * resource_locator.JITTER < 55  # five seconds for its first list
    monkeypatch.setattr(resource_locator, "DISCOVER_EVERY", 0.05)
    api = recorded_api()
    pools = api.collections.pop(("crd.projectcalico.org/v1", "ippools"))  # of a group that is served
    async with serving(api) as port, following(tmp_path, port) as source:
        found = source.current()
        assert found.unread[ResourceKind.IP_POOLS] == Reason.NOT_APPLICABLE
        assert not [each for each in api_readings(found) if "ippools" in each.reader], (
            "no reader, and so none that fails"
        )
        await until(lambda: api.unchanged > 2)
        api.collections["crd.projectcalico.org/v1", "ippools"] = pools
        await until(lambda: source.current().pools)
        assert [each.success for each in api_readings(source.current()) if "ippools" in each.reader] == [True]


async def test_the_recorded_cluster_files_read_the_same_through_the_api(tmp_path: Path) -> None:
    """One parser for all sources: the same objects from a file and from the API make the same inventory."""
    text = (recorded.DATA / "cluster-healthy-dual-stack.yaml").read_text()
    expected = load_text(text)
    api = await _api_of(text)
    async with serving(api) as port, following(tmp_path, port) as source:
        found = source.current()
    for name in ("nodes", "pods", "services", "endpoint_slices", "service_cidrs", "policies", "pools",
        "block_affinities", "felix",
                 "corefile", "cni", "components", "cluster_pod_cidrs", "cluster_service_cidrs"):  # fmt: skip
        assert getattr(found, name) == getattr(expected, name), name


async def _api_of(text: str) -> KubernetesApi:
    from exporter.inventory.document import read_documents  # noqa: PLC0415 - this test alone reads YAML
    from tests.wire.kubernetes_lab import KINDS, LISTS  # noqa: PLC0415

    api = KubernetesApi()
    by_kind = {KINDS.get(r, r.removesuffix("s").title()): (p, r) for p, r in LISTS} | {
        "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies")
    }
    for place, resource in LISTS:
        api.add_kind(place, resource, KINDS.get(resource, ""))
    for document in read_documents(text):
        for item in document["items"]:
            api.put(*by_kind[item["kind"]], item)
    return api
