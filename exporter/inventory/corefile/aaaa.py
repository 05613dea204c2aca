"""What one server block of a Corefile makes of AAAA queries: the directives that withhold them, in the order CoreDNS runs plugins.

That order is fixed when CoreDNS is built (plugin.cfg): dns64, rewrite, acl, template, hosts, then kubernetes, file and
forward, however the Corefile lists them. Within a plugin the file's order counts. A directive behind one that already
settles a zone is never reached. Pure; used by corefile.py. Semantics after the plugins' own setup and ServeDNS code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from exporter.inventory.corefile.syntax import Directive
from exporter.inventory.corefile.template import Template, read_template
from exporter.inventory.corefile.zones import ROOT, meet, within, zone_of
from exporter.model.corefile import AaaaBlock, AaaaTreatment
from exporter.model.family import Family, family_of, parse_address, parse_net

TEXT_LIMIT = 160
MAX_HOSTS = 20
ACL_FATES = {"block": AaaaTreatment.REFUSED, "filter": AaaaTreatment.FILTERED, "drop": AaaaTreatment.DROPPED}
# dns64 makes AAAA of A where the plugins behind it gave none; not of NXDOMAIN, and it needs some message
# (plugin/dns64).
NOT_SYNTHESIZED = frozenset({AaaaTreatment.NXDOMAIN, AaaaTreatment.SERVFAIL, AaaaTreatment.DROPPED})


@dataclass(slots=True, kw_only=True)
class EffectiveServer:
    """A server block: its forward zones and directives. `partial`: a view serves it to some clients only."""

    zones: list[str]
    directives: list[Directive]
    partial: bool = False
    errors: list[str] = field(default_factory=list)

    def of(self, plugin: str) -> Iterator[Directive]:
        return (directive for directive in self.directives if directive.plugin == plugin)


@dataclass(slots=True, kw_only=True)
class _Fate:
    """Zones in which AAAA (and A) queries come no further."""

    server: EffectiveServer
    settled: list[str] = field(default_factory=list)
    a_settled: list[str] = field(default_factory=list)
    blocks: list[AaaaBlock] = field(default_factory=list)

    def reaches(self, zone: str) -> bool:
        return not any(within(zone, each) for each in self.settled)

    def a_differs(self, zone: str) -> bool:
        """Whether A queries of the zone were already answered, so that what follows meets AAAA alone."""
        return any(within(zone, each) for each in self.a_settled)

    def block(self, directive: Directive, zone: str, fate: AaaaTreatment, *, limited: bool) -> None:
        self.blocks.append(
            AaaaBlock(
                zone=zone,
                plugin=directive.plugin,
                fate=fate,
                line=directive.line,
                text=directive.text[:TEXT_LIMIT],
                file=directive.file,
                all_names=zone == ROOT and not limited and not self.server.partial,
            )
        )


def withheld(server: EffectiveServer) -> list[AaaaBlock]:
    """The directives of this server block that withhold AAAA, those that are reached."""
    fate = _Fate(server=server)
    _run_rewrite(fate)
    _run_acl(fate)
    _run_template(fate)
    _run_hosts(fate)
    return _after_dns64(server, fate.blocks)


def _after_dns64(server: EffectiveServer, blocks: list[AaaaBlock]) -> list[AaaaBlock]:
    """What dns64 leaves of them: it answers clients that ask over IPv6, with allow_ipv4 all."""
    lines = [line for directive in server.of("dns64") for line in directive.body]
    if not any(server.of("dns64")):
        return blocks
    if any(line[0] == "allow_ipv4" for line in lines):
        return [block for block in blocks if block.fate in NOT_SYNTHESIZED]
    for index, block in enumerate(blocks):
        if block.fate not in NOT_SYNTHESIZED:
            blocks[index] = AaaaBlock(
                zone=block.zone,
                plugin=block.plugin,
                fate=block.fate,
                line=block.line,
                text=block.text,
                file=block.file,
                all_names=block.all_names,
                ipv4_clients_only=True,
            )
    return blocks


def _run_rewrite(fate: _Fate) -> None:
    """Only `rewrite [stop|continue] type AAAA X` changes the type; the answer then holds X records."""
    for directive in fate.server.of("rewrite"):
        words = list(directive.arguments)
        if len(words) < 2:
            words += [word for line in directive.body for word in line]
        if words and words[0].lower() in ("stop", "continue"):
            del words[0]
        if len(words) == 3 and words[0].lower() == "type" and words[1].upper() == "AAAA" and words[2].upper() != "AAAA":
            for zone in filter(fate.reaches, fate.server.zones):
                fate.block(directive, zone, AaaaTreatment.REWRITTEN, limited=False)
                fate.settled.append(zone)


def _run_acl(fate: _Fate) -> None:
    """Policies in order; the first whose type and source fit decides, and `allow` ends acl for the zone."""
    allowed: list[str] = []
    for directive in fate.server.of("acl"):
        zones = [zone for zone in map(zone_of, directive.arguments) if zone]
        for zone in meet(fate.server.zones, zones) if directive.arguments else fate.server.zones:
            if fate.reaches(zone) and not any(within(zone, each) for each in allowed):
                _apply_policies(fate, directive, zone, allowed)


def _apply_policies(fate: _Fate, directive: Directive, zone: str, allowed: list[str]) -> None:
    a_allowed = fate.a_differs(zone)
    for line in directive.body:
        action, types, everybody = _acl_policy(line)
        takes_aaaa, takes_a = not types or "AAAA" in types or "*" in types, not types or "A" in types or "*" in types
        if action == "allow":
            a_allowed = a_allowed or (takes_a and everybody)
            if takes_aaaa and everybody:
                allowed.append(zone)
                return
        elif action not in ACL_FATES:
            fate.server.errors.append(f"line {directive.line}: acl does not know {line[0][:40]}")
        elif takes_aaaa:
            if not takes_a or a_allowed:
                fate.block(directive, zone, ACL_FATES[action], limited=not everybody)
            if everybody:
                fate.settled.append(zone)
                return


def _acl_policy(line: tuple[str, ...]) -> tuple[str, frozenset[str], bool]:
    """One policy: action, types (none: all), and whether it holds for every client."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for word in line[1:]:
        if word.lower() in ("type", "net"):
            current = sections.setdefault(word.lower(), [])
        else:
            current.append(word)
    sources = sections.get("net", ["*"])
    whole = {family_of(net) for net in map(parse_net, sources) if net is not None and net.prefixlen == 0}
    return line[0].lower(), frozenset(sections.get("type", [])), "*" in sources or len(whole) == 2


def _run_template(fate: _Fate) -> None:
    for directive in fate.server.of("template"):
        if len(directive.arguments) < 2:
            fate.server.errors.append(f"line {directive.line}: template needs a class and a type")
            continue
        dns_class, qtype, *written = directive.arguments
        if dns_class not in ("IN", "ANY") or qtype not in ("AAAA", "A", "ANY"):
            continue
        template = read_template(directive, fate.server.errors)
        zones = [zone for zone in map(zone_of, written) if zone]
        for zone in meet(fate.server.zones, zones) if written else fate.server.zones:
            if qtype == "A":
                fate.a_settled += [] if template.limited and template.passes_on(zone) else [zone]
            elif fate.reaches(zone):
                _apply_template(fate, directive, zone, template)


def _apply_template(fate: _Fate, directive: Directive, zone: str, template: Template) -> None:
    """One template that AAAA queries of the zone meet. Type ANY withholds only where A fares differently."""
    refuses_rest = template.limited and not template.passes_on(zone)
    aaaa_alone = directive.arguments[1] == "AAAA" or fate.a_differs(zone)
    answers_a_only = bool(template.answers) and template.fate is not None and template.rcode == "NOERROR"
    if (aaaa_alone or answers_a_only) and refuses_rest:
        # Names that match no regex get SERVFAIL: with the matching ones, or without them, that is nearly all.
        fate.block(directive, zone, AaaaTreatment.SERVFAIL, limited=template.fate is None)
    elif (aaaa_alone or answers_a_only) and template.fate is not None:
        fate.block(directive, zone, template.fate, limited=template.limited)
    if refuses_rest or not template.limited:
        fate.settled.append(zone)


def _run_hosts(fate: _Fate) -> None:
    """Inline entries: a name with IPv4 alone has no AAAA then, whatever forward would find. Files are not read here."""
    for directive in fate.server.of("hosts"):
        zones = [zone for zone in map(zone_of, directive.arguments[1:]) if zone] or fate.server.zones
        named: dict[str, set[Family]] = {}
        for line in directive.body:
            address = parse_address(line[0])
            if address is not None:
                for name in line[1:]:
                    named.setdefault(name.rstrip(".").lower(), set()).add(family_of(address))
        lone = [name for name, families in named.items() if families == {Family.V4} and fate.reaches(name)]
        for name in [name for name in lone if meet([name], meet(fate.server.zones, zones)) == [name]][:MAX_HOSTS]:
            fate.block(directive, name, AaaaTreatment.NODATA, limited=True)
