"""When what was read counts as stale, why a kind was not read, what an answer tells of its trouble, where a resource is
served.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from exporter.inventory.kubernetes.api_discovery import read_resources, read_served, served_version
from exporter.inventory.kubernetes.api_error import ApiError, ApiErrorKind, error_of_answer, error_of_status
from exporter.inventory.kubernetes.stream import Change, reaches, read_event, read_page
from exporter.inventory.kubernetes.watch_state import HELD, OUTAGE, WatchState, why_failing, why_unread
from exporter.inventory.kubernetes.watched_resources import (
    CALICO,
    CRD,
    FELIX,
    IP_POOLS,
    NODES,
    POLICIES,
    SERVICE_CIDRS,
    watched_resources,
)
from exporter.model.cause import Role
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.reason import Reason
from tests.unit import recorded

NOW = 1000.0

# Staleness


def watched(now: float = NOW) -> WatchState:
    """A reading that was listed and is watched."""
    standing = WatchState()
    standing.mark_current(now)
    standing.open(now)
    return standing


def test_a_quiet_watch_is_current_as_long_as_it_is_open() -> None:
    standing = watched()
    standing.mark_current(NOW + 60)  # an event or a bookmark: none need follow it
    assert not standing.stale(NOW + 10_000)
    standing.close(NOW + 10_000)
    assert standing.stale(NOW + 10_001 + OUTAGE)


def test_a_lost_watch_makes_it_stale_after_a_moment_and_a_new_one_that_lasts_fresh() -> None:
    standing = watched()
    standing.close(NOW + 100)
    assert not standing.stale(NOW + 100 + OUTAGE)
    assert standing.stale(NOW + 101 + OUTAGE)
    standing.open(NOW + 200)
    assert standing.stale(NOW + 200 + HELD / 2)  # it may be refused yet
    assert not standing.stale(NOW + 200 + HELD)


def test_watches_that_are_refused_at_once_do_not_make_it_fresh() -> None:
    standing = watched()
    standing.close(NOW + 100)
    for moment in range(101, 140):
        standing.open(NOW + moment)
        standing.close(NOW + moment + 0.1)
    assert standing.stale(NOW + 140)
    assert standing.long_lost(NOW + 140)
    standing.mark_current(NOW + 141)  # listed again
    assert not standing.stale(NOW + 142)
    assert not standing.long_lost(NOW + 142)


def test_what_was_never_read_is_not_stale() -> None:
    standing = WatchState()
    standing.close(NOW)
    assert not standing.stale(NOW + 1e6)


# Why a kind was not read


def refused(kind: ApiErrorKind) -> WatchState:
    return WatchState(first_result=True, error=ApiError(kind, ""))


def test_a_refusal_is_told_before_an_outage_and_that_before_absence() -> None:
    np, calico, gnp, *_ = POLICIES
    held = watched()
    assert why_unread({np: held, calico: refused(ApiErrorKind.NOT_FOUND)}) == {}
    assert why_unread({np: held, calico: refused(ApiErrorKind.FORBIDDEN)}) == {
        ResourceKind.POLICIES: Reason.NO_PERMISSION
    }
    assert why_unread({np: refused(ApiErrorKind.NOT_FOUND), gnp: refused(ApiErrorKind.UNREACHABLE)}) == {
        ResourceKind.POLICIES: Reason.API_UNAVAILABLE
    }
    assert why_unread({IP_POOLS: refused(ApiErrorKind.NOT_FOUND), FELIX: WatchState()}) == {
        ResourceKind.IP_POOLS: Reason.NOT_APPLICABLE,
        ResourceKind.FELIX: Reason.API_UNAVAILABLE,
    }


def test_of_several_troubles_the_one_that_tells_most_is_told_and_none_of_what_is_well() -> None:
    forbidden, absent, silent = (
        refused(ApiErrorKind.FORBIDDEN),
        refused(ApiErrorKind.NOT_FOUND),
        refused(ApiErrorKind.STREAM_IDLE),
    )
    assert why_failing([absent, forbidden, silent], NOW) is silent.error
    assert why_failing([absent, forbidden], NOW) is forbidden.error
    assert why_failing([absent], NOW) is absent.error
    hiccup = watched()
    hiccup.error = ApiError(ApiErrorKind.UNREACHABLE, "")
    assert why_failing([hiccup], NOW) is None
    hiccup.close(NOW)
    assert why_failing([hiccup, absent], NOW + 1 + OUTAGE) is hiccup.error


def test_what_is_optional_is_missed_by_nobody() -> None:
    optional = next(each for each in watched_resources(Role.CLUSTER, "") if each.optional)
    assert why_unread({optional: refused(ApiErrorKind.FORBIDDEN)}) == {}


# Answers

STATUSES = {
    "400-bad-continue": ApiErrorKind.REJECTED, "401-invalid-token": ApiErrorKind.UNAUTHORIZED,
    "403-list-ippools-crd": ApiErrorKind.FORBIDDEN,
    "404-absent-api-group-list": ApiErrorKind.NOT_FOUND, "405-method-not-allowed": ApiErrorKind.REJECTED,
    "406-not-acceptable": ApiErrorKind.REJECTED,
    "410-expired-continue-token": ApiErrorKind.EXPIRED, "410-list-exact-old-resourceversion": ApiErrorKind.EXPIRED,
    "429-priority-and-fairness": ApiErrorKind.THROTTLED, "504-list-future-resourceversion": ApiErrorKind.VERSION_AHEAD,
}  # fmt: skip


@pytest.mark.parametrize(("name", "trouble"), STATUSES.items())
def test_each_recorded_error_is_told_apart(name: str, trouble: ApiErrorKind) -> None:
    answer = json.loads((recorded.DATA / "error" / f"{name}.json").read_text())["response"]
    body = json.dumps(answer["body"]) if "body" in answer else answer["body_text"]
    error = error_of_answer(answer["status"], answer["headers"], body.encode())
    assert error.kind is trouble
    assert bool(error.resume) == (name == "410-expired-continue-token")
    assert error.retry_after == (1.0 if "Retry-After" in answer["headers"] else None)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("folder", "name", "trouble"),
    [
        ("watch", "error-410-after-restart-nodes", ApiErrorKind.EXPIRED),
        ("watch", "invalid-resourceversion", ApiErrorKind.SERVER),
        ("watch-old-etcd", "nodes-no-resourceversion", ApiErrorKind.VERSION_AHEAD),
        ("watch-old-etcd", "nodes-sendinitialevents", ApiErrorKind.SERVER),
    ],
)
def test_errors_inside_a_watch_are_told_apart(folder: str, name: str, trouble: ApiErrorKind) -> None:
    line = (recorded.DATA / folder / f"{name}.ndjson").read_bytes().splitlines()[0]
    with pytest.raises(ApiError) as raised:
        read_event(line)
    assert raised.value.kind is trouble


def test_every_recorded_event_is_read_and_bookmarks_only_carry_a_version() -> None:
    kinds = set()
    for path in sorted((recorded.DATA / "watch").glob("*.ndjson")):
        for line in path.read_bytes().splitlines():
            try:
                event = read_event(line)
            except ApiError:
                continue
            assert event is not None
            kinds.add(event.change)
            assert event.version
    assert kinds == set(Change)


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    error = ApiError(ApiErrorKind.UNREACHABLE, f"its certificate is not trusted: {'much else ' * 100}: no key usage")
    assert str(error).startswith("unreachable: its certificate is not trusted: much")
    assert str(error).endswith("else : no key usage")
    assert len(str(error)) < 330
    assert str(ApiError(ApiErrorKind.STREAM_IDLE, "x" * 300)) == f"silent: {'x' * 300}"


@pytest.mark.parametrize(
    "status", [None, 7, [], {}, {"code": {}, "details": [], "metadata": 1, "message": 2}, {"code": "410"}]
)
def test_a_status_of_any_shape_is_some_trouble(status: Any) -> None:
    assert error_of_status(status).kind in set(ApiErrorKind)


@pytest.mark.parametrize(
    ("version", "other", "whether"),
    [("1000", "999", True), ("999", "999", True), ("999", "1000", False), ("", "1", False), ("9a", "1", False)],
)
def test_versions_are_compared_as_numbers_and_nothing_else_is_known_to_be_newer(
    version: str, other: str, whether: bool
) -> None:
    assert reaches(version, other) is whether


def test_an_empty_last_page_has_a_version_and_nothing_else() -> None:
    page = read_page(json.dumps(recorded.body("paging", "pods-on-node-ra-page-3")).encode())
    assert (page.objects, page.version, page.more) == ([], "1101", "")


# What is served


@pytest.mark.parametrize("name", ["apis-aggregated", "apis"])
def test_the_recorded_discovery_places_every_reading_of_the_cluster(name: str) -> None:
    served = dict(read_served(json.dumps(recorded.body("discovery", name)).encode()))
    for place in [place for place, resources in served.items() if resources is None]:
        path = recorded.DATA / "discovery" / f"apis-{place.replace('/', '-')}.json"
        if path.exists():
            served[place] = read_resources(json.dumps(recorded.body("discovery", path.stem)).encode())
    assert served_version(IP_POOLS, served) == CRD
    assert served_version(SERVICE_CIDRS, served) == "networking.k8s.io/v1"
    assert served_version(NODES, served) == "v1"
    absent = {each.resource for each in watched_resources(Role.CLUSTER, "") if served_version(each, served) is None}
    assert absent == {
        "ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies", "adminnetworkpolicies",
        "baselineadminnetworkpolicies", "clusternetworkpolicies", "ipamconfigs", "ipamconfigurations",
        "installations", "globalnetworkpolicies", "networkpolicies", "bgpconfigurations", "bgppeers",
        "gateways",
    } - ({"networkpolicies",
        "globalnetworkpolicies"} if "networkpolicies" in (served[CRD] or ()) else set())  # fmt: skip


def test_the_group_with_the_pools_is_preferred_and_the_other_taken_where_it_alone_serves() -> None:
    both = dict.fromkeys(CALICO, frozenset({"ippools"})) | {CRD: frozenset({"ippools", "felixconfigurations"})}
    assert served_version(IP_POOLS, both, calico="projectcalico.org/v3") == "projectcalico.org/v3"
    assert served_version(FELIX, both, calico="projectcalico.org/v3") == CRD
    assert served_version(IP_POOLS, {}, CRD) is None


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"kind":"Status"}', b"\xff", b"[" * 100_000])
def test_discovery_that_is_none_is_malformed(body: bytes) -> None:
    with pytest.raises(ApiError) as raised:
        read_served(body)
    assert raised.value.kind is ApiErrorKind.MALFORMED
