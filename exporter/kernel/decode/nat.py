"""NAT outgoing in one backend: from chains and sets to NatBackend. Pure; names are of felix/rules/rule_defs.go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from exporter.kernel.decode.rules import leads_to, live_rules
from exporter.model.facts import Backend, NatBackend, SourceMatch
from exporter.model.family import Family, Net
from exporter.model.packet_filter import MASQUERADE, SNAT, Chain, Rule

NATIVE_TABLE = "calico"
NATIVE_PREFIX = "nat-"
HOOK, CALICO, OUTGOING = "POSTROUTING", "cali-POSTROUTING", "cali-nat-outgoing"

ResolveSet = Callable[[str | int], tuple[str, tuple[Net, ...] | None]]
"""Name and members of the set that a rule refers to; members None where it could not be read."""

_POSTROUTING = 4  # NF_INET_POST_ROUTING


def nat_chain_names(backend: Backend) -> tuple[str, str, str]:
    """Base chain, Calico's own chain and the chain of NAT outgoing."""
    prefix = NATIVE_PREFIX if backend is Backend.NFTABLES else ""
    return prefix + HOOK, prefix + CALICO, prefix + OUTGOING


def nat_backend(
    family: Family, backend: Backend, chains: Mapping[str, Chain], resolve: ResolveSet
) -> NatBackend | None:
    """What one backend has; None without any of Calico's NAT. `chains`: those of its nat table that exist."""
    hook, calico, outgoing = nat_chain_names(backend)
    if calico not in chains and outgoing not in chains:
        return None
    base = chains.get(hook)
    hooked = base is not None and base.hook == _POSTROUTING
    chain = chains.get(outgoing)
    taking = [r for r in live_rules(chain.rules) if r.verdict in {MASQUERADE, SNAT}] if chain else []
    return NatBackend(
        family=family,
        backend=backend,
        chain=chain is not None,
        hooked=hooked and leads_to(chains, hook, outgoing if chain else calico),
        rules=tuple(_source_match(rule, resolve) for rule in taking),
        packets=sum(r.packets for r in taking),
        bytes=sum(r.bytes for r in taking),
    )


def referred_sets(chain: Chain | None) -> tuple[str | int, ...]:
    """The sets that a chain's masquerading rules take their sources from."""
    rules = chain.rules if chain else ()
    return tuple(
        dict.fromkeys(r.source_set for r in rules if r.source_set is not None and r.verdict in {MASQUERADE, SNAT})
    )


def _source_match(rule: Rule, resolve: ResolveSet) -> SourceMatch:
    """A rule that takes all but a set's members cannot be judged by pools: its members are unknown."""
    name, members = "", None
    if rule.source_set is not None:
        name, members = resolve(rule.source_set)
        if rule.source_inverted:
            members = None
    elif rule.source is not None:
        members = (rule.source,)
    bound = rule.source_set is not None or rule.source is not None
    return SourceMatch(
        set_name=name,
        members=members,
        mark=rule.mark and not bound,
        everything=not (bound or rule.mark),
        target=rule.verdict,
        protocol=rule.protocol,
    )
