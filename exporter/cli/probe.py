"""`probe HOST:PORT`: one dial over each family from the asked place, each step shown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping

from exporter.cli.context import CommandContext, run_in_context
from exporter.daemon.command_error import CommandError
from exporter.daemon.options import Options
from exporter.model.family import FAMILIES, Address, Family, family_of, parse_address
from exporter.model.probe import Check, Group, Layer, Nameserver, Observation, Outcome, Target, Timeouts
from exporter.probes.target_resolver import TargetResolver

WANTED = {"any": FAMILIES, "4": (Family.V4,), "6": (Family.V6,)}
LITERAL_TLS = (
    "TLS to a literal address proves nothing: without a name there is nothing that its certificate could prove, and the error that "
    "follows says nothing about IPv6. Give the name, with --family"
)


def probe(options: Options, parsed: argparse.Namespace) -> int:
    """Print what each layer did; 0 when every family that was asked passed, 1 when one did not, 2 for bad input."""
    host, port = split_target(parsed.target)
    wanted = ProbeRequest(host, port, parse_layers(parsed.layers, host, port), WANTED[parsed.family])

    async def work(looking: CommandContext) -> tuple[Observation, ...]:
        sys.stdout.write(f"from {looking.view.vantage.subject}\n")
        return await _dial(looking, wanted)

    made = run_in_context(options, work, pod=parsed.pod, netns=parsed.netns)
    return 0 if made and all(o.passed for o in made) else 1


class ProbeRequest:
    """What the command line asked for."""

    def __init__(self, host: str, port: int, layers: tuple[Layer, ...], families: tuple[Family, ...]) -> None:
        self.host = host
        self.port = port
        self.layers = layers
        self.literal = parse_address(host)
        self.families = families if self.literal is None else (family_of(self.literal),)
        if self.literal is not None and self.families[0] not in families:
            raise CommandError(f"{host} is an {self.families[0]} address, and --family asks for the other")


def split_target(text: str) -> tuple[str, int]:
    """HOST:PORT, an IPv6 address in brackets. Refusal otherwise."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not colon or not bare or not port.isdecimal() or not 1 <= int(port) <= 65535 or (":" in host and not bracketed):
        raise CommandError(f"{text}: HOST:PORT is expected, an IPv6 address in brackets: [2001:db8::1]:443")
    return bare, int(port)


def parse_layers(text: str, host: str, port: int) -> tuple[Layer, ...]:
    """The asked layers in order; by default icmp and tcp, and tls on port 443 of a name."""
    literal = parse_address(host) is not None
    if not text:
        return (Layer.ICMP, Layer.TCP, *(() if literal or port != 443 else (Layer.TLS,)))
    words = [word.strip() for word in text.split(",")]
    unknown = [word for word in words if word not in list(Layer)]
    if unknown:
        raise CommandError(f"--layers: {unknown[0]!r} is none of icmp, tcp, tls, http")
    if literal and "tls" in words:
        raise CommandError(LITERAL_TLS)
    return tuple(layer for layer in Layer if layer.value in words)


async def _dial(looking: CommandContext, wanted: ProbeRequest) -> tuple[Observation, ...]:
    addresses = await _addresses(looking, wanted)
    target = Target(
        name=wanted.host,
        group=Group.OUTSIDE,
        addresses=addresses,
        port=wanted.port,
        layers=wanted.layers,
        host=wanted.host,
        server_name="" if wanted.literal is not None else wanted.host,
    )
    t = looking.config.timeouts
    timeouts = Timeouts(icmp=t.icmp, dns=t.dns, tcp=t.tcp, tls=t.tls, http=t.http)
    checks = [
        Check(vantage=looking.view.vantage, target=target, family=family, timeouts=timeouts)
        for family in wanted.families
    ]
    made = await looking.asker.check_all(checks, looking.deadline)
    sys.stdout.write("".join(_lines(made, wanted.families, addresses)))
    return made


async def _addresses(looking: CommandContext, wanted: ProbeRequest) -> Mapping[Family, Address | None]:
    """The literal, or what the nameservers of that place's resolv.conf say: the operator asks, so all of them may be asked."""
    if wanted.literal is not None:
        return {family_of(wanted.literal): wanted.literal}
    resolution = TargetResolver(looking.asker, timeout=looking.config.timeouts.dns)
    servers = [Nameserver(a, "host") for a in looking.conf.nameservers]
    resolved = await resolution.resolve(wanted.host, looking.view.vantage, looking.conf, servers, looking.deadline)
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
