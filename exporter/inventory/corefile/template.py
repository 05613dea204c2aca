"""One directive `template` (plugin/template): which names it takes, and what it answers. Pure; for aaaa.py."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address

from exporter.inventory.corefile.syntax import ROOT, Directive, lies_in_any, zones_of
from exporter.model.cluster.corefile import AaaaTreatment
from exporter.model.family import is_destination

AFTER_RCODE = {"NOERROR": AaaaTreatment.NODATA, "NXDOMAIN": AaaaTreatment.NXDOMAIN, "REFUSED": AaaaTreatment.REFUSED}
RCODES = frozenset(
    (
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
        "NOTZONE", "BADSIG", "BADVERS", "BADKEY", "BADTIME", "BADMODE", "BADNAME", "BADALG", "BADTRUNC", "BADCOOKIE",
    )
)  # fmt: skip
EVERY_NAME = frozenset({"", ".*", ".", ".+", r".*\..*", r".+\..+", r"(?:.*)", "(.*)", "(.+)"})
# An answer line of a template may take its type from the question.
_OTHER_ANSWER = re.compile(r"\b(?:CNAME|DNAME)\b|\{\{-?\s*\.Type\s*-?\}\}")
_RECORD = re.compile(r"\b(A|AAAA) (.+)")  # of an answer with single blanks
_NAMED_GROUP = re.compile(r"\?P?<\w+>")


def plain(regex: str) -> str:
    """A regex without what makes no difference for the names of a zone: anchors, names of groups, the final dot."""
    text = _NAMED_GROUP.sub("", regex).removeprefix("(?i)").removeprefix("^").removesuffix("$")
    for dot in ("[.]?", r"\.?", "[.]", r"\."):
        if text.endswith(dot):
            return text.removesuffix(dot)
    return text


def _is_address(text: str) -> bool:
    """Whether a record's address can be dialled, as far as it is written out."""
    try:
        address = ip_address(text)
    except ValueError:
        return True
    return is_destination(address)


@dataclass(slots=True, kw_only=True)
class Template:
    """The names of its zones that it takes (all where no regex is), and what it answers to a query of its type."""

    regexes: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    authority: list[str] = field(default_factory=list)
    rcode: str = "NOERROR"
    falls_through: tuple[str, ...] | None = None

    def limited(self, zone: str) -> bool:
        """Whether it takes only some names of the zone."""
        dotted = "" if zone == ROOT else re.escape(zone)
        every = EVERY_NAME | {f".*{dotted}", rf".*\.{dotted}", rf".+\.{dotted}", rf"(.*\.)?{dotted}"}
        return bool(self.conditions) or (bool(self.regexes) and every.isdisjoint(map(plain, self.regexes)))

    def gives(self, qtype: str) -> bool:
        """Whether it answers with addresses, or with a name that may have them."""
        return self.rcode != "SERVFAIL" and any(
            _OTHER_ANSWER.search(answer)
            or any(record[1] == qtype and _is_address(record[2]) for record in _RECORD.finditer(answer))
            for answer in self.answers
        )

    @property
    def treatment(self) -> AaaaTreatment | None:
        """What it does to AAAA; None where it answers with addresses."""
        if self.gives("AAAA"):
            return None
        if self.rcode == "NOERROR" and any(
            record[1] == "AAAA" for record in map(_RECORD.search, self.answers) if record
        ):
            return AaaaTreatment.UNUSABLE
        return AFTER_RCODE.get(self.rcode, AaaaTreatment.SERVFAIL)

    @property
    def final(self) -> bool:
        """Whether dns64 in front of it makes no AAAA."""
        denies = self.rcode == "NXDOMAIN" and any(" SOA " in record for record in self.authority)
        return denies or self.rcode == "SERVFAIL" or self.treatment is AaaaTreatment.UNUSABLE

    def passes_on(self, zone: str) -> bool:
        """Whether names of the zone that no regex matches go on to the next template and plugin."""
        return self.falls_through is not None and lies_in_any(zone, self.falls_through)


def read_template(directive: Directive, errors: list[str]) -> Template:
    """The body of the directive; what CoreDNS refuses is added to `errors`."""
    template = Template()
    lists = {"match": template.regexes, "answer": template.answers, "expr": template.conditions}
    lists["authority"] = template.authority
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
                lists[key] += [" ".join(word.split()) for word in words] if key == "answer" else words
            words = []
    if template.rcode not in RCODES:
        errors.append(f"line {directive.line}: template does not know rcode {template.rcode[:40]}")
    return template
