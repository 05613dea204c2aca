"""What API objects show of the pod network: signs of a CNI with its settings as written, by its profile. Pure.

Called by core.py (Nodes and pods), calico.py (DaemonSets) and configmaps.py. model/cni has the names to look for;
diagnosis/network.py decides what the signs mean together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from exporter.inventory.document import InventoryDocumentError, read_documents
from exporter.inventory.parse.components import command_line, noted_words
from exporter.inventory.parse.fields import items, mapping, nets, objects, text, texts
from exporter.model.cni import PROFILES
from exporter.model.cni.profile import Cni, CniProfile, CniSign, Place
from exporter.model.family import Net
from exporter.model.subject import Subject

MAX_VALUE = 200
MAX_ENV = 500
_RANGE = re.compile(r"[0-9A-Fa-f:.]{2,45}/\d{1,3}")
# RKE2's charts by the name that `--cni` gives them.
_RKE2 = {"canal": Cni.FLANNEL, "flannel": Cni.FLANNEL, "calico": Cni.CALICO, "cilium": Cni.CILIUM}


def agent_of(workload: str) -> CniProfile | None:
    """The CNI whose DaemonSet has this name."""
    return next((p for p in PROFILES.values() if any(fnmatchcase(workload, each) for each in p.agents)), None)


def agent_sign(profile: CniProfile, containers: Sequence[Mapping[str, Any]], source: str) -> CniSign:
    """The settings of a CNI's DaemonSet or pod: environment and arguments."""
    wanted = _names(profile, Place.AGENT)
    found: dict[str, str] = {}
    # Where nothing at all is given, the image decides.
    hidden = not any(items(each.get(kind)) for each in containers for kind in ("command", "args", "env"))
    brought = any(items(each.get("envFrom")) for each in containers)
    unseen = {name for name in wanted if hidden or (brought and not name.startswith("-"))}
    for container in containers:
        for each in objects(container.get("env"))[:MAX_ENV]:
            name = text(each.get("name"))
            if name in wanted and each.get("valueFrom"):
                unseen.add(name)
            elif name in wanted:
                found[name] = text(each.get("value"))
        words = [*texts(container.get("command")), *texts(container.get("args"))]
        found |= {f"--{k}": "true" if v is None else v for k, v in command_line(words) if f"--{k}" in wanted}
    return _sign(profile, Place.AGENT, source, found, unseen=unseen - set(found))


def pod_sign(metadata: Mapping[str, Any], containers: Sequence[Mapping[str, Any]], pod: Subject) -> CniSign | None:
    """That of a pod on its node's network which a CNI's DaemonSet made."""
    owners = [text(o.get("name")) for o in objects(metadata.get("ownerReferences")) if o.get("kind") == "DaemonSet"]
    profile = agent_of(owners[0] if owners else text(metadata.get("name")).rpartition("-")[0])
    return None if profile is None else agent_sign(profile, containers, pod)


def config_map_signs(name: str, data: Mapping[str, str], subject: Subject) -> Iterator[CniSign]:
    """The settings in a CNI's ConfigMap: its entries, and those of JSON or YAML documents in them."""
    for profile in PROFILES.values():
        if not any(fnmatchcase(name, each) for each in profile.config_maps):
            continue
        if profile.namespaces and subject.namespace not in profile.namespaces:
            continue
        found, unseen = {}, set()
        for setting in _names(profile, Place.CONFIG_MAP):
            entry, _, path = setting.partition(": ")
            document = _document(data[entry]) if path and entry in data else None
            if (path and document is None) or (path and not isinstance(document, dict)):
                unseen.add(setting)
                continue
            value = _at(mapping(document), path) if path else data.get(entry)
            if value is not None:
                found[setting] = str(value).lower() if isinstance(value, bool) else text(value)
        yield _sign(profile, Place.CONFIG_MAP, subject, found, unseen=unseen, subject=subject)


def is_config_of_a_cni(name: str) -> bool:
    return any(fnmatchcase(name, each) for profile in PROFILES.values() for each in profile.config_maps)


def node_signs(notes: Mapping[str, Any], node: Subject) -> tuple[CniSign, ...]:
    """Those of a Node: annotations that a CNI keeps on it, and how k3s or RKE2 was started."""
    return (*_argument_signs(notes, node), *_annotation_signs(notes, node))


def _annotation_signs(notes: Mapping[str, Any], node: Subject) -> Iterator[CniSign]:
    for profile in PROFILES.values():
        key = next((key for key in notes if key.startswith(profile.node_annotations)), None)
        if key is not None and profile.node_annotations:
            yield _sign(profile, Place.ANNOTATION, f"annotation {key.partition('/')[0]} of {node}", {})


def _argument_signs(notes: Mapping[str, Any], node: Subject) -> Iterator[CniSign]:
    for key, words in noted_words(notes).items():
        if words[:1] != ("server",):
            continue
        given = {f"--{name}": "true" if value is None else value for name, value in command_line(list(words))}
        chosen = given.get("--cni", "").replace(",", " ").split() if key.startswith("rke2") else ["flannel"]
        if given.get("--flannel-backend") == "none":
            continue
        for cni in {_RKE2[each] for each in chosen if each in _RKE2}:
            profile = PROFILES[cni]
            settings = {name: given[name] for name in _names(profile, Place.NODE_ARGUMENTS) if name in given}
            unseen = frozenset() if key.startswith("k3s") else _names(profile, Place.NODE_ARGUMENTS) - set(settings)
            yield _sign(profile, Place.NODE_ARGUMENTS, f"{node} annotation {key}", settings, unseen=unseen)


def subnets_of(notes: Mapping[str, Any]) -> tuple[Net, ...]:
    """The ranges of a node's pods that its CNI notes on it, in JSON or by commas."""
    noted = (text(notes.get(key)) for profile in PROFILES.values() for key in profile.subnet_annotations)
    return nets(net for note in noted for net in _RANGE.findall(note[: 1 << 16]))


def _names(profile: CniProfile, place: Place) -> frozenset[str]:
    return frozenset(name for switch in profile.switches if switch.place is place for name in switch.names)


def _sign(
    profile: CniProfile,
    place: Place,
    source: str,
    settings: Mapping[str, str],
    *,
    unseen: Iterable[str] = (),
    subject: Subject | None = None,
) -> CniSign:
    shortened = {name: value.strip()[:MAX_VALUE] for name, value in settings.items() if value.strip().isprintable()}
    hidden = frozenset({*unseen, *(set(settings) - set(shortened))})
    return CniSign(cni=profile.cni, place=place, source=source, subject=subject, settings=shortened, unseen=hidden)


def _document(content: str) -> object:
    """A JSON or YAML document; None if it is neither."""
    try:
        return next(read_documents(content), None)
    except InventoryDocumentError:
        return None


def _at(document: Mapping[str, Any], path: str) -> Any:
    *parents, key = path.split(".")
    for parent in parents:
        document = mapping(document.get(parent))
    return document.get(key)
