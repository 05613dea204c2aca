"""Rows of the matrix: what the cluster's nameserver withholds, or that it does not answer."""

from __future__ import annotations

from tests.lab import edits
from tests.lab.cluster import Cluster
from tests.lab.coredns import DISPUTED, MODES
from tests.lab.fault import DNS_SILENT, UNREACHABLE, Act, Fault, Scope, all_of, by, critical, warning
from tests.lab.path_faults import filtered
from tests.lab.settings import OUTSIDE_NAME, Settings

BLOCKED, TEMPLATE, MUSL = "dns_aaaa_blocked", "coredns_template_blocks_aaaa", "dns_search_breaks_musl"
RECORD = "service_aaaa_missing"
DIFFER, QUERIES_LOST = "dns_answers_differ", "dns_queries_lost"
TOGETHER, WRONG_RECORD = "dns_parallel_queries_lost", "service_aaaa_wrong"


def mode(name: str) -> Act:
    return lambda cluster: cluster.dns(name)


def _withheld(name: str, kind: str, **more: object) -> Fault:
    return Fault(
        f"aaaa_{name}", Scope.DNS, MODES[name], mode(name),
        **{"causes": critical(BLOCKED), "detect": 2, "evidence": {BLOCKED: kind}, **more}  # type: ignore[arg-type]
    )  # fmt: skip


def _empty_name_in_search_domain(cluster: Cluster) -> None:
    """A name below a search candidate makes the candidate exist, without addresses."""
    cluster.records(lambda known: known.update({f"sub.{OUTSIDE_NAME}.cluster.local": {"A": ["192.0.2.1"], "AAAA": []}}))


def _hold_musl(cluster: Cluster) -> None:
    cluster.pod_roots[cluster.node.pods[1].netns].hold_musl()


def _drop_record(cluster: Cluster) -> None:
    cluster.records(lambda known: known["client.default.svc.cluster.local"].pop("AAAA"))


def _ask_about_another(cluster: Cluster) -> None:
    """One more control name. What nameservers said before goes with the old list of names, so that minutes need not be
    waited for.
    """

    def edit(settings: Settings) -> None:
        settings["dns"]["names"].append({"name": DISPUTED})

    cluster.records(lambda known: known.update({DISPUTED: {"A": ["192.0.2.1"], "AAAA": ["2001:db8:ffff::1"]}}))
    cluster.configure(edit)


TEMPLATE_LINES = {
    "noerror": "template IN AAAA . {\n        rcode NOERROR\n    }",
    "nxdomain": "template IN AAAA . {\n        rcode NXDOMAIN\n    }",
}


def template(name: str) -> Act:
    return lambda cluster: cluster.change(edits.corefile(TEMPLATE_LINES[name]))


DNS_FAULTS: tuple[Fault, ...] = (
    _withheld("noerror", "blanket_nodata", explained=by(BLOCKED, RECORD)),
    _withheld("nxdomain", "blanket_nxdomain", explained=by(BLOCKED, RECORD)),
    _withheld("refused", "refused", apart=True),
    _withheld("servfail", "servfail"),
    _withheld("dropped", "dropped"),
    _withheld("filtered", "filtered", causes=warning(BLOCKED), explained=by(BLOCKED, RECORD)),
    _withheld("sinkhole", "sinkhole", causes=warning(BLOCKED)),
    Fault(
        "a_refused", Scope.DNS, MODES["A-refused"], all_of(mode("A-refused"), _hold_musl), critical("dns_a_blocked"),
        by("dns_a_blocked", MUSL), detect=2, evidence={"dns_a_blocked": "refused"},
    ),
    Fault(
        "nameserver_silent", Scope.DNS, MODES["silent"], mode("silent"), critical(DNS_SILENT),
        by(DNS_SILENT, "target_down"), detect=2,
    ),
    Fault(
        "nameserver_silent_over_ipv6", Scope.DNS, MODES["silent-IPv6"], mode("silent-IPv6"), warning(DNS_SILENT),
        detect=2,
        evidence={DNS_SILENT: "(fd00:10:244:2::42) to"},
    ),
    Fault(
        "nameserver_filtered_over_ipv6", Scope.DNS, "the way to the nameserver drops IPv6",
        filtered("resolver", "ip6", "input", "meta l4proto { tcp, udp } th dport 53 drop"),
        warning(UNREACHABLE), by(UNREACHABLE, DNS_SILENT), ipv6=False, detect=2,
    ),
    Fault(
        "upstreams_disagree", Scope.DNS, MODES["disagreeing"], all_of(_ask_about_another, mode("disagreeing")),
        warning(DIFFER),
        detect=2, clear=3, evidence={DIFFER: f"{DISPUTED} A"},
    ),
    Fault(
        "questions_lost", Scope.DNS, MODES["lossy"], all_of(_ask_about_another, mode("lossy")), warning(QUERIES_LOST),
        detect=2, clear=3, evidence={QUERIES_LOST: "questions unanswered"},
    ),
    Fault(
        "parallel_queries_lost", Scope.DNS, MODES["racing"], mode("racing"), warning(TOGETHER),
        detect=2, evidence={TOGETHER: "sent alone, it came"},
    ),
    Fault(
        "service_record_wrong", Scope.DNS, MODES["translating"], mode("translating"), warning(WRONG_RECORD),
        detect=2, evidence={WRONG_RECORD: "made of its IPv4 ClusterIP"}, apart=True,
    ),
    Fault(
        "search_domain_empty", Scope.DNS, "a search candidate exists without addresses; no pod uses musl",
        _empty_name_in_search_domain, {}, infos=(MUSL,), detect=2,
    ),
    Fault(
        "search_domain_breaks_musl", Scope.DNS, "a search candidate exists without addresses; one pod uses musl",
        all_of(_empty_name_in_search_domain, _hold_musl), warning(MUSL), detect=2,
    ),
    Fault(
        "service_record_missing", Scope.DNS, "the cluster DNS has no AAAA for one dual-stack Service", _drop_record,
        warning(RECORD), detect=2, apart=True,
    ),
    Fault(
        "template_blocks_aaaa", Scope.DNS, "a template of the Corefile withholds AAAA",
        all_of(template("noerror"), mode("noerror")),
        critical(TEMPLATE), by(TEMPLATE, BLOCKED, RECORD), apart=True,
    ),
)  # fmt: skip
