"""tls against real TLS servers with a CA of the test's own: each reason for not believing a server is told apart."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Layer, Observation, Outcome
from exporter.probes import tls as tls_module
from exporter.probes.engine.driver import EpollDriver
from exporter.probes.outcome import PhaseError
from exporter.probes.ports import LocalNetwork
from exporter.probes.runner import Deadline, ProbeRunner
from exporter.probes.tls import NAMELESS, TlsContexts
from exporter.telemetry.logs import InternalErrors
from tests.wire.loopback import (
    LOOPBACK,
    SHORT,
    Noting,
    assert_ended_after,
    cancel,
    closed_port,
    make_check,
    patient_but,
    run,
    serve,
)

NAME = "web.test"
SECURE = (Layer.TCP, Layer.TLS, Layer.HTTP)
pytestmark = pytest.mark.usefixtures("driver")
both_families = pytest.mark.parametrize("family", FAMILIES)


def days(number: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=number)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


def server_context(certificate: trustme.LeafCert, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    for name, value in options.items():
        setattr(context, name, value)
    return context


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await writer.drain()


async def probe(family: Family, context: ssl.SSLContext | None, ca_file: str, **target: Any) -> list[Observation]:
    async with serve(family, answer, ssl=context) as port:
        return await run(make_check(family, port, SECURE, ca_file=ca_file, **{"host": NAME} | target))


@both_families
async def test_the_right_certificate(family: Family, authority: trustme.CA, ca_file: str) -> None:
    context = server_context(authority.issue_cert(NAME))
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    tcp, tls, http = await probe(family, context, ca_file)
    assert [o.outcome for o in (tcp, tls, http)] == [Outcome.OK] * 3
    assert asked == [NAME]
    assert tcp.expires is None
    assert http.expires is None


@both_families
async def test_the_expiry_is_the_earliest_of_the_chain(family: Family, authority: trustme.CA, ca_file: str) -> None:
    end = days(3)
    _, tls, _ = await probe(family, server_context(authority.issue_cert(NAME, not_after=end)), ca_file)
    assert tls.expires == end.timestamp()


async def test_an_intermediate_that_ends_before_the_leaf_is_the_earliest(tmp_path: Path) -> None:
    root = trustme.CA()
    middle = root.create_child_ca()
    root.cert_pem.write_to_path(str(tmp_path / "root.pem"))
    leaf = middle.issue_cert(NAME, not_after=datetime(9000, 1, 1, tzinfo=UTC))
    _, tls, _ = await probe(Family.V6, server_context(leaf), str(tmp_path / "root.pem"))
    assert tls.outcome is Outcome.OK
    assert tls.expires is not None
    assert tls.expires < datetime(9000, 1, 1, tzinfo=UTC).timestamp()  # of a CA, not of the leaf


@both_families
@pytest.mark.parametrize(
    ("issue", "outcome", "detail"),
    [
        (lambda ca: ca.issue_cert("other.test"), Outcome.TLS_NAME, "Hostname mismatch"),
        (lambda ca: ca.issue_cert(NAME, not_before=days(-9), not_after=days(-1)), Outcome.TLS_EXPIRED,
            "certificate has expired"),
        (lambda ca: ca.issue_cert(NAME, not_before=days(1), not_after=days(9)), Outcome.TLS_EXPIRED,
            "certificate is not yet valid"),
        (lambda _: trustme.CA().issue_cert(NAME), Outcome.TLS_CHAIN, "unable to get local issuer certificate"),
    ],
    ids=["wrong name", "expired", "not yet valid", "unknown CA"],
)  # fmt: skip
async def test_why_a_certificate_is_not_believed(
    family: Family,
    issue: Callable[[trustme.CA], trustme.LeafCert],
    outcome: Outcome,
    detail: str,
    authority: trustme.CA,
    ca_file: str,
) -> None:
    tcp, tls, http = await probe(family, server_context(issue(authority)), ca_file)
    assert [o.outcome for o in (tcp, tls, http)] == [Outcome.OK, outcome, Outcome.NOT_REACHED]
    assert detail in tls.detail


async def test_the_systems_authorities_do_not_vouch_for_a_foreign_one(authority: trustme.CA) -> None:
    _, tls, _ = await probe(Family.V6, server_context(authority.issue_cert(NAME)), "")
    assert tls.outcome is Outcome.TLS_CHAIN


async def test_a_server_name_is_what_is_verified_and_the_host_is_not(authority: trustme.CA, ca_file: str) -> None:
    context = server_context(authority.issue_cert("inner.test"))
    _, tls, http = await probe(Family.V6, context, ca_file, host="outer.test", server_name="inner.test")
    assert (tls.outcome, http.outcome) == (Outcome.OK, Outcome.OK)


@both_families
@pytest.mark.parametrize("host", ["", "literal"])
async def test_a_literal_address_without_a_server_name_is_explained_and_no_hello_is_sent(
    family: Family, host: str
) -> None:
    said: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        said.put_nowait(await reader.read())

    async with serve(family, listen) as port:
        literal = str(LOOPBACK[family]) if host else ""
        tcp, tls, http = await run(make_check(family, port, SECURE, host=literal))
        assert await asyncio.wait_for(said.get(), 5) == b""
    assert [o.outcome for o in (tcp, tls, http)] == [Outcome.OK, Outcome.TLS_NAME, Outcome.NOT_REACHED]
    assert tls.detail == NAMELESS


@both_families
async def test_an_address_may_be_the_name_where_the_operator_says_so(
    family: Family, authority: trustme.CA, ca_file: str
) -> None:
    literal = str(LOOPBACK[family])
    context = server_context(authority.issue_cert(literal))
    _, tls, _ = await probe(family, context, ca_file, host=literal, server_name=literal)
    assert tls.outcome is Outcome.OK
    _, tls, _ = await probe(family, context, ca_file, host=literal, server_name="192.0.2.1")
    assert tls.outcome is Outcome.TLS_NAME


@pytest.mark.parametrize(
    "name", [".web.test", "a..b", "x" * 64 + ".test", "nul\0.test", "a b.test", "\n", ".", "ü" * 300]
)
async def test_an_impossible_name_is_an_outcome(name: str, authority: trustme.CA, ca_file: str) -> None:
    network = Noting()
    async with serve(Family.V6, answer, ssl=server_context(authority.issue_cert(NAME))) as port:
        check = make_check(Family.V6, port, SECURE, ca_file=ca_file, server_name=name)
        _, tls, _ = await run(check, network)
        network.assert_all_closed()
    assert tls.outcome is Outcome.TLS_NAME


@both_families
@pytest.mark.parametrize(
    "greeting",
    [b"220 mail.test ESMTP\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 4096,
        b"\x16\x03\x03\x00\x04\xff\xff\xff\xff", b"\x15\x03\x03\x00\x02\x02\x46", b""],
    ids=["mail", "plain http", "zeroes", "garbage handshake", "alert", "end"],
)  # fmt: skip
async def test_a_server_that_does_not_speak_tls(family: Family, greeting: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(greeting)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with serve(family, greet) as port:
        tcp, tls, http = await run(make_check(family, port, SECURE, host=NAME))
    assert [o.outcome for o in (tcp, tls, http)] == [Outcome.OK, Outcome.TLS_PROTOCOL, Outcome.NOT_REACHED]
    assert tls.detail


@both_families
@pytest.mark.parametrize("piece", [b"\x16\x03\x03\x40\x00", b""], ids=["a record that never ends", "silence"])
async def test_a_handshake_that_never_ends_ends_at_its_timeout(family: Family, piece: bytes) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(piece)
        while piece and not reader.at_eof():
            writer.write(b"\x02")
            await writer.drain()
            await asyncio.sleep(0.01)
        await reader.read()

    async with serve(family, trickle) as port:
        check = make_check(family, port, SECURE, host=NAME, timeouts=patient_but(Layer.TLS, SHORT))
        tcp, tls, http = await run(check)
    assert [o.outcome for o in (tcp, tls, http)] == [Outcome.OK, Outcome.TIMEOUT, Outcome.NOT_REACHED]
    assert_ended_after(SHORT, tls.seconds)


@both_families
async def test_cancelling_in_the_middle_of_the_handshake_leaves_no_socket_open(family: Family) -> None:
    network, arrived = Noting(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)
        arrived.set()
        await reader.read()

    async with serve(family, say_nothing) as port:
        task = asyncio.create_task(run(make_check(family, port, SECURE, host=NAME), network))
        await asyncio.wait_for(arrived.wait(), 5)
        await cancel(task)
        network.assert_all_closed()


async def test_cancelling_while_it_waits_for_a_reply_over_tls_leaves_no_socket_open(
    authority: trustme.CA, ca_file: str
) -> None:
    network, arrived = Noting(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()

    async with serve(Family.V6, say_nothing, ssl=server_context(authority.issue_cert(NAME))) as port:
        task = asyncio.create_task(run(make_check(Family.V6, port, SECURE, host=NAME, ca_file=ca_file), network))
        await asyncio.wait_for(arrived.wait(), 5)
        await cancel(task)
        network.assert_all_closed()


@both_families
async def test_a_failed_or_finished_handshake_leaves_no_socket_open(
    family: Family, authority: trustme.CA, ca_file: str
) -> None:
    network = Noting()
    for name in (NAME, "other.test"):
        async with serve(family, answer, ssl=server_context(authority.issue_cert(name))) as port:
            await run(make_check(family, port, SECURE, host=NAME, ca_file=ca_file), network)
            network.assert_all_closed()


async def test_tls_and_http_need_no_tcp_layer_to_be_told(authority: trustme.CA, ca_file: str) -> None:
    async with serve(Family.V6, answer, ssl=server_context(authority.issue_cert(NAME))) as port:
        observations = await run(make_check(Family.V6, port, (Layer.HTTP, Layer.TLS), host=NAME, ca_file=ca_file))
    assert [(o.layer, o.outcome) for o in observations] == [(Layer.TLS, Outcome.OK), (Layer.HTTP, Outcome.OK)]


async def test_an_unreadable_ca_file_is_our_own_trouble(tmp_path: Path) -> None:
    async with serve(Family.V6, answer) as port:
        _, tls, _ = await run(make_check(Family.V6, port, SECURE, host=NAME, ca_file=str(tmp_path / "none.pem")))
    assert (tls.outcome, tls.counted) == (Outcome.LOCAL, False)
    assert "none.pem" in tls.detail


async def test_a_refused_connection_reads_no_ca_file() -> None:
    with closed_port(Family.V6) as port:
        tcp, _, _ = await run(make_check(Family.V6, port, SECURE, host=NAME, ca_file="/nonexistent"))
    assert tcp.outcome is Outcome.REFUSED


def test_a_context_is_made_once_for_a_file_and_again_when_the_file_changes(authority: trustme.CA, ca_file: str) -> None:
    contexts = TlsContexts()
    first = contexts.of(ca_file)
    assert contexts.of(ca_file) is first
    assert contexts.of("") is contexts.of("") is not first
    os.utime(ca_file, ns=(1, 1))
    assert contexts.of(ca_file) is not first
    Path(ca_file).write_text("not a certificate")
    with pytest.raises(PhaseError) as garbage:
        contexts.of(ca_file)
    assert garbage.value.outcome is Outcome.LOCAL
    authority.cert_pem.write_to_path(ca_file)
    assert contexts.of(ca_file).get_ca_certs()


async def test_loading_authorities_is_no_part_of_any_handshakes_time(
    authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first handshake needs them, which is that of one family: it would look slower than the other."""
    ages, late = 3600.0, 0.0

    def load(path: str) -> ssl.SSLContext:
        nonlocal late
        late += ages
        return make(path)

    make, clock = tls_module._make_context, time.perf_counter
    monkeypatch.setattr(tls_module, "_make_context", load)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late)
    secure = server_context(authority.issue_cert(NAME))
    async with serve(Family.V4, answer, ssl=secure) as four, serve(Family.V6, answer, ssl=secure) as six:
        ports = {Family.V4: four, Family.V6: six}
        checks = [make_check(f, port, SECURE, ca_file=ca_file, host=NAME) for f, port in ports.items()]
        runner = ProbeRunner(EpollDriver(LocalNetwork()), TlsContexts(), InternalErrors(), clock=time.time)
        made = await runner.check_all(checks, Deadline(asyncio.get_running_loop().time() + 60))
    assert late == ages
    assert [(o.outcome, o.seconds is not None and o.seconds < ages) for o in made] == [(Outcome.OK, True)] * 6


def test_every_context_verifies(ca_file: str) -> None:
    for name in ("", ca_file):
        context = TlsContexts().of(name)
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
