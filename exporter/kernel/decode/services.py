"""Whether kube-proxy's Service rules exist, per family, and where those of single ports lead; no big chain. Pure.

iptables and IPVS mode: KUBE-SERVICES is hooked from PREROUTING or OUTPUT of table nat, and not empty (its use count,
less the jumps to it). nftables mode: chain `services` of table kube-proxy is hooked and the map service-ips not empty.
IPVS mode: its own table. The chains of a port are known by name: iptables mode hashes the port and the endpoint
(pkg/proxy/iptables/proxier.go), nftables mode writes them out behind a hash (pkg/proxy/nftables/proxier.go).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.netlink import AF_INET, AF_INET6, read_attributes, split_messages
from exporter.kernel.decode.rules import live_rules
from exporter.model.facts import Backend, KubeProxyFacts, WatchedPort
from exporter.model.family import FAMILIES, Address, Family, parse_address
from exporter.model.packet_filter import GOTO, JUMP, Chain

SERVICES = "KUBE-SERVICES"
HOOKS = ("PREROUTING", "OUTPUT")
NATIVE_TABLE = "kube-proxy"
NATIVE_SERVICES = "services"
NATIVE_HOOKS = ("nat-prerouting", "nat-output")
NATIVE_MAP = "service-ips"
IPVS_LINK = "kube-ipvs0"
_NATIVE_ENDPOINT = re.compile(r"endpoint-[^_]{1,220}__([0-9a-f.]{2,45})/[0-9]{1,5}")

_IPVS_SERVICE = 1  # IPVS_CMD_ATTR_SERVICE
_IPVS_FAMILY = 1  # IPVS_SVC_ATTR_AF
_GENERIC = range(16, 1 << 16)  # types above those of netlink itself
_GENL_HEADER = 4


@dataclass(frozen=True, slots=True)
class ServiceRules:
    """One family's rules, by kind; each None where it could not be read. `native_table`: table kube-proxy exists."""

    iptables: bool | None = None
    native: bool | None = None
    native_table: bool = False


def iptables_services(chains: Mapping[str, Chain]) -> bool:
    """From the chains of a nat table. `total` of KUBE-SERVICES counts its rules, known without reading them."""
    services = chains.get(SERVICES)
    return services is not None and services.total > 0 and _is_hooked(chains, HOOKS, SERVICES)


def native_services(chains: Mapping[str, Chain], *, filled: bool) -> bool:
    """From the chains of table kube-proxy. `filled`: whether its map of Service addresses has elements."""
    return filled and _is_hooked(chains, NATIVE_HOOKS, NATIVE_SERVICES)


def _is_hooked(chains: Mapping[str, Chain], hooks: tuple[str, ...], wanted: str) -> bool:
    return any(
        rule.verdict in {JUMP, GOTO} and rule.chain == wanted
        for hook in hooks
        if hook in chains and chains[hook].hook is not None
        for rule in live_rules(chains[hook].rules)
    )


def count_jumps(chains: Mapping[str, Chain], wanted: str) -> int:
    """Rules of the chains read that lead to `wanted`: to be taken off its use count."""
    return sum(r.chain == wanted for chain in chains.values() for r in chain.rules if r.verdict in {JUMP, GOTO})


def _hash(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()


@lru_cache(256)
def service_chain(port: WatchedPort, backend: Backend) -> str:
    """The chain that a port's ClusterIP leads to, unless its traffic policy is Local."""
    if backend is Backend.NFTABLES:
        name = f"{port.service}/{port.protocol}/{port.name}"
        return f"service-{_hash(name)[:8]}-{name}"
    return f"KUBE-SVC-{_hash(_port_name(port))[:16]}"


def _port_name(port: WatchedPort) -> str:
    return port.service + (f":{port.name}" if port.name else "") + port.protocol


@lru_cache(256)
def _endpoint_chains(port: WatchedPort) -> Mapping[str, Address]:
    """The chains of the endpoints that its EndpointSlices have, in iptables mode."""
    ends = {a: f"[{a}]" if port.family is Family.V6 else str(a) for a, _ in port.endpoints}
    return {f"KUBE-SEP-{_hash(f'{_port_name(port)}{ends[a]}:{number}')[:16]}": a for a, number in port.endpoints}


def endpoint_of(port: WatchedPort, chain: str) -> Address | None:
    """The address that an endpoint's chain stands for, by its name; None where that does not tell."""
    native = _NATIVE_ENDPOINT.fullmatch(chain)
    if native is None:
        return _endpoint_chains(port).get(chain)
    return parse_address(native[1].replace(".", ":") if port.family is Family.V6 else native[1])


def leads(chain: Chain) -> Iterator[str]:
    """The endpoints' chains that a Service's chain names itself; what marks packets is no endpoint."""
    return (
        r.chain for r in chain.rules if r.verdict in {JUMP, GOTO} and r.chain.startswith(("KUBE-SEP-", "endpoint-"))
    )


def parse_ipvs(data: bytes) -> Mapping[Family, int]:
    """IPVS services by family (linux/ip_vs.h)."""
    found = dict.fromkeys(FAMILIES, 0)
    for _, start, end in split_messages(data, _GENERIC, _GENL_HEADER, "an IPVS"):
        service = read_attributes(data, start + _GENL_HEADER, end).nested(_IPVS_SERVICE)
        family = service.u16(_IPVS_FAMILY, "IPVS_SVC_ATTR_AF")
        if family not in {AF_INET, AF_INET6}:
            raise ParseError(f"an IPVS service of family {family}")
        found[Family.V6 if family == AF_INET6 else Family.V4] += 1
    return found


def kube_proxy_facts(
    rules: Mapping[Family, ServiceRules], ipvs: Mapping[Family, int] | None, *, ipvs_link: bool
) -> KubeProxyFacts:
    """The mode that is in use, and each family's verdict in it.

    `ipvs` None: not readable (only asked for where kube-ipvs0 exists). What the other modes left behind does not count.
    """
    if any(r.native for r in rules.values()):
        return KubeProxyFacts("nftables", {f: _native(rules.get(f)) for f in FAMILIES})
    if ipvs_link:
        return KubeProxyFacts("ipvs", {f: None if ipvs is None else ipvs.get(f, 0) > 0 for f in FAMILIES})
    services = {f: rules[f].iptables if f in rules else None for f in FAMILIES}
    if any(services.values()):
        return KubeProxyFacts("iptables", services)
    if any(r.native_table for r in rules.values()):
        return KubeProxyFacts("nftables", {f: _native(rules.get(f)) for f in FAMILIES})
    if all(s is False for s in services.values()):
        return KubeProxyFacts("none", services)
    return KubeProxyFacts("iptables", services)


def _native(rules: ServiceRules | None) -> bool | None:
    return None if rules is None else rules.native
