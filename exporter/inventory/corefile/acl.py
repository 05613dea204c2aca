"""One policy of a directive `acl` (plugin/acl): whose queries of which types it decides. Pure; for aaaa.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.model.cluster.corefile import AaaaTreatment
from exporter.model.family import Family, family_of, parse_net

ACL_ACTIONS = {"block": AaaaTreatment.REFUSED, "filter": AaaaTreatment.FILTERED, "drop": AaaaTreatment.DROPPED}


@dataclass(frozen=True, slots=True, kw_only=True)
class AclPolicy:
    """The first policy whose type and source fit decides; `allow` ends acl for the zone."""

    action: str
    types: frozenset[str]  # none: all
    families: frozenset[Family]  # whose clients it all takes

    def takes(self, qtype: str) -> bool:
        return not self.types or bool(self.types & {qtype, "*"})


def acl_policy(line: tuple[str, ...]) -> AclPolicy:
    """One line: an action, then `type` and `net` with their values; without `net` it is for every client."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for word in line[1:]:
        if word.lower() in ("type", "net"):
            current = sections.setdefault(word.lower(), [])
        else:
            current.append(word)
    sources = sections.get("net", ["*"])
    whole = {family_of(net) for net in map(parse_net, sources) if net is not None and net.prefixlen == 0}
    families = frozenset(Family) if "*" in sources else frozenset(whole)
    return AclPolicy(action=line[0].lower(), types=frozenset(sections.get("type", [])), families=families)


def refuses_a(policies: Sequence[AclPolicy]) -> bool:
    """Whether no client gets A either: then the families are treated alike."""
    left = set(Family)
    for policy in policies:
        if policy.takes("A") and policy.action == "allow":
            return False
        left -= policy.families if policy.takes("A") and policy.action in ACL_ACTIONS and policy.types else set()
    return not left
