"""kindnet, kind's own: ptp and host-local, every family of the node's podCIDRs, always masqueraded."""

from exporter.model.cni.profile import Cni, CniProfile

PROFILE = CniProfile(cni=Cni.KINDNET, plugins=frozenset(), agents=("kindnet",))
