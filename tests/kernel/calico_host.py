"""One namespace that takes the part of a host, and Calico's rules written into it with the real tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from exporter.broker.server.kernel.topics import read_topics
from exporter.kernel.read import requests
from exporter.kernel.read.readers import read_host
from exporter.model.facts import HostFacts, NatBackend, NatFacts, ReaderStatus
from exporter.model.family import Family
from tests.kernel.calico_rules import NEW_ALL_POOLS, NatInput, ipset_restore, nat_restore
from tests.kernel.direct_broker import DirectBroker
from tests.kernel.namespaces import batch, call_inside, create, delete, run_inside, unique_prefix

POOL = "fd00:10:244::/48"
RULES = NatInput(
    six=True,
    pools=(POOL,),
    all_pools=(POOL,),
    all_set=NEW_ALL_POOLS,
    tunnel="vxlan-v6.calico",
    service="fd00:10:96::50",
    endpoints=("fd00:10:244:1::41",),
    pod_range=POOL,
)
MASQ = RULES.masq_set


@contextmanager
def host_namespace() -> Iterator[str]:
    """A namespace with nothing in it but a loopback link that is up."""
    name = unique_prefix() + "host"
    create([name])
    batch({name: ["link set lo up"]})
    try:
        yield name
    finally:
        delete([name])


def restore(ns: str, variant: str, text: str, *, six: bool = True) -> None:
    wait = ["-w", "30"] if variant == "legacy" else []
    run_inside(ns, f"ip{'6' if six else ''}tables-{variant}-restore", *wait, text=text)


def write_calico(ns: str, variant: str, rules: NatInput = RULES) -> None:
    run_inside(ns, "ipset", "restore", text=ipset_restore(rules))
    restore(ns, variant, nat_restore(rules), six=rules.six)


async def look(ns: str) -> tuple[HostFacts, dict[str, ReaderStatus]]:
    facts, readings = await read_host(DirectBroker(ns), settle=0)
    return facts, {r.reader: r for r in readings}


async def nat_of(ns: str) -> NatFacts:
    facts, readings = await look(ns)
    assert readings["nat"].success, readings["nat"]
    assert facts.nat is not None
    return facts.nat


async def live(ns: str) -> NatBackend:
    found = (await nat_of(ns)).live(Family.V6)
    assert found is not None
    return found


def legacy_names(ns: str) -> bytes:
    return call_inside(ns, read_topics, tuple(requests.LEGACY_TABLES.values()))[1].data
