"""Whether a node masquerades what its pods send out of the cluster over IPv6, by its rules, whatever the CNI. Pure.

The rules that a first packet of a pod to a host outside gets to are walked, from every chain of type nat at hook
postrouting. A condition that is not understood may hold or not: where that matters the answer is not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from fnmatch import fnmatch
from functools import lru_cache
from ipaddress import IPv6Network

from exporter.diagnosis.engine.preconditions import has_calico_ipam
from exporter.diagnosis.engine.rule_input import network_of
from exporter.diagnosis.network import pod_network
from exporter.diagnosis.rules.cluster.pools import UNIQUE_LOCAL
from exporter.kernel.decode.rules import IPPROTO_TCP
from exporter.model.cluster.inventory import Inventory
from exporter.model.cni import PROFILES
from exporter.model.cni.network import PodNetwork
from exporter.model.cni.profile import Effect
from exporter.model.facts import HostFacts
from exporter.model.family import Address, Family, Net, contains
from exporter.model.packet_filter import (
    MARK,
    Condition,
    Fixed,
    HasMark,
    InNet,
    InSet,
    NatTable,
    OutLink,
    Rule,
)
from exporter.model.report import Snapshot

_OUTSIDE = IPv6Network("2000::/3")  # global unicast addresses, as IANA gives them out
_SPECIAL = 16  # a prefix of these at least as long is not the outside as such, but some place in it
# Marks by which kube-proxy and the plugin portmap ask to masquerade what is sent to a Service or a host port.
_UNMARKED = 0x4000 | 0x2000
_HARMLESS = frozenset({"", "LOG", "NFLOG", "CONNMARK", "TRACE", "AUDIT", "TCPMSS", "CT"})
_MOST_RULES, _MOST_CHAINS = 10_000, 16
_MOST_PODS = 16


class _End(Enum):
    """How a packet may leave a rule or chain."""

    TRANSLATED = auto()
    KEPT = auto()  # no further rule of the table sees it
    RETURNED = auto()  # to the chain that jumped here
    GOES_ON = auto()


_Ends = frozenset[_End]
_ANY: _Ends = frozenset(_End)
_ON: _Ends = frozenset({_End.GOES_ON})


@dataclass(frozen=True, slots=True, kw_only=True)
class Masquerade:
    """`holds` None: not known, and `doubts` says why. `walked`: each table and chain that packets get to."""

    holds: bool | None
    sources: tuple[Address, ...]
    walked: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def masquerade(snapshot: Snapshot) -> Masquerade | None:
    """Of the pods' unique local addresses on this node; None where it was not read, or there are none of these."""
    facts, sources = snapshot.kernel, _sources(snapshot.inventory, snapshot.node)
    network = network_of(snapshot)
    if facts.postrouting is None or not sources or has_calico_ipam(snapshot.inventory, network) is not False:
        return None
    walks = [_Walk(facts, table, source) for source in sources for table in facts.postrouting.tables]
    answers = {_answer(walk for walk in walks if walk.source == source) for source in sources}
    holds = next(iter(answers)) if len(answers) == 1 else None
    doubts = dict.fromkeys(doubt for walk in walks for doubt in walk.doubts)
    if len(answers) > 1:
        doubts["pods' addresses are treated differently"] = None
    if holds is False and facts.postrouting.unread is not None:
        holds, doubts = None, {f"not all rules could be read: {facts.postrouting.detail}": None}
    if holds is False and _masquerades_elsewhere(network, facts):
        holds, doubts = None, {"the CNI translates in eBPF or Open vSwitch, which is not read": None}
    walked = tuple(dict.fromkeys(chain for walk in walks for chain in walk.walked))
    return Masquerade(holds=holds, sources=sources, walked=walked, doubts=() if holds is not None else tuple(doubts))


def has_other_ipam(inventory: Inventory) -> bool:
    """Whether pods' addresses are known not to be from Calico's pools, which say what is translated."""
    return has_calico_ipam(inventory, pod_network(inventory)) is False


def _masquerades_elsewhere(network: PodNetwork, facts: HostFacts) -> bool:
    """Whether the CNI may translate addresses where no rule shows it. One that is not known is judged by its links."""
    if network.profile is not None:
        state = network.switch(Effect.MASQUERADE_EBPF)
        return network.profile.translates_elsewhere and not (state is not None and state.on is False)
    patterns = [link for p in PROFILES.values() if p.translates_elsewhere for link in p.links]
    return facts.links is None or any(fnmatch(link.name, pattern) for link in facts.links for pattern in patterns)


def _sources(inventory: Inventory, node: str) -> tuple[Address, ...]:
    """The first of the node's pods' unique local addresses; without such a pod one of each range of the node."""
    pods = [p for p in inventory.pods or () if p.node == node and not p.host_network and not p.deleting]
    found = [ip for pod in pods for ip in pod.ips if ip in UNIQUE_LOCAL]
    own = inventory.node(node)
    if not pods and own is not None:
        found = [
            net[2] for net in (*own.pod_cidrs, *own.subnets) if contains(UNIQUE_LOCAL, net) and net.prefixlen < 127
        ]
    return tuple(sorted(set(found), key=int)[:_MOST_PODS])


def _answer(walks: Iterable[_Walk]) -> bool | None:
    """A packet that one table keeps is still seen by the next one."""
    ends = [walk.ends for walk in walks]
    if any(each == {_End.TRANSLATED} for each in ends):
        return True
    return None if any(_End.TRANSLATED in each for each in ends) else False


class _Walk:
    """The way of one source's packets through one table."""

    def __init__(self, facts: HostFacts, table: NatTable, source: Address) -> None:
        self.source = source
        self.walked: list[str] = []
        self.doubts: list[str] = []
        self._table = table
        names = {route.link for route in facts.default_routes(Family.V6) or ()}
        self._out = [(link.name, link.index) for link in facts.links or () if link.name in names]
        self._steps = 0
        self._unmarked = _UNMARKED
        hooks = [self._ends(name, 0) for name, chain in table.chains.items() if chain.hook is not None]
        self.ends = next((each for each in hooks if each == {_End.TRANSLATED}), frozenset().union(*hooks))

    def _ends(self, name: str, depth: int) -> _Ends:
        chain = self._table.chains.get(name)
        where = f"{self._table.name} {name}"
        if chain is None or depth > _MOST_CHAINS or self._steps > _MOST_RULES:
            self.doubts.append(f"{where} was not read")
            return _ANY
        self.walked.append(where)
        found: _Ends = frozenset()
        for rule in chain.rules:
            self._steps += 1
            holds, doubts = self._holds(rule)
            if holds is False:
                continue
            here = self._effect(rule, depth)
            if holds is None and here != _ON:
                self.doubts += (f"{doubt} in {where}" for doubt in doubts)
                here |= _ON
            found |= here - _ON
            if not here & _ON:
                break
        else:
            if chain.total > len(chain.rules):
                self.doubts.append(f"not all of {where} was read")
                return _ANY
            found |= _ON
        return found - {_End.RETURNED} | (_ON if _End.RETURNED in found else frozenset())

    def _effect(self, rule: Rule, depth: int) -> _Ends:
        if rule.branches:
            branches = self._table.maps.get(rule.map)
            if branches is None:
                return _ANY
            return _ON.union(*(self._to(verdict, chain, depth) for verdict, chain in branches))
        return self._to(rule.verdict, rule.chain, depth)

    def _to(self, verdict: str, chain: str, depth: int) -> _Ends:
        match verdict:
            case "jump":
                return self._ends(chain, depth + 1)
            case "goto":
                ends = self._ends(chain, depth + 1)
                return ends - _ON | ({_End.RETURNED} if ends & _ON else frozenset())
            case "return":
                return frozenset({_End.RETURNED})
            case "accept" | "drop":
                return frozenset({_End.KEPT})
            case "MASQUERADE" | "SNAT" | "NETMAP":
                return frozenset({_End.TRANSLATED})
            case "MARK":
                self._unmarked = 0
        return _ON if verdict == MARK or verdict in _HARMLESS else _ANY

    def _holds(self, rule: Rule) -> tuple[bool | None, list[str]]:
        """Whether a rule takes the packet; None: not known, for these reasons."""
        met: list[tuple[bool | None, str]] = [(self._meets(each), _words(each)) for each in rule.conditions]
        if rule.protocol is not None:
            met.append((rule.protocol == IPPROTO_TCP, "the protocol"))
        if rule.ports is not None:
            met.append((None, "ports"))
        if rule.source is not None:
            met.append((self.source in rule.source, "the source"))
        if rule.source_set is not None:
            member = InSet(reference=rule.source_set, destination=False, inverted=rule.source_inverted)
            met.append((self._meets(member), _words(member)))
        unknown = [words for holds, words in met if holds is None]
        return (False if any(holds is False for holds, _ in met) else None if unknown else True), unknown

    def _meets(self, condition: Condition) -> bool | None:
        holds: bool | None = None
        match condition:
            case Fixed():
                return condition.holds
            case InNet(net=net, destination=destination):
                holds = _is_outside(net) if destination else self.source in net
            case InSet(reference=reference):
                holds = self._in_set(condition, self._table.sets.get(reference))
            case OutLink(link=link):
                hits = [_is_link(link, name, index) for name, index in self._out]
                holds = None if not hits or len(set(hits)) > 1 else hits[0]
            case HasMark(value=value, mask=mask):
                clear = value & mask & self._unmarked
                holds = False if clear else None if mask & ~self._unmarked else True
        return None if holds is None else holds != condition.inverted

    def _in_set(self, condition: InSet, members: tuple[Net, ...] | None) -> bool | None:
        if members is None:
            return None
        if condition.destination:
            each = {_is_outside(net) for net in members}
            holds = True if True in each else None if None in each else False
        else:
            holds = any(self.source in net for net in members)
        return holds if condition.whole or holds is False else None


def _is_outside(net: Net) -> bool | None:
    """Whether the network has the hosts outside the cluster in it; None: a great part of them."""
    if contains(net, _OUTSIDE):
        return True
    return None if contains(_OUTSIDE, net) and net.prefixlen < _SPECIAL else False


def _is_link(wanted: str | int, name: str, index: int) -> bool:
    if isinstance(wanted, int):
        return wanted == index
    return name.startswith(wanted[:-1]) if wanted.endswith("+") else name == wanted


def _words(condition: Condition) -> str:
    match condition:
        case Fixed(text=text):
            return text
        case InSet(reference=reference):
            return f"set {reference}"
        case OutLink(link=link):
            return f"out link {link}"
        case HasMark(value=value, mask=mask):
            return f"mark {value:#x}/{mask:#x}"
        case InNet(net=net):
            return f"destination {net}"
