"""No object of any shape makes a parser raise, and none of them breaks the inventory or the rules."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.diagnosis.census import take_census
from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.expectation import families_expected
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.inventory.corefile.corefile import read_corefile
from exporter.inventory.document import InventoryDocumentError, read_documents
from exporter.inventory.file import InventoryError, load_text
from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.parse.objects import identify, parse_object
from exporter.inventory.parse.selectors import SelectorError, parse_calico, parse_labels
from exporter.model.cause import Role
from exporter.model.cluster.inventory import InventoryOrigin, ResourceKind
from exporter.model.cluster.selector import matches
from exporter.model.report import Snapshot
from tests.unit import recorded

LISTS: dict[ResourceKind, str] = {
    ResourceKind.NODES: "nodes",
    ResourceKind.PODS: "pods",
    ResourceKind.NAMESPACES: "namespaces",
    ResourceKind.SERVICES: "services",
    ResourceKind.ENDPOINT_SLICES: "endpointslices",
    ResourceKind.SERVICE_CIDRS: "servicecidrs",
    ResourceKind.POLICIES: "networkpolicies",
    ResourceKind.IP_POOLS: "ippools",
    ResourceKind.BLOCK_AFFINITIES: "blockaffinities",
    ResourceKind.FELIX: "felixconfigurations",
    ResourceKind.CALICO_DAEMONSET: "daemonsets-kube-system",
    ResourceKind.CONFIG_MAPS: "configmaps-kube-system",
}
OBJECTS = {kind: recorded.listed(name)[:4] for kind, name in LISTS.items()}

PEER = {"nets": ["10.0.0.0/8"], "notNets": ["::/0"], "selector": "a == 'b'", "ports": [53]}
OBJECTS[ResourceKind.POLICIES] += [
    {"apiVersion": version, "kind": kind, "metadata": {"name": "p", "namespace": "shop"}, "spec": spec}
    for version, kind, spec in (
        ("crd.projectcalico.org/v1", "NetworkPolicy",
         {"selector": "app == 'web'", "types": ["Egress"],
             "egress": [{"action": "Allow", "ipVersion": 4, "destination": PEER}]}),
        ("projectcalico.org/v3", "GlobalNetworkPolicy",
         {"namespaceSelector": "has(a)", "ingress": [{"action": "Deny", "source": PEER}]}),
        ("cilium.io/v2", "CiliumNetworkPolicy",
         {"endpointSelector": {"matchLabels": {"k8s:app": "web"}},
          "egress": [{"toCIDRSet": [{"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}], "toEntities": ["world"],
              "toPorts": [{}]}],
          "egressDeny": [{"toCIDR": ["::/0"]}]}),
        ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy",
         {"subject": {"pods": {"namespaceSelector": {},
             "podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}},
          "egress": [{"action": "Deny", "to": [{"networks": ["10.0.0.0/8"]}], "ports": [{}]}]}),
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy",
         {"tier": "Admin", "priority": 3, "subject": {"namespaces": {"matchLabels": {"team": "a"}}},
          "egress": [{"action": "Deny", "to": [{"networks": ["::/0"]}], "protocols": [{"tcp": {}}]}]}),
    )
]  # fmt: skip
OBJECTS[ResourceKind.IPAM_BLOCKS] = [
    {
        "metadata": {"name": "b"},
        "spec": {"cidr": "fd00::/122", "affinity": "host:ra", "allocations": [None, 0], "attributes": [{}]},
    }
]
OBJECTS[ResourceKind.INSTALLATION] = [
    {
        "metadata": {"name": "default"},
        "spec": {"calicoNetwork": {"linuxDataplane": "BPF", "ipPools": [{"cidr": "fd00::/48"}]}},
    }
]
OBJECTS[ResourceKind.CONFIG_MAPS] += [
    recorded.body("configmap", name) for name in ("kubeadm-config-dual-stack", "coredns-custom")
]

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["::ffff:10.1.2.3", "fe80::1%eth0", "10.0.0.0/40", "::/0", "None", "true", "9" * 400, "\x00", "a" * 5000,
            "2026-13-40T00:00:00Z"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, each in inner for path in paths(each, (*here, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    at = value
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return value


@st.composite
def mutated(draw: st.DrawFn) -> tuple[ResourceKind, Any]:
    """A recorded object with up to three parts replaced by junk or taken out."""
    kind = draw(st.sampled_from(list(OBJECTS)))
    value = copy.deepcopy(draw(st.sampled_from(OBJECTS[kind])))
    for _ in range(draw(st.integers(1, 3))):
        value = put(value, draw(st.sampled_from(paths(value))), draw(junk))
        if not isinstance(value, dict):
            break
    return kind, value


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "100")), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(mutated(), min_size=1, max_size=6))
def test_mutated_objects_become_values_or_notes_and_every_rule_still_judges(
    made: list[tuple[ResourceKind, Any]],
) -> None:
    objects: dict[ResourceKind, list[Any]] = {kind: [] for kind in ResourceKind}
    for kind, value in made:
        identify(value)
        objects[kind].append(parse_object(kind, value))
    inventory = build_inventory(objects, source=InventoryOrigin.FILE)
    families = families_expected(inventory, None)
    snapshot = Snapshot(
        node="ra",
        role=Role.CLUSTER,
        started=0.0,
        finished=0.0,
        complete=True,
        inventory=inventory,
        host=None,
        families=families,
    )
    for rule in CLUSTER_RULES.values():
        rule(RuleInput(now=0.0, snapshot=snapshot))
    take_census(inventory)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(ResourceKind)), junk)
def test_any_value_at_all_is_read_or_noted(kind: ResourceKind, value: Any) -> None:
    parse_object(kind, value)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=" ab/._-!=&|(){},'\"inotharsglblwecd", max_size=60))
def test_any_text_is_a_calico_selector_or_refused(text: str) -> None:
    try:
        selector = parse_calico(text)
    except SelectorError:
        return
    assert matches(selector, {"a": "b"}.get) in (True, False)


@settings(max_examples=200, deadline=None)
@given(junk)
def test_any_value_is_a_label_selector_or_refused(value: Any) -> None:
    try:
        parse_labels(value)
    except SelectorError:
        return


COREFILE_WORDS = st.sampled_from(
    [".:53", "{", "}", "\n", "template", "IN", "AAAA", "ANY", ".", "rcode", "NOERROR", "match", "(.*", "fallthrough",
        "acl", "filter", "type",
     "net", "10.0.0.0/8", "rewrite", "stop", "A", "hosts", "10.0.0.1", "a.b", "import", "(x)", "x", "#", '"', "{$E}",
     ",", "dns64", "forward",
     "kubernetes", "view", "tls://.", "example.test:99999", "*.override", "::1", "answer", "block", "\\"]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(COREFILE_WORDS, max_size=60))
def test_any_corefile_is_read(words: list[str]) -> None:
    read_corefile(
        "kube-system", "coredns", {"Corefile": " ".join(words), "x": "import x"}, {"a.override": "import *.override"}
    )


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="-: \n[]{}&*!|>'\"#,?ab1~%@`", max_size=80))
def test_any_text_is_an_inventory_or_refused_in_one_line(text: str) -> None:
    with contextlib.suppress(InventoryDocumentError):
        list(read_documents(text))
    with contextlib.suppress(InventoryError), one_line("file: "):
        load_text(text, name="file")


@contextlib.contextmanager
def one_line(prefix: str) -> Iterator[None]:
    try:
        yield
    except InventoryError as error:
        said = str(error)
        if not said.startswith(prefix) or len(said.splitlines()) != 1:
            raise AssertionError(f"not one line naming the file: {said!r}") from error
        raise
