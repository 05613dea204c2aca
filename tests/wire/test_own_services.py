"""Finding the cluster role's Service from a pod that has the host's resolver: by the kubelet's variables, never by
asking outside.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest

from exporter.digest.format import Digest
from exporter.digest.publisher import DigestPublisher
from exporter.digest.service_env_resolver import ServiceEnvResolver, is_cluster_name, is_cluster_resolver
from exporter.digest.source import DigestClient
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.reason import Reason
from tests.unit import recorded
from tests.wire.kubernetes_lab import until
from tests.wire.test_kubernetes_digest import Clock, looking, report, web_server

HOST = "dualstack-exporter-cluster.dualstack-exporter.svc"
VARIABLE = "DUALSTACK_EXPORTER_CLUSTER_SERVICE_HOST"


def services(
    directory: Path, variables: dict[str, str], *, namespace: str = "dualstack-exporter", conf: str = ""
) -> ServiceEnvResolver:
    (directory / "namespace").write_text(namespace)
    (directory / "resolv.conf").write_text(conf or "nameserver 192.0.2.1\nsearch corp.example\n")
    return ServiceEnvResolver(variables, namespace=directory / "namespace", resolv_conf=directory / "resolv.conf")


@pytest.mark.parametrize(
    "host",
    [
        "dualstack-exporter-cluster",
        "dualstack-exporter-cluster.dualstack-exporter",
        HOST,
        f"{HOST}.cluster.local",
        f"{HOST}.cluster.local.",
    ],
)
@pytest.mark.parametrize("address", ["10.96.3.4", "fd98::34"])
def test_the_kubelets_variable_is_the_address_of_every_form_of_the_name(
    tmp_path: Path, host: str, address: str
) -> None:
    assert services(tmp_path, {VARIABLE: address}).env_address(host) == ip_address(address)


@pytest.mark.parametrize(
    ("host", "value"),
    [
        ("dualstack-exporter-cluster.elsewhere.svc", "10.96.3.4"),
        ("dualstack-exporter-cluster.dualstack-exporter.example", "10.96.3.4"),
        ("other.dualstack-exporter.svc", "10.96.3.4"),
        (HOST, ""),
        (HOST, "None"),
        (HOST, "tcp://10.96.3.4:10046"),
        (HOST, "$(DUALSTACK_EXPORTER_CLUSTER_SERVICE_HOST)"),
    ],
)
def test_no_other_name_and_no_other_text_is_taken_for_it(tmp_path: Path, host: str, value: str) -> None:
    assert services(tmp_path, {VARIABLE: value}).env_address(host) is None


def test_without_a_service_account_the_namespace_is_not_guessed(tmp_path: Path) -> None:
    nowhere = ServiceEnvResolver({VARIABLE: "10.96.3.4"}, namespace=tmp_path / "none", resolv_conf=tmp_path / "none")
    assert nowhere.env_address(HOST) is None
    assert nowhere.env_address("dualstack-exporter-cluster") == ip_address("10.96.3.4")


def test_cluster_names_and_cluster_resolvers_are_known_by_their_form() -> None:
    assert is_cluster_name(HOST)
    assert is_cluster_name(f"{HOST}.corp.example.")
    assert not any(map(is_cluster_name, ("digest.example", "svc", "a.svc", "svc.a.example", "a.b.csvc", "")))
    assert is_cluster_resolver(b"search monitoring.svc.cluster.local svc.cluster.local cluster.local\n")
    assert not is_cluster_resolver(b"nameserver 192.0.2.1\nsearch corp.example svc\n")
    assert not is_cluster_resolver(b"")


async def test_a_cluster_name_is_not_asked_of_a_resolver_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def resolve(self: object, host: str, *rest: object) -> list[aiohttp.abc.ResolveResult]:
        asked.append(host)
        return []

    monkeypatch.setattr(aiohttp.resolver.ThreadedResolver, "resolve", resolve)
    outside = services(tmp_path, {})
    with pytest.raises(OSError, match="not among the Services"):
        await outside.resolve(HOST, 10046)
    assert asked == []
    await outside.resolve("digest.example", 443)
    assert asked == ["digest.example"]
    inside = services(tmp_path, {}, conf="nameserver 10.96.0.10\nsearch x.svc.cluster.local svc.cluster.local\n")
    await inside.resolve(HOST, 10046)
    assert asked == ["digest.example", HOST]


async def test_a_node_whose_pod_came_before_the_service_runs_and_says_why_it_has_no_digest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="exporter.digest")
    clock = Clock()
    publisher = DigestPublisher(clock)
    publisher.publish(report(recorded.cluster("healthy-dual-stack"), clock.now))
    variables: dict[str, str] = {}
    async with web_server(publisher) as port:
        url = f"http://{HOST}:{port}/api/v1/digest"
        client = DigestClient(url, every=0.01, clock=clock, resolver=services(tmp_path, variables))
        async with looking(client):
            await client.tried.wait()
            assert client.digest is None
            assert "not among the Services that the kubelet told this pod at its start]" in str(
                [vars(r) for r in caplog.records]
            )
            variables[VARIABLE] = "127.0.0.1"  # as in the pod that replaces it
            await until(lambda: "the digest comes again" in [r.message for r in caplog.records])
            assert client.digest is not None


def test_a_node_without_a_whole_digest_asks_again_soon_and_then_at_its_usual_pace() -> None:
    client = DigestClient("http://[::1]:1/")
    paces = []
    for look in range(8):
        client._requests = look
        paces.append(client.interval)
    assert paces == [2, 4, 8, 16, 30, 30, 30, 30]
    healthy = recorded.cluster("healthy-dual-stack")
    client._requests = 1
    client.digest = Digest(
        replace(healthy, unread={ResourceKind.IP_POOLS: Reason.API_UNAVAILABLE})
    )  # the cluster role reads yet
    assert client.interval == 4
    client.digest = Digest(healthy)
    assert client.interval == 30
