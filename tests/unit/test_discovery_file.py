"""The file source: what kubectl prints is an inventory, in every form; everything else is one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.inventory.document import InventoryDocumentError, read_documents
from exporter.inventory.file import InventoryError, load_file, load_text
from exporter.model.cluster.inventory import Inventory, ResourceKind
from tests.unit import recorded

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "ra"}, "spec": {"podCIDRs": ["10.1.2.0/24"]}}
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": {}}


def listed(*items: Any, kind: str = "List", version: str = "v1") -> str:
    return json.dumps({"apiVersion": version, "kind": kind, "items": list(items)})


def names(inventory: Inventory) -> list[str]:
    return [node.name for node in inventory.nodes or ()]


def test_what_kubectl_prints_is_read_with_the_files_time(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text((recorded.DATA / "cluster-healthy-dual-stack.yaml").read_text())
    inventory = load_file(path)
    assert (inventory.source, inventory.synced, inventory.unreadable_count) == ("file", path.stat().st_mtime, 0)
    assert names(inventory) == ["anubis", "babel", "ra"]
    assert len(inventory.pods or ()) == 13


def test_kinds_that_the_file_lacks_were_not_read() -> None:
    inventory = load_text(listed(NODE))
    assert names(inventory) == ["ra"]
    assert (inventory.pods, inventory.services, inventory.pools, inventory.cni, inventory.components) == (None,) * 5
    assert inventory.unread[ResourceKind.PODS] == "no_inventory"
    assert ResourceKind.NODES not in inventory.unread


@pytest.mark.parametrize(
    "text",
    [
        listed(NODE),
        "\ufeff" + listed(NODE),
        listed(NODE, kind="NodeList"),
        listed({"metadata": {"name": "ra"}}, kind="NodeList"),  # items of typed lists lack kind and apiVersion
        listed(json.loads(listed(NODE)), SERVICE),  # lists of lists
        json.dumps(NODE),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: ra}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: "
            "x}\n...\n"
        ),
        "---\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata:\n    name: ra\n",
        listed(NODE, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}, NODE),
    ],
)
def test_every_form_of_a_list_is_read(text: str) -> None:
    assert names(load_text(text)) == ["ra"]


def test_an_empty_typed_list_was_read_and_an_empty_list_says_nothing() -> None:
    assert load_text(listed(kind="PodList")).pods == ()
    assert load_text(listed(kind="IPPoolList", version="crd.projectcalico.org/v1")).pools == ()
    assert load_text('{"apiVersion":"v1","kind":"PodList","items":null}').pods == ()
    with pytest.raises(InventoryError, match="holds no Kubernetes object"):
        load_text(listed())


def test_an_object_that_cannot_be_read_is_left_out_and_counted() -> None:
    pool = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": {"name": "x"},
        "spec": {"cidr": "nonsense"},
    }
    inventory = load_text(listed(NODE, pool, 7, None))
    assert inventory.pools == ()
    assert [(note.kind, note.name, note.problem) for note in inventory.unreadable] == [
        (ResourceKind.IP_POOLS, "x", "spec.cidr is no network")
    ]
    many = load_text(listed(*[{**pool, "metadata": {"name": f"x{n}"}} for n in range(200)]))
    assert (many.unreadable_count, len(many.unreadable)) == (200, 50)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no Kubernetes object"),
        ("just words", "not a Kubernetes object or list: a text"),
        ("- 1\n- 2\n", "not a Kubernetes object or list: a plain list"),
        ("42", "not a Kubernetes object or list: a value"),
        ("a: 1\nb: 2", "not a Kubernetes object or list: a mapping with a, b"),
        ("{}", "an empty mapping"),
        ("kind: List\nitems: []", "not a Kubernetes object or list"),
        ("apiVersion: v1\nkind: List\nitems: {a: b}", "items of a List is no list"),
        ("a: [1, 2", "line 2, column "),
        ("a: b: c", "line 1, column "),
        ("a: 1\n\tb: 2", "line 2, column "),
        ('{"kind": "List", "items": [', "line 2, column "),
        (BOMB, "line 2: aliases are not accepted"),
        (
            "a: !!python/object/apply:os.system [ls]",
            'the tag "tag:yaml.org,2002:python/object/apply:os.system" is not understood',
        ),
        ("a: !custom x", 'line 1: the tag "!custom" is not understood'),
        ("[" * 200, "nested more than 100 deep"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("? [a]\n: b", "a key must be plain text"),
        ("a: \x00", "name"),
    ],
)
def test_what_is_no_inventory_is_one_line(text: str, said: str) -> None:
    with pytest.raises(InventoryError) as caught:
        load_text(text, name="name")
    assert said in str(caught.value)
    assert str(caught.value).startswith("name: ")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "No such file"),  # noqa: ARG005 - nothing is made
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b"\x1f\x8b\x08\xff\xfe"), "not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, make: Any, said: str) -> None:
    path = tmp_path / "bundle"
    make(path)
    with pytest.raises(InventoryError, match=said):
        load_file(path)


def test_a_file_beyond_the_bound_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    with path.open("wb") as file:
        file.truncate((512 << 20) + 1)  # sparse: takes no room
    with pytest.raises(InventoryError, match="larger than 512 MiB"):
        load_file(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 2026-11-20T10:29:42Z", {"a": "2026-11-20T10:29:42Z"}),  # times stay text
        ("a: yes\nb: no\nc: on", {"a": "yes", "b": "no", "c": "on"}),
        ("a: true\nb: null\nc: ~\nd:", {"a": True, "b": None, "c": None, "d": None}),
        (
            "a: 12\nb: -3\nc: 1.5\nd: 1e3\ne: 0x1f\nf: 012",
            {"a": 12, "b": -3, "c": 1.5, "d": 1000.0, "e": "0x1f", "f": "012"},
        ),
        ("a: '1'\nb: \"true\"\nc: |\n  1\n", {"a": "1", "b": "true", "c": "1\n"}),
        ("1: x\ntrue: y", {"1": "x", "true": "y"}),
        ("a: &unused 1", {"a": 1}),
        ("a: !!str 1", {"a": "1"}),
    ],
)
def test_plain_values_are_as_kubernetes_means_them(text: str, expected: Any) -> None:
    assert list(read_documents(text)) == [expected]


def test_a_recorded_file_reads_as_yaml_itself_would_read_it() -> None:
    text = (recorded.DATA / "cluster-healthy-dual-stack-kubeadm.yaml").read_text()
    assert list(read_documents(text)) == [yaml.safe_load(text)]


def test_aliases_are_refused_in_configmaps_as_well() -> None:
    with pytest.raises(InventoryDocumentError):
        list(read_documents("a: &a 1\nb: *a"))
