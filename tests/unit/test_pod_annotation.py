"""A pod's address that Calico's CNI plugin annotated and the API does not report: Felix removes the route to it."""

from __future__ import annotations

from dataclasses import replace

from exporter.model.cause import Cause
from tests.unit.node_scene import (
    DB,
    DEFAULT4,
    DEFAULT6,
    FAR,
    POD_ROUTES,
    WEB,
    cluster,
    host,
    inside,
    node_view,
    only,
    said,
)

POD_ROUTE = Cause.POD_ROUTE_MISSING
OF_WEB = WEB.ips[1]
UNREPORTED = replace(WEB, ips=WEB.ips[:1], annotated_ips=WEB.ips)
PODS = [inside(addresses=UNREPORTED.ips)]


def test_an_annotated_address_that_the_pod_has_needs_a_route_though_the_api_does_not_report_it() -> None:
    inventory = cluster(pods=(UNREPORTED, DB, *FAR))
    found = only(POD_ROUTE, node_view(host(routes=(DEFAULT4, DEFAULT6)), inventory, PODS))
    assert found.subjects == ("pod/default/web",)
    assert found.evidence == (
        (
            f"pod/default/web {OF_WEB}: no route of its own; cni.projectcalico.org/podIPs names it and "
            f"status.podIPs does not"
        ),
    )
    assert said(POD_ROUTE, node_view(host(routes=(DEFAULT4, DEFAULT6, *POD_ROUTES)), inventory, PODS)) == ()


def test_an_annotated_address_that_the_api_reports_too_is_told_of_once() -> None:
    both = replace(WEB, annotated_ips=WEB.ips)
    found = only(POD_ROUTE, node_view(host(routes=(DEFAULT4, DEFAULT6)), cluster(pods=(both, DB, *FAR)), [inside()]))
    assert found.evidence == (f"pod/default/web {OF_WEB}: no route of its own",)


def test_an_annotated_address_that_the_pod_has_not_needs_no_route() -> None:
    elsewhere = replace(UNREPORTED, annotated_ips=(DB.ips[1],))
    view = node_view(host(routes=(DEFAULT4, DEFAULT6)), cluster(pods=(elsewhere, DB, *FAR)), PODS)
    assert said(POD_ROUTE, view) == ()
