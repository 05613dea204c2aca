"""One `template` directive of a Corefile, as far as it decides about AAAA (plugin/template). Pure; used by corefile_aaaa.py."""

from __future__ import annotations

import re
from dataclasses import dataclass

from exporter.inventory.corefile.syntax import Directive
from exporter.inventory.corefile.zones import ROOT, within, zone_of
from exporter.model.corefile import AaaaTreatment

AFTER_RCODE = {"NOERROR": AaaaTreatment.NODATA, "NXDOMAIN": AaaaTreatment.NXDOMAIN, "REFUSED": AaaaTreatment.REFUSED}
RCODES = frozenset(
    (
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE",
        "BADSIG", "BADVERS", "BADKEY", "BADTIME", "BADMODE", "BADNAME", "BADALG", "BADTRUNC", "BADCOOKIE",
    )
)  # fmt: skip
EVERY_NAME = frozenset({".*", "^.*$", "(.*)", "^(.*)$", ".", "^.*", ".*$", r".*\.", r"^.*\.$", ".+", "^.+$"})
# An answer line of a template may take its type from the question.
_ANSWERS_AAAA = re.compile(r"\b(?:AAAA|CNAME|DNAME)\b|\{\{-?\s*\.Type\s*-?\}\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template's block, as far as it decides about AAAA."""

    regexes: tuple[str, ...] = ()
    conditional: bool = False
    answers: tuple[str, ...] = ()
    rcode: str = "NOERROR"
    falls_through: tuple[str, ...] | None = None

    @property
    def limited(self) -> bool:
        return self.conditional or (bool(self.regexes) and not EVERY_NAME.intersection(self.regexes))

    @property
    def fate(self) -> AaaaTreatment | None:
        """What it makes of AAAA; None where it answers with addresses."""
        if self.rcode == "SERVFAIL":
            return AaaaTreatment.SERVFAIL
        if any(_ANSWERS_AAAA.search(answer) for answer in self.answers):
            return None
        return AFTER_RCODE.get(self.rcode, AaaaTreatment.SERVFAIL)

    def passes_on(self, zone: str) -> bool:
        """Whether names of the zone that no regex matches go on to the next template and plugin."""
        return self.falls_through is not None and any(within(zone, each) for each in self.falls_through)


def read_template(directive: Directive, errors: list[str]) -> Template:
    found: dict[str, list[str]] = {"match": [], "answer": [], "expr": []}
    rcode, through = "NOERROR", None
    for line in directive.body:
        words = list(line)
        while words:
            key = words.pop(0)
            if key == "rcode":  # takes one word; a block on one line may go on behind it
                rcode = words.pop(0) if words else "NOERROR"
                continue
            if key == "fallthrough":
                through = tuple(zone for zone in map(zone_of, words) if zone) if words else (ROOT,)
            elif key in found:
                found[key] += words
            words = []
    if rcode not in RCODES:
        errors.append(f"line {directive.line}: template does not know rcode {rcode[:40]}")
    return Template(
        regexes=tuple(found["match"]),
        conditional=bool(found["expr"]),
        answers=tuple(found["answer"]),
        rcode=rcode,
        falls_through=through,
    )
