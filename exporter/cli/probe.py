"""`probe TARGET`: one dial over each family from the named place, each step shown.

A target of the configuration, by name or by host and port, is dialled with its settings.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace

from exporter.cli.vantage import VantageContext, run_at_vantage
from exporter.config.schema import Config, TargetConfig
from exporter.daemon.options import CommandError, Options
from exporter.diagnosis.ranges import is_service_address
from exporter.model.family import FAMILIES, Address, Family, family_of, parse_address
from exporter.model.probe import Check, Layer, Lookup, Nameserver, Observation, Outcome, Timeouts
from exporter.plan.targets import outside, with_addresses
from exporter.probes.engine.driver import SLACK
from exporter.probes.resolution.target_resolver import TargetResolver
from exporter.probes.runner import Deadline

FAMILIES_ASKED = {"any": FAMILIES, "4": (Family.V4,), "6": (Family.V6,)}
LITERAL_TLS = (
    "TLS to a literal address proves nothing: a certificate proves a name, so the error that follows says nothing "
    "about IPv6. Give the name, with --family"
)
NO_ECHO = "a ClusterIP need not answer echoes: no failure"


def probe(options: Options) -> int:
    """Print what each layer did; 0 when every family passed, 1 when one did not, 2 for bad input."""
    config = options.load()
    wanted, families = find_target(options.target, config, options.layers), FAMILIES_ASKED[options.family]
    if options.family != "any":
        wanted = replace(wanted, families=families)
    ((_, literal),) = outside(replace(config, targets=(wanted,)), families)
    if literal is not None and not any(literal.addresses.values()):
        (other,) = {*FAMILIES} - {*families}
        raise CommandError(f"{options.target} has only an {other} address, and --family asks for the other")

    async def work(context: VantageContext) -> tuple[tuple[Observation, bool], ...]:
        sys.stdout.write(f"from {context.vantage.subject}\n")
        if ":" not in wanted.name:
            sys.stdout.write(f"with the settings of target {wanted.name}\n")
        target = literal
        if target is None:
            found = await _resolve(context, wanted.host)
            first = {family: next(iter(each), None) for family, each in found.items()}
            target = with_addresses(wanted, first, families, {family: each[1:] for family, each in found.items()})
        timeouts = Timeouts({layer: context.config.timeouts[layer] for layer in Layer})
        timeouts = replace(timeouts, whole=min(timeouts.whole, target.timeout or timeouts.whole))
        made: list[Observation] = []
        for family in target.addresses:  # one after the other: neither waits for the other's work
            check = Check(vantage=context.vantage, target=target, family=family, timeouts=timeouts)
            made += await context.runner.check_all([check], Deadline.after(timeouts.whole + SLACK))
        judged = tuple((o, _is_judged(o, context)) for o in made)
        sys.stdout.write("".join(_lines(judged, target.addresses)))
        return judged

    results = [o.passed for o, counts in run_at_vantage(options, config, work) if counts]
    return 0 if results and all(results) else 1


def find_target(text: str, config: Config, layers: str = "") -> TargetConfig:
    """The configured target of that name, or of that host or address and port, with these layers; else a new one."""
    known = next((target for target in config.targets if target.name == text), None)
    if known is None:
        host, port = split_target(text)
        literal = parse_address(host)
        at_port = [target for target in config.targets if target.port == port]
        known = next((t for t in at_port if _is_at(t, host, literal)), None) or TargetConfig(
            name=text, host=host, port=port, layers=default_layers(host, port), families=FAMILIES
        )
        if literal is not None:
            known = replace(known, addresses=(literal,), families=(family_of(literal),))
    wanted = replace(known, layers=parse_layers(layers)) if layers else known
    if Layer.TLS in wanted.layers and parse_address(wanted.host) is not None:
        raise CommandError(LITERAL_TLS)
    if wanted.port is None and wanted.layers != (Layer.ICMP,):
        raise CommandError(f"target {wanted.name} has no port: only icmp can be probed")
    return wanted


def _is_at(target: TargetConfig, host: str, literal: Address | None) -> bool:
    if literal is not None:
        return literal in (*target.addresses, parse_address(target.host))
    return target.host.rstrip(".").lower() == host.rstrip(".").lower()


def split_target(text: str) -> tuple[str, int]:
    """HOST:PORT, an IPv6 address in brackets; CommandError otherwise."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not colon or not bare or not port.isdecimal() or not 1 <= int(port) <= 65535 or (":" in host and not bracketed):
        raise CommandError(
            f"{text}: HOST:PORT is expected, an IPv6 address in brackets: [2001:db8::1]:443, or a configured target"
        )
    return bare, int(port)


def default_layers(host: str, port: int) -> tuple[Layer, ...]:
    """Those of icmp and tcp, and tls on port 443 of a name."""
    return (Layer.ICMP, Layer.TCP, *(() if parse_address(host) is not None or port != 443 else (Layer.TLS,)))


def parse_layers(text: str) -> tuple[Layer, ...]:
    """The given layers in order."""
    words = [word.strip() for word in text.split(",")]
    unknown = [word for word in words if word not in list(Layer)]
    if unknown:
        raise CommandError(f"--layers: {unknown[0]!r} is none of {', '.join(Layer)}")
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


def _is_judged(o: Observation, context: VantageContext) -> bool:
    """Whether the exit status follows from it. kube-proxy answers no echo to a ClusterIP.

    Of a target that is expected to be unreachable the connection counts alone, up to where it ended.
    """
    silent = o.layer is Layer.ICMP and o.outcome is not Outcome.OK
    if silent and o.address is not None and is_service_address(o.address, context.inventory):
        return False
    if o.target.expect_reachable:
        return True
    return o.outcome is not Outcome.NOT_REACHED and (o.layer is not Layer.ICMP or o.target.deepest is Layer.ICMP)


def _lines(made: Iterable[tuple[Observation, bool]], addresses: Mapping[Family, Address | None]) -> Iterable[str]:
    for family, first in addresses.items():
        address = next((o.address for o, _ in made if o.family is family and o.address is not None), first)
        yield f"{family} {address or 'no address'}\n"
        for o, counts in made:
            if o.family is family:
                timed = f"{o.seconds * 1000:8.2f} ms" if o.seconds is not None else " " * 11
                yield f"  {o.layer:<5} {o.outcome:<12} {timed}  {_note(o, counts=counts)}".rstrip() + "\n"


def _note(o: Observation, *, counts: bool) -> str:
    if o.layer is Layer.ICMP and not counts and o.target.expect_reachable:
        return "; ".join(filter(None, (o.detail, NO_ECHO)))
    if o.layer is not Layer.ICMP or o.full_size is None:
        return o.detail
    full = f"echo of {o.full_size_bytes} bytes: {o.full_size.value}"
    return f"{full}; {o.detail}" if o.detail and o.outcome is not Outcome.OK else full
