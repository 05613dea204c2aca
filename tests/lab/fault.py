"""What a fault of the matrix is, and what the exporter must make of it. Data only; the rows stand by topic beside this
file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.diagnosis.engine.explanations import PATH_CAUSES
from exporter.model.cause import Cause
from exporter.plan.result_history import DIALS
from tests.lab.bgp import BgpLab
from tests.lab.cluster import Cluster
from tests.lab.dataplanes import EbpfLab, FlannelLab, ServingLab

Act = Callable[[Cluster], object]
NFT, LEGACY, NFTABLES, EBPF, FLANNEL, BGP = "iptables-nft", "iptables-legacy", "nftables", "ebpf", "flannel", "bgp"
HERE = (NFT,)  # the backend does not matter
NAT_BACKENDS = (NFT, LEGACY, NFTABLES)
TUNNELS = (NFT, FLANNEL)  # where the CNI whose tunnel it is matters
LABS: Mapping[str, Callable[[], ServingLab]] = {
    EBPF: EbpfLab,
    FLANNEL: FlannelLab,
    BGP: BgpLab,
}  # others: Calico's, of a backend
ALL, APART = ("all",), ("node", "cluster")  # how the roles run: in one process, or as separate ones
UNREACHABLE, DNS_SILENT = "ipv6_unreachable", "dns_unreachable"


class Scope(StrEnum):
    """What is broken; the scopes of the contract."""

    DNS = "dns"
    PATH = "path"
    NODE = "node"
    POD = "pod"
    CLUSTER = "cluster"


@dataclass(frozen=True)
class Fault:
    """One row of the matrix.

    `causes` are those unexplained at warning or above, with their severity; `explained` says which other cause is
    explained by which; `infos` are those of severity info. All three are exact: nothing else may be found. `ipv4` and
    `ipv6` are the families' verdicts. `detect` and `clear` are the rounds, counted from the fault and from its healing,
    where nothing makes them later. `checks` are findings that need more than names: cause -> a text that its evidence
    must hold.
    """

    name: str
    scope: Scope
    says: str
    act: Act
    causes: Mapping[str, str]
    explained: Mapping[str, str] = field(default_factory=dict)
    infos: tuple[str, ...] = ()
    ipv4: bool | None = True
    ipv6: bool | None = True
    backends: tuple[str, ...] = HERE
    detect: int = 1
    clear: int = 2
    evidence: Mapping[str, str] = field(default_factory=dict)
    apart: bool = False  # also with node and cluster roles as separate ones, on the first backend

    @property
    def detected_by(self) -> int:
        """The round by which it must be found: what compares the kernel with the inventory is found in the second."""
        return max(self.detect, 2 if any(Cause(cause).spec.compares for cause in (*self.causes, *self.infos)) else 1)

    @property
    def cleared_by(self) -> int:
        """The round by which nothing may be left: a path counts as well after six dials, which a pod that changes peers
        makes
        in seven rounds, and what does not hold goes one round later.
        """
        return max(self.clear, DIALS + 2 if any(Cause(cause) in PATH_CAUSES for cause in self.causes) else 0)

    @property
    def ways(self) -> tuple[tuple[str, ...], ...]:
        """How the roles run while this fault is measured."""
        return (ALL, APART) if self.apart else (ALL,)


def warning(*causes: str) -> dict[str, str]:
    return dict.fromkeys(causes, "warning")


def critical(*causes: str) -> dict[str, str]:
    return dict.fromkeys(causes, "critical")


def by(root: str, *symptoms: str) -> dict[str, str]:
    """These are explained by the root."""
    return dict.fromkeys(symptoms, root)


def of_lab(name: str) -> Act:
    """A fault of the kernel lab, on the node that is looked from."""
    return lambda cluster: cluster.lab.fault(name)


def all_of(*acts: Act) -> Act:
    def act(cluster: Cluster) -> None:
        for each in acts:
            each(cluster)

    return act
