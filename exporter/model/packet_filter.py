"""Rules and chains of a packet filter, whatever the backend, as frozen values; kernel/decode makes them. No I/O.

Only what the facts need is kept: where a rule leads, which packets it takes, how many it took.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.model.family import Address, Net
from exporter.model.reason import Reason

JUMP, GOTO, RETURN, ACCEPT, DROP = "jump", "goto", "return", "accept", "drop"
MASQUERADE, SNAT, NETMAP, DNAT, REDIRECT, TPROXY, MARK = (
    "MASQUERADE", "SNAT", "NETMAP", "DNAT", "REDIRECT", "TPROXY", "MARK",
)  # fmt: skip
ENDING = frozenset({GOTO, RETURN, ACCEPT, DROP, MASQUERADE, SNAT, NETMAP, DNAT, REDIRECT, TPROXY})


@dataclass(frozen=True, slots=True)
class InNet:
    """The destination, or the source, is in the network."""

    net: Net
    destination: bool = True
    inverted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InSet:
    """The destination, or the source, is in the set: its name in nftables, an ipset's index in iptables."""

    reference: str | int
    destination: bool = True
    inverted: bool = False
    whole: bool = True  # nothing else of the packet has to be in it


@dataclass(frozen=True, slots=True)
class OutLink:
    """The packet leaves over this link: its index, its name, or `PREFIX+`."""

    link: str | int
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class HasMark:
    """The packet's mark, under the mask, has the value."""

    value: int
    mask: int = 0xFFFFFFFF
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class Fixed:
    """A condition that every first packet of an IPv6 connection from a pod to the outside answers alike.

    `holds` None: not known, mostly because the reader does not understand it. `text`: what it is about, for people.
    """

    holds: bool | None
    text: str


Condition = InNet | InSet | OutLink | HasMark | Fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`verdict`: one of the names above, another target's name, or "" where the rule only counts or sets something.

    It takes what meets `protocol`, `ports`, `source`, `source_set` and every one of `conditions`.
    """

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
    map: str = ""  # the map that gives the verdict, or what a packet is translated to
    to: Address | None = None  # of DNAT to one address
    conditions: tuple[Condition, ...] = ()  # marks and further conditions
    packets: int = 0
    bytes: int = 0

    @property
    def unconditional(self) -> bool:
        """Whether every packet that gets here takes the verdict."""
        bound = (self.protocol, self.ports, self.source, self.source_set)
        return not (self.mark or self.limited) and all(each is None for each in bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """`hook`: the netfilter hook (linux/netfilter.h) of a base chain. `total`: rules, also those that were not read."""

    name: str
    hook: int | None = None
    rules: tuple[Rule, ...] = ()
    total: int = 0


Branches = tuple[tuple[str, str], ...]
"""What the elements of a verdict map say: verdict, and the chain of a jump or goto."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatTable:
    """A table that translates packets as they leave the host, as far as the hook leads and it could be read.

    A chain, set or map that a rule names and that is not here was not read. Members None: of another kind.
    """

    name: str  # for people: `inet nat`, with a word for legacy iptables
    chains: Mapping[str, Chain] = field(default_factory=dict)
    sets: Mapping[str | int, tuple[Net, ...] | None] = field(default_factory=dict)
    maps: Mapping[str, Branches] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Postrouting:
    """The tables with a chain of type nat at hook postrouting that IPv6 packets pass.

    `unread`: why some of them are not here, with `detail` for people. `copied` (monotonic seconds), `named` and `heads`
    are for the reader alone, between rounds: when it asked the kernel for base chains and legacy tables, which tables
    of nftables there were then, and the answers.
    """

    copied: float
    tables: tuple[NatTable, ...] = ()
    unread: Reason | None = None
    detail: str = ""
    named: frozenset[tuple[int, str]] = frozenset()
    heads: Mapping[tuple[int, bytes, int], tuple[int, bytes, bool]] = field(default_factory=dict)
