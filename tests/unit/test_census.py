"""The census counts what people look for: by family and namespace, and who is still to be migrated."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from exporter.diagnosis.census import Census, Lacking, Progress, Resource, take_census
from exporter.model.cluster.inventory import NO_INVENTORY
from exporter.model.family import Family
from tests.unit import recorded
from tests.unit.cluster_scene import HEALTHY, NODES, V4, V6, changed, endpoints, node, pod, service


def counts(census: Census, resource: Resource, namespace: str = "") -> dict[Family, tuple[int, int]]:
    return {
        c.family: (c.having, c.lacking) for c in census.counts if (c.resource, c.namespace) == (resource, namespace)
    }


def test_without_inventory_there_is_nothing_to_count() -> None:
    assert take_census(NO_INVENTORY) == Census()


def test_a_healthy_cluster_lacks_nothing() -> None:
    census = take_census(HEALTHY)
    assert counts(census, Resource.NODES) == {V4: (3, 0), V6: (3, 0)}
    assert counts(census, Resource.SERVICES, "default") == {V4: (1, 0), V6: (1, 0)}  # the API server's own aside
    assert census.lacking == ()
    assert {p.resource: p.ratio for p in census.progress} == dict.fromkeys(Resource, 1.0)


def test_a_cluster_on_its_way_is_counted_by_namespace() -> None:
    census = take_census(recorded.cluster("services-still-single-stack"))
    assert counts(census, Resource.SERVICES) == {V4: (5, 0), V6: (0, 5)}
    assert counts(census, Resource.SERVICES, "shop") == {V4: (1, 0), V6: (0, 1)}
    assert counts(census, Resource.PODS) == {
        V4: (9, 0),
        V6: (9, 0),
    }  # three on the host's network and one ended are none
    assert Progress(Resource.SERVICES, 0, 5) in census.progress
    assert Lacking(
        resource=Resource.SERVICES, family=V6,
        names=("default/db", "default/web", "default/web-lb", "kube-system/kube-dns", "shop/cart"), total=5
    ) in census.lacking  # fmt: skip


def test_pods_that_do_not_count() -> None:
    pods = (
        pod("dual", "ra", "10.1.0.1", "fd01::1"),
        pod("six-first", "ra", "fd01::2", "10.1.0.2"),
        pod("old", "ra", "10.1.0.3"),
        pod("opted-out", "ra", "10.1.0.4", families=(V4,)),
        pod("host", "ra", "10.0.0.1", host_network=True),
        pod("done", "ra", "10.1.0.5", phase="Succeeded"),
        pod("evicted", "ra", phase="Failed"),
        pod("pending", "", phase="Pending"),
    )
    census = take_census(changed(pods=pods))
    assert counts(census, Resource.PODS) == {V4: (4, 0), V6: (2, 1)}
    assert Progress(Resource.PODS, 2, 3) in census.progress
    assert Lacking(resource=Resource.PODS, family=V6, names=("default/old",), total=1) in census.lacking


def test_slices_count_by_service_and_only_with_ready_endpoints() -> None:
    slices = (
        endpoints("web", "10.1.0.1"),
        endpoints("web", "fd01::1"),
        endpoints("old", "10.1.0.2"),
        endpoints("old"),
        endpoints("down", "10.1.0.3", ready=False),
    )
    census = take_census(changed(endpoint_slices=slices))
    assert counts(census, Resource.ENDPOINT_SLICES) == {V4: (2, 0), V6: (1, 1)}


def test_a_link_local_address_is_none_and_a_virtual_node_no_node() -> None:
    nodes = (
        replace(NODES[0], internal_ips=(ip_address("10.0.0.1"), ip_address("fe80::1"))),
        node("v", 9, virtual=True),
    )
    assert counts(take_census(changed(nodes=nodes)), Resource.NODES) == {V4: (1, 0), V6: (0, 1)}


def test_names_and_namespaces_are_bounded_and_totals_are_whole() -> None:
    services = tuple(service(f"s{n:03}", (V4,), namespace=f"ns{n % 150:03}") for n in range(450))
    census = take_census(changed(services=services, pods=(), endpoint_slices=()))
    assert counts(census, Resource.SERVICES) == {V4: (450, 0), V6: (0, 450)}
    assert len({c.namespace for c in census.counts} - {""}) == 100
    assert census.namespaces_left_out == 50
    (lacking,) = census.lacking
    assert (len(lacking.names), lacking.total) == (20, 450)
    rows = [(c.resource, c.namespace, c.family) for c in census.counts]
    assert len(rows) == len(set(rows))
