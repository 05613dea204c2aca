"""Clusters on their way: a recorded dual-stack one without a family, and what each phase gives back to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, TypeVar

from exporter.diagnosis.endpoints import API
from exporter.model.cluster.component import ComponentFlags
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import Service
from exporter.model.family import Family, family_of, parse_net
from tests.unit.recorded import cluster

T = TypeVar("T")
Change = Callable[[Inventory], Inventory]
KUBEADM, MICROK8S = "healthy-dual-stack-kubeadm", "healthy-dual-stack"
FIRST = {Family.V4: "10.152.183.1", Family.V6: "fd98::1"}
RANGES = ("service-cluster-ip-range", "cluster-cidr")


def dual(recorded: str, primary: Family = Family.V4) -> Inventory:
    """The whole way done. `primary`: the family of the API server's own Service."""
    inventory = cluster(recorded)
    own = ip_address(FIRST[primary])
    services = tuple(
        replace(s, families=(primary,), cluster_ips=(own,)) if s.key == API else s for s in inventory.services or ()
    )
    return replace(inventory, services=services)


def single(inventory: Inventory, family: Family) -> Inventory:
    """The same cluster as if it had never had another family."""

    def of(values: Iterable[T]) -> tuple[T, ...]:
        return tuple(value for value in values if family_of(value) is family)  # type: ignore[arg-type]

    def service(each: Service) -> Service:
        families = tuple(f for f in each.families if f is family) or each.families
        return replace(
            each,
            families=families,
            family_policy="SingleStack" if each.families else "",
            cluster_ips=of(each.cluster_ips),
            ingress_ips=of(each.ingress_ips),
        )

    def node(each: Node) -> Node:
        return replace(
            each,
            internal_ips=of(each.internal_ips),
            provided_ips=(),
            pod_cidrs=of(each.pod_cidrs),
            calico_addresses=of(each.calico_addresses),
            tunnel_addresses=of(each.tunnel_addresses),
        )

    def pod(each: Pod) -> Pod:
        flags = each.component
        return replace(each, ips=of(each.ips), component=None if flags is None else component(flags))

    def component(each: ComponentFlags) -> ComponentFlags:
        return replace(each, arguments={name: argument(name, value) for name, value in each.arguments.items()})

    def argument(name: str, value: str) -> str:
        nets = [parse_net(part) for part in value.split(",")] if name in RANGES else []
        return ",".join(str(net) for net in nets if net is not None and family_of(net) is family) if nets else value

    on = family is Family.V6
    return replace(
        inventory,
        nodes=tuple(map(node, inventory.nodes or ())),
        pods=tuple(map(pod, inventory.pods or ())),
        services=tuple(map(service, inventory.services or ())),
        endpoint_slices=tuple(s for s in inventory.endpoint_slices or () if s.family is family),
        service_cidrs=tuple(replace(each, cidrs=of(each.cidrs)) for each in inventory.service_cidrs or ()),
        pools=tuple(p for p in inventory.pools or () if p.family is family),
        cni=tuple(replace(c, assign_ipv6=on, assign_ipv4=not on) for c in inventory.cni or ()),
        components=tuple(map(component, inventory.components or ())),
        cluster_pod_cidrs=of(inventory.cluster_pod_cidrs),
        cluster_service_cidrs=of(inventory.cluster_service_cidrs),
    )


def stages(done: Inventory) -> Mapping[str, Change]:
    """What each phase changes, in order, on the way to `done`; the key is the phase."""

    def nodes(*fields: str) -> Change:
        aims = {node.name: node for node in done.nodes or ()}

        def change(inventory: Inventory) -> Inventory:
            made = (_taken(node, aims[node.name], fields) for node in inventory.nodes or ())
            return replace(inventory, nodes=tuple(made))

        return change

    def components(*names: str) -> Change:
        aims = {(c.component, c.source): c for c in done.components or () if c.component in names}

        def change(inventory: Inventory) -> Inventory:
            made = (aims.get((c.component, c.source), c) for c in inventory.components or ())
            return replace(inventory, components=tuple(made))

        return change

    def services(chosen: Callable[[Service], bool], *fields: str) -> Change:
        aims = {service.key: service for service in done.services or ()}

        def change(inventory: Inventory) -> Inventory:
            every = inventory.services or ()
            made = (_taken(each, aims[each.key], fields) if chosen(each) else each for each in every)
            return replace(inventory, services=tuple(made))

        return change

    def is_dns(service: Service) -> bool:
        return service.name == "kube-dns"

    of_service = ("families", "family_policy", "cluster_ips")
    return {
        "node_addresses": nodes("internal_ips"),
        "control_plane": _all(
            _taking(done, "service_cidrs", "cluster_pod_cidrs", "cluster_service_cidrs"),
            components("kube-apiserver", "kube-controller-manager"),
            nodes("pod_cidrs"),
        ),
        "cni": _all(_taking(done, "pools", "cni"), nodes("calico_addresses", "tunnel_addresses")),
        "kube_proxy": components("kube-proxy"),
        "dns": services(is_dns, *of_service),
        "pods": _taking(done, "pods"),
        "services": _all(
            services(lambda s: not is_dns(s) and s.key != API, *of_service), _taking(done, "endpoint_slices")
        ),
        "load_balancers": services(lambda _: True, "ingress_ips"),
    }


def _taken(value: T, aim: T, fields: Iterable[str]) -> T:
    changes: dict[str, Any] = {name: getattr(aim, name) for name in fields}
    return replace(value, **changes)  # type: ignore[type-var]


def _taking(done: Inventory, *fields: str) -> Change:
    return lambda inventory: _taken(inventory, done, fields)


def _all(*changes: Change) -> Change:
    def change(inventory: Inventory) -> Inventory:
        for each in changes:
            inventory = each(inventory)
        return inventory

    return change
