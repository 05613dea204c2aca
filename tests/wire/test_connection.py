"""tcp and http against real sockets on both loopback addresses: what each way to fail comes to, and that no socket
stays open.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from exporter.broker.protocol.messages import NUMBERS
from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Group, Layer, Outcome, Timeouts
from exporter.model.vantage import Vantage
from exporter.probes.ports import BIND_TRIES, LocalNetwork, PortAllocator
from tests.wire.loopback import (
    DOMAIN,
    HOST,
    LOOPBACK,
    PATIENT,
    SHORT,
    Answering,
    Handler,
    Noting,
    assert_ended_after,
    black_hole,
    cancel,
    closed_port,
    listener,
    make_check,
    outcomes,
    patient_but,
    run,
    serve,
)

WEB = (Layer.TCP, Layer.HTTP)
pytestmark = pytest.mark.usefixtures("driver")
both_families = pytest.mark.parametrize("family", FAMILIES)


def replying(reply: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()

    return handle


async def keep_open(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@both_families
async def test_an_accepted_connection_is_ok_and_timed(family: Family) -> None:
    with listener(family) as sock:
        (observation,) = await run(make_check(family, sock.getsockname()[1]))
    assert observation.outcome is Outcome.OK
    assert observation.seconds is not None
    assert 0 < observation.seconds < PATIENT.layers[Layer.TCP]
    assert observation.address == LOOPBACK[family]
    assert observation.passed


@both_families
async def test_a_closed_port_refuses(family: Family) -> None:
    with closed_port(family) as port:
        (observation,) = await run(make_check(family, port))
    assert observation.outcome is Outcome.REFUSED
    assert observation.detail == "Connection refused"
    assert not observation.passed


SECOND, THIRD = ip_address("127.0.0.2"), ip_address("127.0.0.3")


@pytest.mark.parametrize("layers", [(Layer.TCP,), (Layer.HTTP,)])
async def test_the_addresses_of_a_name_are_tried_until_one_arrives(layers: tuple[Layer, ...]) -> None:
    async with serve(Family.V4, replying(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        others = {Family.V4: (SECOND, LOOPBACK[Family.V4])}
        (observation,) = await run(make_check(Family.V4, port, layers, address=THIRD, others=others))
    assert (observation.outcome, observation.address) == (Outcome.OK, LOOPBACK[Family.V4])


async def test_a_pod_of_a_peer_that_refuses_has_been_reached() -> None:
    with closed_port(Family.V4) as port, socket.create_server((str(SECOND), port)):
        others = {Family.V4: (SECOND,)}
        (pod,) = await run(make_check(Family.V4, port, group=Group.PEERS, peer="babel", others=others))
        (name,) = await run(make_check(Family.V4, port, others=others))
    assert (pod.outcome, pod.passed, pod.address) == (Outcome.REFUSED, True, LOOPBACK[Family.V4])
    assert (name.outcome, name.address) == (Outcome.OK, SECOND)


async def test_an_address_that_is_silent_leaves_time_for_the_next() -> None:
    """The first one may take half of the whole, although its own layer has more."""
    with black_hole(Family.V4) as port, socket.create_server((str(SECOND), port)):
        check = make_check(Family.V4, port, others={Family.V4: (SECOND,)}, timeouts=replace(PATIENT, whole=2.0))
        (observation,) = await run(check)
    assert (observation.outcome, observation.address) == (Outcome.OK, SECOND)


async def test_where_no_address_arrives_the_first_is_shown() -> None:
    with closed_port(Family.V4) as port:
        (observation,) = await run(make_check(Family.V4, port, others={Family.V4: (SECOND, THIRD)}))
    assert (observation.outcome, observation.address) == (Outcome.REFUSED, LOOPBACK[Family.V4])


async def test_a_reached_address_that_answers_badly_is_not_left_for_another() -> None:
    async with serve(Family.V4, replying(b"HTTP/1.1 500 No\r\n\r\n")) as port:
        check = make_check(Family.V4, port, (Layer.HTTP,), others={Family.V4: (SECOND,)})
        (observation,) = await run(check)
    assert (observation.outcome, observation.address) == (Outcome.STATUS, LOOPBACK[Family.V4])


@both_families
async def test_a_peer_that_refuses_proves_the_path(family: Family) -> None:
    with closed_port(family) as port:
        (observation,) = await run(make_check(family, port, group=Group.PEERS))
    assert observation.outcome is Outcome.REFUSED
    assert observation.passed


@both_families
async def test_a_black_hole_times_out_at_its_phase_and_what_lies_behind_is_not_reached(family: Family) -> None:
    with black_hole(family) as port:
        tcp, http = await run(make_check(family, port, WEB, timeouts=patient_but(Layer.TCP, SHORT)))
    assert (tcp.outcome, http.outcome) == (Outcome.TIMEOUT, Outcome.NOT_REACHED)
    assert_ended_after(SHORT, tcp.seconds)
    assert http.seconds is None
    assert not http.counted


@both_families
async def test_the_deadline_of_the_whole_ends_a_phase_early(family: Family) -> None:
    timeouts = replace(PATIENT, whole=0.3)
    with black_hole(family) as port:
        (tcp,) = await run(make_check(family, port, timeouts=timeouts))
    assert tcp.outcome is Outcome.TIMEOUT
    assert_ended_after(0.3, tcp.seconds)


async def test_the_whole_deadline_runs_over_all_phases() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serve(Family.V6, slow) as port:
        timeouts = replace(PATIENT, whole=1.5)
        tcp, http = await run(make_check(Family.V6, port, WEB, timeouts=timeouts))
    assert (tcp.outcome, http.outcome) == (Outcome.OK, Outcome.TIMEOUT)


@both_families
async def test_what_listens_on_one_family_only_fails_over_the_other_and_is_dialled_once(family: Family) -> None:
    dials: asyncio.Queue[str] = asyncio.Queue()

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dials.put_nowait(writer.get_extra_info("peername")[0])

    async with serve(family, count) as port:
        addresses = dict(LOOPBACK)
        (good,) = await run(make_check(family, port, addresses=addresses))
        (bad,) = await run(make_check(family.other, port, addresses=addresses))
        assert await asyncio.wait_for(dials.get(), 5) == str(LOOPBACK[family])
    assert (good.outcome, bad.outcome) == (Outcome.OK, Outcome.REFUSED)
    assert bad.address == LOOPBACK[family.other]
    assert dials.empty()


@both_families
async def test_a_name_without_an_address_of_the_family_opens_no_socket(family: Family) -> None:
    network = Answering(errno.EIO)
    check = make_check(family, 443, (Layer.TCP, Layer.TLS, Layer.HTTP), addresses={family: None})
    assert outcomes(await run(check, network)) == {
        Layer.TCP: Outcome.NO_ADDRESS,
        Layer.TLS: Outcome.NOT_REACHED,
        Layer.HTTP: Outcome.NOT_REACHED,
    }
    assert not network.asked


@both_families
async def test_a_failure_at_a_layer_that_nobody_asked_for_is_told_at_the_next_one(family: Family) -> None:
    with closed_port(family) as port:
        observations = await run(make_check(family, port, (Layer.TLS, Layer.HTTP)))
    assert outcomes(observations) == {Layer.TLS: Outcome.REFUSED, Layer.HTTP: Outcome.NOT_REACHED}


@both_families
async def test_expected_unreachable_passes_without_and_fails_with_a_connection(family: Family) -> None:
    with closed_port(family) as port:
        (shut,) = await run(make_check(family, port, expect_reachable=False))
    with listener(family) as sock:
        opened, behind = await run(make_check(family, sock.getsockname()[1], WEB, expect_reachable=False))
    assert (shut.outcome, shut.passed) == (Outcome.REFUSED, True)
    assert (opened.outcome, opened.passed) == (Outcome.OK, False)
    assert (behind.outcome, behind.counted) == (Outcome.NOT_REACHED, False)


@both_families
@pytest.mark.parametrize(
    ("reply", "outcome", "detail"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", Outcome.OK, ""),
        (b"HTTP/1.0 204\r\n\r\n", Outcome.OK, ""),
        (b"HTTP/1.1 302 Found\nLocation: /\n\n", Outcome.OK, ""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Outcome.OK, ""),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", Outcome.STATUS, "status 404"),
        (b"HTTP/1.1 503 \xff\r\nA: \xff\r\n\r\n", Outcome.STATUS, "status 503"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Outcome.PROTOCOL, "not HTTP/1: SSH-2.0-OpenSSH_9.9??"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", Outcome.PROTOCOL, "no status line: HTTP/1.1 2000 OK"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Outcome.PROTOCOL, "no header: no colon"),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n", Outcome.PROTOCOL, "no header:  folded"),
        (b"HTTP/1.1 200 OK\r\nA: b", Outcome.PROTOCOL, "closed before the headers ended"),
        (b"", Outcome.PROTOCOL, "closed without a reply"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 2000, Outcome.PROTOCOL, "headers of more than 32768 bytes"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 40000 + b"\r\n\r\n", Outcome.PROTOCOL, "headers of more than 32768 bytes"),
    ],
)
async def test_http_replies(family: Family, reply: bytes, outcome: Outcome, detail: str) -> None:
    async with serve(family, replying(reply)) as port:
        tcp, http = await run(make_check(family, port, WEB))
    assert tcp.outcome is Outcome.OK
    assert (http.outcome, http.detail) == (outcome, detail)


async def test_the_status_ranges_of_the_target_decide() -> None:
    async with serve(Family.V6, replying(b"HTTP/1.1 404 Gone\r\n\r\n")) as port:
        _, http = await run(make_check(Family.V6, port, WEB, statuses=((200, 200), (404, 404))))
    assert http.outcome is Outcome.OK


async def test_endless_headers_end_at_the_bound_and_not_at_the_deadline() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"A: b\r\n" * 100)
            await writer.drain()

    async with serve(Family.V6, endless) as port:
        _, http = await run(make_check(Family.V6, port, WEB))
    assert (http.outcome, http.detail) == (Outcome.PROTOCOL, "headers of more than 32768 bytes")


@both_families
async def test_a_trickle_ends_at_the_phases_timeout(family: Family) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nA: ")
        while not reader.at_eof():
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serve(family, trickle) as port:
        tcp, http = await run(make_check(family, port, WEB, timeouts=patient_but(Layer.HTTP, SHORT)))
    assert (tcp.outcome, http.outcome) == (Outcome.OK, Outcome.TIMEOUT)
    assert_ended_after(SHORT, http.seconds)


@both_families
async def test_a_reset_after_the_handshake_is_a_reset_of_the_next_phase(family: Family) -> None:
    async with serve(family, reset) as port:
        tcp, http = await run(make_check(family, port, WEB))
    assert tcp.outcome in {Outcome.OK, Outcome.RESET}  # the reset may come before the handshake was looked at
    assert Outcome.RESET in {tcp.outcome, http.outcome}


@both_families
@pytest.mark.parametrize(
    ("target", "host"),
    [
        ({"host": "web.test"}, "web.test:{port}"),
        ({"host": "bücher.test"}, "xn--bcher-kva.test:{port}"),
        ({"host": "evil\r\nX: y"}, "evil%0D%0AX%3A%20y:{port}"),
        ({}, "{address}:{port}"),
    ],
)
async def test_the_request_names_the_host_wherever_it_is_pinned_to(
    family: Family, target: dict[str, Any], host: str
) -> None:
    heads: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async with serve(family, take) as port:
        await run(make_check(family, port, WEB, path="/a b?c=d\r\n", **target))
    literal = "[::1]" if family is Family.V6 else "127.0.0.1"
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "GET /a%20b?c=d%0D%0A HTTP/1.1"
    assert lines[1] == "Host: " + host.format(port=port, address=literal)
    assert lines[2].startswith("User-Agent: dualstack-exporter/")
    assert "Connection: close" in lines


@both_families
async def test_an_own_source_port_for_every_dial(family: Family) -> None:
    network = LocalNetwork()
    with listener(family, 64) as sock:
        for _ in range(20):
            await run(make_check(family, sock.getsockname()[1]), network)
        ports = []
        for _ in range(20):
            connection, peer = sock.accept()
            connection.close()
            ports.append(peer[1])
    assert len(set(ports)) == 20
    assert set(ports) <= set(NUMBERS)


@both_families
async def test_a_taken_source_port_is_passed_over_and_too_many_are_our_own_trouble(family: Family) -> None:
    base = 40_000
    taken = []
    try:
        for port in range(base, base + BIND_TRIES):
            sock = socket.socket(DOMAIN[family], socket.SOCK_STREAM)
            taken.append(sock)
            with suppress(OSError):  # someone else's: as good
                sock.bind((str(LOOPBACK[family]), port))
        with listener(family) as sock:
            stuck, free = (LocalNetwork(PortAllocator(draw=lambda _, n=n: base - NUMBERS[0] + n)) for n in (0, 1))  # type: ignore[misc]  # mypy cannot infer the default
            (local,) = await run(make_check(family, sock.getsockname()[1]), stuck)
            (ok,) = await run(make_check(family, sock.getsockname()[1]), free)
    finally:
        for sock in taken:
            sock.close()
    assert (local.outcome, local.counted) == (Outcome.LOCAL, False)
    assert ok.outcome is Outcome.OK


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (errno.ESTALE, Outcome.VANISHED),
        (errno.EPERM, Outcome.NO_PERMISSION),
        (errno.EMFILE, Outcome.LOCAL),
        (errno.EAFNOSUPPORT, Outcome.UNREACHABLE),
    ],
)
async def test_no_socket_in_that_namespace(number: int, outcome: Outcome) -> None:
    check = make_check(Family.V6, 80, (Layer.ICMP, Layer.TCP, Layer.HTTP))
    assert outcomes(await run(check, Answering(number))) == {
        Layer.ICMP: outcome,
        Layer.TCP: outcome,
        Layer.HTTP: Outcome.NOT_REACHED,
    }


async def test_a_socket_that_never_comes_is_our_own_trouble_and_no_timeout_of_the_path() -> None:
    check = make_check(Family.V6, 80, (Layer.ICMP, Layer.TCP), timeouts=Timeouts(whole=0.2))
    assert set(outcomes(await run(check, Answering(None))).values()) == {Outcome.LOCAL}


async def test_without_a_broker_a_pod_is_a_matter_of_permission() -> None:
    check = make_check(Family.V6, 80, vantage=Vantage(kind="pod", namespace="ns", name="a", netns=HOST.netns))
    (observation,) = await run(check)
    assert observation.outcome is Outcome.NO_PERMISSION


async def test_a_bug_is_raised_and_leaves_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("exporter.probes.connection.build_request", broken)
    network = Noting()
    async with serve(Family.V6, keep_open) as port:
        with pytest.raises(ZeroDivisionError):
            await run(make_check(Family.V6, port, WEB), network)
        network.assert_all_closed()


@both_families
async def test_whatever_the_outcome_no_socket_stays_open(family: Family) -> None:
    network = Noting()
    async with serve(family, replying(b"HTTP/1.1 200 OK\r\n\r\n")) as good, serve(family, reset) as bad:
        with closed_port(family) as closed, black_hole(family) as hole:
            for port in (good, bad, closed, hole):
                await run(make_check(family, port, WEB, timeouts=patient_but(Layer.TCP, SHORT)), network)
                network.assert_all_closed()


@both_families
async def test_cancelling_while_it_connects_leaves_no_socket_open(family: Family) -> None:
    network = Noting()
    with black_hole(family) as port:
        task = asyncio.create_task(run(make_check(family, port, WEB), network))
        await asyncio.wait_for(network.made_one.wait(), 60)
        await cancel(task)
    network.assert_all_closed()


@both_families
async def test_cancelling_while_it_waits_for_the_reply_leaves_no_socket_open(family: Family) -> None:
    network, arrived = Noting(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()

    async with serve(family, say_nothing) as port:
        task = asyncio.create_task(run(make_check(family, port, WEB), network))
        await asyncio.wait_for(arrived.wait(), 60)
        await cancel(task)
        network.assert_all_closed()
