"""What one server block of a Corefile does to AAAA queries: the directives that withhold them. Pure; for corefile.py.

CoreDNS runs plugins in an order fixed when it is built (plugin.cfg), however the Corefile lists them: dns64, rewrite,
acl, template, hosts, then kubernetes, file and forward. Within a plugin the file's order counts. A directive behind one
that already decides a zone is never reached. Semantics follow the plugins' own setup and ServeDNS code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from exporter.inventory.corefile.syntax import ROOT, Directive, ServerBlock, lies_in_any, zones_of
from exporter.model.cluster.corefile import AaaaBlock, AaaaTreatment
from exporter.model.family import Family, family_of, parse_address, parse_net

TEXT_LIMIT = 160
MAX_HOSTS = 20
ACL_ACTIONS = {"block": AaaaTreatment.REFUSED, "filter": AaaaTreatment.FILTERED, "drop": AaaaTreatment.DROPPED}
# dns64 makes AAAA of A where the plugins behind it gave none; not of NXDOMAIN, and it needs some message
# (plugin/dns64).
NOT_SYNTHESIZED = frozenset({AaaaTreatment.NXDOMAIN, AaaaTreatment.SERVFAIL, AaaaTreatment.DROPPED})


@dataclass(slots=True, kw_only=True)
class _QueryPath:
    """How far AAAA (and A) queries come through one server block."""

    server: ServerBlock
    answered: list[str] = field(default_factory=list)  # zones in which AAAA queries come no further
    a_answered: list[str] = field(default_factory=list)  # zones in which A queries come no further
    blocks: list[AaaaBlock] = field(default_factory=list)

    def reaches(self, zone: str) -> bool:
        return not lies_in_any(zone, self.answered)

    def block(self, directive: Directive, zone: str, treatment: AaaaTreatment, *, limited: bool) -> None:
        self.blocks.append(
            AaaaBlock(
                zone=zone,
                plugin=directive.plugin,
                fate=treatment,
                line=directive.line,
                text=directive.text[:TEXT_LIMIT],
                file=directive.file,
                all_names=zone == ROOT and not limited and not any(self.server.of("view")),
            )
        )


def withheld(server: ServerBlock) -> list[AaaaBlock]:
    """The directives of this server block that withhold AAAA and are reached."""
    path = _QueryPath(server=server)
    for run in (_run_rewrite, _run_acl, _run_template, _run_hosts):
        run(path)
    dns64 = list(server.of("dns64"))
    # dns64 answers clients that ask over IPv6, with allow_ipv4 all clients.
    if not dns64:
        return path.blocks
    if any(line[0] == "allow_ipv4" for directive in dns64 for line in directive.body):
        return [block for block in path.blocks if block.fate in NOT_SYNTHESIZED]
    return [replace(block, ipv4_clients_only=block.fate not in NOT_SYNTHESIZED) for block in path.blocks]


def _run_rewrite(path: _QueryPath) -> None:
    """Only `rewrite [stop|continue] type AAAA X` changes the type; the answer then has X records."""
    for directive in path.server.of("rewrite"):
        words = list(directive.arguments)
        if len(words) < 2:
            words += [word for line in directive.body for word in line]
        if words and words[0].lower() in ("stop", "continue"):
            del words[0]
        if len(words) == 3 and words[0].lower() == "type" and words[1].upper() == "AAAA" and words[2].upper() != "AAAA":
            for zone in filter(path.reaches, path.server.zones):
                path.block(directive, zone, AaaaTreatment.REWRITTEN, limited=False)
                path.answered.append(zone)


def _run_acl(path: _QueryPath) -> None:
    """Policies in order; the first whose type and source fit decides, and `allow` ends acl for the zone."""
    allowed: list[str] = []
    for directive in path.server.of("acl"):
        for zone in path.server.zones_in(directive.arguments):
            if path.reaches(zone) and not lies_in_any(zone, allowed):
                _apply_policies(path, directive, zone, allowed)


def _apply_policies(path: _QueryPath, directive: Directive, zone: str, allowed: list[str]) -> None:
    a_allowed = lies_in_any(zone, path.a_answered)
    for line in directive.body:
        action, types, every_client = _acl_policy(line)
        takes_aaaa, takes_a = (not types or bool(types & {each, "*"}) for each in ("AAAA", "A"))
        if action == "allow":
            a_allowed = a_allowed or (takes_a and every_client)
            if takes_aaaa and every_client:
                allowed.append(zone)
                return
        elif action not in ACL_ACTIONS:
            path.server.errors.append(f"line {directive.line}: acl does not know {line[0][:40]}")
        elif takes_aaaa:
            if not takes_a or a_allowed:
                path.block(directive, zone, ACL_ACTIONS[action], limited=not every_client)
            if every_client:
                path.answered.append(zone)
                return


def _acl_policy(line: tuple[str, ...]) -> tuple[str, frozenset[str], bool]:
    """One policy: action, types (none: all), and whether it applies to every client."""
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


def _run_template(path: _QueryPath) -> None:
    for directive in path.server.of("template"):
        if len(directive.arguments) < 2:
            path.server.errors.append(f"line {directive.line}: template needs a class and a type")
            continue
        dns_class, qtype, *written = directive.arguments
        if dns_class not in ("IN", "ANY") or qtype not in ("AAAA", "A", "ANY"):
            continue
        template = _read_template(directive, path.server.errors)
        for zone in path.server.zones_in(written):
            if qtype == "A":
                path.a_answered += [] if template.limited and template.passes_on(zone) else [zone]
            elif path.reaches(zone):
                _apply_template(path, directive, zone, template)


def _apply_template(path: _QueryPath, directive: Directive, zone: str, template: _Template) -> None:
    """One template that AAAA queries of the zone meet. Type ANY withholds only where A is treated differently."""
    refuses_rest = template.limited and not template.passes_on(zone)
    aaaa_only = directive.arguments[1] == "AAAA" or lies_in_any(zone, path.a_answered)
    answers_a_only = bool(template.answers) and template.treatment is not None and template.rcode == "NOERROR"
    if (aaaa_only or answers_a_only) and refuses_rest:
        # Names that match no regex get SERVFAIL: with the matching ones, or without them, that is nearly all.
        path.block(directive, zone, AaaaTreatment.SERVFAIL, limited=template.treatment is None)
    elif (aaaa_only or answers_a_only) and template.treatment is not None:
        path.block(directive, zone, template.treatment, limited=template.limited)
    if refuses_rest or not template.limited:
        path.answered.append(zone)


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
        for name in [name for name in without if lies_in_any(name, zones)][:MAX_HOSTS]:
            path.block(directive, name, AaaaTreatment.NODATA, limited=True)


# One `template` directive (plugin/template)

AFTER_RCODE = {"NOERROR": AaaaTreatment.NODATA, "NXDOMAIN": AaaaTreatment.NXDOMAIN, "REFUSED": AaaaTreatment.REFUSED}
RCODES = frozenset(
    (
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
        "NOTZONE", "BADSIG", "BADVERS", "BADKEY", "BADTIME", "BADMODE", "BADNAME", "BADALG", "BADTRUNC", "BADCOOKIE",
    )
)  # fmt: skip
EVERY_NAME = frozenset({".*", "^.*$", "(.*)", "^(.*)$", ".", "^.*", ".*$", r".*\.", r"^.*\.$", ".+", "^.+$"})
# An answer line of a template may take its type from the question.
_ANSWERS_AAAA = re.compile(r"\b(?:AAAA|CNAME|DNAME)\b|\{\{-?\s*\.Type\s*-?\}\}")


@dataclass(slots=True, kw_only=True)
class _Template:
    regexes: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    rcode: str = "NOERROR"
    falls_through: tuple[str, ...] | None = None

    @property
    def limited(self) -> bool:
        return bool(self.conditions) or (bool(self.regexes) and not EVERY_NAME.intersection(self.regexes))

    @property
    def treatment(self) -> AaaaTreatment | None:
        """What it does to AAAA; None where it answers with addresses."""
        if self.rcode == "SERVFAIL":
            return AaaaTreatment.SERVFAIL
        if any(_ANSWERS_AAAA.search(answer) for answer in self.answers):
            return None
        return AFTER_RCODE.get(self.rcode, AaaaTreatment.SERVFAIL)

    def passes_on(self, zone: str) -> bool:
        """Whether names of the zone that no regex matches go on to the next template and plugin."""
        return self.falls_through is not None and lies_in_any(zone, self.falls_through)


def _read_template(directive: Directive, errors: list[str]) -> _Template:
    template = _Template()
    lists = {"match": template.regexes, "answer": template.answers, "expr": template.conditions}
    for line in directive.body:
        words = list(line)
        while words:
            key = words.pop(0)
            if key == "rcode":  # takes one word; a block on one line may go on behind it
                template.rcode = words.pop(0) if words else "NOERROR"
                continue
            if key == "fallthrough":
                template.falls_through = tuple(zones_of(words)) if words else (ROOT,)
            elif key in lists:
                lists[key] += words
            words = []
    if template.rcode not in RCODES:
        errors.append(f"line {directive.line}: template does not know rcode {template.rcode[:40]}")
    return template
