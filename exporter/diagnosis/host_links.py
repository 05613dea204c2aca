"""Which links of the host carry the traffic of its pods: longest match over its routes, way out, tunnels. Pure.

For rules of scope node and pod. Routes are those of the main table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache
from operator import itemgetter

from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.kernel.decode.vxlan import tunnel_family
from exporter.model.cni import OWN_LINKS
from exporter.model.facts import LinkFact, RouteFact, VxlanDevice
from exporter.model.family import Address, Family


class RouteTable:
    """Longest-prefix match over a frozen set of routes of both families."""

    def __init__(self, routes: Iterable[RouteFact]) -> None:
        by_length: dict[tuple[int, int], dict[int, RouteFact]] = {}  # by the bits of the prefix, how many, and version
        for route in routes:
            prefix = route.destination
            bits = int(prefix.network_address) >> (prefix.max_prefixlen - prefix.prefixlen)
            by_length.setdefault((prefix.prefixlen, prefix.version), {})[bits] = route
        self._table = sorted(by_length.items(), key=itemgetter(0), reverse=True)

    def match(self, address: Address, *, longest: int = 128) -> RouteFact | None:
        """The route with the longest prefix, at most `longest`, that contains the address; maybe the default route."""
        number, size, version = int(address), address.max_prefixlen, address.version
        fitting = (
            route
            for (length, of), routes in self._table
            if of == version and length <= longest and (route := routes.get(number >> (size - length))) is not None
        )
        return next(fitting, None)


def described(route: RouteFact | None) -> str:
    """The route as `ip route` prints it."""
    if route is None:
        return "none"
    kind = f"{route.type} " if route.type != "unicast" else ""
    return (
        f"{kind}{route.destination}"
        + (f" via {route.gateway}" if route.gateway else "")
        + (f" dev {route.link}" if route.link else "")
    )


# An address on the loopback may be the node's own, as routing daemons announce it.
_NOT_OWN = re.compile("|".join(translate(pattern) for pattern in OWN_LINKS if pattern != "lo"))


@lru_cache(maxsize=4096)
def is_of_pod_network(link: str) -> bool:
    """Whether a link of this name belongs to a CNI, a container runtime or Kubernetes, so is none of the host's own."""
    return _NOT_OWN.match(link) is not None


@lru_cache(maxsize=1)
def route_table(view: RuleInput) -> RouteTable:
    """The host's routes, without those over the tunnel devices."""
    return RouteTable(view.snapshot.kernel.routes or ())


def own_route(view: RuleInput, address: Address) -> RouteFact | None:
    """The unicast route that leads to the address, unless that is the default route."""
    route = route_table(view).match(address)
    return route if route is not None and not route.is_default and route.type == "unicast" else None


def links_to(view: RuleInput, addresses: Iterable[Address]) -> frozenset[str]:
    """The links to which routes of their own send these addresses."""
    return frozenset(route.link for a in addresses if (route := own_route(view, a)) is not None)


@lru_cache(maxsize=2)
def own_link(view: RuleInput) -> LinkFact | None:
    """The link that has an InternalIP of the node, else that of a default route."""
    facts = view.snapshot.kernel
    node = view.inventory.node(view.node)
    internal = set(node.internal_ips) if node is not None else set()
    names = [a.link for a in facts.addresses or () if a.interface.ip in internal]
    names += [r.link for family in Family for r in facts.default_routes(family) or ()]
    return next((link for link in facts.links or () if link.name in names[:1]), None)


def ipv6_tunnels(view: RuleInput) -> tuple[VxlanDevice, ...]:
    """The tunnel devices that carry IPv6; none where they were not read."""
    facts = view.snapshot.kernel.vxlan
    devices = facts.devices.values() if facts is not None else ()
    return tuple(device for device in devices if tunnel_family(device.name) is Family.V6)


def way_out(view: RuleInput) -> frozenset[str]:
    """The links of the IPv6 default routes; without such a route the node's own link, where it is known."""
    facts = view.snapshot.kernel
    names = frozenset(route.link for route in facts.default_routes(Family.V6) or ())
    own = own_link(view)
    return names or (frozenset({own.name}) if own is not None else frozenset())
