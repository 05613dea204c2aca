"""Rounds against a real BIND whose records change, through real namespaces: a moved name and a new AAAA are dialled in
the round after.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import pytest

from exporter.config.load import load_config
from exporter.daemon.rounds import Rounds
from exporter.model.cluster.inventory import NO_INVENTORY
from exporter.model.dns import ResolvConf
from exporter.model.family import FAMILIES, Address, Family, family_of
from exporter.model.probe import Outcome
from exporter.plan.round_plan import Pace
from exporter.probes.engine.driver import EpollDriver
from exporter.probes.resolution.target_resolver import TargetResolver
from exporter.probes.runner import ProbeRunner
from exporter.probes.tls import TlsContexts
from exporter.telemetry.logs import InternalErrors
from exporter.vantage import Inspection, Inspector
from tests.wire.loopback import DOMAIN, HOST
from tests.wire.namespaces import SECOND, SERVER, NamespaceNetwork, Row

pytestmark = pytest.mark.real
V4, V6 = Family.V4, Family.V6
PORT = 8080
CONFIG = f"""
families: [IPv4, IPv6]
dns: {{names: []}}
targets: [{{name: web, host: web.moving.test, port: {PORT}, layers: [tcp], timeout: 3s}}]
"""
NAMED = """
options {{ directory "{folder}"; pid-file none; session-keyfile none; recursion no; dnssec-validation no;
  listen-on {{ any; }}; listen-on-v6 {{ none; }}; }};
controls {{ }};
zone "moving.test" {{ type primary; file "{folder}/moving.zone"; }};
"""
ZONE = """$TTL {ttl}
@ {negative} SOA ns admin {serial} 7200 900 1209600 {negative}
@ NS ns
ns A 10.99.2.1
"""


class Zone:
    """BIND in the server's namespace, authoritative for moving.test."""

    def __init__(self, row: Row, folder: Path, *, ttl: int, negative: int) -> None:
        self._file, self._serial = folder / "moving.zone", 0
        self._lives = {"ttl": ttl, "negative": negative}
        self._write(SERVER[V4])
        configuration = folder / "named.conf"
        configuration.write_text(NAMED.format(folder=folder))
        command = ["ip", "netns", "exec", row.server.name, "named", "-g", "-n", "1", "-c", str(configuration)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._await(" running\n")

    def tells(self, *addresses: Address) -> None:
        """From now on these are the addresses of web.moving.test."""
        self._write(*addresses)
        self._process.send_signal(signal.SIGHUP)  # ip netns exec becomes named
        self._await(f"zone moving.test/IN: loaded serial {self._serial}\n")

    def _write(self, *addresses: Address) -> None:
        self._serial += 1
        records = "".join(f"web {'A' if a.version == 4 else 'AAAA'} {a}\n" for a in addresses)
        self._file.write_text(ZONE.format(serial=self._serial, **self._lives) + records)

    def _await(self, ending: str) -> None:
        assert self._process.stderr is not None
        log = []
        for line in self._process.stderr:  # ends when named does
            log.append(line)
            if line.endswith(ending):
                return
        raise AssertionError("".join(log))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()


class Bench:
    """Rounds on the client, 10 s apart by the clock of what is remembered."""

    def __init__(self, row: Row) -> None:
        self.now = 1000.0
        config = load_config(CONFIG, path="", environment={"NODE_NAME": "ra"}, hostname="ra")
        runner = ProbeRunner(
            EpollDriver(NamespaceNetwork(row.client)), TlsContexts(), InternalErrors(), clock=time.time
        )
        self._rounds = Rounds(
            config=config,
            pace=Pace(interval=10.0, timeout=8.0, spread=0.0),
            inspector=cast("Inspector", self),
            runner=runner,
            target_resolver=TargetResolver(runner, timeout=2.0, clock=lambda: self.now),
            clock=time.time,
            steady=lambda: self.now,
        )

    async def inspect(self, _: object, **__: bool) -> Inspection:
        """As Inspector: the host alone, with BIND as its nameserver."""
        return Inspection(
            host=HOST, pods=(), host_facts=None, host_resolv_conf=ResolvConf(nameservers=(SERVER[V4],)), readings=()
        )

    async def dials(self) -> dict[Address | None, Outcome]:
        """What one round's dials came to, by address."""
        report = await self._rounds.run(lambda: NO_INVENTORY)
        self.now += 10
        return {o.address: o.outcome for o in report.snapshot.observations}


@contextmanager
def serving(row: Row, address: Address) -> Iterator[None]:
    """A listener at one of the server's addresses."""

    def listen() -> socket.socket:
        return socket.create_server((str(address), PORT), family=DOMAIN[family_of(address)])

    with row.server.inside(listen):
        yield


@contextmanager
def zone_of(row: Row, folder: Path, *, ttl: int, negative: int) -> Iterator[Zone]:
    zone = Zone(row, folder, ttl=ttl, negative=negative)
    try:
        yield zone
    finally:
        zone.close()


async def test_a_name_that_moved_is_dialled_there_in_the_round_after_the_failure(row: Row, tmp_path: Path) -> None:
    bench = Bench(row)
    with zone_of(row, tmp_path, ttl=3600, negative=3600) as zone:
        with serving(row, SERVER[V4]):
            assert await bench.dials() == {SERVER[V4]: Outcome.OK}
        with serving(row, SECOND[V4]):
            zone.tells(SECOND[V4])
            assert await bench.dials() == {SERVER[V4]: Outcome.REFUSED}, "its TTL is an hour"
            assert await bench.dials() == {SECOND[V4]: Outcome.OK}


async def test_a_moved_name_whose_old_place_still_answers_is_followed_when_its_ttl_is_over(
    row: Row, tmp_path: Path
) -> None:
    bench = Bench(row)
    with zone_of(row, tmp_path, ttl=15, negative=15) as zone, serving(row, SERVER[V4]), serving(row, SECOND[V4]):
        assert await bench.dials() == {SERVER[V4]: Outcome.OK}
        zone.tells(SECOND[V4])
        assert await bench.dials() == {SERVER[V4]: Outcome.OK}
        assert await bench.dials() == {SECOND[V4]: Outcome.OK}


@pytest.mark.parametrize(("negative", "rounds"), [(15, 1), (3600, 2)])
async def test_a_new_aaaa_is_dialled_when_the_soa_lets_go_or_after_half_a_minute(
    row: Row, tmp_path: Path, negative: int, rounds: int
) -> None:
    bench = Bench(row)
    with zone_of(row, tmp_path, ttl=3600, negative=negative) as zone, ExitStack() as stack:
        for family in FAMILIES:
            stack.enter_context(serving(row, SERVER[family]))
        assert await bench.dials() == {SERVER[V4]: Outcome.OK}
        zone.tells(SERVER[V4], SERVER[V6])
        for _ in range(rounds):
            assert await bench.dials() == {SERVER[V4]: Outcome.OK}
        assert await bench.dials() == {SERVER[V4]: Outcome.OK, SERVER[V6]: Outcome.OK}
