"""What runs the pod network, by evidence (docs/specification.md section 3a): which CNI, whose IPAM, what for Services.

Signs are of three ranks: what runs (CNI configuration, agents, the operator's Installation), what is configured
(ConfigMaps, Calico's pools, arguments of k3s and RKE2), and annotations of Nodes, which outlive the CNI that made them.
The first rank in which something shows decides. Where two CNIs are left, nothing is guessed. Evaluated once a round,
before the rules; pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from exporter.diagnosis.felix import effective
from exporter.model.cluster.component import CniConfig
from exporter.model.cluster.inventory import Inventory
from exporter.model.cni import PROFILES
from exporter.model.cni.network import PodNetwork, ServiceProxy, SwitchState
from exporter.model.cni.profile import Cni, CniSign, Effect, Place, Switch

CALICO_IPAM = "calico-ipam"
IPAM_TYPES = {"Calico": CALICO_IPAM, "HostLocal": "host-local", "AmazonVPC": "aws-vpc-cni", "AzureVNET": "azure-vnet"}
CNI_TYPES = {"Calico": Cni.CALICO, "AmazonVPC": Cni.AWS_VPC_CNI}  # others: GKE, AzureVNET
OWN_CHAINS = frozenset({"", "none", "portmap"})  # values of cni-chaining-mode with which Cilium is the main plugin
CHAINED = {"aws-cni": Cni.AWS_VPC_CNI, "flannel": Cni.FLANNEL}
MODES = {"": ServiceProxy.IPTABLES} | {proxy.value.rpartition(" ")[2]: proxy for proxy in list(ServiceProxy)[:3]}
LIMIT = 5  # lines of evidence for a CNI

_Shown = dict[Cni, list[str]]


def pod_network(inventory: Inventory) -> PodNetwork:
    """Which CNI runs the pod network, as far as the inventory shows it."""
    switches = _switches(inventory.cni_signs or ())
    alone = False
    for shown in (_running(inventory), _configured(inventory), _annotated(inventory)):
        others = _without_policy_alone(shown, inventory, switches)
        alone |= Cni.CALICO in shown and Cni.CALICO not in others
        if others:
            found = _resolved(others)
            break
    else:
        found = PodNetwork(evidence=(_why_unknown(inventory),))
    profile = PROFILES.get(found.cni)
    own = switches.get(found.cni, {})
    network = replace(
        found,
        profile=profile,
        switches=own,
        ipam=found.ipam or _ipam(inventory, found.cni, own),
        calico_alone_for_policy=alone
        or (profile is not None and profile.cni is not Cni.CALICO and _shows_calico(inventory)),
    )
    return replace(network, proxy=_proxy(inventory, network, switches.get(Cni.CILIUM, {})))


def _resolved(shown: _Shown) -> PodNetwork:
    evidence = tuple(line for lines in shown.values() for line in lines[:LIMIT])
    if len(shown) > 1:
        names = " and ".join(sorted(shown))
        return PodNetwork(evidence=(f"signs of {names}: which of them pods use is not known", *evidence))
    cni = next(iter(shown))
    return PodNetwork(cni=cni, evidence=evidence)


def _why_unknown(inventory: Inventory) -> str:
    if inventory.cni_signs is None:
        return "no object that would show the CNI was read"
    return "no CNI configuration, DaemonSet, ConfigMap or annotation of a known CNI was found"


# Signs by rank


def _running(inventory: Inventory) -> _Shown:
    shown = _of_signs(inventory, Place.AGENT)
    for config in inventory.cni or ():
        cni = next((p.cni for p in PROFILES.values() if config.main_plugin in p.plugins), None)
        if cni is not None:
            ipam = f", ipam {config.ipam}" if config.ipam else ""
            shown.setdefault(cni, []).insert(0, f"{config.source}: plugin {config.main_plugin}{ipam}")
    installation = inventory.installation
    if installation is not None and installation.cni_type:
        cni = CNI_TYPES.get(installation.cni_type, Cni.UNKNOWN)
        shown.setdefault(cni, []).append(f"installation default: spec.cni.type {installation.cni_type}")
    if inventory.calico_node is not None and Cni.CALICO not in shown:
        shown[Cni.CALICO] = [f"daemonset {inventory.calico_node.namespace}/calico-node"]
    return shown


def _configured(inventory: Inventory) -> _Shown:
    shown = _of_signs(inventory, Place.CONFIG_MAP)
    for cni, lines in _of_signs(inventory, Place.NODE_ARGUMENTS).items():
        shown.setdefault(cni, []).extend(lines)
    objects = {
        "ippools": inventory.pools,
        "blockaffinities": inventory.block_affinities,
        "ipamblocks": inventory.ipam_blocks,
        "felixconfigurations": inventory.felix,
    }
    shown.setdefault(Cni.CALICO, []).extend(f"there are {name} of Calico" for name, read in objects.items() if read)
    return {cni: lines for cni, lines in shown.items() if lines}


def _annotated(inventory: Inventory) -> _Shown:
    return _of_signs(inventory, Place.ANNOTATION)


def _of_signs(inventory: Inventory, place: Place) -> _Shown:
    shown: _Shown = {}
    for sign in inventory.cni_signs or ():
        # A node's own list and the digest may have the same pod.
        if sign.place is place and sign.source not in shown.get(sign.cni, ()):
            shown.setdefault(sign.cni, []).append(sign.source)
    return shown


def _shows_calico(inventory: Inventory) -> bool:
    objects = (inventory.felix, inventory.pools, inventory.calico_node, inventory.installation)
    return any(bool(each) for each in objects) or any(sign.cni is Cni.CALICO for sign in inventory.cni_signs or ())


# Which of several it is


def _without_policy_alone(
    shown: _Shown, inventory: Inventory, switches: Mapping[Cni, Mapping[Effect, tuple[SwitchState, ...]]]
) -> _Shown:
    """Without what is there for policy alone, or in a chain behind another: the pod network is another's."""
    left = dict(shown)
    for cni in shown:
        states = switches.get(cni, {})
        alone = any(state.on for state in states.get(Effect.POLICY_ALONE, ()))
        chain = _chain_of(states)
        if cni is Cni.CALICO:
            alone = _is_calico_for_policy_alone(shown, inventory, backend_none=alone)
        if chain is not None:
            left.setdefault(CHAINED.get(chain.value, Cni.UNKNOWN), []).append(chain.text)
        elif alone:
            left.setdefault(Cni.UNKNOWN, []).extend([*shown[cni][:LIMIT], f"{cni} is there for policy alone"])
        if chain is not None or alone:
            del left[cni]
    return {cni: lines for cni, lines in left.items() if cni is not Cni.UNKNOWN} or left


def _chain_of(states: Mapping[Effect, tuple[SwitchState, ...]]) -> SwitchState | None:
    """The switch by which it is in a chain behind another CNI, which gives pods their network."""
    return next((s for s in states.get(Effect.CHAINED_TO, ()) if s.value not in OWN_CHAINS), None)


def _is_calico_for_policy_alone(shown: _Shown, inventory: Inventory, *, backend_none: bool) -> bool:
    """Whether Calico gives pods no addresses. Whoever has an address from its IPAM has it from a block."""
    named = {config.ipam for config in _calico_configs(inventory) if config.ipam}
    installation = inventory.installation
    if CALICO_IPAM in named:
        return False
    if installation is not None and installation.cni_type:
        return CNI_TYPES.get(installation.cni_type) is not Cni.CALICO
    if inventory.block_affinities or inventory.ipam_blocks:
        return False
    if backend_none or (named and len(shown) > 1):
        return True
    without_pools = not inventory.pools or inventory.ipam_blocks is not None
    if len(shown) > 1:
        return without_pools
    read = inventory.pools is not None and inventory.ipam_blocks is not None
    return read and not inventory.pools and any(pod.ips for pod in inventory.pods or () if not pod.host_network)


def _calico_configs(inventory: Inventory) -> Iterator[CniConfig]:
    return (config for config in inventory.cni or () if config.main_plugin == "calico")


# What it does


def _ipam(inventory: Inventory, cni: Cni, own: Mapping[Effect, tuple[SwitchState, ...]]) -> str:
    named = next((state.value for state in own.get(Effect.IPAM, ()) if state.value), "")
    if cni is Cni.CALICO:
        installation = inventory.installation
        named = next((c.ipam for c in _calico_configs(inventory) if c.ipam), "") or (
            IPAM_TYPES.get(installation.ipam, "") if installation is not None else ""
        )
    if cni is Cni.UNKNOWN:
        plugins = {config.ipam for config in inventory.cni or () if config.ipam and config.subject is None}
        installed = IPAM_TYPES.get(inventory.installation.ipam, "") if inventory.installation is not None else ""
        return next(iter(plugins), installed if installed != CALICO_IPAM else "")
    return named or PROFILES[cni].ipam


def _proxy(inventory: Inventory, network: PodNetwork, cilium: Mapping[Effect, tuple[SwitchState, ...]]) -> ServiceProxy:
    """`cilium`: its switches, for it may serve Services in a chain behind another CNI as well."""
    replaces = network.switch(Effect.REPLACES_KUBE_PROXY)
    serves = any(state.on for state in cilium.get(Effect.REPLACES_KUBE_PROXY, ()))
    if serves and (network.cni is Cni.CILIUM or _chain_of(cilium) is not None):
        return ServiceProxy.CILIUM
    if replaces is not None and replaces.on:
        return ServiceProxy.NONE
    installation = inventory.installation
    if effective(inventory, "").bpf_enabled or (installation is not None and installation.ebpf):
        return ServiceProxy.EBPF
    flags = [each.arguments for each in inventory.components or () if each.component == "kube-proxy"]
    if any(each.get("disable-kube-proxy", "false") == "true" for each in flags):
        return ServiceProxy.NONE
    modes = {each.get("proxy-mode", "") for each in flags}
    if len(modes) == 1:
        return MODES.get(modes.pop(), ServiceProxy.UNKNOWN)
    replaced = network.profile is not None and network.profile.replaces_kube_proxy
    return ServiceProxy.NONE if replaced and not flags else ServiceProxy.UNKNOWN


def _switches(signs: Iterable[CniSign]) -> dict[Cni, dict[Effect, tuple[SwitchState, ...]]]:
    """Every switch as it stands in each object that has it, by CNI."""
    found: dict[Cni, dict[Effect, tuple[SwitchState, ...]]] = {}
    for sign in signs:
        for switch in PROFILES[sign.cni].switches if sign.cni in PROFILES else ():
            state = _state(switch, sign) if switch.place is sign.place else None
            if state is not None:
                own = found.setdefault(sign.cni, {})
                own[switch.effect] = (*own.get(switch.effect, ()), state)
    return found


def _state(switch: Switch, sign: CniSign) -> SwitchState | None:
    name = next((name for name in switch.names if name in sign.settings), None)
    if name is None and not sign.unseen.isdisjoint(switch.names):
        text = f"{sign.source}: {switch.names[0]} cannot be seen"
        return SwitchState(on=None, text=text, subject=sign.subject, source=sign.source)
    value = switch.default if name is None else sign.settings[name]
    if value is None:
        return None
    lowered = value.lower()
    on = True if lowered in switch.on else False if lowered in switch.off else None
    written = f"{name} {value}" if name else f"{switch.names[0]} absent (default {value})"
    return SwitchState(
        on=on,
        text=f"{sign.source}: {written}",
        subject=sign.subject,
        source=sign.source,
        explicit=name is not None,
        value=value,
    )
