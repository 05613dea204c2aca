"""Where the sample days look from, what they ask, and what came back: vantages, targets, observations, lookups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from exporter.model.family import FAMILIES, Family
from exporter.model.probe import (
    Group,
    Layer,
    Lookup,
    LookupOutcome,
    Nameserver,
    Observation,
    Outcome,
    Purpose,
    Question,
    Target,
)
from exporter.model.vantage import Netns, PodState, Vantage

V4, V6 = Family.V4, Family.V6
NODE = "node-a"
NOW = 1_795_169_430.0  # 2026-11-20 10:10:30 UTC
STARTED = NOW - 3.2

HOST = Vantage(kind="host", namespace="", name=NODE, netns=Netns(device=4, inode=4026531840))


def pod(number: int, namespace: str, name: str, state: PodState = PodState.ELIGIBLE) -> Vantage:
    return Vantage(
        kind="pod",
        namespace=namespace,
        name=name,
        netns=Netns(device=4, inode=4026540000 + number, pid=20_000 + number, started=number),
        state=state,
        uid=f"00000000-0000-4000-8000-{number:012d}",
        addresses=(ip_address(f"10.1.17.{number % 250 + 2}"), ip_address(f"fd00:10:1:17::{number + 2:x}")),
    )


WEB, CART, DB = pod(1, "shop", "web-6c9f7d5b8-2xkqp"), pod(2, "shop", "cart-7d4b9c-9mzlw"), pod(3, "shop", "db-0")
COREDNS, ALPINE, OLD = (
    pod(4, "kube-system", "coredns-864597b5fd-x2x7m"),
    pod(5, "tools", "alpine-0"),
    pod(6, "tools", "before-ipv6-0"),
)
ELIGIBLE = (WEB, CART, DB, COREDNS, ALPINE, OLD)
SKIPPED = (
    pod(7, "kube-system", "calico-node-h8r5t", PodState.HOST_NETWORK),
    pod(8, "shop", "web-6c9f7d5b8-going", PodState.TERMINATING),
    pod(9, "mesh", "payments-0", PodState.INTERCEPTED),
)

PYPI = Target(
    name="pypi",
    group=Group.OUTSIDE,
    addresses={V4: ip_address("198.51.100.80"), V6: ip_address("2001:db8:ffff::80")},
    port=443,
    layers=(Layer.ICMP, Layer.TCP, Layer.TLS, Layer.HTTP),
    host="pypi.org",
)
SERVICE = Target(
    name="service",
    group=Group.SERVICE,
    addresses={V4: ip_address("10.152.183.40"), V6: ip_address("fd00:10:2::40")},
    port=10046,
)
CLUSTER_DNS = Target(name="cluster_dns", group=Group.CLUSTER_DNS, addresses={V4: ip_address("10.152.183.10")}, port=53)
APISERVER = Target(name="apiserver", group=Group.APISERVER, addresses={V4: ip_address("10.152.183.1")}, port=443)
PEER_B, PEER_C = (
    Target(
        name="peers",
        group=Group.PEERS,
        addresses={V4: ip_address(f"10.1.{number}.0"), V6: ip_address(f"fd00:10:1:{number}::1")},
        port=10046,
        layers=(Layer.ICMP, Layer.TCP),
        peer=name,
    )
    for number, name in ((18, "node-b"), (19, "node-c"))
)
BLOCKED = Target(
    name="metadata", group=Group.OUTSIDE, addresses={V4: ip_address("169.254.169.254")}, port=80, expect_reachable=False
)


def seen(
    vantage: Vantage,
    target: Target,
    layer: Layer,
    family: Family,
    outcome: Outcome = Outcome.OK,
    *,
    seconds: float | None = 0.004,
    detail: str = "",
    expires: float | None = None,
) -> Observation:
    return Observation(
        vantage=vantage,
        target=target,
        layer=layer,
        family=family,
        outcome=outcome,
        seconds=seconds if outcome is Outcome.OK or seconds != 0.004 else None,
        detail=detail,
        time=STARTED + 1.5,
        address=target.addresses.get(family),
        expires=expires,
    )


def _to_pypi(vantage: Vantage, family: Family) -> Iterator[Observation]:
    broken = family is V6 and vantage.kind == "pod"
    if broken:
        unreachable = vantage is OLD
        outcome = Outcome.UNREACHABLE if unreachable else Outcome.TIMEOUT
        detail = "connect: network is unreachable" if unreachable else "no answer to SYN within 3 s"
        yield seen(vantage, PYPI, Layer.ICMP, family, outcome, detail="no echo reply within 1 s")
        yield seen(vantage, PYPI, Layer.TCP, family, outcome, detail=detail)
        yield seen(vantage, PYPI, Layer.TLS, family, Outcome.NOT_REACHED)
        yield seen(vantage, PYPI, Layer.HTTP, family, Outcome.NOT_REACHED)
        return
    yield seen(vantage, PYPI, Layer.ICMP, family, seconds=0.0123)
    yield seen(vantage, PYPI, Layer.TCP, family, seconds=0.0126)
    yield seen(vantage, PYPI, Layer.TLS, family, seconds=0.0301, expires=NOW + 40 * 86_400)
    if vantage is CART:
        yield seen(vantage, PYPI, Layer.HTTP, family, Outcome.STATUS, detail="503 Service Unavailable")
    else:
        yield seen(vantage, PYPI, Layer.HTTP, family, seconds=0.0450)


def observe(pods: tuple[Vantage, ...]) -> Iterator[Observation]:
    for number, vantage in enumerate((HOST, *pods)):
        for family in FAMILIES:
            yield from _to_pypi(vantage, family)
            yield seen(vantage, SERVICE, Layer.TCP, family, seconds=0.0004)
            for peer in (PEER_B, PEER_C) if vantage is HOST else ((PEER_B, PEER_C)[number % 2],):
                down = peer is PEER_C and vantage is HOST and family is V6
                yield seen(vantage, peer, Layer.ICMP, family, seconds=0.0007)
                yield seen(
                    vantage,
                    peer,
                    Layer.TCP,
                    family,
                    Outcome.TIMEOUT if down else Outcome.REFUSED,
                    seconds=None if down else 0.0008,
                    detail="no answer to SYN within 3 s" if down else "connection refused",
                )
        yield seen(vantage, CLUSTER_DNS, Layer.TCP, V4, seconds=0.0005)
    yield seen(HOST, APISERVER, Layer.TCP, V4, seconds=0.0009)
    yield seen(HOST, BLOCKED, Layer.TCP, V4, Outcome.TIMEOUT, detail="no answer to SYN within 3 s")
    yield replace(seen(DB, PYPI, Layer.TCP, V6, Outcome.PROHIBITED, detail="administratively prohibited"), policy=True)


CLUSTER_SERVER = Nameserver(ip_address("10.152.183.10"), "cluster_dns")
HOST_SERVER = Nameserver(ip_address("192.0.2.53"), "host")


def lookup(vantage: Vantage, server: Nameserver, label: str, qtype: str, outcome: LookupOutcome) -> Lookup:
    question = Question(
        vantage=vantage, server=server, name=f"{label}.test", qtype=qtype, label=label, purpose=Purpose.VERDICT
    )
    return Lookup(
        question=question,
        outcome=outcome,
        seconds=None if outcome is LookupOutcome.TIMEOUT else 0.002,
        time=STARTED + 0.4,
    )


def ask() -> Iterator[Lookup]:
    for vantage in (WEB, ALPINE):
        yield lookup(vantage, CLUSTER_SERVER, "pypi.org", "A", LookupOutcome.ANSWER)
        yield lookup(vantage, CLUSTER_SERVER, "pypi.org", "AAAA", LookupOutcome.NODATA)
    yield lookup(WEB, CLUSTER_SERVER, "canary", "A", LookupOutcome.ANSWER)
    yield lookup(WEB, CLUSTER_SERVER, "canary", "AAAA", LookupOutcome.NODATA)
    yield lookup(WEB, CLUSTER_SERVER, "random", "AAAA", LookupOutcome.NODATA)
    yield lookup(WEB, CLUSTER_SERVER, "random", "MX", LookupOutcome.NXDOMAIN)
    yield lookup(HOST, HOST_SERVER, "pypi.org", "A", LookupOutcome.ANSWER)
    yield lookup(HOST, HOST_SERVER, "pypi.org", "AAAA", LookupOutcome.ANSWER)
    yield lookup(HOST, HOST_SERVER, "random", "AAAA", LookupOutcome.TIMEOUT)
