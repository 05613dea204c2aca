"""Whether a node masquerades its pods' IPv6, by the rules that CNIs write with nft and both iptables, on the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from exporter.broker.protocol.messages import ReadTopic, Topic, TopicAnswer
from exporter.diagnosis.rules.node.masquerade import Masquerade, masquerade
from exporter.kernel.read.host_facts import HostWish
from exporter.kernel.read.readers import read_host
from exporter.model.cause import Role
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Pod
from exporter.model.cni.profile import Cni, CniSign, Place
from exporter.model.facts import HostFacts
from exporter.model.reason import Reason
from exporter.model.report import Snapshot
from tests.kernel.calico_host import host_namespace, legacy_names, restore
from tests.kernel.direct_broker import DirectBroker
from tests.kernel.namespaces import batch, run_inside

pytestmark = pytest.mark.real

POD, CLUSTER, NODE = "fd00:42:0:1::7", "fd00:42::/56", "fd00:42:0:1::/64"
# What kube-proxy and the plugin portmap have on every node: they masquerade by marks that pods' packets lack.
KUBE_PROXY = """:KUBE-POSTROUTING - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
{more}-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
"""
LOOP = "-A KUBE-POSTROUTING -m set --match-set KUBE-6-LOOP-BACK dst,dst,src -j MASQUERADE\n"
FLANNEL = f""":FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN
-A FLANNEL-POSTRTG -s {NODE} -d {CLUSTER} -j RETURN
-A FLANNEL-POSTRTG -s {CLUSTER} -d {NODE} -j RETURN
-A FLANNEL-POSTRTG ! -s {CLUSTER} -d {NODE} -j RETURN
-A FLANNEL-POSTRTG -s {CLUSTER} ! -d ff00::/8 -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s {CLUSTER} -d {CLUSTER} -j MASQUERADE --random-fully
"""
CILIUM = f""":CILIUM_POST_nat - [0:0]
-A POSTROUTING -m comment --comment "cilium-feeder: CILIUM_POST_nat" -j CILIUM_POST_nat
-A CILIUM_POST_nat -m set --match-set cilium_node_set_v6 dst -j ACCEPT
-A CILIUM_POST_nat -s {NODE} ! -d {NODE} ! -o cilium_+ -m comment --comment "cilium masquerade" -j MASQUERADE
-A CILIUM_POST_nat -m mark --mark 0xa00/0xe00 -j ACCEPT
-A CILIUM_POST_nat -s ::1/128 -o cilium_host -j SNAT --to-source fd00:42:0:1::1
"""
KINDNET = f""":KIND-MASQ-AGENT - [0:0]
-A POSTROUTING -m addrtype ! --dst-type LOCAL -j KIND-MASQ-AGENT
-A KIND-MASQ-AGENT -d {CLUSTER} -j RETURN
-A KIND-MASQ-AGENT -j MASQUERADE
"""
KUBE_ROUTER = (
    "-A POSTROUTING -m set --match-set pods src -m set ! --match-set pods dst -m set ! --match-set"
    " cilium_node_set_v6 dst -j MASQUERADE --random-fully\n"
)
BRIDGE = f""":CNI-0123456789abcdef01234567 - [0:0]
-A POSTROUTING -s {POD}/128 -m comment --comment "name: \\"bridge\\"" -j CNI-0123456789abcdef01234567
-A CNI-0123456789abcdef01234567 -d {NODE} -j ACCEPT
-A CNI-0123456789abcdef01234567 ! -d ff00::/8 -j MASQUERADE
"""
SETS = f"""create pods hash:net family inet6
add pods {CLUSTER}
create cilium_node_set_v6 hash:ip family inet6
add cilium_node_set_v6 2001:db8::2
create KUBE-6-LOOP-BACK hash:ip,port,ip family inet6
add KUBE-6-LOOP-BACK {POD},tcp:80,{POD}
"""
FLANNEL_NFT = f"""table ip6 flannel-ipv6 {{
 chain postrtg {{
  type nat hook postrouting priority srcnat;
  meta mark & 0x4000 == 0x4000 return
  ip6 saddr {NODE} ip6 daddr {CLUSTER} return
  ip6 saddr {CLUSTER} ip6 daddr != ff00::/8 masquerade fully-random
 }}
}}
"""
AGENT_NFT = f"""table inet agent {{
 set local {{ type ipv6_addr; flags interval; elements = {{ {CLUSTER}, fe80::/10 }}; }}
 chain v4 {{ masquerade; }}
 chain v6 {{ ip6 daddr @local return; oifname {{ "up0" }} counter; oifname "up*" masquerade; }}
 chain out {{
  type nat hook postrouting priority srcnat;
  ct state established,related accept
  fib daddr type local accept
  meta nfproto ipv4 goto v4
  goto v6
 }}
}}
"""
KUBE_PROXY_NFT = """table ip6 kube-proxy {
 chain masquerading { meta mark & 0x4000 == 0 return; meta mark set meta mark ^ 0x4000; masquerade fully-random; }
 chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
"""


@pytest.fixture
def ns() -> Iterator[str]:
    """A host with a way out."""
    with host_namespace() as name:
        lines = [
            "link add up0 type veth peer name far0",
            "link set up0 up",
            "link set far0 up",
            "addr add 2001:db8::2/64 dev up0 nodad",
        ]
        batch({name: [*lines, "route add default via 2001:db8::1 dev up0"]})
        run_inside(name, "ipset", "restore", text=SETS)
        yield name


def inventory(cni: Cni, *pods: str, ebpf: str = "false") -> Inventory:
    settings = {"enable-bpf-masquerade": ebpf}
    absent = {ResourceKind.IP_POOLS: Reason.NOT_APPLICABLE, ResourceKind.FELIX: Reason.NOT_APPLICABLE}
    return Inventory(
        source=InventoryOrigin.FILE,
        nodes=(Node(name="n1", pod_cidrs=(ip_network(NODE),)),),
        pods=tuple(Pod(namespace="d", name=ip, node="n1", ips=(ip_address(ip),)) for ip in pods),
        cni_signs=(CniSign(cni=cni, place=Place.CONFIG_MAP, source="configmap a/b", settings=settings),),
        unread=absent,
    )


def judged(facts: HostFacts, cluster: Inventory) -> Masquerade | None:
    return masquerade(
        Snapshot(
            node="n1", role=Role.NODE, started=0, finished=0, complete=True, inventory=cluster, host=None,
            host_facts=facts,
        )
    )  # fmt: skip


async def answer(
    ns: str, cni: Cni = Cni.FLANNEL, *pods: str, broker: DirectBroker | None = None, ebpf: str = "false"
) -> Masquerade:
    facts, readings = await read_host(broker or DirectBroker(ns), settle=0, wish=HostWish(postrouting=True))
    assert all(r.success for r in readings), readings
    found = judged(facts, inventory(cni, *(pods or (POD,)), ebpf=ebpf))
    assert found is not None
    return found


def write(ns: str, variant: str, text: str, more: str = "") -> None:
    restore(ns, variant, f"*nat\n{KUBE_PROXY.format(more=more)}{text}COMMIT\n")


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize(
    ("cni", "rules"),
    [
        (Cni.FLANNEL, FLANNEL),
        (Cni.CILIUM, CILIUM),
        (Cni.KINDNET, KINDNET),
        (Cni.KUBE_ROUTER, KUBE_ROUTER),
        (Cni.ANTREA, KUBE_ROUTER),
        (Cni.KUBE_OVN, KUBE_ROUTER),
        (Cni.UNKNOWN, BRIDGE),
    ],
)
async def test_iptables_rules_of_each_cni(ns: str, variant: str, cni: Cni, rules: str) -> None:
    write(ns, variant, rules, LOOP)
    assert (await answer(ns, cni)).holds is True
    run_inside(ns, f"ip6tables-{variant}", "-t", "nat", "-F")
    write(ns, variant, "", LOOP)
    without = await answer(ns, cni)
    if cni in {Cni.ANTREA, Cni.KUBE_OVN}:
        assert without.holds is None, "Open vSwitch may translate"
        assert "Open vSwitch" in without.doubts[0]
    else:
        table = "ip6 nat" if variant == "nft" else "ip6tables-legacy nat"
        assert (without.holds, without.doubts) == (False, ())
        chains = ("POSTROUTING", "CNI-HOSTPORT-MASQ", "KUBE-POSTROUTING")
        assert without.walked == tuple(f"{table} {chain}" for chain in chains)


@pytest.mark.parametrize(
    ("rules", "without"),
    [(FLANNEL_NFT, "masquerade fully-random"), (AGENT_NFT, 'oifname "up*" masquerade;')],
    ids=["flannel", "agent"],
)
async def test_tables_of_nftables(ns: str, rules: str, without: str) -> None:
    run_inside(ns, "nft", "-f", "-", text=KUBE_PROXY_NFT + rules)
    assert (await answer(ns)).holds is True
    run_inside(ns, "nft", "flush", "ruleset")
    run_inside(
        ns, "nft", "-f", "-", text=KUBE_PROXY_NFT + rules.replace(without, "return" if "fully" in without else "")
    )
    found = await answer(ns)
    assert (found.holds, found.doubts) == (False, ())
    assert "ip6 kube-proxy masquerading" in found.walked


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("-s fd00:42:0:2::/64 -j MASQUERADE", False),
        ("! -s fd00:42:0:1::/64 -j MASQUERADE", False),
        ("-d fd00::/8 -j MASQUERADE", False),
        ("-d 2001:db8:7::/48 -j MASQUERADE", False),
        ("-d 2000::/4 -j MASQUERADE", None),
        ("-d 2000::/3 -j MASQUERADE", True),
        ("-o down0 -j MASQUERADE", False),
        ("-o up0 -j MASQUERADE", True),
        ("! -o up+ -j MASQUERADE", False),
        ("-o up+ -j SNAT --to-source 2001:db8::2", True),
        ("-j NETMAP --to 2001:db8::/64", True),
        ("-p udp -j MASQUERADE", False),
        ("-p tcp -j MASQUERADE --to-ports 1024-2000", True),
        ("-p tcp -m tcp --dport 443 -j MASQUERADE", None),
        ("-m mark --mark 0x80/0x80 -j MASQUERADE", None),
        ("-m mark --mark 0x6000/0x6000 -j MASQUERADE", False),
        ("-m mark --mark 0x0/0x4000 -j MASQUERADE", True),
        ("-m conntrack --ctstate NEW -j MASQUERADE", True),
        ("-m conntrack --ctstate DNAT -j MASQUERADE", False),
        ("-m addrtype --dst-type UNICAST -j MASQUERADE", True),
        ("-m addrtype --dst-type LOCAL -j MASQUERADE", False),
        ("-m addrtype --src-type LOCAL --limit-iface-out -j MASQUERADE", None),
        ("-m set ! --match-set pods src -j MASQUERADE", False),
        ("-m set --match-set pods src -m statistic --mode random --probability 0.5 -j MASQUERADE", None),
        ("-m statistic --mode random --probability 0.5 -j LOG", False),
        ("-m set --match-set KUBE-6-LOOP-BACK src,dst,dst -j MASQUERADE", None),
    ],
)
async def test_a_condition_holds_or_not_or_is_not_known(ns: str, variant: str, rule: str, holds: bool | None) -> None:
    write(ns, variant, f"-A POSTROUTING {rule}\n")
    found = await answer(ns)
    assert found.holds is holds, found
    assert bool(found.doubts) is (holds is None)
    assert all("POSTROUTING" in doubt for doubt in found.doubts)


async def test_a_rule_behind_an_exception_counts_as_far_as_the_exception_is_known(ns: str) -> None:
    write(ns, "nft", f"-A POSTROUTING -m time --kerneltz -j ACCEPT\n{KINDNET}")
    found = await answer(ns)
    assert found.holds is None
    assert any("match time" in doubt for doubt in found.doubts), found
    run_inside(ns, "nft", "flush", "ruleset")
    write(ns, "nft", f"-A POSTROUTING -s {POD} -j ACCEPT\n{KINDNET}")
    assert (await answer(ns)).holds is False
    # The next base chain sees what the one before accepted.
    run_inside(ns, "nft", "-f", "-", text=FLANNEL_NFT)
    assert (await answer(ns)).holds is True


async def test_a_verdict_map_leads_to_each_of_its_chains(ns: str) -> None:
    text = """table ip6 mine {{
 chain a {{ {}; }}
 chain b {{ return; }}
 chain out {{ type nat hook postrouting priority srcnat; meta l4proto vmap {{ tcp : jump a, udp : goto b }}; }}
}}
"""
    run_inside(ns, "nft", "-f", "-", text=text.format("counter"))
    found = await answer(ns)
    assert (found.holds, set(found.walked)) == (False, {"ip6 mine out", "ip6 mine a", "ip6 mine b"})
    run_inside(ns, "nft", "flush", "ruleset")
    run_inside(ns, "nft", "-f", "-", text=text.format("masquerade"))
    found = await answer(ns)
    assert found.holds is None
    assert "map __map0 in ip6 mine out" in found.doubts


async def test_who_translates_elsewhere_is_not_accused(ns: str) -> None:
    write(ns, "nft", "")
    assert (await answer(ns, Cni.CILIUM, ebpf="false")).holds is False
    assert (await answer(ns, Cni.CILIUM, ebpf="true")).holds is None
    assert (await answer(ns, Cni.OVN_KUBERNETES)).holds is None
    assert (await answer(ns, Cni.UNKNOWN)).holds is False
    batch({ns: ["link add cilium_host type veth peer name cilium_net"]})
    assert (await answer(ns, Cni.UNKNOWN)).holds is None


async def test_global_addresses_and_calicos_pools_ask_for_nothing(ns: str) -> None:
    write(ns, "nft", "")
    facts, _ = await read_host(DirectBroker(ns), settle=0, wish=HostWish(postrouting=True))
    assert judged(facts, inventory(Cni.FLANNEL, "2001:db8:1::7")) is None
    assert judged(facts, inventory(Cni.CALICO, POD)) is None
    assert judged(replace(facts, postrouting=None), inventory(Cni.FLANNEL, POD)) is None
    either = judged(facts, inventory(Cni.FLANNEL))
    assert either is not None
    assert (either.holds, either.sources) == (False, (ip_address("fd00:42:0:1::2"),))


async def test_pods_that_are_treated_differently_give_no_answer(ns: str) -> None:
    write(ns, "nft", BRIDGE)
    found = await answer(ns, Cni.UNKNOWN, POD, "fd00:42:0:1::8")
    assert (found.holds, found.doubts) == (None, ("pods' addresses are treated differently",))


async def test_nothing_is_made_and_big_chains_are_not_asked_for(ns: str) -> None:
    broker = DirectBroker(ns)
    assert (await answer(ns, broker=broker)).holds is False
    assert (legacy_names(ns), run_inside(ns, "nft", "list", "ruleset")) == (b"", "")
    many = "".join(f":KUBE-SVC-{n:016} - [0:0]\n" for n in range(3000))
    jumps = "".join(f"-A KUBE-SERVICES -d fd98::{n:x} -j KUBE-SVC-{n:016}\n" for n in range(3000))
    write(ns, "nft", f":KUBE-SERVICES - [0:0]\n{many}-A OUTPUT -j KUBE-SERVICES\n{jumps}{FLANNEL}")
    sizes: dict[ReadTopic, int] = {}

    def note(topic: ReadTopic, given: TopicAnswer) -> TopicAnswer:
        sizes[topic] = len(given.data)
        return given

    broker = DirectBroker(ns, note)
    assert (await answer(ns, broker=broker)).holds is True
    assert len(broker.visits) <= 8
    assert not [t for t in sizes if t.topic is Topic.NFT_RULES and b"KUBE-S" in t.argument]
    assert sum(sizes.values()) < 30_000, sizes


async def test_what_could_not_be_read_is_not_known(ns: str) -> None:
    write(ns, "nft", FLANNEL)

    def fail(wanted: Topic) -> DirectBroker:
        return DirectBroker(ns, lambda topic, given: TopicAnswer(1) if topic.topic is wanted else given)

    facts, readings = await read_host(fail(Topic.NFT_BASE_CHAINS), settle=0, wish=HostWish(postrouting=True))
    assert {r.reader: r.reason for r in readings}["nat"] is Reason.NO_PERMISSION
    found = judged(facts, inventory(Cni.FLANNEL, POD))
    assert found is not None
    assert found.holds is None
    spoiled = DirectBroker(
        ns, lambda topic, given: TopicAnswer(1) if topic.argument == b"nat\0FLANNEL-POSTRTG" else given
    )
    found = await answer(ns, broker=spoiled)
    assert (found.holds, found.doubts) == (None, ("ip6 nat FLANNEL-POSTRTG was not read",))


@pytest.mark.parametrize(("variant", "seen_after"), [("nft", 1), ("legacy", 60)])
async def test_rules_are_read_each_round_and_what_is_slow_each_minute(ns: str, variant: str, seen_after: int) -> None:
    now, facts = 1000.0, None

    async def look() -> tuple[bool | None, set[Topic]]:
        nonlocal facts
        broker = DirectBroker(ns)
        facts, _ = await read_host(broker, previous=facts, settle=0, wish=HostWish(postrouting=True), clock=lambda: now)
        found = judged(facts, inventory(Cni.FLANNEL, POD))
        assert found is not None
        return found.holds, {topic.topic for visit in broker.visits for topic in visit}

    slow = {"nft": Topic.NFT_BASE_CHAINS, "legacy": Topic.LEGACY_REACHABLE}[variant]
    write(ns, variant, FLANNEL)
    holds, asked = await look()
    assert holds is True
    assert slow in asked
    run_inside(ns, f"ip6tables-{variant}", "-t", "nat", "-F", "FLANNEL-POSTRTG")
    now += seen_after - 1
    holds, asked = await look()
    assert holds is (variant == "legacy")
    assert slow not in asked
    now += 61 - seen_after
    holds, asked = await look()
    assert holds is False
    assert slow in asked


async def test_a_new_table_is_seen_at_once(ns: str) -> None:
    write(ns, "nft", "")
    facts, _ = await read_host(DirectBroker(ns), settle=0, wish=HostWish(postrouting=True))
    run_inside(ns, "nft", "-f", "-", text=FLANNEL_NFT)
    facts, _ = await read_host(DirectBroker(ns), previous=facts, settle=0, wish=HostWish(postrouting=True))
    found = judged(facts, inventory(Cni.FLANNEL, POD))
    assert found is not None
    assert found.holds is True
