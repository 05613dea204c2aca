"""MTUs of links: below IPv6's minimum, and pods' above that of their tunnel. Pure rules of scopes node and pod."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.host_links import ipv6_tunnels, is_of_pod_network, links_to, way_out
from exporter.diagnosis.rules.judging import found, inspected, reader_reason, reason_of_no_pods, this_node
from exporter.diagnosis.rules.path.path import loses_full_size
from exporter.diagnosis.rules.pod.pod import lacks_by_choice
from exporter.diagnosis.samples import probes_of
from exporter.diagnosis.tunnels import CALICO, OVERHEAD_V6
from exporter.model.cause import Cause, Severity
from exporter.model.facts import LinkFact, PodFacts, Reader
from exporter.model.family import Family
from exporter.model.reason import Reason
from exporter.model.subject import Subject
from exporter.model.vantage import Vantage

MINIMUM = 1280  # RFC 8200 section 5; addrconf_notify of net/ipv6/addrconf.c removes IPv6 from a link below it
SHOWN = 10


def link_mtu_below_ipv6_minimum(view: RuleInput) -> Judgement:
    """A link of the way out, of the tunnel, or a pod's, at either end, has an MTU below 1280."""
    facts = view.snapshot.kernel
    if facts.links is None:
        return reader_reason(view, Reader.LINKS)
    small = [(this_node(view), link) for link in _small(facts.links, _links_of_node(view))]
    for pod, inside in _pods_with_ipv6(view):
        ends = (*_small(inside.links, _own_links(inside)), *_small(facts.links, links_to(view, pod.addresses)))
        small += [(pod.subject, link) for link in ends]
    return found(
        Cause.LINK_MTU_BELOW_IPV6_MINIMUM,
        (subject for subject, _ in small),
        evidence=[
            f"{subject}: {link.name} has MTU {link.mtu}; below {MINIMUM} the kernel disables IPv6 on a link"
            for subject, link in small[:SHOWN]
        ],
        command="ip link show | grep mtu",
    )


def pod_mtu_above_tunnel(view: RuleInput) -> Judgement:
    """A pod's MTU is above that of the tunnel that it leaves through, and the tunnel's is right for its parent.

    A warning where a full-size echo of the pod gets no answer. flannel gives pods the MTU of IPv4's tunnel, which is
    larger by design (pkg/backend/vxlan), so that its tunnel is not compared.
    """
    facts = view.snapshot.kernel.vxlan
    if facts is None:
        return reader_reason(view, Reader.VXLAN)
    device = facts.devices.get(CALICO)
    if device is None or device.flow_based:
        return Reason.NOT_APPLICABLE
    if not inspected(view):
        return reason_of_no_pods(view)
    is_right = device.parent_mtu is not None and device.mtu == device.parent_mtu - OVERHEAD_V6
    if not is_right or not any(route.gateway is not None for route in device.routes):
        return ()
    larger = {pod.subject: facts.mtu or 0 for pod, facts in _pods_with_ipv6(view) if (facts.mtu or 0) > device.mtu}
    losing = {t.now.vantage.subject for t in probes_of(view).pairs if t.shows(loses_full_size)}
    return tuple(
        finding
        for severity, pods in ((Severity.WARNING, larger.keys() & losing), (Severity.INFO, larger.keys() - losing))
        for finding in found(
            Cause.POD_MTU_ABOVE_TUNNEL,
            pods,
            evidence=[f"{pod}: MTU {larger[pod]}, above {device.mtu} of {CALICO}" for pod in sorted(pods)[:SHOWN]],
            command=f"ip link show {CALICO}; kubectl exec -n NAMESPACE POD -- ip link show",
            severity=severity,
        )
    )


def _pods_with_ipv6(view: RuleInput) -> Iterator[tuple[Vantage, PodFacts]]:
    """The inspected pods that are meant to have IPv6."""
    without: frozenset[Subject] = lacks_by_choice(view)
    return (
        (p, facts)
        for p, facts in inspected(view)
        if Family.V6 in p.families and p.subject not in without and not facts.disable_ipv6
    )


def _links_of_node(view: RuleInput) -> frozenset[str]:
    """The way out, and the IPv6 tunnel with its parent. Where nothing shows the way out: the host's own links."""
    links = view.snapshot.kernel.links or ()
    outside = way_out(view) or frozenset(link.name for link in links if not is_of_pod_network(link.name))
    return outside | {name for device in ipv6_tunnels(view) for name in (device.name, device.parent)}


def _own_links(facts: PodFacts) -> frozenset[str]:
    """The links of a pod that have a global address of either family; all of them where none has."""
    carrying = frozenset(a.link for a in facts.addresses if a.is_global)
    return carrying or frozenset(link.name for link in facts.links)


def _small(links: Iterable[LinkFact], names: frozenset[str]) -> list[LinkFact]:
    return [each for each in links if each.name in names and not each.loopback and each.up and each.mtu < MINIMUM]
