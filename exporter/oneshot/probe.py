"""`probe HOST:PORT`: one dial over each family from the asked place, each step shown."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from exporter.asking import Asker, Deadline
from exporter.broker.client import BrokerClient, BrokerGone
from exporter.command import Refusal
from exporter.config import Config
from exporter.discovery.file import InventoryError
from exporter.discovery.sources import Source, open_source
from exporter.errors import Errors
from exporter.inspection import Inspector
from exporter.model.dns import ResolvConf
from exporter.model.family import FAMILIES, Address, Family, family_of, parse_address
from exporter.model.probe import Check, Group, Layer, Observation, Outcome, Server, Target, Timeouts
from exporter.model.report import PodView
from exporter.network import BrokerNetwork
from exporter.oneshot.vantage import find
from exporter.options import Options
from exporter.probes.tls import TlsContexts
from exporter.resolution import Resolution
from exporter.session import ForeignBrokerError, Session, connect, open_session

WANTED = {"any": FAMILIES, "4": (Family.V4,), "6": (Family.V6,)}
INVENTORY_WAIT, BROKER_WAIT = 5.0, 1.0
LITERAL_TLS = (
    "TLS to a literal address proves nothing: without a name there is nothing that its certificate could prove, and the error that "
    "follows says nothing about IPv6. Give the name, with --family"
)


def probe(options: Options, parsed: argparse.Namespace) -> int:
    """Print what each layer did; 0 when every family that was asked passed, 1 when one did not, 2 for bad input."""
    host, port = split_target(parsed.target)
    layers = parse_layers(parsed.layers, host, port)
    config = options.load()
    try:
        source = open_source(config)
    except InventoryError as error:
        raise Refusal(str(error)) from error
    session = open_session(options.broker_socket)
    try:
        made = asyncio.run(_probe(config, source, session, parsed, Wanted(host, port, layers, WANTED[parsed.family])))
    except (ForeignBrokerError, BrokerGone, OSError) as error:
        raise Refusal(str(error)) from error
    finally:
        session.end()
    return 0 if made and all(o.passed for o in made) else 1


class Wanted:
    """What the command line asked for."""

    def __init__(self, host: str, port: int, layers: tuple[Layer, ...], families: tuple[Family, ...]) -> None:
        self.host = host
        self.port = port
        self.layers = layers
        self.literal = parse_address(host)
        self.families = families if self.literal is None else (family_of(self.literal),)
        if self.literal is not None and self.families[0] not in families:
            raise Refusal(f"{host} is an {self.families[0]} address, and --family asks for the other")


def split_target(text: str) -> tuple[str, int]:
    """HOST:PORT, an IPv6 address in brackets. Refusal otherwise."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not colon or not bare or not port.isdecimal() or not 1 <= int(port) <= 65535 or (":" in host and not bracketed):
        raise Refusal(f"{text}: HOST:PORT is expected, an IPv6 address in brackets: [2001:db8::1]:443")
    return bare, int(port)


def parse_layers(text: str, host: str, port: int) -> tuple[Layer, ...]:
    """The asked layers in order; by default icmp and tcp, and tls on port 443 of a name."""
    literal = parse_address(host) is not None
    if not text:
        return (Layer.ICMP, Layer.TCP, *(() if literal or port != 443 else (Layer.TLS,)))
    words = [word.strip() for word in text.split(",")]
    unknown = [word for word in words if word not in list(Layer)]
    if unknown:
        raise Refusal(f"--layers: {unknown[0]!r} is none of icmp, tcp, tls, http")
    if literal and "tls" in words:
        raise Refusal(LITERAL_TLS)
    return tuple(layer for layer in Layer if layer.value in words)


async def _probe(
    config: Config, source: Source, session: Session, parsed: argparse.Namespace, wanted: Wanted
) -> tuple[Observation, ...]:
    broker = await connect(session, patience=BROKER_WAIT)
    keeping = asyncio.create_task(source.run())
    try:
        await source.first(INVENTORY_WAIT)
        inspector = Inspector(config, broker, Errors(), clock=time.time)
        view, inspection = await find(inspector, source.current(), config, pod=parsed.pod, netns=parsed.netns)
        sys.stdout.write(f"from {view.vantage.subject}\n")
        return await _dial(config, broker, view, inspection.host_resolv_conf, wanted)
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        broker.close()


async def _dial(
    config: Config, broker: BrokerClient, view: PodView, host_conf: ResolvConf | None, wanted: Wanted
) -> tuple[Observation, ...]:
    asker = Asker(BrokerNetwork(broker), TlsContexts(), Errors(), clock=time.time)
    deadline = Deadline(asyncio.get_running_loop().time() + config.round.timeout)
    addresses = await _addresses(
        config, asker, view=view, host_conf=host_conf or ResolvConf(), wanted=wanted, deadline=deadline
    )
    target = Target(
        name=wanted.host,
        group=Group.OUTSIDE,
        addresses=addresses,
        port=wanted.port,
        layers=wanted.layers,
        host=wanted.host,
        server_name="" if wanted.literal is not None else wanted.host,
    )
    t = config.timeouts
    timeouts = Timeouts(t.icmp, t.dns, t.tcp, t.tls, t.http)
    made = await asker.check_all([Check(view.vantage, target, f, timeouts) for f in wanted.families], deadline)
    sys.stdout.write("".join(_lines(made, wanted.families, addresses)))
    return made


async def _addresses(
    config: Config, asker: Asker, *, view: PodView, host_conf: ResolvConf, wanted: Wanted, deadline: Deadline
) -> Mapping[Family, Address | None]:
    """The literal, or what the nameservers of that place's resolv.conf say: the operator asks, so all of them may be asked."""
    if wanted.literal is not None:
        return {family_of(wanted.literal): wanted.literal}
    conf = view.resolv_conf or host_conf
    resolution = Resolution(asker, clock=time.time, timeout=config.timeouts.dns)
    servers = [Server(a, "host") for a in conf.nameservers[:3]]
    resolved = await resolution.resolve(wanted.host, view.vantage, conf, servers, deadline)
    for lookup in resolved.lookups:
        q = lookup.question
        said = (
            ", ".join(map(str, lookup.reply.addresses))
            if lookup.reply and lookup.reply.addresses
            else lookup.outcome.value
        )
        sys.stdout.write(f"{q.qtype:<4} {q.name} @{q.server.address}: {said}\n")
    return {f: resolved.addresses.get(f) for f in wanted.families}


def _lines(
    made: Iterable[Observation], families: Iterable[Family], addresses: Mapping[Family, Address | None]
) -> Iterable[str]:
    by_family: dict[Family, list[Observation]] = {f: [] for f in families}
    for o in made:
        by_family[o.family].append(o)
    for family, observations in by_family.items():
        yield f"{family} {addresses.get(family) or 'no address'}\n"
        for o in observations:
            timed = f"{o.seconds * 1000:8.2f} ms" if o.seconds is not None else " " * 11
            yield f"  {o.layer:<5} {o.outcome:<12} {timed}  {_note(o)}".rstrip() + "\n"


def _note(o: Observation) -> str:
    if o.layer is not Layer.ICMP or o.full_size is None:
        return o.detail
    full = f"echo of {o.full_size_bytes} bytes: {o.full_size.value}"
    return f"{full}; {o.detail}" if o.detail and o.outcome is not Outcome.OK else full
