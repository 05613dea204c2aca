"""Walks over the rules and chains of a packet filter, whatever the backend. nft.py and legacy.py make them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from exporter.model.packet_filter import ENDING, GOTO, JUMP, MARK, REDIRECT, TPROXY, Chain, Rule

IPPROTO_TCP, IPPROTO_UDP = 6, 17
_PREROUTING, _OUTPUT = 0, 3  # linux/netfilter.h NF_INET_*
_DNS = 53
_MOST_STEPS = 10_000

Ports = tuple[tuple[int, int], ...]
Tables = Sequence[Mapping[str, Chain]]
"""Each table's chains by name: those of every backend and family together."""


def live_rules(rules: Sequence[Rule]) -> Iterator[Rule]:
    """The rules that a packet can get to: none is behind one that every packet ends at."""
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


def is_intercepted(tables: Tables) -> bool:
    """Whether a pod's own tables redirect what it sends, TCP or port 53: a service mesh.

    Sidecars and ambient meshes write REDIRECT in table nat, reached from the OUTPUT hook. TPROXY takes locally made
    packets only where OUTPUT marks them so that they come in again: so it counts together with such a mark.
    """
    if any(_redirects(rule) for table in tables for rule in _reached(table, _OUTPUT)):
        return True
    marked = any(rule.verdict == MARK for table in tables for rule in _reached(table, _OUTPUT))
    return marked and any(
        rule.verdict == TPROXY and rule.protocol in {None, IPPROTO_TCP, IPPROTO_UDP}
        for table in tables
        for rule in _reached(table, _PREROUTING)
    )


def _redirects(rule: Rule) -> bool:
    if rule.verdict != REDIRECT:
        return False
    if rule.protocol in {None, IPPROTO_TCP}:
        return True
    return rule.protocol == IPPROTO_UDP and (
        rule.ports is None or any(first <= _DNS <= last for first, last in rule.ports)
    )


def _reached(table: Mapping[str, Chain], hook: int) -> Iterator[Rule]:
    """The rules that packets of a hook can get to, each narrowed by the jumps on the way."""
    waiting: list[tuple[str, int | None, Ports | None]] = [
        (name, None, None) for name, chain in table.items() if chain.hook == hook
    ]
    seen = set(waiting)
    steps = 0
    while waiting:
        name, protocol, ports = waiting.pop()
        chain = table.get(name)
        for rule in live_rules(chain.rules) if chain else ():
            steps += 1
            if steps > _MOST_STEPS:
                return
            through = narrow(rule, protocol, ports)
            if through is None:
                continue
            yield through
            for target in _targets(table, through):
                step = (target, through.protocol, through.ports)
                if step not in seen:
                    seen.add(step)
                    waiting.append(step)


def _targets(table: Mapping[str, Chain], rule: Rule) -> Iterator[str]:
    """Where a rule leads: the chain it names; for a verdict map any chain of the table that is no base chain."""
    if rule.verdict in {JUMP, GOTO}:
        yield rule.chain
    if rule.branches:
        yield from (name for name, chain in table.items() if chain.hook is None)
