"""The recorded answers of real DNS servers (tests/data/dns) as lookups."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import dns.message

from exporter.model.family import parse_address
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.model.vantage import Vantage
from exporter.probes.dns_reply import judge, read_reply
from tests.unit.hostile_dns import as_asked

FOLDER = Path(__file__).parent / "data" / "dns"
QUERY_ID = 0x2B67
RANDOM_LABEL = "zq7x1k"  # the name that exists nowhere
HOST = Vantage(kind="host", namespace="", name="ra", netns=None)


def server(text: str = "192.0.2.53", label: str = "cluster_dns") -> Nameserver:
    address = parse_address(text)
    assert address is not None
    return Nameserver(address, label)


@cache
def capture(name: str) -> dict[tuple[str, str], Lookup]:
    """The first answer over UDP per (name, type) of A, AAAA and MX; with EDNS where it was asked both ways."""
    exchanges = json.loads((FOLDER / f"{name}.json").read_text())["exchanges"]
    asked = [e for e in exchanges if e["transport"] == "udp" and e["qtype"] in {"A", "AAAA", "MX"}]
    found: dict[tuple[str, str], Lookup] = {}
    for exchange in sorted(asked, key=lambda e: e["edns"] is None):
        found.setdefault((exchange["name"].removesuffix("."), exchange["qtype"]), _lookup(exchange))
    return found


def names(found: dict[tuple[str, str], Lookup]) -> list[str]:
    """The names that were asked for A and AAAA, the random ones left out."""
    both = dict.fromkeys(name for name, _ in found if (name, "A") in found and (name, "AAAA") in found)
    return [name for name in both if not name.startswith(RANDOM_LABEL)]


def chosen(found: dict[tuple[str, str], Lookup], *wanted: str) -> list[Lookup]:
    """The answers about these names and about all random ones."""
    return [lookup for (name, _), lookup in found.items() if name in wanted or name.startswith(RANDOM_LABEL)]


def _lookup(exchange: dict[str, Any]) -> Lookup:
    name, qtype = exchange["name"].removesuffix("."), exchange["qtype"]
    label = "random" if name.startswith(RANDOM_LABEL) else name
    question = Question(
        vantage=HOST,
        server=server(),
        name=name,
        qtype=qtype,
        label=label,
        purpose=Purpose.VERDICT,
        edns=exchange["edns"] is not None,
    )
    if exchange["wire_hex"] is None:
        return Lookup(question=question, outcome=LookupOutcome.TIMEOUT)
    query = dns.message.make_query(exchange["name"], qtype)
    query.id = QUERY_ID
    reply = read_reply(as_asked(query), bytes.fromhex(exchange["wire_hex"]))
    assert reply is not None
    return Lookup(question=question, outcome=judge(reply), seconds=0.001, reply=reply)
