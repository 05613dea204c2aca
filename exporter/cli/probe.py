"""`probe HOST:PORT`: one dial over each family from the named place, each step shown."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from exporter.cli.vantage import VantageContext, run_at_vantage
from exporter.daemon.options import CommandError, Options
from exporter.model.family import FAMILIES, Address, Family, family_of, parse_address
from exporter.model.probe import Check, Group, Layer, Lookup, Nameserver, Observation, Outcome, Target, Timeouts
from exporter.probes.resolution.target_resolver import TargetResolver

FAMILIES_ASKED = {"any": FAMILIES, "4": (Family.V4,), "6": (Family.V6,)}
LITERAL_TLS = (
    "TLS to a literal address proves nothing: a certificate proves a name, so the error that follows says nothing "
    "about IPv6. Give the name, with --family"
)


def probe(options: Options) -> int:
    """Print what each layer did; 0 when every family passed, 1 when one did not, 2 for bad input."""
    host, port = split_target(options.target)
    layers = parse_layers(options.layers, host, port)
    families, literal = FAMILIES_ASKED[options.family], parse_address(host)
    if literal is not None:
        if family_of(literal) not in families:
            raise CommandError(f"{host} is an {family_of(literal)} address, and --family asks for the other")
        families = (family_of(literal),)

    async def work(context: VantageContext) -> tuple[Observation, ...]:
        sys.stdout.write(f"from {context.vantage.subject}\n")
        found = {families[0]: (literal,)} if literal is not None else await _resolve(context, host)
        addresses = {f: next(iter(found.get(f, ())), None) for f in families}
        target = Target(
            name=host,
            group=Group.OUTSIDE,
            addresses=addresses,
            port=port,
            layers=layers,
            host=host,
            server_name="" if literal is not None else host,
            others={family: each[1:] for family, each in found.items()},
        )
        timeouts = Timeouts({layer: context.config.timeouts[layer] for layer in Layer})
        checks = [Check(vantage=context.vantage, target=target, family=f, timeouts=timeouts) for f in families]
        made = await context.runner.check_all(checks, context.deadline)
        sys.stdout.write("".join(_lines(made, addresses)))
        return made

    made = run_at_vantage(options, work)
    return 0 if made and all(o.passed for o in made) else 1


def split_target(text: str) -> tuple[str, int]:
    """HOST:PORT, an IPv6 address in brackets; CommandError otherwise."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not colon or not bare or not port.isdecimal() or not 1 <= int(port) <= 65535 or (":" in host and not bracketed):
        raise CommandError(f"{text}: HOST:PORT is expected, an IPv6 address in brackets: [2001:db8::1]:443")
    return bare, int(port)


def parse_layers(text: str, host: str, port: int) -> tuple[Layer, ...]:
    """The layers in order; by default icmp and tcp, and tls on port 443 of a name."""
    literal = parse_address(host) is not None
    if not text:
        return (Layer.ICMP, Layer.TCP, *(() if literal or port != 443 else (Layer.TLS,)))
    words = [word.strip() for word in text.split(",")]
    unknown = [word for word in words if word not in list(Layer)]
    if unknown:
        raise CommandError(f"--layers: {unknown[0]!r} is none of {', '.join(Layer)}")
    if literal and "tls" in words:
        raise CommandError(LITERAL_TLS)
    return tuple(layer for layer in Layer if layer.value in words)


async def _resolve(context: VantageContext, host: str) -> Mapping[Family, tuple[Address, ...]]:
    """What the nameservers of that place's resolv.conf answer; all of them may be asked, because the operator asks."""
    resolver = TargetResolver(context.runner, timeout=context.config.timeouts["dns"])
    servers = [Nameserver(a, "host") for a in context.conf.nameservers]
    resolved = await resolver.resolve(host, context.vantage, context.conf, servers, context.deadline)
    sys.stdout.write("".join(map(_answer, resolved.lookups)))
    return resolved.found


def _answer(lookup: Lookup) -> str:
    addresses = lookup.reply.addresses if lookup.reply is not None else ()
    shown = ", ".join(map(str, addresses)) or lookup.outcome.value
    return f"{lookup.question.qtype:<4} {lookup.question.name} @{lookup.question.server.address}: {shown}\n"


def _lines(made: Iterable[Observation], addresses: Mapping[Family, Address | None]) -> Iterable[str]:
    for family, first in addresses.items():
        address = next((o.address for o in made if o.family is family and o.address is not None), first)
        yield f"{family} {address or 'no address'}\n"
        for o in made:
            if o.family is family:
                timed = f"{o.seconds * 1000:8.2f} ms" if o.seconds is not None else " " * 11
                yield f"  {o.layer:<5} {o.outcome:<12} {timed}  {_note(o)}".rstrip() + "\n"


def _note(o: Observation) -> str:
    if o.layer is not Layer.ICMP or o.full_size is None:
        return o.detail
    full = f"echo of {o.full_size_bytes} bytes: {o.full_size.value}"
    return f"{full}; {o.detail}" if o.detail and o.outcome is not Outcome.OK else full
