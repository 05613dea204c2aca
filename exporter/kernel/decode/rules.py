"""One rule and one chain of a packet filter, whatever backend it stands in. nft.py and legacy.py make them, nat, services and interception read them.

Only what those need is kept: where a rule leads, which packets it takes, how many it took. Pure values and one walk
over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.model.family import Net

JUMP, GOTO, RETURN, ACCEPT, DROP = "jump", "goto", "return", "accept", "drop"
MASQUERADE, SNAT, DNAT, REDIRECT, TPROXY, MARK = "MASQUERADE", "SNAT", "DNAT", "REDIRECT", "TPROXY", "MARK"
ENDING = frozenset({GOTO, RETURN, ACCEPT, DROP, MASQUERADE, SNAT, DNAT, REDIRECT, TPROXY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`verdict` is one of the names above, another target's name, or "" where the rule only counts or sets something."""

    verdict: str = ""
    chain: str = ""  # of jump and goto
    protocol: int | None = None  # IPPROTO_* it is limited to
    ports: tuple[tuple[int, int], ...] | None = None  # destination ports it is limited to
    source: Net | None = None
    source_set: str | int | None = None  # a name in nftables, an ipset's index in iptables
    source_inverted: bool = False
    mark: bool = False  # asks for a mark
    limited: bool = False  # any further condition
    branches: bool = False  # a verdict map: may lead to chains that are not named here
    packets: int = 0
    bytes: int = 0

    @property
    def unconditional(self) -> bool:
        """Whether every packet that gets here takes the verdict."""
        bound = (self.protocol, self.ports, self.source, self.source_set)
        return not (self.mark or self.limited) and all(each is None for each in bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """`hook` is the netfilter hook (linux/netfilter.h) of a base chain, None otherwise. `total`: rules, where more exist than were read."""

    name: str
    hook: int | None = None
    rules: tuple[Rule, ...] = ()
    total: int = 0


def live_rules(rules: Sequence[Rule]) -> Iterator[Rule]:
    """The rules that a packet can get to: none stands behind one that ends every packet's way."""
    for rule in rules:
        yield rule
        if rule.verdict in ENDING and rule.unconditional:
            return


def leads_to(chains: Mapping[str, Chain], start: str, wanted: str) -> bool:
    """Whether `wanted` is reached from chain `start` through jumps and gotos of the chains that were read."""
    waiting, seen = [start], {start}
    while waiting:
        chain = chains.get(waiting.pop())
        for rule in live_rules(chain.rules) if chain else ():
            if rule.verdict not in {JUMP, GOTO} or rule.chain in seen:
                continue
            if rule.chain == wanted:
                return True
            seen.add(rule.chain)
            waiting.append(rule.chain)
    return False


def narrow(rule: Rule, protocol: int | None, ports: tuple[tuple[int, int], ...] | None) -> Rule | None:
    """The rule as seen through a jump that was itself limited; None where nothing can pass both."""
    if protocol is not None and rule.protocol not in {None, protocol}:
        return None
    return replace(rule, protocol=rule.protocol or protocol, ports=rule.ports or ports)
