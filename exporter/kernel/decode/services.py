"""Whether kube-proxy's Service rules exist, per family, without reading the big chains. Pure.

iptables and IPVS mode: KUBE-SERVICES is hooked from PREROUTING or OUTPUT of table nat, and not empty (its use count,
less the jumps to it). nftables mode: chain `services` of table kube-proxy is hooked and the map service-ips not empty.
IPVS mode: its own table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.netlink import AF_INET, AF_INET6, read_attributes, split_messages
from exporter.kernel.decode.rules import GOTO, JUMP, Chain, live_rules
from exporter.model.facts import KubeProxyFacts
from exporter.model.family import FAMILIES, Family

SERVICES = "KUBE-SERVICES"
HOOKS = ("PREROUTING", "OUTPUT")
NATIVE_TABLE = "kube-proxy"
NATIVE_SERVICES = "services"
NATIVE_HOOKS = ("nat-prerouting", "nat-output")
NATIVE_MAP = "service-ips"
IPVS_LINK = "kube-ipvs0"

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
