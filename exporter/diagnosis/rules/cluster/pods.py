"""The cause that annotations of pods show: an address that the API does not report. A pure rule of every role."""

from __future__ import annotations

from exporter.diagnosis.engine.preconditions import bounded, counted, listed
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.pod import Pod
from exporter.model.family import FAMILIES, Address, family_of


@needs(ResourceKind.PODS)
def pod_ip_mismatch(view: RuleInput) -> Judgement:
    """The CNI noted an address on a Ready pod of an expected family of which status.podIPs has none.

    A pod's annotation is written before its status, and Ready after both.
    """
    declared = {space.name: space.families for space in view.inventory.namespaces or () if space.families}
    unreported = [
        (pod, address)
        for pod in view.inventory.pods or ()
        if pod.annotated_ips is not pod.ips and pod.ready and pod.phase == "Running" and not pod.deleting
        for address in _unreported(pod)
        if view.expected(family_of(address))
        and family_of(address) in (pod.families or declared.get(pod.namespace) or FAMILIES)
    ]
    if not unreported:
        return ()
    first = unreported[0][0]
    return found(
        Cause.POD_IP_MISMATCH,
        (pod.subject for pod, _ in unreported),
        evidence=[
            f"{counted(len({pod.key for pod, _ in unreported}), 'pod')} with an address that status.podIPs lacks",
            *bounded(
                f"{pod.subject}: its CNI noted {address} on it, status.podIPs is [{listed(map(str, pod.ips))}]"
                for pod, address in unreported
            ),
        ],
        command=f"kubectl -n {first.namespace} get pod {first.name}"
        " -o jsonpath='{.metadata.annotations}{\"\\n\"}{.status.podIPs}'",
    )


def _unreported(pod: Pod) -> tuple[Address, ...]:
    reported = set(map(family_of, pod.ips))
    return tuple(a for a in pod.annotated_ips if family_of(a) not in reported and not pod.host_network and pod.ips)
