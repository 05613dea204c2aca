"""Texts and links for label values, taken from the exporter, so that a new cause or reason needs no edit here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alerts.derive import runbook_base
from exporter.model.cause import Cause
from exporter.model.dns import BlockKind
from exporter.model.facts import PeerState
from exporter.model.reason import Reason
from exporter.report.document import alert_name
from exporter.web.page.facts import REASONS
from exporter.web.page.matrix import STATES
from grafana.panels import BLUE, GREEN, ORANGE, RED, Style, scale

CAUSE_SUMMARIES: Mapping[str, str] = {cause.value: cause.spec.says for cause in Cause}
RUNBOOK: Mapping[str, str] = {cause.value: alert_name(cause) for cause in Cause}
WHY: Mapping[str, str] = {reason.value: REASONS[reason] for reason in Reason}
POD_STATES: Mapping[str, str] = {"eligible": "probed", **{state.value: words for state, words in STATES.items()}}

BLOCKS: Mapping[str, str] = {
    "none": "served",
    "blanket_nodata": "filtered: every AAAA answer is empty",
    "blanket_nxdomain": "filtered: every AAAA answer is NXDOMAIN",
    "filtered": "filtered: removed from answers for some names",
    "refused": "filtered: refused",
    "servfail": "filtered: answered with SERVFAIL",
    "dropped": "filtered: not answered",
    "sinkhole": "filtered: replaced by the unspecified address",
    "dns64": "synthesised by DNS64 (not a fault)",
    "undecided": "undecided: the answers have several explanations",
}
# The kinds by rank, the worst last; undecided and dns64 are no faults.
RANKED_KINDS = (BlockKind.NONE, *reversed(tuple(BlockKind)[1:]))
WITHHELD = Style(
    words={str(rank): BLOCKS[kind] for rank, kind in enumerate(RANKED_KINDS)},
    steps=scale((0, GREEN), (1, BLUE), (RANKED_KINDS.index(BlockKind.DNS64) + 1, RED)),
)
PEERS: Mapping[str, str] = {
    PeerState.COMPLETE: "complete",
    PeerState.MISSING_ROUTE: "no route to its addresses",
    PeerState.MISSING_NEIGHBOR: "no neighbour entry",
    PeerState.WRONG_MAC: "neighbour entry with a wrong MAC",
    PeerState.MISSING_FDB: "no forwarding entry",
    PeerState.WRONG_DESTINATION: "forwarding entry to a wrong address",
}
ACCEPT_RA: Mapping[str, str] = {
    "0": "0: ignores router advertisements",
    "1": "1: ignores them while forwarding",
    "2": "2: accepts them while forwarding",
}

SEVERITY = Style(words={"3": "critical", "2": "warning", "1": "info"}, steps=scale((1, BLUE), (2, ORANGE), (3, RED)))
READ = Style(words={"1": "yes", "0": "could not be read"}, steps=scale((0, RED), (1, GREEN)))

# ${__value.text} is the text of a cell after mapping.
TO_RUNBOOK = ("runbook: meaning, diagnosis, mitigation", runbook_base(Path(__file__).parents[1]) + "${__value.text}.md")
TO_CLUSTER = (
    "this cluster",
    "/d/dualstack-fleet?var-cluster=${__value.raw}&${datasource:queryparam}&${__url_time_range}",
)
TO_NODE = (
    "this node",
    "/d/dualstack-node?var-node=${__value.raw}&${datasource:queryparam}&${cluster:queryparam}&${__url_time_range}",
)
