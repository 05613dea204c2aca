"""What one server block of a Corefile does to AAAA queries: the directives that withhold them. Pure; for corefile.py.

CoreDNS runs plugins in an order fixed when it is built (plugin.cfg), however the Corefile lists them: dns64, rewrite,
acl, template, hosts, then kubernetes, file and forward. Within a plugin the file's order counts. A directive behind one
that already decides a zone is never reached. Semantics follow the plugins' own setup and ServeDNS code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from exporter.inventory.corefile.acl import ACL_ACTIONS, AclPolicy, acl_policy, refuses_a
from exporter.inventory.corefile.syntax import (
    DEFAULT_PORT,
    ROOT,
    Directive,
    ServerBlock,
    lies_in_any,
    meet,
    within,
    zones_of,
)
from exporter.inventory.corefile.template import RCODES, Template, plain, read_template
from exporter.model.cluster.corefile import AaaaBlock, AaaaTreatment
from exporter.model.family import Family, family_of, parse_address

TEXT_LIMIT = 160
MAX_HOSTS = 20
MAX_FORWARDED = 20  # server blocks behind one forward, and blocks of each
MAX_CHAIN = 5
# These answer nothing by themselves: a server block of them alone fails.
NEVER_ANSWER = frozenset(
    (
        "view", "errors", "log", "cache", "metadata", "debug", "reload", "prometheus", "loadbalance", "loop", "ready",
        "health", "bind", "bufsize", "header", "nsid", "minimal", "timeouts", "tls", "cancel", "dnstap", "trace",
    )
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class _QueryPath:
    """How far AAAA (and A) queries come through one server block."""

    server: ServerBlock
    only_aaaa: bool  # views send A elsewhere
    view: Directive | None = None  # one of them: its own, or that of an earlier block
    answered: list[str] = field(default_factory=list)  # zones in which AAAA queries come no further
    blocks: list[AaaaBlock] = field(default_factory=list)
    final: list[AaaaBlock] = field(default_factory=list)  # of them, those of which dns64 makes no AAAA

    def reaches(self, zone: str) -> bool:
        self.server.work.take(1 + len(self.answered))
        return not lies_in_any(zone, self.answered)

    def block(
        self, directive: Directive, zone: str, treatment: AaaaTreatment, *, limited: bool = False, final: bool = False
    ) -> None:
        text = directive.text
        self.server.work.take(1 + len(text) // 64)
        found = AaaaBlock(
            zone=zone,
            plugin=directive.plugin,
            fate=treatment,
            line=directive.line,
            text=text[:TEXT_LIMIT],
            file=directive.file,
            all_names=zone == ROOT and not limited and self.server.takes("AAAA") is True,
        )
        self.blocks.append(found)
        self.final += [found] if final else []


class Withholding:
    """What the server blocks of one Corefile withhold; a server block may forward to another one's port."""

    def __init__(self, servers: Sequence[ServerBlock]) -> None:
        self._ports: dict[str, list[ServerBlock]] = {}
        for server in servers:
            self._ports.setdefault(server.port, []).append(server)
        self._known: dict[int, list[AaaaBlock]] = {}

    def of(self, server: ServerBlock, depth: int = 0) -> list[AaaaBlock]:
        """The directives that withhold AAAA from whom this server block serves, and are reached."""
        if id(server) in self._known or server.takes("AAAA") is False:
            return self._known.get(id(server), [])
        self._known[id(server)] = []  # a chain that comes back here ends
        elsewhere = server.takes("A") is False or set(self._taken(server, "A")) == set(server.zones)
        path = _QueryPath(server=server, only_aaaa=elsewhere, answered=self._taken(server, "AAAA"))
        if elsewhere:
            path.view = next(server.of("view"), None) or self._earlier_view(server)
        for run in (_run_view, _run_rewrite, _run_acl, _run_template, _run_hosts):
            run(path)
        if depth < MAX_CHAIN:
            self._run_forward(path, depth)
        self._known[id(server)] = _behind_dns64(path)
        return self._known[id(server)]

    def _taken(self, server: ServerBlock, qtype: str) -> list[str]:
        """The zones of which an earlier server block of that port takes the type by its view."""
        found: set[str] = set()
        for other in self._ports[server.port]:
            if other is server:
                break
            found.update(other.zones if other.takes(qtype) and any(other.of("view")) else ())
        return [zone for zone in server.zones if zone in found]

    def _earlier_view(self, server: ServerBlock) -> Directive | None:
        """The first view by which an earlier server block of that port takes A."""
        others = self._ports[server.port]
        earlier = others[: next(index for index, other in enumerate(others) if other is server)]
        return next((view for other in earlier if other.takes("A") for view in other.of("view")), None)

    def _run_forward(self, path: _QueryPath, depth: int) -> None:
        """Targets that are this process: what the server blocks of that port withhold holds here as well."""
        own = tuple(zone for each in path.server.of("kubernetes") for zone in zones_of(each.arguments))
        for directive in path.server.of("forward"):
            targets = [_local_port(each) for each in directive.arguments[1:]]
            inner = [each for port in dict.fromkeys(targets) for each in self._ports.get(port, ())]
            for block in [b for each in inner[:MAX_FORWARDED] for b in self.of(each, depth + 1)[:MAX_FORWARDED]]:
                zones = meet([block.zone], path.server.zones_in(directive.arguments[:1]))
                for zone in filter(path.reaches, zones):
                    certain = block.all_names and zone == ROOT and all(targets) and path.server.takes("AAAA") is True
                    path.blocks.append(replace(block, zone=zone, all_names=certain, except_zones=own))
                    lasts = block.fate in (AaaaTreatment.DROPPED, AaaaTreatment.NXDOMAIN, AaaaTreatment.UNUSABLE)
                    path.final += path.blocks[-1:] if lasts else []


def _local_port(target: str) -> str:
    """The port of a forward's target on loopback, over plain DNS; empty for any other."""
    target = target.removeprefix("dns://")
    host, _, port = (target, "", DEFAULT_PORT) if parse_address(target) else target.rpartition(":")
    address = parse_address(host.strip("[]"))
    return port if address is not None and address.is_loopback else ""


def _behind_dns64(path: _QueryPath) -> list[AaaaBlock]:
    """dns64 makes an AAAA of A for clients that ask over IPv6, with allow_ipv4 for all clients.

    It does so after any message but an NXDOMAIN with SOA and an answer with AAAA; SERVFAIL of template and a dropped
    query leave no message (plugin/dns64, responseShouldDNS64; tried with CoreDNS 1.13).
    """
    dns64 = list(path.server.of("dns64"))
    if not dns64:
        return path.blocks
    if any(line[0] == "allow_ipv4" for directive in dns64 for line in directive.body):
        return path.final
    path.server.work.take(len(path.blocks) * len(path.final))
    return [replace(block, ipv4_clients_only=block not in path.final) for block in path.blocks]


def _run_view(path: _QueryPath) -> None:
    """A view that takes AAAA alone into a server block without any plugin that answers."""
    if path.only_aaaa and path.view is not None and all(each.plugin in NEVER_ANSWER for each in path.server.directives):
        for zone in path.server.zones:
            path.block(path.view, zone, AaaaTreatment.SERVFAIL, final=True)


def _run_rewrite(path: _QueryPath) -> None:
    """Only `rewrite [stop|continue] type X Y` changes the type; the answer then has Y records."""
    asked, changed = "AAAA", None
    for directive in path.server.of("rewrite"):
        words = list(directive.arguments)
        if len(words) < 2:
            words += [word for line in directive.body for word in line]
        mode = words.pop(0).lower() if words and words[0].lower() in ("stop", "continue") else "stop"
        if len(words) == 3 and words[0].lower() == "type" and words[1].upper() == asked:
            asked, changed = words[2].upper(), directive
            if mode == "stop":
                break
    for zone in filter(path.reaches, path.server.zones if changed is not None and asked != "AAAA" else ()):
        assert changed is not None
        path.block(changed, zone, AaaaTreatment.REWRITTEN)
        path.answered.append(zone)


# acl: policies in order; the first whose type and source fit decides, and `allow` ends acl for the zone


def _run_acl(path: _QueryPath) -> None:
    allowed: list[str] = []
    for directive in path.server.of("acl"):
        policies = [acl_policy(line) for line in directive.body]
        for policy in policies:
            if policy.action not in ("allow", *ACL_ACTIONS):
                path.server.errors.append(f"line {directive.line}: acl does not know {policy.action[:40]}")
        for zone in path.server.zones_in(directive.arguments):
            path.server.work.take(len(allowed) + len(policies))
            if path.reaches(zone) and not lies_in_any(zone, allowed):
                _apply_policies(path, directive, zone, policies, allowed)


def _apply_policies(
    path: _QueryPath, directive: Directive, zone: str, policies: Sequence[AclPolicy], allowed: list[str]
) -> None:
    a_refused = not path.only_aaaa and refuses_a(policies)
    a_allowed = path.only_aaaa
    spared = False  # some clients are allowed
    left = set(Family)
    for policy in policies:
        if policy.action == "allow":
            a_allowed = a_allowed or (policy.takes("A") and policy.families == set(Family))
        if policy.action not in ("allow", *ACL_ACTIONS) or not policy.takes("AAAA"):
            continue
        left -= policy.families
        if policy.action == "allow":
            spared = True
        elif not a_refused and (a_allowed or not policy.takes("A")):
            drops = policy.action == "drop"
            path.block(directive, zone, ACL_ACTIONS[policy.action], limited=spared or bool(left), final=drops)
        if not left:
            (allowed if policy.action == "allow" else path.answered).append(zone)
            return


# template


@dataclass(frozen=True, slots=True, kw_only=True)
class _ATemplate:
    """What one template does to A queries of a zone."""

    zone: str
    regexes: frozenset[str]
    data: bool  # it answers with addresses
    ends: bool  # no A query of the zone goes on
    refuses: bool  # names that match no regex get SERVFAIL

    def settles(self, zone: str) -> bool:
        return self.ends and within(zone, self.zone)


def _run_template(path: _QueryPath) -> None:
    read: list[tuple[Directive, Template, list[str]]] = []
    for directive in path.server.of("template"):
        if len(directive.arguments) < 2:
            path.server.errors.append(f"line {directive.line}: template needs a class and a type")
        elif directive.arguments[0] in ("IN", "ANY") and directive.arguments[1] in ("AAAA", "A", "ANY"):
            written = directive.arguments[2:]
            zones = path.server.zones_in(written)
            if any("{" in zone for zone in written):
                path.server.errors.append(f"line {directive.line}: a zone of template is not known")
            template = read_template(directive, path.server.errors)
            read += [(directive, template, zones)] if template.rcode in RCODES else []
    _apply_templates(path, read)


def _apply_templates(path: _QueryPath, read: Sequence[tuple[Directive, Template, list[str]]]) -> None:
    for _, template, zones in read:  # each meets each zone below
        path.server.work.take(len(zones) * (1 + len(template.regexes) + len(template.answers)))
    a_templates = [_a_templates(each) for each in read]
    for at, (directive, template, zones) in enumerate(read):
        if directive.arguments[1] != "A":
            # One for all types treats A differently only where another template took A before.
            others = a_templates if directive.arguments[1] == "AAAA" else a_templates[:at]
            met = [] if path.only_aaaa else list(chain(*others))
            path.server.work.take(1 + len(met))
            for zone in filter(path.reaches, zones):
                path.server.work.take(4 * len(met) + len(template.regexes) + len(template.answers))
                _apply_template(path, directive, zone, template, met)


def _a_templates(read: tuple[Directive, Template, list[str]]) -> list[_ATemplate]:
    directive, template, zones = read
    found = []
    regexes = frozenset(map(plain, template.regexes))
    for zone in zones if directive.arguments[1] != "AAAA" else ():
        limited = template.limited(zone)
        refuses = limited and not template.passes_on(zone)
        ends = refuses or not limited
        found.append(_ATemplate(zone=zone, regexes=regexes, data=template.gives("A"), ends=ends, refuses=refuses))
    return found


def _apply_template(
    path: _QueryPath, directive: Directive, zone: str, template: Template, others: list[_ATemplate]
) -> None:
    """One template that AAAA queries of the zone meet. Type ANY withholds only where A is treated differently."""
    limited, treatment = template.limited(zone), template.treatment
    refuses_rest = limited and not template.passes_on(zone)
    answers_a_only = bool(template.answers) and treatment is not None and template.rcode == "NOERROR"
    by_type = directive.arguments[1] == "AAAA" or path.only_aaaa or any(each.settles(zone) for each in others)
    if by_type or answers_a_only:
        alike = treatment is None or _is_data(zone, template, others)
        if refuses_rest and not any(each.settles(zone) and each.refuses for each in others):
            # Names that match no regex get SERVFAIL: with the matching ones, or without them, that is nearly all.
            path.block(directive, zone, AaaaTreatment.SERVFAIL, limited=alike, final=True)
        elif treatment is not None and not alike:
            path.block(directive, zone, treatment, limited=limited, final=template.final)
    if refuses_rest or not limited:
        path.answered.append(zone)


def _is_data(zone: str, template: Template, others: list[_ATemplate]) -> bool:
    """Whether templates make the zone's A as well: names of which only A has data, or both families without data."""
    settling = [each for each in others if each.settles(zone)]
    near = [each for each in others if within(zone, each.zone) or within(each.zone, zone)]
    own = frozenset(map(plain, template.regexes))
    empty = template.treatment is AaaaTreatment.NODATA
    if settling and (empty or not any(each.data for each in settling)):
        return True
    twins = [each for each in near if each.data is empty]
    return bool(own) and template.treatment is not None and own <= {regex for each in twins for regex in each.regexes}


def _run_hosts(path: _QueryPath) -> None:
    """Inline entries: a name with only IPv4 then has no AAAA, whatever forward would find. Files are not read here."""
    for directive in path.server.of("hosts"):
        zones = path.server.zones_in(zones_of(directive.arguments[1:]))
        named: dict[str, set[Family]] = {}
        for line in directive.body:
            address = parse_address(line[0])
            if address is not None:
                for name in line[1:]:
                    named.setdefault(name.rstrip(".").lower(), set()).add(family_of(address))
        without = [name for name, families in named.items() if families == {Family.V4} and path.reaches(name)]
        path.server.work.take(len(without) * len(zones))
        for name in [name for name in without if lies_in_any(name, zones)][:MAX_HOSTS]:
            path.block(directive, name, AaaaTreatment.NODATA, limited=True)
