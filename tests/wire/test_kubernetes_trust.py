"""Whom the API client and the digest's client trust: whom Kubernetes' own clients trust, whatever Python's version is
strict about.

Python 3.13 and newer are strict by default; older ones are made so here, in the way the newer ones are.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import incluster_config

from exporter.digest.format import MEDIA, VERSION, write_digest
from exporter.digest.source import DigestClient
from exporter.inventory.fetching import trust_as_go
from exporter.inventory.kubernetes.api_error import ApiError, one_line
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.credentials import Loader, load_kubeconfig, load_service_account
from exporter.inventory.kubernetes.source import KubernetesSource
from exporter.inventory.kubernetes.watched_resources import NODES
from tests.unit import recorded
from tests.wire.kubernetes_api import serving
from tests.wire.kubernetes_lab import PATIENCE, TEMPO, recorded_api, until, write_kubeconfig
from tests.wire.plain_authority import PlainAuthority

WHY = r"CA cert does not include key usage extension|Missing Authority Key Identifier"


@pytest.fixture
def plain(tmp_path: Path) -> PlainAuthority:
    return PlainAuthority(tmp_path)


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contexts as Python 3.13 makes them."""
    make = ssl.create_default_context

    def strictly(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = make(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strictly)


def server_context(chain: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


@asynccontextmanager
async def api_server(loader: Loader) -> AsyncIterator[ApiServer]:
    server = ApiServer(await loader(), loader)
    try:
        yield server
    finally:
        await server.close()


def kubeconfig(directory: Path, bundle: Path) -> Callable[[int], Loader]:
    def at(port: int) -> Loader:
        path = write_kubeconfig(directory, f"https://127.0.0.1:{port}", **{"certificate-authority": str(bundle)})
        return lambda: load_kubeconfig(str(path))

    return at


def service_account(directory: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Loader]:
    token = directory / "token"
    token.write_text("secret")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(bundle))

    def at(port: int) -> Loader:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
        return load_service_account

    return at


@pytest.mark.parametrize("by", ["kubeconfig", "service account"])
async def test_an_api_server_is_trusted_whose_authority_lacks_what_go_does_not_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: PlainAuthority, by: str
) -> None:
    at = (
        kubeconfig(tmp_path, plain.bundle)
        if by == "kubeconfig"
        else service_account(tmp_path, plain.bundle, monkeypatch)
    )
    async with serving(recorded_api(), context=server_context(plain.chain)) as port:
        loader = at(port)
        async with api_server(loader) as server:
            assert (await server.get("/version")).status == 200
        made = await loader()
        assert not made.ssl_context.verify_flags & ssl.VERIFY_X509_STRICT
        # The same client as the package makes it is refused: what is looked at here is really strict.
        async with api_server(_as_the_package_does(loader)) as strict:
            with pytest.raises(ApiError, match=WHY):
                await strict.get("/version")


def _as_the_package_does(loader: Loader) -> Loader:
    async def load() -> RESTClientObject:
        return RESTClientObject((await loader()).configuration)

    return load


async def test_the_digest_is_fetched_from_such_a_server_as_well(
    monkeypatch: pytest.MonkeyPatch, plain: PlainAuthority
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(plain.bundle))
    body = write_digest(recorded.cluster("healthy-dual-stack"), (), 0.0)

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": MEDIA.format(VERSION), "Age": "0"})

    async with _https(answer, plain) as url:
        client = DigestClient(url, every=0.02)
        task = asyncio.create_task(client.run())
        try:
            async with asyncio.timeout(PATIENCE):
                await client.tried.wait()
        finally:
            task.cancel()
        assert client.digest is not None
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError, match=WHY):
                await session.get(url, ssl=ssl.create_default_context())


@asynccontextmanager
async def _https(
    answer: Callable[[web.BaseRequest], Awaitable[web.Response]], plain: PlainAuthority
) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(plain.chain)).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/api/v1/digest"
    finally:
        await runner.cleanup()


def test_chain_name_and_validity_are_verified_as_ever() -> None:
    context = trust_as_go(ssl.create_default_context())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


async def test_why_a_certificate_is_not_trusted_is_said_whole_in_the_log_and_of_the_inventory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, plain: PlainAuthority
) -> None:
    caplog.set_level(logging.INFO, logger="exporter.inventory")
    bundle = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(bundle)
    async with serving(recorded_api(), context=server_context(plain.chain)) as port:
        loader = kubeconfig(tmp_path, bundle)(port)
        source = KubernetesSource(ApiServer(await loader(), loader), [NODES], timings=TEMPO)
        running = asyncio.create_task(source.run())
        try:
            await until(lambda: "unable to get local issuer certificate" in source.current().problem)
            assert source.current().problem.startswith(
                f"https://127.0.0.1:{port}: unreachable: its certificate is not trusted: "
            )
            await until(lambda: caplog.records)
        finally:
            running.cancel()
    (record,) = [r for r in caplog.records if r.message.startswith("the API server fails")]
    assert "unable to get local issuer certificate" in str(vars(record))


def test_the_reason_of_a_certificate_error_stands_first() -> None:
    inner = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    inner.verify_message = "CA cert does not include key usage extension"

    class Refused(Exception):  # noqa: N818 - as aiohttp's: the reason in an attribute, and last in a long text
        certificate_error = inner

    assert one_line(Refused("x" * 1000)) == "Refused: CA cert does not include key usage extension"
