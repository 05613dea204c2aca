"""Contradictions between the values of a configuration. Checked after decoding, before use; pure.

Each check yields Faults with the dotted path of the key to change; the loader reports the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from exporter.config.document import Fault
from exporter.config.kinds import format_duration
from exporter.config.network_kinds import POD_SERVERS, ReferenceServer
from exporter.config.schema import Config, Dns, InventoryConfig, SourceKind, TargetConfig
from exporter.model.dns_name import casefold
from exporter.model.family import Address, Family, family_of, parse_address
from exporter.model.probe import Group, Layer

# Names that labels use for what the exporter finds by itself (docs/specification.md section 8).
RESERVED_TARGETS = frozenset(group.value for group in Group if group is not Group.OUTSIDE)
RESERVED_SERVERS = frozenset({"cluster_dns", "node_local", "host", "other", POD_SERVERS.name})


def find_faults(config: Config) -> Iterator[Fault]:
    """Every contradiction, in the order of the keys."""
    return chain(
        _check_inventory(config.inventory),
        _check_times(config),
        _check_names("targets", [t.name for t in config.targets], RESERVED_TARGETS),
        *(
            _check_target(target, f"targets[{index}]", config.round.timeout)
            for index, target in enumerate(config.targets)
        ),
        _check_dns(config.dns),
    )


def _check_inventory(inventory: InventoryConfig) -> Iterator[Fault]:
    if inventory.source is SourceKind.FILE and not inventory.file:
        yield Fault("inventory.file", "is missing: source is file")
    if inventory.file and inventory.source is not SourceKind.FILE:
        yield Fault("inventory.file", f"is not read: source is {inventory.source}")
    if inventory.kubeconfig and inventory.source is not SourceKind.KUBERNETES:
        yield Fault("inventory.kubeconfig", f"is not read: source is {inventory.source}")


def _check_times(config: Config) -> Iterator[Fault]:
    whole, interval = config.round.timeout, config.round.interval
    if whole >= interval:
        yield Fault(
            "round.timeout",
            f"{format_duration(whole)} is not shorter than round.interval ({format_duration(interval)})",
        )
    for name, seconds in config.timeouts.items():
        yield from _check_within(seconds, f"timeouts.{name}", whole)


def _check_within(seconds: float | None, path: str, whole: float) -> Iterator[Fault]:
    if seconds is not None and seconds > whole:
        yield Fault(path, f"{format_duration(seconds)} is longer than round.timeout ({format_duration(whole)})")


def _check_names(path: str, names: Iterable[str | None], reserved: frozenset[str] = frozenset()) -> Iterator[Fault]:
    """Reserved names and names used twice. None: an entry that has no name of its own."""
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if name is None:
            continue
        where = f"{path}[{index}].name"
        if name in reserved:
            yield Fault(where, f"{name} is reserved for what is found without configuration")
        if name in seen:
            yield Fault(where, f"{name} is the name of {path}[{seen[name]}] already")
        seen.setdefault(name, index)


def _check_target(target: TargetConfig, path: str, whole: float) -> Iterator[Fault]:
    literal = parse_address(target.host)
    if not target.host and not target.addresses:
        yield Fault(f"{path}.host", "is missing")
    if literal is not None and target.addresses:
        yield Fault(f"{path}.addresses", f"host is an address itself ({literal})")
    if target.port is None and target.layers != (Layer.ICMP,):
        yield Fault(f"{path}.port", "is missing")
    if Layer.TLS in target.layers and (literal is not None or not target.host):
        # A certificate proves names: an error against a literal address proves nothing about the path.
        yield Fault(f"{path}.host", "tls needs a host name to prove: give one, and put the address under addresses")
    yield from _check_addresses(target, path, (literal,) if literal is not None else target.addresses)
    yield from _check_within(target.timeout, f"{path}.timeout", whole)


def _check_addresses(target: TargetConfig, path: str, addresses: tuple[Address, ...]) -> Iterator[Fault]:
    if not addresses:
        return
    where = f"{path}.addresses" if target.addresses else f"{path}.host"
    present = [family_of(address) for address in addresses]
    for family in Family:
        if present.count(family) > 1:
            yield Fault(where, f"{present.count(family)} addresses of {family}: one of each family is dialled")
        if target.families is None:
            continue
        if family in present and family not in target.families:
            yield Fault(where, f"{addresses[present.index(family)]} is {family}, which families leaves out")
        if family in target.families and family not in present:
            yield Fault(f"{path}.families", f"{family} has no address here")


def _check_dns(dns: Dns) -> Iterator[Fault]:
    yield from _check_names("dns.names", [casefold(name.name) for name in dns.names or ()])
    yield from _check_names(
        "dns.servers", [None if s == POD_SERVERS else s.name for s in dns.servers], RESERVED_SERVERS
    )
    bare = ReferenceServer.UNNAMED
    yield from _check_names(
        "dns.reference", [None if s.name == bare else s.name for s in dns.reference], RESERVED_SERVERS
    )
