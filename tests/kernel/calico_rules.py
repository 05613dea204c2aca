"""Packet filter rules as Felix and kube-proxy write them, as text for the real tools. Nothing is run here.

Felix: felix/rules/nat.go, felix/rules/static.go, felix/nftables; comments carry its hash (felix/iptables). kube-proxy:
pkg/proxy/iptables and pkg/proxy/nftables.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OLD_ALL_POOLS, NEW_ALL_POOLS = "all-ipam-pools", "network-ip-pools"


@dataclass(frozen=True)
class KubePort:
    """A port of a Service as kube-proxy knows it."""

    service: str  # namespace/name
    name: str
    protocol: str
    address: str  # ClusterIP
    number: int
    endpoints: tuple[str, ...]
    target: int
    by_chain: bool = False  # nftables mode: a chain for each endpoint, as for session affinity; else one map


@dataclass(frozen=True)
class NatInput:
    """What the rules of one family are made from."""

    six: bool
    pools: tuple[str, ...]  # those with natOutgoing
    all_pools: tuple[str, ...]
    all_set: str  # the part of the set's name behind cali60
    tunnel: str  # device
    service: str  # ClusterIP
    endpoints: tuple[str, ...]
    pod_range: str
    mark_rule: bool = False  # eBPF's form
    cni: str = ""  # flannel or cilium in Calico's place: another who masquerades the pools
    more: tuple[KubePort, ...] = ()  # ports of other Services

    @property
    def ports(self) -> tuple[KubePort, ...]:
        return (KubePort("default/web", "main", "tcp", self.service, 80, self.endpoints, 8080), *self.more)

    def target(self, address: str, port: KubePort) -> str:
        """An endpoint as DNAT has it."""
        return f"[{address}]:{port.target}" if self.six else f"{address}:{port.target}"

    @property
    def prefix(self) -> str:
        return "cali60" if self.six else "cali40"

    @property
    def masq_set(self) -> str:
        return f"{self.prefix}masq-ipam-pools"

    @property
    def everything_set(self) -> str:
        return f"{self.prefix}{self.all_set}"


def felix_hashes(chain: str, rules: Iterable[str]) -> list[str]:
    """The 16 characters that Felix writes into each rule's comment: a chain of SHA-224 over the rules so far."""
    state = hashlib.sha224(chain.encode()).digest()
    found = []
    for rule in rules:
        state = hashlib.sha224(state + f"-A {chain} HASH {rule}".encode()).digest()
        found.append(base64.urlsafe_b64encode(state).decode()[:16])
    return found


def _felix_chain(chain: str, rules: Sequence[str]) -> list[str]:
    return [
        f'-A {chain} -m comment --comment "cali:{mark}" {rule}'
        for rule, mark in zip(rules, felix_hashes(chain, rules), strict=True)
    ]


def _outgoing(rules: NatInput) -> list[str]:
    if rules.mark_rule:
        return ["-m mark --mark 0x1800000/0x1f00000 --jump MASQUERADE --random-fully"]
    if not rules.pools:
        return []
    return [
        (
            f"-m set --match-set {rules.masq_set} src -m set ! --match-set {rules.everything_set} dst "
            f"--jump MASQUERADE --random-fully"
        )
    ]


def ipset_restore(rules: NatInput) -> str:
    """Felix's sets of pools, for `ipset restore`."""
    family = "inet6" if rules.six else "inet"
    lines = []
    for name, members in ((rules.masq_set, rules.pools), (rules.everything_set, rules.all_pools)):
        lines.append(f"create {name} hash:net family {family} maxelem 1048576 -exist")
        lines.append(f"flush {name}")
        lines += [f"add {name} {member}" for member in members]
    return "\n".join(lines) + "\n"


def nat_restore(rules: NatInput) -> str:
    """Table nat with kube-proxy's and Calico's rules, for ip(6)tables-restore."""
    parts = [_kube_lines(rules), _OTHERS[rules.cni](rules) if rules.cni else _calico_lines(rules)]
    chains = [line for part in parts for line in part if line.startswith(":")]
    body = [line for part in parts for line in part if not line.startswith(":")]
    return "\n".join(["*nat", *chains, *body, "COMMIT", ""])


def _calico_lines(rules: NatInput) -> list[str]:
    """Calico's part of table nat."""
    tunnel = (
        f"-o {rules.tunnel} -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL "
        "--jump MASQUERADE --random-fully"
    )
    chains = {
        "cali-PREROUTING": ["--jump cali-fip-dnat"],
        "cali-OUTPUT": ["--jump cali-fip-dnat"],
        "cali-fip-dnat": [],
        "cali-fip-snat": [],
        "cali-nat-outgoing": _outgoing(rules),
        "cali-POSTROUTING": [
            "--jump cali-fip-snat",
            "--jump cali-nat-outgoing",
            *([] if rules.mark_rule else [tunnel]),
        ],
    }
    lines = [f":{chain} - [0:0]" for chain in chains]
    for chain, body in chains.items():
        lines += _felix_chain(chain, body)
    lines.append('-A PREROUTING -m comment --comment "cali:6gwbT8clXdHdC1b1" -j cali-PREROUTING')
    lines.append('-A OUTPUT -m comment --comment "cali:tVnHkvAo15HuiPy0" -j cali-OUTPUT')
    lines.append('-A POSTROUTING -m comment --comment "cali:0i8pjzKKPyA34aQD" -j cali-POSTROUTING')
    return lines


def _flannel_lines(rules: NatInput) -> list[str]:
    """pkg/trafficmngr/iptables of flannel, without the rules for what comes from elsewhere."""
    chain, multicast = "FLANNEL-POSTRTG", "ff00::/8" if rules.six else "224.0.0.0/4"
    return [
        f":{chain} - [0:0]",
        f'-A POSTROUTING -m comment --comment "flanneld masq" -j {chain}',
        f"-A {chain} -m mark --mark 0x4000/0x4000 -j RETURN",
        f"-A {chain} -s {rules.pod_range} -d {rules.pod_range} -j RETURN",
        *(f"-A {chain} -s {pool} ! -d {multicast} -j MASQUERADE --random-fully" for pool in rules.pools),
    ]


def _cilium_lines(rules: NatInput) -> list[str]:
    """pkg/datapath/iptables of Cilium where it does not masquerade in eBPF."""
    chain = "CILIUM_POST_nat"
    return [
        f":{chain} - [0:0]",
        f'-A POSTROUTING -m comment --comment "cilium-feeder: {chain}" -j {chain}',
        *(f"-A {chain} -s {pool} ! -d {rules.pod_range} ! -o cilium_+ -j MASQUERADE" for pool in rules.pools),
        f"-A {chain} -m mark --mark 0xa00/0xe00 -j ACCEPT",
    ]


_OTHERS = {"flannel": _flannel_lines, "cilium": _cilium_lines}


def _sha(text: str, length: int) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:length]


def _kube_lines(rules: NatInput) -> list[str]:
    """kube-proxy's part of table nat. A port without endpoints has no chains; what rejects it is in table filter."""
    length = 128 if rules.six else 32
    chains = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"]
    body = [
        '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    ]
    for port in (each for each in rules.ports if each.endpoints):
        name, proto = f"{port.service}:{port.name}", port.protocol
        service = f"KUBE-SVC-{_sha(name + proto, 16)}"
        to = f"-d {port.address}/{length} -p {proto} -m {proto} --dport {port.number}"
        chains.append(service)
        body += [
            f'-A KUBE-SERVICES {to} -m comment --comment "{name} cluster IP" -j {service}',
            f"-A {service} ! -s {rules.pod_range} {to} -j KUBE-MARK-MASQ",
        ]
        for i, address in enumerate(port.endpoints):
            target = rules.target(address, port)
            end = f"KUBE-SEP-{_sha(name + proto + target, 16)}"
            left = len(port.endpoints) - i
            chance = f"-m statistic --mode random --probability {1 / left:.5f} " if left > 1 else ""
            chains.append(end)
            body += [
                f"-A {service} {chance}-j {end}",
                f"-A {end} -s {address}/{length} -j KUBE-MARK-MASQ",
                f"-A {end} -p {proto} -m {proto} -j DNAT --to-destination {target}",
            ]
    nodeports = '-m comment --comment "kubernetes service nodeports" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS'
    return [*(f":{chain} - [0:0]" for chain in chains), *body, f"-A KUBE-SERVICES {nodeports}"]


def calico_nft(rules: NatInput) -> str:
    """Calico's own table, for `nft -f` (felix/nftables: layer prefixes on chains, sets in the table)."""
    family, kind = ("ip6", "ipv6_addr") if rules.six else ("ip", "ipv4_addr")
    outgoing = ""
    if rules.mark_rule:
        outgoing = 'meta mark & 0x1f00000 == 0x1800000 counter masquerade fully-random comment "cali:lab_bpf_markrule;"'
    elif rules.pools:
        outgoing = (
            f"{family} saddr @{rules.masq_set} {family} daddr != @{rules.everything_set} "
            'counter masquerade fully-random comment "cali:lab_outgoing_000;"'
        )

    return f"""
table {family} calico
delete table {family} calico
table {family} calico {{
    set {rules.masq_set} {{ type {kind}; flags interval; {_elements(rules.pools)}; }}
    set {rules.everything_set} {{ type {kind}; flags interval; {_elements(rules.all_pools)}; }}
    chain nat-cali-fip-snat {{ }}
    chain nat-cali-nat-outgoing {{
        {outgoing}
    }}
    chain nat-cali-POSTROUTING {{
        counter jump nat-cali-fip-snat comment "cali:tyzVzs_JgnIisxS6;"
        counter jump nat-cali-nat-outgoing comment "cali:_Ye9aC74uuE93XON;"
        oifname "{rules.tunnel}" fib saddr . oif type != local fib saddr type local counter masquerade fully-random
    }}
    chain nat-POSTROUTING {{
        type nat hook postrouting priority srcnat + 10; policy accept;
        counter jump nat-cali-POSTROUTING comment "cali:z057H0Z77Fcko47w;"
    }}
}}
"""


def kube_nft(rules: NatInput) -> str:
    """kube-proxy's own table in nftables mode, for `nft -f`."""
    family, kind = ("ip6", "ipv6_addr") if rules.six else ("ip", "ipv4_addr")
    chains, elements, rejected, hairpins = [], [], [], []
    for port in rules.ports:
        key = f"{port.address} . {port.protocol} . {port.number}"
        name = f"{port.service}/{port.protocol}/{port.name}"
        if not port.endpoints:
            rejected.append(f"{key} : goto reject-chain")
            continue
        service = f"service-{_sha(name, 8)}-{name}"
        branches = []
        for i, address in enumerate(port.endpoints):
            own = f"{name}__{address.replace(':', '.')}/{port.target}"
            end = f"endpoint-{_sha(own, 8)}-{own}"
            masquerade = f"{family} saddr {address} jump mark-for-masquerade"
            translate = f"meta l4proto {port.protocol} dnat to {rules.target(address, port)}"
            if port.by_chain:
                chains.append(f"chain {end} {{ {masquerade}\n {translate}; }}")
            branches.append(f"{i} : goto {end}")
        choose = f"numgen random mod {len(port.endpoints)}"
        if port.by_chain:
            choose += f" vmap {{ {', '.join(branches)} }}"
        else:
            ends = ", ".join(f"{i} : {address} . {port.target}" for i, address in enumerate(port.endpoints))
            choose = f"meta l4proto {port.protocol} dnat {family} to {choose} map {{ {ends} }}"
            hairpins += [f"{end} . {end} . {port.protocol} . {port.target}" for end in port.endpoints]
        local = f"{family} daddr {port.address} {port.protocol} dport {port.number} {family} saddr != {rules.pod_range}"
        chains.append(f"chain {service} {{ {local} jump mark-for-masquerade\n {choose}; }}")
        elements.append(f"{key} : goto {service}")
    return f"""
table {family} kube-proxy
delete table {family} kube-proxy
table {family} kube-proxy {{
    chain mark-for-masquerade {{ mark set mark or 0x4000; }}
    chain reject-chain {{ reject; }}
    {chr(10).join(chains)}
    set hairpin-connections {{
        type {kind} . {kind} . inet_proto . inet_service
        {_elements(hairpins)}
    }}
    map service-ips {{
        type {kind} . inet_proto . inet_service : verdict
        {_elements(elements)}
    }}
    map no-endpoint-services {{
        type {kind} . inet_proto . inet_service : verdict
        {_elements(rejected)}
    }}
    chain services {{ {family} daddr . meta l4proto . th dport vmap @service-ips; }}
    chain service-endpoints-check {{ {family} daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
    chain masquerading {{
        ct status dnat {family} saddr . {family} daddr . meta l4proto . th dport @hairpin-connections masquerade
        mark and 0x4000 == 0 return
        mark set mark xor 0x4000
        masquerade fully-random
    }}
    chain filter-prerouting {{ type filter hook prerouting priority -110; jump service-endpoints-check; }}
    chain filter-output {{ type filter hook output priority -110; jump service-endpoints-check; }}
    chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
    chain nat-output {{ type nat hook output priority -100; jump services; }}
    chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}
}}
"""


def _elements(members: Sequence[str]) -> str:
    return f"elements = {{ {', '.join(members)} }}" if members else ""
